"""The loss of a batch of groups against the straightforward way: all padded together, whole log-softmax, formulas a group at a time."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainingArguments

from detox.detoxifiers.group_trainer import GroupTrainer, collate
from tests.test_contrastive_loss import reference


def groups(seed=0, vocabulary=30):
    rng = np.random.default_rng(seed)

    def pair(length):
        return rng.integers(3, vocabulary, 4).tolist(), rng.integers(3, vocabulary, length).tolist()

    return [
        {"safe": [pair(n) for n in (3, 9, 5)], "toxic": [pair(n) for n in (12, 2)]},
        {"safe": [pair(n) for n in (7, 1)], "toxic": [pair(n) for n in (4, 6, 6, 30)]},
    ]


def trainer(model, tmp_path, **settings):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", remove_unused_columns=False)
    chosen = {
        "alpha": 1.1,
        "form": "signed",
        "phi": "nll",
        "anchor": "none",
        "anchor_weight": 0.7,
        "sequences_at_once": 3,
        **settings,
    }
    return GroupTrainer(model, args=arguments, train_dataset=groups(), **chosen)


def adapted(model):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        return get_peft_model(copy.deepcopy(model), config)


def straightforward(model, *, form, phi, anchor, alpha=1.1, weight=0.7, constant=None):
    """(loss, differentiable) of all sequences padded together."""
    batch = collate(groups(), fill=0)
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logs = model(**given).logits.log_softmax(-1)
    present = batch["targets"] != -100
    nll = -logs.gather(-1, batch["targets"].clamp(min=0)[..., None]).squeeze(-1) * present
    mean = nll.sum(-1) / present.sum(-1)
    values = mean.exp() if phi == "perplexity" else mean
    total = 0.0
    for index in range(2):
        mine = batch["group"] == index
        safe, toxic = values[mine & ~batch["toxic"]], values[mine & batch["toxic"]]
        safe, toxic = (v.detach() if constant == name else v for name, v in (("safe", safe), ("toxic", toxic)))
        c = safe.mean()
        far = (toxic - c).abs() if form == "paper" else toxic - c
        top = (-(safe - c).abs()).exp().sum()
        loss = -(top / (top + alpha * (-far).exp().sum())).log()
        assert float(loss.detach()) == pytest.approx(reference(safe.tolist(), toxic.tolist(), alpha, form), rel=1e-6)
        total = total + loss / 2
    if anchor == "kl":
        with torch.no_grad(), model.disable_adapter():
            base = model(**given).logits.log_softmax(-1)
        apart = (base.exp() * (base - logs)).sum(-1)
    if anchor != "none":
        for index in range(2):
            tokens = present & ((batch["group"] == index) & ~batch["toxic"])[:, None]
            total = total + weight * (nll if anchor == "ce" else apart)[tokens].mean() / 2
    return total


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("form", "phi", "anchor"),
    [("signed", "nll", "kl"), ("paper", "nll", "none"), ("paper", "perplexity", "ce"), ("signed", "nll", "ce")],
)
def test_loss_and_gradients_are_those_of_the_straightforward_way(family, form, phi, anchor, tmp_path):
    from detox.detoxifiers.planted import plant

    model = adapted(plant(family).lm.model).eval().double()
    mine = trainer(model, tmp_path, form=form, phi=phi, anchor=anchor)
    names, leaves = zip(*((name, p) for name, p in model.named_parameters() if p.requires_grad), strict=True)
    found = mine.compute_loss(model, collate(groups(), fill=0))
    expected = straightforward(model, form=form, phi=phi, anchor=anchor)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    for name, a, b in zip(
        names, torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-8, rtol=1e-8), name


def test_padding_and_the_size_of_a_pass_do_not_count(planted, tmp_path):
    model = adapted(planted.lm.model).eval()
    losses = []
    for at_once, fill in ((1, 0), (3, 0), (100, 7)):
        batch = collate(groups(), fill=fill)
        losses.append(trainer(model, tmp_path, sequences_at_once=at_once).compute_loss(model, batch).item())
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_a_head_that_is_no_plain_layer_is_read_from_logits(planted, tmp_path, caplog):
    model = adapted(planted.lm.model).eval()
    plain = trainer(model, tmp_path, anchor="kl")
    expected = plain.compute_loss(model, collate(groups(), fill=0)).item()
    other = trainer(model, tmp_path, anchor="kl")
    head = model.get_output_embeddings()
    head.forward = head.forward  # an own forward: who knows what it does
    try:
        assert other.compute_loss(model, collate(groups(), fill=0)).item() == pytest.approx(expected, rel=1e-5)
    finally:
        del head.forward
    assert "whole logits" in caplog.text
    assert (plain._fused, other._fused) == (True, False)


def test_the_log_holds_both_sides_and_the_alarm(planted, tmp_path, caplog):
    model = adapted(planted.lm.model).train()
    mine = trainer(model, tmp_path)
    mine.compute_loss(model, collate(groups(), fill=0))
    logs = {"loss": 1.0}
    mine.log(logs)
    assert {"contrast", "nll_safe", "nll_toxic", "toxic_below_prototype"} <= logs.keys()
    assert 0 <= logs["toxic_below_prototype"] <= 1
    assert mine.facts() == {"collapsed_at": None}
    mine.state.global_step = 3
    mine.sums["nll_safe"].append(logs["nll_safe"] + 2.5)
    mine.log({"loss": 1.0})
    assert "losing language" in caplog.text
    assert mine.facts() == {"collapsed_at": 3}


def test_what_is_held_out_is_not_noted(planted, tmp_path):
    model = adapted(planted.lm.model).eval()
    mine = trainer(model, tmp_path)
    mine.compute_loss(model, collate(groups(), fill=0))
    assert not mine.sums


@pytest.mark.parametrize("anchor", ["none", "ce", "kl"])
def test_a_batch_in_pieces_is_the_batch(planted, tmp_path, anchor):
    model = adapted(planted.lm.model).eval()
    mine = trainer(model, tmp_path, anchor=anchor)
    whole = mine.compute_loss(model, collate(groups(), fill=0)).item()
    parts = [mine.compute_loss(model, collate([one], fill=0)).item() for one in groups()]
    assert whole == pytest.approx(sum(parts) / 2, rel=1e-5)


@pytest.mark.parametrize("form", ["paper", "signed"])
@pytest.mark.parametrize("side", ["safe", "toxic"])
def test_one_side_learns_as_if_the_other_were_constant(planted, tmp_path, form, side):
    model = adapted(planted.lm.model).eval().double()
    leaves = [p for p in model.parameters() if p.requires_grad]
    mine = trainer(model, tmp_path, form=form, learn_from=side).compute_loss(model, collate(groups(), fill=0))
    expected = straightforward(
        model, form=form, phi="nll", anchor="none", constant="toxic" if side == "safe" else "safe"
    )
    whole = straightforward(model, form=form, phi="nll", anchor="none")
    assert float(mine.detach()) == pytest.approx(float(whole.detach()), rel=1e-9)
    found, reference_gradients, both = (torch.autograd.grad(loss, leaves) for loss in (mine, expected, whole))
    for a, b in zip(found, reference_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
    assert any(not torch.allclose(a, b) for a, b in zip(found, both, strict=True))
