"""The dense format: a trace as it is replayed, a folder of plain arrays that are mapped rather than read.

    NAME.dense/manifest.json          format, version, name, digest, requests, blocks, source, columns: {name: dtype}
    NAME.dense/COLUMN.npy             one array a column, as long as the trace
    NAME.dense/address.npy            int64[blocks] raw id of each block
    NAME.dense/block_bytes.npy        int64[blocks] size of each block at its first appearance
    NAME.dense/calls.FIELD.npy        the calls of an LLM trace; their `block_tokens` is in the manifest, as are the
                                      names of the fields that not every trace has (`fields`)

Blocks are numbered in order of first appearance. Whole numbers are stored in the narrowest of the types that hold
them (`_NARROW`), and widened a chunk at a time when read; NEVER is the largest number of the type, whichever it is.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sim.errors import InputError
from sim.trace import Calls, Trace
from sim.trace_columns import COLUMNS, NEVER

FORMAT = "memhier dense trace"
VERSION = 1
SUFFIX = ".dense"
_MANIFEST = "manifest.json"
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADING_BYTES = 128
_INT32_MAX = np.iinfo(np.int32).max
_NARROW = {
    "size_bytes": (np.uint32, np.int64),
    "next_access": (np.int32, np.int64),
    "previous_access": (np.int32, np.int64),
    "frequency_hint": (np.uint32, np.int64),
}
_CALL_TYPES = {"arrival_ns": "<f8", "input_tokens": "<i8", "output_tokens": "<i8", "first_row": "<i8", "tenant": "<i4"}
_OPTIONAL_CALL_TYPES = {"program": "<i4", "priority": "<i4"}  # the manifest lists those that there are


class Mapped(NamedTuple):
    """A column as a mapped array in its stored type. Kernels index by some of them, so these are checked when read.

    Who reads chunk after chunk gives the pages of the chunk before back, so that what is resident stays small; they
    are read again where somebody still looks at them.
    """

    name: str
    array: np.ndarray
    memory: mmap.mmap
    path: Path
    lowest: int | None = None  # of what may stand there, where that is checked
    highest: int | None = None

    def read(self, start: int, stop: int) -> np.ndarray:
        values = self.array[start:stop]
        self._give_back(2 * start - stop, start)
        if self.lowest is not None and values.size and not self.lowest <= values.min() <= values.max() <= self.highest:
            row = start + int(np.argmax((values < self.lowest) | (values > self.highest)))
            expected = f"from {self.lowest} to {self.highest}"
            raise InputError(
                "corrupt array:", file=self.path, field=f"row {row}", value=self.array[row].item(), expected=expected
            )
        return widened(self.name, values)

    def _give_back(self, start: int, stop: int) -> None:
        """The pages that lie within these rows, where the system has a call for that."""
        size = self.array.dtype.itemsize
        first, last = ((_HEADING_BYTES + max(0, row) * size) // mmap.PAGESIZE for row in (start, stop))
        if last > first and hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)


def widened(name: str, values: np.ndarray) -> np.ndarray:
    """Stored values of a column in its type of `COLUMNS`; the same array where it has that type already."""
    wide = values.astype(COLUMNS[name], copy=False)
    if name == "next_access" and values.dtype != wide.dtype:
        wide[wide == np.iinfo(values.dtype).max] = NEVER
    return wide


def is_dense(path: Path) -> bool:
    """Whether there is a folder here that says it is a dense trace."""
    return (path / _MANIFEST).is_file()


# -------------------------------------------------------------------------------------------------------------- reading


def open_dense(folder: Path, check: bool = False) -> Trace:
    """The trace in a folder, mapped; nothing is read but the manifest and the arrays' headings.

    check: whether to read all of it and compare its digest with the manifest's. Raises InputError where the files are
    not what the manifest says.
    """
    manifest = _manifest(folder)
    rows, blocks = manifest["requests"], manifest["blocks"]
    columns = {}
    for name, dtype in manifest["columns"].items():
        if name not in COLUMNS:
            raise _refused(folder, "unknown column", field="columns", value=name, candidates=COLUMNS)
        known = [np.dtype(one).str for one in _NARROW.get(name, (COLUMNS[name],))]
        if dtype not in known:
            raise _refused(folder, "bad type", field=f"columns.{name}", value=dtype, expected=" or ".join(known))
        bounds = {"block": (0, blocks - 1), "previous_access": (-1, rows - 1)}.get(name, (None, None))
        columns[name] = Mapped(name, *_mapped(folder, name, dtype, rows), folder / f"{name}.npy", *bounds)
    address, block_bytes = (_mapped(folder, name, "<i8", blocks)[0] for name in ("address", "block_bytes"))
    if block_bytes.min() < 1:
        raise InputError("corrupt array:", file=folder / "block_bytes.npy", expected="sizes of 1 byte or more")
    calls, digest = _calls(folder, manifest), manifest["digest"]
    trace = Trace(manifest["name"], columns, rows, address, block_bytes, calls, digest=digest)
    if check and trace.computed_digest() != trace.digest:
        raise _refused(folder, "the arrays are not those that were written:", value=trace.computed_digest())
    return trace


_FIELDS: dict[str, tuple[type, Callable[[Any], bool]]] = {
    "name": (str, bool),
    "digest": (str, lambda text: len(text) == 64),
    "requests": (int, lambda number: number > 0),
    "blocks": (int, lambda number: 0 < number <= _INT32_MAX),
    "columns": (dict, lambda columns: "block" in columns and all(isinstance(t, str) for t in columns.values())),
}


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the manifest: {error.strerror}", file=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the manifest is not JSON: {' '.join(str(error).split())[:120]}", file=path) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError("not the manifest of a dense trace", file=path, expected=f"format: {FORMAT}")
    if manifest.get("version") != VERSION:
        expected = f"{VERSION}; convert the trace again"
        raise _refused(folder, "unknown", field="version", value=manifest.get("version"), expected=expected)
    for name, (kind, good) in _FIELDS.items():
        value = manifest.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) or not good(value):
            raise _refused(folder, "bad value", field=name, value=value)
    return manifest


def _mapped(folder: Path, name: str, dtype: str, length: int) -> tuple[np.ndarray, mmap.mmap]:
    """An array of the folder, mapped, and its mapping.

    The mapping is copy-on-write and nobody writes: kernels compiled for writable arrays take it as it is, and the file
    could not change even if somebody did.
    """
    path, heading = folder / f"{name}.npy", _heading(np.dtype(dtype), length)
    try:
        with open(path, "rb") as file:
            found, size = file.read(len(heading)), os.fstat(file.fileno()).st_size
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if size else None
        if found[: len(_MAGIC)] != _MAGIC:
            raise InputError("not an array", file=path, expected="a file of NumPy's format 1.0")
        if found != heading:
            raise InputError("does not match its manifest", file=path, expected=f"{dtype}[{length}]")
        whole = len(heading) + length * np.dtype(dtype).itemsize
        if size != whole:
            raise InputError("does not match its manifest: bytes", file=path, value=size, expected=str(whole))
    except OSError as error:
        raise InputError(f"cannot read an array: {error.strerror or error}", file=path) from error
    return np.frombuffer(memory, dtype, length, len(heading)), memory


def _heading(dtype: np.dtype, length: int) -> bytes:
    """What a .npy file begins with: NumPy's format 1.0, in one spelling, so that it can be compared byte by byte."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({length},), }}"
    room = _HEADING_BYTES - len(_MAGIC) - 2
    return _MAGIC + room.to_bytes(2, "little") + text.ljust(room - 1).encode() + b"\n"


