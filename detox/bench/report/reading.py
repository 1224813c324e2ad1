"""What a report is made from: the comparison of a results directory, and what its records say beside the numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detox.bench.cell_list import NOISE_FLOOR
from detox.bench.cells import read_summary
from detox.bench.comparison import Comparison, Row, compare
from detox.errors import DataError, InputError, MissingData

Names = tuple[str, str | None, float | None, str, int]


@dataclass(frozen=True)
class Results:
    """A results directory, read.

    Attributes:
        directory: where it is.
        comparison: of the cells of one protocol.
        cells: `cell.json` of every row, by the row's names.
        folders: name of every row's folder.
        grid: `grid.json`, empty where there is none.
        bases: card of every base that was pretrained here, by name.
    """

    directory: Path
    comparison: Comparison
    cells: Mapping[Names, dict[str, Any]]
    folders: Mapping[Names, str]
    grid: Mapping[str, Any] = field(default_factory=dict)
    bases: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def rows(self) -> Iterator[Row]:
        """All rows: each base, its noise floor, its methods; those of controls last."""
        rows = (*self.comparison.rows, *self.comparison.noise_floor)
        place = {key: index for index, key in enumerate(dict.fromkeys((row.base, row.seed) for row in rows))}
        yield from sorted(
            rows, key=lambda row: (place[row.base, row.seed], row.method is not None, row.method != NOISE_FLOOR)
        )
        yield from self.comparison.control_rows

    def cell(self, row: Row) -> dict[str, Any]:
        """`cell.json` of a row; empty where it cannot be found."""
        return dict(self.cells.get(names_of(row), {}))

    def without_paths(self, text: str) -> str:
        """A reason as it can be passed on: it says which file of the results, and not where they lay."""
        for root in (str(self.directory.resolve()), str(self.directory)):
            text = text.replace(f"{root}/", "") if root not in (".", "/") else text
        return text

    def base_of(self, row: Row) -> Row | None:
        """The bare base that a row is compared with; None for a base itself, and where it has no record."""
        if row.method is None:
            return None
        same = (
            r for r in self.comparison.rows if r.method is None and (r.base, r.seed, r.protocol) == _place(row)
        )  # fmt: skip
        return next(same, None)


def _place(row: Row) -> tuple[str, int, str]:
    return row.base, row.seed, row.protocol


def names_of(row: Row) -> Names:
    """What tells a row from all others of a results directory."""
    return row.base, row.method, row.strength, row.protocol, row.seed


def read_results(directory: str | Path, *, protocol: str | None = None) -> Results:
    """Read a results directory.

    Args:
        directory: of `detox bench run`.
        protocol: which, where there are several.

    Raises:
        MissingData: no such directory, or no finished cell in it.
        InputError: it holds several protocols, and none was chosen.
    """
    root = Path(directory)
    if root.is_file():
        raise InputError(f"{root} is a file; expected a results directory of `detox bench run`")
    if root.is_dir() and not (root / "cells").is_dir():
        raise MissingData(
            f"{root} is no results directory: it holds no cells/; give the --output_dir of `detox bench run`"
        )
    comparison = compare(root, protocol=protocol)
    grid = read_summary(root) or {}
    folders: dict[Names, str] = {}
    cells: dict[Names, dict[str, Any]] = {}
    renamed = {
        entry["folder"].rsplit("--", 1)[-1]: entry for entry in grid.get("cells", []) if not isinstance(entry, str)
    }
    for path in sorted(root.glob("cells/*/cell.json")):
        try:
            cell = _json(path)
            names = {**cell, **renamed.get(path.parent.name.rsplit("--", 1)[-1], {})}
            key = (names["base"], names["method"], names["strength"], names["protocol"], names["seed"])
        except (DataError, KeyError, TypeError):
            continue  # the comparison has named it
        cells[key], folders[key] = cell, path.parent.name
    bases = {}
    for path in sorted(root.glob("bases/*/base.json")):
        try:
            card = _json(path)
        except DataError:
            continue
        bases[str(card.get("name", path.parent.name))] = card
    return Results(root, comparison, cells, folders, grid, bases)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}:1: damaged ({error})") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}:1: expected a JSON object, got {type(found).__name__}")
    return found
