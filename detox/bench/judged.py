"""Replies that people have judged, as a command line names them."""

from __future__ import annotations

from collections.abc import Iterable

from detox.bench.sources import half_of, read_records
from detox.data.judged import read_xstest_answers
from detox.data.records import JudgedReply
from detox.errors import InputError


def read_judged(file: str, *, half: int | None = None) -> list[JudgedReply]:
    """The replies of a file.

    Args:
        file: a CSV of XSTest's model_completions, or JSONL with the fields of `JudgedReply`.
        half: 0 or 1 keeps the requests of one half, by a hash of the id, as `half` of a grid's data does.

    Raises:
        MissingData, DataError: see `read_xstest_answers` and `read_records`.
        InputError: nothing is left.
    """
    everything: Iterable[JudgedReply] = (
        read_xstest_answers(file) if file.endswith(".csv") else read_records(JudgedReply, {"file": file}, where=file)
    )
    found = [one for one in everything if half is None or half_of(one.id) == half]
    if not found:
        raise InputError(f"{file}: no reply{'' if half is None else f' in half {half}'}; expected some")
    return found
