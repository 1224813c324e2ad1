from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from detox.errors import InputError
from detox.models.sampling import ATTEMPTS, Sampling, choose, noise
from tests.models.reference import nucleus


def uniforms(rows: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((rows, ATTEMPTS + 1)))


def test_greedy_is_the_argmax():
    scores = torch.randn(7, 50)
    assert torch.equal(choose(scores, None, Sampling(temperature=0)), scores.argmax(-1))  # type: ignore[arg-type]


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
@pytest.mark.parametrize(
    "settings", [{"top_p": 0.9}, {"top_p": 0.3}, {"top_k": 5}, {"top_k": 20, "top_p": 0.7}, {"temperature": 0.5}]
)
def test_the_distribution_is_that_of_the_sorted_version(spread, settings):
    """Rejection needs no sort; what it draws must be distributed as transformers' own warpers say."""
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.from_numpy(np.random.default_rng(3).normal(size=(1, 40)) * spread).float()
    sampling = Sampling(**settings)
    warped = TemperatureLogitsWarper(sampling.temperature)(None, logits) if sampling.temperature != 1 else logits
    if sampling.top_k:
        warped = TopKLogitsWarper(sampling.top_k)(None, warped)
    if sampling.top_p < 1:
        warped = TopPLogitsWarper(sampling.top_p)(None, warped)
    expected = warped.softmax(-1)[0].double().numpy()
    draws = 40_000
    tokens = choose(logits.expand(draws, -1), uniforms(draws, 11), sampling).numpy()
    counts = np.bincount(tokens, minlength=40)
    assert not counts[expected == 0].any()
    common = expected * draws >= 5
    observed = [*counts[common], counts[~common].sum()]
    wanted = [*(expected[common] * draws), expected[~common].sum() * draws]
    if wanted[-1] < 1e-9:
        observed, wanted = observed[:-1], wanted[:-1]
    if len(wanted) > 1:
        assert chisquare(observed, np.array(wanted) / np.sum(wanted) * draws).pvalue > 1e-4


@given(seed=st.integers(0, 10_000), top_p=st.floats(0.05, 0.999), spread=st.floats(0.01, 8))
@settings(max_examples=60, deadline=None)
def test_no_token_from_outside_the_nucleus(seed, top_p, spread):
    logits = np.random.default_rng(seed).normal(size=30) * spread
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    # A float32 cumulative sum decides differently from float64 only on the very edge.
    allowed = nucleus(probabilities, top_p + 1e-5)
    scores = torch.from_numpy(logits).float().expand(256, -1)
    tokens = choose(scores, uniforms(256, seed), Sampling(top_p=top_p))
    assert set(tokens.tolist()) <= allowed


def test_the_sorted_fallback_is_taken_and_right():
    """With a small top_p many rows are refused every time; they must still land in the nucleus."""
    logits = torch.zeros(4000, 100)
    logits[:, 7] += 0.5
    tokens = choose(logits, uniforms(4000, 5), Sampling(top_p=0.01))
    assert set(tokens.tolist()) == {7}


def test_extreme_uniforms_pick_tokens_that_can_be_drawn():
    scores = torch.full((2, 6), -torch.inf)
    scores[:, 2:4] = 0.0
    edge = torch.zeros(2, ATTEMPTS + 1, dtype=torch.float64)
    edge[1] = np.nextafter(1.0, 0.0)
    assert choose(scores, edge, Sampling()).tolist() == [2, 3]


def test_noise_depends_on_seed_prompt_and_sample_alone():
    sampling = Sampling(max_new_tokens=4, seed=3)
    a = noise(sampling, "a prompt", 0, 0)
    assert a.shape == (4, ATTEMPTS + 1)
    assert np.array_equal(a, noise(Sampling(max_new_tokens=4, seed=3, top_p=0.5, batch_size=1), "a prompt", 0, 0))
    assert np.array_equal(a, noise(Sampling(max_new_tokens=9, seed=3), "a prompt", 0, 0)[:4])
    for other in (
        noise(sampling, "a prompt", 0, 1),
        noise(sampling, "a prompt", 1, 0),
        noise(sampling, "b prompt", 0, 0),
        noise(Sampling(max_new_tokens=4, seed=4), "a prompt", 0, 0),
    ):
        assert not np.array_equal(a, other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -1},
        {"top_p": 0},
        {"top_p": 1.2},
        {"top_k": 0},
        {"temperature": 0, "num_return_sequences": 2},
    ],
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong)) if "num_return_sequences" not in wrong else "greedy"):
        Sampling(**wrong)
