"""Cells: one folder each, named by a hash of everything that changes its numbers; written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detox.bench.bases import NOT_IN_FILE_NAMES, Base
from detox.errors import DataError, MissingData
from detox.evaluation import Scorecard
from detox.files import atomic_directory, exclusive, write_json


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One (base, detoxifier, strength, protocol, seed) and its identity.

    Attributes:
        base, method, strength, protocol, seed: names, for people; `method` is None for the bare base.
        identity: everything that changes a number; names are not in it.
    """

    base: str
    method: str | None
    strength: float | None
    protocol: str
    seed: int
    identity: dict[str, Any]

    @property
    def key(self) -> str:
        """Hash of the identity (12 hexadecimal digits)."""
        return digest(self.identity)

    @property
    def label(self) -> str:
        """base, method and strength, as a person would say it."""
        return self.base if self.method is None else f"{self.base} + {self.method_label}"

    @property
    def method_label(self) -> str:
        """Method and strength, "-" for the bare base."""
        if self.method is None:
            return "-"
        return self.method if self.strength is None else f"{self.method} @ {self.strength:g}"

    @property
    def folder(self) -> str:
        """Name of the cell's folder."""
        parts = [self.base, self.method_label.replace(" ", ""), self.protocol, f"seed{self.seed}"]
        return f"{re.sub(NOT_IN_FILE_NAMES, '_', '--'.join(parts))}--{self.key}"

    def names(self) -> dict[str, Any]:
        """What people call it, for the record."""
        return {name: getattr(self, name) for name in ("base", "method", "strength", "protocol", "seed")}


def digest(value: Any) -> str:
    """Hash of a JSON value (12 hexadecimal digits)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def base_identity(base: Base, path: str) -> dict[str, Any]:
    """What decides what the base writes: its files' hashes, or the commit of a hub id; and the dtype it runs in.

    Raises:
        MissingData: neither a folder nor something in the hub's cache, and the hub cannot be asked.
    """
    folder = Path(path)
    told = {} if base.attention_output is None else {"attention_output": base.attention_output}
    if folder.is_dir():
        files = sorted(p for p in folder.iterdir() if p.suffix in (*_WEIGHTS, ".model", ".jinja") or p.name in _SMALL)
        if not any(p.suffix in _WEIGHTS for p in files):
            raise MissingData(f"base {base.name!r}: no weights in {path}; expected model.safetensors")
        return {"files": {p.name: _file_hash(p) for p in files}, "dtype": base.dtype, **told}
    from transformers.utils.hub import cached_file

    try:
        config = cached_file(path, "config.json", revision=base.revision)
    except OSError as error:
        first = str(error).strip().splitlines()[0]
        raise MissingData(f"base {base.name!r}: {path} is no folder, and the hub does not give it ({first})") from error
    return {"hub": path, "commit": Path(str(config)).parent.name, "dtype": base.dtype, **told}


_WEIGHTS = (".safetensors", ".bin")
_SMALL = {
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
}  # fmt: skip


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


class Store:
    """The folder of a grid's results. Finished cells are read, never computed again."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def finished(self, cell: Cell) -> bool:
        """Whether the cell's record is there and whole; a damaged one is measured again."""
        return self._found(cell) is not None

    def _found(self, cell: Cell) -> Path | None:
        own = self.directory / "cells" / cell.folder
        if _is_whole(own):
            return own
        # The same numbers under another name: a base or method was renamed in the grid.
        return next((p for p in self.directory.glob(f"cells/*--{cell.key}") if _is_whole(p)), None)

    def read(self, cell: Cell) -> Scorecard:
        """The scorecard of a finished cell."""
        folder = self._found(cell)
        if folder is None:
            raise MissingData(f"no record of {cell.label} ({cell.key}) in {self.directory}")
        return Scorecard.load(folder)

    def write(self, cell: Cell, scorecard: Scorecard, extra: dict[str, Any]) -> None:
        """Write the record of a cell; an earlier failure's note goes away."""
        with atomic_directory(self.directory / "cells" / cell.folder) as folder:
            scorecard.write_into(folder)
            write_json(folder / "cell.json", {**cell.names(), "identity": cell.identity, **extra})
        self._failure(cell).unlink(missing_ok=True)

    def note_choice(self, cell: Cell, chosen_on: Mapping[str, Any]) -> None:
        """Write into a finished cell's record what its strength was chosen on, where another grid has measured it before."""
        path = self._found(cell) or self.directory / "cells" / cell.folder
        names = json.loads((path / "cell.json").read_text(encoding="utf-8"))
        if names.get("chosen_on") != dict(chosen_on):
            write_json(path / "cell.json", {**names, "chosen_on": dict(chosen_on)})

    def fail(self, cell: Cell, reason: str, details: str) -> None:
        """Leave a note of why a cell has no record."""
        write_json(self._failure(cell), {**cell.names(), "key": cell.key, "reason": reason, "details": details})

    def fail_base(self, name: str, reason: str, details: str) -> None:
        """Leave a note of why a base could not be made."""
        write_json(self._base_failure(name), {"base": name, "reason": reason, "details": details})

    def base_made(self, name: str) -> None:
        """An earlier failure's note goes away."""
        self._base_failure(name).unlink(missing_ok=True)

    def _failure(self, cell: Cell) -> Path:
        return self.directory / "failures" / f"{cell.folder}.json"

    def _base_failure(self, name: str) -> Path:
        return self.directory / "failures" / f"{re.sub(NOT_IN_FILE_NAMES, '_', name)}--base.json"


