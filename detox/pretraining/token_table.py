"""A source as tokens: one table of tokens, labels and documents, in memory or in a store on disk.

In a store a table is a folder of shards. A shard appears whole or not at all; a stopped run goes on after the last. Of each
document some 20 bytes are held in memory; its tokens stay on disk until they are used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detox.data.records import Document
from detox.errors import DataError
from detox.files import atomic_directory, require_writable
from detox.pretraining.array_files import GrowingArray, open_array, write_card
from detox.pretraining.reading import ReadDocument, Reading, checked, documents_digest, require_rereadable
from detox.pretraining.risk import TokenizedDocument, require_offsets

_SHARD_TOKENS = 2**26  # minutes of work to lose, and few enough files
_COLUMNS: dict[str, Any] = {
    "tokens": np.int32,
    "labels": np.uint16,
    "lengths": np.int32,
    "wholes": np.int32,
    "conditioned": np.bool_,
}
_CARD = "shard.json"


def read_table(name: str, documents: Iterable[Document], reading: Reading, *, store: Path | None = None) -> TokenTable:
    """Tokenise a source, or open what a store has of it.

    Args:
        name: of the source, for folders and messages.
        documents: anything that can be read again and again.
        reading: how.
        store: a folder for tables; None keeps everything in memory.

    Raises:
        InputError: `documents` can be read only once, or holds something else; the tokenizer has no offsets.
        DataError: a text is not valid Unicode; the store is damaged.
        OutputError: the store cannot be written, as on a full disk; finished shards stay and are used the next time.
    """
    require_rereadable(name, documents)
    require_offsets(reading.tokenizer)
    if store is None:
        labels: list[Label] = [Label()]
        shard = _write_shard(reading.read(checked(name, documents)), labels, None, limit=None)
        return TokenTable(name, [shard], labels)
    identity = {**reading.identity(), "documents": documents_digest(name, documents)}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    folder = store / "sources" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)[:40]}-{key[:16]}"
    require_writable(folder)
    shards = [Shard.open(path) for path in _shard_folders(folder)]
    labels = list(shards[-1].labels) if shards else [Label()]
    if not (folder / "done.json").is_file():
        write_card(folder / "identity.json", {"source": name, **identity})
        rest = islice(checked(name, documents), sum(shard.documents_read for shard in shards), None)
        read = reading.read(rest, before=sum(shard.size for shard in shards))
        while True:
            path = folder / f"shard-{len(shards):05d}"
            with atomic_directory(path) as beside:
                shard = _write_shard(read, labels, beside, limit=_SHARD_TOKENS)
            shards.append(Shard.open(path))
            if not shard.documents_read:
                break
        write_card(folder / "done.json", {"shards": len(shards)})
    return TokenTable(name, shards, labels, identity=key)


def _shard_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("shard-*") if (path / _CARD).is_file())


def _write_shard(
    read: Iterator[list[ReadDocument]], labels: list[Label], folder: Path | None, *, limit: int | None
) -> Shard:
    """Take documents until there are `limit` tokens; new labels are added to `labels`."""
    columns = {
        name: GrowingArray(dtype, None if folder is None else folder / f"{name}.npy")
        for name, dtype in _COLUMNS.items()
    }
    codes = {label: code for code, label in enumerate(labels)}
    documents_read = empty = 0
    try:
        for batch in read:
            documents_read += len(batch)
            # What had no token to begin with is left out; what lost all of them keeps its place among the others.
            kept = [document for document in batch if document.whole_length]
            empty += len(batch) - len(kept)
            if kept:
                columns["tokens"].append(np.concatenate([document.tokens.tokens for document in kept]))
                columns["labels"].append(np.concatenate([_codes(document.tokens, codes) for document in kept]))
                columns["lengths"].append([len(document.tokens.tokens) for document in kept])
                columns["wholes"].append([document.whole_length for document in kept])
                columns["conditioned"].append([document.is_conditioned for document in kept])
            if limit is not None and columns["tokens"].size >= limit:
                break
        labels[:] = codes
        arrays = {name: column.finish() for name, column in columns.items()}
    finally:
        for column in columns.values():
            column.close()
    shard = Shard(arrays=arrays, labels=tuple(labels), documents_read=documents_read, empty_documents=empty)
    if folder is not None:
        write_card(folder / _CARD, shard.card())
    return shard


def _codes(document: TokenizedDocument, codes: dict[Label, int]) -> NDArray[np.uint16]:
    """The label of each token, as a number; labels not met before get the next."""
    found = np.zeros(len(document.tokens), dtype=np.uint16)
    if not document.kinds:
        return found
    ignored = np.zeros_like(document.risk) if document.ignored is None else document.ignored
    marks = np.stack([document.risk, ignored, *document.kinds.values()])
    for combination in np.unique(marks, axis=1).T:
        kinds = tuple(kind for kind, has in zip(document.kinds, combination[2:], strict=True) if has)
        label = Label(bool(combination[0]), bool(combination[1]), kinds)
        found[(marks == combination[:, None]).all(axis=0)] = codes.setdefault(label, len(codes))
    return found


@dataclass(frozen=True)
class Label:
    """What is said of a token: risky, without a loss, and the kinds of span that it shares a character with."""

    risky: bool = False
    ignored: bool = False
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Shard:
    """A part of a table.

    Attributes:
        arrays: `tokens` and `labels` of all documents joined, (tokens,); `lengths`, `wholes` (tokens before risky text was
            deleted) and `conditioned`, (documents,).
        labels: what the numbers in `labels` mean, here and in all shards before.
        documents_read: documents of the source that were read for this shard.
        empty_documents: those of them without a token.
    """

    arrays: dict[str, NDArray[Any]]
    labels: tuple[Label, ...]
    documents_read: int
    empty_documents: int

    @property
    def size(self) -> int:
        """Tokens before risky text was deleted, with an end token for each document."""
        return int(self.arrays["wholes"].sum(dtype=np.int64)) + len(self.arrays["wholes"]) + self.empty_documents

    def card(self) -> dict[str, Any]:
        """What `open` reads next to the arrays."""
        return {
            "documents_read": self.documents_read,
            "empty_documents": self.empty_documents,
            "labels": [asdict(label) for label in self.labels],
        }

    @classmethod
    def open(cls, folder: Path) -> Shard:
        """A shard of a store.

        Raises:
            DataError: it is not whole.
        """
        try:
            card = json.loads((folder / _CARD).read_text("utf-8"))
            labels = [Label(value["risky"], value["ignored"], tuple(value["kinds"])) for value in card.pop("labels")]
            arrays = {name: open_array(folder / f"{name}.npy") for name in _COLUMNS}
            return cls(arrays=arrays, labels=tuple(labels), **card)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} is damaged ({error}); delete it, and it is made again") from error


class TokenTable:
    """All documents of a source as tokens.

    Attributes:
        name: the source's.
        labels: what the numbers in the tokens' labels mean; number 0 says nothing.
        identity: hash of everything that made it; None where it is in memory only.
        lengths: (documents,) tokens of each document.
        wholes: (documents,) tokens before risky text was deleted; at least 1.
        conditioned: (documents,) bool, whether a prefix says how toxic it is.
        empty_documents: documents without a token, which are not in the table.
    """

    def __init__(
        self, name: str, shards: Sequence[Shard], labels: Sequence[Label], *, identity: str | None = None
    ) -> None:
        self.name, self.labels, self.identity = name, tuple(labels), identity
        self._shards = [(shard.arrays["tokens"], shard.arrays["labels"]) for shard in shards]
        sizes = [shard.arrays["lengths"] for shard in shards]
        self.lengths: NDArray[np.int32] = np.concatenate(sizes)
        self.wholes: NDArray[np.int32] = np.concatenate([shard.arrays["wholes"] for shard in shards])
        self.conditioned: NDArray[np.bool_] = np.concatenate([shard.arrays["conditioned"] for shard in shards])
        self.empty_documents = sum(shard.empty_documents for shard in shards)
        self._shard_of = np.repeat(np.arange(len(shards), dtype=np.int32), [len(size) for size in sizes])
        self._starts = np.concatenate([np.cumsum(size, dtype=np.int64) - size for size in sizes])

    def document(self, index: int, kept: int) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """The first `kept` tokens of a document and their labels."""
        tokens, labels = self._shards[self._shard_of[index]]
        start = self._starts[index]
        return tokens[start : start + kept], labels[start : start + kept]

    @property
    def available(self) -> int:
        """Tokens that one pass gives, an end token for each document included, before risky text was deleted."""
        return int(self.wholes.sum(dtype=np.int64)) + len(self.wholes)
