from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from detox.statistics import (
    auc_estimate,
    bias_aucs,
    bootstrap_weights,
    clustered_auc_estimate,
    independent_pairs,
    resampled_area,
    resampled_area_difference,
    roc_auc,
    weighted_aucs,
)


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


def test_auc_interval_holds_the_value_and_counts_missing():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 200)
    scores = labels + rng.normal(size=200)
    scores[:4] = np.nan
    estimate = auc_estimate(labels, scores)
    assert estimate.low < estimate.value < estimate.high
    assert (estimate.n, estimate.missing) == (196, 4)


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


@pytest.mark.parametrize("least", [2, 9, 40])
def test_a_perfect_area_is_as_certain_as_pairs_that_share_no_item(least):
    labels = np.r_[np.ones(least), np.zeros(60)].astype(int)
    one, none = auc_estimate(labels, labels * 2.0), auc_estimate(labels, -labels)
    # The area under which `least` independent pairs are all in order with a probability of 2.5 %.
    assert (one.value, one.low, one.high) == pytest.approx((1.0, 0.025 ** (1 / least), 1.0))
    assert (none.value, none.low, none.high) == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / least)))
    assert clustered_auc_estimate(labels, labels) == one


def test_one_item_out_of_place_makes_an_area_no_more_certain_than_none():
    labels = np.repeat([1, 0], [30, 60])
    almost = np.where(np.arange(90) == 89, 1.0, labels)  # one negative ties with the positives
    perfect, found = auc_estimate(labels, labels), auc_estimate(labels, almost)
    assert found.low < perfect.low < found.value < found.high <= 1
    assert found.high > 0.999


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=9))
def test_independent_pairs_are_those_of_a_matching(items):
    import networkx

    positive, clusters = np.array([a for a, _ in items]), np.array([b for _, b in items])
    graph = networkx.Graph()
    for i, up in enumerate(positive):
        for j, down in enumerate(positive):
            if up and not down and clusters[i] != clusters[j]:
                graph.add_edge(int(clusters[i]), int(clusters[j]))
    assert independent_pairs(positive, clusters) == len(networkx.max_weight_matching(graph, maxcardinality=True))
    assert independent_pairs(positive) == min(positive.sum(), (~positive).sum())


def test_areas_that_are_both_perfect_differ_by_nothing_but_not_for_certain():
    ones = np.ones(100)
    same = resampled_area_difference(1.0, ones, 1.0, ones, 30, 60)
    end = 1 - 0.025 ** (1 / 30)
    assert (same.value, same.low, same.high) == pytest.approx((0.0, -end, end))
    rng = np.random.default_rng(0)
    a, b = 0.8 + 0.03 * rng.normal(size=1000), 0.7 + 0.03 * rng.normal(size=1000)
    apart = resampled_area_difference(0.8, a, 0.7, b, 30, 60)
    assert (apart.low, apart.high) == pytest.approx(tuple(np.quantile(a - b, [0.025, 0.975])))
    assert math.isnan(resampled_area(1.0, np.full(9, np.nan), 3, 6).low)


def test_the_aucs_of_a_bias_take_any_estimate_of_an_area():
    labels, scores, member = [1, 0, 1, 0, 1, 0], [0.9, 0.1, 0.8, 0.3, 0.2, 0.6], [True, True, True, False, False, False]
    plain, quick = bias_aucs(labels, scores, member), bias_aucs(labels, scores, member, estimate=clustered_auc_estimate)
    assert [area.value for area in plain.values()] == [area.value for area in quick.values()] == [1.0, 1.0, 1.0]
    assert {kind: area.n for kind, area in plain.items()} == {"subgroup": 3, "bpsn": 2, "bnsp": 4}


@pytest.mark.slow
@pytest.mark.parametrize(("positives", "negatives"), [(12, 12), (40, 40), (20, 150)])
@pytest.mark.parametrize("truth", [0.97, 0.99, 0.998])
@pytest.mark.parametrize("shape", ["normal", "two values"])
def test_the_interval_of_an_area_near_one_holds_it(positives, negatives, truth, shape):
    labels, held = np.repeat([1, 0], [positives, negatives]), np.zeros(2)
    for run in range(200):
        rng = np.random.default_rng([7, run])
        scores = (
            rng.normal(size=len(labels)) + labels * math.sqrt(2) * ndtri(truth)
            if shape == "normal"
            else np.where(labels == 1, np.where(rng.random(len(labels)) < truth, 1.0, -1.0), 0.0)
        )
        found = auc_estimate(labels, scores, draws=200), clustered_auc_estimate(labels, scores)
        held += [one.low <= truth <= one.high for one in found]
    # 200 runs at 95 % hold 190 +- 3.1; two standard errors below. The interval is conservative, so that there is no upper bound.
    assert held.min() >= 184
