import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.errors import InputError, MissingData, ScoringFailed
from detox.scorers import Score, Scorer, ScorerCard, score_texts
from detox.scorers.protocol import is_empty, readable


class Plugin:
    """A scorer of somebody else's: answers whatever it was given."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    card = ScorerCard("plugin", "1", ("its data",), None, "reads all")

    def score(self, texts):
        self.asked = list(texts)
        return self.answer(texts)


def length_scorer():
    return Plugin(lambda texts: [Score(len(text) / (1 + len(text))) for text in texts])


def test_a_plain_class_is_a_scorer():
    assert isinstance(length_scorer(), Scorer)
    assert not isinstance(object(), Scorer)


@given(st.lists(st.text(), max_size=8))
def test_one_score_a_text_in_order(texts):
    scores = score_texts(length_scorer(), texts)
    assert len(scores) == len(texts)
    for text, score in zip(texts, scores, strict=True):
        if is_empty(text):
            assert score.is_missing
            assert score.reason == "empty"
        else:
            assert score == Score(len(readable(text)) / (1 + len(readable(text))))


def test_a_list_of_one_is_a_list_of_one():
    assert score_texts(length_scorer(), ["a"]) == [Score(0.5)]
    assert score_texts(length_scorer(), []) == []


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u200b", "\u00a0", "\x00", "\ufeff \u2028"])
def test_text_without_a_visible_character_never_reaches_the_scorer(text):
    scorer = length_scorer()
    (score,) = score_texts(scorer, [text])
    assert math.isnan(score.value)
    assert score.reason == "empty"
    assert scorer.asked == []


def test_lone_surrogates_are_replaced_and_halves_joined():
    scorer = length_scorer()
    score_texts(scorer, ["a\ud800b", "\ud83d\ude00", "x\0y"])
    assert scorer.asked == ["a\ufffdb", "\U0001f600", "x\0y"]


def test_numpy_numbers_become_floats():
    (score,) = score_texts(Plugin(lambda texts: [Score(np.float32(0.25))]), ["a"])
    assert type(score.value) is float


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda texts: [Score(0.5)], "1 scores for 2 texts"),
        (lambda texts: 0.5, "float for 2 texts"),
        (lambda texts: [Score(0.5), 0.5], "text 2: got float"),
        (lambda texts: [Score(0.5), Score(1.5)], "text 2: value 1.5"),
        (lambda texts: [Score(0.5), Score(-0.1)], "text 2: value -0.1"),
        (lambda texts: [Score(0.5), Score(math.inf)], "text 2: value inf"),
        (lambda texts: [Score(0.5), Score(math.nan)], "text 2: NaN without a reason"),
        (lambda texts: [Score(0.5), Score(0.5, "why")], "a reason belongs to NaN"),
        (lambda texts: [Score(0.5), Score("high")], "text 2: value 'high'"),
    ],
)
def test_a_broken_scorer_is_named_with_the_index_of_the_text(answer, says):
    with pytest.raises(InputError, match="scorer 'plugin'") as error:
        score_texts(Plugin(answer), ["a", "", "b"])
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (ZeroDivisionError(), "raised ZeroDivisionError; of a text"),
        (RuntimeError("two\nlines"), "raised RuntimeError: two lines; of a text"),
    ],
)
def test_what_a_scorer_raises_is_one_line_with_its_cause(raised, says):
    def fail(texts):
        raise raised

    with pytest.raises(InputError, match="scorer 'plugin' raised") as caught:
        score_texts(Plugin(fail), ["a"])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is raised


def test_an_error_of_ours_says_which_scorer_it_comes_from():
    def fail(texts):
        raise MissingData("no weights in there; bring them")

    with pytest.raises(MissingData, match="no weights") as caught:
        score_texts(Plugin(fail), ["a"])
    assert caught.value.__notes__ == ["raised by scorer 'plugin'"]


@given(st.integers(1, 40), st.sets(st.integers(0, 39)))
def test_texts_on_which_a_scorer_declares_failure_are_missing_and_no_others(n, bad):
    def fail(texts):
        if any(int(text) in bad for text in texts):
            raise ScoringFailed("no answer within 5 s\nand more")
        return [Score(int(text) / 100) for text in texts]

    scores = score_texts(Plugin(fail), [str(index) for index in range(n)])
    for index, score in enumerate(scores):
        expected = "scorer error: no answer within 5 s" if index in bad else None
        assert (score.reason, score.is_missing) == (expected, index in bad)
        assert score.is_missing or score.value == index / 100


def test_attributes_are_kept_and_their_range_is_checked():
    given = Score(0.5, None, {"insult": np.float32(0.25), "threat": 1})
    (score,) = score_texts(Plugin(lambda texts: [given]), ["a"])
    assert score.attributes == {"insult": 0.25, "threat": 1.0}
    assert type(score.attributes["insult"]) is float
    assert Score(0.5).attributes == {}
    assert hash(Score(0.5, None, {"insult": 1.0})) == hash(Score(0.5))
    for wrong in ({"insult": 1.5}, {"insult": math.nan}, {"insult": "high"}, {3: 0.5}, [0.5]):
        with pytest.raises(InputError, match="scorer 'plugin', text 0: attribute"):
            score_texts(Plugin(lambda texts, wrong=wrong: [Score(0.5, None, wrong)]), ["a"])


@pytest.mark.parametrize(
    ("texts", "says"), [("abc", "one string"), (["a", None], "text 1 is NoneType"), ([b"a"], "bytes")]
)
def test_only_lists_of_strings_are_scored(texts, says):
    with pytest.raises(InputError, match=says):
        score_texts(length_scorer(), texts)


def test_identity_is_json_and_knows_neither_provenance_nor_quality():
    card = ScorerCard("a", "1", ("x",), 50, "windows", settings={"match": "any"}, quality={"roc_auc": 0.9})
    same = ScorerCard("a", "1", ("y",), 50, "windows", settings={"match": "any"})
    assert json.dumps(card.identity()) == json.dumps(same.identity())
    assert card.identity() != ScorerCard("a", "2", ("x",), 50, "windows", settings={"match": "any"}).identity()
    assert card.identity() != ScorerCard("a", "1", ("x",), 50, "windows", settings={"match": "all"}).identity()
    assert json.loads(json.dumps(card.to_dict()))["trained_on"] == ["x"]
