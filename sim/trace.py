"""Traces: columns of block accesses, made from a file, from a generator or from arrays, and read in chunks.

A trace may be longer than memory. Its ids are numbered densely once, as they stream past; the columns stay in memory
while they are small and are otherwise written to temporary flat files and read back a chunk at a time (by plain reads,
not by mapping, so that resident memory stays bounded).

Formats are readers (`workloads/readers`), synthetic traces are generators (`workloads/generators`); both plug in
through `sim.registry`. A reader yields chunks: dicts of equally long arrays under the names of `COLUMNS`, with `id`
(int64, raw) in the place of `block`; beside them it may put `calls` (a `Calls` whose rows count from the chunk's own
first) and `where` (a function from a row of the chunk to the keywords by which an `InputError` says where it stood).
"""

from __future__ import annotations

import difflib
import functools
import gzip
import hashlib
import io
import lzma
import math
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from sim import registry
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
    "think_ns": np.dtype(np.float64),  # closed loop: from the previous completion to this request
}

Chunk = dict[str, Any]
Where = Callable[[int], dict[str, Any]]
Report = Callable[..., InputError]  # InputError with the file filled in: `raise report("bad size", line=3, value=0)`


class Calls(NamedTuple):
    """The calls of an LLM trace; the rows of call i are first_row[i]:first_row[i + 1], and may be none."""

    arrival_ns: np.ndarray  # float64[n]
    input_tokens: np.ndarray  # int64[n]
    output_tokens: np.ndarray  # int64[n]
    first_row: np.ndarray  # int64[n + 1]
    tenant: np.ndarray  # int32[n]
    block_tokens: int  # tokens in a block; 0 where a row stands for a whole prompt of any length


# -------------------------------------------------------------------------------------------------------------- columns


