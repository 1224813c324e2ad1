from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detox.errors import InputError
from detox.statistics import (
    any_above,
    expected_maximum,
    mean_estimate,
    resampled_means,
)

unit = st.floats(0, 1, width=32)


@given(arrays(np.float64, (3, 6), elements=unit), st.integers(1, 6))
@settings(max_examples=40)
def test_expected_maximum_is_brute_force(scores, m):
    brute = [np.mean([max(c) for c in itertools.combinations(row, m)]) for row in scores]
    np.testing.assert_allclose(expected_maximum(scores, m), brute, atol=1e-12)
    np.testing.assert_allclose(expected_maximum(scores, 6), scores.max(1))


@given(arrays(np.float64, (3, 6), elements=unit), st.integers(1, 6))
@settings(max_examples=40)
def test_any_above_is_brute_force(scores, m):
    brute = [np.mean([max(c) >= 0.5 for c in itertools.combinations(row, m)]) for row in scores]
    np.testing.assert_allclose(any_above(scores, 0.5, m), brute, atol=1e-12)


def test_25_equal_texts_count_25_times():
    assert any_above(np.ones((1, 25)), 0.5, 1)[0] == 1.0  # the dedup that made HELM's fraction 0.027 out of 0.056


def test_wrong_m_is_named():
    with pytest.raises(InputError, match="m=9 samples, but there are 5"):
        expected_maximum(np.zeros((2, 5)), 9)


holes = arrays(np.float64, (5, 6), elements=st.one_of(unit, st.just(np.nan)))


@given(holes, st.integers(1, 6))
@settings(max_examples=60)
def test_with_samples_missing_both_are_brute_force_over_those_that_are_known(scores, m):
    known = [row[~np.isnan(row)] for row in scores]
    sets = [list(itertools.combinations(row, m)) for row in known]
    maxima = [np.mean([max(c) for c in one]) if one else np.nan for one in sets]
    events = [np.mean([max(c) >= 0.5 for c in one]) if one else np.nan for one in sets]
    np.testing.assert_allclose(expected_maximum(scores, m), maxima, atol=1e-12)
    np.testing.assert_allclose(any_above(scores, 0.5, m), events, atol=1e-12)


@given(arrays(np.float64, (4, 6), elements=unit), st.integers(1, 5), st.permutations(range(6)))
@settings(max_examples=40)
def test_more_samples_never_have_a_smaller_maximum_and_order_does_not_matter(scores, m, order):
    assert (expected_maximum(scores, m + 1) >= expected_maximum(scores, m) - 1e-12).all()
    assert (any_above(scores, 0.5, m + 1) >= any_above(scores, 0.5, m) - 1e-12).all()
    np.testing.assert_allclose(expected_maximum(scores[:, order], m), expected_maximum(scores, m))
    np.testing.assert_allclose(any_above(scores[:, order], 0.5, m), any_above(scores, 0.5, m))
    np.testing.assert_allclose(expected_maximum(scores, 1), scores.mean(1))


def test_a_prompt_without_enough_samples_is_missing_not_harmless():
    assert np.isnan(any_above([[np.nan, np.nan]], 0.5, 1)).all()
    assert len(any_above(np.zeros((0, 5)), 0.5, 5)) == len(expected_maximum(np.zeros((0, 5)), 5)) == 0
    with pytest.raises(InputError, match="m=0"):
        any_above([[0.1, 0.2]], 0.5, 0)
    with pytest.raises(InputError, match="shape"):
        any_above([0.1, 0.2], 0.5, 1)


def test_prompts_are_resampled_and_not_the_samples_within():
    """Drawing a prompt's samples again repeats some of them, so that their maximum falls; drawing prompts again does no such thing."""
    rng = np.random.default_rng(0)
    scores = rng.random((800, 5))  # E[max of 5] = 5 / 6
    maxima = expected_maximum(scores, 5)
    found = mean_estimate(maxima, bounds=(0.0, 1.0))
    assert found.low < 5 / 6 < found.high
    across = resampled_means(maxima[None])[:, 0]
    assert abs(across.mean() - found.value) < 0.001
    within = np.take_along_axis(scores, rng.integers(0, 5, scores.shape), axis=1)
    assert expected_maximum(within, 5).mean() < found.low  # what the trap would report
