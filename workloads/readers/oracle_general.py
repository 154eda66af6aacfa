"""libCacheSim's binary traces: records of 24 bytes, little-endian: uint32 time (s), uint64 id, uint32 size, int64 next.

The next access is stored as the request number, counted from 1, or -1 (or the largest int64) for never.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from sim.trace_building import Chunk, Clock, Report
from sim.trace_columns import NEVER
from sim.trace_options import Option, Reader

RECORD = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
_CHUNK_RECORDS = 1 << 15  # with the columns made of them they stay in the processor's cache
_S = 1e9


def sniff(head: bytes, name: str) -> bool:
    records = np.frombuffer(head, RECORD, len(head) // RECORD.itemsize)
    if records.size == 0:
        return False
    upcoming = records["next"]
    later = upcoming > np.arange(1, records.size + 1)
    sizes = records["size"].astype(np.int64)
    times = records["time"].astype(np.int64)
    plausible = (sizes > 0).all() and (np.diff(times) >= 0).all() and (later | (upcoming == -1)).all()
    return bool(plausible and b"\0" in head)


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row a record; `next_access` too unless it is to be recomputed."""
    clock = Clock(_S, report)
    first = 0
    for words in _records(stream, report):
        where = _where(first)
        chunk = {
            "id": np.ascontiguousarray(words[:, 1:3]).view("<i8")[:, 0],
            "arrival_ns": clock(words[:, 0], where),
            "size_bytes": words[:, 3],
            "where": where,
        }
        if options["next_access"] == "stored":
            chunk["next_access"] = functools.partial(_rows, words)
        yield chunk
        first += len(words)


def _records(stream: BinaryIO, report: Report) -> Iterator[np.ndarray]:
    """uint32[n, 6] the words of n records; one array, filled again and again."""
    number, size = 0, RECORD.itemsize
    words = np.empty((_CHUNK_RECORDS, size // 4), "<u4")
    while count := stream.readinto(words):
        whole, rest = divmod(count, size)
        number += whole
        if rest:
            raise report(f"truncated: record {number + 1} has {rest} of {size} bytes")
        yield words[:whole]


def _rows(words: np.ndarray) -> np.ndarray:
    """Stored request numbers as rows counted from 0, or NEVER."""
    stored = np.ascontiguousarray(words[:, 4:6]).view("<i8")[:, 0]
    never = (stored == -1) | (stored == NEVER)
    return np.where(never, NEVER, stored - 1)


def _where(first: int):
    return lambda row: {"field": f"record {first + row + 1}"}


READER = Reader(
    "oracle_general",
    "libCacheSim oracleGeneral (binary records of 24 bytes: time in s, id, size, next access)",
    ("oracleGeneral", "bin"),
    sniff,
    read,
    {
        "next_access": Option(
            "stored",
            "stored: use the file's next accesses, after a check; recompute: ignore them",
            choices=("stored", "recompute"),
        ),
    },
)