class _InMemory:
    """A column as one array."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.array[start:stop]


class _InFile:
    """A column as a flat binary file in `folder`, which goes when nobody refers to it any more."""

    def __init__(self, path: Path, dtype: np.dtype, folder: tempfile.TemporaryDirectory):
        self.path, self.dtype, self.folder = path, dtype, folder

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.fromfile(self.path, self.dtype, stop - start, offset=start * self.dtype.itemsize)


class _Writer:
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

    def columns(self) -> dict[str, _InMemory | _InFile]:
        """What was appended, as columns; the writer is empty afterwards."""
        if self.folder is None:
            return {name: _InMemory(_joined(self.pieces[name])) for name in self.pieces}
        return {name: _InFile(self._path(name), COLUMNS[name], self.folder) for name in self.pieces}

    def _spill(self) -> None:
        if self.folder is None:
            self.folder = _spill_folder()
        for name, pieces in self.pieces.items():
            with _disk_errors(self._path(name)), open(self._path(name), "ab") as file:
                for piece in pieces:
                    piece.tofile(file)
            pieces.clear()
        self.held_bytes = 0

    def _path(self, name: str) -> Path:
        return Path(self.folder.name) / name


def _spill_folder() -> tempfile.TemporaryDirectory:
    with _disk_errors(Path(tempfile.gettempdir())):
        return tempfile.TemporaryDirectory(prefix="memhier-trace-")


class _disk_errors:
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


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
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


# ---------------------------------------------------------------------------------------------------------------- trace


class Trace:
    """Columns of block accesses. Make one by `load_trace`, `generate`, `build_trace` or `Trace.from_columns`.

    name; n_requests: rows, one for each block access; n_blocks: distinct ids; address: int64[n_blocks] the raw id of
    each dense block (of a textual id, its 64-bit hash); block_bytes: int64[n_blocks] size at first appearance, 1 where
    the trace has no sizes; calls: the calls of an LLM trace, or None.
    """

    def __init__(
        self,
        name: str,
        columns: Mapping[str, _InMemory | _InFile],
        n_requests: int,
        address: np.ndarray,
        block_bytes: np.ndarray,
        calls: Calls | None = None,
        spill_bytes: int = SPILL_BYTES,
    ):
        self.name = name
        self.n_requests = n_requests
        self.address = address
        self.block_bytes = block_bytes
        self.calls = calls
        self._columns = dict(columns)
        self._spill_bytes = spill_bytes

    @classmethod
    def from_columns(
        cls,
        name: str,
        *,
        ids,
        arrival_ns=None,
        size_bytes=None,
        op=None,
        tenant=None,
        think_ns=None,
        next_access=None,
        calls: Calls | None = None,
    ) -> Trace:
        """A trace from arrays of equal length; `ids` are whole numbers or strings. Raises InputError for bad rows."""
        ids = np.asarray(ids)
        given = {
            "id": text_ids(ids) if ids.dtype.kind in "OUS" else ids,
            "arrival_ns": arrival_ns,
            "size_bytes": size_bytes,
            "op": op,
            "tenant": tenant,
            "think_ns": think_ns,
            "next_access": next_access,
        }
        chunk: Chunk = {key: np.asarray(value) for key, value in given.items() if value is not None}
        if calls is not None:
            chunk["calls"] = calls
        return build_trace(name, iter([chunk]))

    @property
    def n_blocks(self) -> int:
        return self.address.size

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(self._columns)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the contents, the same however the trace was chunked or stored.

        `next_access` follows from `block` and is left out. A column that was not kept cannot count.
        """
        total = hashlib.sha256()
        for name in sorted(self.columns - {"next_access"}):
            total.update(f"{name}:{self._column_digest(name)};".encode())
        for name, array in (("address", self.address), ("block_bytes", self.block_bytes)):
            total.update(f"{name}:{hashlib.sha256(array).hexdigest()};".encode())
        for name, value in (self.calls._asdict() if self.calls else {}).items():
            total.update(f"calls.{name}:{hashlib.sha256(np.ascontiguousarray(value)).hexdigest()};".encode())
        return total.hexdigest()

    def _column_digest(self, name: str) -> str:
        digest = hashlib.sha256()
        for (part,) in self.chunks(name):
            digest.update(part)
        return digest.hexdigest()

    def chunks(self, *columns: str, rows: int = CHUNK_ROWS) -> Iterator[tuple[np.ndarray, ...]]:
        """Aligned slices of the named columns, in order, `rows` rows at a time (the last may be shorter)."""
        stored = [self._stored(name) for name in columns]
        for start in range(0, self.n_requests, rows):
            stop = min(start + rows, self.n_requests)
            yield tuple(column.read(start, stop) for column in stored)

    def column(self, name: str) -> np.ndarray:
        """One whole column in memory. Raises InputError where the trace has none of this name."""
        return self._stored(name).read(0, self.n_requests)

    def with_next_access(self) -> Trace:
        """This trace with `next_access`, found by one backward pass over chunks in bounded memory."""
        if "next_access" in self._columns:
            return self
        added = self._next_access_in_memory() if self._has_room(8 * self.n_requests) else self._next_access_in_file()
        columns = {**self._columns, "next_access": added}
        return Trace(self.name, columns, self.n_requests, self.address, self.block_bytes, self.calls, self._spill_bytes)

    def close(self) -> None:
        """Remove temporary files, if there are any; spilled columns cannot be read afterwards."""
        for column in self._columns.values():
            if isinstance(column, _InFile):
                column.folder.cleanup()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(sorted(self.columns))
        return f"Trace({self.name!r}, {self.n_requests} requests, {self.n_blocks} blocks, columns: {names})"

    def _stored(self, name: str) -> _InMemory | _InFile:
        if name not in self._columns:
            raise InputError(f"trace {self.name!r} has no column", value=name, candidates=self.columns)
        return self._columns[name]

    def _has_room(self, more_bytes: int) -> bool:
        held = [column.array.nbytes for column in self._columns.values() if isinstance(column, _InMemory)]
        spilled = len(held) < len(self._columns)
        return not spilled and sum(held) + more_bytes <= self._spill_bytes

    def _next_access_in_memory(self) -> _InMemory:
        whole = np.empty(self.n_requests, np.int64)
        for start, part in self._next_access_parts():
            whole[start : start + part.size] = part
        return _InMemory(whole)

    def _next_access_in_file(self) -> _InFile:
        folder = _spill_folder()
        path = Path(folder.name) / "next_access"
        with _disk_errors(path), open(path, "wb") as file:
            for start, part in self._next_access_parts():
                file.seek(start * part.itemsize)
                part.tofile(file)
        return _InFile(path, COLUMNS["next_access"], folder)

    def _next_access_parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, next accesses) of each chunk, the last chunk first."""
        from sim.kernels.idindex import next_access_backwards

        stored = self._stored("block")
        upcoming = np.full(self.n_blocks, NEVER, np.int64)
        for start in reversed(range(0, self.n_requests, CHUNK_ROWS)):
            blocks = stored.read(start, min(start + CHUNK_ROWS, self.n_requests))
            part = np.empty(blocks.size, np.int64)
            next_access_backwards(blocks, start, upcoming, part)
            yield start, part


def text_ids(texts) -> np.ndarray:
    """int64[n] ids of strings: a fixed 64-bit hash, the same in every run, chunk and process.

    Two of n distinct strings share a hash with a chance of about n^2 / 4e19: one in a million for five million.
    """
    from pandas.util import hash_array

    return hash_array(np.asarray(texts, dtype=object)).view(np.int64)


# ------------------------------------------------------------------------------------------------------------- building


def build_trace(
    name: str,
    chunks: Iterable[Chunk],
    *,
    needs: Iterable[str] | None = None,
    spill_bytes: int = SPILL_BYTES,
    file: object = None,
) -> Trace:
    """A trace from a stream of chunks (see the top of this module), seen once and checked on the way.

    needs: the columns to keep beside `block` (all that the stream has, by default); file: what errors name. Raises
    InputError for an empty stream, times that go back, sizes below 1, and next accesses that do not agree with the ids.
    """
    from sim.kernels.idindex import IdIndex

    report = functools.partial(InputError, file=file)
    needs = _known_columns(needs)
    index, writer, checks = IdIndex(), _Writer(spill_bytes), _Checks(report)
    first_sizes: list[np.ndarray] = []
    calls = _CallList(report)
    for chunk in chunks:
        ids = _as_ids(chunk["id"], report)
        columns = {key: np.asarray(chunk[key]) for key in COLUMNS if key in chunk and key != "block"}
        if needs is not None and "next_access" not in needs:
            columns.pop("next_access", None)
        columns = checks.rows(ids, columns, chunk.get("where") or _row_number(checks.n_rows))
        if "calls" in chunk:
            calls.append(chunk["calls"], checks.n_rows - ids.size, ids.size)
        blocks, first_rows = index.densify(ids)
        sizes = columns.get("size_bytes")
        first_sizes.append(np.ones(first_rows.size, np.int64) if sizes is None else sizes[first_rows])
        kept = {key: column for key, column in columns.items() if needs is None or key in needs}
        writer.append({"block": blocks, **kept})
    checks.finish()
    address = index.address.copy()
    del index, chunk, ids, columns, blocks, sizes, kept  # its table and the last chunk, before columns are put together
    return Trace(name, writer.columns(), checks.n_rows, address, _joined(first_sizes), calls.joined(), spill_bytes)


def _known_columns(needs: Iterable[str] | None) -> frozenset[str] | None:
    if needs is None:
        return None
    needs = frozenset(needs)
    for name in needs - COLUMNS.keys():
        raise InputError("unknown trace column", value=name, candidates=COLUMNS)
    return needs


def _as_ids(ids, report: Report) -> np.ndarray:
    """int64[n]; unsigned ids keep their bits."""
    ids = np.asarray(ids)
    if ids.shape == (0,):  # of whatever type
        return np.empty(0, np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise report("ids are not whole numbers in one dimension", field="id", value=str(ids.dtype))
    return ids.view(np.int64) if ids.dtype == np.uint64 else ids.astype(np.int64, copy=False)


def _row_number(first: int) -> Where:
    return lambda row: {"field": f"row {first + row}"}


class _Checks:
    """What must hold of every row of every trace, whatever read it. Vectorised; keeps what the next chunk needs."""

    def __init__(self, report: Report):
        self.report = report
        self.n_rows = 0
        self.last_arrival_ns = 0.0
        self.furthest_next = -1

    def rows(self, ids: np.ndarray, columns: dict[str, np.ndarray], where: Where) -> dict[str, np.ndarray]:
        """The columns in their types. Raises InputError at the first bad row."""
        for name, column in columns.items():
            if column.shape != ids.shape:
                raise self.report(f"column {name} has {column.shape} values for {ids.size} ids")
            if column.dtype.kind not in "iufb":
                raise self.report(f"column {name} does not hold numbers", value=str(column.dtype))
            if column.dtype.kind == "f" and COLUMNS[name].kind != "f":
                raise self.report(f"column {name} does not hold whole numbers", value=str(column.dtype))
        typed = {}
        for name, column in columns.items():
            self._check(name, column, where)
            typed[name] = np.ascontiguousarray(column, COLUMNS[name])
        if "arrival_ns" in typed:
            self._check_order(typed["arrival_ns"], where)
        if "next_access" in typed:
            self._check_next(ids, typed["next_access"], where)
        self.n_rows += ids.size
        return typed

    def finish(self) -> None:
        """Raises InputError where the whole stream held nothing, or an access points beyond its end."""
        if self.n_rows == 0:
            raise self.report("the trace is empty", expected="at least one block access")
        if self.furthest_next >= self.n_rows:
            raise self.report(
                "wrong next access: it points beyond the end of the trace",
                value=self.furthest_next,
                expected=_RECOMPUTE,
            )

    def _check(self, name: str, column: np.ndarray, where: Where) -> None:
        rule = _ROW_RULES.get(name)
        if rule is None or column.size == 0:
            return
        lowest, highest, expected = rule
        # NaN fails both comparisons, so the test is for what is good
        if column.min() >= lowest and column.max() <= highest:
            return
        row = int(np.argmin((column >= lowest) & (column <= highest)))
        raise self._at(row, where, f"bad {name}", column[row].item(), expected)

    def _check_order(self, arrival_ns: np.ndarray, where: Where) -> None:
        if arrival_ns.size == 0:
            return
        before = np.empty_like(arrival_ns)
        before[0], before[1:] = self.last_arrival_ns, arrival_ns[:-1]
        back = arrival_ns < before
        if back.any():
            row = int(np.argmax(back))
            earlier = f"at least {before[row].item()}, the arrival before it"
            raise self._at(row, where, "not sorted by time: arrival_ns", arrival_ns[row].item(), earlier)
        self.last_arrival_ns = float(arrival_ns[-1])

    def _check_next(self, ids: np.ndarray, next_access: np.ndarray, where: Where) -> None:
        """Next accesses are later rows, and name the same id where they fall within this chunk."""
        rows = np.arange(self.n_rows, self.n_rows + ids.size)
        inside = next_access < self.n_rows + ids.size
        wrong = next_access <= rows
        targets = np.flatnonzero(inside & ~wrong)
        wrong[targets] = ids[next_access[targets] - self.n_rows] != ids[targets]
        if wrong.any():
            row = int(np.argmax(wrong))
            raise self._at(row, where, "wrong next access: row", next_access[row].item(), _RECOMPUTE)
        known = next_access[next_access != NEVER]
        self.furthest_next = max(self.furthest_next, int(known.max()) if known.size else -1)

    def _at(self, row: int, where: Where, problem: str, value, expected: str) -> InputError:
        return self.report(problem, value=value, expected=expected, **where(row))


_RECOMPUTE = "the row of the same id's next access (the option next_access: recompute ignores the stored ones)"
_LARGEST_SIZE = 1 << 50  # 1 PiB; keeps sums of sizes within int64
_LONGEST_NS = 1e20  # three thousand years
_ROW_RULES = {
    "arrival_ns": (0.0, _LONGEST_NS, "a finite time, not negative"),
    "think_ns": (0.0, _LONGEST_NS, "a finite time, not negative"),
    "size_bytes": (1, _LARGEST_SIZE, "a whole number of bytes from 1 to 2^50"),
    "op": (READ, WRITE, "0 (read) or 1 (write)"),
    "tenant": (0, np.iinfo(np.int32).max, "a whole number from 0 to 2^31 - 1"),
}


class _CallList:
    """Calls of successive chunks, put together."""

    def __init__(self, report: Report):
        self.report = report
        self.parts: list[Calls] = []

    def append(self, calls: Calls, first_row: int, rows: int) -> None:
        bounds = np.asarray(calls.first_row, np.int64)
        covers = bounds.size == len(calls.arrival_ns) + 1 and bounds[0] == 0 and bounds[-1] == rows
        if not covers or (np.diff(bounds) < 0).any():
            raise self.report("calls do not cover the rows", field="calls.first_row")
        for name in ("input_tokens", "output_tokens"):
            tokens = np.asarray(getattr(calls, name))
            if tokens.size and tokens.min() < 0:
                raise self.report("negative tokens", field=f"calls.{name}", value=int(tokens.min()))
        self.parts.append(calls._replace(first_row=bounds + first_row))

    def joined(self) -> Calls | None:
        if not self.parts:
            return None
        starts = [part.first_row[:-1] for part in self.parts] + [self.parts[-1].first_row[-1:]]
        return Calls(
            arrival_ns=self._column("arrival_ns", np.float64),
            input_tokens=self._column("input_tokens", np.int64),
            output_tokens=self._column("output_tokens", np.int64),
            first_row=np.concatenate(starts),
            tenant=self._column("tenant", np.int32),
            block_tokens=int(self.parts[0].block_tokens),
        )

    def _column(self, name: str, dtype: type) -> np.ndarray:
        return np.concatenate([np.asarray(getattr(part, name), dtype) for part in self.parts])


class Clock:
    """Turns a file's own times into arrival_ns counted from its first request.

    Whole numbers are subtracted before they become floating point, so that times since 1970 lose nothing.
    """

    def __init__(self, unit_ns: float, report: Report):
        self.unit_ns, self.report = unit_ns, report
        self.first: Any = None
        self.last: Any = None

    def __call__(self, times: np.ndarray, where: Where) -> np.ndarray:
        """float64[n] of `times` (whole or floating). Raises InputError where one is absurd or goes back."""
        if times.size == 0:
            return np.empty(0)
        times = times.astype(np.float64 if times.dtype.kind == "f" else np.int64, copy=False)
        sane = (times > -_FURTHEST_TIME) & (times < _FURTHEST_TIME)
        if not sane.all():
            row = int(np.argmin(sane))
            raise self.report("bad time", value=times[row].item(), expected="a finite number", **where(row))
        if self.first is None:
            self.first = self.last = times[0]
        before = np.concatenate([[self.last], times[:-1]])
        back = times < before
        if back.any():
            row = int(np.argmax(back))
            raise self.report(
                "not sorted by time: time",
                value=times[row].item(),
                expected=f"at least {before[row].item()}, the time before it",
                **where(row),
            )
        self.last = times[-1]
        return (times - self.first).astype(np.float64) * self.unit_ns


_FURTHEST_TIME = 1 << 62  # differences of times within it fit in int64


# ------------------------------------------------------------------------------------ options of readers and generators


@dataclass(frozen=True)
class Option:
    """One thing that can be set: its default, what it means, and what it may be.

    kind: int, float, str, bool, dict, list or `BYTES` (a number of bytes, or text such as "4 KiB"); taken from the
    default where that says it. choices: the only values. at_least, at_most: inclusive bounds of a number.
    """

    default: Any
    meaning: str
    kind: Any = None
    choices: tuple = ()
    at_least: float | None = None
    at_most: float | None = None


BYTES = "bytes"


def check_options(schema: Mapping[str, Option], given: Mapping[str, Any] | None, owner: str) -> dict[str, Any]:
    """Every option of `schema`, as given or by default. Raises InputError for an unknown one or a bad value.

    owner: whose options they are, for errors ("reader csv").
    """
    if not isinstance(given or {}, Mapping):
        raise InputError(f"bad options of {owner}", value=given, expected="names and values")
    for name in given or {}:
        if name not in schema:
            raise InputError(f"unknown option of {owner}", value=name, candidates=schema)
    chosen = {name: (given or {}).get(name, option.default) for name, option in schema.items()}
    return {name: _checked(schema[name], value, f"{owner}: {name}") for name, value in chosen.items()}


def _checked(option: Option, value: Any, field: str) -> Any:
    if value is None and option.default is None:
        return None
    kind = option.kind or type(option.default)
    value = _converted(value, kind, field)
    if option.choices and value not in option.choices:
        raise InputError("unknown value", field=field, value=value, candidates=option.choices)
    if option.at_least is not None and value < option.at_least:
        raise InputError("too small", field=field, value=value, expected=f"at least {option.at_least}")
    if option.at_most is not None and value > option.at_most:
        raise InputError("too large", field=field, value=value, expected=f"at most {option.at_most}")
    return value


def _converted(value: Any, kind: Any, field: str) -> Any:
    if kind == BYTES and isinstance(value, str):
        from sim.units import parse_bytes

        return parse_bytes(value)
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if kind in (int, BYTES) and number and math.isfinite(value) and int(value) == value:
        return int(value)
    if kind is float and number and math.isfinite(value):
        return float(value)
    if kind is dict and isinstance(value, Mapping):
        return dict(value)
    if kind is list and isinstance(value, list | tuple):
        return list(value)
    if kind in (str, bool) and isinstance(value, kind):
        return value
    raise InputError("bad value", field=field, value=value, expected=_KIND_NAMES[kind])


_KIND_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "names and values",
    list: "a list",
    BYTES: 'a whole number of bytes, or text such as "4 KiB"',
}


# -------------------------------------------------------------------------------------------------------------- readers


@dataclass(frozen=True)
class Reader:
    """One trace format.

    extensions: how its files' names end, without the dot and compression (".csv.zst" is "csv"); sniff(head, name):
    whether a file that begins with these bytes looks like it; read(stream, options, report): its chunks, from the
    decompressed stream; options: what can be set.
    """

    name: str
    description: str
    extensions: tuple[str, ...]
    sniff: Callable[[bytes, str], bool]
    read: Callable[[BinaryIO, dict[str, Any], Report], Iterator[Chunk]]
    options: Mapping[str, Option] = field(default_factory=dict)


READER_OPTIONS = {
    "max_bytes": Option(64 << 30, "the most that a file may hold once decompressed", kind=BYTES, at_least=1),
}
_HEAD_BYTES = 1 << 16


def load_trace(
    path_or_name: str | os.PathLike,
    reader: str | None = None,
    options: Mapping[str, Any] | None = None,
    needs: Iterable[str] | None = None,
    spill_bytes: int = SPILL_BYTES,
) -> Trace:
    """The trace in a file, or the one that the catalogue has under a name.

    reader: its format, where neither the catalogue nor the file itself says it; options: of the reader; needs: the
    columns to keep beside `block` (all, by default; those of one run spare memory); spill_bytes: columns beyond this
    go to temporary files. Nothing is downloaded. Raises InputError for whatever is wrong with the file.
    """
    path, name, catalogued_reader, catalogued_options = _locate(path_or_name)
    chosen = _reader(path, reader or catalogued_reader)
    set_here = {**(catalogued_options if reader in (None, catalogued_reader) else {}), **(options or {})}
    full = check_options({**READER_OPTIONS, **chosen.options}, set_here, f"reader {chosen.name}")
    report = functools.partial(InputError, file=path)
    with open_stream(path, full["max_bytes"]) as stream:
        chunks = chosen.read(stream, full, report)
        return build_trace(name, chunks, needs=needs, spill_bytes=spill_bytes, file=path)


def _locate(path_or_name: str | os.PathLike) -> tuple[Path, str, str | None, dict[str, Any]]:
    """(path, name of the trace, reader, options) of a path or of a name in the catalogue."""
    from sim import catalog

    text = os.fspath(path_or_name)
    path = Path(text)
    if "\0" not in text and path.is_file():
        return path, _stem(path.name), None, {}
    entries = catalog.entries()
    if text not in entries:
        near = difflib.get_close_matches(text, entries, n=3, cutoff=0.3)
        near = f" (nearest: {', '.join(near)})" if near else ""
        raise InputError("no such trace", value=text, expected=f"a file, or a name from the catalogue{near}")
    entry, found = entries[text], catalog.find(text)
    if found is None:
        raise InputError(f"trace {text!r} is not on this machine", expected=f"`run_sim.py traces get {text}` first")
    if entry.reader is None:
        raise InputError(f"trace {text!r} has no reader", file=found, expected=entry.note or "a reader by name")
    return found, text, entry.reader, dict(entry.options)


def _stem(file_name: str) -> str:
    return file_name.split(".")[0] or file_name


def _extension(file_name: str) -> str:
    """The last extension that is not a compression's, in lower case, or the empty string."""
    parts = file_name.lower().split(".")[1:]
    while parts and parts[-1] in _DECOMPRESSORS:
        parts.pop()
    return parts[-1] if parts else ""


