from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.errors import InputError, UnknownName
from detox.probing import entanglement
from detox.probing.entanglement import (
    cosines,
    direction_maps,
    largest_cosines,
    measure_entanglement,
    random_largest_cosine,
    welch_bound,
    whitened,
)


def sphere(rng, *shape):
    v = rng.normal(size=shape)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


@given(st.integers(2, 20), st.integers(1, 8), st.integers(0, 10))
def test_no_directions_share_less_than_welchs_bound(n, d, seed):
    v = sphere(np.random.default_rng(seed), n, d)
    assert largest_cosines(v).max() >= welch_bound(n, d) - 1e-12


@pytest.mark.parametrize("d", [2, 3, 5])
def test_a_simplex_reaches_the_bound_and_axes_share_nothing(d):
    # d + 1 corners of a simplex: all cosines are -1/d.
    corners = np.linalg.svd(np.eye(d + 1) - 1 / (d + 1))[0][:, :d]
    np.testing.assert_allclose(largest_cosines(corners), welch_bound(d + 1, d))
    assert welch_bound(d + 1, d) == pytest.approx(1 / d)
    assert welch_bound(d, d) == 0
    np.testing.assert_allclose(largest_cosines(np.eye(d)), 0)


def test_random_directions_share_what_is_expected():
    assert random_largest_cosine(2, 2) == pytest.approx(2 / math.pi)
    assert random_largest_cosine(5, 1) == 1.0
    rng = np.random.default_rng(0)
    for n, d in ((3, 4), (12, 4), (6, 32)):
        simulated = largest_cosines(sphere(rng, 4000, n, d))[:, 0]
        assert random_largest_cosine(n, d) == pytest.approx(
            simulated.mean(), abs=4 * simulated.std() / len(simulated) ** 0.5
        )


def test_what_has_no_cosine_is_refused_or_missing():
    for n, d in ((1, 4), (3, 0)):
        with pytest.raises(InputError, match="no cosine"):
            welch_bound(n, d)
        with pytest.raises(InputError, match="no cosine"):
            random_largest_cosine(n, d)
    with pytest.raises(InputError, match="no other"):
        largest_cosines(np.ones((1, 3)))
    assert np.isnan(cosines([[0.0, 0.0], [1.0, 0.0]])[0, 1])
    with pytest.raises(UnknownName, match="means"):
        direction_maps(np.ones((2, 1), dtype=bool), np.ones(2), kind="mean")


def test_maps_are_the_formulas():
    rng = np.random.default_rng(1)
    x, z, w = rng.normal(size=(40, 3)), rng.random((40, 2)) < 0.4, rng.integers(0, 3, 40).astype(float)
    repeated = np.repeat(np.arange(40), w.astype(int))
    xs, zs = x[repeated], z[repeated]
    means = np.stack([xs[zs[:, i]].mean(0) - xs[~zs[:, i]].mean(0) for i in range(2)])
    np.testing.assert_allclose(direction_maps(z, w) @ x, means)
    design = np.column_stack([np.ones(len(zs)), zs])
    np.testing.assert_allclose(direction_maps(z, w, kind="joint") @ x, np.linalg.lstsq(design, xs, rcond=None)[0][1:])


def planted(rng, angle, *, n=1200, d=16, stretch=1.0):
    """Two features whose directions lie at an angle, a third that is nothing, in noise that is `stretch` times wider along one axis."""
    z = {name: rng.random(n) < 0.5 for name in ("toxicity", "other", "nothing")}
    first, second = np.eye(d)[:2]
    x = rng.normal(size=(n, d)) * np.r_[np.ones(d - 1), stretch]
    x += np.outer(z["toxicity"], 3 * first) + np.outer(
        z["other"], 3 * (math.cos(angle) * first + math.sin(angle) * second)
    )
    return x[:, None, :].astype(np.float32), z, np.arange(n)


@pytest.mark.parametrize("kind", ["means", "joint"])
def test_a_planted_angle_is_found(kind):
    x, z, groups = planted(np.random.default_rng(2), math.pi / 4)
    found = measure_entanglement(x, z, groups, kind=kind, draws=40, shuffles=40)
    assert found.largest[0, 0] == pytest.approx(math.cos(math.pi / 4), abs=0.08)
    assert found.names[found.partner[0, 0]] == "other"
    assert found.p[0] < 0.05
    low, high = found.interval
    assert low[0] < math.cos(math.pi / 4) < high[0] + 0.05
    assert found.draws.shape == (40, 1)


def test_axes_along_which_activations_spread_entangle_what_is_noise_and_whitening_undoes_it():
    x, z, groups = planted(np.random.default_rng(3), math.pi / 2, stretch=50.0)
    z = {"toxicity": z["nothing"], "a": z["nothing"][::-1], "b": np.roll(z["nothing"], 7)}
    wide, even = (
        measure_entanglement(x, z, groups, kind=kind, draws=20, shuffles=60) for kind in ("means", "whitened")
    )
    assert wide.shuffled[0] > 0.9  # though nothing is there
    assert even.shuffled[0] == pytest.approx(even.random, abs=0.05)
    assert even.random == random_largest_cosine(3, 16)


def test_whitening_is_that_of_the_covariance_and_turns_no_cosine_of_a_rotated_site():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(500, 1, 6)) * np.geomspace(0.1, 10, 6) @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    white = whitened(x)[:, 0]
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(6), atol=0.02)
    z, w = rng.random((500, 3)) < 0.5, np.ones(500)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    a, b = (largest_cosines(direction_maps(z, w) @ whitened(one)[:, 0]) for one in (x, x @ turn))
    np.testing.assert_allclose(a, b, atol=1e-9)


def test_features_that_come_together_are_not_entangled_for_that_once_the_others_are_held():
    rng = np.random.default_rng(5)
    n = 4000
    toxic = rng.random(n) < 0.5
    profane = np.where(rng.random(n) < 0.8, toxic, rng.random(n) < 0.5)
    x = rng.normal(size=(n, 8)) * 0.3 + np.outer(toxic, np.eye(8)[0]) + np.outer(profane, np.eye(8)[1])
    z, groups = {"toxicity": toxic, "profanity": profane}, np.arange(n)
    means, joint = (
        measure_entanglement(x[:, None], z, groups, kind=kind, draws=20, shuffles=20).largest[0, 0]
        for kind in ("means", "joint")
    )
    assert means > 0.9
    assert joint < 0.1


def test_sites_do_not_know_of_each_other_nor_of_the_blocks_they_are_read_in(monkeypatch):
    x, z, groups = planted(np.random.default_rng(6), 1.0, n=200)
    both = np.concatenate([x, x[::-1], 2 * x], axis=1)
    whole = measure_entanglement(both, z, groups, draws=20, shuffles=20)
    monkeypatch.setattr(entanglement, "_NUMBERS_AT_ONCE", 1)
    split = measure_entanglement(both, z, groups, draws=20, shuffles=20)
    for name in ("largest", "mean", "partner", "draws", "shuffled", "p"):
        np.testing.assert_allclose(getattr(split, name), getattr(whole, name), atol=1e-12)
    np.testing.assert_allclose(whole.largest[0], whole.largest[2])  # a scale is no direction
    with pytest.raises(InputError, match="no other"):
        measure_entanglement(x, {"toxicity": z["toxicity"]}, groups)
