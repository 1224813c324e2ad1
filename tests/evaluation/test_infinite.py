"""Infinite results: a token that a model holds for impossible, from the measurement to the file and back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from detox import evaluate
from detox.data.records import Document
from detox.errors import InputError
from detox.evaluation import Protocol, Scorecard
from detox.evaluation.lm_eval_metrics import _estimate
from detox.evaluation.scorecard import FLOATS, float_of, jsonable
from detox.evaluation.utility import document_metrics, margin_metrics
from detox.models.divergence import _divergence


@dataclass(frozen=True)
class Banned:
    """A token that is never to be written: its logit is -inf."""

    token: int

    def step(self, ids, scores):
        return self.sequence(ids, None, scores)

    def sequence(self, ids, mask, logits):
        banned = logits.clone()
        banned[..., self.token] = -math.inf
        return banned


@pytest.fixture
def measured(planted):
    texts = ("topic1 says kind2", "topic2 says kind3", "topic3 says kind1")
    asked = Protocol(name="x", documents=tuple(Document(id=str(i), text=text) for i, text in enumerate(texts)))
    token = planted.lm.tokenizer(" kind3", add_special_tokens=False).input_ids[-1]
    banned = replace(planted.lm, logits_edits=(*planted.lm.logits_edits, Banned(token)))
    return evaluate(planted.lm, asked), evaluate(banned, asked)


def test_a_banned_token_makes_cross_entropy_infinite_and_the_record_says_so(measured, tmp_path):
    base, banned = measured
    nats = banned.tables["documents"]["nats"]
    assert [math.isinf(value) for value in nats] == [False, True, False]
    for name in ("clean/cross_entropy", "clean/perplexity", "clean/bits_per_byte"):
        found = banned[name]
        assert (found.value, found.low, found.high, found.n, found.missing) == (math.inf, math.inf, math.inf, 3, 0)
        assert math.isfinite(base[name].value)
    banned.save(tmp_path / "card")
    again = Scorecard.load(tmp_path / "card")
    assert again.metrics == banned.metrics
    assert again.tables["documents"]["nats"] == pytest.approx(nats, rel=1e-5)
    stored = json.loads((tmp_path / "card" / "scorecard.json").read_text())
    assert stored["metrics"]["clean/perplexity"]["value"] == "Infinity"
    assert document_metrics(again.tables["documents"])["clean/cross_entropy"].value == math.inf
    assert "inf" in str(again)


def test_a_perplexity_beyond_all_floats_is_infinite_and_its_cross_entropy_is_not():
    table = {"nats": [8000.0, 7000.0, 7500.0], "tokens": [10, 10, 10], "bytes": [40, 40, 40]}
    found = document_metrics(table)
    assert found["clean/cross_entropy"].value == pytest.approx(750)
    assert found["clean/perplexity"].value == math.inf
    assert found["clean/bits_per_byte"].value == pytest.approx(22500 / 120 / math.log(2))
    assert _estimate("perplexity", np.array([-800.0, -900.0]), np.ones(2)).value == math.inf
    assert _estimate("bits_per_byte", np.array([-8.0, -math.inf]), np.ones(2)).high == math.inf


def test_margins_of_what_is_impossible_are_infinite_or_missing():
    found = margin_metrics({"safe": [-1.0, -2.0, -math.inf], "toxic": [-math.inf, -3.0, -math.inf]})
    assert (found["margin/nats_per_token"].value, found["margin/nats_per_token"].missing) == (math.inf, 1)
    assert (found["margin/safe_likelier"].value, found["margin/safe_likelier"].missing) == (1.0, 1)


def test_a_divergence_is_infinite_where_only_the_handle_rules_a_token_out():
    import torch

    p = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]).log()
    q = torch.tensor([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]]).log()
    expected = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)
    assert _divergence(p, q).tolist() == pytest.approx([expected, math.inf])


def test_every_column_of_floats_comes_back_and_no_other_holds_infinity(tmp_path):
    table = {column: [math.inf, -math.inf, math.nan, 0.5] for column in sorted(FLOATS)}
    names = ["Infinity", "-Infinity", "a", "b"]  # text stays text
    card = Scorecard({"name": "x", "digest": "0"}, "f", {}, tables={"t": {**table, "id": names}})
    card.save(tmp_path / "card")
    again = Scorecard.load(tmp_path / "card").tables["t"]
    assert again["id"] == names
    for column in FLOATS:
        np.testing.assert_array_equal(again[column], table[column])
    wrong = replace(card, tables={"t": {"other": [math.inf]}})
    with pytest.raises(InputError, match="column other holds an infinite number"):
        wrong.save(tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("value", [0.0, -1.5, math.inf, -math.inf, math.nan])
def test_a_float_is_itself_again(value):
    text = json.dumps(jsonable({"a": [value]}), allow_nan=False)
    np.testing.assert_equal(float_of(json.loads(text)["a"][0]), value)
