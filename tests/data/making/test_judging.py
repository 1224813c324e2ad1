"""Planted bad pairs, and how many of them the filters find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data import Contrast, normalised
from detox.data.making.judging import (
    IDENTICAL,
    PLANTED,
    SAFE_TWICE,
    SWAPPED,
    TOXIC_TWICE,
    TRUNCATED,
    judge_filters,
    plant_bad_pairs,
)
from detox.errors import InputError
from tests.data.making.conftest import loose_filters


def contrasts(number):
    words = [f"w{n} v{n} u{n} t{n} s{n}" for n in range(number)]
    return [
        Contrast(id=str(n), prompt="", safe=(f"{text} kind fair", f"fair {text}"), toxic=(f"{text} rude",))
        for n, text in enumerate(words)
    ]


def test_filters_that_see_everything_find_everything():
    pairs = plant_bad_pairs(contrasts(100), share=0.5, seed=1)
    found = judge_filters(pairs, loose_filters(min_similarity=0.5, min_length=0.6, max_length=1.6, toxic_above=0.1))
    assert found["pairs"] == {"good": 50, **dict.fromkeys(PLANTED, 10)}
    assert found["all"]["precision"]["value"] == found["all"]["recall"]["value"] == 1
    assert found["all"]["good_dropped"]["value"] == 0
    assert found["bad_kept"]["value"] == 0
    assert found["filters"]["copy"]["recall_by_kind"] == {**dict.fromkeys(PLANTED, 0), IDENTICAL: 1}
    assert found["filters"]["length"]["recall_by_kind"][TRUNCATED] == 1
    similarity = found["filters"]["similarity"]["recall_by_kind"]
    assert similarity[SWAPPED] == 1
    assert similarity[IDENTICAL] == similarity[TOXIC_TWICE] == similarity[SAFE_TWICE] == 0
    toxicity = found["filters"]["toxicity"]["recall_by_kind"]
    assert toxicity[TOXIC_TWICE] == toxicity[SAFE_TWICE] == toxicity[IDENTICAL] == 1
    assert toxicity[SWAPPED] == 0
    assert found["called_toxic"]["any"]["safe"]["value"] == 0
    assert found["called_toxic"]["any"]["toxic"]["value"] == 1


def test_filters_that_see_nothing_find_only_the_same_words_twice():
    pairs = plant_bad_pairs(contrasts(100), share=0.5, seed=1)
    found = judge_filters(pairs, loose_filters(embedder=None, min_length=0, max_length=100))
    assert found["filters"]["length"]["dropped"] == 0
    assert found["filters"]["length"]["precision"] is None
    assert found["filters"]["similarity"]["recall"]["value"] == 0
    assert found["all"]["recall_by_kind"][SWAPPED] == 0
    assert found["bad_kept"]["value"] == pytest.approx(20 / 70, abs=1e-4)


@given(st.integers(2, 40), st.floats(0.05, 0.95), st.integers(0, 5))
def test_what_is_planted_is_as_many_and_as_bad_as_said(number, share, seed):
    given_ones = contrasts(number)
    pairs = plant_bad_pairs(given_ones, share=share, seed=seed)
    assert pairs == plant_bad_pairs(given_ones, share=share, seed=seed)
    assert [one.id for one in pairs] == [one.id for one in given_ones]
    assert sum(one.planted is not None for one in pairs) == round(share * number)
    for one, source in zip(pairs, given_ones, strict=True):
        own = (source.safe[0], source.toxic[0])
        if one.planted is None:
            assert (one.safe, one.toxic) == own
        else:
            assert (one.safe, one.toxic) != own
        if one.planted == SWAPPED:
            assert one.safe in {other.safe[0] for other in given_ones if other.id != one.id}
        if one.planted in (TOXIC_TWICE, SAFE_TWICE):
            assert normalised(one.safe) != normalised(one.toxic)


def test_what_cannot_be_judged():
    with pytest.raises(InputError, match="share of bad pairs 0"):
        plant_bad_pairs(contrasts(3), share=0)
    with pytest.raises(InputError, match="1 contrasts with both sides"):
        plant_bad_pairs([*contrasts(1), Contrast(id="x", prompt="", safe=("a",), toxic=())])
