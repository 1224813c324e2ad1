from __future__ import annotations

import pytest

from detox.data.catalogue import entry
from detox.data.corpora import CLEAN, TOXIC, CorpusSize, clean_corpus, corpus_sizes
from detox.data.records import Document, Span
from detox.errors import InputError, MissingData, UnknownName


def test_sizes_count_overlapping_spans_once():
    documents = [
        Document(id="1", text="a dumb fool", spans=(Span(2, 6), Span(4, 11)), source="b"),
        Document(id="2", text="kind", source="b"),
        Document(id="3", text="x", source="a"),
    ]
    assert corpus_sizes(documents) == {
        "a": CorpusSize(documents=1, characters=1, risky_characters=0),
        "b": CorpusSize(documents=2, characters=15, risky_characters=9),
    }
    assert list(corpus_sizes(documents)) == ["a", "b"]
    assert corpus_sizes([]) == {}


def test_corpora_are_made_of_document_sets():
    for name in (*CLEAN, *TOXIC):
        assert entry(name).kind == "documents"
        assert not entry(name).evaluation


def test_a_set_of_another_kind_or_none_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("DETOX_DATA", str(tmp_path))
    with pytest.raises(InputError, match="rtp_prompts holds Prompt records; expected Document"):
        clean_corpus(names=["rtp_prompts"])
    with pytest.raises(UnknownName, match="did you mean 'clean_gov'"):
        clean_corpus(names=["clean_gv"])
    with pytest.raises(MissingData, match=r"no clean_gov\.jsonl\.gz in"):
        clean_corpus()
