"""The data that a grid names."""

from __future__ import annotations

import pytest

from detox.bench.sources import read_records
from detox.data import write_jsonl
from detox.data.contrasts import Contrast
from detox.data.records import Document, LabelledText, MinimalPair, MultipleChoice, Prompt, Span
from detox.errors import DataError, InputError, UnknownName


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
    assert len(read_records(Prompt, {"file": prompts, "group": "b", "limit": 8}, where="here")) == 8  # of the ten


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
        ({"set": "miniature", "limit": 3, "group": "nobody"}, UnknownName, "unknown group of here 'nobody'"),
    ],
)
def test_a_wrong_entry_is_one_clear_line(spec, error, said):
    with pytest.raises(error, match=said) as caught:
        read_records(Prompt, spec, where="here")
    assert "here" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def lines(tmp_path, *rows):
    (tmp_path / "r.jsonl").write_text("\n".join(rows) + "\n")
    return {"file": str(tmp_path / "r.jsonl")}


def test_spans_scores_and_numeric_ids_are_read(tmp_path):
    spans = lines(
        tmp_path,
        '{"id": 1, "text": "you rude one", "spans": [[4, 8]]}',
        '{"id": "2", "text": "you rude one", "spans": [{"start": 4, "end": 8}]}',
    )
    for document, key in zip(read_records(Document, spans, where="here"), "12", strict=True):
        assert (document.id, document.spans) == (key, (Span(4, 8),))
    (text,) = read_records(LabelledText, lines(tmp_path, '{"id": "1", "text": "a", "score": 0.5}'), where="here")
    assert (text.label, text.score) == (None, 0.5)
    question = '{"id": "1", "context": "a", "choices": [" b", " c"], "answer": 1, "contexts": null}'
    assert read_records(MultipleChoice, lines(tmp_path, question), where="here")[0].choices == (" b", " c")


@pytest.mark.parametrize(
    ("record", "row", "said"),
    [
        (Prompt, '{"id": "1", "text": 5}', "text is 5; expected text"),
        (Prompt, '{"id": "1", "text": "a", "toxicity": "high"}', "toxicity is 'high'; expected a number"),
        (Prompt, '{"id": "1", "text": "a", "toxicity": 2}', "expected a number in"),
        (Prompt, '{"id": null, "text": "a"}', "id is None; expected text"),
        (Prompt, '{"id": "1"}', "no column 'text'"),
        (Document, '{"id": "1", "text": "a", "spans": [[0]]}', "expected a list of spans"),
        (Document, '{"id": "1", "text": "a", "spans": [4, 8]}', "expected a list of spans"),
        (Document, '{"id": "1", "text": "a", "spans": [[0, 9]]}', "is not in its 1 characters"),
        (LabelledText, '{"id": "1", "text": "a", "label": 2}', "label 2; expected 1"),
        (LabelledText, '{"id": "1", "text": "a", "label": "toxic"}', "label is 'toxic'; expected a whole number"),
        (MultipleChoice, '{"id": "1", "context": "a", "choices": "bc", "answer": 0}', "expected a list of texts"),
    ],
)
def test_a_wrong_line_of_a_file_is_named(record, row, said, tmp_path):
    with pytest.raises(DataError, match=said) as caught:
        read_records(record, lines(tmp_path, "", row), where="here")
    assert str(caught.value).startswith(f"{tmp_path / 'r.jsonl'}:2: ")
    assert len(str(caught.value).splitlines()) == 1


def test_miniature_tasks_go_by_group_and_questions_are_as_long_as_what_is_read(tmp_path):
    for group, prefix in (("rewrites", "rewrite-"), ("paraphrases", "paraphrase-")):
        found = read_records(Contrast, {"set": "miniature", "group": group, "limit": 3}, where="here")
        assert all(one.id.startswith(prefix) for one in found)
    assert read_records(LabelledText, {"set": "miniature", "group": "sayings", "limit": 2}, where="here")[1].label == 1
    with pytest.raises(UnknownName, match="did you mean 'rewrites'"):
        read_records(Contrast, {"set": "miniature", "group": "rewrite", "limit": 3}, where="here")
    rows = [{"id": "short", "context": "a", "choices": [" b", " c"], "answer": 0},
            {"id": "long", "context": "a", "choices": [" b", " " + "c" * 20], "answer": 0}]  # fmt: skip
    write_jsonl(tmp_path / "q.jsonl", rows)
    kept = read_records(MultipleChoice, {"file": str(tmp_path / "q.jsonl"), "longest": 10}, where="here")
    assert [one.id for one in kept] == ["short"]
