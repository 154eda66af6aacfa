"""Groups of neighbouring pages, so that a KV cache is swapped in few large pieces (FastSwitch, Shen et al. 2024).

FastSwitch (arXiv 2411.18424; its abstract was read, the rest is recalled, not re-read) keeps vLLM's blocks and hands
them out by the group, after the manner of a buddy system: free groups are split, and merged with their neighbours as
they come back. An object gets a new group of `group_pages` pages, or of as many as it asks for at once if these are
more, and grows into it; the rest is `reserved_bytes`. Where memory is short, the end of another object's group that it
has not come to use is split off and taken back: no request is refused that single pages would serve, and
`largest_free_bytes` counts what is reserved, too. What an object has keeps its place. With 1, groups are single pages
that are placed by best fit.

Choices of this module: a new group is cut from the smallest free run that is large enough, the lowest of equal ones;
where none is, it is the largest free run; where none is free at all, an object with unused pages is drawn at random,
and gives up as many of them as are needed, from their end. Groups need not be powers of two. 64 pages are 1,024 tokens
in vLLM's blocks of 16. An object that shrinks gives back groups it has no page in use of; of the last it keeps all.

The table of pages lies outside of the memory, `entry_bytes` for each page in use, as in vLLM (see the allocator
`paged`). The capacity is rounded down to whole pages. Taking or giving back a group takes O(log n); growing within one
O(1). Memory for the groups is proportional to the pages of the capacity, mapped where it is used.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.pool import add_row, make_pool, take_row
from sim.kernels.random import below, make_rng
from sim.kernels.regions import (
    ADDRESS,
    BYTES,
    FREE,
    Regions,
    find_fit,
    give_back,
    largest_run,
    make_regions,
    place_found,
    split_end,
)
from sim.policy import Allocator

_INTERNAL, _USED, _RESERVED, _SPARE, _UNUSED = range(5)
_ASKED, _LAST, _ROOM = range(3)
_NONE = -1
_NOT_PLACED = 0  # no object is of size 0
_MOST_PAGES = 1 << 24  # some 200 bytes each, in the worst case


class State(NamedTuple):
    regions: Regions  # of pages; a segment is a group
    before: np.ndarray  # int64[groups] the group before it in its object; of a spare number, the next one
    objects: (
        np.ndarray
    )  # int64[objects, 3] bytes asked for; its last group; pages that it does not use, in its last one
    holders: np.ndarray  # uint32: the pool of objects that have such pages, see `sim.kernels.pool`
    slot: np.ndarray
    count: np.ndarray
    totals: (
        np.ndarray
    )  # bytes of rounding; pages in use, pages not used yet; group number given back last, first unused
    rng: np.ndarray
    page_bytes: int
    group_pages: int
    entry_bytes: int


def init(context, *, page_bytes=4096, group_pages=64, entry_bytes=4):
    for name, value in (("page_bytes", page_bytes), ("group_pages", group_pages)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected a positive whole number")
    if entry_bytes < 0:
        raise ValueError(f"entry_bytes is {entry_bytes}; expected a whole number from 0")
    pages = context.capacity // page_bytes
    if pages > _MOST_PAGES:
        enough = -(-context.capacity // _MOST_PAGES)
        raise ValueError(
            f"page_bytes is {page_bytes}; expected at least {enough} for {context.capacity} bytes of capacity"
        )
    holders, slot, count = make_pool(context.blocks)
    return State(
        regions=make_regions(pages, pages, 1, by_size=True),
        before=np.zeros(pages, np.int64),
        objects=np.zeros((context.blocks, 3), np.int64),
        holders=holders,
        slot=slot,
        count=count,
        totals=np.array([0, 0, 0, _NONE, 0]),
        rng=make_rng(context.seed),
        page_bytes=page_bytes,
        group_pages=group_pages,
        entry_bytes=entry_bytes,
    )


@inlined
def _pages(state, size_bytes):
    return (size_bytes + state.page_bytes - 1) // state.page_bytes


@subroutine
def _set_room(state, block, room):
    """An object has so many pages that it does not use."""
    had = state.objects[block, _ROOM]
    state.objects[block, _ROOM] = room
    state.totals[_RESERVED] += room - had
    if had == 0 and room > 0:
        add_row(state.holders, state.slot, state.count, block)
    elif had > 0 and room == 0:
        take_row(state.holders, state.slot, state.count, np.int64(state.slot[block]))


@subroutine
def _new_group(state, block):
    """A number for the next group of an object."""
    totals, before = state.totals, state.before
    group = totals[_SPARE]
    if group == _NONE:
        group = totals[_UNUSED]
        totals[_UNUSED] += 1
    else:
        totals[_SPARE] = before[group]
    before[group] = state.objects[block, _LAST]
    state.objects[block, _LAST] = group
    return group


@subroutine
def _drop_last_group(state, block):
    group = state.objects[block, _LAST]
    state.objects[block, _LAST] = state.before[group]
    state.before[group] = state.totals[_SPARE]
    state.totals[_SPARE] = group
    give_back(state.regions, group)


@subroutine
def _take_back(state, block, most):
    """Make a group for an object of pages that another does not use, at most so many; how many. There are some."""
    victim = np.int64(state.holders[below(state.rng, state.count[0]), 0])
    room = state.objects[victim, _ROOM]
    taken, theirs = min(room, most), state.objects[victim, _LAST]
    kept = state.regions.segments[theirs, BYTES] - taken
    split_end(state.regions, theirs, kept, _new_group(state, block))
    _set_room(state, victim, room - taken)
    return taken


@subroutine
def _cut_group(state, block, wanted):
    """Make a group of so many pages, or of the largest free run, for an object; how many. There are some."""
    size = wanted
    if not find_fit(state.regions, size):
        size = largest_run(state.regions)
        find_fit(state.regions, size)
    place_found(state.regions, _new_group(state, block), size)
    return size


@subroutine
def _extend(state, block, pages):
    """Give an object so many more pages in use, of which there are enough free or unused by others."""
    room = state.objects[block, _ROOM]
    _set_room(state, block, 0)  # its own are not to be taken back meanwhile
    while room < pages:
        needed = pages - room
        if state.regions.counts[FREE] == 0:
            room += _take_back(state, block, needed)
        else:
            room += _cut_group(state, block, max(needed, state.group_pages))
    _set_room(state, block, room - pages)
    state.totals[_USED] += pages


@inlined
def _can_extend(state, pages):
    return pages <= state.regions.counts[FREE] + state.totals[_RESERVED]


@inlined
def _note(state, block, size_bytes, more_pages):
    """An object is of another size from now on, 0 where it is not placed."""
    state.totals[_INTERNAL] += more_pages * state.page_bytes + state.objects[block, _ASKED] - size_bytes
    state.objects[block, _ASKED] = size_bytes


def allocate(state, block, size_bytes):
    if state.objects[block, _ASKED] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    pages = _pages(state, size_bytes)
    if not _can_extend(state, pages):
        return False
    state.objects[block, _LAST] = _NONE
    _extend(state, block, pages)
    _note(state, block, size_bytes, pages)
    return True


def release(state, block):
    if state.objects[block, _ASKED] == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    pages = _pages(state, state.objects[block, _ASKED])
    _set_room(state, block, 0)
    while state.objects[block, _LAST] != _NONE:
        _drop_last_group(state, block)
    state.totals[_USED] -= pages
    _note(state, block, _NOT_PLACED, -pages)


@subroutine
def _shorten(state, block, pages):
    """Let an object not use its last pages, not all of them, and give back the groups of which it uses none."""
    room = state.objects[block, _ROOM] + pages
    while room >= state.regions.segments[state.objects[block, _LAST], BYTES]:
        room -= state.regions.segments[state.objects[block, _LAST], BYTES]
        _drop_last_group(state, block)
    _set_room(state, block, room)
    state.totals[_USED] -= pages


def resize(state, block, size_bytes):
    if state.objects[block, _ASKED] == _NOT_PLACED:
        raise ValueError("the block to resize is not placed")
    if size_bytes < 1:
        raise ValueError("the block to resize has no bytes")
    more = _pages(state, size_bytes) - _pages(state, state.objects[block, _ASKED])
    if more > 0:
        if not _can_extend(state, more):
            return False
        _extend(state, block, more)
    elif more < 0:
        _shorten(state, block, -more)
    _note(state, block, size_bytes, more)
    return True


def free_bytes(state):
    return state.regions.counts[FREE] * state.page_bytes


def largest_free_bytes(state):
    return (state.regions.counts[FREE] + state.totals[_RESERVED]) * state.page_bytes


def internal_bytes(state):
    return state.totals[_INTERNAL]


def reserved_bytes(state):
    return state.totals[_RESERVED] * state.page_bytes


def outside_bytes(state):
    return state.totals[_USED] * state.entry_bytes


def held_bytes(state):
    return (state.totals[_USED] + state.totals[_RESERVED]) * state.page_bytes


@subroutine
def _touches(state, group):
    """Whether a group begins where the one before it in its object ends."""
    segments, before = state.regions.segments, state.before[group]
    return before != _NONE and segments[before, ADDRESS] + segments[before, BYTES] == segments[group, ADDRESS]


def extents(state, block, out):
    runs = 0
    group = state.objects[block, _LAST]
    while group != _NONE:
        runs += not _touches(state, group)
        group = state.before[group]
    at, length = runs - 1, -state.objects[block, _ROOM]
    group = state.objects[block, _LAST]
    while group != _NONE:
        length += state.regions.segments[group, BYTES]
        if not _touches(state, group):
            if at < out.shape[0]:
                out[at, 0] = state.regions.segments[group, ADDRESS] * state.page_bytes
                out[at, 1] = length * state.page_bytes
            at, length = at - 1, 0
        group = state.before[group]
    return runs


ALLOCATOR = Allocator(
    name="block_groups",
    init=init,
    allocate=allocate,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    reserved_bytes=reserved_bytes,
    outside_bytes=outside_bytes,
    held_bytes=held_bytes,
    resize=resize,
    extents=extents,
)
