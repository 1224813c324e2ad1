"""A number with its interval, and the one stream of resamples that every interval of a comparison comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detox.errors import InputError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
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

    @property
    def share_missing(self) -> float:
        """Missing units over all units, in [0, 1]; 0 where there are none at all."""
        return self.missing / (self.n + self.missing) if self.missing else 0.0

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


def resampled_means(values: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Means of several cells over the same resamples, so that any function of them (a front, a rank, a ratio) is coherent.

    Args:
        values: (cells, units), the same units in the same order; NaN is missing, and a unit that one cell lacks leaves all of them.
        draws: resamples.
        seed: of the stream.

    Returns:
        (draws, cells); NaN where no unit is known in all cells.

    Raises:
        InputError: values that are not (cells, units).
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"values must be (cells, units), got shape {table.shape}")
    known = table[:, ~np.isnan(table).any(0)]
    n = known.shape[1]
    if n == 0:
        return np.full((draws, len(table)), np.nan)
    return np.concatenate([weights @ known.T / n for weights in bootstrap_weights(n, draws=draws, seed=seed)])
