"""A trace: columns of block accesses, read in chunks.

A trace may be longer than memory. Its ids are numbered densely once, as they stream past; the columns stay in memory
while they are small and are otherwise written to temporary flat files and read back a chunk at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from sim.errors import InputError
from sim.trace_columns import (
    CHUNK_ROWS,
    COLUMNS,
    DERIVED,
    NEVER,
    SPILL_BYTES,
    InFile,
    InMemory,
    disk_errors,
    spill_folder,
)


class Calls(NamedTuple):
    """The calls of an LLM trace; the rows of call i are first_row[i]:first_row[i + 1], and may be none.

    What a trace does not know of its calls is None there, and is no part of its digest.
    """

    arrival_ns: np.ndarray  # float64[n]
    input_tokens: np.ndarray  # int64[n]
    output_tokens: np.ndarray  # int64[n]
    first_row: np.ndarray  # int64[n + 1]
    tenant: np.ndarray  # int32[n]
    block_tokens: int  # tokens in a block; 0 where a row stands for a whole prompt of any length
    program: np.ndarray | None = None  # int32[n] the session or agent that makes the call, 0 or more
    priority: np.ndarray | None = None  # int32[n] larger is more important


class Column(Protocol):
    """Where one column is kept: `read(start, stop)` gives those rows in the column's type of `COLUMNS`."""

    def read(self, start: int, stop: int) -> np.ndarray: ...


