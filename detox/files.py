"""Files that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from detox.errors import DetoxError, InputError, OutputError


@contextmanager
def disk_errors(doing: str, *, advice: str) -> Iterator[None]:
    """Turn what the system says of a disk into one line.

    Args:
        doing: what the block does: "write FILE".
        advice: what to do where it cannot.

    Raises:
        OutputError: the disk is full, or the place cannot be written to.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, DetoxError):
            raise
        raise OutputError(f"cannot {doing}: {error.strerror or error}; {advice}") from error


def require_writable(directory: str | os.PathLike[str]) -> Path:
    """Create `directory` if needed and prove that a file can be written there, before any work is done.

    Raises:
        OutputError: with the path and the reason, in one line.
    """
    path = Path(directory)
    with disk_errors(f"write to {path}", advice="give a directory you may write to"):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".writable-"):
            pass
    return path


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 `text` to `path` atomically."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write `data` to `path` atomically."""
    target = Path(path)
    require_writable(target.parent)
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    return target


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write `value` as readable JSON, atomically. NaN is refused: missing is null, never a number."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def require_replaceable(directory: str | os.PathLike[str], marker: str) -> None:
    """Prove that nothing but an earlier folder of the same kind (or nothing at all) would be replaced by writing `directory`.

    Args:
        directory: where a folder is to appear.
        marker: name of a file that every folder of this kind holds.

    Raises:
        OutputError: there is a file, or a folder that holds something else; names what.
    """
    target = Path(directory)
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file; expected a folder to write, give another path")
    held = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if held and marker not in held:
        raise OutputError(
            f"{target} holds {held[0]}{f' and {len(held) - 1} more' if held[1:] else ''} but no {marker}, and writing would "
            "delete it; give a new or empty folder"
        )


@contextmanager
def atomic_directory(path: str | os.PathLike[str], *, marker: str | None = None) -> Iterator[Path]:
    """Yield an empty folder beside `path`; when the block ends well it takes the place of `path`, otherwise it vanishes.

    Args:
        path: the folder that appears whole or not at all; one that is there is replaced.
        marker: name of a file without which a folder that is there is refused, before the block begins. None for callers
            that have looked for themselves.

    Raises:
        OutputError: the place cannot be written, or holds something else.
    """
    target = Path(path)
    if marker is not None:
        require_replaceable(target, marker)
    require_writable(target.parent)
    beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    os.chmod(beside, 0o755)
    try:
        yield beside
        if marker is not None:  # again: a long block may have seen others write
            require_replaceable(target, marker)
        _replace_folder(beside, target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _replace_folder(new: Path, target: Path) -> None:
    """`new` in the place of `target`; if that fails, `target` is as it was."""
    if not target.exists():
        os.replace(new, target)
        return
    retired = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
    os.replace(target, retired / "was")
    try:
        os.replace(new, target)
    except BaseException:
        os.replace(retired / "was", target)
        retired.rmdir()
        raise
    shutil.rmtree(retired, ignore_errors=True)


@contextmanager
def exclusive(lock: IO[Any], message: str) -> Iterator[None]:
    """Hold an open file against every other process for the length of a block; the system lets go of it when a process dies.

    Raises:
        InputError: another process holds it; says `message`.
    """
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(message) from error
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)
