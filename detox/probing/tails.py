"""How fat is the right tail of the distribution of head accuracies, and is it fatter in one base than in another?

The claim of arXiv 2505.04741 (section 4) is about the tail: few heads gain much. Five numbers say where a difference lies. With a_1..a_n
the accuracies of all heads (of all models of a side), m their mean and s their standard deviation (divisor n):

    mean              m
    share above       share of heads with a_h >= t, t the 95 % quantile of both sides' accuracies (sides weigh equally)
    top tenth         mean of the ceil(n / 10) best heads
    skewness          mean of ((a_h - m) / s)^3
    excess kurtosis   mean of ((a_h - m) / s)^4 - 3

Share above and top tenth also rise where all heads gain alike; skewness and kurtosis do not. A fat right tail is all of them together.

Over texts: intervals resample the held-out texts (groups of them), the same for both sides; t stays. They are basic bootstrap
intervals, [2 v - q(97.5 %), 2 v - q(2.5 %)]: noise of a finite number of texts widens a distribution, a resample's once more, and what
the resamples have too much is taken off. The test changes sides: for every
group of texts, heads of a and b at the same rank of accuracy change places or do not. Matching by rank, not by number, keeps the shape
of the distribution under the null, where head 3 of one model is no relative of head 3 of another. Over seeds: Welch's t test of each
model's own number, where both sides have at least two models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detox.errors import InputError
from detox.probing.significance import text_weights
from detox.statistics import Estimate

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
STATISTICS = ("mean", "share above", "top tenth", "skewness", "excess kurtosis")
DRAWS = 2000
QUANTILE = 0.95


@dataclass(frozen=True)
class TailTest:
    """One number of a distribution, of two sides.

    Attributes:
        a, b: the number of each side, with a 95 % interval over texts of what it would be with endless texts; it need not hold
            the number itself, which noise has widened.
        difference: b minus a, texts resampled together.
        p_texts: two-sided, of no difference, by rank-matched exchange.
        p_seeds: two-sided, by Welch's t test over models; NaN with fewer than two models a side.
    """

    a: Estimate
    b: Estimate
    difference: Estimate
    p_texts: float
    p_seeds: float


@dataclass(frozen=True)
class TailComparison:
    """Shapes of two distributions of head accuracies.

    Attributes:
        threshold: accuracy from which on a head counts as one of the right tail.
        tests: by the name of the number, see `STATISTICS`.
    """

    threshold: float
    tests: dict[str, TailTest]


def tail_threshold(*sides: ArrayLike) -> float:
    """The 95 % quantile of all sides' head accuracies; each side weighs the same, whatever its number of models."""
    values = [np.sort(np.asarray(side, dtype=np.float64).ravel()) for side in sides]
    pooled = np.concatenate(values)
    weights = np.concatenate([np.full(len(v), 1 / len(v)) for v in values])
    order = np.argsort(pooled, kind="stable")
    reached = np.cumsum(weights[order]) / len(values)
    return float(pooled[order][np.searchsorted(reached, QUANTILE - 1e-12)])


def tail_statistics(accuracy: ArrayLike, threshold: float) -> Floats:
    """(..., 5) the numbers of `STATISTICS` for (..., heads) accuracies; skewness and kurtosis are NaN where all heads are equal."""
    a = np.asarray(accuracy, dtype=np.float64)
    n = a.shape[-1]
    top = np.partition(a, n - math.ceil(n / 10), axis=-1)[..., n - math.ceil(n / 10) :]
    centred = a - a.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        skewness = (centred**3).mean(-1) / variance**1.5
        kurtosis = (centred**4).mean(-1) / variance**2 - 3
    flat = variance < 1e-18
    numbers = [
        a.mean(-1),
        (a >= threshold - 1e-12).mean(-1),
        top.mean(-1),
        np.where(flat, np.nan, skewness),
        np.where(flat, np.nan, kurtosis),
    ]
    return np.stack(numbers, axis=-1)


