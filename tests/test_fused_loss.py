"""The fused loss against the loss of logits, against the formulas in float64, and in every way it can be called."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from detox import fused_loss
from detox.errors import InputError, UnknownName
from detox.fused_loss import fused_selective_loss, fused_token_nll
from detox.losses import OBJECTIVES, loss_positions, row_losses, selective_loss
from tests.conftest import REPOSITORY
from tests.test_losses import PAD, reference

WIDTH = 6


def batch(seed, shape=(3, 7), vocab=11, dtype=torch.float64, scale=1.0, padded=True):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, vocab, size=shape)
    if padded:
        targets[rng.random(shape) < 0.3] = PAD
    hidden, weight, bias = (rng.normal(size=s) * scale for s in ((*shape, WIDTH), (vocab, WIDTH), (vocab,)))
    parts = [torch.tensor(part, dtype=dtype, requires_grad=True) for part in (hidden, weight, bias)]
    return *parts, torch.tensor(targets), torch.tensor(rng.random(shape) < 0.4)


@given(
    seed=st.integers(0, 2**32 - 1),
    objective=st.sampled_from(OBJECTIVES),
    scale=st.sampled_from([0.1, 1.0, 2.0]),
    weights=st.sampled_from([(1.0, 1.0), (0.25, 3.0), (1.0, 0.0)]),
    vocab=st.integers(2, 30),
    rows=st.sampled_from([1, 2, 5, 1000]),
    biased=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_values_and_gradients_are_those_of_the_float64_reference(seed, objective, scale, weights, vocab, rows, biased):
    hidden, weight, bias, targets, risk = batch(seed, vocab=vocab, scale=scale)
    bias = bias if biased else None
    logits = linear(hidden, weight, bias).detach().numpy()
    likelihood, likely, unlikelihood, unlikely, of_likelihood = reference(
        logits, targets.numpy(), risk.numpy(), objective
    )
    *_, of_both = reference(logits, targets.numpy(), risk.numpy(), objective, weights[1])
    slopes = np.where(loss_positions(targets, risk, objective)[1].unsqueeze(-1), of_both, weights[0] * of_likelihood)
    found = fused_selective_loss(
        hidden,
        weight,
        targets,
        risk,
        objective,
        bias=bias,
        likelihood_weight=weights[0],
        unlikelihood_weight=torch.tensor(weights[1]),
        rows_at_once=rows,
    )
    found.total.backward()
    assert (found.likelihood_count, found.unlikelihood_count, found.count) == (likely, unlikely, likely + unlikely)
    np.testing.assert_allclose(found.likelihood.item(), likelihood, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.unlikelihood.item(), unlikelihood, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        found.total.item(), weights[0] * likelihood + weights[1] * unlikelihood, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(hidden.grad.numpy(), slopes @ weight.detach().numpy(), rtol=1e-8, atol=1e-11)
    flat = slopes.reshape(-1, vocab)
    np.testing.assert_allclose(
        weight.grad.numpy(), flat.T @ hidden.detach().numpy().reshape(-1, WIDTH), rtol=1e-8, atol=1e-11
    )
    if biased:
        np.testing.assert_allclose(bias.grad.numpy(), flat.sum(0), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("rows", [1, 10, None])
def test_it_is_the_loss_of_the_logits(objective, rows):
    hidden, weight, bias, targets, risk = batch(0, shape=(4, 33), vocab=300, dtype=torch.float32)
    theirs = selective_loss(linear(hidden, weight, bias), targets, risk, objective, unlikelihood_weight=0.7)
    expected = torch.autograd.grad(theirs.total, (hidden, weight, bias))
    ours = fused_selective_loss(
        hidden, weight, targets, risk, objective, bias=bias, unlikelihood_weight=0.7, rows_at_once=rows
    )
    torch.testing.assert_close(ours.total, theirs.total)
    torch.testing.assert_close(ours.likelihood, theirs.likelihood)
    torch.testing.assert_close(ours.unlikelihood, theirs.unlikelihood)
    assert ours.count == theirs.count
    torch.testing.assert_close(torch.autograd.grad(ours.total, (hidden, weight, bias)), expected)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradcheck(objective):
    hidden, weight, bias, targets, risk = batch(1, shape=(2, 4), vocab=5)

    def total(hidden, weight, bias):
        return fused_selective_loss(
            hidden, weight, targets, risk, objective, bias=bias, unlikelihood_weight=0.7, rows_at_once=3
        ).total

    assert torch.autograd.gradcheck(total, (hidden, weight, bias))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("piece", [1, 700, 2**22])
def test_under_bf16_autocast_it_is_the_loss_of_bf16_logits(objective, piece, monkeypatch):
    monkeypatch.setattr(fused_loss, "_PIECE_ON_CPU", piece)
    hidden, weight, bias, targets, risk = batch(2, shape=(8, 32), vocab=300, dtype=torch.float32)
    exact = fused_selective_loss(hidden, weight, targets, risk, objective, bias=bias)
    reached = torch.autograd.grad(exact.total, (hidden, weight, bias))
    with torch.autocast("cpu", torch.bfloat16):
        logits = linear(hidden, weight, bias)
        theirs = selective_loss(logits, targets, risk, objective)
        ours = fused_selective_loss(hidden, weight, targets, risk, objective, bias=bias, rows_at_once=100)
    assert logits.dtype == torch.bfloat16
    assert ours.total.dtype == torch.float32
    torch.testing.assert_close(ours.total, theirs.total, rtol=1e-5, atol=0)  # bfloat16 itself has 4e-3
    for mine, of_logits, right in zip(
        torch.autograd.grad(ours.total, (hidden, weight, bias)),
        torch.autograd.grad(theirs.total, (hidden, weight, bias)),
        reached,
        strict=True,
    ):
        assert mine.dtype == torch.float32
        assert (mine - right).norm() <= 1.1 * (of_logits - right).norm() + 1e-3 * right.norm()
        assert (mine - right).norm() <= 0.01 * right.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_low_precision_have_gradients_that_add_up_in_float32(dtype):
    hidden, weight, _, targets, risk = batch(3, shape=(64, 32), vocab=40, dtype=torch.float32)
    small = [part.detach().to(dtype).requires_grad_() for part in (hidden, weight)]
    wide = [part.detach().float().requires_grad_() for part in small]
    ours = fused_selective_loss(*small, targets, risk, "unlikelihood", rows_at_once=16)  # 90 chunks
    ours.total.backward()
    fused_selective_loss(*wide, targets, risk, "unlikelihood").total.backward()
    assert ours.total.dtype == torch.float32
    for mine, right in zip(small, wide, strict=True):
        assert mine.grad.dtype == dtype
        assert (mine.grad.float() - right.grad).norm() < 6e-3 * right.grad.norm()


@pytest.mark.parametrize("objective", ["masked", "unlikelihood"])
def test_what_carries_no_loss_is_never_read(objective):
    hidden, weight, _, targets, risk = batch(4)
    likely, unlikely = loss_positions(targets, risk, objective)
    with torch.no_grad():
        hidden[~(likely | unlikely)] = torch.nan
    fused_selective_loss(hidden, weight, targets, risk, objective, rows_at_once=4).total.backward()
    assert weight.grad.isfinite().all()
    assert torch.equal(hidden.grad[~(likely | unlikely)], torch.zeros_like(hidden[~(likely | unlikely)]))
    assert (hidden.grad[likely | unlikely].abs().sum(-1) > 0).all()


def test_risky_rows_are_not_projected_when_masked(monkeypatch):
    hidden, weight, _, targets, risk = batch(5, shape=(10, 40))
    projected = []

    def noted(logits, *others):
        projected.append(len(logits))
        return row_losses(logits, *others)

    monkeypatch.setattr(fused_loss, "row_losses", noted)
    found = fused_selective_loss(hidden, weight, targets, risk, "masked", rows_at_once=50)
    assert sum(projected) == found.count < targets.numel()
    assert max(projected) <= 50
    assert max(projected) - min(projected) <= len(projected)  # no small last chunk, which costs as much as a large one


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_target_at_all_is_zero_with_zero_gradients(objective):
    hidden, weight, bias, targets, risk = batch(6)
    found = fused_selective_loss(hidden, weight, torch.full_like(targets, PAD), risk, objective, bias=bias)
    found.total.backward()
    assert found.total == found.count == 0
    for part in (hidden, weight, bias):
        assert torch.equal(part.grad, torch.zeros_like(part))


@pytest.mark.parametrize("above", [16.0, 100.0, 10_000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_certain_risky_token_still_has_its_loss_and_its_gradient(above, dtype):
    vocab = 50
    weight = torch.zeros(vocab, 1, dtype=dtype)
    weight[7] = above
    hidden = torch.ones(1, 1, 1, dtype=dtype, requires_grad=True)
    found = fused_selective_loss(hidden, weight, torch.tensor([[7]]), torch.tensor([[True]]), "unlikelihood")
    found.total.backward()
    assert found.total.item() == pytest.approx(np.logaddexp(0, above - np.log(vocab - 1)), rel=1e-6)
    assert hidden.grad.item() == pytest.approx(above, rel=1e-4)  # p at the target, times its weight


def test_without_gradients_none_are_computed():
    hidden, weight, _, targets, risk = batch(7)
    expected = fused_selective_loss(hidden, weight, targets, risk, "unlikelihood")
    with torch.no_grad():
        found = fused_selective_loss(hidden, weight, targets, risk, "unlikelihood")
    assert not found.total.requires_grad
    assert torch.equal(found.total, expected.total)
    assert expected.total.requires_grad
    assert not expected.likelihood.requires_grad  # gradients of the parts were never made
    assert not fused_selective_loss(hidden.detach(), weight.detach(), targets, risk, "full").total.requires_grad


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_weight_or_frozen_states_cost_no_gradient(frozen):
    parts = list(batch(8)[:2])
    *_, targets, risk = batch(8)
    expected = torch.autograd.grad(fused_selective_loss(*parts, targets, risk, "unlikelihood").total, parts)
    parts[frozen] = parts[frozen].detach()
    total = fused_selective_loss(*parts, targets, risk, "unlikelihood").total
    assert [gradient is None for gradient in total.grad_fn.saved_tensors] == [frozen == 0, frozen == 1, True]
    total.backward()
    assert parts[frozen].grad is None
    assert torch.equal(parts[1 - frozen].grad, expected[1 - frozen])


def test_tied_weights_add_up_with_the_embedding():
    *_, targets, risk = batch(9)
    embedding = torch.nn.Embedding(11, WIDTH, dtype=torch.float64)
    tokens = targets.clamp(min=0)
    grads = []
    for loss in (
        lambda h: selective_loss(linear(h, embedding.weight), targets, risk, "unlikelihood"),
        lambda h: fused_selective_loss(h, embedding.weight, targets, risk, "unlikelihood"),
    ):
        embedding.weight.grad = None
        loss(torch.tanh(embedding(tokens))).total.backward()
        grads.append(embedding.weight.grad)
    torch.testing.assert_close(*grads)


def test_used_twice_and_scaled_and_gone_back_through_twice():
    hidden, weight, _, targets, risk = batch(10)
    expected = torch.autograd.grad(fused_selective_loss(hidden, weight, targets, risk, "full").total, (hidden, weight))
    again = torch.autograd.grad(
        3 * fused_selective_loss(hidden, weight, targets, risk, "full").total
        + fused_selective_loss(hidden, weight, targets, risk, "full").total,
        (hidden, weight),
    )
    torch.testing.assert_close(again, tuple(4 * gradient for gradient in expected))
    total = fused_selective_loss(hidden, weight, targets, risk, "full").total
    total.backward(retain_graph=True)
    torch.testing.assert_close((hidden.grad, weight.grad), expected)
    total.backward(retain_graph=True)
    torch.testing.assert_close((hidden.grad, weight.grad), tuple(2 * gradient for gradient in expected))
    # What was handed out is what was kept: torch sees that it was changed since, and nothing is silently wrong.
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


@pytest.mark.parametrize("reentrant", [True, False])
def test_under_gradient_checkpointing(reentrant):
    from torch.utils.checkpoint import checkpoint

    hidden, weight, _, targets, risk = batch(11)
    results = []
    for checkpointed in (False, True):

        def total(h, w):
            return fused_selective_loss(h.tanh(), w, targets, risk, "unlikelihood").total

        hidden.grad = weight.grad = None
        if checkpointed:
            checkpoint(total, hidden, weight, use_reentrant=reentrant).backward()
        else:
            total(hidden, weight).backward()
        results.append((hidden.grad, weight.grad))
    torch.testing.assert_close(*results)


def test_an_upstream_of_one_copies_nothing():
    hidden, weight, _, targets, risk = batch(12)
    total = fused_selective_loss(hidden, weight, targets, risk, "full").total
    kept = total.grad_fn.saved_tensors[1].data_ptr()
    total.backward()
    assert weight.grad.data_ptr() == kept


def test_states_that_are_not_contiguous():
    hidden, weight, _, targets, risk = batch(13)
    turned = hidden.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    for states in (hidden, turned):
        fused_selective_loss(states[:, :-1], weight, targets[:, 1:], risk[:, 1:], "unlikelihood").total.backward()
    torch.testing.assert_close(turned.grad, hidden.grad)
    assert torch.equal(hidden.grad[:, -1], torch.zeros_like(hidden[:, -1]))


def test_what_is_wrong_is_said():
    hidden, weight, bias, targets, risk = batch(14)
    with pytest.raises(UnknownName, match="did you mean 'masked'"):
        fused_selective_loss(hidden, weight, targets, risk, "mask")
    for wrong in (
        {"hidden": hidden[..., :-1]},
        {"weight": weight[:1]},
        {"weight": weight[0]},
        {"targets": targets[:, 1:]},
        {"bias": bias[1:]},
    ):
        given = {"hidden": hidden, "weight": weight, "targets": targets, "bias": bias} | wrong
        with pytest.raises(InputError, match=r"expected \(\.\.\., width\)"):
            fused_selective_loss(**given, risk=risk, objective="full")
    with pytest.raises(InputError, match="cast one"):
        fused_selective_loss(hidden.float(), weight, targets, risk, "full")
    with pytest.raises(InputError, match=r"expected torch\.bool"):
        fused_selective_loss(hidden, weight, targets, risk.long(), "masked")
    for name in ("likelihood_weight", "unlikelihood_weight"):
        with pytest.raises(InputError, match=name):
            fused_selective_loss(hidden, weight, targets, risk, "full", **{name: -1.0})
    with pytest.raises(InputError, match="rows_at_once"):
        fused_selective_loss(hidden, weight, targets, risk, "full", rows_at_once=0)


_PEAK = """
import sys
import torch
from detox.fused_loss import fused_selective_loss
from tests.conftest import REPOSITORY
from tests.test_losses import peak_bytes
torch.set_num_threads(1)
rows, vocab, width = 2048, 50_304, 64
hidden, weight = torch.randn(rows, width, requires_grad=True), torch.randn(vocab, width, requires_grad=True)
targets, risk = torch.randint(0, vocab, (rows,)), torch.rand(rows) < 0.3
torch.mm(hidden[:8], weight.t()).sum().backward()  # the libraries' own memory
before = peak_bytes()
fused_selective_loss(hidden, weight, targets, risk, sys.argv[1]).total.backward()
print((peak_bytes() - before) / (rows * vocab * 4))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
@pytest.mark.parametrize("objective", ["full", "unlikelihood"])
def test_logits_never_exist_whole(objective):
    grown = subprocess.run(
        [sys.executable, "-c", _PEAK, objective], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert 0.1 < float(grown.stdout) < 0.4  # in units of the logits: a quarter of the rows at once, and the gradients


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows_at_once", [None, 3])
def test_token_nll_of_hidden_states_is_that_of_logits(biased, rows_at_once):
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(11, generator=generator, dtype=torch.float64, requires_grad=True) if biased else None
    targets = torch.randint(0, 11, (2, 5), generator=generator)
    targets[0, 3:] = -100
    upstream = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    leaves = [one for one in (hidden, weight, bias) if one is not None]

    found = fused_token_nll(hidden, weight, targets, bias=bias, rows_at_once=rows_at_once)
    mine = torch.autograd.grad((found * upstream).sum(), leaves)
    logits = hidden @ weight.t() + (0 if bias is None else bias)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").reshape(
        2, 5
    )
    theirs = torch.autograd.grad((expected * upstream).sum(), leaves)
    assert torch.allclose(found, expected, atol=1e-12)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_token_nll_under_autocast_is_that_of_its_projection():
    generator = torch.Generator().manual_seed(2)
    hidden, weight = torch.randn(6, 8, generator=generator, requires_grad=True), torch.randn(12, 8, generator=generator)
    targets = torch.randint(0, 12, (6,), generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fused_token_nll(hidden, weight, targets)
        logits = torch.nn.functional.linear(hidden, weight)
    expected = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    assert torch.allclose(found, expected, atol=1e-6)
    mine, theirs = (torch.autograd.grad(one.sum(), hidden, retain_graph=True)[0] for one in (found, expected))
    assert torch.allclose(mine, theirs, atol=2e-2)