def _reader(path: Path, name: str | None) -> Reader:
    """The reader called `name`, or the one whose format the file looks like."""
    if name is not None:
        return registry.load(registry.READER, name)
    readers = {name: registry.load(registry.READER, name) for name in registry.names(registry.READER)}
    with open_stream(path, _HEAD_BYTES, truncate=True) as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise InputError("the trace is empty", file=path, expected="at least one block access")
    extension = _extension(path.name)
    claiming = [r for r in readers.values() if extension in {known.lower() for known in r.extensions}]
    fitting = [r for r in claiming or readers.values() if r.sniff(head, path.name)]
    if not fitting and extension in readers:
        return readers[extension]  # whose own errors say what is wrong with a file named as its kind
    if not fitting and len(claiming) == 1:
        return claiming[0]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(r.name for r in fitting or claiming or readers.values())
    problem = "more than one reader fits" if fitting else "no reader knows this format"
    raise InputError(problem, file=path, expected=f"one of these by name (reader=...): {names}")


# ---------------------------------------------------------------------------------------------------------- compression


def _open_zstd(file: BinaryIO) -> BinaryIO:
    # of the bindings at hand, Arrow's is the one that notices a truncated frame
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")


_DECOMPRESSORS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "gz": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    "xz": lambda file: lzma.LZMAFile(file),  # noqa: SIM115 - closed by the stream
    "zst": _open_zstd,
}
_MAGIC = {"gz": b"\x1f\x8b", "xz": b"\xfd7zXZ\x00", "zst": b"\x28\xb5\x2f\xfd"}