def compare_tails(
    a: NDArray[np.bool_], b: NDArray[np.bool_], groups: Integers, *, draws: int = DRAWS, seed: int = 0
) -> TailComparison:
    """Compare the shapes of two sides' distributions of head accuracies, on the same held-out texts.

    Args:
        a: (models, texts, heads) whether a head's probe judges a text right; the control.
        b: the same of the other side, of the same texts; any number of models and heads.
        groups: (texts,) whole numbers from 0: what is resampled and exchanged together.
        draws: resamples, and exchanges.
        seed: of the exchanges.

    Raises:
        InputError: other texts, or fewer than two heads.
    """
    for name, side in (("a", a), ("b", b)):
        if side.ndim != 3 or side.shape[1] != len(groups) or side.shape[2] < 2:
            raise InputError(
                f"{name} has shape {side.shape}; expected (models, {len(groups)} texts, at least 2 heads) of the same texts"
            )
    flat = [_by_group(side, groups) for side in (a, b)]
    sizes = np.bincount(groups).astype(np.float64)
    accuracy = [side.sum(0) / sizes.sum() for side in flat]
    threshold = tail_threshold(*accuracy)
    values = [tail_statistics(one, threshold) for one in accuracy]
    resampled = [_resampled(side, sizes, threshold, draws) for side in flat]
    exchanged = _exchanged(flat, accuracy, sizes, threshold, draws=draws, seed=seed)
    seeds = _over_models(a, b, threshold)
    tests = {}
    for number, name in enumerate(STATISTICS):
        one, other = (_estimate(v[number], r[:, number], len(sizes)) for v, r in zip(values, resampled, strict=True))
        gain = values[1][number] - values[0][number]
        apart = _estimate(gain, resampled[1][:, number] - resampled[0][:, number], len(sizes))
        null = exchanged[:, number]
        null = null[~np.isnan(null)]
        p = math.nan if math.isnan(gain) else float((1 + (np.abs(null) >= abs(gain) - 1e-12).sum()) / (1 + len(null)))
        tests[name] = TailTest(one, other, apart, p, seeds[number])
    return TailComparison(threshold, tests)


def _by_group(side: NDArray[np.bool_], groups: Integers) -> Floats:
    """(groups, models x heads) how many texts of a group each head judges right."""
    heads = np.moveaxis(side, 1, 0).reshape(side.shape[1], -1).astype(np.float64)
    sums = np.zeros((int(groups.max()) + 1, heads.shape[1]))
    np.add.at(sums, groups, heads)
    return sums


def _resampled(side: Floats, sizes: Floats, threshold: float, draws: int) -> Floats:
    everyone = np.arange(len(sizes))
    parts = [(w @ side) / (w @ sizes)[:, None] for w in text_weights(everyone, draws=draws)]
    return tail_statistics(np.concatenate(parts), threshold)


def _exchanged(
    flat: list[Floats], accuracy: list[Floats], sizes: Floats, threshold: float, *, draws: int, seed: int
) -> Floats:
    """(draws, 5) differences where heads of one rank change sides, group of texts by group of texts."""
    ranked = [side[:, np.argsort(acc, kind="stable")] for side, acc in zip(flat, accuracy, strict=True)]
    heads = max(side.shape[1] for side in ranked)
    # Sides of different numbers of heads are matched by quantile: each rank of the larger has one of the smaller.
    a, b = (side[:, (np.arange(heads) * side.shape[1]) // heads] for side in ranked)
    rng, found = np.random.default_rng([seed, len(sizes)]), []
    for _ in range(draws):
        change = rng.random(len(sizes)) < 0.5
        moved = (b[change] - a[change]).sum(0)
        left, right = (a.sum(0) + moved) / sizes.sum(), (b.sum(0) - moved) / sizes.sum()
        found.append(tail_statistics(right, threshold) - tail_statistics(left, threshold))
    return np.stack(found)


def _over_models(a: NDArray[np.bool_], b: NDArray[np.bool_], threshold: float) -> list[float]:
    from scipy import stats

    if min(len(a), len(b)) < 2:
        return [math.nan] * len(STATISTICS)
    first, second = (tail_statistics(side.mean(1), threshold) for side in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = first.var(0) + second.var(0)
        p = stats.ttest_ind(second, first, equal_var=False).pvalue if spread.any() else np.full(len(STATISTICS), np.nan)
    return [float(one) if s > 0 else math.nan for one, s in zip(p, spread, strict=True)]


def _estimate(value: float, draws: Floats, n: int) -> Estimate:
    known = draws[~np.isnan(draws)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (math.nan, math.nan)
    return Estimate(float(value), float(2 * value - high), float(2 * value - low), n)
