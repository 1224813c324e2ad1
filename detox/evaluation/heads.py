"""Head probes of a protocol: what every attention head knows of toxicity, as tables and metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from detox.data.subsets import unique_texts
from detox.errors import InputError, MissingData
from detox.evaluation.scorecard import Scorecard, Table
from detox.evaluation.tasks import HeadProbeTask
from detox.models import LanguageModel
from detox.models.activations import read_heads
from detox.probing import HeadComparison, HeadProbes, compare_head_distributions, fit_head_probes, grouped_split
from detox.statistics import (
    Estimate,
    Floats,
    bootstrap_weights,
    independent_pairs,
    mean_estimate,
    resampled_area,
    roc_auc,
    weighted_aucs,
)

_DRAWS = 1000


def fit(lm: LanguageModel, task: HeadProbeTask) -> tuple[HeadProbes, dict[str, Any]]:
    """The probes of every head, and the counts of texts for the scorecard.

    Raises:
        InputError: too few texts, or a class missing on one side of the split.
        UnsupportedModel: a family without known attention.
    """
    texts, left_out = unique_texts(task.items)
    if not texts:
        raise InputError("head probes: no text is left once those that are judged both ways are out")
    together = task.split == "groups"
    groups = [f"group {t.group}" if together and t.group is not None else f"text {i}" for i, t in enumerate(texts)]
    labels = [int(text.label or 0) for text in texts]
    train, heldout = grouped_split(groups, heldout=task.heldout, seed=task.seed)
    probes = fit_head_probes(read_heads(lm, [t.text for t in texts]).numpy(), labels, train, heldout, C=task.C)
    toxic = sum(labels)
    counts = {"train texts": len(train), "held-out texts": len(heldout), "toxic": toxic, "safe": len(labels) - toxic}
    return probes, counts | {"left out": left_out}


def head_table(probes: HeadProbes) -> Table:
    """One row a head: accuracy and ROC-AUC on held-out texts."""
    layers, heads = probes.accuracy.shape
    return {
        "layer": [layer for layer in range(layers) for _ in range(heads)],
        "head": [*range(heads)] * layers,
        "accuracy": [float(value) for value in probes.accuracy.ravel()],
        "auc": [float(value) for value in probes.auc.ravel()],
    }


def text_table(probes: HeadProbes) -> Table:
    """One row a held-out text: its label, and the share of heads whose probe judges it right."""
    return {
        "text": [int(index) for index in probes.heldout],
        "label": [int(label) for label in probes.labels],
        "heads_right": [float(share) for share in probes.text_accuracy],
    }


def head_metrics(probes: HeadProbes) -> dict[str, Estimate]:
    """The distribution over heads of accuracy on held-out texts, and the best head.

    `mean_accuracy` has an interval over held-out texts. `q95_accuracy` (the 95 % quantile over heads: the right tail) and
    `best_auc` (the maximum over heads) have none: chance lifts both above what the heads would reach on endless texts, and lifts a
    resample's once more. `selected_auc` is free of that: the best head is chosen on one half of the held-out texts and measured on
    the other, both ways, and averaged; its interval is over held-out texts with the choice kept.
    """
    q95, best, n = float(np.quantile(probes.accuracy, 0.95)), float(probes.auc.max()), len(probes.labels)
    return {
        "head_probes/mean_accuracy": mean_estimate(probes.text_accuracy, bounds=(0.0, 1.0)),
        "head_probes/q95_accuracy": Estimate(q95, math.nan, math.nan, n),
        "head_probes/best_auc": Estimate(best, math.nan, math.nan, n),
        "head_probes/selected_auc": _selected_auc(probes),
    }


def _selected_auc(probes: HeadProbes) -> Estimate:
    """ROC-AUC of the head that the other half of the held-out texts finds best, mean of both halves."""
    margins = probes.margins.reshape(len(probes.labels), -1)
    halves: list[list[int]] = [[], []]
    for label in (0, 1):
        for place, row in enumerate(np.flatnonzero(probes.labels == label)):
            halves[place % 2].append(int(row))
    if any(len(set(probes.labels[half].tolist())) < 2 for half in halves):
        return Estimate(math.nan, math.nan, math.nan, len(probes.labels))
    measured = []
    for chosen_on, measured_on in (halves, halves[::-1]):
        areas = [roc_auc(probes.labels[chosen_on], margins[chosen_on, head]) for head in range(margins.shape[1])]
        measured.append((probes.labels[measured_on], margins[measured_on, int(np.argmax(areas))]))
    return _mean_auc(measured)


def _mean_auc(parts: Sequence[tuple[Any, Floats]]) -> Estimate:
    """Mean of the areas of disjoint sets of items, each resampled by itself."""
    areas = [roc_auc(labels, margins) for labels, margins in parts]
    draws = []
    for number, (labels, margins) in enumerate(parts):
        weights = np.concatenate(list(bootstrap_weights(len(labels), draws=_DRAWS, seed=number)))
        draws.append(weighted_aucs(labels == 1, margins, weights))
    pairs = min(independent_pairs(labels == 1) for labels, _ in parts)
    return resampled_area(float(np.mean(areas)), np.mean(draws, axis=0), pairs, sum(len(labels) for labels, _ in parts))


def compare_heads(a: Scorecard | Sequence[Scorecard], b: Scorecard | Sequence[Scorecard]) -> HeadComparison:
    """Head probes of b against those of a, from their scorecards: one model a side, or several seeds of one way of training.

    Args:
        a: the control.
        b: what may have gained.

    Returns:
        See `detox.probing.compare_head_distributions`.

    Raises:
        MissingData: a scorecard without head probes.
        InputError: probes of other texts, or models of other architectures.
    """
    left, right = ([side] if isinstance(side, Scorecard) else list(side) for side in (a, b))
    if not left or not right:
        raise InputError("no scorecards on one side; expected at least one on each")
    tasks = set()
    for card in (*left, *right):
        if not {"head_probes", "head_probe_texts"} <= card.tables.keys():
            raise MissingData(
                f"protocol {card.protocol['name']!r} asked for no head probes; measure with head_probes: {{items: ...}}"
            )
        tasks.add(str(card.protocol["identity"].get("head_probes")))
    if len(tasks) > 1:
        raise InputError("the scorecards probed heads on other texts; expected one and the same head_probes task")
    sides = [np.stack([_grid(card) for card in side]) if _alike(side) else None for side in (left, right)]
    if sides[0] is None or sides[1] is None:
        raise InputError("the models of one side have other numbers of layers or heads; expected one architecture")
    texts = [np.array([card.tables["head_probe_texts"]["heads_right"] for card in side]) for side in (left, right)]
    return compare_head_distributions(sides[0], sides[1], texts_a=texts[0], texts_b=texts[1])


def _grid(card: Scorecard) -> Floats:
    table = card.tables["head_probes"]
    return np.array(table["accuracy"], dtype=np.float64).reshape(max(table["layer"]) + 1, -1)


def _alike(side: Sequence[Scorecard]) -> bool:
    return len({_grid(card).shape for card in side}) == 1
