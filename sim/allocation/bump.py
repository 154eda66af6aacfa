"""Bump allocation (an arena): addresses only grow, and memory comes back when all that was placed in it is gone.

Hanson 1990 ("Fast allocation and deallocation of memory based on object lifetimes", Software: Practice and Experience
20(1)). The memory is cut into chunks of `chunk_bytes`; by default (0) it is one. An object goes right behind the one
placed last, where the chunk at hand has room for it; else into the lowest free chunk, which is then the one at hand,
and what is left of the other stays unused. A chunk whose last object is released is free again. An object larger than
a chunk takes whole chunks side by side, the lowest run of enough of them, and the rest of the last one is internal.

Sizes are rounded up to `alignment_bytes`, 16 by default (what malloc gives on a 64-bit machine). The capacity is
rounded down to whole chunks, a single chunk to that alignment; the tail beyond is neither free nor allocated. Bytes of
released objects whose chunk is in use, and unused ends of chunks, are in no allocation and so are free, although
nothing can be placed there: that shows as external fragmentation. Allocating and releasing take O(1), O(log n) where a
chunk is taken or given back.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation._places import one_run
from sim.kernels.compile import subroutine
from sim.kernels.regions import ADDRESS, Regions, find_fit, give_back, largest_run, make_regions, place_found, rounded
from sim.policy import Allocator

_ADDRESS, _ASKED, _CHUNK = 0, 1, 2
_LIVE, _NEXT_SPARE = 0, 1
_FREE, _INTERNAL, _AT_HAND, _TOP, _END, _SPARE = range(6)
_NONE = -1
_NOT_PLACED = 0  # no object is of size 0


class State(NamedTuple):
    objects: np.ndarray  # int64[objects, 3]: where its bytes are, how many were asked for, and the chunk they are in
    chunks: np.ndarray  # int64[objects + 1, 2]: live objects of a chunk in use; of a number not in use, the next such
    pool: Regions  # of chunks; a chunk's number is that of its segment
    totals: np.ndarray  # see below
    alignment_bytes: int

    @property
    def address(self) -> np.ndarray:
        """Where each object is placed, -1 where it is not."""
        return np.where(self.objects[:, _ASKED] == _NOT_PLACED, -1, self.objects[:, _ADDRESS])


# `totals`: free bytes; bytes allocated beyond what was asked for; the chunk at hand, the first address in it that is
# not used, and its end; the first of the numbers of chunks that are not in use.


def init(context, *, chunk_bytes=0, alignment_bytes=16):
    if alignment_bytes < 1:
        raise ValueError(f"alignment_bytes is {alignment_bytes}; expected a positive whole number")
    if chunk_bytes < 0 or chunk_bytes % alignment_bytes:
        raise ValueError(f"chunk_bytes is {chunk_bytes}; expected 0 or a multiple of {alignment_bytes} alignment_bytes")
    whole = context.capacity // alignment_bytes * alignment_bytes
    chunk_bytes = max(alignment_bytes, min(chunk_bytes or whole, whole))
    numbers = context.blocks + 1
    chunks = np.zeros((numbers, 2), np.int64)
    chunks[:, _NEXT_SPARE] = np.append(np.arange(1, numbers), _NONE)
    return State(
        objects=np.zeros((context.blocks, 3), np.int64),
        chunks=chunks,
        pool=make_regions(numbers, context.capacity, chunk_bytes, by_size=False),
        totals=np.array([context.capacity // chunk_bytes * chunk_bytes, 0, _NONE, 0, 0, 0]),
        alignment_bytes=alignment_bytes,
    )


@subroutine
def _taken(state, size_bytes):
    """Bytes that an object takes: whole chunks where one does not hold it."""
    aligned = (size_bytes + state.alignment_bytes - 1) // state.alignment_bytes * state.alignment_bytes
    return aligned if aligned <= state.pool.unit else rounded(state.pool, aligned)


@subroutine
def _open(state, taken):
    """Take chunks for so many bytes, a single one as that at hand; their number, _NONE where they are not free."""
    if not find_fit(state.pool, taken):
        return _NONE
    chunks, totals = state.chunks, state.totals
    number = totals[_SPARE]
    totals[_SPARE] = chunks[number, _NEXT_SPARE]
    chunks[number, _LIVE] = 0
    place_found(state.pool, number, taken)
    if taken <= state.pool.unit:
        start = state.pool.segments[number, ADDRESS]
        totals[_AT_HAND], totals[_TOP], totals[_END] = number, start, start + state.pool.unit
    return number


@subroutine
def _close(state, number):
    if state.totals[_AT_HAND] == number:
        state.totals[_AT_HAND], state.totals[_TOP], state.totals[_END] = _NONE, 0, 0
    state.chunks[number, _NEXT_SPARE] = state.totals[_SPARE]
    state.totals[_SPARE] = number
    give_back(state.pool, number)


def allocate(state, block, size_bytes):
    objects, totals = state.objects, state.totals
    if objects[block, _ASKED] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    taken, number = _taken(state, size_bytes), totals[_AT_HAND]
    if taken > totals[_END] - totals[_TOP]:
        number = _open(state, taken)
        if number == _NONE:
            return False
    if number == totals[_AT_HAND]:
        objects[block, _ADDRESS] = totals[_TOP]
        totals[_TOP] += taken
    else:
        objects[block, _ADDRESS] = state.pool.segments[number, ADDRESS]
    objects[block, _ASKED], objects[block, _CHUNK] = size_bytes, number
    state.chunks[number, _LIVE] += 1
    totals[_FREE] -= taken
    totals[_INTERNAL] += taken - size_bytes
    return True


def release(state, block):
    objects, totals = state.objects, state.totals
    size_bytes, number = objects[block, _ASKED], objects[block, _CHUNK]
    if size_bytes == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    taken = _taken(state, size_bytes)
    objects[block, _ASKED] = _NOT_PLACED
    totals[_FREE] += taken
    totals[_INTERNAL] -= taken - size_bytes
    state.chunks[number, _LIVE] -= 1
    if state.chunks[number, _LIVE] == 0:
        _close(state, number)


def free_bytes(state):
    return state.totals[_FREE]


def largest_free_bytes(state):
    return max(state.totals[_END] - state.totals[_TOP], largest_run(state.pool))


def internal_bytes(state):
    return state.totals[_INTERNAL]


def extents(state, block, out):
    return one_run(out, state.objects[block, _ADDRESS], _taken(state, state.objects[block, _ASKED]))


ALLOCATOR = Allocator(
    name="bump",
    init=init,
    allocate=allocate,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    extents=extents,
)
