import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detox import losses
from detox.errors import InputError, UnknownName
from detox.losses import OBJECTIVES, LossSum, loss_positions, selective_loss, step_scales
from tests.conftest import REPOSITORY

PAD = -100


def reference(logits, targets, risk, objective, weight=1.0):
    """The paper's formulas in float64, token by token, by another route: 1 - p as the sum of the other p."""
    likelihood = unlikelihood = 0.0
    likely = unlikely = 0
    gradient = np.zeros(logits.shape)
    for position in np.ndindex(targets.shape):
        target = targets[position]
        if target == PAD:
            continue
        shifted = np.exp(logits[position] - logits[position].max())
        p = shifted / shifted.sum()
        others = np.delete(shifted, target).sum() / shifted.sum()
        if objective == "full" or not risk[position]:
            likelihood -= np.log(p[target])
            likely += 1
            gradient[position] = p
            gradient[position][target] -= 1
        elif objective == "unlikelihood":
            unlikelihood -= np.log(others)
            unlikely += 1
            # d(-log(1 - p_t)) / dz_j = (dp_t / dz_j) / (1 - p_t): p_t where j = t, -p_j p_t / (1 - p_t) elsewhere.
            gradient[position] = -weight * p * p[target] / others
            gradient[position][target] = weight * p[target]
    return likelihood, likely, unlikelihood, unlikely, gradient


def batch(seed, shape=(3, 7), vocab=11, scale=3.0, padded=True):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(*shape, vocab)) * scale
    targets = rng.integers(0, vocab, size=shape)
    if padded:
        targets[rng.random(shape) < 0.3] = PAD
    return logits, targets, rng.random(shape) < 0.4


def tensors(logits, targets, risk, dtype=torch.float64):
    return torch.tensor(logits, dtype=dtype, requires_grad=True), torch.tensor(targets), torch.tensor(risk)


