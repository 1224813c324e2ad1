"""Tables of text that people bring: CSV and TSV with a head."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from detox.errors import DataError, MissingData

SUFFIXES = (".csv", ".tsv")


def read_table(path: str | Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a table, each with its number in the file; empty cells are left out, and `id` is the row's number where there is none.

    Raises:
        MissingData: no such file.
        DataError: no head, or a line with more cells than it; names the line.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingData(f"no file {path}; expected a table with a head, such as text,label,group")
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle, delimiter="\t" if path.suffix == ".tsv" else ",")
        if not reader.fieldnames:
            raise DataError(f"{path}:1: empty; expected a table with a head, such as text,label,group")
        for number, row in enumerate(reader, start=1):
            if None in row:
                raise DataError(
                    f"{path}:{reader.line_num}: more cells than the head has; expected {len(reader.fieldnames)}"
                )
            yield reader.line_num, {"id": str(number), **{key: value for key, value in row.items() if value}}
