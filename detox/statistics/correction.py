"""A rate as seen by a scorer that errs, and the rate behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from detox.errors import InputError
from detox.statistics.estimates import Estimate
from detox.statistics.intervals import effective_trials
from detox.statistics.resampling import DRAWS, Floats

Counts = tuple[int, int] | Sequence[tuple[int, int]]
"""(right, of) on labelled texts, or one such pair for each source of texts."""


def rogan_gladen(
    positives: ArrayLike,
    *,
    sensitivity: Counts,
    specificity: Counts,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Share of truly toxic texts behind the share that a scorer calls toxic (Rogan and Gladen 1978), clipped to [0, 1].

        (p + Sp - 1) / (Se + Sp - 1)

    The interval draws p, Se and Sp from their Jeffreys posteriors, Beta(hits + 1/2, misses + 1/2): labelled texts were a sample, too.
    Of p, hits and misses are those of as many yes-or-no trials as the units are worth (`detox.statistics.intervals`); resampled units
    would call a rate of which no event was seen certain. Draws in which the scorer is no better than chance tell nothing and count
    on both ends.

    Where the labelled texts come from several sources (answers of several models), a pair of counts for each says how far Se and Sp differ
    between them: the sources are then resampled in each draw, since the next one is another again. The value is that of all together. Of
    a handful of sources the interval is still too narrow rather than too wide.

    Args:
        positives: (units,) in [0, 1]: share of a prompt's completions called toxic, at one threshold; NaN is missing.
        sensitivity: (found, toxic) on labelled texts: how many of the toxic ones the scorer calls toxic at that threshold.
        specificity: (passed, harmless): how many of the harmless ones it does not. Both are one pair, or as many pairs, in the same
            order of sources; a source may have none of one kind.
        draws: from each posterior.
        seed: of the draws.

    Returns:
        NaN where the scorer is no better than chance (Se + Sp <= 1) or no unit is known.

    Raises:
        InputError: counts that are not 0 <= hits <= n, n >= 1, other sources on the two sides, or shares outside [0, 1].
    """
    everything = np.asarray(positives, dtype=np.float64)
    known = everything[~np.isnan(everything)]
    if ((known < 0) | (known > 1)).any():
        raise InputError(f"shares lie in [0, 1]; got {known.min():g} to {known.max():g}")
    found, passed = _by_source(sensitivity, "sensitivity"), _by_source(specificity, "specificity")
    if len(found) != len(passed):
        raise InputError(f"sensitivity of {len(found)} sources, specificity of {len(passed)}; expected the same ones")
    n, missing = len(known), len(everything) - len(known)
    se, sp = (float(side[:, 0].sum() / side[:, 1].sum()) for side in (found, passed))
    if n == 0 or se + sp <= 1:
        return Estimate(math.nan, math.nan, math.nan, n, missing)
    value = min(1.0, max(0.0, (float(known.mean()) + sp - 1) / (se + sp - 1)))
    if n == 1:
        return Estimate(value, math.nan, math.nan, 1, missing)
    rng = np.random.default_rng([seed, n, *found.ravel().astype(int), *passed.ravel().astype(int)])
    trials, rate = float(effective_trials(known[:, None])[0]), float(known.mean())
    rates = rng.beta(trials * rate + 0.5, trials * (1 - rate) + 0.5, size=draws)
    weights = np.ones((1, 1))
    if len(found) > 1:
        weights = rng.multinomial(len(found), np.full(len(found), 1 / len(found)), size=draws).astype(np.float64)
    drawn_se, drawn_sp = (
        rng.beta(hits + 0.5, of - hits + 0.5, size=draws)
        for hits, of in ((weights @ side).T for side in (found, passed))
    )
    tells = drawn_se + drawn_sp > 1
    corrected = np.divide(rates + drawn_sp - 1, drawn_se + drawn_sp - 1, out=np.zeros(draws), where=tells)
    low = float(np.quantile(np.where(tells, np.clip(corrected, 0, 1), 0.0), 0.025))
    high = float(np.quantile(np.where(tells, np.clip(corrected, 0, 1), 1.0), 0.975))
    return Estimate(value, low, high, n, missing)


def _by_source(counts: Counts, name: str) -> Floats:
    """(sources, 2) of hits and texts.

    Raises:
        InputError: no such counts.
    """
    pairs = np.asarray(counts, dtype=np.float64)
    pairs = pairs[None] if pairs.ndim == 1 else pairs
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"{name} is {counts!r}; expected (right, of), or one such pair a source")
    bad = [(int(hits), int(of)) for hits, of in pairs if not 0 <= hits <= of]
    if bad or pairs[:, 1].sum() < 1:
        hits, of = bad[0] if bad else (int(pairs[:, 0].sum()), int(pairs[:, 1].sum()))
        raise InputError(f"{name} is {hits} of {of}; expected 0 <= hits <= n and n >= 1 labelled texts")
    return pairs
