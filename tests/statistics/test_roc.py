from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.statistics import (
    auc_estimate,
    bootstrap_weights,
    clustered_auc_estimate,
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
