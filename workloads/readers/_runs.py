"""Requests for stretches of a disk or of memory, cut into the blocks that they touch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sim.trace_building import Chunk, Report, Where
from sim.trace_options import BYTES, Option

_MOST_ROWS = 1 << 18  # of a piece; a single request may touch millions of blocks
_MOST_BLOCKS = 1 << 24  # of a request

BLOCK_BYTES = Option(
    0,
    "cut requests into the blocks of this size that they touch, each a row; 0: a request is one object of its own size",
    kind=BYTES,
    at_least=0,
    at_most=1 << 40,
)


def cut(
    start: np.ndarray, length: np.ndarray, block_bytes: int, rows: Chunk, report: Report, where: Where
) -> Iterator[Chunk]:
    """Chunks of the requests for bytes `start` and on: one row each, or one for each block touched.

    start: uint64[n] or int64[n], not negative; length: int64[n] bytes, 1 or more; block_bytes: 0 for one row each with
    the id `start`, else ids are numbers of blocks; rows: the other columns. Raises InputError for a request that ends
    beyond 2^64 or has more than 2^24 blocks.
    """
    start = start.astype(np.uint64, copy=False)
    last = start + (length - 1).astype(np.uint64)
    if (last < start).any():
        row = int(np.argmax(last < start))
        raise report("beyond the last address:", value=int(start[row]), expected="an end below 2^64", **where(row))
    if block_bytes == 0:
        yield {"id": start.view(np.int64), "size_bytes": length, **rows, "where": where}
        return
    size = np.uint64(block_bytes)
    first = start // size
    count = (last // size - first).astype(np.int64) + 1
    yield from spread(first, count, block_bytes, rows, report, where)


def spread(
    first: np.ndarray, count: np.ndarray, block_bytes: int, rows: Chunk, report: Report, where: Where
) -> Iterator[Chunk]:
    """Chunks with a row for each of the blocks first[i] to first[i] + count[i] - 1, of bounded length.

    first: uint64[n] or int64[n]; count: int64[n], 1 or more; rows: the other columns, of length n.
    """
    if count.size and count.max() > _MOST_BLOCKS:
        row = int(np.argmax(count > _MOST_BLOCKS))
        expected = f"at most {_MOST_BLOCKS} blocks"
        raise report("too long a request: blocks", value=int(count[row]), expected=expected, **where(row))
    ends = np.cumsum(count)
    total = int(ends[-1]) if ends.size else 0
    for begin in range(0, total, _MOST_ROWS):
        at = np.arange(begin, min(begin + _MOST_ROWS, total))
        request = np.searchsorted(ends, at, side="right")
        inside = at - (ends[request] - count[request])
        yield {
            "id": first[request].view(np.int64) + inside,
            "size_bytes": np.full(at.size, block_bytes, np.int64),
            **{name: column[request] for name, column in rows.items()},
            "where": lambda row, request=request: where(int(request[row])),
        }
