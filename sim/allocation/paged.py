"""Fixed-size pages, any of which serves any request, as PagedAttention's KV blocks (Kwon et al. 2023).

The last page of a block is partly wasted (internal); nothing is lost between blocks (external is 0). The capacity is
rounded down to whole pages; the tail beyond is neither free nor allocated, so allocated + free + tail = capacity.

Which pages a block holds makes no difference to whether a later one fits, so the state counts pages and names none:
its size depends on the number of blocks alone. Allocating and releasing take O(1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.policy import Allocator

_FREE_PAGES, _INTERNAL = 0, 1
_NOT_PLACED = 0  # no block is of size 0


class State(NamedTuple):
    asked: np.ndarray  # bytes asked for by each placed block
    totals: np.ndarray  # free pages, bytes allocated beyond what was asked for
    page_bytes: int


def init(context, *, page_bytes=4096):
    if page_bytes < 1:
        raise ValueError(f"page_bytes is {page_bytes}; expected a positive whole number")
    totals = np.array([context.capacity // page_bytes, 0])
    return State(asked=np.zeros(context.blocks, np.int64), totals=totals, page_bytes=page_bytes)


@inlined
def _pages(state, size_bytes):
    if size_bytes <= state.page_bytes:  # the usual case, without a division
        return 1
    return (size_bytes + state.page_bytes - 1) // state.page_bytes


def allocate(state, block, size_bytes):
    if state.asked[block] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    pages = _pages(state, size_bytes)
    if pages > state.totals[_FREE_PAGES]:
        return False
    state.asked[block] = size_bytes
    state.totals[_FREE_PAGES] -= pages
    state.totals[_INTERNAL] += pages * state.page_bytes - size_bytes
    return True


def release(state, block):
    if state.asked[block] == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    size_bytes = state.asked[block]
    pages = _pages(state, size_bytes)
    state.asked[block] = _NOT_PLACED
    state.totals[_FREE_PAGES] += pages
    state.totals[_INTERNAL] -= pages * state.page_bytes - size_bytes


def free_bytes(state):
    return state.totals[_FREE_PAGES] * state.page_bytes


def largest_free_bytes(state):
    return state.totals[_FREE_PAGES] * state.page_bytes


def internal_bytes(state):
    return state.totals[_INTERNAL]


ALLOCATOR = Allocator(
    name="paged",
    init=init,
    allocate=allocate,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
)
