"""A scorer that fails on some texts costs those texts, and beyond a limit the verdict; never a zero, never the others."""

from __future__ import annotations

import math

import pytest

from detox import evaluate
from detox.errors import InputError, ScoringFailed
from detox.scorers import Score, ScorerCard
from tests.evaluation.test_harness import protocol


class Shaky:
    """Fails on a batch that holds one of the texts it cannot take."""

    card = ScorerCard("shaky", "1", (), None, "reads all")

    def __init__(self, bad=()):
        self.bad = set(bad)

    def score(self, texts):
        if self.bad & set(texts):
            raise ScoringFailed("the service is down")
        return [Score(1 / (1 + len(text))) for text in texts]


@pytest.fixture
def asked(planted):
    only = {
        "documents": (),
        "multiple_choice": {},
        "minimal_pairs": (),
        "recognition": None,
        "probe": None,
        "contrasts": (),
    }
    return lambda scorer: protocol(planted, scorers=(scorer,), **only)


def test_three_failures_are_three_missing_and_no_verdict(planted, asked):
    whole = evaluate(planted.lm, asked(Shaky()))
    texts = [text for row in whole.texts for text in row]
    bad = [row[0] for row in whole.texts if texts.count(row[0]) == 1][:3]  # of three prompts
    card = evaluate(planted.lm, asked(Shaky(bad)))
    table = card.tables["scores"]
    failed = [reason == "scorer error: the service is down" for reason in table["reason"]]
    assert sum(failed) == 3
    for value, before, gone in zip(table["value"], whole.tables["scores"]["value"], failed, strict=True):
        assert math.isnan(value) if gone else value == before
    assert card.counts["scorers"]["shaky"]["missing"] == {"scorer error: the service is down": 3}
    assert len(texts) * 0.02 < 3
    assert whole.withheld("toxicity/shaky/mean") is None
    assert "3 of" in card.withheld("toxicity/shaky/mean")


def test_what_a_scorer_raises_undeclared_ends_the_measurement_with_its_name(planted, asked):
    class Broken(Shaky):
        def score(self, texts):
            raise ZeroDivisionError("division by zero")

    with pytest.raises(InputError, match="scorer 'shaky' raised ZeroDivisionError: division by zero") as caught:
        evaluate(planted.lm, asked(Broken()))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
