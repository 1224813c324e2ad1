"""Metrics of lm-eval's tasks with our intervals, from its records of single questions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detox.evaluation.scorecard import Table
from detox.statistics import Estimate, Floats, bootstrap_weights, exponential, mean_estimate, ratio_estimate

if TYPE_CHECKING:
    from detox.evaluation.lm_eval_tasks import LoadedTasks

# How lm-eval aggregates: name of its function -> what stands in a row. Other aggregations keep lm-eval's value, without an interval.
_MEANS = ("mean", "nanmean")
_EXPONENTIALS = ("perplexity", "weighted_perplexity")
_BITS = "bits_per_byte"


def leaf_rows(task: Any, samples: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of one task, as `TaskResults.table` has them; metrics whose questions cannot be added up are left out."""
    aggregations = {metric: function.__name__ for metric, function in task.aggregation().items()}
    for sample in samples:
        known = sample["doc"].get("id")
        choices = len(sample["arguments"])
        # A task that makes its own score of the answers may call anything "acc": a share of probability, a bias.
        plain = task.config.process_results is None
        chance = {"multiple_choice": 1 / choices, "loglikelihood": 0.0}.get(task.OUTPUT_TYPE, math.nan)
        for metric in sample["metrics"]:
            how = aggregations.get(metric, "mean")
            if how not in (*_MEANS, *_EXPONENTIALS, _BITS):
                continue
            value, weight = sample[metric] if isinstance(sample[metric], tuple) else (sample[metric], 1.0)
            name = metric if sample["filter"] == "none" else f"{metric}/{sample['filter']}"
            yield {
                "id": str(sample["doc_id"] if known is None else known),
                "metric": name,
                "value": float(value),
                "weight": float(weight),
                "chance": chance if metric == "acc" and plain else math.nan,
            }


def task_metrics(table: Table, loaded: LoadedTasks, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    """`lm_eval/<task>/<metric>` of every task asked for; a group's questions are pooled."""
    metrics: dict[str, Estimate] = {}
    for name, leaves in loaded.asked.items():
        # The tasks of a group need not have the same metrics.
        aggregations = {m: f.__name__ for leaf in leaves for m, f in loaded.tasks[leaf].aggregation().items()}
        for metric in dict.fromkeys(_column(table, name, "metric")):
            values, weights = (np.array(_column(table, name, c, metric), dtype=np.float64) for c in ("value", "weight"))
            how = aggregations.get(str(metric).split("/")[0], "mean")
            metrics[f"lm_eval/{name}/{metric}"] = _estimate(how, values, weights)
        if len(leaves) == 1:
            for key, value in results[name].items():
                metric, _, kind = key.partition(",")
                label = f"lm_eval/{name}/{metric if kind == 'none' else f'{metric}/{kind}'}"
                if metric in aggregations and label not in metrics and isinstance(value, int | float):
                    metrics[label] = Estimate(float(value), math.nan, math.nan, int(results[name]["sample_len"]))
    return metrics


def _estimate(how: str, values: Floats, weights: Floats) -> Estimate:
    if how in _MEANS:
        inside = bool(np.all((values >= 0) & (values <= 1) | np.isnan(values)))
        return mean_estimate(values, bounds=(0.0, 1.0) if inside else None)
    nats = ratio_estimate(-values, weights)
    if how != _BITS:
        return exponential(nats)
    bit = math.log(2)
    return Estimate(nats.value / bit, nats.low / bit, nats.high / bit, nats.n)


def utility_metrics(table: Table, names: Sequence[str], label: str, *, draws: int = 2000) -> dict[str, Estimate]:
    """Mean over tasks of (accuracy - chance) / (1 - chance): 0 is guessing, 1 knows all.

    Chance is 1 / choices of each question, and 0 where a word is to be found (LAMBADA). Tasks without a plain accuracy are left out
    (TruthfulQA's MC2 is a share of probability). Questions are resampled within their task.

    Returns:
        Empty where no task has an accuracy.
    """
    above: list[float] = []
    resampled: list[Floats] = []
    questions = 0
    for number, name in enumerate(names):
        rows = [
            (v, c)
            for t, v, c in zip(table["task"], table["value"], table["chance"], strict=True)
            if t == name and not math.isnan(c)
        ]
        if not rows:
            continue
        right, chance = np.array(rows, dtype=np.float64).T
        above.append(float((right - chance).sum() / (1 - chance).sum()))
        resampled.append(
            np.concatenate(
                [
                    w @ (right - chance) / (w @ (1 - chance))
                    for w in bootstrap_weights(len(rows), draws=draws, seed=number)
                ]
            )
        )
        questions += len(rows)
    if not above:
        return {}
    low, high = np.quantile(np.mean(resampled, axis=0), [0.025, 0.975])
    return {label: Estimate(float(np.mean(above)), float(low), float(high), questions)}


def _column(table: Table, task: str, column: str, metric: str | None = None) -> list[Any]:
    rows = zip(table["task"], table["metric"], table[column], strict=True)
    return [value for t, m, value in rows if t == task and metric in (None, m)]
