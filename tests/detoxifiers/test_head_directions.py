from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.detoxifiers.head_directions import random_unit, selected_heads, shuffled_labels, towards_safe
from detox.errors import InputError


def planted(rng, pairs=40, dim=6, spread=3.0):
    """Texts whose toxic side lies along one axis from the safe one, in groups that lie elsewhere each."""
    axis = rng.normal(size=dim)
    axis /= np.linalg.norm(axis)
    places = rng.normal(size=(pairs, dim)) * spread
    steps = rng.uniform(0.5, 2.0, size=pairs)[:, None] * axis
    noise = rng.normal(size=(2 * pairs, dim)) * 0.05
    x = np.concatenate([places, places + steps]) + noise
    labels = np.repeat([0, 1], pairs)
    groups = [f"g{i}" for i in range(pairs)] * 2
    return x, labels, groups, axis


def test_the_principal_component_of_differences_sees_through_what_groups_have_in_common():
    x, labels, groups, axis = planted(np.random.default_rng(0))
    found = towards_safe(x, labels, groups, direction="pca", probe=np.zeros(6))
    assert found @ -axis > 0.999
    # The formula: the leading eigenvector of the sum of d d^T over groups, towards safe.
    d = np.stack([x[i] - x[i + 40] for i in range(40)])
    values, vectors = np.linalg.eigh(d.T @ d)
    leading = vectors[:, values.argmax()]
    np.testing.assert_allclose(found, leading * np.sign(leading @ d.mean(0)), atol=1e-9)


def test_other_directions_are_means_and_weights():
    x, labels, groups, axis = planted(np.random.default_rng(1))
    mean = x[labels == 0].mean(0) - x[labels == 1].mean(0)
    np.testing.assert_allclose(
        towards_safe(x, labels, groups, direction="mass-mean", probe=axis), mean / np.linalg.norm(mean)
    )
    np.testing.assert_allclose(towards_safe(x, labels, groups, direction="probe", probe=2 * axis), -axis)
    same = np.ones((4, 3))
    assert not towards_safe(same, np.array([0, 1, 0, 1]), list("aabb"), direction="mass-mean", probe=axis).any()


def test_differences_need_both_sides():
    x, labels, _, axis = planted(np.random.default_rng(2), pairs=3)
    with pytest.raises(InputError, match="'pca' needs contrasts with safe and toxic continuations, and 0 have both"):
        towards_safe(x, labels, [str(i) for i in range(6)], direction="pca", probe=axis)


def test_selections():
    accuracy = np.array([[0.5, 0.9, 0.6], [0.9, 0.7, 0.4]])
    every = [(0, 1), (1, 0), (1, 1), (0, 2), (0, 0), (1, 2)]
    for selection, number, threshold, expected in (
        ("top", 2, 0.0, every[:2]),
        ("top", 99, 0.0, every),
        ("threshold", 1, 0.6, every[:4]),
        ("all", 1, 0.99, every),
    ):
        assert selected_heads(accuracy, selection=selection, num_heads=number, threshold=threshold) == expected
    with pytest.raises(InputError, match=r"reaches the threshold 0.95; the best has 0.900"):
        selected_heads(accuracy, selection="threshold", num_heads=1, threshold=0.95)


@given(st.integers(2, 30), st.integers(0, 20), st.integers(0, 5))
def test_shuffled_labels_say_nothing_and_keep_the_classes(pairs, singles, seed):
    rng = np.random.default_rng(seed)
    labels = np.array([0, 1] * pairs + list(rng.integers(0, 2, size=singles)))
    groups = [f"p{i // 2}" for i in range(2 * pairs)] + [f"s{i}" for i in range(singles)]
    found = shuffled_labels(labels, groups, seed=seed)
    assert sorted(found) == sorted(labels)
    turned = found[: 2 * pairs] != labels[: 2 * pairs]
    assert turned.sum() == 2 * (pairs // 2)  # half of the pairs, both sides
    assert (turned[::2] == turned[1::2]).all()
    assert (found == shuffled_labels(labels, groups, seed=seed)).all()


def test_texts_of_one_group_and_side_keep_one_label():
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 1])
    groups = ["a", "a", "a", "b", "b", "b", "c", "c", "d", "d"]
    for seed in range(8):
        found = shuffled_labels(labels, groups, seed=seed)
        assert all(len({f for f, g in zip(found, groups, strict=True) if g == name}) == 1 for name in "abcd")


def test_random_directions_are_evenly_spread():
    drawn = np.stack([random_unit(8, seed=s, layer=layer, head=2) for s in range(400) for layer in range(3)])
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1)
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), np.eye(8) / 8, atol=0.02)
    assert len(np.unique(drawn.round(12), axis=0)) == len(drawn)
