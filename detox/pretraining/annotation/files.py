"""Annotation from files to files: larger than memory, in parallel, resumable.

A folder of shards. Each shard appears whole, then its record; after a kill the same call goes on behind the last record,
and the finished folder is that of an uninterrupted run, byte for byte. `annotation.json` appears last: who annotated, with
which thresholds, what was read, what was found.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from detox.errors import DataError, DetoxError, InputError, require_known
from detox.pretraining.annotation.annotators import Annotator, Invalid, SentenceAnnotator
from detox.pretraining.annotation.columns import Columns
from detox.pretraining.annotation.counts import AnnotationCounts
from detox.pretraining.annotation.input import CARD, Row, Rows, open_input
from detox.pretraining.annotation.shards import AnnotatedDocuments, Format, read_annotated
from detox.pretraining.annotation.state import (
    STATE,
    earlier,
    is_finished,
    is_record,
    record_name,
    remove,
    shard_name,
    write_record,
)
from detox.pretraining.annotation.work import (
    AnnotationSettings,
    ShardResult,
    ShardTask,
    annotate_shard,
    workers,
)

_CHARACTERS = 32_000_000  # in a shard at most (one document may be longer): bounds what a process holds


def annotate_files(
    inputs: str | Path | Sequence[str | Path],
    output_dir: str | Path,
    settings: AnnotationSettings,
    *,
    columns: Columns | None = None,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    limit: int | None = None,
    format: Format = "arrow",
    documents_per_shard: int = 1000,
    num_workers: int = 1,
    invalid: Invalid = "error",
    progress: bool = False,
) -> AnnotatedDocuments:
    """Annotate files, a folder or a data set of the hub into a folder of shards; go on where an earlier call was stopped.

    Args:
        inputs: .jsonl, .jsonl.gz, .parquet or .arrow files in order; a folder that this function, `Dataset.save_to_disk`
            or anything that `datasets.load_dataset` reads has written; or the id of a data set on the hub (streamed).
        output_dir: new or empty, or that of an earlier call with the same input and settings.
        settings: which annotator.
        columns: where text, id and spans are in a row.
        config: of a data set of the hub, of a folder of files.
        split: of these.
        revision: of a data set of the hub; the commit that it names now is what counts.
        limit: only the first so many rows.
        format: "arrow" (mapped into memory when read), "parquet" or "jsonl".
        documents_per_shard: how much is lost at most, and by each worker, when a run is killed.
        num_workers: processes, each with an annotator of its own. The result is the same for any number. With more than
            one, a script that calls this needs `if __name__ == "__main__":`.
        invalid: "error", or "skip" and count: lines that are not JSON in UTF-8, rows without text, texts with a NUL
            character or a lone surrogate, spans that are not in the text.
        progress: show it on stderr.

    Returns:
        The documents, as `read_annotated` gives them.

    Raises:
        MissingData: the input is not there.
        DataError: an invalid row, where those are not skipped; begins with `file:line`.
        InputError: nothing to annotate; the folder was begun with other settings or another input (says which).
        OutputError: the folder holds something else, or cannot be written; nothing half-written is left.
        KeyboardInterrupt: says how to go on.
    """
    _require_choices(format, invalid, documents_per_shard, num_workers, limit)
    columns = columns or Columns()
    folder = Path(output_dir)
    annotator = settings.build()
    if settings.scorer is None and settings.wordlist is None and columns.spans is None:
        raise InputError("nothing to annotate with; expected a scorer, a word list, or a column that holds spans")
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    rows = open_input(given, columns=columns, config=config, split=split, revision=revision)
    identity = {
        "annotator": {**annotator.identity(), "kind": settings.kind},
        "input": {**rows.identity(), "columns": asdict(columns), "limit": limit},
        "format": format,
        "documents_per_shard": documents_per_shard,
    }
    if is_finished(folder, identity):
        remove(folder, is_record)
        return read_annotated(folder)
    done = earlier(folder, identity)
    tasks = _tasks(rows, folder, done, limit, documents_per_shard, columns, settings.kind, format, invalid)
    try:
        with closing(_results(tasks, annotator, settings, num_workers, rows, progress)) as results:
            if not done:
                write_record(folder / STATE, identity)
            for result in results:
                write_record(folder / record_name(result.shard.name), result.to_dict())
                done.append(result)
    except (KeyboardInterrupt, DetoxError) as stop:
        # Without one finished shard nothing is left; with some, what a worker may have had half-written is not.
        remove(folder, lambda name: name.startswith(".") if done else True)
        if isinstance(stop, DetoxError):
            raise
        raise KeyboardInterrupt(
            f"stopped after {sum(one.shard.documents for one in done)} documents in {len(done)} shards; "
            "the same command goes on from there"
        ) from None
    if not any(one.shard.documents for one in done):
        remove(folder, lambda name: True)
        skipped = sum(one.counts["invalid"] for one in done)
        raise InputError(f"the input holds no document ({skipped} rows were skipped); expected at least one")
    write_record(folder / CARD, _card(identity, annotator, done))
    remove(folder, is_record)
    return read_annotated(folder)


def _require_choices(form: str, invalid: str, documents_per_shard: int, num_workers: int, limit: int | None) -> None:
    for what, name, known in (("format", form, Format), ("invalid", invalid, Invalid)):
        require_known(what, name, get_args(known))
    counts = {"documents_per_shard": documents_per_shard, "num_workers": num_workers, "limit": limit}
    for what, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{what} is {count}; expected at least 1")


def _tasks(
    rows: Rows,
    folder: Path,
    done: Sequence[ShardResult],
    limit: int | None,
    documents_per_shard: int,
    columns: Columns,
    kind: str,
    form: Format,
    invalid: Invalid,
) -> Iterator[ShardTask]:
    start = sum(one.rows for one in done)
    left = islice(rows.rows(start), None if limit is None else max(0, limit - start))
    for number, part in enumerate(_parts(left, columns, documents_per_shard), start=len(done)):
        yield ShardTask(
            path=folder / shard_name(number, form),
            rows=part,
            columns=columns,
            kind=kind,
            format=form,
            invalid=invalid,
        )


def _parts(rows: Iterator[Row], columns: Columns, most: int) -> Iterator[list[Row]]:
    part: list[Row] = []
    characters = 0
    for row in rows:
        value = row.value
        if not isinstance(value, DataError):
            # What no column names stays behind: it would travel to the workers for nothing.
            value = columns.needed(value)
            characters += len(text) if isinstance(text := value.get(columns.text), str) else 0
        part.append(row._replace(value=value))
        if len(part) == most or characters >= _CHARACTERS:
            yield part
            part, characters = [], 0
    if part:
        yield part


def _results(
    tasks: Iterator[ShardTask],
    annotator: Annotator,
    settings: AnnotationSettings,
    num_workers: int,
    rows: Rows,
    progress: bool,
) -> Generator[ShardResult]:
    """Results in the order of the tasks, with a few tasks under way at a time."""
    waiting: deque[tuple[int, Any]] = deque()  # how far the input was read for it; the shard under way, or its task
    context = workers(settings, num_workers) if num_workers > 1 else nullcontext()
    with context as others, closing(_bar(rows, progress)) as bar:
        while True:
            for task in islice(tasks, num_workers + 1 - len(waiting) if others else 1):
                if not bar.n:
                    bar.initial = bar.n = task.rows[0].position  # an earlier call came so far
                waiting.append((task.rows[-1].position, others.submit(task) if others else task))
            if not waiting:
                return
            position, shard = waiting.popleft()
            yield others.result(shard) if others else annotate_shard(shard, annotator)
            bar.update(position - bar.n)


def _bar(rows: Rows, progress: bool) -> Any:
    # A log is written to now and then, a terminal often, and neither where all is done at once.
    pause = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(
        total=rows.total,
        unit=rows.unit,
        unit_scale=True,
        desc="annotating",
        file=sys.stderr,
        delay=pause,
        mininterval=pause,
        disable=not progress,
    )


def _card(identity: dict[str, Any], annotator: Annotator, done: Sequence[ShardResult]) -> dict[str, Any]:
    from importlib.metadata import version

    counts = AnnotationCounts()
    for one in done:
        counts += AnnotationCounts.from_dict(one.counts)
    scorer = annotator.scorer.card.to_dict() if isinstance(annotator, SentenceAnnotator) else None
    return {
        **identity,
        "counts": counts.to_dict(),
        "scorer_card": scorer,
        "shards": [asdict(one.shard) for one in done],
        "versions": {package: version(package) for package in ("detox-lm", "sentencex", "pyarrow")},
    }
