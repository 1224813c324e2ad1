from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from detox.errors import InputError
from detox.models.activations import read_heads
from detox.models.states import residual_states
from detox.probing import fit_head_probes, grouped_split, linear
from tests.models.test_likelihood import tiny


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


def one_by_one(activations, labels, train, heldout, *, C=1.0, **options):
    """Weights, accuracies, areas: a loop of scikit-learn over the heads, in float64."""
    _, layers, heads, dim = activations.shape
    weights, accuracy, auc = np.zeros((layers, heads, dim)), np.zeros((layers, heads)), np.zeros((layers, heads))
    for layer in range(layers):
        for head in range(heads):
            x = activations[:, layer, head].astype(np.float64)
            mean, scale = x[train].mean(0), x[train].std(0)
            z = (x - mean) / scale
            probe = LogisticRegression(C=C, max_iter=100_000, **options).fit(z[train], labels[train])
            margins = probe.decision_function(z[heldout])
            weights[layer, head] = probe.coef_[0] / scale
            accuracy[layer, head] = np.mean((margins > 0) == (labels[heldout] == 1))
            auc[layer, head] = roc_auc_score(labels[heldout], margins)
    return weights, accuracy, auc


def texts_of_two_kinds(count: int) -> tuple[list[str], np.ndarray]:
    """Random sentences of the tiny tokenizer's words; a third of their words tells the label, most of the time."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size=count)
    words = np.where(rng.uniform(size=(count, 4)) < 0.7, labels[:, None], 1 - labels[:, None])
    texts = [
        " ".join(f"topic{rng.integers(1, 9)} {'rude' if word else 'kind'}{rng.integers(1, 5)} says" for word in row)
        for row in words
    ]
    return texts, labels


@pytest.mark.parametrize("C", [0.1, 1.0])
def test_the_probes_of_a_model_are_those_of_a_loop_of_scikit_learn(C):
    texts, labels = texts_of_two_kinds(160)
    activations = read_heads(tiny("llama"), texts).numpy()
    sides = np.arange(120), np.arange(120, 160)
    ours = fit_head_probes(activations, labels.tolist(), *sides, C=C)
    weights, accuracy, auc = one_by_one(activations, labels, *sides, C=C, tol=1e-10)
    assert np.abs(ours.weights - weights).max() < 1e-4 * np.abs(weights).max()
    np.testing.assert_array_equal(ours.accuracy, accuracy)
    np.testing.assert_allclose(ours.auc, auc, atol=1e-12)
    assert len(np.unique(accuracy)) > 3  # heads differ, so that a choice between them can be wrong
    # Records from before: scikit-learn stopped at its default tolerance. The best heads are the same, or as good.
    _, before, _ = one_by_one(activations, labels, *sides, C=C)
    np.testing.assert_array_equal(before, ours.accuracy)


def test_probes_of_the_residual_stream_with_more_dimensions_than_texts():
    texts, labels = texts_of_two_kinds(60)
    states = residual_states(tiny("gpt2"), texts, layers=[1, 2]).numpy()[:, :, None]
    sides = np.arange(30), np.arange(30, 60)
    assert states.shape[-1] > 30
    ours = fit_head_probes(states, labels.tolist(), *sides)
    weights, accuracy, _ = one_by_one(states, labels, *sides, tol=1e-10)
    assert np.abs(ours.weights - weights).max() < 1e-4 * np.abs(weights).max()
    np.testing.assert_array_equal(ours.accuracy, accuracy)


def test_how_many_heads_are_fitted_together_changes_nothing(monkeypatch):
    activations, labels, _ = planted_heads()
    sides = np.arange(40), np.arange(40, 60)
    together = fit_head_probes(activations, labels.tolist(), *sides)
    monkeypatch.setattr(linear, "VALUES_AT_ONCE", 1)
    alone = fit_head_probes(activations, labels.tolist(), *sides)
    np.testing.assert_allclose(alone.weights, together.weights, atol=1e-8)
    np.testing.assert_allclose(alone.margins, together.margins, atol=1e-7)


def test_areas_count_ties_half():
    """Features of three values: most texts share their margin with others."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 2
    activations = (rng.integers(0, 3, size=(90, 2, 2, 1)) + labels[:, None, None, None]).astype(np.float32)
    probes = fit_head_probes(activations, labels.tolist(), np.arange(40), np.arange(40, 90))
    for layer in range(2):
        for head in range(2):
            margins = probes.margins[:, layer, head]
            assert len(np.unique(margins)) <= 4
            assert probes.auc[layer, head] == pytest.approx(roc_auc_score(labels[40:], margins), abs=1e-12)


def test_half_precision_files_and_tensors_are_fitted_in_full_precision(tmp_path):
    activations, labels, _ = planted_heads()
    sides = np.arange(40), np.arange(40, 60)
    half = activations.astype(np.float16)
    expected = fit_head_probes(half.astype(np.float64), labels.tolist(), *sides)
    np.save(tmp_path / "heads.npy", half)
    mapped = np.load(tmp_path / "heads.npy", mmap_mode="r")
    assert np.array_equal(fit_head_probes(mapped, labels.tolist(), *sides).weights, expected.weights)
    assert np.array_equal(fit_head_probes(torch.from_numpy(half), labels.tolist(), *sides).weights, expected.weights)
    brain = torch.from_numpy(activations).bfloat16()
    from_brain = fit_head_probes(brain, labels.tolist(), *sides)
    assert np.array_equal(from_brain.weights, fit_head_probes(brain.double(), labels.tolist(), *sides).weights)


def test_a_constant_feature_has_no_weight_and_changes_nothing():
    activations, labels, _ = planted_heads()
    sides = np.arange(40), np.arange(40, 60)
    without = fit_head_probes(activations[..., :3], labels.tolist(), *sides)
    activations[..., 3] = 0.1  # no sum of it is exact
    constant = fit_head_probes(activations, labels.tolist(), *sides)
    np.testing.assert_allclose(constant.weights[..., 3], 0, atol=1e-12)
    np.testing.assert_allclose(constant.weights[..., :3], without.weights, atol=1e-9)


def test_wrong_input_is_one_clear_line():
    activations, labels, _ = planted_heads()
    with pytest.raises(InputError, match=r"shape \(60, 6, 4\); expected \(texts, layers, heads, head_dim\)"):
        fit_head_probes(activations.reshape(60, 6, 4), labels.tolist(), np.arange(40), np.arange(40, 60))
    with pytest.raises(InputError, match="and 59 texts"):
        fit_head_probes(activations, labels[:59].tolist(), np.arange(40), np.arange(40, 59))
    with pytest.raises(InputError, match="the held-out texts hold only one class"):
        fit_head_probes(activations, labels.tolist(), np.arange(40), np.array([41, 43]))
    activations[3, 0, 1, 2] = np.nan
    with pytest.raises(InputError, match=r"layer 0 head 1 .*first in text 3"):
        fit_head_probes(activations, labels.tolist(), np.arange(40), np.arange(40, 60))
