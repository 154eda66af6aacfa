"""The columns that a trace may have, and where they are kept: in memory, or in temporary flat files when large.

Files are read back by plain reads, not by mapping, so that resident memory stays bounded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sim.errors import InputError

NEVER = np.iinfo(np.int64).max  # next_access of a block that is not accessed again
CHUNK_ROWS = 1 << 20
SPILL_BYTES = 512 << 20  # columns beyond this go to temporary files
READ, WRITE = 0, 1

COLUMNS = {
    "block": np.dtype(np.int32),  # dense id, in order of first appearance
    "arrival_ns": np.dtype(np.float64),
    "size_bytes": np.dtype(np.int64),
    "op": np.dtype(np.uint8),  # READ or WRITE
    "tenant": np.dtype(np.int32),
    "next_access": np.dtype(np.int64),  # row of the next access to the same block, or NEVER
    "previous_access": np.dtype(np.int64),  # row of the access before to the same block, or -1
    "think_ns": np.dtype(np.float64),  # closed loop: from the previous completion to this request
    "cost": np.dtype(np.float64),  # of fetching or recomputing the block, in the trace's own unit
    "ttl_ns": np.dtype(np.float64),  # time from this request on after which the object expires; infinite for never
    "frequency_hint": np.dtype(np.int64),  # how often somebody expects the block to be accessed
    "prediction": np.dtype(np.float64),  # what somebody predicts: the row of the next access, or a bit; NaN for nothing
    "priority": np.dtype(np.int32),  # larger is more important
}
DERIVED = frozenset({"next_access", "previous_access"})  # follow from `block`


class InMemory:
    """A column as one array."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.array[start:stop]


class InFile:
    """A column as a flat binary file in `folder`, which goes when nobody refers to it any more."""

    def __init__(self, path: Path, dtype: np.dtype, folder: tempfile.TemporaryDirectory):
        self.path, self.dtype, self.folder = path, dtype, folder

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.fromfile(self.path, self.dtype, stop - start, offset=start * self.dtype.itemsize)


class ColumnWriter:
    """Collects chunks of columns, in memory up to `spill_bytes` and in files from then on."""

    def __init__(self, spill_bytes: int):
        self.spill_bytes = spill_bytes
        self.pieces: dict[str, list[np.ndarray]] = {}
        self.held_bytes = 0
        self.folder: tempfile.TemporaryDirectory | None = None

    def append(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            self.pieces.setdefault(name, []).append(array)
            self.held_bytes += array.nbytes
        if self.folder is not None or self.held_bytes > self.spill_bytes:
            self._spill()

    def columns(self) -> dict[str, InMemory | InFile]:
        """What was appended, as columns; the writer is empty afterwards."""
        if self.folder is None:
            return {name: InMemory(joined(self.pieces[name])) for name in self.pieces}
        return {name: InFile(self._path(name), COLUMNS[name], self.folder) for name in self.pieces}

    def _spill(self) -> None:
        if self.folder is None:
            self.folder = spill_folder()
        for name, pieces in self.pieces.items():
            with disk_errors(self._path(name)), open(self._path(name), "ab") as file:
                for piece in pieces:
                    piece.tofile(file)
            pieces.clear()
        self.held_bytes = 0

    def _path(self, name: str) -> Path:
        return Path(self.folder.name) / name


def spill_folder() -> tempfile.TemporaryDirectory:
    with disk_errors(Path(tempfile.gettempdir())):
        return tempfile.TemporaryDirectory(prefix="memhier-trace-")


class disk_errors:
    """Turns a failing write of spilled columns into one InputError that says what to do about it."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type, error, _traceback) -> None:
        if isinstance(error, OSError):
            raise InputError(
                f"cannot write columns too large for memory: {error.strerror or error}; set TMPDIR to a roomier folder",
                file=self.path,
            ) from error


def joined(pieces: list[np.ndarray]) -> np.ndarray:
    """The pieces one after another; each is let go as soon as it is copied, so that little is held twice."""
    if len(pieces) == 1:
        return pieces.pop()
    whole = np.empty(sum(piece.size for piece in pieces), pieces[0].dtype)
    end = whole.size
    while pieces:
        piece = pieces.pop()
        whole[end - piece.size : end] = piece
        end -= piece.size
    return whole
