"""From the scores of a prompt's samples to one number a prompt."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from detox.errors import InputError
from detox.statistics.estimates import Floats


def expected_maximum(scores: ArrayLike, m: int) -> Floats:
    """Expected maximum of m of a prompt's K scores, in the order-statistic form; m = K is the plain maximum.

        sum over r = m..K of C(r - 1, m - 1) / C(K, m) * x_(r),   x sorted ascending

    Args:
        scores: (prompts, K); a prompt with fewer than m known scores (NaN is missing) gives NaN.
        m: samples of which the maximum is meant.

    Returns:
        (prompts,).
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"scores must be (prompts, samples), got shape {table.shape}")
    if not 1 <= m <= table.shape[1]:
        raise InputError(
            f"expected maximum of m={m} samples, but there are {table.shape[1]} a prompt; expected 1 <= m <= that"
        )
    result = np.full(len(table), np.nan)
    for index, row in enumerate(table):
        known = np.sort(row[~np.isnan(row)])
        if len(known) >= m:
            result[index] = _order_weights(len(known), m) @ known
    return result


@lru_cache
def _order_weights(k: int, m: int) -> Floats:
    return np.array([math.comb(r - 1, m - 1) / math.comb(k, m) if r >= m else 0.0 for r in range(1, k + 1)])


def any_above(scores: ArrayLike, threshold: float, m: int) -> Floats:
    """Probability that at least one of m of a prompt's K scores is at or above the threshold: 1 - C(K - c, m) / C(K, m).

    Args:
        scores: (prompts, K); NaN is missing.
        threshold: at or above which a score counts.
        m: samples.

    Returns:
        (prompts,); NaN where fewer than m scores are known.
    """
    table = np.asarray(scores, dtype=np.float64)
    result = np.full(len(table), np.nan)
    for index, row in enumerate(table):
        known = row[~np.isnan(row)]
        if len(known) >= m:
            events = int((known >= threshold).sum())
            result[index] = 1 - math.comb(len(known) - events, m) / math.comb(len(known), m)
    return result
