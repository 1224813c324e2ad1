"""Toxicity against cross-entropy with its uncertainty: who is on the front, who dominates whom, how much a method's path covers.

Everything is read from one stream of resamples of prompts and one of documents, shared by all cells of a base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detox.bench.comparison import Comparison, Row
from detox.bench.toxicity_scores import prompt_scores
from detox.statistics import (
    DRAWS,
    MISSING_LIMIT,
    Estimate,
    Floats,
    bootstrap_weights,
    dominance,
    front_membership,
    hypervolume,
    resampled_means,
    weighted_sums,
)

FLOOR = 0.2
"""Nats per token above the base beyond which a point covers nothing."""


@dataclass(frozen=True)
class Front:
    """The cells of one base and seed of the sampling as points (toxicity, cross-entropy); less is better in both.

    Attributes:
        base, seed: which.
        labels: of the points, the bare base ("-") first.
        membership: (points,) share of draws in which a point is on the front.
        dominates: (points, points) share of draws in which the row's point dominates the column's.
        covered: by method, the area between its path and the base's toxicity at FLOOR nats, in toxicity x nats: 0 is nothing.
        left_out: points above 2 % of prompts or completions missing, or chosen on the prompts that they are measured on.
    """

    base: str
    seed: int
    labels: tuple[str, ...]
    membership: Floats
    dominates: Floats
    covered: dict[str, Estimate]
    left_out: tuple[str, ...] = ()


def fronts(comparison: Comparison, *, draws: int = DRAWS) -> list[Front]:
    """One a base and seed that has a method, and scores and documents of two units or more."""
    found = []
    for base, seed in dict.fromkeys((row.base, row.seed) for row in comparison.rows):
        rows = [row for row in comparison.rows if (row.base, row.seed) == (base, seed)]
        front = _front(comparison, rows, draws)
        if front is not None:
            found.append(front)
    return found


def _front(comparison: Comparison, rows: Sequence[Row], draws: int) -> Front | None:
    measured = [row for row in rows if {"scores", "documents"} <= row.scorecard.tables.keys()]
    if comparison.headline is None or not measured or measured[0].method is not None or len(measured) < 2:
        return None
    scores = {id(row): prompt_scores(row.scorecard, comparison.headline) for row in measured}
    lacking = {id(row): row.scorecard.share_without_score(comparison.headline) for row in measured}
    whole = [row for row in measured if max(np.isnan(scores[id(row)]).mean(), lacking[id(row)]) <= MISSING_LIMIT]
    kept = [row for row in whole if row.chosen_on != "test"]
    if len(kept) < 2 or kept[0].method is not None:
        return None
    known = ~np.isnan(np.stack([scores[id(row)] for row in kept])).any(0)
    if known.sum() < 2 or len(kept[0].scorecard.tables["documents"]["nats"]) < 2:
        return None  # one unit says nothing of its spread
    toxicity = resampled_means(np.stack([scores[id(row)] for row in kept]), draws=draws)
    nats, tokens = (
        np.array([row.scorecard.tables["documents"][key] for row in kept], dtype=np.float64)
        for key in ("nats", "tokens")
    )
    costs = np.concatenate(
        [weighted_sums(w, nats.T) / (w @ tokens.T) for w in bootstrap_weights(nats.shape[1], draws=draws, seed=1)]
    )
    with np.errstate(invalid="ignore"):  # a base of infinite cost: nothing is known of what its methods add
        above = costs - costs[:, :1]
    points = np.stack([toxicity, above], axis=2)
    below = points - np.array([1.0, 0.0]) * points[:, :1]  # against the base of the same draw: prompts are paired
    means = np.array([scores[id(row)][known].mean() for row in kept])
    ratio = nats.sum(1) / tokens.sum(1)
    exact = np.stack([means - means[0], ratio - ratio[0]], axis=1)[None]
    corner = (0.0, FLOOR)
    methods = dict.fromkeys(row.method for row in kept if row.method is not None)
    covered = {}
    for method in methods:
        own = [index for index, row in enumerate(kept) if row.method == method]
        low, high = np.quantile(hypervolume(below[:, own], corner), [0.025, 0.975])
        value = float(hypervolume(exact[:, own], corner)[0])
        covered[method] = Estimate(value, float(low), float(high), int(known.sum()), int((~known).sum()))
    return Front(
        rows[0].base,
        rows[0].seed,
        tuple(row.method_label for row in kept),
        front_membership(points),
        dominance(points),
        covered,
        tuple(row.method_label for row in measured if row not in kept),
    )
