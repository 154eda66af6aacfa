"""Twitter's cache traces: CSV without a header, a request a line.

The columns are time (s), key, bytes of the key, bytes of the value, client, operation and time to live (s).
A row is an access to the object of a key. Its size is key and value together, at least 1. A time to live of 0 means
that none was set. `get` and `gets` read, everything else writes; what a `delete` is can be chosen. The format is that
of Yang, Yue and Rashmi, "A large scale analysis of hundreds of in-memory cache clusters at Twitter" (OSDI 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from sim.trace_building import Chunk, Clock, Report
from sim.trace_columns import READ, WRITE
from sim.trace_options import Option, Reader
from workloads.readers._common import is_text
from workloads.readers._table import hashed, one_of, text_blocks, whole_numbers

COLUMNS = ("timestamp", "key", "key_size", "value_size", "client_id", "operation", "ttl")
_DELETE = 2
OPERATIONS = {
    **dict.fromkeys(("get", "gets"), READ),
    **dict.fromkeys(("set", "add", "replace", "cas", "append", "prepend", "incr", "decr"), WRITE),
    "delete": _DELETE,
}
_LARGEST = 1 << 40
_S = 1e9


def sniff(head: bytes, name: str) -> bool:
    if not is_text(head):
        return False
    cells = head.split(b"\n", 1)[0].decode("utf-8", "replace").strip().split(",")
    return len(cells) == len(COLUMNS) and cells[5].strip().lower() in OPERATIONS


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row a line, without the lines that delete where those are skipped."""
    clock = Clock(_S, report)
    wanted = dict(zip(COLUMNS, COLUMNS, strict=True))
    for block in text_blocks(stream, report, wanted, ",", list(COLUMNS), line=1):
        op = one_of(block, "operation", OPERATIONS, report, f"one of {', '.join(OPERATIONS)}")
        sizes = sum(whole_numbers(block, name, report, 0, _LARGEST) for name in ("key_size", "value_size"))
        ttl_s = whole_numbers(block, "ttl", report, 0, _LARGEST).astype(np.float64)
        chunk = {
            "id": hashed(block, "key"),
            "arrival_ns": clock(whole_numbers(block, "timestamp", report), block.where),
            "size_bytes": np.maximum(sizes, 1),
            "op": np.minimum(op, WRITE),
            "tenant": whole_numbers(block, "client_id", report, 0, (1 << 31) - 1),
            "ttl_ns": np.where(ttl_s == 0, np.inf, ttl_s * _S),
        }
        kept = np.flatnonzero(op != _DELETE) if options["deletes"] == "skip" else np.arange(op.size)
        yield {
            **{name: column[kept] for name, column in chunk.items()},
            "where": lambda row, kept=kept, block=block: block.where(int(kept[row])),
        }


READER = Reader(
    "twitter",
    "Twitter's cache clusters (CSV: time in s, key, key and value bytes, client, operation, time to live in s)",
    ("csv", "sort"),
    sniff,
    read,
    {"deletes": Option("skip", "what a delete is: no row, or a write", choices=("skip", "write"))},
)
