"""JSON Lines, read and written in one place: plain or gzipped, UTF-8, one object a line."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from detox.errors import DataError, MissingData
from detox.files import write_bytes

GZIP_MAGIC = b"\x1f\x8b"


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for every line that is not blank.

    Gzip is told by the first two bytes, not by the name.

    Raises:
        MissingData: there is no such file.
        DataError: `file:line: what was seen, what was expected` for a line that is not a JSON object in UTF-8, or whose
            text cannot be tokenized and stored (a lone surrogate, a NUL character), or for a damaged gzip stream.
    """
    for line in scan_jsonl(path):
        if isinstance(line.value, DataError):
            raise line.value
        yield line.number, line.value


def scan_jsonl(path: str | os.PathLike[str]) -> Iterator[JsonLine]:
    """Yield every line that is not blank, as `read_jsonl`; one that is wrong comes as an error, so that a reader can go on.

    Raises:
        MissingData: there is no such file.
        DataError: a damaged gzip stream.
    """
    name = Path(path).name
    line_number = 0
    try:
        with _open_bytes(Path(path)) as (file, stored):
            for line_number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    value: dict[str, Any] | DataError = _object(line, f"{name}:{line_number}")
                except DataError as error:
                    value = error
                yield JsonLine(line_number, value, stored.tell())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name}:{line_number + 1}: damaged gzip stream ({error}); fetch the file again") from error


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write one JSON object a line, atomically; gzipped (reproducibly: no time stamp) if the name ends in .gz.

    Raises:
        DataError: a text holds a lone surrogate or a NUL character, or a number is not finite; names the row.
        OutputError: the place cannot be written to.
    """
    target = Path(path)
    data = "".join(line + "\n" for line in json_lines(rows, target.name)).encode("utf-8")
    return write_bytes(target, gzip.compress(data, mtime=0) if target.suffix == ".gz" else data)


def json_lines(rows: Iterable[Mapping[str, Any]], name: str) -> Iterator[str]:
    """One JSON text a row, without the line break; `name` is what an error calls the file."""
    for number, row in enumerate(rows, start=1):
        where = f"{name}:{number}"
        for text in texts_in(row):
            problem = unusable_text(text)
            if problem:
                raise DataError(f"{where}: {problem}; expected text that UTF-8 can hold")
        try:
            yield json.dumps(row, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise DataError(f"{where}: {error}; expected finite numbers, null where a value is missing") from error


def unusable_text(text: str) -> str | None:
    """Say why `text` cannot be stored and tokenized, or None if it can."""
    if "\0" in text:
        return f"a NUL character at offset {text.index(chr(0))}"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"a lone surrogate U+{ord(text[error.start]):04X} at offset {error.start}"
    return None


def texts_in(value: Any) -> Iterator[str]:
    """Every string inside a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts_in(key)
            yield from texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_in(inner)


@contextmanager
def _open_bytes(path: Path) -> Iterator[tuple[io.BufferedIOBase, io.BufferedIOBase]]:
    """The bytes, and the file that they are stored in: the same, or compressed."""
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise MissingData(f"no file {path}; give the path of a .jsonl or .jsonl.gz file") from error
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}; expected a .jsonl or .jsonl.gz file"
        ) from error
    with file:
        zipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        yield (gzip.GzipFile(fileobj=file) if zipped else file), file


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} is not UTF-8; expected one JSON object a line") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not JSON ({error.msg} at column {error.colno}); expected one object a line"
        ) from error
    except ValueError as error:
        raise DataError(f"{where}: {error}; expected null where a value is missing") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: a JSON {type(value).__name__}; expected one JSON object a line")
    if b"\\u" in line:
        # Only an escape can smuggle in what UTF-8 bytes cannot hold, so that the common line is not walked.
        for text in texts_in(value):
            problem = unusable_text(text)
            if problem:
                raise DataError(f"{where}: {problem}; expected text that UTF-8 can hold")
    return value


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


class JsonLine(NamedTuple):
    """A line that is not blank: its number from 1, its object or what is wrong with it, bytes of the file read so far."""

    number: int
    value: dict[str, Any] | DataError
    position: int
