"""What allocators of single pages share: objects with tables of pages, each page in one tensor or in several.

Pages have numbers; with `tensors` above 1 each number is a page in that many regions of the memory, one after the
other, as KV caches have that index a tensor of every layer by the same cells. A number is the unit of all counts.
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
    last_of,
    make_pages,
    take_pages,
    write_runs,
)
from sim.kernels.compile import inlined, subroutine
from sim.policy import Context

_INTERNAL, _USED = 0, 1
_ASKED, _ENDS = 0, 1
_NOT_PLACED = 0  # no object is of size 0


class State(NamedTuple):
    pages: Pages  # where they are only counted, it names none
    blocks: (
        np.ndarray
    )  # int64[blocks, 2] bytes asked for by a placed block, its first and last number; or the first only
    totals: np.ndarray  # bytes allocated beyond what was asked for, numbers in use
    page_bytes: int
    unit_bytes: int  # of a page in every tensor
    tensors: int
    entry_bytes: int
    places: bool


def make_state(
    context: Context, *, page_bytes: int, tensors: int, order: str, entry_bytes: int, places: bool = True
) -> State:
    """Raises ValueError for a parameter out of range."""
    for name, value in (("page_bytes", page_bytes), ("tensors", tensors)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected a positive whole number")
    if entry_bytes < 0:
        raise ValueError(f"entry_bytes is {entry_bytes}; expected a whole number from 0")
    count = context.capacity // (page_bytes * tensors)
    pages = make_pages(count if places else 0, order, page_bytes, context.capacity)
    pages.totals[FREE_PAGES] = count
    return State(
        pages=pages,
        blocks=np.zeros((context.blocks, 2 if places else 1), np.int64),
        totals=np.zeros(2, np.int64),
        page_bytes=page_bytes,
        unit_bytes=page_bytes * tensors,
        tensors=tensors,
        entry_bytes=entry_bytes,
        places=places,
    )


@inlined
def _numbers(state, size_bytes):
    if size_bytes <= state.unit_bytes:  # the usual case, without a division
        return 1
    return (size_bytes + state.unit_bytes - 1) // state.unit_bytes


@inlined
def _note(state, block, size_bytes, more):
    """A block is of another size from now on, 0 where it is not placed."""
    state.totals[_INTERNAL] += more * state.unit_bytes + state.blocks[block, _ASKED] - size_bytes
    state.totals[_USED] += more
    state.blocks[block, _ASKED] = size_bytes


def allocate(state, block, size_bytes):
    if state.blocks[block, _ASKED] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    numbers = _numbers(state, size_bytes)
    if numbers > state.pages.totals[FREE_PAGES]:
        return False
    if state.places:
        state.blocks[block, _ENDS] = take_pages(state.pages, numbers)
    else:
        state.pages.totals[FREE_PAGES] -= numbers
    _note(state, block, size_bytes, numbers)
    return True


def release(state, block):
    if state.blocks[block, _ASKED] == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    numbers = _numbers(state, state.blocks[block, _ASKED])
    if state.places:
        give_pages(state.pages, state.blocks[block, _ENDS], numbers)
    else:
        state.pages.totals[FREE_PAGES] += numbers
    _note(state, block, _NOT_PLACED, -numbers)


def resize(state, block, size_bytes):
    if state.blocks[block, _ASKED] == _NOT_PLACED:
        raise ValueError("the block to resize is not placed")
    if size_bytes < 1:
        raise ValueError("the block to resize has no bytes")
    more = _numbers(state, size_bytes) - _numbers(state, state.blocks[block, _ASKED])
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
    return state.pages.totals[FREE_PAGES] * state.unit_bytes


def largest_free_bytes(state):
    return state.pages.totals[FREE_PAGES] * state.unit_bytes


def internal_bytes(state):
    return state.totals[_INTERNAL]


def outside_bytes(state):
    return state.totals[_USED] * state.entry_bytes


def held_bytes(state):
    return state.totals[_USED] * state.unit_bytes


def extents(state, block, out):
    if not state.places:
        return -1
    if state.tensors == 1 or state.pages.links.shape[0] == 1:  # of one number each, the regions touch
        return write_runs(state.pages, state.blocks[block, _ENDS], state.unit_bytes, out)
    return _spread(state, _numbers(state, state.blocks[block, _ASKED]), state.blocks[block, _ENDS], out)


@subroutine
def _spread(state, numbers, both, out):
    """Runs of a page each: the bytes of a number are those of its first tensor, then of the next one."""
    page, all_pages = last_of(both), state.pages.links.shape[0]
    for which in range(numbers - 1, -1, -1):
        for tensor in range(state.tensors):
            at = which * state.tensors + tensor
            if at < out.shape[0]:
                out[at, 0], out[at, 1] = (tensor * all_pages + page) * state.page_bytes, state.page_bytes
        page = np.int64(state.pages.links[page])
    return numbers * state.tensors


HOOKS = {
    "allocate": allocate,
    "release": release,
    "free_bytes": free_bytes,
    "largest_free_bytes": largest_free_bytes,
    "internal_bytes": internal_bytes,
    "outside_bytes": outside_bytes,
    "held_bytes": held_bytes,
    "resize": resize,
    "extents": extents,
}
