"""KL to the base while edited: 0 on a bare model, the formula on an edited one, absent where it was not asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detox import ITI, evaluate
from detox.data.records import Document, Prompt
from detox.errors import InputError
from detox.evaluation import Protocol
from detox.models.divergence import first_token_kl
from tests.evaluation.test_harness import Rudeness

DOCUMENTS = tuple(Document(id=str(i), text=f"topic{i} says kind{i % 8} rude{i % 3}") for i in range(6))
PROMPTS = tuple(Prompt(id=str(i), text=f"topic{i} says" + " kind1" * (i % 3)) for i in range(7))


def distribution(lm, text):
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([lm.tokenizer(text)["input_ids"]])).logits[0, -1]
    return logits.double().log_softmax(-1).numpy()


def test_a_bare_model_is_its_own_base(planted):
    card = evaluate(planted.lm, Protocol(name="x", documents=DOCUMENTS, kl=True))
    assert card["kl/nats_per_token"].value == 0
    assert "kl/first_token" not in card.metrics  # no prompts, so not asked
    assert card["kl/nats_per_token"].n == len(DOCUMENTS)


def test_not_asked_is_absent_and_never_zero(planted):
    card = evaluate(planted.lm, Protocol(name="x", documents=DOCUMENTS))
    assert not any(name.startswith("kl/") for name in card.metrics)
    with pytest.raises(InputError, match="kl but neither documents nor prompts"):
        Protocol(name="x", kl=True, toxic_documents=DOCUMENTS)


def test_an_edited_model_is_compared_with_itself_without_the_edit(planted):
    protocol = Protocol(name="x", documents=DOCUMENTS, prompts=PROMPTS, scorers=(Rudeness(),), kl=True)
    method = ITI(num_heads=4).fit(planted.lm, planted.contrasts)
    before = planted.lm.fingerprint(rehash=True)
    cards = []
    for strength in (0.0, 1.0, 4.0):
        with method.applied(planted.lm, strength=strength) as safe:
            cards.append(evaluate(safe, protocol))
    assert planted.lm.fingerprint(rehash=True) == before
    values = [(card["kl/nats_per_token"].value, card["kl/first_token"].value) for card in cards]
    assert values[0] == (0, 0)
    assert 0 < values[1][0] < values[2][0]
    assert 0 < values[1][1] < values[2][1]
    table = cards[2].tables["kl"]
    assert values[2][0] == pytest.approx(sum(table["kl"]) / sum(table["tokens"]))


def test_the_first_token_is_the_formula_alone_and_in_any_batch(planted):
    lm = replace(planted.lm)
    texts = [prompt.text for prompt in PROMPTS]
    bare = [distribution(lm, text) for text in texts]
    with ITI(num_heads=4).fit(lm, planted.contrasts).applied(lm, strength=3.0) as safe:
        together = first_token_kl(safe, texts)
        alone = torch.cat([first_token_kl(safe, [text]) for text in texts])
        # What the edited model gives its own choices, token by token.
        every = list(range(len(bare[0])))
        edited = [
            np.array([float(value[0]) for value in safe.logprobs([text] * len(every), [[token] for token in every])])
            for text in texts
        ]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    expected = [(np.exp(p) * (p - q)).sum() for p, q in zip(bare, edited, strict=True)]
    np.testing.assert_allclose(together, expected, atol=1e-4)


def test_text_before_the_prompt_counts_as_the_edit_that_it_is(planted):
    from detox import Prompting

    with Prompting(text="topic4 says kind2 ").applied(planted.lm) as safe:
        found = first_token_kl(safe, ["topic1 says"])
    p, q = distribution(planted.lm, "topic1 says"), distribution(planted.lm, "topic4 says kind2 topic1 says")
    assert float(found[0]) == pytest.approx((np.exp(p) * (p - q)).sum(), abs=1e-5)


def test_wrong_prompts_are_one_clear_line(planted):
    with pytest.raises(InputError, match="at least one"):
        first_token_kl(planted.lm, [])
    with pytest.raises(InputError, match="context holds"):
        first_token_kl(planted.lm, ["topic1 " * 3000])
