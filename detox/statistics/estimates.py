"""A number with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from detox.errors import InputError
from detox.statistics.intervals import effective_units, percentile_ends, share_ends, stretched
from detox.statistics.resampling import DRAWS, Floats, bootstrap_weights

_ROUNDING = 1e-6  # by which a cosine or a share may pass its bound


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    An infinite value is a result: one unit that a model holds for impossible (a token with probability 0) makes a mean infinite, in the
    sample and in whatever population it was drawn from. So its interval is the value itself, both ends.

    Attributes:
        value: NaN where nothing could be measured, or where it is not defined (infinity minus infinity).
        low, high: ends of the interval; NaN where there is none.
        n: units that went in.
        missing: units that could not be scored and are not in `value`.
    """

    value: float
    low: float
    high: float
    n: int
    missing: int = 0

    def __post_init__(self) -> None:
        # One NaN for all, so that estimates with the same gaps are equal: NaN is equal to itself only as the same object.
        for name in ("value", "low", "high"):
            object.__setattr__(self, name, math.nan if math.isnan(getattr(self, name)) else float(getattr(self, name)))

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


def exponential(estimate: Estimate) -> Estimate:
    """E to an estimate and to its ends: a perplexity from a cross-entropy in nats.

    Above 709.78, where the largest float ends, it is infinite, though the estimate is not; the estimate says how far.
    """
    with np.errstate(over="ignore"):
        value, low, high = np.exp([estimate.value, estimate.low, estimate.high]).tolist()
    return Estimate(value, low, high, estimate.n, estimate.missing)


def mean_estimate(values: ArrayLike, *, bounds: tuple[float, float] | None = None, draws: int = DRAWS) -> Estimate:
    """Mean over units with a 95 % interval, as in `detox.statistics.intervals`.

    Args:
        values: (units,); NaN is missing, left out and counted.
        bounds: the range in which a value can lie, (0, 1) for a rate or a score. The interval is then exact and conservative where units
            or events are few, studentised elsewhere, and stays within the range. Without: a percentile bootstrap.
        draws: resamples.

    Raises:
        InputError: values out of bounds.
    """
    return mean_estimates([np.asarray(values, dtype=np.float64)], bounds=bounds, draws=draws)[0]


def mean_estimates(
    cells: Sequence[ArrayLike], *, bounds: tuple[float, float] | None = None, draws: int = DRAWS
) -> list[Estimate]:
    """`mean_estimate` of several metrics or cells at once: those that know the same units share one pass over the resamples.

    Args:
        cells: (units,) each; NaN is missing.
        bounds: of all of them.
        draws: resamples.
    """
    tables = [np.asarray(cell, dtype=np.float64) for cell in cells]
    together: dict[bytes, list[int]] = {}
    for index, table in enumerate(tables):
        together.setdefault(np.isnan(table).tobytes(), []).append(index)
    found: dict[int, Estimate] = {}
    for members in together.values():
        everything = np.stack([tables[index] for index in members], axis=1)
        known = everything[~np.isnan(everything[:, 0])]
        n, missing = len(known), len(everything) - len(known)
        if n < 2:
            for i, index in enumerate(members):
                found[index] = Estimate(float(known[0, i]) if n else math.nan, math.nan, math.nan, n, missing)
            continue
        low, high = _ends(known, bounds, draws)
        with np.errstate(invalid="ignore"):
            means = [float(column.mean()) for column in known.T]
        for i, index in enumerate(members):
            found[index] = Estimate(means[i], float(low[i]), float(high[i]), n, missing)
    return [found[index] for index in range(len(tables))]


def _ends(known: Floats, bounds: tuple[float, float] | None, draws: int) -> tuple[Floats, Floats]:
    if bounds is None:
        return percentile_ends(known, draws=draws)
    start, span = bounds[0], bounds[1] - bounds[0]
    shares = (known - start) / span
    if shares.min() < -_ROUNDING or shares.max() > 1 + _ROUNDING:
        raise InputError(f"values from {known.min():g} to {known.max():g}, but expected them in {list(bounds)}")
    low, high = share_ends(np.clip(shares, 0.0, 1.0), draws=draws)
    return start + span * low, start + span * high


def ratio_estimate(numerators: ArrayLike, denominators: ArrayLike, *, draws: int = DRAWS) -> Estimate:
    """Sum of numerators over sum of denominators (nats over tokens), units resampled together.

    The percentile interval, stretched where few units carry the uncertainty (`detox.statistics.intervals.stretched`).
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    n = len(top)
    if n == 0 or bottom.sum() == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(top.sum() / bottom.sum())
    if n == 1:
        return Estimate(value, math.nan, math.nan, 1)
    if not math.isfinite(value):
        return Estimate(value, value, value, n)
    ratios = np.concatenate([(w @ top) / (w @ bottom) for w in bootstrap_weights(n, draws=draws)])
    return resampled_estimate(value, ratios, top - value * bottom)


def resampled_estimate(value: float, drawn: Floats, parts: Floats) -> Estimate:
    """A value with the interval of its (draws,) resampled values, stretched by the (units,) parts that carry its uncertainty."""
    quantiles = np.quantile(drawn, [0.025, 0.975])
    low, high = stretched(
        np.array([value]), (quantiles[:1], quantiles[1:]), effective_units(np.asarray(parts)[:, None])
    )
    return Estimate(value, float(low[0]), float(high[0]), len(parts))


def independent_difference(one: Estimate, other: Estimate) -> Estimate:
    """One estimate minus another of other units, with the interval put together of the two (MOVER: Zou and Donner 2008, equation 5).

    Not for two cells on the same prompts, which are paired: see `paired_difference`.
    """
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, low, high, one.n + other.n, one.missing + other.missing)