class Trace:
    """Columns of block accesses. Make one by `load_trace`, `generate`, `build_trace` or `Trace.from_columns`.

    name; n_requests: rows, one for each block access; n_blocks: distinct ids; address: int64[n_blocks] the raw id of
    each dense block (of a textual id, its 64-bit hash); block_bytes: int64[n_blocks] size at first appearance, 1 where
    the trace has no sizes; calls: the calls of an LLM trace, or None.
    """

    def __init__(
        self,
        name: str,
        columns: Mapping[str, Column],
        n_requests: int,
        address: np.ndarray,
        block_bytes: np.ndarray,
        calls: Calls | None = None,
        spill_bytes: int = SPILL_BYTES,
        digest: str | None = None,
    ):
        self.name = name
        self.n_requests = n_requests
        self.address = address
        self.block_bytes = block_bytes
        self.calls = calls
        self._columns = dict(columns)
        self._spill_bytes = spill_bytes
        self._digest = digest

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
        cost=None,
        ttl_ns=None,
        frequency_hint=None,
        prediction=None,
        priority=None,
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
            "cost": cost,
            "ttl_ns": ttl_ns,
            "frequency_hint": frequency_hint,
            "prediction": prediction,
            "priority": priority,
        }
        from sim.trace_building import build_trace

        chunk = {key: np.asarray(value) for key, value in given.items() if value is not None}
        if calls is not None:
            chunk["calls"] = calls
        return build_trace(name, iter([chunk]))

    @property
    def n_blocks(self) -> int:
        return self.address.size

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(self._columns)

    @property
    def provides(self) -> frozenset[str]:
        """What a plugin may need or use of it: its columns, the address and, of LLM calls, a block's position."""
        return self.columns | {"address"} | ({"position"} if self.calls is not None else set())

    @property
    def digest(self) -> str:
        """SHA-256 over the contents, the same however the trace was chunked or stored.

        What follows from `block` is left out. A column that was not kept cannot count.
        """
        if self._digest is None:
            self._digest = self.computed_digest()
        return self._digest

    def computed_digest(self) -> str:
        """The digest, from the contents as they are now, whatever a manifest says."""
        total = hashlib.sha256()
        for name in sorted(self.columns - DERIVED):
            total.update(f"{name}:{self._column_digest(name)};".encode())
        for name, array in (("address", self.address), ("block_bytes", self.block_bytes)):
            total.update(f"{name}:{hashlib.sha256(array).hexdigest()};".encode())
        for name, value in (self.calls._asdict() if self.calls else {}).items():
            if value is not None:
                total.update(f"calls.{name}:{hashlib.sha256(np.ascontiguousarray(value)).hexdigest()};".encode())
        return total.hexdigest()

    def _column_digest(self, name: str) -> str:
        digest = hashlib.sha256()
        for (part,) in self.chunks(name):
            digest.update(part)
        return digest.hexdigest()

    def chunks(self, *columns: str, rows: int = CHUNK_ROWS) -> Iterator[tuple[np.ndarray, ...]]:
        """Aligned slices of the named columns, in order, `rows` rows at a time (the last may be shorter)."""
        stored = [self.stored(name) for name in columns]
        for start in range(0, self.n_requests, rows):
            stop = min(start + rows, self.n_requests)
            yield tuple(column.read(start, stop) for column in stored)

    def column(self, name: str) -> np.ndarray:
        """One whole column in memory. Raises InputError where the trace has none of this name."""
        return self.stored(name).read(0, self.n_requests)

    def stored(self, name: str) -> Column:
        """Where a column is kept. Raises InputError where the trace has none of this name."""
        if name not in self._columns:
            raise InputError(f"trace {self.name!r} has no column", value=name, candidates=self.columns)
        return self._columns[name]

    def with_next_access(self) -> Trace:
        """This trace with `next_access`, found by one backward pass over chunks in bounded memory."""
        return self._with_derived("next_access", self._next_access_parts)

    def with_previous_access(self) -> Trace:
        """This trace with `previous_access`, found by one pass over chunks in bounded memory."""
        return self._with_derived("previous_access", self._previous_access_parts)

    def only(self, columns: Iterable[str]) -> Trace:
        """This trace with no other columns than these. Only what follows from others may be left out."""
        kept = {name: self._columns[name] for name in columns}
        if not self.columns - DERIVED <= kept.keys():
            raise ValueError(
                f"columns of the trace itself are left out: {sorted(self.columns - DERIVED - kept.keys())}"
            )
        rest = (self.n_requests, self.address, self.block_bytes, self.calls, self._spill_bytes, self._digest)
        return Trace(self.name, kept, *rest)

    def close(self) -> None:
        """Remove temporary files, if there are any; spilled columns cannot be read afterwards."""
        for column in self._columns.values():
            if isinstance(column, InFile):
                column.folder.cleanup()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(sorted(self.columns))
        return f"Trace({self.name!r}, {self.n_requests} requests, {self.n_blocks} blocks, columns: {names})"

    def _with_derived(self, name: str, parts: Callable[[], Iterable[tuple[int, np.ndarray]]]) -> Trace:
        """This trace with one more column, given as (first row, values) of each chunk in any order."""
        if name in self._columns:
            return self
        added = self._into_memory(parts()) if self._has_room(8 * self.n_requests) else self._into_file(name, parts())
        columns = {**self._columns, name: added}
        rest = (self.n_requests, self.address, self.block_bytes, self.calls, self._spill_bytes, self._digest)
        return Trace(self.name, columns, *rest)

    def _has_room(self, more_bytes: int) -> bool:
        columns = self._columns.values()
        held_bytes = sum(column.array.nbytes for column in columns if isinstance(column, InMemory))
        return not any(isinstance(c, InFile) for c in columns) and held_bytes + more_bytes <= self._spill_bytes

    def _into_memory(self, parts: Iterable[tuple[int, np.ndarray]]) -> InMemory:
        whole = np.empty(self.n_requests, np.int64)
        for start, part in parts:
            whole[start : start + part.size] = part
        return InMemory(whole)

    def _into_file(self, name: str, parts: Iterable[tuple[int, np.ndarray]]) -> InFile:
        folder = spill_folder()
        path = Path(folder.name) / name
        with disk_errors(path), open(path, "wb") as file:
            for start, part in parts:
                file.seek(start * part.itemsize)
                part.tofile(file)
        return InFile(path, COLUMNS[name], folder)

    def _next_access_parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, next accesses) of each chunk, the last chunk first."""
        from sim.kernels.idindex import next_access_backwards

        stored = self.stored("block")
        upcoming = np.full(self.n_blocks, NEVER, np.int64)
        for start in reversed(range(0, self.n_requests, CHUNK_ROWS)):
            blocks = stored.read(start, min(start + CHUNK_ROWS, self.n_requests))
            part = np.empty(blocks.size, np.int64)
            next_access_backwards(blocks, start, upcoming, part)
            yield start, part

    def _previous_access_parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, previous accesses) of each chunk, in order."""
        from sim.kernels.idindex import previous_access_forwards

        latest = np.full(self.n_blocks, -1, np.int64)
        start = 0
        for (blocks,) in self.chunks("block"):
            part = np.empty(blocks.size, np.int64)
            previous_access_forwards(blocks, start, latest, part)
            yield start, part
            start += part.size


def text_ids(texts) -> np.ndarray:
    """int64[n] ids of strings: a fixed 64-bit hash, the same in every run, chunk and process.

    Two of n distinct strings share a hash with a chance of about n^2 / 4e19: one in a million for five million.
    """
    from pandas.util import hash_array

    return hash_array(np.asarray(texts, dtype=object)).view(np.int64)