def _calls(folder: Path, manifest: dict[str, Any]) -> Calls | None:
    described = manifest.get("calls")
    if described is None:
        return None
    try:
        count, block_tokens = int(described["count"]), int(described["block_tokens"])
    except (KeyError, TypeError, ValueError) as error:
        expected = "count and block_tokens"
        raise _refused(folder, "bad value", field="calls", value=described, expected=expected) from error
    optional = described.get("fields", [])
    if not isinstance(optional, list) or not {*map(str, optional)} <= _OPTIONAL_CALL_TYPES.keys():
        expected = f"a list of some of {', '.join(_OPTIONAL_CALL_TYPES)}"
        raise _refused(folder, "bad value", field="calls.fields", value=optional, expected=expected)
    types = {**_CALL_TYPES, **{name: _OPTIONAL_CALL_TYPES[name] for name in optional}}
    arrays = {
        name: _mapped(folder, f"calls.{name}", dtype, count + (name == "first_row"))[0] for name, dtype in types.items()
    }
    return Calls(**arrays, block_tokens=block_tokens)


def _refused(folder: Path, problem: str, **facts: Any) -> InputError:
    return InputError(problem, file=folder / _MANIFEST, **facts)


# -------------------------------------------------------------------------------------------------------------- writing


def write_dense(trace: Trace, folder: Path, source: str) -> None:
    """Write a trace, with its previous and next accesses, a chunk at a time. An older dense trace there is replaced.

    source: what the manifest names as where it is from. Raises InputError where the folder cannot be written.
    """
    if folder.exists() and not is_dense(folder):
        raise InputError("there is something else already:", file=folder, expected="no file, or a dense trace")
    whole = trace.with_next_access().with_previous_access()
    with _appearing(folder) as unfinished:
        types = {name: _write_column(unfinished, whole, name) for name in sorted(whole.columns)}
        for name in ("address", "block_bytes"):
            _write_array(unfinished / f"{name}.npy", iter([getattr(trace, name)]), np.dtype("<i8"), trace.n_blocks)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "name": trace.name,
            "digest": trace.digest,
            "requests": trace.n_requests,
            "blocks": trace.n_blocks,
            "source": source,
            "columns": types,
            "calls": _write_calls(unfinished, trace.calls),
        }
        (unfinished / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _write_column(folder: Path, trace: Trace, name: str) -> str:
    """Write one column; the type it has there."""
    dtype = _stored_type(trace, name)
    parts = (_narrowed(name, part, dtype) for (part,) in trace.chunks(name))
    _write_array(folder / f"{name}.npy", parts, dtype, trace.n_requests)
    return dtype.str


def _stored_type(trace: Trace, name: str) -> np.dtype:
    """The narrowest type that holds all values of a column."""
    narrow, *wider = (np.dtype(one) for one in _NARROW.get(name, (COLUMNS[name],)))
    if not wider:
        return narrow
    if name in ("next_access", "previous_access"):
        return narrow if trace.n_requests < _INT32_MAX else wider[0]
    largest = max(int(part.max()) for (part,) in trace.chunks(name))
    return narrow if largest <= np.iinfo(narrow).max else wider[0]


def _narrowed(name: str, part: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if name == "next_access":
        part = np.minimum(part, np.iinfo(dtype).max)
    return part.astype(dtype, copy=False)


def _write_calls(folder: Path, calls: Calls | None) -> dict[str, Any] | None:
    if calls is None:
        return None
    optional = {name: dtype for name, dtype in _OPTIONAL_CALL_TYPES.items() if getattr(calls, name) is not None}
    for name, dtype in {**_CALL_TYPES, **optional}.items():
        array = np.ascontiguousarray(getattr(calls, name), dtype)
        _write_array(folder / f"calls.{name}.npy", iter([array]), np.dtype(dtype), array.size)
    fields = {"fields": list(optional)} if optional else {}
    return {"count": len(calls.arrival_ns), "block_tokens": int(calls.block_tokens), **fields}


def _write_array(path: Path, parts: Iterator[np.ndarray], dtype: np.dtype, length: int) -> None:
    """Write a .npy file of parts in order, none of which stays in memory."""
    with open(path, "wb") as file:
        file.write(_heading(dtype, length))
        for part in parts:
            part.astype(dtype, copy=False).tofile(file)


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes its name, in the place of an older one, once all is written."""
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    older = folder.with_name(f".{folder.name}.{os.getpid()}.older")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        if folder.exists():
            folder.replace(older)
        unfinished.replace(folder)
    except OSError as error:
        why = error.strerror or f"{error}, as where the disk is full"  # numpy tells no more
        raise InputError(f"cannot write the trace: {why}", file=folder) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(older, ignore_errors=True)
