from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detox.errors import InputError, StaleHandle
from detox.models import LanguageModel
from detox.models.activations import read_heads
from detox.models.architectures import ATTENTION_OUTPUT
from detox.models.head_shifts import head_shift
from detox.models.states import residual_states
from detox.models.token_states import read_tokens, token_pieces
from detox.models.tokenization import encode_texts
from tests.models.test_likelihood import tiny

TEXT = "topic3 topic4 says rude1 rude2"


@pytest.mark.parametrize("family", sorted(ATTENTION_OUTPUT))
def test_every_token_is_what_the_text_up_to_it_ends_with(family):
    lm = tiny(family)
    states = read_tokens(lm, TEXT)
    words = TEXT.split()
    starts = [" ".join(words[: i + 1]) for i in range(len(words))]
    np.testing.assert_allclose(states.heads.numpy(), read_heads(lm, starts).numpy(), atol=1e-5)
    np.testing.assert_allclose(states.residual.numpy(), residual_states(lm, starts).numpy(), atol=1e-5)
    assert [piece.strip() for piece in states.pieces] == words
    assert "".join(states.pieces) == TEXT


def test_edits_act_and_a_stale_handle_is_refused():
    lm = tiny("llama")
    bare = read_tokens(lm, TEXT)
    with lm.edited(head_shift(lm, "shift", {(0, 1): torch.ones(bare.heads.shape[-1])})) as shifted:
        moved = read_tokens(shifted, TEXT)
        with pytest.raises(StaleHandle):
            read_tokens(lm, TEXT)
    assert not torch.equal(moved.residual[:, -1], bare.residual[:, -1])
    assert torch.equal(moved.residual[:, 0], bare.residual[:, 0])
    assert torch.equal(read_tokens(lm, TEXT).heads, bare.heads)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in lm.model.modules())


def test_a_prefix_is_read_and_not_shown():
    lm = tiny("llama")
    behind = LanguageModel(lm.model, lm.tokenizer, prefix="topic1 says ")
    states = read_tokens(behind, TEXT)
    assert "".join(states.pieces).strip() == TEXT
    np.testing.assert_allclose(states.heads[-1].numpy(), read_heads(behind, [TEXT])[0].numpy(), atol=1e-5)
    assert len(states.pieces) == len(states.heads) == len(states.residual) == 5


def test_a_long_text_loses_its_beginning_and_an_empty_one_is_refused():
    lm = tiny("llama")
    words = [f"topic{i % 12}" for i in range(100)]
    states = read_tokens(lm, " ".join(words))
    assert [piece.strip() for piece in states.pieces] == words[-64:]
    np.testing.assert_allclose(states.heads[-1].numpy(), read_heads(lm, [" ".join(words)])[0].numpy(), atol=1e-5)
    with pytest.raises(InputError, match="no tokens"):
        read_tokens(lm, "")


@pytest.fixture(scope="module")
def tokenizers(shared_models):
    from transformers import AutoTokenizer, GPT2TokenizerFast

    others = [AutoTokenizer.from_pretrained(shared_models / name) for name in ("stories260K", "babyllama105")]
    return [GPT2TokenizerFast.from_pretrained(shared_models / "gpt2_tokenizer"), *others]


@settings(max_examples=60)
@example("a\u0301\u0301 e\u200d  \u202ereversed\t\n")
@example("👩‍👩‍👧 한국어 <s> </s> ▁")
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_pieces_are_the_text(tokenizers, text):
    for tokenizer in tokenizers:
        ids = encode_texts(tokenizer, [text])[0]
        pieces = token_pieces(tokenizer, ids, text)
        assert len(pieces) == len(ids)
        assert "".join(pieces) == text


def test_a_tokenizer_that_does_not_know_places_shows_its_own_pieces():
    class Slow:
        is_fast = False

        def convert_ids_to_tokens(self, ids):
            return [f"t{i}" for i in ids]

        def convert_tokens_to_string(self, tokens):
            return "".join(tokens)

    assert token_pieces(Slow(), [3, 5], "whatever") == ["t3", "t5"]
