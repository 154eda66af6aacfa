"""A min-heap of blocks whose keys only grow while they are in it: a growing key is noted and moves nothing.

The heap is ordered by the keys that blocks were placed with. What comes to its root with a key that has grown since is
placed anew, so that the root with an unchanged key is the smallest: no other block's key is below the one that it was
placed with. A hit then costs a store instead of a walk through the heap. Keys are pairs, the second decides among
equal first ones, and are int64 or float64; blocks with equal keys leave in the order of the textbook's operations.

Unlike in `heap`, the keys that blocks were placed with lie in the heap itself, so that the two children that a step
compares are side by side in memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine

KEY, SECOND, BLOCK = 0, 1, 2


class LazyHeap(NamedTuple):
    keys: np.ndarray  # dtype[blocks, 2]: of each block in the heap, as they are now
    entries: np.ndarray  # dtype[blocks, 3]: the heap: keys as they were when the block was placed, and the block
    slot: np.ndarray  # uint32[blocks]: where in it each block is
    count: np.ndarray  # int64[1]: blocks in the heap


def make_lazy_heap(blocks: int, dtype: type) -> LazyHeap:
    """An empty heap over `blocks` blocks."""
    keys, entries = np.zeros((blocks, 2), dtype), np.zeros((blocks, 3), dtype)
    return LazyHeap(keys, entries, np.zeros(blocks, np.uint32), np.zeros(1, np.int64))


@inlined
def raise_key(lazy, block, key, second):
    """Set the key of a block in the heap to one that is not smaller."""
    lazy.keys[block, KEY] = key
    lazy.keys[block, SECOND] = second


@inlined
def lazy_push(lazy, block, key, second):
    """Add a block that is not in the heap."""
    raise_key(lazy, block, key, second)
    size = lazy.count[0]
    lazy.count[0] = size + 1
    _sift_up(lazy.entries, lazy.slot, size, key, second, block)


@subroutine
def lazy_remove(lazy, block):
    """Take out a block that is in the heap."""
    _close(lazy.entries, lazy.slot, lazy.count, np.int64(lazy.slot[block]))


@subroutine
def lazy_pop(lazy):
    """Take out the block with the smallest key; the heap is not empty."""
    entries, keys = lazy.entries, lazy.keys
    while True:
        block = np.int64(entries[0, BLOCK])
        key, second = keys[block, KEY], keys[block, SECOND]
        if entries[0, KEY] == key and entries[0, SECOND] == second:
            _close(entries, lazy.slot, lazy.count, 0)
            return block
        _sift_down(entries, lazy.slot, 0, lazy.count[0], key, second, block)


@inlined
def _precedes(key, second, other_key, other_second):
    """No branch: which child is smaller cannot be predicted."""
    return (key < other_key) | ((key == other_key) & (second < other_second))


@inlined
def _put(entries, slot, at, key, second, block):
    entries[at, KEY] = key
    entries[at, SECOND] = second
    entries[at, BLOCK] = block
    slot[block] = at


@inlined
def _move(entries, slot, source, target):
    _put(entries, slot, target, entries[source, KEY], entries[source, SECOND], np.int64(entries[source, BLOCK]))


@inlined
def _sift_up(entries, slot, at, key, second, block):
    """Put a block at the free place `at` or as far towards the root as its key asks."""
    while at > 0:
        parent = (at - 1) >> 1
        if not _precedes(key, second, entries[parent, KEY], entries[parent, SECOND]):
            break
        _move(entries, slot, parent, at)
        at = parent
    _put(entries, slot, at, key, second, block)


@inlined
def _sift_down(entries, slot, at, size, key, second, block):
    """Put a block at the free place `at` or as far away from the root as its key asks."""
    child = 2 * at + 1
    while child < size:
        other = min(child + 1, size - 1)
        child += _precedes(entries[other, KEY], entries[other, SECOND], entries[child, KEY], entries[child, SECOND])
        if not _precedes(entries[child, KEY], entries[child, SECOND], key, second):
            break
        _move(entries, slot, child, at)
        at = child
        child = 2 * at + 1
    _put(entries, slot, at, key, second, block)


@inlined
def _close(entries, slot, count, at):
    """Take out what is at a place; the last block fills the gap."""
    size = count[0] - 1
    count[0] = size
    if at == size:
        return
    key, second, block = entries[size, KEY], entries[size, SECOND], np.int64(entries[size, BLOCK])
    if _precedes(key, second, entries[at, KEY], entries[at, SECOND]):
        _sift_up(entries, slot, at, key, second, block)
    else:
        _sift_down(entries, slot, at, size, key, second, block)
