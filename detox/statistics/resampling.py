"""The one stream of resamples that every interval of a comparison comes from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detox.errors import InputError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
DRAWS = 2000
_CHUNK = 100  # draws whose weights exist at once
_KEPT_VALUES = 2**21  # 16 MiB a stream


def bootstrap_weights(n: int, *, draws: int = DRAWS, seed: int = 0) -> Iterator[Floats]:
    """Chunks (at most 100, n) of multinomial counts: how often each unit stands in a resample of n with replacement.

    A stream of few units is kept for the next metric of the same comparison; a long one is drawn anew and never exists as a whole.
    The chunks are read-only.
    """
    if n * draws <= _KEPT_VALUES:
        yield from _kept_weights(n, draws, seed)
    else:
        yield from _drawn_weights(n, draws, seed)


def _drawn_weights(n: int, draws: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(np.random.SeedSequence([seed, n]))
    for start in range(0, draws, _CHUNK):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(_CHUNK, draws - start)).astype(np.float64)
        weights.flags.writeable = False
        yield weights


@lru_cache(maxsize=4)
def _kept_weights(n: int, draws: int, seed: int) -> tuple[Floats, ...]:
    return tuple(_drawn_weights(n, draws, seed))


def weighted_sums(weights: Floats, values: Floats) -> Floats:
    """(draws, ...) sums of (units, ...) values, each counted as often as (draws, units) weights say.

    What is not finite counts in every resample, drawn or not: one infinite unit makes the mean of its population infinite whatever
    the others are, and a resample that happens to leave it out knows nothing to the contrary. Both infinities together are NaN.
    """
    finite = np.isfinite(values)
    if finite.all():
        sums: Floats = weights @ values
    else:
        with np.errstate(invalid="ignore"):
            sums = weights @ np.where(finite, values, 0.0) + np.where(finite, 0.0, values).sum(0)
    return sums


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
