"""Segmented LRU: a new block enters the lowest of several LRU queues, each hit lifts it by one, and overflow sinks
back (Karedla, Love and Wherry 1994).

`segments` queues of an equal share of the capacity each; the lowest takes whatever the others leave, and its least
recently used block leaves the cache.

libCacheSim's SLRU differs (`as_libcachesim`): while a segment has room a new block enters the lowest that has, and
what sinks out of a full lowest segment leaves the cache at once, during a hit. A policy cannot evict during a hit, so
such a block waits to be the next victim. If it is accessed before that, libCacheSim counts a miss; here it is a hit,
handled as the insertion that it is there and counted in `late_hits`. Misses plus late hits are libCacheSim's
misses, to the last one. It refuses blocks larger than a segment.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.rings import (
    Rings,
    bytes_on,
    make_rings,
    move_to_newest,
    place_of,
    push,
    set_info,
    set_size,
    size_of,
    take,
    take_oldest,
)
from sim.policy import EvictionPolicy


class State(NamedTuple):
    rings: Rings  # a queue a segment, lowest first, and last the blocks that wait to leave; size as inserted
    late_hits: np.ndarray  # int64[1]: hits on blocks that libCacheSim would have evicted
    segments: int
    share: int  # capacity of each segment
    capacity: int
    as_libcachesim: bool


def init(context, *, segments=4, as_libcachesim=False):
    if not 1 <= segments <= 8:
        raise ValueError(f"segments is {segments}; expected 1 to 8")
    return State(
        rings=make_rings(context, segments + 1),
        late_hits=np.zeros(1, np.int64),
        segments=segments,
        share=context.capacity // segments,
        capacity=context.capacity,
        as_libcachesim=as_libcachesim,
    )


@inlined
def _push(state, block, segment):
    set_info(state.rings, block, segment, 0)
    push(state.rings, segment, block)


@inlined
def _sink(state, segment):
    """Move the oldest blocks of an overfull segment down, and so on as long as that overfills the next.

    Only libCacheSim limits the lowest segment, and only here; what sinks out of it waits to leave.
    """
    floor = 0 if state.as_libcachesim else 1
    while segment >= floor and bytes_on(state.rings, segment) > state.share:
        while bytes_on(state.rings, segment) > state.share:
            _push(state, take_oldest(state.rings, segment), segment - 1 if segment > 0 else state.segments)
        segment -= 1


@inlined
def _take_lowest(state):
    """Take the oldest block off the lowest segment that has any; one has."""
    segment = 0
    while bytes_on(state.rings, segment) == 0:
        segment += 1
    return take_oldest(state.rings, segment)


@inlined
def _resident_bytes(state):
    """What libCacheSim would hold."""
    total = 0
    for segment in range(state.segments):
        total += bytes_on(state.rings, segment)
    return total


@inlined
def _enter(state, block):
    """Insert as libCacheSim does: the lowest segment with room, else the lowest."""
    for segment in range(state.segments):
        if bytes_on(state.rings, segment) + size_of(state.rings, block) <= state.share:
            _push(state, block, segment)
            return
    _push(state, block, 0)


@subroutine
def _enter_late(state, block):
    """A hit on a block that waits to leave: libCacheSim makes room and inserts it again."""
    state.late_hits[0] += 1
    take(state.rings, state.segments, block)
    while _resident_bytes(state) + size_of(state.rings, block) > state.capacity:
        _push(state, _take_lowest(state), state.segments)
    _enter(state, block)


@inlined
def on_hit(state, request):
    block = request.block
    segment = place_of(state.rings, block)
    if segment == state.segments:
        _enter_late(state, block)
    elif segment == state.segments - 1:
        move_to_newest(state.rings, segment, block)
    else:
        take(state.rings, segment, block)
        _push(state, block, segment + 1)
        _sink(state, segment + 1)


@inlined
def on_insert(state, request):
    set_size(state.rings, request.block, request.size_bytes)
    if state.as_libcachesim:
        _enter(state, request.block)
    else:
        _push(state, request.block, 0)


@inlined
def admit(state, request):
    return not state.as_libcachesim or request.size_bytes <= state.share


@inlined
def evict(state, request):
    if bytes_on(state.rings, state.segments) > 0:
        return take_oldest(state.rings, state.segments)
    return _take_lowest(state)


@inlined
def remove(state, block):
    take(state.rings, place_of(state.rings, block), block)


POLICY = EvictionPolicy(
    name="slru",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    admit=admit,
    evict=evict,
    remove=remove,
    counts=("late_hits",),
)
