"""Unified paging: KV caches and adapters in one pool of pages of a hidden vector each (S-LoRA, Sheng et al. 2024).

A page is `page_bytes`: one vector of the model's hidden dimension, 8 KiB for the 4,096 numbers of 16 bits of Llama-7B,
with which S-LoRA (MLSys 2024, arXiv 2311.03285) is evaluated. The KV cache of s tokens takes s pages of each tensor,
the matrices of an adapter of rank r take r pages each; pages of both kinds lie among each other, wherever one is free.
So neither kind is kept out by room set aside for the other, and nothing is rounded but the last page. What is allocated
may be of any kind: its size alone counts.

`tensors`: how many tensors have their pages under one number. With 1, each page has its own number. S-LoRA's code
(slora/common/mem_allocator.py) has a tensor of keys and one of values for each layer, 64 for Llama-7B, all indexed by
the same cells: a token takes one cell, an adapter of rank r on four projections 4 r cells, its A among the keys and its
B among the values. The memory then is `tensors` regions, one after the other, and a number is a page in each of them.
What is left over of the capacity is a tail that is neither free nor allocated.

Free pages are taken in `order`, `lowest` as in that code (the lowest free cells); see the allocator `paged` for others.
The tables of pages lie outside of the memory, and take `entry_bytes` for each number in use: 8 there (`a_loc` of
infer_adapter.py, integers of 64 bits). Not modelled: which of the pages the kernels read together.
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
from sim.policy import Allocator

_INTERNAL, _USED = 0, 1
_ASKED, _ENDS = 0, 1
_NOT_PLACED = 0  # no object is of size 0


class State(NamedTuple):
    pages: Pages  # numbers, each of which is a page in every tensor
    objects: np.ndarray  # int64[objects, 2] bytes asked for, first and last number
    totals: np.ndarray  # bytes allocated beyond what was asked for, numbers in use
    page_bytes: int
    tensors: int
    entry_bytes: int


def init(context, *, page_bytes=8192, tensors=1, order="lowest", entry_bytes=8):
    for name, value in (("page_bytes", page_bytes), ("tensors", tensors)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected a positive whole number")
    if entry_bytes < 0:
        raise ValueError(f"entry_bytes is {entry_bytes}; expected a whole number from 0")
    numbers = context.capacity // (page_bytes * tensors)
    return State(
        pages=make_pages(numbers, order, page_bytes, context.capacity),
        objects=np.zeros((context.blocks, 2), np.int64),
        totals=np.zeros(2, np.int64),
        page_bytes=page_bytes,
        tensors=tensors,
        entry_bytes=entry_bytes,
    )


@inlined
def _unit(state):
    return state.page_bytes * state.tensors


@inlined
def _numbers(state, size_bytes):
    return (size_bytes + _unit(state) - 1) // _unit(state)


@inlined
def _note(state, block, size_bytes, more):
    """An object is of another size from now on, 0 where it is not placed."""
    state.totals[_INTERNAL] += more * _unit(state) + state.objects[block, _ASKED] - size_bytes
    state.totals[_USED] += more
    state.objects[block, _ASKED] = size_bytes


def allocate(state, block, size_bytes):
    if state.objects[block, _ASKED] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    numbers = _numbers(state, size_bytes)
    if numbers > state.pages.totals[FREE_PAGES]:
        return False
    state.objects[block, _ENDS] = take_pages(state.pages, numbers)
    _note(state, block, size_bytes, numbers)
    return True


def release(state, block):
    if state.objects[block, _ASKED] == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    numbers = _numbers(state, state.objects[block, _ASKED])
    give_pages(state.pages, state.objects[block, _ENDS], numbers)
    _note(state, block, _NOT_PLACED, -numbers)


def resize(state, block, size_bytes):
    if state.objects[block, _ASKED] == _NOT_PLACED:
        raise ValueError("the block to resize is not placed")
    if size_bytes < 1:
        raise ValueError("the block to resize has no bytes")
    more = _numbers(state, size_bytes) - _numbers(state, state.objects[block, _ASKED])
    if more > state.pages.totals[FREE_PAGES]:
        return False
    if more > 0:
        state.objects[block, _ENDS] = add_pages(state.pages, state.objects[block, _ENDS], more)
    elif more < 0:
        state.objects[block, _ENDS] = drop_pages(state.pages, state.objects[block, _ENDS], -more)
    _note(state, block, size_bytes, more)
    return True


def free_bytes(state):
    return state.pages.totals[FREE_PAGES] * _unit(state)


def largest_free_bytes(state):
    return state.pages.totals[FREE_PAGES] * _unit(state)


def internal_bytes(state):
    return state.totals[_INTERNAL]


def outside_bytes(state):
    return state.totals[_USED] * state.entry_bytes


def held_bytes(state):
    return state.totals[_USED] * _unit(state)


def extents(state, block, out):
    if state.tensors == 1 or state.pages.links.shape[0] == 1:  # of one number each, the regions touch
        return write_runs(state.pages, state.objects[block, _ENDS], _unit(state), out)
    return _spread(state, _numbers(state, state.objects[block, _ASKED]), state.objects[block, _ENDS], out)


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


ALLOCATOR = Allocator(
    name="unified_paging",
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
