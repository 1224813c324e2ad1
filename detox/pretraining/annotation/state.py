"""What an annotation leaves in its folder while it is not finished, and what of it counts when it goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detox.errors import DataError, InputError, OutputError
from detox.files import disk_errors, require_writable, write_json
from detox.pretraining.annotation.input import CARD
from detox.pretraining.annotation.shards import Format
from detox.pretraining.annotation.work import ShardResult

STATE = "annotation-state.json"
"""What an unfinished folder is known by: with which settings it was begun."""

# Final names, and the hidden ones beside them under which files are written.
_OURS = re.compile(
    r"(shard-\d{6}\.(arrow|parquet|jsonl|record\.json)|annotation-state\.json)|\.(shard-\d{6}|annotation)[-.].+"
)


def is_finished(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether `folder` holds the finished annotation of this identity.

    Raises:
        InputError: it holds that of another.
        OutputError: it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; expected a folder to write, give another path")
    if not (folder / CARD).is_file():
        return False
    _require_same(_load(folder / CARD), identity, folder)
    return True


def earlier(folder: Path, identity: dict[str, Any]) -> list[ShardResult]:
    """The shards that an earlier call has finished, in order, without a gap; what else it left is removed.

    Raises:
        InputError: they were made with other settings or from another input.
        OutputError: the folder holds something else, or cannot be written.
    """
    if not (folder / STATE).is_file():
        held = [path.name for path in sorted(folder.iterdir())] if folder.is_dir() else []
        others = [name for name in held if not name.startswith(f".{STATE}.")]
        if others:
            raise OutputError(f"{folder} holds {others[0]} and no {STATE}; give a new or empty folder")
    require_writable(folder)
    remove(folder, lambda name: name.startswith("."))
    done: list[ShardResult] = []
    while (record := folder / record_name(shard_name(len(done), identity["format"]))).is_file():
        result = ShardResult.from_dict(_load(record))
        file = folder / result.shard.name
        if not file.is_file() or file.stat().st_size != result.shard.bytes:
            break
        done.append(result)
    if done:
        _require_same(_load(folder / STATE), identity, folder)
    return done


def _load(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON ({error}); annotate into another folder") from error
    return value if isinstance(value, dict) else {}


def _require_same(was: dict[str, Any], identity: dict[str, Any], folder: Path) -> None:
    now = json.loads(json.dumps(identity))
    for key, value in now.items():
        different = _difference(key, was.get(key), value)
        if different is not None:
            raise InputError(f"{folder} was begun with {different}; give another folder, or what it was begun with")


def _difference(name: str, was: Any, now: Any) -> str | None:
    if isinstance(was, dict) and isinstance(now, dict):
        parts = (_difference(f"{name}.{key}", was.get(key), now.get(key)) for key in dict.fromkeys((*was, *now)))
        return next((part for part in parts if part is not None), None)
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        parts = (_difference(f"{name}.{at}", a, b) for at, (a, b) in enumerate(zip(was, now, strict=True)))
        return next((part for part in parts if part is not None), None)
    return None if was == now else f"{name} {was!r}, now it is {now!r}"


def remove(folder: Path, chosen: Callable[[str], bool]) -> None:
    """Remove files that an annotation wrote, and no others."""
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        if _OURS.fullmatch(path.name) and chosen(path.name):
            path.unlink(missing_ok=True)


def is_record(name: str) -> bool:
    """Whether a file is only there until the annotation is finished."""
    return name == STATE or name.startswith(".") or name.endswith(".record.json")


def write_record(path: Path, value: dict[str, Any]) -> None:
    """Write JSON, whole or not at all.

    Raises:
        OutputError: the disk is full, or the place cannot be written to.
    """
    with disk_errors(f"write {path}", advice="make room, and the same command goes on from there"):
        write_json(path, value)


def shard_name(number: int, form: Format) -> str:
    """File name of a shard."""
    return f"shard-{number:06d}.{form}"


def record_name(shard: str) -> str:
    """File name of what is known of a shard until the card is written."""
    return f"{shard.split('.')[0]}.record.json"
