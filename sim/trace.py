"""A trace: columns of block accesses, read in chunks.

A trace may be longer than memory. Its ids are numbered densely once, as they stream past; the columns stay in memory
while they are small and are otherwise written to temporary flat files and read back a chunk at a time.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sim.errors import InputError
from sim.trace_columns import (
    CHUNK_ROWS,
    COLUMNS,
    NEVER,
    SPILL_BYTES,
    InFile,
    InMemory,
    disk_errors,
    spill_folder,
)


class Calls(NamedTuple):
    """The calls of an LLM trace; the rows of call i are first_row[i]:first_row[i + 1], and may be none."""

    arrival_ns: np.ndarray  # float64[n]
    input_tokens: np.ndarray  # int64[n]
    output_tokens: np.ndarray  # int64[n]
    first_row: np.ndarray  # int64[n + 1]
    tenant: np.ndarray  # int32[n]
    block_tokens: int  # tokens in a block; 0 where a row stands for a whole prompt of any length


class Trace:
    """Columns of block accesses. Make one by `load_trace`, `generate`, `build_trace` or `Trace.from_columns`.

    name; n_requests: rows, one for each block access; n_blocks: distinct ids; address: int64[n_blocks] the raw id of
    each dense block (of a textual id, its 64-bit hash); block_bytes: int64[n_blocks] size at first appearance, 1 where
    the trace has no sizes; calls: the calls of an LLM trace, or None.
    """

    def __init__(
        self,
        name: str,
        columns: Mapping[str, InMemory | InFile],
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
            if isinstance(column, InFile):
                column.folder.cleanup()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(sorted(self.columns))
        return f"Trace({self.name!r}, {self.n_requests} requests, {self.n_blocks} blocks, columns: {names})"

    def _stored(self, name: str) -> InMemory | InFile:
        if name not in self._columns:
            raise InputError(f"trace {self.name!r} has no column", value=name, candidates=self.columns)
        return self._columns[name]

    def _has_room(self, more_bytes: int) -> bool:
        held = [column.array.nbytes for column in self._columns.values() if isinstance(column, InMemory)]
        spilled = len(held) < len(self._columns)
        return not spilled and sum(held) + more_bytes <= self._spill_bytes

    def _next_access_in_memory(self) -> InMemory:
        whole = np.empty(self.n_requests, np.int64)
        for start, part in self._next_access_parts():
            whole[start : start + part.size] = part
        return InMemory(whole)

    def _next_access_in_file(self) -> InFile:
        folder = spill_folder()
        path = Path(folder.name) / "next_access"
        with disk_errors(path), open(path, "wb") as file:
            for start, part in self._next_access_parts():
                file.seek(start * part.itemsize)
                part.tofile(file)
        return InFile(path, COLUMNS["next_access"], folder)

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
