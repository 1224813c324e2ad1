"""Areas under the ROC curve, with intervals over items or over clusters of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detox.statistics.estimates import Estimate
from detox.statistics.resampling import Floats, bootstrap_weights


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


def auc_estimate(labels: ArrayLike, scores: ArrayLike, *, draws: int = 1000, seed: int = 0) -> Estimate:
    """ROC-AUC with a bootstrap interval over items; NaN scores are left out and counted."""
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    known = ~np.isnan(s)
    missing = int((~known).sum())
    y, s = y[known], s[known]
    value = roc_auc(y, s) if len(y) else math.nan
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, len(y), missing)
    areas = np.concatenate(
        [weighted_aucs(y == 1, s, chunk) for chunk in bootstrap_weights(len(y), draws=draws, seed=seed)]
    )
    areas = areas[~np.isnan(areas)]  # resamples that hold one class only
    low, high = np.quantile(areas, [0.025, 0.975]) if len(areas) else (math.nan, math.nan)
    return Estimate(value, float(low), float(high), len(y), missing)


def clustered_auc_estimate(labels: ArrayLike, scores: ArrayLike, clusters: ArrayLike) -> Estimate:
    """ROC-AUC with a normal interval for items that come in clusters (Obuchowski 1997): nothing is resampled, so a million is quick.

    Args:
        labels: (items,) 1 positive, 0 negative.
        scores: (items,).
        clusters: (items,) whole numbers from 0; items of one cluster (the texts of one prompt) depend on one another.

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
    members = np.unique(np.asarray(clusters), return_inverse=True)[1]
    sums = np.bincount(members, influence)
    if len(sums) < 2:
        return Estimate(area, math.nan, math.nan, len(s))
    reach = 1.96 * math.sqrt(len(sums) / (len(sums) - 1) * float(sums @ sums))
    return Estimate(area, max(0.0, area - reach), min(1.0, area + reach), len(s))
