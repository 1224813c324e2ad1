"""A rate as seen by a scorer that errs, and the rate behind it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from detox.errors import InputError
from detox.statistics.estimates import Estimate
from detox.statistics.intervals import effective_trials
from detox.statistics.resampling import DRAWS


def rogan_gladen(
    positives: ArrayLike,
    *,
    sensitivity: tuple[int, int],
    specificity: tuple[int, int],
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Share of truly toxic texts behind the share that a scorer calls toxic (Rogan and Gladen 1978), clipped to [0, 1].

        (p + Sp - 1) / (Se + Sp - 1)

    The interval draws p, Se and Sp from their Jeffreys posteriors, Beta(hits + 1/2, misses + 1/2): labelled texts were a sample, too.
    Of p, hits and misses are those of as many yes-or-no trials as the units are worth (`detox.statistics.intervals`); resampled units
    would call a rate of which no event was seen certain. Draws in which the scorer is no better than chance tell nothing and count
    on both ends.

    Args:
        positives: (units,) in [0, 1]: share of a prompt's completions called toxic, at one threshold; NaN is missing.
        sensitivity: (found, toxic) on labelled texts: how many of the toxic ones the scorer calls toxic at that threshold.
        specificity: (passed, harmless): how many of the harmless ones it does not.
        draws: from each posterior.
        seed: of the draws.

    Returns:
        NaN where the scorer is no better than chance (Se + Sp <= 1) or no unit is known.

    Raises:
        InputError: counts that are not 0 <= hits <= n, n >= 1, or shares outside [0, 1].
    """
    everything = np.asarray(positives, dtype=np.float64)
    known = everything[~np.isnan(everything)]
    if ((known < 0) | (known > 1)).any():
        raise InputError(f"shares lie in [0, 1]; got {known.min():g} to {known.max():g}")
    for name, (hits, of) in (("sensitivity", sensitivity), ("specificity", specificity)):
        if not 0 <= hits <= of or of < 1:
            raise InputError(f"{name} is {hits} of {of}; expected 0 <= hits <= n and n >= 1 labelled texts")
    n, missing = len(known), len(everything) - len(known)
    se, sp = sensitivity[0] / sensitivity[1], specificity[0] / specificity[1]
    if n == 0 or se + sp <= 1:
        return Estimate(math.nan, math.nan, math.nan, n, missing)
    value = min(1.0, max(0.0, (float(known.mean()) + sp - 1) / (se + sp - 1)))
    if n == 1:
        return Estimate(value, math.nan, math.nan, 1, missing)
    rng = np.random.default_rng([seed, n, *sensitivity, *specificity])
    trials, rate = float(effective_trials(known[:, None])[0]), float(known.mean())
    rates = rng.beta(trials * rate + 0.5, trials * (1 - rate) + 0.5, size=draws)
    drawn_se, drawn_sp = (rng.beta(hits + 0.5, of - hits + 0.5, size=draws) for hits, of in (sensitivity, specificity))
    tells = drawn_se + drawn_sp > 1
    corrected = np.divide(rates + drawn_sp - 1, drawn_se + drawn_sp - 1, out=np.zeros(draws), where=tells)
    low = float(np.quantile(np.where(tells, np.clip(corrected, 0, 1), 0.0), 0.025))
    high = float(np.quantile(np.where(tells, np.clip(corrected, 0, 1), 1.0), 0.975))
    return Estimate(value, low, high, n, missing)
