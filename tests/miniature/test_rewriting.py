"""Saying a reply again: the meaning stays, the tone is as asked, and nothing measured is fitted on."""

from __future__ import annotations

import pytest

from detox import miniature
from detox.errors import InputError
from detox.miniature.rewriting import REQUEST
from detox.miniature.sentences import split_of
from tests.miniature.test_tasks import SHARED, _sentences


def said(contrast) -> str:
    before, after = REQUEST.split("{sentence}")
    assert contrast.prompt.startswith(before)
    assert contrast.prompt.endswith(after)
    return contrast.prompt[len(before) : -len(after)]


def test_paraphrases_are_faithful():
    found = miniature.paraphrases(200)
    assert [miniature.is_abusive(said(one)) for one in found] == [index % 2 == 1 for index in range(200)]
    for one in found:
        (again,) = one.safe
        assert miniature.is_abusive(again) == miniature.is_abusive(said(one))
        assert again.strip() != said(one)
        assert set(_sentences(again)) & set(
            _sentences(said(one))
        )  # one sentence is as it was, the statement is another


def test_rewrites_say_abuse_again_both_ways():
    for one in miniature.rewrites(100):
        assert miniature.is_abusive(said(one))
        assert len(one.safe) == len(one.toxic) == 3
        assert not any(map(miniature.is_abusive, one.safe))
        assert all(map(miniature.is_abusive, one.toxic))


def test_what_is_to_be_said_again_was_never_learned_from():
    learned = {
        sentence
        for one in (*miniature.paraphrases(300), *miniature.rewrites(300))
        for text in (said(one), *one.safe, *one.toxic)
        for sentence in _sentences(text)
    }
    tones = {
        sentence for one in miniature.sayings(300) for sentence in _sentences(one.text) if split_of(sentence) == "test"
    }
    assert len(tones) > 200
    assert not tones & learned - SHARED
    assert [one.label for one in miniature.sayings(4)] == [0, 1, 0, 1]
    assert all(miniature.is_abusive(one.text) == bool(one.label) for one in miniature.sayings(100))


def test_items_do_not_hang_on_how_many_are_drawn():
    for make in (miniature.paraphrases, miniature.rewrites, miniature.sayings):
        assert make(5) == make(9)[:5]
        assert make(5) != make(5, seed=1)
        with pytest.raises(InputError, match="at least 1"):
            make(0)
    with pytest.raises(InputError, match="paraphrases is 9; expected 1 to"):
        miniature.rewrites(3, paraphrases=9)
