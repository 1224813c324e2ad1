from __future__ import annotations

import numpy as np
import pytest
import torch

from detox.errors import InputError
from detox.models.divergence import kl_to_base
from detox.models.head_shifts import head_shift
from tests.models.test_head_shifts import TEXTS, by_hand, shift_of
from tests.models.test_likelihood import tiny


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("positions", ["all", "generation"])
def test_divergence_is_that_of_the_formula(family, positions):
    lm = tiny(family)
    edit, vectors = shift_of(lm, positions, size=1.0)
    with lm.edited(edit) as safe:
        found = kl_to_base(safe, TEXTS)
    start = lm.tokenizer.eos_token_id  # this tokenizer has no token for the beginning
    for text, values in zip(TEXTS, found, strict=True):
        ids = [start, *lm.tokenizer(text)["input_ids"]]
        here = by_hand(lm, ids[:-1], 1, positions, vectors).double().log_softmax(-1).numpy()
        with torch.no_grad():
            there = lm.model(input_ids=torch.tensor([ids[:-1]])).logits[0].double().log_softmax(-1).numpy()
        expected = (np.exp(there) * (there - here)).sum(-1)
        np.testing.assert_allclose(values.numpy(), expected, atol=1e-5)
        assert expected.max() > 1e-3
    assert all(float(values.abs().max()) < 1e-6 for values in kl_to_base(lm, TEXTS))


def test_texts_beyond_the_context_are_cut():
    lm = tiny("llama")
    limit = lm.model.config.max_position_embeddings
    long = " ".join(["topic1"] * (limit + 30))
    with lm.edited(head_shift(lm, "shift", {(0, 0): torch.ones(12)})) as safe:
        assert len(kl_to_base(safe, [long])[0]) == limit


def test_nothing_to_compare_is_said():
    lm = tiny("llama")
    for texts in ([], "topic1"):
        with pytest.raises(InputError, match="no texts"):
            kl_to_base(lm, texts)
    with pytest.raises(InputError, match="text 1 has no tokens"):
        kl_to_base(lm, ["topic1", ""])
