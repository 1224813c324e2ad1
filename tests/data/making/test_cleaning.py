"""The paraphrase in an answer: what is unwrapped, what is no paraphrase."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data.making.cleaning import CONTENT_FILTER, EMPTY, PROBLEMS, REFUSED, UNFINISHED, paraphrase_in


@pytest.mark.parametrize(
    "answer",
    [
        "The cat sat down.",
        "  \n The cat   sat down. \n",
        '"The cat sat down."',
        "“The cat sat down.”",
        '1. "The cat sat down."\n2. "Down sat the cat."',
        "- The cat sat down.",
        "Paraphrase: The cat sat down.",
        "**Paraphrased sentence:** The cat sat down.",
        "Toxic paraphrase: The cat sat down.",
        'Rewritten sentence: "The cat sat down."',
        '1) **Answer**: "The cat sat down."',
        "Sure! Here is one way to say it:\n\nThe cat sat down.\n\nI hope that helps!",
        "<think>A cat... sitting:\nwell</think>\n\nThe cat sat down.",
        "The cat sat down.\n### HUMAN: Paraphrase the following",
        "The cat sat down.### HUMAN:",
        "```\nThe cat sat down.\n```",
    ],
)
def test_what_models_put_around_a_paraphrase_is_taken_off(answer):
    assert paraphrase_in(answer, "stop") == ("The cat sat down.", None)


@pytest.mark.parametrize(
    ("answer", "finish", "problem"),
    [
        ("", "stop", EMPTY),
        (" \n\t", "stop", EMPTY),
        ("###", "stop", EMPTY),
        ('""', "stop", EMPTY),
        ("I'm sorry, but I can't help with that.", "stop", REFUSED),
        ("I cannot fulfill this request.", "stop", REFUSED),
        ("As an AI language model, I do not use such words.", "stop", REFUSED),
        ("I won't write toxic content.", "stop", REFUSED),
        ("The cat sat down.", CONTENT_FILTER, REFUSED),
        ("The cat sat and then it", "length", UNFINISHED),
    ],
)
def test_what_is_no_paraphrase_has_a_reason(answer, finish, problem):
    assert paraphrase_in(answer, finish) == ("", problem)


def test_what_only_sounds_like_a_refusal_is_none():
    for text in ("I can't believe he said that.", "Sorry, we are closed.", "He cannot swim, and nobody will help him."):
        assert paraphrase_in(text, "stop") == (text, None)


def test_quotes_and_colons_that_belong_to_the_sentence_stay():
    for text in ('"Sit," he said, "down."', '"A" and "B"', "Answer me this: where is the cat?", "Note: the cat sat."):
        assert paraphrase_in(text, "stop") == (text, None)


def test_of_a_text_that_is_cut_off_whole_sentences_are_kept():
    assert paraphrase_in("The cat sat down. Then it got", "length") == ("The cat sat down.", None)
    assert paraphrase_in('He said "Sit!" and the', "length") == ('He said "Sit!"', None)
    assert paraphrase_in("The cat sat down\nand then", "length") == ("The cat sat down", None)


@given(st.text(), st.sampled_from(["stop", "length", CONTENT_FILTER]))
def test_any_answer_gives_one_line_or_a_reason(answer, finish):
    text, problem = paraphrase_in(answer, finish)
    assert (problem is None) == bool(text)
    assert problem is None or problem in PROBLEMS
    assert text == " ".join(text.split())


@given(st.lists(st.sampled_from("the cat sat on a red mat today".split()), min_size=2, max_size=12))
def test_a_plain_sentence_stays_as_it_is(words):
    sentence = " ".join(words).capitalize() + "."
    assert paraphrase_in(sentence, "stop") == (sentence, None)
