"""Where documents are, by one name: an annotated folder, a file, a folder, the hub; and several places as one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from detox.data.records import Document
from detox.pretraining.annotation.input import CARD
from detox.pretraining.annotation.shards import read_annotated
from detox.pretraining.reading import documents_digest
from detox.pretraining.streaming import stream_documents


def open_documents(
    name: str, *, text: str = "text", config: str | None = None, limit: int | None = None
) -> Iterable[Document]:
    """A folder that `detox data annotate` wrote, or anything that `stream_documents` reads.

    Args:
        name: of the folder or file, or the id on the hub.
        text: the column of the text, where it is no annotated folder.
        config: of a data set of the hub.
        limit: the first so many rows, where it is no annotated folder.

    Raises:
        MissingData: it is not there.
        DataError: an annotated folder that is not whole.
    """
    if (Path(name) / CARD).is_file():
        return read_annotated(name)
    return stream_documents(name, text_column=text, config=config, limit=limit)


def joined(parts: Sequence[Iterable[Document]]) -> Iterable[Document]:
    """Several places as one: a list where all are in memory, otherwise read one after the other, each time anew."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, list | tuple) for part in parts):
        return [document for part in parts for document in part]
    return _Joined(parts)


class _Joined:
    """Documents of several places, in order."""

    def __init__(self, parts: Sequence[Iterable[Document]]) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[Document]:
        for part in self.parts:
            yield from part

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the parts' digests."""
        digests = [documents_digest(str(index), part) for index, part in enumerate(self.parts)]
        return hashlib.sha256(json.dumps(digests).encode()).hexdigest()
