from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from detox.probing.explained import (
    auc_over_groups,
    covariates_auc,
    explained_variance,
    predicted,
    stratified_auc,
    stratified_auc_over_groups,
)
from detox.statistics import roc_auc

N = 400
TRAIN, HELDOUT = np.arange(0, 300), np.arange(300, N)
GROUPS = np.arange(N)


def test_r2_is_the_formula_on_held_out_texts():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(N, 2)) * [1, 100] + [0, 7]
    p = np.stack([z @ [1.0, 0.01] + rng.normal(size=N), rng.normal(size=N), 3 * z[:, 0]], axis=1)
    value, low, high = explained_variance(p, z, TRAIN, HELDOUT, GROUPS, draws=100)
    design = np.column_stack([np.ones(N), z])
    fitted = design @ np.linalg.lstsq(design[TRAIN], p[TRAIN], rcond=None)[0]
    left = ((p - fitted)[HELDOUT] ** 2).sum(0)
    total = ((p[HELDOUT] - p[TRAIN].mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(value, 1 - left / total)
    np.testing.assert_allclose(predicted(p, z, TRAIN), fitted)
    assert value[0] == pytest.approx(2 / 3, abs=0.12)
    assert value[1] < 0.03
    assert value[2] == pytest.approx(1)
    assert (low <= value + 1e-9).all()
    assert (value <= high + 1e-9).all()


def test_what_predicts_worse_than_the_mean_is_below_zero():
    z = np.arange(N, dtype=float)[:, None]
    p = (
        np.where(np.arange(N) < 300, np.arange(N) % 7, 0.0)[:, None]
        + np.where(np.arange(N) < 300, z[:, 0], -z[:, 0])[:, None]
    )
    assert explained_variance(p, z, TRAIN, HELDOUT, GROUPS, draws=20)[0][0] < 0


def test_a_covariate_that_never_changes_explains_nothing():
    p = np.random.default_rng(1).normal(size=(N, 1))
    value, *_ = explained_variance(p, np.ones((N, 1)), TRAIN, HELDOUT, GROUPS, draws=20)
    assert value[0] == pytest.approx(0, abs=1e-9)


def test_auc_within_strata_is_over_pairs_of_one_stratum():
    rng = np.random.default_rng(2)
    labels, strata, scores = rng.integers(0, 2, 60), rng.integers(0, 4, 60), rng.integers(0, 5, 60).astype(float)
    pairs = [
        1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
        for i, j in itertools.product(range(60), repeat=2)
        if labels[i] > labels[j] and strata[i] == strata[j]
    ]
    assert stratified_auc(labels, scores, strata) == pytest.approx(np.mean(pairs))
    weights = rng.integers(0, 3, 60).astype(float)
    kept = np.repeat(np.arange(60), weights.astype(int))
    assert stratified_auc(labels, scores, strata, weights) == pytest.approx(
        stratified_auc(labels[kept], scores[kept], strata[kept])
    )
    assert stratified_auc(labels, scores, np.zeros(60, dtype=int)) == pytest.approx(roc_auc(labels, scores))
    assert math.isnan(stratified_auc(labels, scores, labels))


def test_a_probe_that_only_knows_a_confound_is_unmasked():
    """Long texts are more often toxic; the score is length. Plainly it knows toxicity, among equally long texts it does not."""
    rng = np.random.default_rng(3)
    length = rng.normal(size=N)
    labels = (length + rng.normal(size=N) > 0).astype(int)
    strata = np.searchsorted(np.quantile(length, np.linspace(0, 1, 41)[1:-1]), length)
    score = length + 0.01 * rng.normal(size=N)
    assert auc_over_groups(labels, score, GROUPS, draws=50).low > 0.7
    assert stratified_auc_over_groups(labels, score, strata, GROUPS, draws=50).value < 0.62
    left = score - predicted(score[:, None], length[:, None], TRAIN)[:, 0]
    assert roc_auc(labels[HELDOUT], left[HELDOUT]) == pytest.approx(0.5, abs=0.12)
    alone = covariates_auc(length[:, None], labels, TRAIN, HELDOUT, GROUPS, draws=50)
    assert alone.value == pytest.approx(roc_auc(labels[HELDOUT], length[HELDOUT]))
    assert alone.low < alone.value < alone.high


def test_intervals_are_over_groups():
    rng = np.random.default_rng(5)
    labels, scores = rng.integers(0, 2, 60), rng.normal(size=60)
    alone = auc_over_groups(labels, scores, np.arange(60), draws=100)
    copies = auc_over_groups(labels.repeat(3), scores.repeat(3), np.arange(60).repeat(3), draws=100)
    assert (alone.value, alone.low, alone.high) == pytest.approx((copies.value, copies.low, copies.high))
    one = auc_over_groups(labels, scores, np.zeros(60, dtype=int))
    assert math.isnan(one.low)
    assert one.value == alone.value
