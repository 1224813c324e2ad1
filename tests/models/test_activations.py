from __future__ import annotations

import numpy as np
import pytest
import torch

from detox.detoxifiers.planted import FAMILIES
from detox.errors import InputError, UnsupportedModel
from detox.models import LanguageModel
from detox.models.activations import read_heads
from detox.models.architectures import attention_outputs
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


def test_head_width_is_the_projections_own():
    for family in FAMILIES:
        lm = tiny(family)
        for output in attention_outputs(lm.model):
            width = (
                output.module.in_features if hasattr(output.module, "in_features") else output.module.weight.shape[0]
            )
            assert output.heads * output.head_dim == width
    assert attention_outputs(tiny("llama").model)[0].head_dim == 12 != 32 // 4


def test_no_texts_are_refused():
    with pytest.raises(InputError, match="no texts"):
        read_heads(tiny("llama"), [])
