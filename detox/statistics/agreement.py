"""Two scorers on the same texts: do they say the same, and do they rank alike?"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from detox.errors import InputError
from detox.statistics.estimates import Estimate
from detox.statistics.resampling import Bools, Floats, bootstrap_weights

_DRAWS = 1000


def cohen_kappa(a: ArrayLike, b: ArrayLike, *, draws: int = _DRAWS) -> Estimate:
    """Cohen's kappa (1960): agreement beyond what the two margins give by chance, (observed - expected) / (1 - expected).

    Args:
        a: (texts,) labels, any numbers; NaN is missing, and a text that one side lacks leaves both.
        b: (texts,), the same texts in the same order.
        draws: resamples of texts.

    Returns:
        NaN where both sides say one and the same thing of all texts: there is nothing to agree on beyond chance.

    Raises:
        InputError: not the same texts.
    """
    x, y, missing = _known(a, b)
    return _with_interval(lambda weights: weighted_kappas(x, y, weights), len(x), missing, draws)


def spearman(a: ArrayLike, b: ArrayLike, *, draws: int = _DRAWS) -> Estimate:
    """Spearman's rank correlation: Pearson's of midranks, so that ties count half.

    Args:
        a: (texts,) scores; NaN is missing, and a text that one side lacks leaves both.
        b: (texts,), the same texts in the same order.
        draws: resamples of texts.

    Returns:
        NaN where one side gives all texts the same score.

    Raises:
        InputError: not the same texts.
    """
    x, y, missing = _known(a, b)
    return _with_interval(lambda weights: weighted_spearmans(x, y, weights), len(x), missing, draws)


def weighted_kappas(a: Floats, b: Floats, weights: Floats) -> Floats:
    """(resamples,) kappas of (texts,) labels without gaps, each text counted as often as (resamples, texts) weights say."""
    labels = np.unique(np.concatenate([a, b]))
    first, second = ((side[:, None] == labels).astype(np.float64) for side in (a, b))
    total = weights.sum(1)
    observed = _ratio(weights @ (a == b).astype(np.float64), total)
    expected = _ratio(((weights @ first) * (weights @ second)).sum(1), total**2)
    return _ratio(observed - expected, 1 - expected)


def weighted_spearmans(a: Floats, b: Floats, weights: Floats) -> Floats:
    """(resamples,) Spearman's of (texts,) scores without gaps, each text counted as often as (resamples, texts) weights say."""
    u, v = (_midranks(weights, *_runs(side)) - (weights.sum(1, keepdims=True) + 1) / 2 for side in (a, b))
    products = [(weights * p * q).sum(1) for p, q in ((u, v), (u, u), (v, v))]
    return _ratio(products[0], np.sqrt(products[1] * products[2]))


def _runs(values: Floats) -> tuple[np.ndarray, np.ndarray]:
    """Places in ascending order, and for each value the number of its run of equal ones."""
    order = np.argsort(values, kind="stable")
    return order, np.unique(values, return_inverse=True)[1]


def _midranks(weights: Floats, order: np.ndarray, of_run: np.ndarray) -> Floats:
    """(resamples, texts) mean rank, from 1, that a text's copies have in a resample."""
    starts = np.flatnonzero(np.r_[True, np.diff(of_run[order]) > 0])
    inside = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(inside, axis=1) - inside / 2 + 0.5)[:, of_run]


def _known(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats, int]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"agreement is on the same texts, got {x.shape} and {y.shape}")
    known: Bools = ~np.isnan(x) & ~np.isnan(y)
    return x[known], y[known], int((~known).sum())


def _ratio(top: Floats, bottom: Floats) -> Floats:
    result: Floats = np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 1e-12)
    return result


def _with_interval(of: Callable[[Floats], Floats], n: int, missing: int, draws: int) -> Estimate:
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, missing)
    value = float(of(np.ones((1, n)))[0])
    if n == 1 or math.isnan(value):
        return Estimate(value, math.nan, math.nan, n, missing)
    drawn = np.concatenate([of(weights) for weights in bootstrap_weights(n, draws=draws)])
    drawn = drawn[~np.isnan(drawn)]  # resamples in which a side says one thing only
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (math.nan, math.nan)
    return Estimate(value, float(low), float(high), n, missing)
