"""What a comparison of this size can see."""

from __future__ import annotations

import math

from scipy import special

from detox.errors import InputError


def detectable_difference(
    standard_deviation: float, n: int, *, power: float = 0.8, significance: float = 0.05
) -> float:
    """Smallest mean difference that a two-sided paired t-test of n units finds with this power.

    The noncentrality at which a t of n - 1 degrees of freedom exceeds its critical value with probability `power`, times
    standard_deviation / sqrt(n): about 2.8 standard errors at the defaults. The other tail, below significance / 2, is left out.

    Args:
        standard_deviation: of the differences of units (treated minus control of one prompt), at least 0.
        n: units.
        power: above significance / 2, below 1.
        significance: of the test, above 0, below 1.

    Returns:
        In the units of the differences; NaN below two units.

    Raises:
        InputError: numbers out of range.
    """
    if not standard_deviation >= 0:
        raise InputError(f"standard deviation is {standard_deviation}; expected 0 or more")
    if not 0 < significance < 1 or not significance / 2 < power < 1:
        raise InputError(f"power is {power} at significance {significance}; expected 0 < significance / 2 < power < 1")
    if n < 2:
        return math.nan
    critical = special.stdtrit(n - 1, 1 - significance / 2)
    return float(special.nctdtrinc(n - 1, 1 - power, critical)) * standard_deviation / math.sqrt(n)
