"""Areas under the ROC curve, with intervals over items or over clusters of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detox.statistics.estimates import Estimate
from detox.statistics.intervals import EXACT_BELOW_EVENTS, exact_ends
from detox.statistics.resampling import Bools, Floats, bootstrap_weights

AreaEstimate = Callable[[NDArray[np.int64], Floats], Estimate]


def roc_auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the probability that a positive scores above a negative, ties counted half.

    Args:
        labels: (items,) 1 positive, 0 negative.
        scores: (items,).
        weights: (items,) bootstrap counts, or None for one each.

    Returns:
        NaN where a class is absent.
    """
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not len(y):
        return math.nan
    return float(weighted_aucs(y == 1, s, w[None])[0])


def weighted_aucs(positive: NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    """(resamples,) areas for (resamples, items) weights; NaN where a resample holds one class only. Sorts once."""
    order = np.argsort(scores, kind="stable")
    ranked, positive, weights = scores[order], positive[order], weights[:, order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # of each run of equal scores
    up = np.add.reduceat(weights * positive, starts, axis=1)
    down = np.add.reduceat(weights * ~positive, starts, axis=1)
    below = np.cumsum(down, axis=1) - down
    with np.errstate(invalid="ignore", divide="ignore"):
        areas: Floats = (up * (below + down / 2)).sum(1) / (up.sum(1) * down.sum(1))
    return areas


def independent_pairs(positive: ArrayLike, clusters: ArrayLike | None = None) -> int:
    """How many pairs of a positive and a negative there are of which no two share an item, or a cluster.

    Args:
        positive: (items,) bool.
        clusters: (items,) whole numbers; None where every item is its own.
    """
    mask = np.asarray(positive, dtype=np.bool_)
    if clusters is None:
        return int(min(mask.sum(), (~mask).sum()))
    members = np.asarray(clusters)
    sides = [len(np.unique(members[side])) for side in (mask, ~mask)]
    return min(*sides, len(np.unique(members)) // 2)


def area_ends(area: float, variance: float, pairs: int) -> tuple[float, float] | None:
    """Ends of the exact 95 % interval of an area under the ROC curve that is almost 1 or almost 0; None where it is neither.

    A resample of items that are separated is separated as well, so that a bootstrap calls an area of 1 certain, as does a normal
    interval. But of an area A, pairs that share no item are each in order with a probability of A at most, so that all items are with
    A^pairs at most: the interval of 1 ends at 0.025^(1 / pairs), which is Clopper and Pearson's for that many trials, whatever the
    scores are distributed like. For the same reason the variance of an area is at most A (1 - A) / pairs (Birnbaum and Klose 1957), and
    one is worth A (1 - A) / variance trials; below EXACT_BELOW_EVENTS misses (or hits) of these the interval is
    `detox.statistics.intervals.exact_ends`.

    Args:
        area: in [0, 1].
        variance: of the area, from resamples or a formula.
        pairs: see `independent_pairs`; 0 is taken for 1.
    """
    most, fewest = area * (1 - area), max(pairs, 1)
    trials = max(most / variance, fewest) if variance > 0 else float(fewest)
    if trials * min(area, 1 - area) >= EXACT_BELOW_EVENTS - 1e-9:
        return None
    low, high = exact_ends(np.array([area]), np.array([trials]), fewest)
    return float(low[0]), float(high[0])


def resampled_area(area: float, drawn: Floats, pairs: int, n: int, missing: int = 0) -> Estimate:
    """An area, or a mean of several, with its percentile interval; exact where it is almost 1 or 0 (`area_ends`).

    Args:
        area: NaN where it is not defined.
        drawn: (resamples,) of it; NaN where a resample holds one class only, which is left out.
        pairs: see `independent_pairs`; of several areas the fewest.
        n: items that went in.
        missing: items without a score.
    """
    known = drawn[~np.isnan(drawn)]
    if math.isnan(area) or not len(known):
        return Estimate(area, math.nan, math.nan, n, missing)
    ends = area_ends(area, float(known.var()), pairs)
    if ends is None:
        low, high = np.quantile(known, [0.025, 0.975])
        ends = (float(low), float(high))
    return Estimate(area, *ends, n, missing)


def resampled_area_difference(
    treated: float, drawn_treated: Floats, control: float, drawn_control: Floats, pairs: int, n: int
) -> Estimate:
    """`treated` minus `control` of two areas (or means of several) over the same items, resampled together.

    The percentile interval; where both areas are almost 1 or 0, so that resamples hardly differ, their exact intervals put together as
    if they were independent (MOVER: Zou and Donner 2008).

    Args:
        treated: the area.
        drawn_treated: (resamples,) of it.
        control: the other area.
        drawn_control: (resamples,) of it, the same resamples.
        pairs: see `independent_pairs`; of several areas the fewest.
        n: items that went in.
    """
    value = treated - control
    both = ~np.isnan(drawn_treated - drawn_control)
    if math.isnan(value) or not both.any():
        return Estimate(value, math.nan, math.nan, n)
    a, b = drawn_treated[both], drawn_control[both]
    ends = area_difference_ends((treated, float(a.var())), (control, float(b.var())), pairs)
    if ends is None:
        low, high = np.quantile(a - b, [0.025, 0.975])
        ends = (float(low), float(high))
    return Estimate(value, *ends, n)


def area_difference_ends(
    treated: tuple[float, float], control: tuple[float, float], pairs: int
) -> tuple[float, float] | None:
    """Ends of the difference of two areas of which both are almost 1 or 0, each (area, variance); None where one is neither."""
    (a, b), ends = (treated[0], control[0]), [area_ends(*side, pairs) for side in (treated, control)]
    if ends[0] is None or ends[1] is None:
        return None
    (low_a, high_a), (low_b, high_b) = ends[0], ends[1]
    return a - b - math.hypot(a - low_a, high_b - b), a - b + math.hypot(high_a - a, b - low_b)


def auc_estimate(labels: ArrayLike, scores: ArrayLike, *, draws: int = 1000, seed: int = 0) -> Estimate:
    """ROC-AUC with a bootstrap interval over items, exact where it is almost 1 or 0; NaN scores are left out and counted."""
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    known = ~np.isnan(s)
    missing = int((~known).sum())
    y, s = y[known], s[known]
    value = roc_auc(y, s) if len(y) else math.nan
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, len(y), missing)
    areas = [weighted_aucs(y == 1, s, chunk) for chunk in bootstrap_weights(len(y), draws=draws, seed=seed)]
    return resampled_area(value, np.concatenate(areas), independent_pairs(y == 1), len(y), missing)


def bias_aucs(
    labels: ArrayLike, scores: ArrayLike, member: ArrayLike, *, estimate: AreaEstimate = auc_estimate
) -> dict[str, Estimate]:
    """Three ROC-AUCs that show a bias for or against one group (Borkan et al. 2019, arXiv 1903.04561, section 3.1).

    Args:
        labels: (texts,) 1 toxic, 0 not.
        scores: (texts,).
        member: (texts,) whether a text is about the group.
        estimate: of labels and scores; `clustered_auc_estimate` where there are too many texts to resample.

    Returns:
        "subgroup": texts about the group alone. "bpsn": safe ones about the group and toxic ones that are not (low where safe texts about
        the group are taken for toxic). "bnsp": toxic ones about the group and safe ones that are not (low where toxic texts about the
        group are not seen).
    """
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    mine: Bools = np.asarray(member, dtype=np.bool_)
    toxic = y == 1
    kept = {"subgroup": mine, "bpsn": mine != toxic, "bnsp": mine == toxic}
    return {kind: estimate(y[rows], s[rows]) for kind, rows in kept.items()}


def clustered_auc_estimate(labels: ArrayLike, scores: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """ROC-AUC with a normal interval for items that come in clusters (Obuchowski 1997): nothing is resampled, so a million is quick.

    Where it is almost 1 or 0 the interval is exact (`area_ends`).

    Args:
        labels: (items,) 1 positive, 0 negative.
        scores: (items,).
        clusters: (items,) whole numbers from 0; items of one cluster (the texts of one prompt) depend on one another. None where each
            item is its own.

    Returns:
        NaN where a class is absent; no interval for a single cluster. `n` counts items.
    """
    positive, s = np.asarray(labels) == 1, np.asarray(scores, dtype=np.float64)
    ups, downs = np.sort(s[positive]), np.sort(s[~positive])
    if not len(ups) or not len(downs):
        return Estimate(math.nan, math.nan, math.nan, len(s))

    def share_below(ranked: Floats, values: Floats) -> Floats:
        ends = [np.searchsorted(ranked, values, side=side) for side in ("left", "right")]
        return np.asarray((ends[0] + ends[1]) / (2 * len(ranked)))

    beaten = np.where(positive, share_below(downs, s), 1 - share_below(ups, s))
    area = float(beaten[positive].mean())
    influence = (beaten - area) / np.where(positive, len(ups), len(downs))
    sums = (
        influence
        if clusters is None
        else np.bincount(np.unique(np.asarray(clusters), return_inverse=True)[1], influence)
    )
    if len(sums) < 2:
        return Estimate(area, math.nan, math.nan, len(s))
    variance = len(sums) / (len(sums) - 1) * float(sums @ sums)
    ends = area_ends(area, variance, independent_pairs(positive, clusters))
    if ends is not None:
        return Estimate(area, *ends, len(s))
    reach = 1.96 * math.sqrt(variance)
    return Estimate(area, max(0.0, area - reach), min(1.0, area + reach), len(s))
