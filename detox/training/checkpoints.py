"""Checkpoints in a work directory: the last whole one, and what happens when the disk is full."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from detox.errors import DetoxError, InputError, OutputError
from detox.files import exclusive, require_writable, write_json

_RUN = "run.json"


def open_work_dir(work_dir: Path, identity: dict[str, Any], *, resume: str) -> Path | None:
    """Make the work directory ready for this run and return the checkpoint to go on from, if there is one.

    Raises:
        InputError: it holds checkpoints of another run and `resume` is not "never", or it is somebody else's folder.
    """
    run = work_dir / _RUN
    if work_dir.exists() and any(work_dir.iterdir()):
        if not run.is_file():
            raise InputError(f"{work_dir} exists and is not a work directory of detox; give another work_dir")
        if resume == "never":
            shutil.rmtree(work_dir)
        elif other := differences(_read_run(run), identity):
            raise InputError(
                f"{work_dir} holds checkpoints of another run ({other}); give another work_dir, or resume='never' to "
                "start over"
            )
    require_writable(work_dir)
    write_json(run, identity)
    return last_checkpoint(work_dir)


def discard_unbegun(work_dir: Path, *, keys: Collection[str]) -> None:
    """Forget a run that ended before its first checkpoint, at a wrong setting, say: there is nothing to go on from.

    Only for who holds the directory (`held`): another run may be about to write its first one. Whatever holds anything else, or
    says of its run other things than `keys`, is left alone.
    """
    run = work_dir / _RUN
    try:
        said = json.loads(run.read_text("utf-8"))
    except (OSError, ValueError):
        return
    ours = isinstance(said, dict) and set(keys) <= set(said)
    alone = ours and all(path == run or path.match("checkpoint-*") for path in work_dir.iterdir())
    if alone and last_checkpoint(work_dir) is None:
        run.unlink()


def _read_run(run: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(run.read_text("utf-8"))
    except ValueError as error:
        raise InputError(
            f"{run} is damaged ({error}); give another work_dir, or resume='never' to start over"
        ) from error
    return found


@contextmanager
def held(work_dir: Path) -> Iterator[None]:
    """Keep a second run out of a work directory while this one is at work in it.

    Raises:
        InputError: another one is.
    """
    work_dir.parent.mkdir(parents=True, exist_ok=True)
    path = work_dir.with_name(f".{work_dir.name}.lock")
    message = f"another run is at work in {work_dir}; wait for it, or give another work_dir"
    with path.open("w") as lock, exclusive(lock, message):
        if not path.exists() or os.fstat(lock.fileno()).st_ino != path.stat().st_ino:
            raise InputError(message)  # of the one before, which has just ended and taken its file with it
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def require_space(directory: Path, needed: int) -> None:
    """Refuse a run whose checkpoints and model do not fit on the disk, before any work.

    Raises:
        OutputError: says how much is there and how much is needed.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OutputError(
            f"{directory} has {free / 2**20:,.1f} MiB free and checkpoints and model need {needed / 2**20:,.1f} MiB; free "
            "some, or give another work_dir and output_dir"
        )


@contextmanager
def full_disk_in_one_line(work_dir: Path) -> Iterator[None]:
    """Turn what libraries raise when a disk is full into one line, and remove the half-written checkpoint.

    Raises:
        OutputError: the disk is full, or a limit on files was met.
    """
    try:
        yield
    except DetoxError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _full_disk(error)
        if reason is None:
            raise
        if work_dir.is_dir():
            last_checkpoint(work_dir)
        raise OutputError(
            f"cannot write checkpoint or model beside {work_dir}: {reason}; free some space, and the same call goes on from "
            "the last whole checkpoint"
        ) from error


def _full_disk(error: BaseException) -> str | None:
    """Why a file could not be written, if that is what an error says."""
    full = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    if isinstance(error, OSError) and error.errno in full:
        return error.strerror or "the disk is full"
    # torch and safetensors write files in other languages and give text alone.
    for number in full:
        if os.strerror(number) in str(error):
            return os.strerror(number)
    if "PytorchStreamWriter failed" in str(error) or "file write failed" in str(error):
        return "the disk is full or a file may not grow"
    return None


def last_checkpoint(work_dir: Path) -> Path | None:
    """The newest checkpoint that was written to its end; those that were not are removed.

    A Trainer writes its state file last. A run killed while saving leaves a folder without it, or half of it.
    """
    complete: list[tuple[int, Path]] = []
    for folder in work_dir.glob("checkpoint-*"):
        try:
            complete.append(
                (int(json.loads((folder / "trainer_state.json").read_text("utf-8"))["global_step"]), folder)
            )
        except (OSError, ValueError, KeyError):
            shutil.rmtree(folder)
    return max(complete)[1] if complete else None


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """In words what differs; empty where nothing does."""
    names = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    shown = (
        "base",
        "continued_weights",
        "architecture",
        "data",
        "tokenizer",
        "held_out",
    )  # digests say nothing to a reader
    return ", ".join(
        f"other {name}" if name in shown else f"{name} {found.get(name)!r} and not {expected.get(name)!r}"
        for name in names
    )
