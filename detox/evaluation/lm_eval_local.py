"""lm-eval's tasks on local files: our own records, asked in its prompt forms and judged by its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detox.data.catalogue import CATALOGUE, load
from detox.data.records import Cloze, MultipleChoice
from detox.data.subsets import draw

LOCAL = "_local"


def local_tasks() -> list[str]:
    """Names of the local tasks that the catalogue can serve, whether or not their files are here."""
    return sorted(
        f"{name}{LOCAL}" for name, one in CATALOGUE.items() if one.file and one.kind in ("multiple-choice", "cloze")
    )


def local_task(name: str, *, limit: int | None = None, seed: int = 0) -> Any:
    """lm-eval's task object for one of `local_tasks`; lm-eval must be installed.

    Raises:
        MissingData: the file is not there; names it, and its id on the hub.
    """
    records = load(name.removesuffix(LOCAL), source="local")
    if limit is not None:
        records = draw(records, limit, seed=seed)
    return task_of(name, [record for record in records if isinstance(record, MultipleChoice | Cloze)])


def task_of(name: str, records: Sequence[MultipleChoice | Cloze]) -> Any:
    """lm-eval's task object for records of one form; lm-eval must be installed."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    rows, form = _form(records)
    made = Dataset.from_list(rows)
    settings = {
        "task": name, "custom_dataset": lambda **_: {"test": made}, "test_split": "test", "num_fewshot": 0, **form,
        "metadata": {"version": 1.0},
    }  # fmt: skip
    return ConfigurableTask(config=settings)


def _form(records: Sequence[MultipleChoice | Cloze]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and settings with which lm-eval asks what our own records ask."""
    first = records[0]
    rows: list[dict[str, Any]]
    accuracy = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
    if isinstance(first, Cloze):
        rows = [{"id": r.id, "text": r.context, "target": r.target} for r in records if isinstance(r, Cloze)]
        perplexity = {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}
        form: dict[str, Any] = {"output_type": "loglikelihood", "metric_list": [perplexity, accuracy]}
        return rows, {**form, "doc_to_text": _column("text"), "doc_to_target": _column("target")}
    questions = [record for record in records if isinstance(record, MultipleChoice)]
    # lm-eval puts the blank between question and answer itself, and divides by the characters of the answer without it.
    gap = " " if all(c.startswith(" ") for q in questions for c in q.choices) else ""
    bare = [tuple(c.removeprefix(gap) for c in q.choices) for q in questions]
    form = {"output_type": "multiple_choice", "target_delimiter": gap, "doc_to_choice": _column("choices")}
    if first.contexts is not None:
        rows = [
            {"id": q.id, "text": q.answer, "target": choices[0], "choices": list(q.contexts or ())}
            for q, choices in zip(questions, bare, strict=True)
        ]
        form["metric_list"] = [accuracy]
    else:
        rows = [
            {
                "id": q.id, "text": q.context, "target": q.answer, "choices": list(choices),
                "right": list(q.right or (q.answer,)),
            }
            for q, choices in zip(questions, bare, strict=True)
        ]  # fmt: skip
        form["metric_list"] = [accuracy, {**accuracy, "metric": "acc_norm"}]
        if first.right is not None:
            form |= {"metric_list": [accuracy], "process_results": _mass}
    return rows, {**form, "doc_to_text": _column("text"), "doc_to_target": _column("target")}


def _column(name: str) -> Any:
    # A function, since lm-eval would read braces in a question as a template.
    return lambda doc: doc[name]


def _mass(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Share of the probability of all choices that the right ones have (TruthfulQA's MC2)."""
    sums = np.array([value for value, _ in results], dtype=np.float64)
    shares = np.exp(sums - sums.max())
    return {"acc": float(shares[doc["right"]].sum() / shares.sum())}
