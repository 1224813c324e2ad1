"""The mathematics of comparison: pure functions of arrays. The unit is the prompt (or document, or item), never the sample.

Intervals come from one stream of bootstrap weights that depends on the number of units, the number of draws and the seed alone, so
that every cell and every metric of a comparison is resampled alike, and any difference of two of them is coherent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detox.errors import InputError

Floats = NDArray[np.float64]
DRAWS = 2000
_CHUNK = 100  # draws whose weights exist at once


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: NaN where nothing could be measured.
        low, high: ends of the interval; NaN where there is none.
        n: units that went in.
        missing: units that could not be scored and are not in `value`.
    """

    value: float
    low: float
    high: float
    n: int
    missing: int = 0

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_weights(n: int, *, draws: int = DRAWS, seed: int = 0) -> Iterator[Floats]:
    """Chunks (at most 100, n) of multinomial counts: how often each unit stands in a resample of n with replacement."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, n]))
    for start in range(0, draws, _CHUNK):
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(_CHUNK, draws - start)).astype(np.float64)


def mean_estimate(values: ArrayLike, *, bounds: tuple[float, float] | None = None, draws: int = DRAWS) -> Estimate:
    """Mean over units with a percentile bootstrap interval.

    Args:
        values: (units,); NaN is missing, left out and counted.
        bounds: the range in which a value can lie, (0, 1) for a rate. Where all values are equal to a bound the bootstrap has nothing to
            resample, and the exact interval for no events in n takes its place: 1 - (alpha / 2) ** (1 / n).
        draws: resamples.
    """
    everything = np.asarray(values, dtype=np.float64)
    known = everything[~np.isnan(everything)]
    n, missing = len(known), len(everything) - len(known)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, missing)
    value = float(known.mean())
    if n == 1:
        return Estimate(value, math.nan, math.nan, 1, missing)
    if bounds is not None and np.all(known == known[0]) and known[0] in bounds:
        reach = (bounds[1] - bounds[0]) * (1 - 0.025 ** (1 / n))
        low, high = (value, value + reach) if value == bounds[0] else (value - reach, value)
        return Estimate(value, low, high, n, missing)
    means = np.concatenate([weights @ known / n for weights in bootstrap_weights(n, draws=draws)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n, missing)


def ratio_estimate(numerators: ArrayLike, denominators: ArrayLike, *, draws: int = DRAWS) -> Estimate:
    """Sum of numerators over sum of denominators (nats over tokens), units resampled together."""
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    n = len(top)
    if n == 0 or bottom.sum() == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(top.sum() / bottom.sum())
    if n == 1:
        return Estimate(value, math.nan, math.nan, 1)
    ratios = np.concatenate([(w @ top) / (w @ bottom) for w in bootstrap_weights(n, draws=draws)])
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)


def paired_difference(treated: ArrayLike, control: ArrayLike, *, draws: int = DRAWS) -> Estimate:
    """Mean of `treated - control` over the units that both have; a unit missing in one leaves both.

    Args:
        treated: (units,); NaN is missing.
        control: (units,), the same units in the same order.
        draws: resamples.
    """
    a, b = np.asarray(treated, dtype=np.float64), np.asarray(control, dtype=np.float64)
    if a.shape != b.shape:
        raise InputError(f"paired values must be of the same units, got {a.shape} and {b.shape}")
    return mean_estimate(a - b, draws=draws)


def paired_ratio_difference(
    treated: ArrayLike,
    treated_weights: ArrayLike,
    control: ArrayLike,
    control_weights: ArrayLike,
    *,
    draws: int = DRAWS,
) -> Estimate:
    """Difference of two token-weighted means over the same documents: sum/sum minus sum/sum, documents resampled together.

    NaN where a side has no tokens; a single document has no interval.
    """
    a, p = np.asarray(treated, dtype=np.float64), np.asarray(treated_weights, dtype=np.float64)
    b, q = np.asarray(control, dtype=np.float64), np.asarray(control_weights, dtype=np.float64)
    n = len(a)
    if not len(a) == len(p) == len(b) == len(q):
        raise InputError("paired documents must be the same in both cells")
    if n == 0 or p.sum() == 0 or q.sum() == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(a.sum() / p.sum() - b.sum() / q.sum())
    if n == 1:
        return Estimate(value, math.nan, math.nan, 1)
    differences = np.concatenate([(w @ a) / (w @ p) - (w @ b) / (w @ q) for w in bootstrap_weights(n, draws=draws)])
    low, high = np.quantile(differences, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)


def first_crossing(prices: Floats, asked: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Where paths first cost what is asked, linear between their points.

    Args:
        prices: (draws, points), the first of them 0.
        asked: (draws,), between 0 and what the path costs at most.

    Returns:
        (draws,) the point before the crossing, and the share in [0, 1] of the way from there to the next.
    """
    rows = np.arange(len(prices))
    start = np.maximum((prices >= asked[:, None]).argmax(1), 1) - 1
    span = prices[rows, start + 1] - prices[rows, start]
    share = np.divide(asked - prices[rows, start], span, out=np.zeros_like(span), where=span != 0)
    return start, np.clip(share, 0.0, 1.0)


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
