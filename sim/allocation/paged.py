"""Fixed-size pages, any of which serves any request, as PagedAttention's KV blocks (Kwon et al., SOSP 2023).

The last page of a block is partly wasted (internal); nothing is lost between blocks (external is 0). The capacity is
rounded down to whole pages; the tail beyond is neither free nor allocated, so allocated + free + tail = capacity. A
block that grows gets pages at its end, one that shrinks gives back its last ones: what it keeps stays where it is.

Free pages are taken in `order`: `fifo` is vLLM's `FreeKVCacheBlockQueue` (vllm/v1/core/kv_cache_utils.py) without
prefix caching, in order of their numbers at first, and then those that were released first, of a request its last one
first; `lifo` is a stack, as many allocators of fixed size are; `lowest` that with the lowest address. The table of each
block's pages lies outside of the memory and takes `entry_bytes` for each page in use: 4, as in vLLM's block table, an
int32 tensor (vllm/v1/worker/block_table.py), which is made for the longest sequences, however long they are in truth.
What the allocator holds are the pages in use: a pool of just as many would do.

With `places`, every page has 4 bytes of links, mapped where it was ever used. Without, pages are counted and not named:
which ones a block holds makes no difference to whether a later one fits. The state then depends on the number of blocks
alone, and nothing knows where they lie. Allocating and releasing take O(1), and O(1) for each page that is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation._pages import (
    FREE_PAGES,
    Pages,
    add_pages,
    drop_pages,
    give_pages,
    make_pages,
    take_pages,
    write_runs,
)
from sim.kernels.compile import inlined
from sim.policy import Allocator

_INTERNAL, _USED_PAGES = 0, 1
_ASKED, _ENDS = 0, 1
_NOT_PLACED = 0  # no block is of size 0


class State(NamedTuple):
    pages: Pages  # where they are only counted, it names none
    blocks: np.ndarray  # int64[blocks, 2] bytes asked for by a placed block, its first and last page; or the first only
    totals: np.ndarray  # bytes allocated beyond what was asked for, pages in use
    page_bytes: int
    entry_bytes: int
    places: bool


def init(context, *, page_bytes=4096, order="fifo", entry_bytes=4, places=True):
    if page_bytes < 1:
        raise ValueError(f"page_bytes is {page_bytes}; expected a positive whole number")
    if entry_bytes < 0:
        raise ValueError(f"entry_bytes is {entry_bytes}; expected a whole number from 0")
    count = context.capacity // page_bytes
    pages = make_pages(count if places else 0, order, page_bytes, context.capacity)
    pages.totals[FREE_PAGES] = count
    return State(
        pages=pages,
        blocks=np.zeros((context.blocks, 2 if places else 1), np.int64),
        totals=np.zeros(2, np.int64),
        page_bytes=page_bytes,
        entry_bytes=entry_bytes,
        places=places,
    )


@inlined
def _pages(state, size_bytes):
    if size_bytes <= state.page_bytes:  # the usual case, without a division
        return 1
    return (size_bytes + state.page_bytes - 1) // state.page_bytes


@inlined
def _note(state, block, size_bytes, more_pages):
    """A block is of another size from now on, 0 where it is not placed."""
    state.totals[_INTERNAL] += more_pages * state.page_bytes + state.blocks[block, _ASKED] - size_bytes
    state.totals[_USED_PAGES] += more_pages
    state.blocks[block, _ASKED] = size_bytes


def allocate(state, block, size_bytes):
    if state.blocks[block, _ASKED] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    pages = _pages(state, size_bytes)
    if pages > state.pages.totals[FREE_PAGES]:
        return False
    if state.places:
        state.blocks[block, _ENDS] = take_pages(state.pages, pages)
    else:
        state.pages.totals[FREE_PAGES] -= pages
    _note(state, block, size_bytes, pages)
    return True


def release(state, block):
    if state.blocks[block, _ASKED] == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    pages = _pages(state, state.blocks[block, _ASKED])
    if state.places:
        give_pages(state.pages, state.blocks[block, _ENDS], pages)
    else:
        state.pages.totals[FREE_PAGES] += pages
    _note(state, block, _NOT_PLACED, -pages)


def resize(state, block, size_bytes):
    if state.blocks[block, _ASKED] == _NOT_PLACED:
        raise ValueError("the block to resize is not placed")
    if size_bytes < 1:
        raise ValueError("the block to resize has no bytes")
    more = _pages(state, size_bytes) - _pages(state, state.blocks[block, _ASKED])
    if more > state.pages.totals[FREE_PAGES]:
        return False
    if not state.places:
        state.pages.totals[FREE_PAGES] -= more
    elif more > 0:
        state.blocks[block, _ENDS] = add_pages(state.pages, state.blocks[block, _ENDS], more)
    elif more < 0:
        state.blocks[block, _ENDS] = drop_pages(state.pages, state.blocks[block, _ENDS], -more)
    _note(state, block, size_bytes, more)
    return True


def free_bytes(state):
    return state.pages.totals[FREE_PAGES] * state.page_bytes


def largest_free_bytes(state):
    return state.pages.totals[FREE_PAGES] * state.page_bytes


def internal_bytes(state):
    return state.totals[_INTERNAL]


def outside_bytes(state):
    return state.totals[_USED_PAGES] * state.entry_bytes


def held_bytes(state):
    return state.totals[_USED_PAGES] * state.page_bytes


def extents(state, block, out):
    if not state.places:
        return -1
    return write_runs(state.pages, state.blocks[block, _ENDS], state.page_bytes, out)


ALLOCATOR = Allocator(
    name="paged",
    init=init,
    allocate=allocate,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    outside_bytes=outside_bytes,
    held_bytes=held_bytes,
    resize=resize,
    extents=extents,
)
