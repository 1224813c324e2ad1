"""Rows of any size, one after the other: JSON Lines, Parquet, Arrow, an annotated folder, any data set that `datasets` reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from detox.data.hub import open_stream, pinned_revision, reading_errors
from detox.data.jsonl import scan_jsonl
from detox.errors import DataError, InputError, MissingData
from detox.pretraining.annotation.columns import Columns

_JSONL = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json", ".json.gz")
_TABLES = (".parquet", ".arrow")
_ROWS = 1000  # read from a table at once

CARD = "annotation.json"
"""What a folder of annotated documents is known by."""


def open_input(
    inputs: Sequence[str | Path],
    *,
    columns: Columns,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
) -> Rows:
    """What to annotate, unread.

    Args:
        inputs: files of one kind, in order; or one folder (annotated documents, what `Dataset.save_to_disk` wrote, files
            that `datasets.load_dataset` reads); or the id of a data set on the hub.
        columns: which of them matter; the others of a table are not read.
        config: of a data set of the hub, of a folder of files.
        split: of these.
        revision: of a data set of the hub.

    Raises:
        MissingData: it is not there.
        UnknownName: a table without such a column.
        InputError: no input, or files of several kinds.
    """
    if not inputs:
        raise InputError("no input; expected files, a folder or the id of a data set")
    paths = [Path(one).expanduser() for one in inputs]
    kinds = {_kind(path) for path in paths}
    if len(kinds) > 1 or (len(paths) > 1 and not kinds <= {"jsonl", *_TABLES}):
        raise InputError(f"{len(paths)} inputs of several kinds; expected files of one kind, or one folder or id")
    kind = kinds.pop()
    if kind != "set" and kind != "folder":
        _require_files(paths)
    if kind == "jsonl":
        return JsonRows(paths)
    if kind in _TABLES:
        return TableRows(paths, columns)
    if kind == "annotated":
        shards = json.loads((paths[0] / CARD).read_text(encoding="utf-8"))["shards"]
        return open_input([paths[0] / shard["name"] for shard in shards], columns=columns)
    return SetRows(
        str(paths[0]) if kind == "folder" else str(inputs[0]), columns, config=config, split=split, revision=revision
    )


def _kind(path: Path) -> str:
    name = path.name.lower()
    if path.is_dir():
        return "annotated" if (path / CARD).is_file() else "folder"
    if name.endswith(_JSONL):
        return "jsonl"
    return next((ending for ending in _TABLES if name.endswith(ending)), "set")


def _require_files(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise MissingData(f"no file {path}; give the path of a .jsonl, .jsonl.gz, .parquet or .arrow file")


def _files_identity(paths: Sequence[Path]) -> list[dict[str, Any]]:
    found = []
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append({"name": path.name, "bytes": path.stat().st_size, "sha256": digest})
    return found


def _table_shape(path: Path) -> tuple[list[str], int]:
    """Names of columns, number of rows; of an Arrow file without reading them, of a Parquet file from its footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".parquet":
            file = pq.ParquetFile(path)
            return file.schema_arrow.names, file.metadata.num_rows
        with pa.memory_map(str(path)) as mapped:
            table = read_arrow(mapped)
            return table.schema.names, table.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path.name}: not readable ({str(error).splitlines()[0]}); expected a whole file") from error


def _batches(path: Path, columns: list[str]) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix.lower() == ".parquet":
        yield from pq.ParquetFile(path).iter_batches(batch_size=_ROWS, columns=columns)
        return
    with pa.memory_map(str(path)) as mapped:
        yield from read_arrow(mapped).select(columns).to_batches(max_chunksize=_ROWS)


def read_arrow(mapped: Any) -> Any:
    """The table in an Arrow file of either form (stream, as `datasets` writes, or file), without copying it."""
    import pyarrow as pa

    try:
        return pa.ipc.open_stream(mapped).read_all()
    except pa.ArrowInvalid:
        mapped.seek(0)
        return pa.ipc.open_file(mapped).read_all()


class Row(NamedTuple):
    """One row: where it stands, its columns or what is wrong with it, and how far the input has been read."""

    place: str
    value: Mapping[str, Any] | DataError
    position: int


class Rows(Protocol):
    """An input.

    Attributes:
        total: of what `Row.position` counts; None where nobody knows.
        unit: what that is: "B" or "row".
    """

    total: int | None
    unit: str

    def identity(self) -> dict[str, Any]:
        """What decides which rows there are, as JSON."""
        ...

    def rows(self, start: int = 0) -> Iterator[Row]:
        """Rows in order, from number `start`."""
        ...


class JsonRows:
    """Lines of JSON Lines files that are not blank."""

    unit = "B"

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.total: int | None = sum(path.stat().st_size for path in paths)

    def identity(self) -> dict[str, Any]:
        """See `Rows`."""
        return {"files": _files_identity(self.paths)}

    def rows(self, start: int = 0) -> Iterator[Row]:
        """See `Rows`."""
        number = before = 0
        for path in self.paths:
            for line in scan_jsonl(path):
                if number >= start:
                    yield Row(f"{path.name}:{line.number}", line.value, before + line.position)
                number += 1
            before += path.stat().st_size


class TableRows:
    """Rows of Parquet or Arrow files; only the columns that are needed, a few rows at a time."""

    unit = "row"

    def __init__(self, paths: Sequence[Path], columns: Columns) -> None:
        self.paths, self.columns = paths, columns
        self.total: int | None = 0
        for path in paths:
            names, count = _table_shape(path)
            columns.of(names, path.name)
            self.total += count

    def identity(self) -> dict[str, Any]:
        """See `Rows`."""
        return {"files": _files_identity(self.paths)}

    def rows(self, start: int = 0) -> Iterator[Row]:
        """See `Rows`."""
        number = 0
        for path in self.paths:
            first = number
            for batch in _batches(path, self.columns.of(_table_shape(path)[0], path.name)):
                skipped = max(0, start - number)
                for at, row in enumerate(batch.slice(skipped).to_pylist(), start=number + skipped):
                    yield Row(f"{path.name}:{at - first}", row, at + 1)
                number += batch.num_rows


class SetRows:
    """Rows of a data set that `datasets` reads: a folder, or an id of the hub, which is streamed."""

    unit = "row"

    def __init__(self, name: str, columns: Columns, *, config: str | None, split: str, revision: str | None) -> None:
        self.name, self.config, self.split = name, config, split
        self.local = Path(name).is_dir()
        self.revision = None if self.local else pinned_revision(name, revision)
        self._data = open_stream(name, config=config, split=split, revision=self.revision)
        names = self._data.column_names
        if names is not None:
            self._data = self._data.select_columns(columns.of(names, name))
        info = getattr(self._data.info, "splits", None) or {}
        known = len(self._data) if hasattr(self._data, "__len__") else getattr(info.get(split), "num_examples", None)
        self.total: int | None = known

    def identity(self) -> dict[str, Any]:
        """See `Rows`."""
        if self.local:
            files = sorted(path for path in Path(self.name).rglob("*") if path.is_file() and path.name[0] != ".")
            return {"files": _files_identity(files), "config": self.config, "split": self.split}
        return {"id": self.name, "revision": self.revision, "config": self.config, "split": self.split}

    def rows(self, start: int = 0) -> Iterator[Row]:
        """See `Rows`."""
        label, number = Path(self.name).name, start
        try:
            for number, row in enumerate(self._data.skip(start), start=start):
                yield Row(f"{label}:{self.split}:{number}", row, number + 1)
        except reading_errors() as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise MissingData(
                f"{label}: cannot read on after row {number} ({reason}); the same command goes on from there"
            ) from error
