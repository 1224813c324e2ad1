"""Records in the layout of lm-evaluation-harness, so that its tools and viewers read them.

One folder a cell, named as lm-eval names models, with `results_<date>.json` in it: results by task, `metric,none` and
`metric_stderr,none`. Standard errors are the width of our interval over 2 * 1.96, and "N/A" where there is none. JSON has no infinity; a
metric that is infinite is the word "Infinity".
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from detox.bench.comparison import Row
from detox.bench.report.reading import Results, names_of
from detox.bench.report.side_effects import direction
from detox.evaluation.scorecard import spelled
from detox.files import write_json
from detox.statistics import Estimate


def write_lm_eval(results: Results, folder: Path) -> list[Path]:
    """Write one `results_*.json` a cell; the folders of a cell are named by base, method, strength and seed."""
    written = []
    for row in results.rows():
        value = lm_eval_results(results, row)
        stamp = measured_at(results, row).replace(tzinfo=None).isoformat(timespec="microseconds").replace(":", "-")
        written.append(write_json(folder / value["model_name_sanitized"] / f"results_{stamp}.json", value))
    return written


def lm_eval_results(results: Results, row: Row) -> dict[str, Any]:
    """One cell as lm-eval's aggregated results."""
    tasks: dict[str, dict[str, Any]] = {}
    higher: dict[str, dict[str, bool]] = {}
    counts: dict[str, dict[str, int]] = {}
    for name, estimate in row.scorecard.metrics.items():
        task, metric = task_of(name)
        entry = tasks.setdefault(task, {"alias": task})
        entry[f"{metric},none"] = "N/A" if math.isnan(estimate.value) else spelled(estimate.value)
        entry[f"{metric}_stderr,none"] = _standard_error(estimate)
        if direction(name):
            higher.setdefault(task, {})[metric] = direction(name) > 0
        total = estimate.n + estimate.missing
        counts[task] = {"original": total, "effective": estimate.n}
    cell = results.cell(row)
    method = cell.get("identity", {}).get("method") or {}
    model = "__".join(filter(None, [row.base, row.method_label if row.method else "", f"seed{row.seed}"]))
    packages = cell.get("provenance", {}).get("packages", {})
    source = cell.get("provenance", {}).get("source") or {}
    return {
        "results": tasks,
        "group_subtasks": {task: [] for task in tasks},
        "configs": {task: {"task": task, "output_type": "detox", "metadata": {"version": 1}} for task in tasks},
        "versions": dict.fromkeys(tasks, 1),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": higher,
        "n-samples": counts,
        "config": {
            "model": "detox",
            "model_args": {
                "base": row.base,
                "method": row.method,
                "strength": row.strength,
                "settings": method.get("settings"),
            },
            "batch_size": None,
            "device": cell.get("provenance", {}).get("device"),
            "limit": None,
            "bootstrap_iters": 0,
            "random_seed": row.seed,
            "protocol": row.scorecard.protocol,
            "fingerprint": row.scorecard.fingerprint,
        },
        "git_hash": source.get("commit"),
        "date": measured_at(results, row).timestamp(),
        "transformers_version": packages.get("transformers"),
        "task_hashes": {},
        "model_source": "detox",
        "model_name": model,
        "model_name_sanitized": re.sub(r"[^\w.@=+-]+", "_", model),
        "total_evaluation_time_seconds": str(sum(row.scorecard.seconds.values())),
    }


def task_of(metric: str) -> tuple[str, str]:
    """Our `family/name/metric` as lm-eval's task and metric, neither of which may hold a comma."""
    task, _, last = metric.replace(",", ";").rpartition("/")
    return (task.removeprefix("choice/"), last) if task else ("detox", last)


def measured_at(results: Results, row: Row) -> datetime:
    """When a cell's record was written; the epoch where that is not known."""
    folder = results.folders.get(names_of(row))
    path = results.directory / "cells" / str(folder) / "cell.json"
    return datetime.fromtimestamp(path.stat().st_mtime if folder and path.is_file() else 0, UTC)


def _standard_error(estimate: Estimate) -> float | str:
    width = estimate.high - estimate.low
    return "N/A" if width != width else float(f"{width / (2 * 1.96):.6g}")
