"""Scorecards made of given numbers, in the form in which a run leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detox.evaluation import Scorecard
from detox.evaluation.toxicity import prompt_means
from detox.statistics import any_above, auc_estimate, expected_maximum, mean_estimate, ratio_estimate

Numbers = Sequence[float] | np.ndarray
TOKENS = 50
DRAWS = 200


def score_table(matrices: Mapping[str, np.ndarray], *, ids: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """The table "scores" of (prompts, samples) by scorer; NaN is a score that failed."""
    table: dict[str, list[Any]] = {column: [] for column in ("prompt", "sample", "scorer", "value", "reason")}
    for scorer, matrix in matrices.items():
        prompts, samples = np.shape(matrix)
        values = np.ravel(matrix).astype(float)
        table["prompt"] += [prompt for prompt in ids or map(str, range(prompts)) for _ in range(samples)]
        table["sample"] += list(range(samples)) * prompts
        table["scorer"] += [scorer] * len(values)
        table["value"] += values.tolist()
        table["reason"] += ["failed" if lost else None for lost in np.isnan(values)]
    return table


def document_table(nats: Numbers, tokens: Numbers) -> dict[str, list[Any]]:
    """The table "documents" of sums of nats and numbers of tokens."""
    return {
        "id": [str(i) for i in range(len(nats))],
        "nats": list(map(float, nats)),
        "tokens": list(map(int, tokens)),
        "bytes": [4 * int(n) for n in tokens],
    }


def card_of(
    scores: np.ndarray | None = None,
    *,
    nats: Numbers | None = None,
    metrics: Mapping[str, Any] | None = None,
    **tables: dict[str, list[Any]],
) -> Scorecard:
    """A cell with no more than what is given: scores of the scorer "truth", nats per token of documents, other tables."""
    if scores is not None:
        tables["scores"] = score_table({"truth": scores})
    if nats is not None:
        tables["documents"] = document_table(np.asarray(nats) * TOKENS, [TOKENS] * len(nats))
    protocol = {"name": "main", "digest": "", "identity": {"scorers": [{"name": "truth"}]}}
    return Scorecard(protocol=protocol, fingerprint="", metrics=metrics or {}, tables=tables)


def whole_card(
    matrices: Mapping[str, np.ndarray],
    *,
    ids: Sequence[str],
    nats: Numbers,
    tokens: Numbers,
    correct: np.ndarray,
    labels: np.ndarray,
    margins: np.ndarray,
    length: int,
) -> Scorecard:
    """A cell with all that a report reads.

    Args:
        matrices: (prompts, samples) scores by scorer.
        ids: of the prompts.
        nats: of each document.
        tokens: of each document.
        correct: of each question, 1 or 0.
        labels: of each text to recognise, 1 or 0.
        margins: of the same texts; those of the questions too.
        length: tokens of a completion.
    """
    samples = next(iter(matrices.values())).shape[1]
    scores = score_table(matrices, ids=ids)
    every = [(prompt, sample) for prompt in ids for sample in range(samples)]
    metrics = {
        "clean/cross_entropy": ratio_estimate(nats, tokens, draws=DRAWS),
        "choice/facts/accuracy": mean_estimate(correct, draws=DRAWS),
        "recognition/auc": auc_estimate(labels, margins, draws=50),
    }
    for name, matrix in matrices.items():
        per_prompt = {
            "mean": prompt_means(matrix),
            "fraction": prompt_means(np.where(np.isnan(matrix), np.nan, (matrix >= 0.5).astype(float))),
            f"expected_maximum@{samples}": expected_maximum(matrix, samples),
            f"probability@{samples}": any_above(matrix, 0.5, samples),
        }
        metrics |= {f"toxicity/{name}/{k}": mean_estimate(values, draws=DRAWS) for k, values in per_prompt.items()}
    tables = {
        "completions": {
            "prompt": [prompt for prompt, _ in every], "sample": [sample for _, sample in every],
            "tokens": [length] * len(every), "finish_reason": ["length"] * len(every), "empty": [False] * len(every),
        },
        "scores": scores,
        "documents": document_table(nats, tokens),
        "multiple_choice": {
            "task": ["facts"] * len(correct), "id": [str(i) for i in range(len(correct))], "correct": correct.tolist(),
            "correct_by_byte": correct.tolist(), "margin": margins.tolist(),
        },
        "recognition": {
            "id": [str(i) for i in range(len(labels))], "label": labels.tolist(), "margin": margins.tolist(),
        },
    }  # fmt: skip
    lost = {name: int(np.isnan(matrix).sum()) for name, matrix in matrices.items()}
    counts = {
        "requested": len(every), "empty": 0, "mean tokens": float(length),
        "scorers": {
            name: {"scored": len(every) - n, "missing": {"failed": n} if n else {}} for name, n in lost.items()
        },
    }  # fmt: skip
    sampling = {
        "max_new_tokens": length, "temperature": 1.0, "top_k": None, "top_p": 1.0, "num_return_sequences": samples, "seed": 0,
    }  # fmt: skip
    identity = {
        "ruler": 1, "prompts": "synthetic", "sampling": sampling, "scored": "completion", "threshold": 0.5,
        "scorers": [{"name": name, "revision": "1"} for name in matrices],
    }  # fmt: skip
    protocol = {"name": "main", "digest": "0123456789abcdef", "identity": identity}
    return Scorecard(protocol, "synthetic", metrics, counts, tables, None, [], [], {"generate": 1.2, "score": 0.1})
