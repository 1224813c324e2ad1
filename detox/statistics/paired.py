"""Two cells on the same units: differences with intervals, and tests."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from detox.errors import InputError
from detox.statistics.estimates import Estimate, resampled_estimate
from detox.statistics.intervals import difference_ends
from detox.statistics.resampling import DRAWS, Floats, bootstrap_weights

_VALUES_AT_ONCE = 2**22  # signs that exist at once


def paired_difference(
    treated: ArrayLike, control: ArrayLike, *, reach: float | None = None, draws: int = DRAWS
) -> Estimate:
    """Mean of `treated - control` over the units that both have; a unit missing in one leaves both.

    Args:
        treated: (units,); NaN is missing.
        control: (units,), the same units in the same order.
        reach: as for `difference_estimate`.
        draws: resamples.

    Raises:
        InputError: not the same units.
    """
    a, b = _same_units(treated, control)
    with np.errstate(invalid="ignore"):
        differences = a - b
    return difference_estimate(differences, reach=reach, draws=draws)


def difference_estimate(differences: ArrayLike, *, reach: float | None = None, draws: int = DRAWS) -> Estimate:
    """Mean of paired differences with a 95 % interval, as in `detox.statistics.intervals`.

    Args:
        differences: (units,) treated minus control; NaN is missing, left out and counted.
        reach: the largest absolute difference that can be, 1 for two rates or two scores. Without it, units that do not differ at
            all have an interval of no width.
        draws: resamples.

    Raises:
        InputError: a difference beyond the reach.
    """
    everything = np.asarray(differences, dtype=np.float64)
    known = everything[~np.isnan(everything)]
    n, missing = len(known), len(everything) - len(known)
    with np.errstate(invalid="ignore"):
        value = float(known.mean()) if n else math.nan
    if n < 2:
        return Estimate(value, math.nan, math.nan, n, missing)
    if reach is not None and np.abs(known).max() > reach * (1 + 1e-6):
        raise InputError(f"a difference of {np.abs(known).max():g}, but expected at most {reach:g} either way")
    low, high = difference_ends(known[:, None], reach=reach, draws=draws)
    return Estimate(value, float(low[0]), float(high[0]), n, missing)


def paired_ratio_difference(
    treated: ArrayLike,
    treated_weights: ArrayLike,
    control: ArrayLike,
    control_weights: ArrayLike,
    *,
    draws: int = DRAWS,
) -> Estimate:
    """Difference of two token-weighted means over the same documents: sum/sum minus sum/sum, documents resampled together.

    NaN where a side has no tokens, or both are infinite; a single document has no interval. Where one side is infinite, so are the
    difference and both ends.
    """
    a, p = np.asarray(treated, dtype=np.float64), np.asarray(treated_weights, dtype=np.float64)
    b, q = np.asarray(control, dtype=np.float64), np.asarray(control_weights, dtype=np.float64)
    n = len(a)
    if not len(a) == len(p) == len(b) == len(q):
        raise InputError("paired documents must be the same in both cells")
    if n == 0 or p.sum() == 0 or q.sum() == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    with np.errstate(invalid="ignore"):
        value = float(a.sum() / p.sum() - b.sum() / q.sum())
    if n == 1:
        return Estimate(value, math.nan, math.nan, 1)
    if not math.isfinite(value):
        return Estimate(value, value, value, n)
    differences = np.concatenate([(w @ a) / (w @ p) - (w @ b) / (w @ q) for w in bootstrap_weights(n, draws=draws)])
    parts = (a - a.sum() / p.sum() * p) / p.sum() - (b - b.sum() / q.sum() * q) / q.sum()
    return resampled_estimate(value, differences, parts)


def mcnemar_exact(treated: ArrayLike, control: ArrayLike) -> float:
    """Exact two-sided p of McNemar's test: whether two cells get the same items right equally often.

        2 P(X <= min(b, c)),   X ~ Binomial(b + c, 1/2), at most 1;   b, c: items that only one side has right

    Args:
        treated: (units,) bool, or 0 and 1 with NaN where a unit is missing; it then leaves both sides.
        control: (units,), the same units in the same order.

    Returns:
        1 where the sides never differ, NaN without a unit.

    Raises:
        InputError: other units, or values that are neither 0 nor 1.
    """
    a, b = _same_units(treated, control)
    known = ~np.isnan(a - b)
    a, b = a[known], b[known]
    if not np.isin([a, b], [0.0, 1.0]).all():
        raise InputError("McNemar's test compares yes with no; expected 0, 1 or NaN on both sides")
    if not len(a):
        return math.nan
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    if not only_a + only_b:
        return 1.0
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def sign_flip_test(differences: ArrayLike, *, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of the sign-flip permutation test: whether paired differences are as likely to be negative as positive.

    Exact by enumeration where there are no more ways to flip than `draws`; otherwise from random flips, the data counted among them:
    (1 + flips whose absolute mean is at least that of the data) / (1 + draws) (Phipson and Smyth 2010).

    Args:
        differences: (units,) treated minus control; NaN is missing. A difference of 0 has no sign and only takes part in the count.
        draws: random flips.
        seed: of the flips.

    Returns:
        1 where no unit differs, NaN without a unit.
    """
    everything = np.asarray(differences, dtype=np.float64)
    known = everything[~np.isnan(everything)]
    if not len(known):
        return math.nan
    moved = known[known != 0]
    n = len(moved)
    if not n:
        return 1.0
    # Flipping a set of units changes the sum by -2 times their part. Equal sums must compare as equal however they were added.
    least = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()
    exact = n < 63 and 2**n <= draws
    rng = np.random.default_rng([seed, n])
    # Eight units share a byte: what each of its 256 values flips is added up once, and a flip of all units is a look-up a byte.
    groups = -(-n // 8)
    patterns = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64)
    parts = (np.pad(moved, (0, 8 * groups - n)).reshape(groups, 8) @ patterns.T).ravel()
    offsets = 256 * np.arange(groups)
    beyond, total = 0, 2**n if exact else draws
    chunk = max(1, min(total, _VALUES_AT_ONCE // n))
    for start in range(0, total, chunk):
        rows = min(chunk, total - start)
        if exact:
            flipped = ((np.arange(start, start + rows)[:, None] >> np.arange(n)) & 1).astype(np.float64)
            sums = flipped @ moved
        else:
            bits = rng.integers(0, 256, size=(rows, -(-n // 8)), dtype=np.uint8)
            sums = np.take(parts, bits + offsets).sum(1)
        beyond += int((np.abs(moved.sum() - 2 * sums) >= least).sum())
    return beyond / total if exact else (1 + beyond) / (1 + total)


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down p-values (1979), which hold the family-wise error rate whatever the tests share.

    Args:
        p_values: (tests,) in [0, 1]; NaN is a test that was not made: it stays NaN and does not count.

    Returns:
        (tests,) adjusted, in the order given.

    Raises:
        InputError: a p-value outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    made = np.flatnonzero(~np.isnan(p))
    if ((p[made] < 0) | (p[made] > 1)).any():
        raise InputError(f"p-values lie in [0, 1]; got {p[made].min():g} to {p[made].max():g}")
    order = made[np.argsort(p[made], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def _same_units(treated: ArrayLike, control: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(treated, dtype=np.float64), np.asarray(control, dtype=np.float64)
    if a.shape != b.shape:
        raise InputError(f"paired values must be of the same units, got {a.shape} and {b.shape}")
    return a, b
