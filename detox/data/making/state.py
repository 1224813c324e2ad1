"""The answers of a writer on disk: one line a request, there for good once it is written.

The first line holds what decides the answers (`Writer.identity`); each further line `{"id", "side", "seed", "answers"}`, an answer
being [text, finish reason]. The file stays when the contrasts are made: other filters need no other answers, and more seeds are added
to it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detox.data.jsonl import json_lines, read_jsonl
from detox.data.making.prompts import SIDES
from detox.data.making.writers import Answered, Request, Text
from detox.errors import DataError, InputError
from detox.files import disk_errors, exclusive, require_writable
from detox.scorers.protocol import readable

_HEAD = b'{"writing": {'


@contextmanager
def opened(path: Path, identity: Mapping[str, Any]) -> Iterator[Answers]:
    """The answers that are there, and the file to add to, for one process at a time.

    A last line that a kill cut short is removed; its request will be made again.

    Raises:
        InputError: the file was begun with another identity, or another process is adding to it.
        DataError: it holds something else; begins with `file:line`.
        OutputError: it cannot be written.
    """
    require_writable(path.parent)
    with disk_errors(f"write {path}", advice="give another path"):
        file = path.open("a+b")
    with file, exclusive(file, f"another process is adding to {path}; wait for it, or give another --output_file"):
        _cut_torn_line(file, path.name)
        answers = Answers(path, file)
        answers.begin(dict(identity))
        yield answers


def _cut_torn_line(file: Any, name: str) -> None:
    """Remove what stands behind the last line break; never of a file that is not ours."""
    file.seek(0)
    head = file.read(len(_HEAD))
    if head != _HEAD[: len(head)]:
        raise DataError(f"{name}:1: not the first line of answers; give another --output_file, or remove this file")
    end = kept = file.seek(0, os.SEEK_END)
    while kept:
        start = max(0, kept - 2**16)
        file.seek(start)
        at = file.read(kept - start).rfind(b"\n")
        if at >= 0:
            kept = start + at + 1
            break
        kept = start
    if kept < end:
        file.truncate(kept)


def _difference(name: str, was: Any, now: Any) -> str | None:
    if isinstance(was, dict) and isinstance(now, dict):
        parts = (
            _difference(f"{name} {key}".strip(), was.get(key), now.get(key)) for key in dict.fromkeys((*was, *now))
        )
        return next((part for part in parts if part is not None), None)
    return None if was == now else f"{name} {was!r}, now it is {now!r}"


def _answered(row: dict[str, Any], where: str) -> Answered:
    fields = [row.get(key) for key in ("id", "seed", "side")]
    answers = row.get("answers")
    if (
        not all(isinstance(value, str) for value in fields)
        or row["side"] not in SIDES
        or not isinstance(answers, list)
        or not all(isinstance(one, list) and len(one) == 2 and all(isinstance(s, str) for s in one) for one in answers)
    ):
        raise DataError(f"{where}: not a line of answers; give another --output_file, or remove this file")
    return Answered(Request(row["id"], row["seed"], row["side"]), tuple(Text(*one) for one in answers))


def _key(request: Request) -> tuple[str, str]:
    # Not the id: numbers of lines change when a sentence is put in front, and nothing else has changed then.
    return request.text, request.side


def _storable(text: str) -> str:
    return readable(text).replace("\0", "")


class Answers:
    """What has been answered, by sentence and side."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self._file = file
        self._texts: dict[tuple[str, str], tuple[Text, ...]] = {}

    def begin(self, identity: dict[str, Any]) -> None:
        """Read what is there, or write the first line."""
        now = json.loads(json.dumps(identity))
        if not self._file.seek(0, os.SEEK_END):
            self._append({"writing": now})
            return
        rows = read_jsonl(self.path)
        _, first = next(rows)
        different = _difference("", first["writing"], now)
        if different is not None:
            raise InputError(
                f"{self.path} was begun with {different}; give another --output_file, or what it was begun with"
            )
        for number, row in rows:
            found = _answered(row, f"{self.path.name}:{number}")
            self._texts[_key(found.request)] = found.texts

    def add(self, answered: Answered) -> None:
        """Write one line; when this returns, it survives a kill.

        Raises:
            OutputError: the disk is full, or the place has gone.
        """
        request = answered.request
        texts = tuple(Text(_storable(one.text), one.finish_reason) for one in answered.texts)
        self._append({"id": request.seed, "side": request.side, "seed": request.text, "answers": texts})
        self._texts[_key(request)] = texts

    def get(self, request: Request) -> tuple[Text, ...] | None:
        """The answers to a request; None where there are none yet."""
        return self._texts.get(_key(request))

    def digest(self, requests: list[Request]) -> str:
        """SHA-256 (hex) of the answers to these requests, in their order: the same, in whatever order they came."""
        sha = hashlib.sha256()
        for request in requests:
            sha.update(json.dumps([request, self.get(request)]).encode())
        return sha.hexdigest()

    def _append(self, row: dict[str, Any]) -> None:
        line = next(json_lines([row], self.path.name)) + "\n"
        with disk_errors(f"write {self.path}", advice="make room, and the same command goes on from there"):
            self._file.write(line.encode("utf-8"))
            self._file.flush()
            os.fsync(self._file.fileno())
