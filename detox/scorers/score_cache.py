"""Scores of a service on disk, so that they can be had again when the service has changed or closed.

A file `NAME.jsonl.gz`. Its first line says whose scores they are: `{"scores_of": "Perspective API", "format": 1}`. Each further line
holds one text's: `{"sha256", "date", "scores": {"toxicity": 0.93, ...}}`, or `{"sha256", "date", "reason"}` where the service said that
it will not score the text. The text itself is not kept. Every answer is there for good once it is added: a kill can tear the last one,
which is then left out and asked for again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from detox.errors import DataError, InputError, MissingData
from detox.files import disk_errors, exclusive, require_writable, write_bytes
from detox.scorers.protocol import readable

FORMAT = 1
_PIECE = 8192  # bytes


def text_key(text: str) -> str:
    """SHA-256 (hex) of the text as scorers are given it: lone surrogates replaced, UTF-8."""
    return hashlib.sha256(readable(text).encode("utf-8")).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a service said of one text.

    Attributes:
        date: of the answer, YYYY-MM-DD.
        scores: in [0, 1] by attribute; empty where there is a reason.
        reason: why it will not score the text; None where there are scores.
    """

    date: str
    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None


def read_scores(path: str | os.PathLike[str]) -> tuple[str, dict[str, Answer]]:
    """The service of a cache, and its answers by `text_key`.

    Raises:
        MissingData: no such file.
        DataError: it holds something else, or is damaged anywhere but at its end; begins with `file:line`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingData(
            f"no cache of scores at {file}; expected NAME.jsonl.gz, as the perspective-api scorer writes it"
        )
    content, _ = _whole_members(file.read_bytes(), file.name)
    return _parsed(content, file.name)


@contextmanager
def opened(path: str | os.PathLike[str], service: str) -> Iterator[ScoreCache]:
    """A cache to read from and add to, for one process at a time.

    Raises:
        InputError: another process is adding to it, or its name does not end in .jsonl.gz.
        DataError: it holds something else, or scores of another service.
        OutputError: it cannot be written.
    """
    file = Path(path).expanduser()
    if not file.name.endswith(".jsonl.gz"):
        raise InputError(f"cache of scores {file.name!r}; expected a name that ends in .jsonl.gz")
    require_writable(file.parent)
    with disk_errors(f"write beside {file}", advice="give another path"):
        lock = file.with_name(f".{file.name}.lock").open("w")
    with lock, exclusive(lock, f"another process is adding to {file}; wait for it, or give another cache"):
        answers: dict[str, Answer] = {}
        if file.is_file() and file.stat().st_size:
            content, whole = _whole_members(file.read_bytes(), file.name)
            found, answers = _parsed(content, file.name)
            if found != service:
                raise DataError(f"{file.name}:1: scores of {found!r}, not of {service!r}; give another cache")
            if whole < file.stat().st_size:
                os.truncate(file, whole)
        else:
            write_bytes(file, gzip.compress(_line({"scores_of": service, "format": FORMAT}), mtime=0))
        with file.open("ab") as end:
            cache = ScoreCache(end, answers)
            yield cache
        if cache.added:  # a member a line is safe and large; one for all is small
            write_bytes(file, gzip.compress(_content(service, answers), mtime=0))


class ScoreCache:
    """Answers by text; made by `opened`."""

    def __init__(self, file: IO[bytes], answers: dict[str, Answer]) -> None:
        self._file, self._answers, self.added = file, answers, 0

    def get(self, text: str) -> Answer | None:
        """What was answered; None where nothing was."""
        return self._answers.get(text_key(text))

    def add(self, text: str, answer: Answer) -> None:
        """Write one answer; when this returns, it survives a kill.

        Raises:
            OutputError: the disk is full, or the place has gone.
        """
        key = text_key(text)
        with disk_errors("add to the cache of scores", advice="make room, and what was answered is kept"):
            self._file.write(gzip.compress(_line(_row(key, answer)), mtime=0))
            self._file.flush()
            os.fsync(self._file.fileno())
        self._answers[key] = answer
        self.added += 1


def write_scores(path: str | os.PathLike[str], service: str, answers: Mapping[str, Answer]) -> Path:
    """Write a whole cache, atomically: scores that were published elsewhere, say.

    Args:
        path: ends in .jsonl.gz.
        service: whose scores they are.
        answers: by `text_key`.
    """
    return write_bytes(path, gzip.compress(_content(service, answers), mtime=0))


def content_sha256(service: str, answers: Mapping[str, Answer]) -> str:
    """Digest of what is in a cache, however its file is packed and in whatever order it came."""
    return hashlib.sha256(_content(service, answers)).hexdigest()


def _content(service: str, answers: Mapping[str, Answer]) -> bytes:
    head = _line({"scores_of": service, "format": FORMAT})
    return head + b"".join(_line(_row(key, answers[key])) for key in sorted(answers))


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, sort_keys=True, allow_nan=False).encode() + b"\n"


def _row(key: str, answer: Answer) -> dict[str, Any]:
    said = {"scores": dict(answer.scores)} if answer.reason is None else {"reason": answer.reason}
    return {"sha256": key, "date": answer.date, **said}


def _whole_members(data: bytes, name: str) -> tuple[bytes, int]:
    """What the whole members of a gzip file hold, and where they end: behind that, a kill tore one."""
    parts, start = [], 0
    while start < len(data):
        member, at, part = zlib.decompressobj(wbits=31), start, []
        try:
            while not member.eof and at < len(data):  # in pieces: what a member leaves over is copied
                part.append(member.decompress(data[at : at + _PIECE]))
                at = min(at + _PIECE, len(data))
        except zlib.error as error:
            if start:
                break
            raise DataError(f"{name}:1: not gzip ({error}); expected a cache of scores") from error
        if not member.eof:
            break
        parts += part
        start = at - len(member.unused_data)
    if data and not start:
        raise DataError(f"{name}:1: cut short; expected a cache of scores")
    return b"".join(parts), start


def _parsed(content: bytes, name: str) -> tuple[str, dict[str, Answer]]:
    service, answers = "", {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = json.loads(line)
            if number == 1:
                service = row["scores_of"]
                if not isinstance(service, str) or row["format"] != FORMAT:
                    raise ValueError(f"format {row['format']!r}")
                continue
            answers[row["sha256"]] = _answer(row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{name}:{number}: not a line of a cache of scores ({error}); make it again") from error
    if not service:
        raise DataError(f"{name}:1: empty; expected a cache of scores")
    return service, answers


def _answer(row: Mapping[str, Any]) -> Answer:
    if not isinstance(row["sha256"], str) or not isinstance(row["date"], str):
        raise ValueError("sha256 and date must be text")
    if "reason" in row:
        if not isinstance(row["reason"], str) or not row["reason"]:
            raise ValueError("reason must be text")
        return Answer(date=row["date"], reason=row["reason"])
    scores = {str(attribute): float(value) for attribute, value in row["scores"].items()}
    if not scores or any(math.isnan(value) or not 0 <= value <= 1 for value in scores.values()):
        raise ValueError("scores must be numbers in [0, 1]")
    return Answer(date=row["date"], scores=scores)
