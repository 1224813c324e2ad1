import json

import pytest

from detox.cli import main
from detox.data.records import Document, Span
from detox.errors import MissingData
from detox.pretraining import Mixture, Source, train_tokenizer
from detox.pretraining.streams import joined, open_documents

ROWS = [{"id": f"r{i}", "text": f"the cat sat {i}", "spans": [[4, 7]] if i % 2 else []} for i in range(20)]
LISTED = [Document(id="x", text="a"), Document(id="y", text="b")]


def written(path):
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def test_several_places_are_one_after_the_other_each_time(tmp_path):
    stream = open_documents(written(tmp_path / "a.jsonl"))
    assert joined([LISTED, LISTED]) == LISTED * 2
    assert joined([stream]) is stream
    both = joined([LISTED, stream])
    first = [document.id for document in both]
    assert first == [document.id for document in both]
    assert first[:3] == ["x", "y", "r0"]
    assert len(first) == 22
    assert both.digest == joined([list(LISTED), stream]).digest != joined([stream, LISTED]).digest


def test_a_mixture_of_places_is_that_of_a_list(tmp_path):
    both = joined([LISTED, open_documents(written(tmp_path / "a.jsonl"))])
    tokenizer = train_tokenizer((document.text for document in both), 300)
    found = [
        Mixture(sources=(Source(name="all", documents=documents),)).pack(tokenizer, sequence_length=8).digest
        for documents in (both, list(both))
    ]
    assert found[0] == found[1]


def test_no_more_is_read_than_asked_for(tmp_path):
    assert [document.id for document in open_documents(written(tmp_path / "a.jsonl"), limit=3)] == ["r0", "r1", "r2"]


def test_what_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingData) as raised:
        open_documents("org/no-such-set")
    assert "\n" not in str(raised.value)
    with pytest.raises(MissingData, match="no file"):
        open_documents(str(tmp_path / "none.jsonl"))


def test_an_annotated_folder_keeps_its_spans(tmp_path):
    words = ["data", "annotate", "--input", written(tmp_path / "a.jsonl"), "--from_spans", "spans"]
    assert main([*words, "--output_dir", str(tmp_path / "labelled")]) == 0
    found = list(open_documents(str(tmp_path / "labelled")))
    assert len(found) == 20
    assert found[1] == Document(id="r1", text="the cat sat 1", spans=(Span(4, 7),))
