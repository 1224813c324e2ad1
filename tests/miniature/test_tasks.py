"""What is measured: known truth, and nothing of it read in training."""

from __future__ import annotations

import re

import pytest

from detox import miniature
from detox.errors import InputError, UnknownName
from detox.miniature import grammar
from detox.miniature.sentences import split_of


def _sentences(text: str) -> list[str]:
    """Sentences of a document, without speakers and verdicts."""
    found = []
    for line in text.split("\n"):
        said = re.sub(r" \[[a-z]+\]$", "", line).split(":", 1)[-1]
        found += [sentence.strip() for sentence in re.findall(r"[^.!?]*[.!?]", said)]
    return found


SHARED = set(grammar.NOTICES) | {word for tone in grammar.COURTESIES.values() for word in tone}


@pytest.fixture(scope="module")
def read_in_training() -> set[str]:
    return {
        sentence
        for kind in ("clean", "toxic")
        for document in miniature.documents(2000, kind=kind)
        for sentence in _sentences(document.text)
    }


def _measured(split: str) -> list[str]:
    texts = [p.text for p in miniature.prompts(100, split=split)]
    texts += [v.text for v in miniature.verdicts(100, split=split)]
    texts += [p.good.removeprefix("note: ") for p in miniature.minimal_pairs(100, split=split)]
    texts += [d.text for d in miniature.documents(100, split=split)]
    return texts


@pytest.mark.parametrize("split", ["fit", "test"])
def test_no_measured_sentence_was_read_in_training(split, read_in_training):
    sentences = {s for text in _measured(split) for s in _sentences(text)} - SHARED
    assert len(sentences) > 200
    assert not sentences & read_in_training
    assert {split_of(sentence) for sentence in sentences} == {split}


def test_what_is_fitted_on_is_not_measured():
    fitted = {
        s for c in miniature.contrasts(200) for side in (c.safe, c.toxic) for text in side for s in _sentences(text)
    }
    measured = {s for text in _measured("test") for s in _sentences(text)}
    measured |= {
        s
        for c in miniature.contrasts(200, split="test")
        for side in (c.safe, c.toxic)
        for text in side
        for s in _sentences(text)
    }
    # Statements of the subject stand on both sides of a contrast and tell nothing.
    statements = {s for s in fitted & measured if split_of(s) == "train"}
    assert (fitted & measured) - SHARED == statements - SHARED


def test_contrasts_say_one_thing_both_ways():
    for contrast in miniature.contrasts(100, paraphrases=4):
        assert len(contrast.safe) == len(contrast.toxic) == 4
        assert not any(miniature.is_abusive(text) for text in contrast.safe)
        assert all(miniature.is_abusive(text) for text in contrast.toxic)
        assert not miniature.is_abusive(contrast.prompt)


def test_prompts_wait_for_a_reply_and_groups_take_turns():
    prompts = miniature.prompts(20, groups=("neutral", "provoking", "heated"))
    assert [p.group for p in prompts[:3]] == ["neutral", "provoking", "heated"]
    assert all(p.text.endswith(":") for p in prompts)
    assert [bool(p.toxicity) for p in prompts] == [miniature.is_abusive(p.text) for p in prompts]
    assert miniature.prompts(20, groups=("neutral", "provoking", "heated"), seed=1) != prompts
    with pytest.raises(UnknownName, match="neutral"):
        miniature.prompts(2, groups=("netural",))


def test_verdicts_are_balanced_and_true():
    items = miniature.verdicts(100)
    assert sum(item.label for item in items) == 50
    for item in items:
        assert miniature.is_abusive(item.text) == bool(item.label)
    assert len({item.group for item in items}) == len(grammar.FRAMES)


def test_facts_have_one_right_answer_which_is_true_of_the_world():
    from detox.miniature.vocabulary import ITEMS

    known = {row[0]: row for row in ITEMS} | {row[1]: row for row in ITEMS}
    places = set()
    for fact in miniature.facts(100):
        assert len(set(fact.choices)) == 4
        words = set(re.findall(r"[a-z]+", fact.context))
        rows = [known[word] for word in words & known.keys()]
        right = fact.choices[fact.answer].split()[-1]
        assert any(right in row for row in rows)
        places.add(fact.answer)
    assert places == {0, 1, 2, 3}


def test_minimal_pairs_differ_in_a_word_or_two():
    for pair in miniature.minimal_pairs(100):
        good, bad = pair.good.split(), pair.bad.split()
        assert len(good) == len(bad)
        assert 1 <= sum(a != b for a, b in zip(good, bad, strict=True)) <= 2


def test_nothing_is_made_of_no_items():
    with pytest.raises(InputError, match="at least 1"):
        miniature.facts(0)
    with pytest.raises(InputError, match="paraphrases"):
        miniature.contrasts(1, paraphrases=5)