def _is_whole(folder: Path) -> bool:
    """Whether a record can be read, as a comparison will read it: what is named damaged there is measured again here."""
    try:
        return (folder / "cell.json").is_file() and bool(_record(folder))
    except (DataError, MissingData):
        return False


@dataclass(frozen=True)
class Record:
    """A finished cell, as read from disk."""

    names: dict[str, Any]
    scorecard: Scorecard
    folder: Path


def _record(folder: Path) -> Record:
    """A finished cell.

    Raises:
        DataError, MissingData: it is damaged, or lacks a file.
    """
    path = folder / "cell.json"
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
        card = Scorecard.load(folder)
        for file, keys, found in (
            (path, ("base", "method", "strength", "protocol", "seed"), names),
            (folder / "scorecard.json", ("name", "identity"), card.protocol),
        ):
            if absent := [key for key in keys if key not in found]:
                raise DataError(f"{file}:1: has no {absent[0]}; run the grid again")
        return Record(names, card, folder)
    except (DataError, MissingData):
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        line = getattr(error, "lineno", 1)
        raise DataError(f"{path}:{line}: damaged ({type(error).__name__}); run the grid again") from error


def read_summary(directory: str | Path) -> dict[str, Any] | None:
    """`grid.json` of a results directory: which cells the last grid meant, and its holes. None where no run has ended there.

    Raises:
        DataError: it is damaged.
    """
    path = Path(directory) / "grid.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found["cells"], list) and isinstance(found["holes"], dict):
            return dict(found)
    except (ValueError, KeyError, TypeError):
        pass
    raise DataError(f"{path}:1: damaged; run the grid again, which writes it anew and measures nothing that is there")


def read_records(directory: str | Path) -> list[Record]:
    """All finished cells of a results directory that can be read, in the order of their names; see `sound_records`."""
    return sound_records(directory)[0]


def sound_records(directory: str | Path) -> tuple[list[Record], dict[str, str]]:
    """All finished cells of a results directory, in the order of their names, and why others cannot be read, by folder.

    Raises:
        MissingData: no such directory, or no cells in it.
        DataError: every record is damaged; names the first.
    """
    root = Path(directory)
    if not root.is_dir():
        raise MissingData(f"no results directory {root}; run `detox bench run GRID.yaml --output_dir {root}` first")
    records, damaged = [], {}
    for path in sorted(root.glob("cells/*/cell.json")):
        try:
            records.append(_record(path.parent))
        except (DataError, MissingData) as error:
            damaged[path.parent.name] = str(error)
    if not records:
        raise (
            DataError(next(iter(damaged.values())))
            if damaged
            else MissingData(f"no finished cells in {root}; run the grid first")
        )
    return records, damaged


@contextmanager
def sole_runner(directory: Path) -> Iterator[None]:
    """Keep a second runner out of the same results directory.

    Raises:
        InputError: another one is at work there.
    """
    message = f"another runner is at work in {directory}; wait for it, or give another --output_dir"
    with (directory / ".lock").open("w") as lock, exclusive(lock, message):
        yield


def provenance() -> dict[str, Any]:
    """What a record must say of where it was made: versions, commit, hardware in general terms. No host names, no paths."""
    import numpy
    import torch
    import transformers

    from detox import __version__

    packages = {
        "detox": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return {
        "packages": packages,
        "python": platform.python_version(),
        "device": device,
        "source": source_commit(Path(__file__).parent.parent),
    }


def source_commit(package: Path) -> dict[str, Any] | None:
    """Commit of the repository that tracks the files of a package, and whether they differ from it; None if none does."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if not git("ls-files", "--", "."):
            return None  # installed into a folder of somebody else's repository
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.CalledProcessError):
        return None  # an installed package is in no repository