def open_stream(path: Path, max_bytes: int, truncate: bool = False) -> io.BufferedReader:
    """The decompressed bytes of `path`; .gz, .zst and .xz by the end of its name.

    Reading raises InputError for a corrupt or truncated file, and beyond `max_bytes` (where `truncate`, it ends there).
    """
    kind = path.name.lower().rsplit(".", 1)[-1]
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed by the stream
    except OSError as error:
        raise InputError(f"cannot read the trace: {error.strerror}", file=path) from error
    if kind not in _DECOMPRESSORS:
        return io.BufferedReader(_Stream(path, file, [file], "", max_bytes, truncate), 1 << 20)
    magic = file.read(len(_MAGIC[kind]))
    file.seek(0)
    if magic != _MAGIC[kind]:
        file.close()
        problem = "the file is empty" if not magic else f"not a .{kind} file, whatever its name says"
        raise InputError(problem, file=path)
    stream = _DECOMPRESSORS[kind](file)
    return io.BufferedReader(_Stream(path, stream, [stream, file], kind, max_bytes, truncate), 1 << 20)


class _Stream(io.RawIOBase):
    """A stream that counts what it gives and whose only failure is InputError."""

    def __init__(self, path: Path, source: BinaryIO, owned: list, kind: str, max_bytes: int, truncate: bool):
        self.path, self.source, self.owned, self.kind = path, source, owned, kind
        self.left, self.max_bytes, self.truncate = max_bytes, max_bytes, truncate

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            data = self.source.read(min(len(buffer), self.left + 1))
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            problem = f"corrupt or truncated .{self.kind} file" if self.kind else "cannot read the trace"
            raise InputError(f"{problem}: {error}", file=self.path) from error
        if len(data) > self.left:
            if not self.truncate:
                raise InputError(
                    f"the file holds more than {self.max_bytes} bytes",
                    file=self.path,
                    expected="the option max_bytes to allow more",
                )
            data = data[: self.left]
        self.left -= len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            for source in self.owned:
                source.close()
        super().close()


