"""Seeds from text, JSON Lines and the catalogue; instructions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data.making import Instructions, Seed, read_seeds
from detox.data.making.seeds import digest, without_repeats
from detox.errors import DataError, InputError, MissingData, UnknownName


def test_lines_of_text(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffOne  sentence.\n\n Another one.\r\nA third.", encoding="utf-8")
    found = read_seeds(tmp_path / "a.txt")
    assert found == [Seed("1", "One sentence."), Seed("3", "Another one."), Seed("4", "A third.")]
    assert read_seeds(tmp_path / "a.txt", limit=2) == found[:2]


def test_rows_of_json(tmp_path):
    rows = [{"key": 7, "body": "One."}, {"key": "b", "body": "Two."}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_seeds(tmp_path / "a.jsonl", text_column="body", id_column="key")
    assert found == [Seed("7", "One."), Seed("b", "Two.")]
    assert read_seeds(tmp_path / "a.jsonl", text_column="body") == [Seed("1", "One."), Seed("2", "Two.")]


@pytest.mark.shared_data
def test_a_set_of_the_catalogue(shared_data):
    found = read_seeds("appdia", split="train", limit=5)
    assert len(found) == 5
    assert found == read_seeds("appdia", split="train", limit=5)
    assert read_seeds("toxigen_statements", limit=3)


@pytest.mark.parametrize(
    ("lines", "options", "error", "said"),
    [
        ('{"text": ""}', {}, DataError, r"a.jsonl:1: text is ''"),
        ('{"text": 3}', {}, DataError, r"a.jsonl:1: text is 3"),
        ('{"txt": "a"}', {}, DataError, r"a.jsonl:1: no column 'text' \(saw txt\)"),
        ('{"text": "a", "id": null}', {"id_column": "id"}, DataError, "id is None"),
        ('{"text": "a", "id": 1}\n{"text": "b", "id": "1"}', {"id_column": "id"}, DataError, "id '1' again"),
        ("", {}, InputError, "no sentence in"),
        ('{"text": "a"}', {"split": "train"}, InputError, "split 'train' of the file"),
        ('{"text": "a"}', {"limit": 0}, InputError, "limit 0"),
        ("{", {}, DataError, "a.jsonl:1: not JSON"),
    ],
)
def test_what_is_wrong_with_a_file(lines, options, error, said, tmp_path):
    (tmp_path / "a.jsonl").write_text(lines)
    with pytest.raises(error, match=said):
        read_seeds(tmp_path / "a.jsonl", **options)


def test_what_is_not_there(tmp_path):
    with pytest.raises(MissingData, match="no file"):
        read_seeds(tmp_path / "none.txt")
    with pytest.raises(MissingData, match="expected a file"):
        read_seeds(str(tmp_path / "none.csv"))
    with pytest.raises(UnknownName, match="did you mean 'paradetox'"):
        read_seeds("paradetx")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_seeds(tmp_path / "bad.txt")


@given(st.lists(st.builds(Seed, st.uuids().map(str), st.sampled_from(["A cat.", "a  cat", "A dog!", "dog", "a dog"]))))
def test_repeats_are_counted_and_the_first_stays(seeds):
    kept, repeated = without_repeats(seeds)
    assert len(kept) + repeated == len(seeds)
    assert without_repeats(kept) == (kept, 0)
    assert [one for one in seeds if one in kept] == kept
    assert digest(kept) == digest(list(kept))


def test_digests_know_where_a_text_ends():
    assert digest([Seed("a", "b"), Seed("c", "d")]) != digest([Seed("ab", "c"), Seed("", "d")])


def test_instructions_are_those_of_the_paper_and_take_any_sentence():
    asked = Instructions()
    assert asked.plain("safe", "So {odd}") == (
        '### HUMAN: Paraphrase the following sentences: "So {odd}"\n\n### RESPONSE:'
    )
    turn = asked.conversation("toxic", "{sentence}")[0]
    assert turn["role"] == "user"
    assert turn["content"].startswith("Paraphrase the following sentence in a very toxic way. make sure each sentence")
    assert turn["content"].endswith('"{sentence}"\nAnswer with the paraphrase alone.')
    with pytest.raises(InputError, match=r"expected \{sentence\} somewhere"):
        Instructions(safe="Say it again")
    with pytest.raises(InputError, match=r"expected \{instruction\}"):
        Instructions(frame="Q:")
