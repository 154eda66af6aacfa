"""Binary buddies: sizes rounded up to powers of two, each block beside its twin (Knowlton 1965; Knuth vol. 1, 2.5).

A request takes a free block of the smallest sufficient order, the lowest in address of these, and splits off upper
halves until it fits; a released block is merged with its buddy as long as that is free, so a block of order k
(`smallest_bytes` times 2 to the k) always has an address that is a multiple of its size. A capacity that is no power
of two is cut into arenas, one for each binary digit, the largest first; each is aligned to its own size and none
merges with another. What is below `smallest_bytes` is a tail that is neither free nor allocated, so
allocated + free + tail = capacity. The largest block that fits is the largest arena, which can be little more than half
of the capacity.

The free blocks of all orders are one set of bits, order after order, each by address: the next member from the start of
an order is the block to take. That is two bits for each `smallest_bytes` of capacity, in memory that is mapped only
where it is touched. Allocating and releasing take at most one step an order. These bits, and the summaries that the
next member is found by, lie outside of the managed memory (`outside_bytes`), which has no headers: who releases a block
is taken to know its size, as a page allocator's callers do.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim.allocation._places import one_run
from sim.kernels.bitset import BitSet, add, contains, discard, first_from, make_bitset
from sim.kernels.compile import subroutine
from sim.policy import Allocator

_FREE, _INTERNAL = 0, 1
_MOST_UNITS = 1 << 34  # 4 GiB of bits
_NOT_PLACED = -1
_WORD_BYTES = 8


class State(NamedTuple):
    bits: BitSet  # the free blocks: number starts[k] + i is the block of order k at i times its size
    starts: np.ndarray  # of each order, and the end
    address: np.ndarray  # of each block, -1 where it is not placed
    asked: np.ndarray  # bytes asked for by each placed block
    totals: np.ndarray  # free bytes, bytes allocated beyond what was asked for
    smallest_bytes: int


def init(context, *, smallest_bytes=4096):
    if smallest_bytes < 1:
        raise ValueError(f"smallest_bytes is {smallest_bytes}; expected a positive whole number")
    units = context.capacity // smallest_bytes
    if units > _MOST_UNITS:
        enough = -(-context.capacity // _MOST_UNITS)
        raise ValueError(
            f"smallest_bytes is {smallest_bytes}; expected at least {enough} for {context.capacity} bytes of capacity"
        )
    orders = max(1, units.bit_length())
    starts = np.cumsum([0] + [(units >> order) + 2 for order in range(orders)])
    bits = make_bitset(int(starts[-1]))
    _add_arenas(bits, starts, units)
    return State(
        bits=bits,
        starts=starts,
        address=np.full(context.blocks, _NOT_PLACED),
        asked=np.zeros(context.blocks, np.int64),
        totals=np.array([units * smallest_bytes, 0]),
        smallest_bytes=smallest_bytes,
    )


def _add_arenas(bits, starts, units):
    at = 0
    for order in range(starts.size - 2, -1, -1):
        if units >> order & 1:
            add(bits, int(starts[order]) + (at >> order))
            at += 1 << order


@subroutine
def _order(smallest_bytes, size_bytes):
    """The smallest order that holds so many bytes: how many binary digits the number of units less one has."""
    units = (size_bytes + smallest_bytes - 1) // smallest_bytes
    return math.frexp(np.float64(units - 1))[1]


@subroutine
def _split(bits, starts, free, order):
    """Take out the free block with that number in the set and keep its low end of that order; its place in units."""
    discard(bits, free)
    had = order
    while free >= starts[had + 1]:
        had += 1
    at = (free - starts[had]) << had
    for upper in range(had - 1, order - 1, -1):
        add(bits, starts[upper] + (at >> upper) + 1)
    return at


def allocate(state, block, size_bytes):
    if state.address[block] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    order = _order(state.smallest_bytes, size_bytes)
    if order >= state.starts.size - 1:
        return False
    free = first_from(state.bits, state.starts[order])
    if free < 0:
        return False
    taken = state.smallest_bytes << order
    state.address[block] = _split(state.bits, state.starts, free, order) * state.smallest_bytes
    state.asked[block] = size_bytes
    state.totals[_FREE] -= taken
    state.totals[_INTERNAL] += taken - size_bytes
    return True


def release(state, block):
    if state.address[block] == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    size_bytes = state.asked[block]
    order = _order(state.smallest_bytes, size_bytes)
    taken = state.smallest_bytes << order
    at = (state.address[block] // state.smallest_bytes) >> order
    while contains(state.bits, state.starts[order] + (at ^ 1)):  # an arena has no buddy: no such block is ever free
        discard(state.bits, state.starts[order] + (at ^ 1))
        at >>= 1
        order += 1
    add(state.bits, state.starts[order] + at)
    state.address[block] = _NOT_PLACED
    state.totals[_FREE] += taken
    state.totals[_INTERNAL] -= taken - size_bytes


def free_bytes(state):
    return state.totals[_FREE]


def largest_free_bytes(state):
    for order in range(state.starts.size - 2, -1, -1):
        if first_from(state.bits, state.starts[order]) >= 0:
            return state.smallest_bytes << order
    return 0


def internal_bytes(state):
    return state.totals[_INTERNAL]


def outside_bytes(state):
    return state.bits.words.size * _WORD_BYTES


def extents(state, block, out):
    taken = state.smallest_bytes << _order(state.smallest_bytes, state.asked[block])
    return one_run(out, state.address[block], taken)


ALLOCATOR = Allocator(
    name="buddy",
    init=init,
    allocate=allocate,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    outside_bytes=outside_bytes,
    extents=extents,
)
