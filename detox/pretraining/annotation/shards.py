"""Annotated documents on disk: shards of Arrow, Parquet or JSON Lines, read one by one as they are asked for."""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, overload

from detox.data.jsonl import json_lines, read_jsonl
from detox.data.records import Document, Span, span_from_json, span_to_json
from detox.errors import DataError, MissingData
from detox.files import disk_errors, write_bytes
from detox.pretraining.annotation.input import CARD, read_arrow

Format = Literal["arrow", "parquet", "jsonl"]

_OPEN = {"arrow": 64, "parquet": 2, "jsonl": 2}  # shards held open: an Arrow shard is mapped, the others are in memory


def write_shard(path: Path, documents: Sequence[Document], form: Format) -> ShardEntry:
    """Write documents as one file, whole or not at all.

    Raises:
        OutputError: the disk is full, or the place cannot be written to.
    """
    data = _jsonl_bytes(documents, path.name) if form == "jsonl" else _table_bytes(documents, form)
    doing = f"write {path.name} ({len(data) / 2**20:.1f} MiB) to {path.parent}"
    with disk_errors(doing, advice="make room, and the same command goes on from there"):
        write_bytes(path, data)
    return ShardEntry(path.name, len(documents), len(data), hashlib.sha256(data).hexdigest())


def read_annotated(folder: str | os.PathLike[str]) -> AnnotatedDocuments:
    """The documents of a folder that `annotate_files` (or `detox data annotate`) has finished.

    Raises:
        MissingData: no such folder, or a shard that its card names is not there.
        DataError: it was not finished; a shard has another size than its card says.
    """
    path = Path(folder)
    if not path.is_dir():
        raise MissingData(f"no folder {path}; expected one that `detox data annotate` wrote")
    if not (path / CARD).is_file():
        raise DataError(f"{path} holds no {CARD}: not annotated, or not to the end; run `detox data annotate` again")
    try:
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
        shards = [ShardEntry(**entry) for entry in card["shards"]]
        form: Format = card["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path / CARD}: not the card of annotated documents ({error}); annotate again") from error
    for shard in shards:
        file = path / shard.name
        if not file.is_file():
            raise MissingData(f"{path} lacks {shard.name}, which its {CARD} names; annotate again, into another folder")
        if file.stat().st_size != shard.bytes:
            raise DataError(
                f"{file}: {file.stat().st_size} bytes, its {CARD} says {shard.bytes}; annotate again, into another folder"
            )
    return AnnotatedDocuments(path, card, shards, form)


def _schema() -> Any:
    import pyarrow as pa

    span = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("kind", pa.string())])
    return pa.schema(
        [("id", pa.string()), ("text", pa.large_string()), ("spans", pa.list_(span)), ("source", pa.string())]
    )


def _table_bytes(documents: Sequence[Document], form: Format) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    spans = [span for one in documents for span in one.spans]
    kind = schema.field("spans").type
    # Columns of columns: an object a span would cost more than all else here.
    structs = pa.StructArray.from_arrays(
        [
            pa.array([span.start for span in spans], pa.int64()),
            pa.array([span.end for span in spans], pa.int64()),
            pa.array([span.kind for span in spans], pa.string()),
        ],
        fields=list(kind.value_type),
    )
    ends = pa.array(accumulate((len(one.spans) for one in documents), initial=0), pa.int32())
    table = pa.Table.from_arrays(
        [
            pa.array([one.id for one in documents], pa.string()),
            pa.array([one.text for one in documents], pa.large_string()),
            pa.ListArray.from_arrays(ends, structs, type=kind),
            pa.array([one.source for one in documents], pa.string()),
        ],
        schema=schema,
    )
    sink = pa.BufferOutputStream()
    if form == "parquet":
        pq.write_table(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:  # the form in which `datasets` keeps its tables
            writer.write_table(table)
    return bytes(sink.getvalue())


def _jsonl_bytes(documents: Sequence[Document], name: str) -> bytes:
    rows = (
        {
            "id": one.id,
            "text": one.text,
            "spans": [span_to_json(span) for span in one.spans],
            **({"source": one.source} if one.source else {}),
        }
        for one in documents
    )
    return "".join(line + "\n" for line in json_lines(rows, name)).encode("utf-8")


def _read_shard(path: Path, form: Format) -> Any:
    """Rows that are taken by number: an Arrow table, or a list of objects."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if form == "jsonl":
            return [row for _, row in read_jsonl(path)]
        return pq.read_table(path) if form == "parquet" else read_arrow(pa.memory_map(str(path)))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not readable ({str(error).splitlines()[0]}); annotate again") from error


def _document(shard: Any, at: int, where: str) -> Document:
    return _from_row(shard[at] if isinstance(shard, list) else shard.slice(at, 1).to_pylist()[0], where)


def _from_row(row: dict[str, Any], where: str) -> Document:
    spans = [span_from_json(value) for value in row["spans"]]
    if None in spans:
        raise DataError(f"{where}: document {row['id']!r} has a span that is none; annotate again")
    return Document(
        id=row["id"],
        text=row["text"],
        spans=tuple(span for span in spans if isinstance(span, Span)),
        source=row.get("source") or "",
    )


@dataclass(frozen=True)
class ShardEntry:
    """What a card says of a shard: file name, documents in it, its size and SHA-256."""

    name: str
    documents: int
    bytes: int
    sha256: str


class AnnotatedDocuments(Sequence[Document]):
    """The documents of an annotated folder, read when they are asked for; any number of them takes little memory.

    Arrow shards are mapped into memory, so that any order is as good as another; of Parquet and JSON Lines the last two
    shards used are held. Goes to other processes as the name of its folder.

    Attributes:
        folder: where they lie.
        card: its annotation.json: annotator, thresholds, input, counts, shards.
    """

    def __init__(self, folder: Path, card: dict[str, Any], shards: Sequence[ShardEntry], form: Format) -> None:
        self.folder, self.card = folder, card
        self._shards, self._form = list(shards), form
        self._starts = [0, *accumulate(shard.documents for shard in shards)]
        self._held: OrderedDict[int, Any] = OrderedDict()

    @property
    def digest(self) -> str:
        """SHA-256 of what the card says of the shards: equal digests mean equal documents in equal order."""
        return hashlib.sha256(json.dumps([shard.sha256 for shard in self._shards]).encode()).hexdigest()

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Document: ...

    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...

    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        number = bisect_right(self._starts, at) - 1
        return _document(self._shard(number), at - self._starts[number], self._shards[number].name)

    def __iter__(self) -> Iterator[Document]:
        for number, shard in enumerate(self._shards):
            rows = self._shard(number)
            parts = [rows] if isinstance(rows, list) else (part.to_pylist() for part in rows.to_batches(1000))
            for part in parts:
                for row in part:
                    yield _from_row(row, shard.name)

    def __reduce__(self) -> tuple[Any, ...]:
        return read_annotated, (self.folder,)

    def _shard(self, number: int) -> Any:
        if number not in self._held:
            self._held[number] = _read_shard(self.folder / self._shards[number].name, self._form)
            if len(self._held) > _OPEN[self._form]:
                self._held.popitem(last=False)
        self._held.move_to_end(number)
        return self._held[number]
