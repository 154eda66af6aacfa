"""A min-heap of blocks whose keys only grow while they are in it: a growing key is noted and moves nothing.

The heap is ordered by the keys that blocks were placed with. What comes to its root with a key that has grown since is
placed anew, so that the root with an unchanged key is the smallest: no other block's key is below the one that it was
placed with. A hit then costs a store instead of a walk through the heap. Keys are pairs, the second decides among
equal first ones, and are int64 or float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, kernel
from sim.kernels.heap import heap_pop, heap_push, heap_remove, make_heap, sift_down

KEY, SECOND = 0, 1


class LazyHeap(NamedTuple):
    keys: np.ndarray  # dtype[blocks, 2]: as they are now
    placed: np.ndarray  # dtype[blocks, 2]: as they were when the block was placed
    heap: np.ndarray
    slot: np.ndarray
    count: np.ndarray  # int64[1]: blocks in the heap


def make_lazy_heap(blocks: int, dtype: type) -> LazyHeap:
    """An empty heap over `blocks` blocks."""
    heap, slot, count = make_heap(blocks)
    return LazyHeap(np.zeros((blocks, 2), dtype), np.zeros((blocks, 2), dtype), heap, slot, count)


@inlined
def raise_key(lazy, block, key, second):
    """Set the key of a block in the heap to one that is not smaller."""
    lazy.keys[block, KEY] = key
    lazy.keys[block, SECOND] = second


@inlined
def lazy_push(lazy, block, key, second):
    """Add a block that is not in the heap."""
    raise_key(lazy, block, key, second)
    lazy.placed[block, KEY] = key
    lazy.placed[block, SECOND] = second
    heap_push(lazy.heap, lazy.slot, lazy.count, lazy.placed, block)


@inlined
def lazy_remove(lazy, block):
    """Take out a block that is in the heap."""
    heap_remove(lazy.heap, lazy.slot, lazy.count, lazy.placed, block)


@kernel
def _settle(keys, placed, heap, slot, size):
    """Bring the smallest block to the root of a heap that is not empty."""
    while True:
        block = np.int64(heap[0])
        if placed[block, KEY] == keys[block, KEY] and placed[block, SECOND] == keys[block, SECOND]:
            return
        placed[block, KEY] = keys[block, KEY]
        placed[block, SECOND] = keys[block, SECOND]
        sift_down(heap, slot, placed, 0, size)


@inlined
def lazy_pop(lazy):
    """Take out the block with the smallest key; the heap is not empty."""
    _settle(lazy.keys, lazy.placed, lazy.heap, lazy.slot, lazy.count[0])
    return np.int64(heap_pop(lazy.heap, lazy.slot, lazy.count, lazy.placed))
