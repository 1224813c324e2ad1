from __future__ import annotations

import numpy as np
import pytest
import torch

from detox.errors import InputError, UnsupportedModel
from detox.models import LanguageModel
from detox.models.architectures import ATTENTION_OUTPUT
from detox.models.states import last_states, residual_states
from tests.models.test_likelihood import tiny

TEXTS = ["topic1 says kind1", "topic2", "topic3 topic4 says rude1 rude2 rude3", "topic5 says kind2"]


def transformers_last_state(lm: LanguageModel, text: str) -> np.ndarray:
    with torch.no_grad():
        return lm.model.base_model(torch.tensor([lm.tokenizer(text)["input_ids"]])).last_hidden_state[0, -1].numpy()


def transformers_states(lm: LanguageModel, text: str) -> np.ndarray:
    """(layers + 1, hidden) of `output_hidden_states` at the last token, of one text alone."""
    ids = torch.tensor([lm.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        states = lm.model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states
    return torch.stack([state[0, -1] for state in states]).numpy()


def final_norm(lm: LanguageModel) -> torch.nn.Module:
    names = (
        "model.norm", "transformer.ln_f", "gpt_neox.final_layer_norm", "transformer.norm_f", "model.final_layernorm",
        "model.decoder.final_layer_norm",
    )  # fmt: skip
    return next(module for name, module in lm.model.named_modules() if name in names)


@pytest.mark.parametrize("family", sorted(ATTENTION_OUTPUT))
def test_the_residual_stream_is_transformers_hidden_states_but_for_the_final_norm(family):
    lm = tiny(family)
    got = residual_states(lm, TEXTS)
    assert got.shape == (4, 3, lm.model.config.hidden_size)
    for index, text in enumerate(TEXTS):
        expected = transformers_states(lm, text)
        np.testing.assert_allclose(got[index, :-1].numpy(), expected[:-1], atol=1e-5)
        with torch.no_grad():
            normed = final_norm(lm)(got[index, -1])
        np.testing.assert_allclose(normed.numpy(), expected[-1], atol=1e-5)
        np.testing.assert_allclose(last_states(lm, [text])[0].numpy(), expected[-1], atol=1e-5)
        assert (
            np.abs(got[index, -1].numpy() - expected[-1]).max() > 0.01
        )  # the norm does something, so the test can fail


def test_the_last_state_is_as_wide_as_the_output_head_wants_it():
    lm = tiny("opt:projected")
    states = last_states(lm, TEXTS)
    assert states.shape == (4, 16)
    np.testing.assert_allclose(states[0].numpy(), transformers_last_state(lm, TEXTS[0]), atol=1e-5)


def test_chosen_entries_are_those_of_all_in_the_order_asked_for():
    lm = tiny("llama")
    whole = residual_states(lm, TEXTS)
    np.testing.assert_allclose(residual_states(lm, TEXTS, layers=[2, 0]).numpy(), whole[:, [2, 0]].numpy(), atol=1e-6)
    for layers, message in (
        ([3], "no entry of the residual stream 3: the model has 3"),
        ([], "at least one"),
        ([1, 1], "each once"),
    ):
        with pytest.raises(InputError, match=message):
            residual_states(lm, TEXTS, layers=layers)


def test_a_model_without_a_list_of_layers_is_refused():
    lm = tiny("llama")
    lm.model.config.num_hidden_layers = 5
    with pytest.raises(UnsupportedModel, match="no list of 5 layers"):
        residual_states(lm, TEXTS)


def test_a_last_state_may_be_narrower_than_the_stream():
    """OPT of 350M narrows it for its output head."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = tiny("llama").tokenizer
    config = AutoConfig.for_model(
        "opt", vocab_size=len(tokenizer), hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        word_embed_proj_dim=16, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    lm = LanguageModel(AutoModelForCausalLM.from_config(config).eval(), tokenizer)
    assert last_states(lm, TEXTS).shape == (4, 16)
    assert residual_states(lm, TEXTS).shape == (4, 3, 32)
