from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.errors import InputError
from detox.statistics import (
    Estimate,
    bootstrap_weights,
    expected_maximum,
    exponential,
    mean_estimate,
    mean_estimates,
    paired_difference,
    paired_ratio_difference,
    ratio_estimate,
    resampled_means,
    utility_verdict,
)


def test_missing_is_neither_zero_nor_the_rest():
    scores = np.array([[0.2, np.nan, 0.8], [np.nan, np.nan, 0.4]])
    got = expected_maximum(scores, 2)
    assert got[0] == 0.8
    assert math.isnan(got[1])
    estimate = mean_estimate([1.0, np.nan, 0.0, np.nan])
    assert (estimate.value, estimate.n, estimate.missing) == (0.5, 2, 2)
    assert math.isnan(mean_estimate([np.nan]).value)
    assert paired_difference([1, np.nan, 0.5], [0, 0, np.nan]).n == 1


def test_all_cells_share_one_stream_of_weights():
    first, again = [np.concatenate(list(bootstrap_weights(40, draws=700))) for _ in range(2)]
    assert first.shape == (700, 40)
    assert np.array_equal(first, again)
    assert (first.sum(1) == 40).all()


def test_no_events_have_an_exact_interval_not_an_empty_one():
    estimate = mean_estimate(np.zeros(100), bounds=(0, 1))
    assert estimate.low == 0
    assert estimate.high == pytest.approx(1 - 0.025**0.01)
    assert mean_estimate(np.ones(100), bounds=(0, 1)).low < 1


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_intervals_cover_what_they_claim(rate):
    """Two-level data: prompts differ in their rate, samples within a prompt go together."""
    rng = np.random.default_rng(1)
    covered, runs = 0, 400
    a = 2.0
    for _ in range(runs):
        p = rng.beta(a * rate, a * (1 - rate), size=200)
        scores = rng.random((200, 5)) < p[:, None]
        estimate = mean_estimate(scores.mean(1), draws=600)
        covered += estimate.low <= rate <= estimate.high
    assert 0.91 <= covered / runs <= 0.98


def test_cross_entropy_is_token_weighted():
    nats, tokens = np.array([10.0, 300.0]), np.array([10.0, 100.0])
    assert ratio_estimate(nats, tokens).value == pytest.approx(310 / 110)
    assert paired_ratio_difference(nats, tokens, nats, tokens).value == 0
    shifted = paired_ratio_difference(nats + tokens * 0.2, tokens, nats, tokens)
    assert shifted.value == pytest.approx(0.2)
    assert shifted.low == pytest.approx(0.2)


def test_the_means_of_several_cells_are_resampled_together():
    values = np.random.default_rng(0).random((3, 50))
    values[1, 4] = np.nan
    means = resampled_means(values, draws=150, seed=3)
    known = np.delete(values, 4, axis=1)
    weights = np.concatenate(list(bootstrap_weights(49, draws=150, seed=3)))
    np.testing.assert_allclose(means, weights @ known.T / 49)
    np.testing.assert_allclose(
        resampled_means([known[0] - known[2]], draws=150, seed=3)[:, 0], means[:, 0] - means[:, 2]
    )
    assert np.isnan(resampled_means(np.full((2, 3), np.nan), draws=4)).all()
    with pytest.raises(InputError, match=r"\(cells, units\)"):
        resampled_means([1.0, 2.0])


def test_estimates_with_the_same_gaps_are_equal():
    assert Estimate(1.0, float("nan"), np.float64("nan"), 1) == Estimate(1.0, math.nan, -np.nan, 1)
    assert Estimate(1.0, math.nan, math.nan, 1) != Estimate(2.0, math.nan, math.nan, 1)


def test_one_infinite_unit_is_an_infinite_mean_and_nothing_less():
    inf = math.inf
    ratio = ratio_estimate([3.0, inf, 2.0], [2, 2, 2])
    assert (ratio.value, ratio.low, ratio.high, ratio.n, ratio.missing) == (inf, inf, inf, 3, 0)
    assert mean_estimate([1.0, -inf, math.nan]) == Estimate(-inf, -inf, -inf, 2, 1)
    both = mean_estimate([inf, -inf, 1.0])
    assert math.isnan(both.value)  # not defined, and not 0
    assert math.isnan(both.low)
    finite = mean_estimate([1.0, 2.0, 4.0])
    assert mean_estimates([[1.0, 2.0, 4.0], [1.0, inf, 4.0]]) == [finite, Estimate(inf, inf, inf, 3)]
    with pytest.raises(InputError, match="expected them in"):
        mean_estimate([0.5, inf], bounds=(0.0, 1.0))


def test_a_difference_is_infinite_where_one_side_is_and_undefined_where_both_are():
    inf = math.inf
    finite, infinite, tokens = [3.0, 4.0, 5.0], [3.0, inf, 5.0], [2, 2, 2]
    assert paired_ratio_difference(infinite, tokens, finite, tokens) == Estimate(inf, inf, inf, 3)
    assert paired_ratio_difference(finite, tokens, infinite, tokens) == Estimate(-inf, -inf, -inf, 3)
    assert math.isnan(paired_ratio_difference(infinite, tokens, infinite, tokens).value)
    assert paired_difference(infinite, finite) == Estimate(inf, inf, inf, 3)
    # A unit that is infinite on both sides has no difference: it is missing, and counted.
    assert (paired_difference(infinite, infinite).n, paired_difference(infinite, infinite).missing) == (2, 1)
    for change, verdict in ((inf, "worse"), (-inf, "better"), (math.nan, "inconclusive")):
        assert utility_verdict(Estimate(change, change, change, 3), margin=0.05, higher_is_better=False) == verdict


@given(st.lists(st.floats(-700, 2000), min_size=3, max_size=3))
def test_an_exponential_is_infinite_where_the_largest_float_ends(values):
    low, value, high = sorted(values)
    found = exponential(Estimate(value, low, high, 5, 2))
    for mine, one in zip((found.low, found.value, found.high), (low, value, high), strict=True):
        assert mine == (math.inf if one > math.log(sys.float_info.max) else pytest.approx(math.exp(one)))
    assert (found.n, found.missing) == (5, 2)
