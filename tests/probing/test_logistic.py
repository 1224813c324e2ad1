from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from detox.errors import InputError
from detox.probing.logistic import fit_logistic


def gradient(x: np.ndarray, y: np.ndarray, w: np.ndarray, b: float, C: float) -> np.ndarray:
    """Of f in detox.probing.logistic, from the formula: sum_i -s_i x_i / (1 + exp(s_i (x_i w + b))) / n + w / (C n)."""
    s = 2.0 * y - 1
    pull = -s / (1 + np.exp(np.clip(s * (x @ w + b), -700, 700))) / len(y)
    return np.r_[x.T @ pull + w / (C * len(y)), pull.sum()]


def standardised(x: np.ndarray) -> np.ndarray:
    spread = x.std(0)
    return (x - x.mean(0)) / np.where(spread > 1e-9, spread, 1.0)


def case(kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d), standardised, and labels (n,) of 0 and 1."""
    rng = np.random.default_rng(seed)
    n, d = (30, 50) if kind == "more features than texts" else (240, 12)
    x, direction = rng.normal(size=(n, d)), rng.normal(size=d)
    y = (x @ direction + rng.normal(size=n) * 3 > 0).astype(int)
    if kind == "correlated":
        x = x @ (rng.normal(size=(d, d)) * np.exp(-np.arange(d))[:, None])
    elif kind == "separable":
        y = (x @ direction > 0).astype(int)
    elif kind == "separable by one feature":
        x[:, 3] = 2 * y - 1
    elif kind == "near-separable":
        y = (x @ direction > 0).astype(int)
        y[:3] = 1 - y[:3]
    elif kind == "collinear":
        x[:, 6:] = x[:, :6] * 2 + 1
    elif kind == "constant feature":
        x[:, 2] = 0.1
    elif kind == "unbalanced":
        y = (x @ direction + rng.normal(size=n) > 6).astype(int)
        assert 0 < y.mean() < 0.1
    elif kind == "outliers":
        x[:4] *= 50
    return standardised(x), y


KINDS = [
    "random", "correlated", "separable", "separable by one feature", "near-separable", "collinear", "constant feature",
    "unbalanced", "outliers", "more features than texts",
]  # fmt: skip


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_are_scikit_learns(kind, C):
    x, y = case(kind)
    weights, intercepts = fit_logistic(torch.from_numpy(x)[None], torch.from_numpy(y == 1), C=C)
    got = np.r_[weights[0].numpy(), intercepts[0].item()]
    assert np.abs(gradient(x, y, got[:-1], got[-1], C)).max() < 1e-9
    theirs = LogisticRegression(C=C, tol=1e-10, max_iter=100_000).fit(x, y)
    expected = np.r_[theirs.coef_[0], theirs.intercept_]
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_problems_do_not_touch_each_other():
    """Easy and hard ones together, so that some are done early."""
    cases = [case(kind) for kind in KINDS[:-1]]
    y = torch.from_numpy(cases[0][1] == 1)
    x = torch.from_numpy(np.stack([features for features, _ in cases]))
    weights, intercepts = fit_logistic(x, y, C=1.0)
    assert weights.shape == (9, 12)
    for i in range(9):
        alone, intercept = fit_logistic(x[i : i + 1], y, C=1.0)
        np.testing.assert_allclose(weights[i].numpy(), alone[0].numpy(), atol=1e-8)
        assert intercepts[i].item() == pytest.approx(intercept.item(), abs=1e-8)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(2, 60), d=st.integers(1, 40), C=st.floats(1e-3, 1e3),
    scale=st.floats(0.01, 100),
)  # fmt: skip
def test_the_gradient_vanishes_whatever_the_problem(seed, n, d, C, scale):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)) * scale, np.r_[0, 1, rng.integers(0, 2, size=n - 2)]
    weights, intercepts = fit_logistic(torch.from_numpy(x)[None], torch.from_numpy(y == 1), C=C, tolerance=1e-9)
    assert np.abs(gradient(x, y, weights[0].numpy(), intercepts[0].item(), C)).max() < 1e-8


def test_steps_that_go_too_far_are_shortened():
    """A rare label and texts far out: of 400 such problems, whole Newton steps never solve some."""
    x = np.random.default_rng(0).standard_cauchy(size=(400, 100, 1))
    x = np.stack([standardised(problem) for problem in x])
    y = (np.arange(100) < 2).astype(int)
    weights, intercepts = fit_logistic(torch.from_numpy(x), torch.from_numpy(y == 1), C=1.0)
    for problem, w, b in zip(x, weights.numpy(), intercepts.tolist(), strict=True):
        assert np.abs(gradient(problem, y, w, b, 1.0)).max() < 1e-9


def test_a_head_that_is_always_the_same_has_no_weights_and_does_not_stop_others():
    x, y = case("random")
    both = torch.from_numpy(np.stack([x, np.zeros_like(x), x]))
    weights, intercepts = fit_logistic(both, torch.from_numpy(y == 1), C=1.0)
    assert torch.equal(weights[1], torch.zeros(12, dtype=torch.float64))
    assert intercepts[1].item() == pytest.approx(np.log(y.mean() / (1 - y.mean())))
    np.testing.assert_allclose(weights[0].numpy(), weights[2].numpy(), atol=1e-9)
    assert np.abs(gradient(x, y, weights[0].numpy(), intercepts[0].item(), 1.0)).max() < 1e-9


@pytest.mark.parametrize("C", [1e6, 1e9])
def test_what_float32_cannot_tell_apart_is_fitted_in_float64(C):
    x, y = case("collinear")
    x = np.c_[
        x, x @ np.random.default_rng(1).normal(size=(12, 12)) + 1e-7 * np.random.default_rng(2).normal(size=x.shape)
    ]
    weights, intercepts = fit_logistic(torch.from_numpy(x)[None], torch.from_numpy(y == 1), C=C)
    assert np.abs(gradient(x, y, weights[0].numpy(), intercepts[0].item(), C)).max() < 1e-9


def test_wrong_input_is_one_clear_line():
    x, y = case("random")
    problem = torch.from_numpy(x)[None], torch.from_numpy(y == 1)
    for C in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match=r"C is .*; expected a positive number"):
            fit_logistic(*problem, C=C)
    with pytest.raises(InputError, match=r"1 of 1 probes are not fitted after 200 Newton steps \(gradient .*smaller C"):
        fit_logistic(*problem, C=1.0, tolerance=-1.0)
