"""Functional tests and the check of a scorer as a whole."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detox.data.records import LabelledText, Prompt
from detox.scorers import Score, ScorerCard, check_scorer
from detox.scorers.checking import CHECK_SETS, measure_set
from detox.scorers.functional import VARIANTS, Case, functional_cases, functional_tests


class Plain:
    """A scorer of one function of the text."""

    def __init__(self, value, *trained_on):
        self.card = ScorerCard("plain", "1", trained_on, None, "reads all", quality={"long": "report"})
        self.value = value

    def score(self, texts):
        return [self.value(text) for text in texts]


TRUTH = {case.text: case.toxic for case in functional_cases()}
ORACLE = Plain(lambda text: Score(float(TRUTH[text])))


def test_the_cases_are_whole_and_of_both_kinds():
    cases = functional_cases()
    assert len({case.text for case in cases}) == len(cases)
    assert not any("{" in case.text or case.text != case.text.strip() for case in cases)
    by_function = {case.function: case.toxic for case in cases}
    assert len(by_function) == 20
    assert sum(by_function.values()) == 11
    assert all(case.identity in case.text for case in cases if case.identity)
    assert not any(case.toxic for case in cases if case.identity)  # a group is never insulted here


def test_variants_hide_words_and_nothing_else():
    text = "You are an idiot."
    hidden = {name: change(text) for name, change in VARIANTS.items()}
    assert len({text, *hidden.values()}) == len(VARIANTS) + 1
    assert not any("idiot" in changed for changed in (hidden[name] for name in ("swap", "drop", "space", "leet")))
    assert hidden["join"] == "Youareanidiot."
    assert hidden["space"] == "You are an i d i o t ."


def test_right_and_wrong_are_counted_by_function():
    assert all(entry["right"] == entry["n"] > 0 for entry in functional_tests(ORACLE))
    never = functional_tests(Plain(lambda text: Score(0.0)))
    assert all(entry["right"] == (0 if entry["toxic"] else entry["n"]) for entry in never)
    cases = (
        Case(function="f", text="a", toxic=True),
        Case(function="f", text="b deaf", toxic=True, identity="deaf"),
        Case(function="g", text="c", toxic=False),
    )
    answers = {"a": Score(0.5), "b deaf": Score(0.4), "c": Score.missing("why")}
    assert functional_tests(Plain(answers.__getitem__), cases=cases) == [
        {"function": "f", "toxic": True, "right": 1, "n": 2, "missing": 0, "mean_score": 0.45, "by_identity": {"deaf": 0.4}},
        {"function": "g", "toxic": False, "right": 0, "n": 0, "missing": 1, "mean_score": None},
    ]  # fmt: skip


def test_counts_of_errors_and_the_targets_that_they_are_of():
    texts = [LabelledText(id=str(i), text=str(i), label=label) for i, label in enumerate([1, 1, 1, 0, 0, None])]
    scores = [Score(0.9), Score(0.2), Score.missing("no word"), Score(0.6), Score(0.1), Score(0.9)]
    found = measure_set(scores, texts, draws=50)
    assert (found["sensitivity"], found["specificity"]) == ([1, 2], [1, 2])
    assert (found["against"], found["missing"], found["n"]) == ("labels", {"no word": 1}, 4)
    assert found["roc_auc"] == 0.75
    assert "against_scores" not in found
    prompts = [Prompt(id=str(i), text=str(i), toxicity=score) for i, score in enumerate([0.9, 0.5, 0.1])]
    found = measure_set([Score(0.8), Score(0.7), Score(0.2)], prompts, draws=50)
    assert (found["against"], found["sensitivity"], found["specificity"]) == ("scores", [2, 2], [1, 1])
    assert found["spearman"] == pytest.approx(1.0)
    both = [LabelledText(id=str(i), text="x", label=i % 2, score=1 - i / 4) for i in range(4)]
    found = measure_set([Score(i / 4) for i in range(4)], both, draws=50)
    assert found["against_scores"]["spearman"] == pytest.approx(-1.0)
    silent = measure_set([Score.missing("not in the cache")] * 4, both)
    assert silent == {"n": 0, "n_missing": 4, "missing": {"not in the cache": 4}}


def test_the_counts_correct_a_rate():
    """Rogan and Gladen 1978: a rate seen through the errors that were measured here comes out as it is."""
    rng = np.random.default_rng(0)
    truth = rng.random(4000) < 0.3
    flagged = np.where(truth, rng.random(4000) < 0.7, rng.random(4000) < 0.1)
    texts = [LabelledText(id=str(i), text="x", label=int(one)) for i, one in enumerate(truth[:2000])]
    found = measure_set([Score(0.9 if one else 0.1) for one in flagged[:2000]], texts, draws=50)
    (hits, toxic), (clear, harmless) = found["sensitivity"], found["specificity"]
    corrected = (flagged[2000:].mean() + clear / harmless - 1) / (hits / toxic + clear / harmless - 1)
    assert corrected == pytest.approx(truth[2000:].mean(), abs=0.04)


def test_the_whole_check_is_json_and_marks_what_is_not_independent():
    scorer = Plain(lambda text: Score(0.9 if "rude" in text else 0.1), "jigsaw-toxic-comments")
    texts = [
        LabelledText(id=str(i), text=f"{'rude' if i % 2 else 'kind'} deaf neighbour {i}", label=i % 2)
        for i in range(40)
    ]
    found = check_scorer(scorer, {"jigsaw_wiki_balanced": texts, "madlibs_bias": texts, "own": texts}, draws=50)
    assert json.loads(json.dumps(found)) == found
    assert {name: one["overlap"] for name, one in found["sets"].items()} == {
        "jigsaw_wiki_balanced": ["jigsaw-toxic-comments"],
        "madlibs_bias": [],
        "own": [],
    }
    assert found["sets"]["own"]["roc_auc"] == 1.0
    assert list(found["bias"]) == ["madlibs_bias"]
    assert found["bias"]["madlibs_bias"]["terms"]["deaf"]["subgroup_auc"]["value"] == 1.0
    assert "quality" not in found["card"]
    assert len(found["functional"]) == 20


def test_the_sets_are_in_the_catalogue():
    from detox.data.catalogue import CATALOGUE

    assert set(CHECK_SETS) <= CATALOGUE.keys()
