"""The sentences that are paraphrased: a text file, a JSON Lines file, or a set of the catalogue."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from detox.data import catalogue
from detox.data.contrasts import Contrast
from detox.data.jsonl import read_jsonl, unusable_text
from detox.data.records import Document, LabelledText, Prompt
from detox.data.subsets import normalised
from detox.errors import DataError, InputError, MissingData

_FILES = (".txt", ".jsonl", ".jsonl.gz")
_WITH_SENTENCE = (Contrast, Document, LabelledText, Prompt)


def read_seeds(
    source: str | os.PathLike[str],
    *,
    text_column: str = "text",
    id_column: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> list[Seed]:
    """Read the sentences.

    Args:
        source: a .txt file with a sentence a line, a .jsonl(.gz) file, or the name of a set of the catalogue; of contrasts the
            first safe side is taken.
        text_column: of a JSON Lines file.
        id_column: of a JSON Lines file; None numbers the lines.
        split: of a set of the catalogue.
        limit: at most so many: the first of a file, a seeded sample of a set.
        seed: of that sample.

    Raises:
        MissingData: no such file.
        UnknownName: no such set.
        DataError: a line that holds no text, or an id a second time; starts with `file:line`.
        InputError: nothing to paraphrase; a limit below 1; a split of a file.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}; expected at least 1, or None for everything")
    name = str(source)
    if name.endswith(_FILES):
        if split is not None:
            raise InputError(f"split {split!r} of the file {name}; a split belongs to a set of the catalogue")
        found = list(_of_file(Path(name).expanduser(), text_column, id_column))[:limit]
    else:
        if os.sep in name or name.startswith("~"):
            raise MissingData(f"no seeds at {name}; expected a file {', '.join(_FILES)}, or a set of the catalogue")
        records = catalogue.load(name, split=split, limit=limit, seed=seed)
        found = [
            Seed(one.id, _usable(_sentence(one), f"{name} {one.id!r}"))
            for one in records
            if isinstance(one, _WITH_SENTENCE)
        ]
    if not found:
        raise InputError(f"no sentence in {name}; expected at least one")
    _require_own_ids(found, name)
    return found


def without_repeats(seeds: Iterable[Seed]) -> tuple[list[Seed], int]:
    """The seeds without those that repeat an earlier one but for case, punctuation and spacing, and how many those are."""
    seen: set[str] = set()
    kept, repeats = [], 0
    for one in seeds:
        key = normalised(one.text)
        if key in seen:
            repeats += 1
        else:
            seen.add(key)
            kept.append(one)
    return kept, repeats


def digest(seeds: Iterable[Seed]) -> str:
    """SHA-256 (hex) of ids and texts, in their order."""
    sha = hashlib.sha256()
    for one in seeds:
        for text in one:
            sha.update(hashlib.sha256(text.encode()).digest())
    return sha.hexdigest()


def _of_file(path: Path, text_column: str, id_column: str | None) -> Iterator[Seed]:
    if path.suffix == ".txt":
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except FileNotFoundError as error:
            raise MissingData(f"no file {path}; give a text file with a sentence a line") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path.name}: byte {error.start} is not UTF-8; expected a sentence a line") from error
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}; expected a text file") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield Seed(str(number), _usable(line, f"{path.name}:{number}"))
        return
    for number, row in read_jsonl(path):
        where = f"{path.name}:{number}"
        for column in (text_column, *([id_column] if id_column else [])):
            if column not in row:
                raise DataError(f"{where}: no column {column!r} (saw {', '.join(row)}); name the right one")
        text = row[text_column]
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}: {text_column} is {text!r}; expected a sentence")
        identifier = row[id_column] if id_column else number
        if isinstance(identifier, bool) or not isinstance(identifier, str | int) or identifier == "":
            raise DataError(f"{where}: {id_column} is {identifier!r}; expected text or a whole number")
        yield Seed(str(identifier), _usable(text, where))


def _usable(text: str, where: str) -> str:
    problem = unusable_text(text)
    if problem:
        raise DataError(f"{where}: {problem}; expected text that UTF-8 can hold")
    return " ".join(text.split())


def _sentence(record: Contrast | Document | LabelledText | Prompt) -> str:
    return record.prompt + (*record.safe, *record.toxic)[0] if isinstance(record, Contrast) else record.text


def _require_own_ids(seeds: list[Seed], name: str) -> None:
    seen: set[str] = set()
    for one in seeds:
        if one.id in seen:
            raise DataError(f"{name}: id {one.id!r} again; expected each seed to have its own")
        seen.add(one.id)


class Seed(NamedTuple):
    """A sentence to be paraphrased."""

    id: str
    text: str
