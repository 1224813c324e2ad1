"""How much of a direction do length, profanity or topic explain?

Two questions. Of the projection p of texts on a direction, the share of variance that covariates z predict on held-out texts:

    R^2 = 1 - sum_i (p_i - b_0 - b . z_i)^2 / sum_i (p_i - m)^2,   b_0, b and m = mean of p from the training texts

which is below zero where the covariates predict worse than the mean. And of the probe, what its ROC-AUC is among texts that are alike
in a covariate, or once what the covariates predict is subtracted:

    within strata   sum_s n_s+ n_s- AUC_s / sum_s n_s+ n_s-     the same probability, over pairs of one stratum
    residual        AUC of p_i - b . z_i

The residual takes away everything that goes with the covariates, toxicity that goes with them too: it is a lower end, not an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detox.probing.significance import text_weights
from detox.probing.texts import group_numbers
from detox.statistics import Estimate, roc_auc, weighted_aucs

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
DRAWS = 1000


def predicted(projections: Floats, covariates: Floats, train: Integers) -> Floats:
    """(texts, sites) what covariates say of projections, by least squares on the training texts.

    Args:
        projections: (texts, sites).
        covariates: (texts, columns).
        train: places of the training texts.
    """
    mean, scale = covariates[train].mean(0), covariates[train].std(0)
    scale = np.where(scale > 0, scale, 1.0)
    design = np.concatenate([np.ones((len(covariates), 1)), (covariates - mean) / scale], axis=1)
    coefficients, *_ = np.linalg.lstsq(design[train], projections[train], rcond=None)
    return np.asarray(design @ coefficients)


def explained_variance(
    projections: Floats,
    covariates: Floats,
    train: Integers,
    heldout: Integers,
    groups: Integers,
    *,
    draws: int = DRAWS,
) -> tuple[Floats, Floats, Floats]:
    """R^2 of each site's projection on held-out texts, and the ends of its 95 % interval over groups of texts; each (sites,).

    Args:
        projections: (texts, sites).
        covariates: (texts, columns).
        train: places of the training texts.
        heldout: places of the held-out texts.
        groups: (texts,) whole numbers from 0.
        draws: resamples of held-out groups; the regression stays as it is fitted.
    """
    left = (projections - predicted(projections, covariates, train))[heldout] ** 2
    total = (projections[heldout] - projections[train].mean(0)) ** 2
    among = group_numbers(groups[heldout])
    with np.errstate(invalid="ignore", divide="ignore"):
        value = 1 - left.sum(0) / total.sum(0)
        resampled = np.concatenate([1 - (w @ left) / (w @ total) for w in text_weights(among, draws=draws)])
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return value, low, high


def stratified_auc(labels: Integers, scores: Floats, strata: Integers, weights: Floats | None = None) -> float:
    """ROC-AUC over pairs of one stratum; NaN where no stratum holds both classes.

    Args:
        labels: (texts,) 0 or 1.
        scores: (texts,).
        strata: (texts,) whole numbers.
        weights: (texts,) bootstrap counts, or None for one each.
    """
    w = np.ones(len(labels)) if weights is None else weights
    total = area = 0.0
    for stratum in np.unique(strata):
        inside = strata == stratum
        positive = labels[inside] == 1
        pairs = float(w[inside][positive].sum() * w[inside][~positive].sum())
        if pairs:
            total += pairs
            area += pairs * float(weighted_aucs(positive, scores[inside], w[inside][None])[0])
    return area / total if total else math.nan


def over_groups(statistic: Callable[[Floats], float], groups: Integers, *, draws: int = DRAWS) -> Estimate:
    """A statistic with a bootstrap interval over groups of texts.

    Args:
        statistic: of (texts,) counts, how often each text stands in a resample; all ones gives the value. NaN where it has none.
        groups: (texts,) whole numbers.
        draws: resamples.
    """
    value = statistic(np.ones(len(groups)))
    among = group_numbers(groups)
    if math.isnan(value) or among.max() == 0:
        return Estimate(value, math.nan, math.nan, len(groups))
    found = np.array([statistic(w) for chunk in text_weights(among, draws=draws) for w in chunk])
    found = found[~np.isnan(found)]
    low, high = np.quantile(found, [0.025, 0.975]) if len(found) else (math.nan, math.nan)
    return Estimate(value, float(low), float(high), len(groups))


def auc_over_groups(labels: Integers, scores: Floats, groups: Integers, *, draws: int = DRAWS) -> Estimate:
    """ROC-AUC with a bootstrap interval over groups of texts."""
    return over_groups(lambda w: roc_auc(labels, scores, w), groups, draws=draws)


def stratified_auc_over_groups(
    labels: Integers, scores: Floats, strata: Integers, groups: Integers, *, draws: int = DRAWS
) -> Estimate:
    """`stratified_auc` with a bootstrap interval over groups of texts."""
    return over_groups(lambda w: stratified_auc(labels, scores, strata, w), groups, draws=draws)


def covariates_auc(
    covariates: Floats, labels: Integers, train: Integers, heldout: Integers, groups: Integers, *, draws: int = DRAWS
) -> Estimate:
    """Held-out ROC-AUC of a logistic regression on the covariates alone: what a probe must beat to know more than they say."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = covariates[train].mean(0), covariates[train].std(0)
    z = (covariates - mean) / np.where(scale > 0, scale, 1.0)
    margins = LogisticRegression(max_iter=1000).fit(z[train], labels[train]).decision_function(z[heldout])
    return auc_over_groups(labels[heldout], margins, groups[heldout], draws=draws)
