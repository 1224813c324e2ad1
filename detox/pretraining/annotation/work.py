"""One shard's worth of annotation, in this process or in others: rows in, a file out."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import detox.errors
from detox.data.records import TOXIC, Document
from detox.errors import DataError, DetoxError, InputError, UnknownName
from detox.pretraining.annotation.annotators import (
    MIDDLE_ABOVE,
    TOXIC_ABOVE,
    Annotator,
    Invalid,
    Missing,
    SentenceAnnotator,
    SpanAnnotator,
    WordAnnotator,
    annotate,
    require_kind,
)
from detox.pretraining.annotation.columns import Columns, document_of
from detox.pretraining.annotation.counts import AnnotationCounts
from detox.pretraining.annotation.input import Row
from detox.pretraining.annotation.shards import Format, ShardEntry, write_shard
from detox.scorers.loading import load_scorer
from detox.scorers.wordlist import WordListScorer

LEXICONS = "lexicons"
"""The name of a word list that stands for the lexicons of the data directory."""

_annotators: dict[str, Annotator] = {}  # of this worker process: loaded once


def annotate_shard(task: ShardTask, annotator: Annotator) -> ShardResult:
    """Annotate the rows of one shard and write it.

    Raises:
        DataError: an invalid row, where those are not skipped.
        OutputError: the shard cannot be written.
    """
    counts = AnnotationCounts()
    documents = list(annotate(_documents(task, counts), annotator, invalid=task.invalid, counts=counts))
    return ShardResult(write_shard(task.path, documents, task.format), len(task.rows), counts.to_dict())


def _documents(task: ShardTask, counts: AnnotationCounts) -> Iterator[Document]:
    for row in task.rows:
        try:
            if isinstance(row.value, DataError):
                raise row.value
            yield document_of(row.value, row.place, task.columns, task.kind)
        except DataError as error:
            if task.invalid == "error":
                raise
            counts.add_invalid(str(error))


@contextmanager
def workers(settings: AnnotationSettings, count: int) -> Iterator[Workers]:
    """Processes that annotate shards. They end with the block, and with this process however it ends."""
    threads = max(1, (os.cpu_count() or 1) // count)
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_begin, initargs=(threads,))
    try:
        yield Workers(pool, settings, threads)
    finally:
        # What waits is dropped and what runs is ended: a shard that is not finished leaves nothing.
        running = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()
        for process in running:
            process.join()


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    # A process that begins inherits what is held back here, so that Ctrl-C while it loads is no traceback of its own.
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; who began this ends it
    os.environ["OMP_NUM_THREADS"] = str(threads)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _work(task: ShardTask, settings: AnnotationSettings, threads: int) -> ShardResult | tuple[str, str]:
    # An error is handed back as its name and line: not every error survives being pickled.
    try:
        if "one" not in _annotators:
            _annotators["one"] = settings.build()
            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(threads)
        return annotate_shard(task, _annotators["one"])
    except DetoxError as error:
        return type(error).__name__, str(error)


@dataclass(frozen=True, kw_only=True)
class AnnotationSettings:
    """Which annotator, by names, so that other processes can build the same.

    Attributes:
        scorer: of sentences, as `detox.scorers.load_scorer` takes it; or
        wordlist: file of terms (`WordListScorer.from_file`), or "lexicons" for those of the data directory; or neither:
            only the spans in the data (`Columns.spans`).
        kind: of the spans that are found, and of those in the data that name none.
        toxic_above, middle_above, missing, language: of a scorer; see `SentenceAnnotator`.

    Raises:
        InputError: a scorer and a word list; a kind that is blank.
    """

    scorer: str | Mapping[str, Any] | None = None
    wordlist: str | None = None
    kind: str = TOXIC
    toxic_above: float = TOXIC_ABOVE
    middle_above: float = MIDDLE_ABOVE
    missing: Missing = "middle"
    language: str = "en"

    def __post_init__(self) -> None:
        require_kind(self.kind)
        if self.scorer is not None and self.wordlist is not None:
            raise InputError("a scorer and a word list; expected one of them (annotate a second time for the other)")

    def build(self) -> Annotator:
        """The annotator.

        Raises:
            MissingData: a file is not there.
            UnknownName: no such scorer or choice.
            InputError: thresholds out of order.
        """
        if self.wordlist is not None:
            of_file = self.wordlist != LEXICONS
            words = WordListScorer.from_file(self.wordlist) if of_file else WordListScorer.from_lexicons()
            return WordAnnotator(words, self.kind)
        if self.scorer is None:
            return SpanAnnotator()
        return SentenceAnnotator(
            load_scorer(self.scorer),
            kind=self.kind,
            toxic_above=self.toxic_above,
            middle_above=self.middle_above,
            missing=self.missing,
            language=self.language,
        )


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """Rows that become one shard."""

    path: Path
    rows: Sequence[Row]
    columns: Columns
    kind: str
    format: Format
    invalid: Invalid


@dataclass(frozen=True)
class ShardResult:
    """A shard that has been written: its entry, the rows read for it (skipped ones too), `AnnotationCounts` as JSON."""

    shard: ShardEntry
    rows: int
    counts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> ShardResult:
        """From what `to_dict` gave."""
        return cls(ShardEntry(**value["shard"]), value["rows"], value["counts"])


class Workers:
    """Processes that are handed shards and asked for the results."""

    def __init__(self, pool: ProcessPoolExecutor, settings: AnnotationSettings, threads: int) -> None:
        self._pool, self._settings, self._threads = pool, settings, threads

    def submit(self, task: ShardTask) -> Future[Any]:
        """Hand over one shard."""
        with _without_ctrl_c():
            return self._pool.submit(_work, task, self._settings, self._threads)

    @staticmethod
    def result(future: Future[Any]) -> ShardResult:
        """Wait for one shard.

        Raises:
            DetoxError: what was wrong there, as the same error.
            InputError: a process was ended from outside.
        """
        try:
            done = future.result()
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process ended before its shard was written (out of memory?); what was finished is kept, the "
                "same command with fewer workers or smaller shards goes on from there"
            ) from error
        if isinstance(done, ShardResult):
            return done
        name, line = done
        raise (InputError if name == UnknownName.__name__ else getattr(detox.errors, name))(line)