# ----------------------------------------------------------------------------------------------------------- generators


@dataclass(frozen=True)
class Generator:
    """One kind of synthetic trace: build(seed, **parameters) makes it, the same bytes for the same arguments."""

    name: str
    description: str
    build: Callable[..., Trace]
    parameters: Mapping[str, Option] = field(default_factory=dict)


def generate(name: str, params: Mapping[str, Any] | None = None, seed: int = 0) -> Trace:
    """The synthetic trace of the generator `name`. Raises InputError for an unknown name, parameter or bad value."""
    generator = registry.load(registry.GENERATOR, name)
    seed = _checked(Option(0, "", at_least=0), seed, "seed")
    return generator.build(seed, **check_options(generator.parameters, params, f"generator {name}"))


# ------------------------------------------------------------------------------------------------------------- capacity

_CAPACITY = 'a share such as "10%", a whole number, or bytes such as "4 GiB"'


def parse_capacity(text: str | int, trace: Trace, ignore_size: bool) -> int:
    """A cache's capacity: in objects with `ignore_size`, else in bytes.

    "10%" is a share of the distinct objects, or of the sum of their sizes, rounded down; a whole number is objects or
    bytes; "4 GiB" is bytes. Raises InputError for anything else, and for what can hold no object of the trace.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | np.integer):
        raise InputError("bad capacity", value=text, expected=_CAPACITY)
    capacity = _capacity(str(text).strip(), trace, ignore_size)
    smallest = 1 if ignore_size else int(trace.block_bytes.min())
    if capacity < smallest:
        unit = "object" if ignore_size else f"{smallest} bytes, the smallest object of trace {trace.name!r}"
        expected = f"at least 1 {unit}" if ignore_size else f"at least {unit}"
        raise InputError("capacity below one object:", value=text, expected=expected)
    return capacity


def _capacity(text: str, trace: Trace, ignore_size: bool) -> int:
    if re.fullmatch(r"\d+", text, re.ASCII):
        return int(text) if len(text) < 19 else _too_much(text)
    if text.endswith("%"):
        return _share(text, trace.n_blocks if ignore_size else int(trace.block_bytes.sum()))
    if re.fullmatch(r"[-+]?[\d.]*", text, re.ASCII):
        raise InputError("bad capacity", value=text, expected=_CAPACITY)
    from sim.units import parse_bytes

    capacity = parse_bytes(text)
    if ignore_size:
        raise InputError("a capacity in bytes cannot ignore object sizes:", value=text, expected="objects or a share")
    return capacity


def _share(text: str, whole: int) -> int:
    number = text[:-1].strip()
    if not re.fullmatch(r"\d{1,18}(\.\d{0,18})?|\.\d{1,18}", number, re.ASCII):
        raise InputError("bad capacity", value=text, expected=_CAPACITY)
    share = Fraction(number.rstrip(".")) / 100
    if share > 1:
        raise InputError("bad capacity", value=text, expected="at most 100%")
    return math.floor(share * whole)


def _too_much(text: str) -> int:
    raise InputError("bad capacity", value=text, expected="less than 10^18")
