"""Arrays that grow: in memory, or in .npy files that are read back as memory maps.

Files are written with plain writes and never through a memory map: on a full disk a write raises, a map kills the process.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from detox.errors import OutputError
from detox.files import disk_errors, write_json


def require_space(folder: Path, needed: int) -> None:
    """Prove that `needed` bytes fit on the disk of `folder`, before any is written.

    Raises:
        OutputError: with how many there are.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{folder} has {free / 2**20:,.1f} MiB free and {needed / 2**20:,.1f} MiB are to be written; free some space or "
            "give another store"
        )


def open_array(path: Path) -> NDArray[Any]:
    """A .npy file as a read-only array over a memory map: what is not touched is not read."""
    # A plain array over the map: slices of np.memmap itself are several times as slow.
    return np.asarray(np.load(path, mmap_mode="r"))  # refuses anything but plain arrays


def write(file: BinaryIO, data: Any, path: Path) -> None:
    """Write bytes.

    Raises:
        OutputError: the disk is full, or the like; one line with the folder.
    """
    left = memoryview(data).cast("B") if memoryview(data).nbytes else memoryview(b"")
    with _writing(path):
        while left:  # a write may take only a part, as one to a disk that is nearly full
            left = left[file.write(left) :]


def write_card(path: Path, value: Any) -> None:
    """Write JSON atomically.

    Raises:
        OutputError: the disk is full, or the like.
    """
    with _writing(path):
        write_json(path, value)


def _create(path: Path) -> BinaryIO:
    with _writing(path):
        return path.open("wb", buffering=0)


def _writing(path: Path) -> AbstractContextManager[None]:
    return disk_errors(f"write {path.name} in {path.parent.parent}", advice="free some space or give another store")


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    stream = BytesIO()
    values = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(stream, values)  # type: ignore[no-untyped-call, unused-ignore]
    return stream.getvalue()


class GrowingArray:
    """A one-dimensional array to append to, in memory or in a file.

    Args:
        dtype: of the elements.
        path: the .npy file, or None for memory.
    """

    def __init__(self, dtype: DTypeLike, path: Path | None = None) -> None:
        self.dtype, self.path, self.size = np.dtype(dtype), path, 0
        self._pieces: list[NDArray[Any]] = []
        self._file: BinaryIO | None = None
        if path is not None:
            self._file = _create(path)
            write(self._file, _header((0,), self.dtype), path)

    def append(self, values: NDArray[Any] | Sequence[Any]) -> None:
        """Add values at the end.

        Raises:
            OutputError: the file cannot be written (a full disk).
        """
        piece = np.ascontiguousarray(values, dtype=self.dtype)
        self.size += piece.size
        if self._file is None:
            self._pieces.append(piece)
        else:
            assert self.path is not None
            write(self._file, piece.data, self.path)

    def finish(self) -> NDArray[Any]:
        """The whole array, in memory or as `open_array` gives it; nothing can be appended after this."""
        if self._file is None:
            joined = np.concatenate([np.empty(0, dtype=self.dtype), *self._pieces])
            self._pieces = []
            return joined
        assert self.path is not None
        self._file.seek(0)
        # Headers are padded for the largest size, so that this one takes the first one's place.
        write(self._file, _header((self.size,), self.dtype), self.path)
        self.close()
        return open_array(self.path)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


class RowWriter:
    """A matrix of known shape to fill with rows in any order, in memory or in a file.

    Args:
        shape: (rows, columns).
        dtype: of the elements.
        path: the .npy file, or None for memory.
    """

    def __init__(self, shape: tuple[int, int], dtype: DTypeLike, path: Path | None = None) -> None:
        self.path, self._bytes = path, shape[1] * np.dtype(dtype).itemsize
        self._array = np.empty(shape, dtype=dtype) if path is None else None
        self._file: BinaryIO | None = None
        self._offset = 0
        if path is not None:
            header = _header(shape, np.dtype(dtype))
            self._file, self._offset = _create(path), len(header)
            write(self._file, header, path)
            try:
                with _writing(path):
                    os.truncate(path, self._offset + shape[0] * self._bytes)
            except OutputError:
                self.close()
                raise

    def write(self, places: NDArray[np.int64], rows: NDArray[Any]) -> None:
        """Put rows at these places.

        Raises:
            OutputError: the file cannot be written (a full disk).
        """
        if self._array is not None:
            self._array[places] = rows
            return
        assert self._file is not None
        assert self.path is not None
        edges = np.flatnonzero(np.diff(places, prepend=places[0] - 2, append=places[-1] + 2) != 1)
        for start, end in itertools.pairwise(edges.tolist()):
            self._file.seek(self._offset + int(places[start]) * self._bytes)
            write(self._file, np.ascontiguousarray(rows[start:end]).data, self.path)

    def finish(self) -> NDArray[Any] | None:
        """The matrix, if it is in memory; a file is closed, to be opened where it ends up."""
        self.close()
        return self._array

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
