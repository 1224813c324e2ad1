"""Cells as logs of Inspect (EvalLog, version 2, JSON): one log a cell, one sample a prompt and completion, a score a scorer.

A completion that a scorer could not score has no score of it; the reason stands in the sample's metadata. Inspect's own mark for
that is NaN, which JSON does not have.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from detox.bench.cells import digest
from detox.bench.comparison import Row
from detox.bench.report.lm_eval_files import measured_at
from detox.bench.report.reading import Results, names_of
from detox.evaluation.scorecard import spelled
from detox.files import write_text
from detox.statistics import Estimate


def write_inspect(results: Results, folder: Path, *, texts: bool = False) -> list[Path]:
    """Write one JSON log a cell.

    Args:
        results: as `read_results` gives them.
        folder: of the logs; `inspect view --log-dir` shows it.
        texts: whether completions go in, where they were kept.
    """
    written = []
    for row in results.rows():
        log = inspect_log(results, row, texts=texts)
        name = re.sub(r"[^\w.-]+", "-", f"{row.base}-{row.method_label if row.method else 'base'}-seed{row.seed}")
        stamp = re.sub(r"[:.+]", "-", log["eval"]["created"])
        path = folder / f"{stamp}_{name}_{log['eval']['task_id']}.json"
        written.append(write_text(path, json.dumps(log, ensure_ascii=False, allow_nan=False, separators=(",", ":"))))
    return written


def inspect_log(results: Results, row: Row, *, texts: bool = False) -> dict[str, Any]:
    """One cell as an EvalLog."""
    card, cell = row.scorecard, results.cell(row)
    created = measured_at(results, row).isoformat(timespec="seconds")
    identity = cell.get("identity", {})
    samples = _samples(row, texts=texts)
    key = digest([*map(str, names_of(row)), card.fingerprint])
    sampling = card.protocol["identity"].get("sampling") or {}
    ids = list(dict.fromkeys(sample["id"] for sample in samples))
    scorers = list(dict.fromkeys(card.tables.get("scores", {}).get("scorer", [])))
    model = f"detox/{row.base}" if row.method is None else f"detox/{row.base}+{row.method_label.replace(' ', '')}"
    taken = sum(card.seconds.values())
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": key,
            "run_id": _short(results.directory.resolve().name, row.protocol),
            "created": created,
            "task": f"detox/{card.protocol['name']}",
            "task_id": key,
            "task_version": 1,
            "task_args": {"protocol": card.protocol["digest"]},
            "dataset": {"name": card.protocol["name"], "samples": len(ids), "sample_ids": ids, "shuffled": False},
            "model": model,
            "model_args": {"base": row.base, "method": row.method, "strength": row.strength},
            "model_generate_config": {
                key: value
                for key, value in (
                    ("max_tokens", sampling.get("max_new_tokens")), ("temperature", sampling.get("temperature")),
                    ("top_p", sampling.get("top_p")), ("top_k", sampling.get("top_k")), ("seed", row.seed),
                )
                if value is not None
            },
            "config": {"epochs": sampling.get("num_return_sequences", 1)},
            "packages": {name: str(value) for name, value in cell.get("provenance", {}).get("packages", {}).items()},
            "metadata": {
                "fingerprint": card.fingerprint,
                "method": identity.get("method"),
                "receipts": [{**one, "relative_size": _finite(one.get("relative_size"))} for one in card.receipts],
                "counts": card.counts,
            },
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [_score(scorer, row) for scorer in scorers] + _other_scores(row, scorers),
        },
        "stats": {"started_at": created, "completed_at": created},
        "tags": [],
        "metadata": {"seconds": round(taken, 2)},
        "samples": samples,
    }  # fmt: skip


def _samples(row: Row, *, texts: bool) -> list[dict[str, Any]]:
    card = row.scorecard
    completions, scores = card.tables.get("completions"), card.tables.get("scores")
    if not completions or not scores:
        return []
    judged: dict[tuple[str, int], dict[str, tuple[float, str | None]]] = {}
    for prompt, sample, scorer, value, reason in zip(
        *(scores[key] for key in ("prompt", "sample", "scorer", "value", "reason")), strict=True
    ):
        judged.setdefault((prompt, sample), {})[scorer] = (value, reason)
    written = {}
    if texts and card.texts is not None:
        prompts = list(dict.fromkeys(completions["prompt"]))
        written = {(p, k): text for p, row_ in zip(prompts, card.texts, strict=True) for k, text in enumerate(row_)}
    stops = {"eos": "stop", "length": "max_tokens"}
    samples = []
    for prompt, sample, tokens, reason in zip(
        *(completions[key] for key in ("prompt", "sample", "tokens", "finish_reason")), strict=True
    ):
        found = judged.get((prompt, sample), {})
        text = written.get((prompt, sample), "")
        message = {"role": "assistant", "content": text, "source": "generate"}
        samples.append(
            {
                "id": prompt,
                "epoch": sample + 1,
                "input": f"(prompt {prompt})",
                "target": "",
                "output": {
                    "model": "detox",
                    "choices": [{"message": message, "stop_reason": stops.get(reason, "unknown")}],
                    "completion": text,
                    "usage": {"input_tokens": 0, "output_tokens": tokens, "total_tokens": tokens},
                },
                "scores": {name: {"value": value} for name, (value, _) in found.items() if not math.isnan(value)},
                "metadata": {"not scored": {name: why for name, (value, why) in found.items() if math.isnan(value)}},
            }
        )  # fmt: skip
    return samples


def _score(scorer: str, row: Row) -> dict[str, Any]:
    prefix = f"toxicity/{scorer}/"
    mine = {name.removeprefix(prefix): e for name, e in row.scorecard.metrics.items() if name.startswith(prefix)}
    scores = row.scorecard.tables["scores"]
    unscored = Counter(
        math.isnan(value) for name, value in zip(scores["scorer"], scores["value"], strict=True) if name == scorer
    )
    return {
        "name": scorer,
        "scorer": scorer,
        "scored_samples": unscored[False],
        "unscored_samples": unscored[True],
        "params": {},
        "metrics": {name: _metric(name, e) for name, e in mine.items() if not math.isnan(e.value)},
    }


def _other_scores(row: Row, scorers: list[str]) -> list[dict[str, Any]]:
    """Metrics that no scorer of texts gives, together under one name."""
    taken = tuple(f"toxicity/{scorer}/" for scorer in scorers)
    others = {n: e for n, e in row.scorecard.metrics.items() if not n.startswith(taken) and not math.isnan(e.value)} if taken else {
        n: e for n, e in row.scorecard.metrics.items() if not math.isnan(e.value)
    }  # fmt: skip
    if not others:
        return []
    return [
        {"name": "detox", "scorer": "detox", "params": {}, "metrics": {n: _metric(n, e) for n, e in others.items()}}
    ]


def _metric(name: str, estimate: Estimate) -> dict[str, Any]:
    low, high = (None if math.isnan(end) else spelled(end) for end in (estimate.low, estimate.high))
    ends = {"low": low, "high": high, "n": estimate.n, "missing": estimate.missing}
    return {"name": name, "value": spelled(estimate.value), "params": {}, "metadata": ends}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:22]
