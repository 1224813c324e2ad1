from __future__ import annotations

import numpy as np
import pytest
import torch

from detox.detoxifiers.planted import FAMILIES
from detox.errors import InputError, UnsupportedModel
from detox.models import LanguageModel, Sampling
from detox.models.activations import read_heads
from detox.models.architectures import attention_outputs
from detox.models.head_shifts import head_shift
from tests.models.test_likelihood import tiny

TEXTS = ["topic1 says kind1", "topic2", "topic3 topic4 says rude1 rude2 rude3", "topic5 says kind2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_are_read_at_the_last_token_whatever_the_batch(family):
    lm = tiny(family)
    whole = read_heads(lm, TEXTS)
    outputs = attention_outputs(lm.model)
    assert whole.shape == (4, 2, 4, outputs[0].head_dim)
    for index, text in enumerate(TEXTS):
        seen: dict[str, torch.Tensor] = {}
        handles = [
            o.module.register_forward_pre_hook(lambda m, a, n=o.name, seen=seen: seen.__setitem__(n, a[0]))
            for o in outputs
        ]
        ids = torch.tensor([lm.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            lm.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        for handle in handles:
            handle.remove()
        expected = torch.stack([seen[o.name][0, -1].unflatten(-1, (o.heads, o.head_dim)) for o in outputs])
        np.testing.assert_allclose(whole[index].numpy(), expected.numpy(), atol=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shift_is_the_projection_of_a_constant(family):
    """Shifting a head by d at the projection's input adds W_o d to its output, at every real position."""
    lm = tiny(family)
    output = attention_outputs(lm.model)[1]
    d = torch.from_numpy(np.random.default_rng(0).normal(size=output.head_dim)).float()
    flat = torch.zeros(output.heads, output.head_dim)
    flat[2] = d
    projected = output.module(flat.flatten()) - output.module(torch.zeros(output.heads * output.head_dim))
    seen: list[torch.Tensor] = []
    handle = output.module.register_forward_hook(lambda m, a, out: seen.append(out.detach()))
    ids = torch.tensor([lm.tokenizer(TEXTS[2])["input_ids"]])
    with torch.no_grad():
        lm.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        with lm.edited(head_shift(lm, "shift", {(1, 2): d})):
            lm.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    handle.remove()
    difference = seen[-1] - seen[0]
    np.testing.assert_allclose(difference.numpy(), projected.detach().expand_as(difference).numpy(), atol=2e-5)


def test_every_row_of_a_batch_is_steered_and_padding_is_not():
    lm = tiny("llama")
    output = attention_outputs(lm.model)[0]
    d = torch.ones(output.head_dim)
    inputs: list[torch.Tensor] = []

    with lm.edited(head_shift(lm, "shift", {(0, 0): d})) as safe:
        handle = output.module.register_forward_pre_hook(lambda m, a: inputs.append(a[0].detach()))  # after the shift
        safe.logprobs(TEXTS, [" kind1"] * len(TEXTS))
        steered = inputs.pop()
        handle.remove()
        receipt = safe.receipts()[0]
    handle = output.module.register_forward_pre_hook(lambda m, a: inputs.append(a[0].detach()))
    lm.logprobs(TEXTS, [" kind1"] * len(TEXTS))
    handle.remove()
    moved = (steered - inputs.pop())[..., : output.head_dim].mean(-1)
    lengths = sorted((len(lm.tokenizer(t)["input_ids"]) for t in TEXTS), reverse=True)
    for row, length in zip(moved, lengths, strict=True):
        np.testing.assert_allclose(row[:length].numpy(), 1.0, atol=1e-6)
        np.testing.assert_allclose(row[length:].numpy(), 0.0, atol=1e-6)
    assert receipt.tokens["prompt"] == sum(lengths)
    assert receipt.tokens["pad"] == 4 * lengths[0] - sum(lengths)
    assert receipt.relative_size is not None
    assert receipt.relative_size > 0


def test_the_receipt_counts_prompt_and_generated_tokens():
    lm = tiny("llama")
    with lm.edited(head_shift(lm, "shift", {(1, 0): torch.ones(12)})) as safe:
        completions = safe.generate(["topic1 says", "topic2"], Sampling(max_new_tokens=6, num_return_sequences=3))
        tokens = safe.receipts()[0].tokens
    fed = sum(len(c.token_ids) for row in completions for c in row)
    longest = max(len(c.token_ids) for row in completions for c in row)
    # The last token that is drawn is never fed; the last prompt token is fed once a sample.
    fed -= sum(len(c.token_ids) == longest for row in completions for c in row)
    assert tokens["generated"] == fed
    assert tokens["prompt"] == 1 + 6
    assert tokens["unannounced"] == 0


def test_baukit_reads_the_same():
    pytest.importorskip("baukit")
    lm = tiny("llama")
    assert torch.equal(read_heads(lm, TEXTS, use_baukit=True), read_heads(lm, TEXTS, use_baukit=False))


def test_asking_for_an_absent_baukit_says_so(monkeypatch):
    import detox.models.activations as activations

    monkeypatch.setattr(activations, "TraceDict", None)
    with pytest.raises(InputError, match="baukit is not installed"):
        read_heads(tiny("llama"), TEXTS, use_baukit=True)
    assert read_heads(tiny("llama"), TEXTS).shape[0] == 4


def test_a_model_without_attention_is_refused():
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("mamba", vocab_size=32, hidden_size=16, num_hidden_layers=1, state_size=4)
    lm = LanguageModel(AutoModelForCausalLM.from_config(config), tiny("llama").tokenizer)
    with pytest.raises(UnsupportedModel, match=r"'mamba'.*no attention.*known: .*gpt2"):
        read_heads(lm, TEXTS)


def test_wrong_heads_are_named():
    lm = tiny("llama")
    with pytest.raises(InputError, match="no head 9 in layer 0: the model has 2 layers of 4 heads"):
        head_shift(lm, "x", {(0, 9): torch.ones(12)})
    with pytest.raises(InputError, match=r"shape \(8,\); expected \(12,\)"):
        head_shift(lm, "x", {(0, 0): torch.ones(8)})
    with pytest.raises(InputError, match="NaN"):
        head_shift(lm, "x", {(0, 0): torch.full((12,), torch.nan)})
    with pytest.raises(InputError, match="no texts"):
        read_heads(lm, [])


def test_head_width_is_the_projections_own():
    for family in FAMILIES:
        lm = tiny(family)
        for output in attention_outputs(lm.model):
            width = (
                output.module.in_features if hasattr(output.module, "in_features") else output.module.weight.shape[0]
            )
            assert output.heads * output.head_dim == width
    assert attention_outputs(tiny("llama").model)[0].head_dim == 12 != 32 // 4
