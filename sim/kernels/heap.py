"""A binary min-heap of blocks whose keys may change, each block knowing its slot.

`keys` is int64[blocks, 1 or 2]: the smaller first column leaves first, the smaller second column among equals. `heap`
is uint32[blocks] of blocks in heap order, `slot` uint32[blocks] the place of each block in it, and `count[0]` how many
there are. Blocks with equal keys leave in the order that these textbook sift operations give them.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import subroutine


def make_heap(blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arrays heap, slot and count of an empty heap over `blocks` blocks."""
    return np.zeros(blocks, np.uint32), np.zeros(blocks, np.uint32), np.zeros(1, np.int64)


@subroutine
def precedes(keys, a, b):
    """Whether block `a` leaves before block `b`."""
    if keys[a, 0] != keys[b, 0]:
        return keys[a, 0] < keys[b, 0]
    last = keys.shape[1] - 1
    return keys[a, last] < keys[b, last]


@subroutine
def sift_up(heap, slot, keys, at):
    """Move the block at place `at` towards the root as far as its key asks."""
    block = heap[at]
    while at > 0:
        parent = (at - 1) >> 1
        if not precedes(keys, block, heap[parent]):
            break
        heap[at] = heap[parent]
        slot[heap[at]] = at
        at = parent
    heap[at] = block
    slot[block] = at


@subroutine
def sift_down(heap, slot, keys, at, size):
    """Move the block at place `at` away from the root as far as its key asks."""
    block = heap[at]
    child = 2 * at + 1
    while child < size:
        if child + 1 < size and precedes(keys, heap[child + 1], heap[child]):
            child += 1
        if not precedes(keys, heap[child], block):
            break
        heap[at] = heap[child]
        slot[heap[at]] = at
        at = child
        child = 2 * at + 1
    heap[at] = block
    slot[block] = at


@subroutine
def heap_push(heap, slot, count, keys, block):
    """Add `block`, whose key is already in `keys`."""
    size = count[0]
    heap[size] = block
    count[0] = size + 1
    sift_up(heap, slot, keys, size)


@subroutine
def heap_remove(heap, slot, count, keys, block):
    """Take out `block`; its key must still be the one that it has in the heap."""
    size = count[0] - 1
    count[0] = size
    at = np.int64(slot[block])
    if at == size:
        return
    moved = heap[size]
    heap[at] = moved
    if precedes(keys, moved, block):
        sift_up(heap, slot, keys, at)
    else:
        sift_down(heap, slot, keys, at, size)


@subroutine
def heap_update(heap, slot, count, keys, block):
    """Put `block`, whose key has changed in `keys`, where that asks."""
    sift_up(heap, slot, keys, np.int64(slot[block]))
    sift_down(heap, slot, keys, np.int64(slot[block]), count[0])


@subroutine
def heap_pop(heap, slot, count, keys):
    """Take out the block that leaves first; the heap is not empty."""
    block = heap[0]
    heap_remove(heap, slot, count, keys, block)
    return block
