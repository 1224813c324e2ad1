from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.errors import InputError
from detox.statistics import MISSING_LIMIT, Estimate, utility_verdict

ORDER = ["worse", "inconclusive", "non-inferior", "better"]
NUMBERS = st.floats(-1, 1)


def between(low: float, high: float, *, n: int = 1000, missing: int = 0) -> Estimate:
    return Estimate((low + high) / 2, low, high, n, missing)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.05, "better"),
        (-0.01, 0.05, "non-inferior"),
        (-0.015, -0.005, "non-inferior"),  # a loss that is shown, and shown to be small
        (-0.05, 0.05, "inconclusive"),
        (-0.05, -0.001, "worse"),
        (-0.09, -0.05, "worse"),
        (-0.02, 0.01, "inconclusive"),  # the margin itself is not within it
        (math.nan, math.nan, "inconclusive"),
    ],
)
def test_the_four_verdicts(low, high, verdict):
    assert utility_verdict(between(low, high), margin=0.02, higher_is_better=True) == verdict
    assert utility_verdict(between(-high, -low), margin=0.02, higher_is_better=False) == verdict


@given(NUMBERS, NUMBERS, st.floats(0, 1), st.floats(0, 1))
def test_a_better_interval_never_has_a_worse_verdict(a, b, up, margin):
    low, high = min(a, b), max(a, b)
    before, after = (
        utility_verdict(between(low + by, high + by), margin=margin, higher_is_better=True) for by in (0.0, up)
    )
    assert ORDER.index(after) >= ORDER.index(before)


@given(NUMBERS, NUMBERS, st.floats(0, 1), st.floats(0, 1))
def test_a_wider_margin_never_has_a_worse_verdict(a, b, margin, more):
    estimate = between(min(a, b), max(a, b))
    narrow, wide = (utility_verdict(estimate, margin=one, higher_is_better=True) for one in (margin, margin + more))
    assert ORDER.index(wide) >= ORDER.index(narrow)


def test_without_an_interval_or_with_too_much_missing_there_is_no_verdict():
    assert utility_verdict(between(0.1, 0.2, n=98, missing=2), margin=0, higher_is_better=True) == "better"
    assert utility_verdict(between(0.1, 0.2, n=97, missing=3), margin=0, higher_is_better=True) == "inconclusive"
    assert between(0, 1, n=97, missing=3).share_missing > MISSING_LIMIT
    assert Estimate(math.nan, math.nan, math.nan, 0).share_missing == 0
    with pytest.raises(InputError, match="margin is -1"):
        utility_verdict(between(0.1, 0.2), margin=-1, higher_is_better=True)
