from __future__ import annotations

import numpy as np
import pytest

from detox.errors import InputError
from detox.probing import fit_head_probes, grouped_split


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_both_sides(seed):
    groups = [f"pair {i // 2}" for i in range(21)]
    train, heldout = grouped_split(groups, heldout=0.3, seed=seed)
    assert sorted([*train, *heldout]) == list(range(21))
    assert not {groups[i] for i in train} & {groups[i] for i in heldout}
    assert len({groups[i] for i in heldout}) == 3  # 0.3 of 11 groups


@pytest.mark.parametrize(("share", "count"), [(0.001, 1), (0.999, 3)])
def test_both_sides_hold_a_group_whatever_the_share(share, count):
    train, heldout = grouped_split(["a", "b", "c", "d"], heldout=share, seed=0)
    assert (len(train), len(heldout)) == (4 - count, count)
    with pytest.raises(InputError, match="1 group of texts cannot be split"):
        grouped_split(["a", "a"], heldout=share, seed=0)


def planted_heads() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise in (60 texts, 2 layers, 3 heads, 4), but head (1, 2) knows the label along a direction, in large units."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    direction = np.array([1.0, -2.0, 0.0, 0.5])
    activations = rng.normal(size=(60, 2, 3, 4))
    activations[:, 1, 2] = 100 * (0.1 * activations[:, 1, 2] + np.outer(2 * labels - 1, direction))
    return activations.astype(np.float32), labels, direction


def test_a_planted_head_is_found_and_its_weights_point_to_label_1():
    activations, labels, direction = planted_heads()
    probes = fit_head_probes(activations, labels.tolist(), np.arange(40), np.arange(40, 60))
    assert np.unravel_index(probes.accuracy.argmax(), (2, 3)) == (1, 2)
    assert probes.accuracy[1, 2] == probes.auc[1, 2] == 1.0
    others = np.delete(probes.accuracy.ravel(), 5)
    assert others.max() < 0.9
    assert probes.weights.shape == (2, 3, 4)
    assert probes.weights[1, 2] @ direction > 0
    # In the activations' own units: along the weights every held-out text lies on its side of the middle of the classes.
    along = activations[:, 1, 2] @ probes.weights[1, 2]
    middle = (along[:40][labels[:40] == 1].mean() + along[:40][labels[:40] == 0].mean()) / 2
    assert np.array_equal(along[40:] > middle, labels[40:] == 1)


def test_weights_are_in_the_units_of_the_activations():
    activations, labels, _ = planted_heads()
    sides = np.arange(40), np.arange(40, 60)
    weights = fit_head_probes(activations, labels.tolist(), *sides).weights
    activations[..., 2] *= 1024  # a power of two: the arithmetic stays the same
    scaled = fit_head_probes(activations, labels.tolist(), *sides).weights
    np.testing.assert_allclose(scaled[..., 2], weights[..., 2] / 1024)
    np.testing.assert_allclose(np.delete(scaled, 2, axis=-1), np.delete(weights, 2, axis=-1))


def test_held_out_texts_do_not_touch_the_weights():
    activations, labels, _ = planted_heads()
    weights = fit_head_probes(activations, labels.tolist(), np.arange(40), np.arange(40, 60)).weights
    activations[40:] = -7 * activations[40:]
    assert np.array_equal(
        fit_head_probes(activations, labels.tolist(), np.arange(40), np.arange(40, 60)).weights, weights
    )


def test_wrong_input_is_one_clear_line():
    activations, labels, _ = planted_heads()
    with pytest.raises(InputError, match="the held-out texts hold only one class"):
        fit_head_probes(activations, labels.tolist(), np.arange(40), np.array([41, 43]))
    activations[3, 0, 1, 2] = np.nan
    with pytest.raises(InputError, match="layer 0 head 1"):
        fit_head_probes(activations, labels.tolist(), np.arange(40), np.arange(40, 60))
