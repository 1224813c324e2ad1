"""The data that a grid names."""

from __future__ import annotations

import pytest

from detox.bench.sources import read_records
from detox.data import write_jsonl
from detox.data.records import Document, MinimalPair, Prompt
from detox.errors import InputError, UnknownName


@pytest.fixture
def prompts(tmp_path):
    write_jsonl(
        tmp_path / "p.jsonl", [{"id": str(i), "text": "word " * (i + 1), "group": "ab"[i % 2]} for i in range(20)]
    )
    return str(tmp_path / "p.jsonl")


def test_longer_texts_are_left_out_before_the_limit(prompts):
    kept = read_records(Prompt, {"file": prompts, "longest": 50, "limit": 8}, where="here")
    assert len(kept) == 8
    assert max(len(prompt.text) for prompt in kept) <= 50
    assert len(read_records(Prompt, {"file": prompts, "longest": 50}, where="here")) == 10
    assert len(read_records(Prompt, {"file": prompts, "limit": 3}, where="here")) == 3
    with pytest.raises(InputError, match="no split 'test'"):
        read_records(Prompt, {"file": prompts, "split": "test"}, where="here")


def test_longest_is_about_text():
    with pytest.raises(InputError, match="MinimalPair has not"):
        read_records(MinimalPair, {"set": "miniature", "limit": 3, "longest": 5}, where="here")


def test_halves_are_disjoint_and_whole(prompts):
    halves = [read_records(Prompt, {"file": prompts, "half": half}, where="here") for half in (0, 1)]
    ids = [{prompt.id for prompt in half} for half in halves]
    assert not ids[0] & ids[1]
    assert len(ids[0] | ids[1]) == 20


def test_a_group_is_kept(prompts):
    assert {p.group for p in read_records(Prompt, {"file": prompts, "group": "b"}, where="here")} == {"b"}


def test_documents_are_cut():
    (document,) = read_records(Document, {"set": "miniature", "limit": 1, "characters": 30}, where="here")
    assert len(document.text) == 30


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("miniature", InputError, "expected {set: NAME"),
        ({"set": "miniature"}, InputError, "give a limit"),
        ({"set": "miniature", "file": "x"}, InputError, "both"),
        ({"limit": 3}, InputError, "neither"),
        ({"set": "miniature", "limit": 3, "longst": 3}, UnknownName, "longest"),
        ({"set": "miniature", "limit": 3, "group": "nobody"}, InputError, "no records"),
    ],
)
def test_a_wrong_entry_is_one_clear_line(spec, error, said):
    with pytest.raises(error, match=said) as caught:
        read_records(Prompt, spec, where="here")
    assert "here" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
