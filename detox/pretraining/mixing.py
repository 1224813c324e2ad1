"""From tables of tokens to packed sequences: which documents are taken, in which order, and where they go.

Everything is read and written in blocks of rows, so that the memory this takes does not grow with the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detox.errors import InputError
from detox.pretraining.array_files import RowWriter, open_array, require_space
from detox.pretraining.token_table import Label, TokenTable

_BLOCK_TOKENS = 2**20


def take(table: TokenTable, wanted: int, *, seed: Sequence[int], cuts_last: bool = True) -> Taken:
    """Documents in a random order, from the start again if needed, until they and their end tokens are `wanted` tokens.

    Tokens are those from before risky text was deleted, so that a filtered mixture has the documents of the full one.

    Args:
        table: with at least one document, unless nothing is wanted.
        wanted: tokens.
        seed: of the order.
        cuts_last: cut the last document so that there are not more tokens than wanted.
    """
    order = np.random.default_rng(seed).permutation(len(table.wholes))
    if wanted <= 0:
        return Taken.nothing()
    reached = np.cumsum(table.wholes[order].astype(np.int64) + 1)
    passes, rest = divmod(wanted, int(reached[-1]))
    last = int(np.searchsorted(reached, rest)) + 1 if rest else 0
    documents = np.concatenate([*[order] * passes, order[:last]])
    kept = table.wholes[documents].astype(np.int64)
    if last and cuts_last:
        kept[-1] -= reached[last - 1] - rest
    lengths = np.minimum(table.lengths[documents], kept)
    # What lost all its tokens to a deletion would leave two end tokens in a row.
    lengths[(table.lengths[documents] == 0) & (kept > 0)] = -1
    return Taken(documents, kept, lengths)


def mix_documents(
    tables: Sequence[TokenTable],
    taken: Sequence[Taken],
    *,
    end_token_id: int,
    sequence_length: int,
    seed: int,
    folder: Path | None,
) -> Mixed:
    """Shuffle the documents of all sources together into one stream and cut it into sequences."""
    origin = np.repeat(np.arange(len(taken)), [len(one.documents) for one in taken])
    order = np.random.default_rng(seed).permutation(len(origin))
    documents = np.concatenate([one.documents for one in taken])[order]
    lengths = np.concatenate([one.lengths for one in taken])[order]
    origin = origin[order]
    total = 1 + int((lengths + 1).sum())
    rows = total // sequence_length
    stream = zip(origin.tolist(), documents.tolist(), lengths.tolist(), strict=True)
    with Blocks(tables, rows, sequence_length, end_token_id, folder) as blocks:
        blocks.fill(stream, np.arange(rows, dtype=np.int64))
        return blocks.finish()


def mix_sequences(
    tables: Sequence[TokenTable],
    taken: Sequence[Taken],
    places: Sequence[NDArray[np.int64]],
    *,
    end_token_id: int,
    sequence_length: int,
    folder: Path | None,
) -> Mixed:
    """Cut each source into sequences of its own and put them at these places."""
    rows = sum(len(place) for place in places)
    with Blocks(tables, rows, sequence_length, end_token_id, folder) as blocks:
        for index, (one, place) in enumerate(zip(taken, places, strict=True)):
            stream = ((index, *pair) for pair in zip(one.documents.tolist(), one.lengths.tolist(), strict=True))
            blocks.fill(stream, place)
        return blocks.finish()


@dataclass(frozen=True, eq=False)
class Taken:
    """What is taken of a source.

    Attributes:
        documents: (taken,) places in the table, in order.
        kept: (taken,) tokens of each that were asked for, before risky text was deleted.
        lengths: (taken,) tokens of each that there are; -1 where nothing is left and no end token stands either.
    """

    documents: NDArray[np.int64]
    kept: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def nothing(cls) -> Taken:
        """No document."""
        none = np.empty(0, dtype=np.int64)
        return cls(none, none, none)

    @property
    def tokens(self) -> int:
        """With end tokens."""
        return int((self.lengths + 1).sum())


@dataclass(frozen=True, eq=False)
class Mixed:
    """Sequences, and what is in them.

    Attributes:
        arrays: `tokens`, `risk` and, where any source has such tokens, `ignored`; each (sequences, sequence_length).
        counts: (sources, labels) tokens in the sequences of each source by label, end tokens included.
    """

    arrays: dict[str, NDArray[Any]]
    counts: NDArray[np.int64]


class Blocks:
    """Streams of documents, cut into rows that are written a block at a time.

    Args:
        tables: where documents are read.
        rows: of the matrices.
        sequence_length: tokens a row.
        end_token_id: the token at the start of a stream and after each document.
        folder: for .npy files, or None for memory.
    """

    def __init__(
        self, tables: Sequence[TokenTable], rows: int, sequence_length: int, end_token_id: int, folder: Path | None
    ) -> None:
        self.tables, self.end, self.folder = tables, end_token_id, folder
        if rows == 0:
            raise InputError(
                f"the documents taken have too few tokens for one sequence of {sequence_length}; give more text or a shorter "
                "sequence_length"
            )
        width = max(len(table.labels) for table in tables)
        labels = [[*table.labels, *[Label()] * (width - len(table.labels))] for table in tables]
        self.risky = np.asarray([[label.risky for label in row] for row in labels])
        self.ignored = np.asarray([[label.ignored for label in row] for row in labels])
        self.counts = np.zeros((len(tables), width), dtype=np.int64)
        names: dict[str, Any] = {"tokens": np.int32, "risk": np.bool_}
        if self.ignored.any():
            names["ignored"] = np.bool_
        if folder is not None:
            require_space(folder, rows * sequence_length * sum(np.dtype(dtype).itemsize for dtype in names.values()))
        self.writers = {
            name: RowWriter((rows, sequence_length), dtype, None if folder is None else folder / f"{name}.npy")
            for name, dtype in names.items()
        }
        height = max(1, _BLOCK_TOKENS // sequence_length)
        shape = (min(height, rows), sequence_length)
        self.tokens = np.empty(shape, dtype=np.int32)
        self.labels = np.empty(shape, dtype=np.uint16)
        self.origin = np.empty(shape, dtype=np.uint16)

    def fill(self, stream: Iterable[tuple[int, int, int]], places: NDArray[np.int64]) -> None:
        """Write the first rows of a stream.

        Args:
            stream: (source, document, tokens of it to take); fewer than no tokens leave the document out.
            places: (rows,) where each row of the stream goes; what comes after the last is left.
        """
        pieces, row = self._pieces(stream), 0
        left: tuple[int, NDArray[np.int32], NDArray[np.uint16]] | None = None
        while row < len(places):
            height = min(len(self.tokens), len(places) - row)
            size, position = height * self.tokens.shape[1], 0
            flat = [array.reshape(-1) for array in (self.tokens, self.labels, self.origin)]
            while position < size:
                source, tokens, labels = left or next(pieces)
                fits = min(len(tokens), size - position)
                here = slice(position, position + fits)
                flat[0][here], flat[1][here], flat[2][here] = tokens[:fits], labels[:fits], source
                left = (source, tokens[fits:], labels[fits:]) if fits < len(tokens) else None
                position += fits
            self._write(places[row : row + height])
            row += height

    def _pieces(
        self, stream: Iterable[tuple[int, int, int]]
    ) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.uint16]]]:
        end, plain = np.asarray([self.end], dtype=np.int32), np.zeros(1, dtype=np.uint16)
        first = True
        for source, document, length in stream:
            if length < 0:
                continue
            if first:  # the end token that a stream begins with goes with its first document
                yield source, end, plain
                first = False
            if length:
                yield source, *self.tables[source].document(document, length)
            yield source, end, plain

    def _write(self, places: NDArray[np.int64]) -> None:
        rows = len(places)
        tokens, labels, origin = self.tokens[:rows], self.labels[:rows], self.origin[:rows]
        self.writers["tokens"].write(places, tokens)
        self.writers["risk"].write(places, self.risky[origin, labels])
        if "ignored" in self.writers:
            self.writers["ignored"].write(places, self.ignored[origin, labels])
        both = origin.astype(np.int64) * self.counts.shape[1] + labels
        self.counts += np.bincount(both.reshape(-1), minlength=self.counts.size).reshape(self.counts.shape)

    def finish(self) -> Mixed:
        """All rows, when all are written."""
        arrays = {}
        for name, writer in self.writers.items():
            held = writer.finish()
            arrays[name] = open_array(self.folder / f"{name}.npy") if held is None and self.folder else held
        return Mixed({name: array for name, array in arrays.items() if array is not None}, self.counts)

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self.writers.values():
            writer.close()
