import json

import pytest

from detox.data.records import Document, Span
from detox.errors import DataError, InputError, MissingData, UnknownName
from detox.pretraining import Mixture, Source, stream_documents, train_tokenizer

ROWS = [{"id": f"d{i}", "text": f"text {i} " + "ab" * i, "spans": [[0, 4, "name"]]} for i in range(20)]
DOCUMENTS = [Document(id=row["id"], text=row["text"], spans=(Span(0, 4, "name"),)) for row in ROWS]


@pytest.fixture(params=["jsonl", "parquet", "folder"])
def place(request, tmp_path):
    if request.param == "jsonl":
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        return path
    import datasets

    plain = [{**row, "spans": [{"start": 0, "end": 4, "kind": "name"}]} for row in ROWS]
    path = tmp_path / "rows" / "train.parquet"
    path.parent.mkdir()
    datasets.Dataset.from_list(plain).to_parquet(path)
    return path if request.param == "parquet" else path.parent


def test_documents_stream_from_files_and_folders_again_and_again(place):
    found = stream_documents(place, spans_column="spans")
    assert list(found) == list(found) == DOCUMENTS
    assert [document.spans for document in stream_documents(place)] == [()] * 20
    assert list(stream_documents(place, spans_column="spans", limit=3)) == DOCUMENTS[:3]
    few = list(stream_documents(place, spans_column="spans", limit_characters=30))
    assert few == DOCUMENTS[: len(few)]
    assert sum(len(d.text) for d in few[:-1]) < 30 <= sum(len(d.text) for d in few)


def test_the_digest_names_the_documents(place):
    found = stream_documents(place)
    assert found.digest == stream_documents(place).digest
    assert (
        len(
            {
                found.digest,
                stream_documents(place, limit=3).digest,
                stream_documents(place, spans_column="spans").digest,
            }
        )
        == 3
    )


def test_a_mixture_reads_them(place, tmp_path):
    tokenizer = train_tokenizer(["ab"], 258)

    def digest(documents, **options):
        return (
            Mixture(sources=(Source(name="s", documents=documents),))
            .pack(tokenizer, sequence_length=8, **options)
            .digest
        )

    streamed = stream_documents(place, spans_column="spans")
    assert digest(DOCUMENTS) == digest(streamed) == digest(streamed, store=tmp_path / "store")


def test_what_is_wrong_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "fine"}\n{"text": "bad \xff"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2: byte \d+ is not UTF-8"):
        list(stream_documents(path))
    path.write_text('{"text": "a\\u0000b"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:1: a NUL character"):
        list(stream_documents(path))
    path.write_text('{"text": "a\\ud800"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:1: a lone surrogate"):
        list(stream_documents(path))
    path.write_text('{"txt": "a"}\n')
    with pytest.raises(DataError, match="'text' is not there"):
        list(stream_documents(path))
    with pytest.raises(InputError, match="limit is 0"):
        stream_documents(path, limit=0)
    with pytest.raises(MissingData, match=r"nothing\.jsonl"):
        stream_documents(tmp_path / "nothing.jsonl")
    import datasets

    datasets.Dataset.from_list([{"body": "a"}]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UnknownName, match="'text'"):
        stream_documents(tmp_path / "t.parquet")
