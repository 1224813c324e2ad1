"""The training data of every detoxifier: a prompt with safe and toxic continuations, in memory and as JSON Lines.

One line of a file: `{"id": "17", "prompt": "You are", "safe": [" kind."], "toxic": [" a fool."], "group": "17"}`;
`group` may be left out. A continuation is put right after its prompt, so a separating space belongs to it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detox.data.jsonl import json_lines, read_jsonl, unusable_text, write_jsonl
from detox.data.records import LabelledText
from detox.errors import DataError, InputError, require_known

COLUMNS = ("id", "prompt", "safe", "toxic", "group")


def read_contrasts(path: str | os.PathLike[str]) -> list[Contrast]:
    """Read a JSON Lines file of contrasts, plain or gzipped.

    Raises:
        MissingData: there is no such file.
        UnknownName: a line has a key that is no column; names file, line and the nearest column.
        DataError: a line is not JSON, lacks a column, holds the wrong type or repeats an id; starts with `file:line`.
    """
    name = Path(path).name
    contrasts: list[Contrast] = []
    lines: dict[str, int] = {}
    for number, row in read_jsonl(path):
        contrast = _contrast(row, f"{name}:{number}")
        if contrast.id in lines:
            raise DataError(
                f"{name}:{number}: id {contrast.id!r} again, first on line {lines[contrast.id]}; give each its own"
            )
        lines[contrast.id] = number
        contrasts.append(contrast)
    return contrasts


def write_contrasts(path: str | os.PathLike[str], contrasts: Iterable[Contrast]) -> Path:
    """Write contrasts as JSON Lines, atomically; gzipped if the name ends in .gz. `read_contrasts` gives them back.

    Raises:
        InputError: two contrasts share an id.
        OutputError: the place cannot be written to.
    """
    return write_jsonl(path, _rows(contrasts))


def digest(contrasts: Iterable[Contrast]) -> str:
    """SHA-256 (hex) of the contrasts, every field and their order: what a fit depends on."""
    sha = hashlib.sha256()
    for line in json_lines(_rows(contrasts), "contrasts"):
        sha.update(line.encode("utf-8") + b"\n")
    return sha.hexdigest()


def labelled_texts(contrasts: Iterable[Contrast]) -> list[LabelledText]:
    """Every continuation as a text of its own: prompt + continuation, label 1 for toxic and 0 for safe.

    All texts of one contrast carry its `group` (its id where it has none): a split by group keeps a pair together.
    """
    return [
        LabelledText(id=f"{one.id}/{side}/{number}", text=one.prompt + text, label=label, group=one.group_key)
        for one in contrasts
        for side, label, texts in (("safe", 0, one.safe), ("toxic", 1, one.toxic))
        for number, text in enumerate(texts)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """A prompt and continuations of it that are wanted (`safe`) and not wanted (`toxic`).

    Attributes:
        id: unique among the contrasts that are used together.
        prompt: the text before the continuations; "" where they stand alone.
        safe, toxic: continuations, none empty, put right after `prompt`; one of the two may be empty, not both.
        group: contrasts of one group (paraphrases of one meaning, answers to one prompt) stay on one side of a split.

    Raises:
        InputError: a field has the wrong type or value; lists are taken as tuples, a bare string is not.
    """

    id: str
    prompt: str
    safe: tuple[str, ...]
    toxic: tuple[str, ...]
    group: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise InputError(f"contrast id {self.id!r}; expected a string that is not empty")
        _require_text(self.prompt, f"contrast {self.id!r}: prompt")
        if self.group is not None:
            _require_text(self.group, f"contrast {self.id!r}: group")
        for side in ("safe", "toxic"):
            object.__setattr__(self, side, _continuations(getattr(self, side), f"contrast {self.id!r}: {side}"))
        if not self.safe and not self.toxic:
            raise InputError(f"contrast {self.id!r}: no continuation; expected a safe or a toxic one")
        if set(self.safe) & set(self.toxic):
            raise InputError(f"contrast {self.id!r}: a continuation is both safe and toxic; expected it on one side")

    @property
    def group_key(self) -> str:
        """What a split keeps together: the group, or the id where there is none."""
        return self.group if self.group is not None else self.id


def _continuations(texts: Any, what: str) -> tuple[str, ...]:
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise InputError(f"{what} is a {type(texts).__name__}; expected a tuple of strings")
    for text in texts:
        _require_text(text, what)
        if not text:
            raise InputError(f"{what} holds an empty string; expected text, or leave it out")
    return tuple(texts)


def _require_text(text: Any, what: str) -> None:
    if not isinstance(text, str):
        raise InputError(f"{what} holds a {type(text).__name__}; expected a string")
    problem = unusable_text(text)
    if problem:
        raise InputError(f"{what} holds {problem}; expected text that UTF-8 can hold")


def _contrast(row: dict[str, Any], where: str) -> Contrast:
    for key in row:
        require_known(f"column in {where}", key, COLUMNS)
    for column in COLUMNS[:-1]:
        if column not in row:
            raise DataError(
                f"{where}: no {column!r}; expected an object with {', '.join(COLUMNS[:-1])} and perhaps group"
            )
    try:
        return Contrast(**row)
    except InputError as error:
        raise DataError(f"{where}: {error}") from error


def _rows(contrasts: Iterable[Contrast]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for one in contrasts:
        if one.id in seen:
            raise InputError(f"two contrasts have the id {one.id!r}; give each its own")
        seen.add(one.id)
        row: dict[str, Any] = {"id": one.id, "prompt": one.prompt, "safe": one.safe, "toxic": one.toxic}
        yield row if one.group is None else {**row, "group": one.group}
