"""Documents that are read when they are needed, from files or from the hub, and never all held."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from detox.data.records import TOXIC, Document
from detox.errors import DataError, InputError
from detox.pretraining.annotation.columns import Columns, document_of
from detox.pretraining.annotation.input import Rows, open_input


def stream_documents(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    text_column: str = "text",
    id_column: str | None = None,
    spans_column: str | None = None,
    kind: str = TOXIC,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    limit: int | None = None,
    limit_characters: int | None = None,
) -> StreamedDocuments:
    """Documents of files, of a folder, or of a data set on the hub, as a `Source` takes them.

    Args:
        source: .jsonl, .jsonl.gz, .parquet or .arrow files in order; a folder that `datasets` reads; or the id of a data set
            on the hub, which is streamed.
        text_column: where the text is.
        id_column: where the id is; None: "id" where there is one, else the place of the row.
        spans_column: where risky spans are, each [start, end], [start, end, kind] or an object; None: documents have none.
        kind: of spans that name none.
        config: of a data set on the hub.
        split: of a folder or a data set on the hub.
        revision: commit on the hub; None for the newest, which is looked up once.
        limit: documents at most; None for all.
        limit_characters: stop after the document that reaches so many characters (a token is about four); None for all.

    Raises:
        MissingData: it is not there, or the hub cannot be reached.
        UnknownName: a table without such a column.
        InputError: a limit below 1.
    """
    for name, value in (("limit", limit), ("limit_characters", limit_characters)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; expected at least 1, or None for all documents")
    columns = Columns(text=text_column, id=id_column, spans=spans_column)
    given = [source] if isinstance(source, str | os.PathLike) else list(source)
    rows = open_input([os.fspath(one) for one in given], columns=columns, config=config, split=split, revision=revision)
    return StreamedDocuments(rows, columns, kind, limit, limit_characters)


class StreamedDocuments:
    """Documents that are read anew each time they are iterated; see `stream_documents`.

    Raises:
        DataError: while iterating, a row without text, or with text that UTF-8 cannot hold; begins with its place.
    """

    def __init__(
        self, rows: Rows, columns: Columns, kind: str, limit: int | None, limit_characters: int | None
    ) -> None:
        self._rows, self._columns, self._kind = rows, columns, kind
        self._limit, self._limit_characters = limit, limit_characters

    def __iter__(self) -> Iterator[Document]:
        characters = 0
        for index, row in enumerate(self._rows.rows()):
            if index == self._limit or (self._limit_characters is not None and characters >= self._limit_characters):
                return
            if isinstance(row.value, DataError):
                raise row.value
            document = document_of(row.value, row.place, self._columns, self._kind)
            characters += len(document.text)
            yield document

    def identity(self) -> dict[str, Any]:
        """What decides which documents these are: hashes of files or a commit of the hub, columns, limits."""
        return {
            "rows": self._rows.identity(),
            "columns": asdict(self._columns),
            "kind": self._kind,
            "limit": self._limit,
            "limit_characters": self._limit_characters,
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `identity()`: equal digests mean equal documents in equal order."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
