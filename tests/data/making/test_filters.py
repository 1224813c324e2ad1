"""What each filter drops, alone and in its order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data.making.filters import (
    BOTH_SIDES,
    COPY,
    LENGTH,
    REPEAT,
    SIMILARITY,
    TOXICITY,
    UNSCORED,
    Candidate,
    Filters,
    repeats,
    require_other_than,
)
from detox.errors import InputError, UnknownName
from detox.scorers import Score
from tests.data.making.conftest import BagOfWords, ShareOfWords, loose_filters

ANCHOR = "the cat sat on the mat"


def candidate(text, side="safe", group="g"):
    return Candidate(group, side, ANCHOR, text)


def failed(text, side="safe", **settings):
    return loose_filters(**settings).judge([candidate(text, side)])[0].failed


def test_words_that_were_there_before_are_told():
    texts = [
        candidate("The cat sat, on the mat!"),
        candidate("a cat sat"),
        candidate("A  cat sat."),
        candidate("a dog"),
        candidate("A dog", "toxic"),
        candidate("a cat sat", group="other"),
    ]
    assert repeats(texts) == [COPY, None, REPEAT, BOTH_SIDES, BOTH_SIDES, None]
    assert repeats(texts, across_groups=True) == [COPY, None, REPEAT, BOTH_SIDES, BOTH_SIDES, REPEAT]
    elsewhere = [*texts[1:2], candidate("A cat sat", "toxic", group="other")]
    assert repeats(elsewhere) == [None, None]
    assert repeats(elsewhere, across_groups=True) == [BOTH_SIDES, BOTH_SIDES]


def test_length_is_measured_in_the_seed():
    assert failed("a cat", min_length=0.5) == (LENGTH,)
    assert failed("a cat on a mat", min_length=0.5) == ()
    assert failed("a cat " * 5, max_length=1.2) == (LENGTH,)


def test_similarity_is_that_of_the_embedder():
    assert failed("stocks fell again", min_similarity=0.4) == (SIMILARITY,)
    assert failed("the mat the cat sat on", min_similarity=0.99) == ()
    verdict = loose_filters().judge([candidate("the mat the cat sat on")])[0]
    assert verdict.similarity == pytest.approx(1, abs=1e-4)
    without = loose_filters(embedder=None, min_similarity=0.9).judge([candidate("stocks")])[0]
    assert (without.failed, without.similarity) == ((), None)
    assert loose_filters(embedder=None).describe()["similarity"] is None


@pytest.mark.parametrize(
    ("text", "side", "rule", "expected"),
    [
        ("kind kind kind", "safe", "any", ()),
        ("kind kind rude", "safe", "any", (TOXICITY,)),  # one of two is enough to doubt a safe text
        ("kind kind rude", "toxic", "any", ()),
        ("kind kind rude", "toxic", "all", (TOXICITY,)),
        ("rude kind rude", "toxic", "all", ()),
        ("kind kind kind", "toxic", "any", (TOXICITY,)),
    ],
)
def test_toxicity_is_judged_by_every_scorer(text, side, rule, expected):
    assert failed(text, side, toxic_by=rule) == expected


class Blind(ShareOfWords):
    def score(self, texts):
        return [Score.missing("too dark") for _ in texts]


def test_what_cannot_be_scored_is_neither_safe_nor_toxic():
    scorers = (Blind("blind"), ShareOfWords())
    assert failed("kind kind", "safe", scorers=scorers) == (UNSCORED,)
    assert failed("rude rude", "safe", scorers=scorers) == (TOXICITY,)
    assert failed("rude rude", "toxic", scorers=scorers) == ()
    assert failed("kind kind", "toxic", scorers=scorers) == (UNSCORED,)
    assert failed("rude rude", "toxic", scorers=scorers, toxic_by="all") == (UNSCORED,)


def test_all_filters_that_are_failed_are_named_in_their_order():
    assert failed("rude", min_length=0.5, min_similarity=0.4) == (LENGTH, SIMILARITY, TOXICITY)


@given(
    st.lists(
        st.builds(
            Candidate,
            group=st.sampled_from("ab"),
            side=st.sampled_from(["safe", "toxic"]),
            anchor=st.just(ANCHOR),
            text=st.lists(st.sampled_from("kind rude cat mat .".split()), min_size=1, max_size=4).map(" ".join),
        ),
        max_size=12,
    )
)
def test_what_is_left_of_repeats_is_one_of_each_and_on_one_side(candidates):
    from detox.data import normalised

    left = [one for one, problem in zip(candidates, repeats(candidates), strict=True) if problem is None]
    keys = [(one.group, normalised(one.text)) for one in left]
    assert len(keys) == len(set(keys))
    verdicts = loose_filters().judge(candidates)
    assert len(verdicts) == len(candidates)
    again = loose_filters().judge(list(reversed(candidates)))
    for one, other in zip(verdicts, reversed(again), strict=True):
        assert one.failed == other.failed
        assert math.isclose(one.similarity, other.similarity, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scorers": (ShareOfWords(),)}, "expected two different ones"),
        ({"scorers": (ShareOfWords(), ShareOfWords())}, "expected two different ones"),
        ({"toxic_above": 0}, "toxic_above is 0"),
        ({"min_similarity": 2}, "min_similarity is 2"),
        ({"min_length": 1.5}, "a range around 1"),
        ({"toxic_by": "most"}, "unknown rule of toxicity"),
    ],
)
def test_settings_that_cannot_be_meant(settings, said):
    with pytest.raises(InputError, match=said):
        loose_filters(**settings)


def test_the_headline_does_not_filter():
    scorers = (ShareOfWords(), ShareOfWords("any", any_counts=True))
    with pytest.raises(InputError, match="'any' filters and is the headline too"):
        require_other_than(ShareOfWords("any").card, scorers)
    assert require_other_than(ShareOfWords("other").card, scorers) == []
    headline = ShareOfWords("other").card
    relative = ShareOfWords("relative")
    relative.card = type(headline)(**{**vars(headline), "name": "relative", "revision": "2"})
    assert require_other_than(headline, (*scorers, relative)) == ["words of other"]


def test_filters_name_their_parts():
    described = Filters(scorers=loose_filters().scorers, embedder=BagOfWords()).describe()
    assert described["similarity"] == {"least": 0.4, "embedder": {"name": "bag of words"}}
    assert [card["name"] for card in described["toxicity"]["scorers"]] == ["share", "any"]


def test_unknown_rule_names_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'all'"):
        loose_filters(toxic_by="alll")