@given(
    seed=st.integers(0, 2**32 - 1),
    objective=st.sampled_from(OBJECTIVES),
    scale=st.sampled_from([0.1, 1.0, 5.0, 12.0]),
    weight=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    vocab=st.integers(2, 30),
    piece=st.sampled_from([1, 13, 64, 2**21]),
)
@settings(max_examples=60, deadline=None)
def test_values_and_gradients_are_those_of_the_float64_reference(seed, objective, scale, weight, vocab, piece):
    logits, targets, risk = batch(seed, vocab=vocab, scale=scale)
    likelihood, likely, unlikelihood, unlikely, gradient = reference(logits, targets, risk, objective, weight)
    z, t, r = tensors(logits, targets, risk)
    original, losses._PIECE_ON_CPU = losses._PIECE_ON_CPU, piece
    try:
        found = selective_loss(z, t, r, objective, unlikelihood_weight=weight)
        found.total.backward()
    finally:
        losses._PIECE_ON_CPU = original
    assert (found.likelihood_count, found.unlikelihood_count, found.count) == (likely, unlikely, likely + unlikely)
    np.testing.assert_allclose(found.likelihood.item(), likelihood, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.unlikelihood.item(), unlikelihood, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.total.item(), likelihood + weight * unlikelihood, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(z.grad.numpy(), gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_logits_lose_nothing_but_their_own_rounding(objective, dtype):
    logits, targets, risk = batch(0, shape=(8, 32), vocab=300)
    z, t, r = tensors(logits, targets, risk, dtype)
    likelihood, _, unlikelihood, _, gradient = reference(z.detach().double().numpy(), targets, risk, objective)
    found = selective_loss(z, t, r, objective)
    found.total.backward()
    assert found.total.dtype == torch.float32
    assert z.grad.dtype == dtype
    np.testing.assert_allclose(found.likelihood.item(), likelihood, rtol=1e-6)
    np.testing.assert_allclose(found.unlikelihood.item(), unlikelihood, rtol=1e-5)
    np.testing.assert_allclose(z.grad.double().numpy(), gradient, atol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_safe_is_cross_entropy(objective):
    logits, targets, risk = batch(1)
    z, t, _ = tensors(logits, targets, risk)
    found = selective_loss(z, t, torch.zeros_like(t, dtype=torch.bool), objective)
    expected = torch.nn.functional.cross_entropy(z.reshape(-1, 11), t.reshape(-1), ignore_index=PAD)
    torch.testing.assert_close(found.total / found.count, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.total / found.count, z)[0], torch.autograd.grad(expected, z)[0]
    )


def test_full_does_not_look_at_risk():
    logits, targets, risk = batch(2)
    z, t, r = tensors(logits, targets, risk)
    assert selective_loss(z, t, r, "full").total == selective_loss(z, t, ~r, "full").total


def test_by_hand():
    # Two tokens of three: p = (1/2, 1/4, 1/4). Safe target 1: -log 1/4. Risky target 0: -log(1 - 1/2).
    row = [np.log(2.0), 0.0, 0.0]
    z, t, r = tensors([[row, row]], [[1, 0]], [[False, True]])
    full, masked, unlikely = (selective_loss(z, t, r, objective) for objective in OBJECTIVES)
    assert full.total.item() == pytest.approx(np.log(4) + np.log(2))
    assert masked.total.item() == pytest.approx(np.log(4))
    assert unlikely.total.item() == pytest.approx(np.log(4) + np.log(2))
    assert [int(loss.count) for loss in (full, masked, unlikely)] == [2, 1, 2]
    assert (int(unlikely.likelihood_count), int(unlikely.unlikelihood_count)) == (1, 1)
    unlikely.total.backward()
    np.testing.assert_allclose(z.grad[0, 0].numpy(), [0.5, -0.75, 0.25])
    np.testing.assert_allclose(z.grad[0, 1].numpy(), [0.5, -0.25, -0.25])  # p at the target; the rest shares -p


@pytest.mark.parametrize(("objective", "counted"), [("masked", False), ("unlikelihood", True)])
def test_all_risky(objective, counted):
    logits, targets, _ = batch(3)
    z, t, _ = tensors(logits, targets, targets > PAD)
    found = selective_loss(z, t, torch.ones_like(t, dtype=torch.bool), objective)
    found.total.backward()
    assert bool(found.count > 0) is counted
    assert bool(found.total > 0) is counted
    assert bool(z.grad.abs().sum() > 0) is counted
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_target_at_all_is_zero_with_zero_gradients(objective):
    z = torch.randn(2, 3, 5, requires_grad=True)
    found = selective_loss(z, torch.full((2, 3), PAD), torch.ones(2, 3, dtype=torch.bool), objective)
    (found.total / found.count.clamp(min=1)).backward()
    assert found.total == 0
    assert found.count == 0
    assert torch.equal(z.grad, torch.zeros_like(z))


@pytest.mark.parametrize("objective", ["masked", "unlikelihood"])
def test_what_carries_no_loss_may_be_nan(objective):
    z = torch.randn(1, 3, 5)
    z[0, 1] = torch.nan
    z.requires_grad_()
    found = selective_loss(z, torch.tensor([[1, PAD, 2]]), torch.tensor([[False, True, True]]), objective)
    found.total.backward()
    assert found.total.isfinite()
    assert torch.equal(z.grad[0, 1], torch.zeros(5))
    assert z.grad.isfinite().all()


def test_the_unlikelihood_gradient_at_the_target_is_p():
    logits, targets, _ = batch(4, padded=False)
    z, t, _ = tensors(logits, targets, targets >= 0)
    selective_loss(z, t, torch.ones_like(t, dtype=torch.bool), "unlikelihood").total.backward()
    p = torch.softmax(z.detach(), -1).gather(-1, t.unsqueeze(-1))
    torch.testing.assert_close(z.grad.gather(-1, t.unsqueeze(-1)), p)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("part", ["total", "likelihood", "unlikelihood"])
def test_gradcheck(objective, part):
    logits, targets, risk = batch(5, shape=(2, 4), vocab=5)
    z, t, r = tensors(logits, targets, risk)
    if part == "unlikelihood" and objective != "unlikelihood":
        assert getattr(selective_loss(z, t, r, objective), part) == 0
    else:
        assert torch.autograd.gradcheck(
            lambda x: getattr(selective_loss(x, t, r, objective, unlikelihood_weight=0.7), part), (z,)
        )


@pytest.mark.parametrize("above", [16.0, 50.0, 100.0, 10_000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_certain_risky_token_still_has_its_loss_and_its_gradient(above, dtype):
    # -log(1 - p) = log(1 + e^above / (V - 1)); log1p(-p) is already wrong at 14 and infinite at 17 in float32.
    vocab = 50
    z = torch.zeros(1, 1, vocab, dtype=dtype)
    z[0, 0, 7] = above
    z.requires_grad_()
    found = selective_loss(z, torch.tensor([[7]]), torch.tensor([[True]]), "unlikelihood")
    found.total.backward()
    assert found.total.item() == pytest.approx(np.logaddexp(0, above - np.log(vocab - 1)), rel=1e-6)
    assert z.grad[0, 0, 7].item() == pytest.approx(1.0, abs=1e-4)
    assert z.grad.sum().item() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("below", [16.0, 50.0, 80.0])
def test_an_unlikely_risky_token_has_the_loss_p(below):
    z = torch.zeros(1, 1, 2)
    z[0, 0, 1] = -below
    z.requires_grad_()
    found = selective_loss(z, torch.tensor([[1]]), torch.tensor([[True]]), "unlikelihood")
    found.total.backward()
    assert found.total.item() == pytest.approx(np.exp(-below), rel=1e-5, abs=0)
    np.testing.assert_allclose(z.grad[0, 0].numpy(), [-np.exp(-below), np.exp(-below)], rtol=1e-5)


def test_risky_tokens_stay_in_the_context_of_those_after_them():
    # A model whose logits at i hang on token i: a masked token must still reach the loss of the next one.
    embedding = torch.nn.Embedding(6, 6)
    tokens = torch.tensor([[1, 2, 3, 4]])
    targets, risk = tokens[:, 1:], torch.tensor([[False, True, False]])
    found = selective_loss(embedding(tokens[:, :-1]), targets, risk, "masked")
    found.total.backward()
    touched = embedding.weight.grad.abs().sum(-1) > 0
    assert touched.tolist() == [False, True, False, True, False, False]  # 1 predicts safe 2; 2's own target is risky 3
    assert int(found.count) == 2


def test_sums_of_two_batches_add_up_to_the_sum_of_both():
    logits, targets, risk = batch(6, shape=(4, 5))
    z, t, r = tensors(logits, targets, risk)
    whole = selective_loss(z, t, r, "unlikelihood")
    halves = selective_loss(z[:2], t[:2], r[:2], "unlikelihood") + selective_loss(z[2:], t[2:], r[2:], "unlikelihood")
    for field in fields(LossSum):
        torch.testing.assert_close(getattr(halves, field.name), getattr(whole, field.name))
    assert not whole.detach().total.requires_grad


def test_positions_partition_the_targets_by_objective():
    _, targets, risk = batch(7)
    t, r = torch.tensor(targets), torch.tensor(risk)
    present = t != PAD
    for objective in OBJECTIVES:
        likely, unlikely = loss_positions(t, r, objective)
        assert not (likely & unlikely).any()
        assert ((likely | unlikely) == (present & ~r if objective == "masked" else present)).all()


def test_not_contiguous_logits():
    logits, targets, risk = batch(8, shape=(3, 6))
    z, t, r = tensors(logits, targets, risk)
    cut = selective_loss(z[:, :-1], t[:, :-1], r[:, :-1], "unlikelihood")
    cut.total.backward()
    again = z.detach()[:, :-1].contiguous().requires_grad_()
    selective_loss(again, t[:, :-1], r[:, :-1], "unlikelihood").total.backward()
    assert torch.equal(z.grad[:, :-1], again.grad)
    assert torch.equal(z.grad[:, -1], torch.zeros_like(z.grad[:, -1]))


def test_what_is_wrong_is_said():
    z, t, r = torch.zeros(1, 2, 5), torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, dtype=torch.bool)
    with pytest.raises(UnknownName, match="did you mean 'masked'"):
        selective_loss(z, t, r, "mask")
    with pytest.raises(InputError, match=r"expected \(\.\.\., vocab\)"):
        selective_loss(z, t[:, :1], r[:, :1], "full")
    with pytest.raises(InputError, match=r"expected torch\.bool"):
        selective_loss(z, t, r.long(), "masked")
    with pytest.raises(InputError, match="vocab at least 2"):
        selective_loss(z[..., :1], t, r, "unlikelihood")
    for weight in (-1.0, float("nan")):
        with pytest.raises(InputError, match="unlikelihood_weight"):
            selective_loss(z, t, r, "unlikelihood", unlikelihood_weight=weight)


def peak_bytes():
    """The most memory that this process has held; ru_maxrss would count what pytest held when it started us."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


_PEAK = """
import sys
import torch
from detox.losses import selective_loss
from tests.test_losses import peak_bytes
torch.set_num_threads(1)
rows, vocab = 2048, 50_304
logits = torch.zeros(rows, vocab, dtype=torch.bfloat16).normal_().requires_grad_()
targets, risk = torch.randint(0, vocab, (rows,)), torch.rand(rows) < 0.3
before = peak_bytes()
selective_loss(logits, targets, risk, sys.argv[1]).total.backward()
print((peak_bytes() - before) / (logits.numel() * 2))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_large_vocabulary_costs_the_gradient_and_little_more(objective):
    grown = subprocess.run(
        [sys.executable, "-c", _PEAK, objective], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert 1 <= float(grown.stdout) < 1.5  # in units of the bfloat16 logits; one float32 copy alone would be 2


@pytest.mark.parametrize(
    ("denominator", "expected"), [("shared", (1 / 10, 3 / 10)), ("per-kind", (1 / 8, 3 / 2)), ("mean", None)]
)
def test_scales_of_a_step(denominator, expected):
    counts = torch.tensor(8), torch.tensor(2)
    if expected is None:
        with pytest.raises(UnknownName, match="unknown denominator 'mean'"):
            step_scales(*counts, denominator=denominator)
        return
    found = step_scales(*counts, denominator=denominator, unlikelihood_weight=3.0)
    assert [float(scale) for scale in found] == pytest.approx(expected)
    nothing = step_scales(torch.tensor(0), torch.tensor(0), denominator=denominator)
    assert all(scale.isfinite() for scale in nothing)
