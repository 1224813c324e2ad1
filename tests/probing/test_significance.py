from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.probing.significance import (
    _shuffled,
    accuracy_intervals,
    adjusted_p,
    best_accuracy_null,
    halves,
)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1)), min_size=2, max_size=40), st.integers(0, 5))
def test_shuffled_labels_stay_in_groups_of_their_size(rows, seed):
    groups = np.unique([g for g, _ in rows], return_inverse=True)[1]
    labels = np.array([label for _, label in rows])
    shuffled = _shuffled(labels, groups, np.random.default_rng(seed))
    sizes = np.bincount(groups)

    def sums(y):
        return sorted((int(sizes[g]), int(y[groups == g].sum())) for g in range(len(sizes)))

    assert sums(shuffled) == sums(labels)


def test_pairs_stay_pairs_and_every_order_comes():
    groups, labels = np.array([0, 1, 0, 1]), np.array([0, 1, 1, 0])
    rng = np.random.default_rng(0)
    seen = {tuple(_shuffled(labels, groups, rng).tolist()) for _ in range(100)}
    assert seen == {(a, b, 1 - a, 1 - b) for a in (0, 1) for b in (0, 1)}


def test_the_null_is_that_of_the_best():
    rng = np.random.default_rng(1)
    margins, labels, groups = rng.normal(size=(60, 40)), np.arange(60) % 2, np.arange(60)
    every = best_accuracy_null(margins, labels, groups, draws=400)
    one = best_accuracy_null(margins[:, :1], labels, groups, draws=400)
    assert np.quantile(every, 0.05) > np.quantile(one, 0.6)
    assert one.mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(every, best_accuracy_null(margins, labels, groups, draws=400))


@pytest.mark.parametrize("paired", [False, True])
def test_the_best_of_many_that_know_nothing_is_seldom_better_than_chance(paired):
    rng = np.random.default_rng(2)
    found = []
    for _ in range(150):
        margins = rng.normal(size=(40, 1)) * 0.7 + rng.normal(size=(40, 12))  # heads err together
        groups = np.arange(40) // 2 if paired else np.arange(40)
        labels = (
            (np.arange(40) + rng.integers(0, 2, 20).repeat(2)) % 2 if paired else rng.permutation(np.arange(40) % 2)
        )
        null = best_accuracy_null(margins, labels, groups, draws=100)
        accuracy = ((margins > 0) == (labels == 1)[:, None]).mean(0)
        found.append(adjusted_p(accuracy, null).min())
    assert np.mean(np.array(found) <= 0.1) <= 0.1 + 3 * (0.1 * 0.9 / 150) ** 0.5
    assert np.mean(found) > 0.4  # nor is it hidden


def test_a_head_that_knows_is_better_than_chance_and_one_that_says_always_the_same_is_not():
    rng = np.random.default_rng(3)
    labels, groups = np.r_[np.ones(30), np.zeros(70)].astype(int), np.arange(100)
    margins = np.stack([labels + rng.normal(size=100) - 0.5, -np.ones(100)], axis=1)
    accuracy = ((margins > 0) == (labels == 1)[:, None]).mean(0)
    p = adjusted_p(accuracy, best_accuracy_null(margins, labels, groups, draws=200))
    assert accuracy[1] == 0.7
    assert p[1] == 1
    rest = adjusted_p(accuracy, best_accuracy_null(margins[:, :1], labels, groups, draws=200))
    assert rest[0] < 0.01


def test_adjusted_p_counts():
    null = np.array([0.5, 0.6, 0.6, 0.7])
    np.testing.assert_allclose(adjusted_p(np.array([[0.4, 0.6], [0.7, 0.8]]), null), [[1.0, 4 / 5], [2 / 5, 1 / 5]])


def test_texts_that_come_together_widen_the_interval():
    rng = np.random.default_rng(4)
    right = rng.random((50, 3)) < 0.7
    alone = accuracy_intervals(right, np.arange(50), draws=400)
    copies = accuracy_intervals(right.repeat(4, axis=0), np.arange(50).repeat(4), draws=400)
    np.testing.assert_allclose(alone, copies, atol=1e-12)  # four copies of a text say no more than one
    free = accuracy_intervals(right.repeat(4, axis=0), np.arange(200), draws=400)
    assert (free[1] - free[0] < 0.7 * (alone[1] - alone[0])).all()
    assert (alone[0] < right.mean(0)).all()
    assert (right.mean(0) < alone[1]).all()


def test_halves_part_the_texts_and_no_group():
    groups = np.repeat(np.arange(10), 3)
    first, second = halves(groups, seed=1)
    assert sorted([*first, *second]) == list(range(30))
    assert not set(groups[first]) & set(groups[second])
    assert len(set(groups[first])) == 5
