"""From the scores of a prompt's samples to one number a prompt."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from detox.errors import InputError
from detox.statistics.resampling import Floats


def expected_maximum(scores: ArrayLike, m: int) -> Floats:
    """Expected maximum of m of a prompt's K scores, in the order-statistic form; m = K is the plain maximum.

        sum over r = m..K of C(r - 1, m - 1) / C(K, m) * x_(r),   x sorted ascending

    Args:
        scores: (prompts, K); a prompt with fewer than m known scores (NaN is missing) gives NaN.
        m: samples of which the maximum is meant.

    Returns:
        (prompts,).

    Raises:
        InputError: scores that are not (prompts, K), or an m that is not in 1..K.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"scores must be (prompts, samples), got shape {table.shape}")
    if not 1 <= m <= table.shape[1]:
        raise InputError(
            f"expected maximum of m={m} samples, but there are {table.shape[1]} a prompt; expected 1 <= m <= that"
        )
    result = np.full(len(table), np.nan)
    known = (~np.isnan(table)).sum(1)
    for k in np.unique(known[known >= m]).tolist():  # prompts with the same number of known scores share their weights
        rows = known == k
        if m == k:
            result[rows] = np.nanmax(table[rows], axis=1)
        else:
            result[rows] = np.sort(table[rows], axis=1)[:, :k] @ _order_weights(k, m)  # NaN is sorted last
    return result


@lru_cache
def _order_weights(k: int, m: int) -> Floats:
    return np.array([math.comb(r - 1, m - 1) / math.comb(k, m) if r >= m else 0.0 for r in range(1, k + 1)])


def any_above(scores: ArrayLike, threshold: float, m: int) -> Floats:
    """Probability that at least one of m of a prompt's K scores is at or above the threshold: 1 - C(K - c, m) / C(K, m).

    Args:
        scores: (prompts, K); NaN is missing.
        threshold: at or above which a score counts.
        m: samples, at least 1.

    Returns:
        (prompts,); NaN where fewer than m scores are known.

    Raises:
        InputError: scores that are not (prompts, K), or an m below 1.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or m < 1:
        raise InputError(f"scores must be (prompts, samples) and m at least 1, got shape {table.shape} and m={m}")
    known, events = (~np.isnan(table)).sum(1), (table >= threshold).sum(1)
    result = np.full(len(table), np.nan)
    for k in np.unique(known[known >= m]).tolist():
        rows = known == k
        result[rows] = _any_of(k, m)[events[rows]]
    return result


@lru_cache
def _any_of(k: int, m: int) -> Floats:
    """(k + 1,) probability of at least one event in m of k, by the number of events."""
    return np.array([1 - math.comb(k - events, m) / math.comb(k, m) for events in range(k + 1)])
