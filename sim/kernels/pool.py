"""Pools: a row of numbers for each resident block, without gaps, so that one can be drawn at random.

`rows` is an integer array [blocks, columns] whose first `count[0]` rows are in use; column 0 is the row's block.
`slot` is uint32[blocks]: the row of each block in the pool. What a sampling policy looks at for every candidate belongs
into the row, which is then one cache line for each candidate.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined


def make_pool(blocks: int, columns: int = 1, dtype: type = np.uint32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arrays rows, slot and count of an empty pool over `blocks` blocks."""
    return np.zeros((blocks, columns), dtype), np.zeros(blocks, np.uint32), np.zeros(1, np.int64)


@inlined
def add_row(rows, slot, count, block):
    """Add a block, whose other columns the caller fills; returns its row."""
    at = count[0]
    rows[at, 0] = block
    slot[block] = at
    count[0] = at + 1
    return at


@inlined
def take_row(rows, slot, count, at):
    """Take out row `at`; the last row closes the gap."""
    last = count[0] - 1
    for column in range(rows.shape[1]):
        rows[at, column] = rows[last, column]
    slot[rows[at, 0]] = at
    count[0] = last
