"""Fits with several seeds: their spread is another than that of prompts, and is shown apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from detox.errors import InputError
from detox.statistics.estimates import Estimate
from detox.statistics.paired import difference_estimate
from detox.statistics.resampling import DRAWS, Floats


@dataclass(frozen=True)
class Interaction:
    """What a method changes on one kind of base more than on another.

    Attributes:
        over_prompts: mean over prompts of the mean over fits; the interval is over prompts, these fits given.
        by_seed: that of each fit.
        over_fits: the same over fits, with a t interval; none for a single fit.
    """

    over_prompts: Estimate
    by_seed: tuple[float, ...]
    over_fits: Estimate


def fit_seed_interval(values: ArrayLike) -> Estimate:
    """Mean over fits with Student's t interval: what another seed of the fit would give.

    Args:
        values: (fits,) one number a fit; NaN is a fit that failed, left out and counted.

    Returns:
        NaN without a fit; no interval for a single one.
    """
    everything = np.asarray(values, dtype=np.float64)
    known = everything[~np.isnan(everything)]
    n, missing = len(known), len(everything) - len(known)
    value = float(known.mean()) if n else math.nan
    if n < 2:
        return Estimate(value, math.nan, math.nan, n, missing)
    reach = float(special.stdtrit(n - 1, 0.975)) * float(known.std(ddof=1)) / math.sqrt(n)
    return Estimate(value, value - reach, value + reach, n, missing)


def difference_of_differences(
    arm_base: ArrayLike,
    arm_method: ArrayLike,
    reference_base: ArrayLike,
    reference_method: ArrayLike,
    *,
    reach: float | None = None,
    draws: int = DRAWS,
) -> Interaction:
    """Does a method do more on one kind of base than on another? (arm_method - arm_base) - (reference_method - reference_base).

    Negative: the method takes more toxicity away on the arm than on the reference.

    Args:
        arm_base: (fits, prompts) toxicity of the bases of the arm, one row a seed of their fit; NaN is missing. A prompt that one of
            the four lacks leaves that seed.
        arm_method: of the same bases with the method.
        reference_base: of the bases of the reference, the same seeds in the same order.
        reference_method: of those with the method.
        reach: the largest absolute difference of differences that can be: 2 for rates or scores; as for `difference_estimate`.
        draws: resamples of prompts.

    Raises:
        InputError: the four are not of one shape (fits, prompts).
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (arm_base, arm_method, reference_base, reference_method)]
    if len({side.shape for side in sides}) != 1 or sides[0].ndim != 2:
        shapes = ", ".join(str(side.shape) for side in sides)
        raise InputError(f"arm and reference, base and method must all be (fits, prompts) of one shape, got {shapes}")
    changes = (sides[1] - sides[0]) - (sides[3] - sides[2])
    by_seed = known_means(changes)
    return Interaction(
        difference_estimate(known_means(changes.T), reach=reach, draws=draws),
        tuple(by_seed.tolist()),
        fit_seed_interval(by_seed),
    )


def known_means(table: Floats) -> Floats:
    """(rows,) mean over the columns that are known; NaN where none is."""
    known = ~np.isnan(table)
    totals = np.where(known, table, 0.0).sum(1)
    means: Floats = np.divide(totals, known.sum(1), out=np.full(len(table), np.nan), where=known.any(1))
    return means
