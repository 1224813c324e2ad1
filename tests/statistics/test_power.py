from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nct, norm
from scipy.stats import t as student

from detox.errors import InputError
from detox.statistics import detectable_difference


@pytest.mark.parametrize("n", [3, 10, 200, 10_000])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_power_at_the_detectable_difference_is_the_one_asked_for(n, power):
    found = detectable_difference(0.3, n, power=power)
    assert 1 - nct.cdf(student.ppf(0.975, n - 1), n - 1, found * math.sqrt(n) / 0.3) == pytest.approx(power, abs=1e-6)


def test_many_units_are_the_normal_formula():
    expected = (norm.ppf(0.975) + norm.ppf(0.8)) * 2.0 / math.sqrt(1e6)
    assert detectable_difference(2.0, 10**6) == pytest.approx(expected, rel=1e-4)


@given(st.integers(2, 5000), st.floats(0, 10), st.floats(0.1, 0.9))
def test_more_units_see_less(n, deviation, power):
    assert detectable_difference(deviation, n + 1, power=power) <= detectable_difference(deviation, n, power=power)
    assert detectable_difference(deviation, n, power=power) <= detectable_difference(deviation, n, power=power + 0.05)


def test_numbers_out_of_range_are_named():
    assert math.isnan(detectable_difference(1.0, 1))
    assert detectable_difference(0.0, 10) == 0
    for wrong in ({"power": 1.0}, {"significance": 0.0}, {"power": 0.02}):
        with pytest.raises(InputError, match="power is"):
            detectable_difference(1.0, 10, **wrong)
    with pytest.raises(InputError, match="standard deviation"):
        detectable_difference(-1.0, 10)
