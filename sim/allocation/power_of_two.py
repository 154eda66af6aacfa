"""Powers of two in segregated free lists, never merged: the allocator of 4.2BSD, by Kingsley.

Wilson, Johnstone, Neely and Boles 1995 ("Dynamic storage allocation: a survey and critical review", "simple segregated
storage") describe it, the header comment of 4.2BSD's malloc.c its rules. A request with its header is rounded up to a
power of two. It takes the block of that size that was given back last; where there is none, a block of the page cut for
that size last, in order of address; where that is used up, a new page is taken from the end of the memory in use, or,
for blocks above a page, one block. A block stays of its size for ever and a page with its size: nothing is split,
merged or returned, so memory given back by one size is of no use to another.

A header of `header_bytes`, in which a free block has its link, precedes each object and is metadata; 4.2BSD had 4
bytes and blocks from 8 bytes on; the defaults, 8 and 16, are those of 64-bit machines, as is `page_bytes`, 4096.
Blocks on free lists are free bytes; that few requests can use them shows as external fragmentation. `held_bytes` is
the memory in use from its start, which never shrinks. The capacity is rounded down to whole pages; the tail beyond is
neither free nor allocated. Allocating and releasing take O(1); the state grows with the objects, not with the capacity.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation._places import one_run
from sim.kernels.bits import highest_bit
from sim.kernels.compile import subroutine
from sim.policy import Allocator

_ADDRESS, _ASKED = 0, 1
_STACK, _DEPTH, _NEXT, _END = range(4)
_FREE, _INTERNAL, _PLACED, _TOP = range(4)
_NONE = -1
_NOT_PLACED = 0  # no object is of size 0


class State(NamedTuple):
    objects: np.ndarray  # int64[objects, 2]: where the block of each is, header included, and the bytes asked for
    classes: np.ndarray  # int64[sizes, 4], see below
    stacks: np.ndarray  # addresses of blocks that were given back, of each size those given back last at the end
    totals: np.ndarray  # free bytes; bytes beyond headers and what was asked for; objects placed; memory in use
    whole_bytes: int
    smallest_bytes: int
    header_bytes: int
    page_bytes: int

    @property
    def address(self) -> np.ndarray:
        """Where the bytes of each object are, -1 where it is not placed."""
        return np.where(self.objects[:, _ASKED] == _NOT_PLACED, -1, self.objects[:, _ADDRESS] + self.header_bytes)


# A row of `classes`: where its stack begins, how many lie on it; in the page cut last, the first block never used, and
# the page's end. A stack has room for as many blocks as can ever have been in use, since one is only cut where none is
# free.


def init(context, *, smallest_bytes=16, header_bytes=8, page_bytes=4096):
    for name, value in (("smallest_bytes", smallest_bytes), ("page_bytes", page_bytes)):
        if value < 1 or value & (value - 1):
            raise ValueError(f"{name} is {value}; expected a power of two")
    if page_bytes < smallest_bytes:
        raise ValueError(f"page_bytes is {page_bytes}; expected at least {smallest_bytes} smallest_bytes")
    if header_bytes < 0:
        raise ValueError(f"header_bytes is {header_bytes}; expected a whole number from 0 on")
    whole = context.capacity // page_bytes * page_bytes
    sizes = [smallest_bytes << order for order in range((whole // smallest_bytes).bit_length())]
    stacks = np.cumsum([0] + [min(context.blocks, whole // size) for size in sizes])
    classes = np.zeros((len(sizes), 4), np.int64)
    classes[:, _STACK] = stacks[:-1]
    return State(
        objects=np.zeros((context.blocks, 2), np.int64),
        classes=classes,
        stacks=np.zeros(max(1, stacks[-1]), np.int64),
        totals=np.array([whole, 0, 0, 0]),
        whole_bytes=whole,
        smallest_bytes=smallest_bytes,
        header_bytes=header_bytes,
        page_bytes=page_bytes,
    )


@subroutine
def _order(state, size_bytes):
    """By how many doublings of the smallest block an object of that size fits with its header."""
    need = size_bytes + state.header_bytes
    if need <= state.smallest_bytes:
        return 0
    return highest_bit(np.uint64(need - 1)) + 1 - highest_bit(np.uint64(state.smallest_bytes))


@subroutine
def _has_page(state, size_bytes):
    """Is there memory never used for a block of that size, or for the page that it is cut from?"""
    return state.totals[_TOP] + max(size_bytes, state.page_bytes) <= state.whole_bytes


@subroutine
def _take(state, order):
    """The address of a free block, which is taken; _NONE where there is none."""
    row, size_bytes = state.classes[order], state.smallest_bytes << order
    if row[_DEPTH] > 0:
        row[_DEPTH] -= 1
        return state.stacks[row[_STACK] + row[_DEPTH]]
    if row[_NEXT] == row[_END]:
        if not _has_page(state, size_bytes):
            return _NONE
        row[_NEXT] = state.totals[_TOP]
        state.totals[_TOP] += max(size_bytes, state.page_bytes)
        row[_END] = state.totals[_TOP]
    row[_NEXT] += size_bytes
    return row[_NEXT] - size_bytes


def allocate(state, block, size_bytes):
    objects, totals = state.objects, state.totals
    if objects[block, _ASKED] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    order = _order(state, size_bytes)
    if order >= state.classes.shape[0]:
        return False
    address = _take(state, order)
    if address == _NONE:
        return False
    taken = state.smallest_bytes << order
    objects[block, _ADDRESS], objects[block, _ASKED] = address, size_bytes
    totals[_FREE] -= taken
    totals[_INTERNAL] += taken - state.header_bytes - size_bytes
    totals[_PLACED] += 1
    return True


def release(state, block):
    objects, totals, size_bytes = state.objects, state.totals, state.objects[block, _ASKED]
    if size_bytes == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    order = _order(state, size_bytes)
    row, taken = state.classes[order], state.smallest_bytes << order
    state.stacks[row[_STACK] + row[_DEPTH]] = objects[block, _ADDRESS]
    row[_DEPTH] += 1
    objects[block, _ASKED] = _NOT_PLACED
    totals[_FREE] += taken
    totals[_INTERNAL] -= taken - state.header_bytes - size_bytes
    totals[_PLACED] -= 1


def free_bytes(state):
    return state.totals[_FREE]


def largest_free_bytes(state):
    for order in range(state.classes.shape[0] - 1, -1, -1):
        row, size_bytes = state.classes[order], state.smallest_bytes << order
        if row[_DEPTH] > 0 or row[_NEXT] < row[_END] or _has_page(state, size_bytes):
            return max(0, size_bytes - state.header_bytes)
    return 0


def internal_bytes(state):
    return state.totals[_INTERNAL]


def metadata_bytes(state):
    return state.totals[_PLACED] * state.header_bytes


def held_bytes(state):
    return state.totals[_TOP]


def extents(state, block, out):
    header = state.header_bytes
    taken = state.smallest_bytes << _order(state, state.objects[block, _ASKED])
    return one_run(out, state.objects[block, _ADDRESS] + header, taken - header)


ALLOCATOR = Allocator(
    name="power_of_two",
    init=init,
    allocate=allocate,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    metadata_bytes=metadata_bytes,
    held_bytes=held_bytes,
    extents=extents,
)
