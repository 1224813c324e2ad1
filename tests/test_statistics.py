from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detox.errors import InputError
from detox.statistics import (
    any_above,
    auc_estimate,
    bootstrap_weights,
    clustered_auc_estimate,
    expected_maximum,
    mean_estimate,
    paired_difference,
    paired_ratio_difference,
    ratio_estimate,
    roc_auc,
    weighted_aucs,
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


def test_missing_is_neither_zero_nor_the_rest():
    scores = np.array([[0.2, np.nan, 0.8], [np.nan, np.nan, 0.4]])
    got = expected_maximum(scores, 2)
    assert got[0] == 0.8
    assert math.isnan(got[1])
    estimate = mean_estimate([1.0, np.nan, 0.0, np.nan])
    assert (estimate.value, estimate.n, estimate.missing) == (0.5, 2, 2)
    assert math.isnan(mean_estimate([np.nan]).value)
    assert paired_difference([1, np.nan, 0.5], [0, 0, np.nan]).n == 1


def test_25_equal_texts_count_25_times():
    assert any_above(np.ones((1, 25)), 0.5, 1)[0] == 1.0  # the dedup that made HELM's fraction 0.027 out of 0.056


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_auc_is_scikit_learns(items):
    from sklearn.metrics import roc_auc_score

    labels, scores = [int(a) for a, _ in items], [float(b) for _, b in items]
    if len(set(labels)) < 2:
        assert math.isnan(roc_auc(labels, scores))
    else:
        assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_weighted_auc_is_that_of_repeated_items():
    rng = np.random.default_rng(0)
    labels, scores, weights = rng.integers(0, 2, 30), rng.integers(0, 6, 30), rng.integers(0, 4, 30)
    assert roc_auc(labels, scores, weights) == pytest.approx(
        roc_auc(np.repeat(labels, weights), np.repeat(scores, weights))
    )


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


def test_pairing_is_worth_having():
    rng = np.random.default_rng(2)
    base = rng.normal(size=300)
    treated = base - 0.1 + rng.normal(scale=0.05, size=300)
    difference = paired_difference(treated, base)
    assert difference.high < 0
    assert difference.excludes_zero
    assert difference.high - difference.low < 0.02
    with pytest.raises(InputError, match="same units"):
        paired_difference([1.0], [1.0, 2.0])


def test_cross_entropy_is_token_weighted():
    nats, tokens = np.array([10.0, 300.0]), np.array([10.0, 100.0])
    assert ratio_estimate(nats, tokens).value == pytest.approx(310 / 110)
    assert paired_ratio_difference(nats, tokens, nats, tokens).value == 0
    shifted = paired_ratio_difference(nats + tokens * 0.2, tokens, nats, tokens)
    assert shifted.value == pytest.approx(0.2)
    assert shifted.low == pytest.approx(0.2)


def test_auc_interval_holds_the_value_and_counts_missing():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 200)
    scores = labels + rng.normal(size=200)
    scores[:4] = np.nan
    estimate = auc_estimate(labels, scores)
    assert estimate.low < estimate.value < estimate.high
    assert (estimate.n, estimate.missing) == (196, 4)


def test_wrong_m_is_named():
    with pytest.raises(InputError, match="m=9 samples, but there are 5"):
        expected_maximum(np.zeros((2, 5)), 9)


def test_one_document_has_no_interval_and_no_tokens_have_no_mean():
    one = paired_ratio_difference([6.0], [3.0], [3.0], [3.0])
    assert (one.value, one.n) == (1.0, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert not one.excludes_zero
    for weights in (([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0])):
        assert math.isnan(paired_ratio_difference([0.0, 0.0], weights[0], [0.0, 0.0], weights[1]).value)


@pytest.mark.parametrize("seed", range(4))
def test_the_clustered_area_is_the_area_and_its_interval_that_of_resampled_clusters(seed):
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(150), 4)
    shared = np.repeat(rng.normal(size=150), 4)
    labels = np.tile([0, 0, 1, 1], 150)
    scores = np.round(shared + 0.5 * rng.normal(size=600) + 0.4 * labels, 1)
    found = clustered_auc_estimate(labels, scores, clusters)
    assert found.value == pytest.approx(roc_auc(labels, scores), abs=1e-12)
    areas = np.concatenate(
        [weighted_aucs(labels == 1, scores, w[:, clusters]) for w in bootstrap_weights(150, draws=2000)]
    )
    low, high = np.quantile(areas, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.012)
    alone = clustered_auc_estimate(labels, scores, np.arange(600))
    assert (alone.low, alone.high) == pytest.approx(
        (auc_estimate(labels, scores).low, auc_estimate(labels, scores).high), abs=0.012
    )
    assert found.high - found.low < 0.8 * (alone.high - alone.low)  # what a pair shares cancels


def test_the_clustered_area_says_where_it_knows_nothing():
    assert math.isnan(clustered_auc_estimate([1, 1], [0.0, 1.0], [0, 1]).value)
    assert math.isnan(clustered_auc_estimate([], [], []).value)
    one = clustered_auc_estimate([0, 1], [0.0, 1.0], [3, 3])
    assert (one.value, math.isnan(one.low)) == (1.0, True)
