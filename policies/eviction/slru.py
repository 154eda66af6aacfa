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
from sim.kernels.linked_list import oldest, push_newest, unlink
from sim.kernels.nodes import make_nodes, place_of, push_node, set_size, size_of, take_node
from sim.policy import EvictionPolicy


class State(NamedTuple):
    nodes: np.ndarray  # a list a segment, lowest first, and last the blocks that wait to leave; size as inserted
    used: np.ndarray  # int64[segments + 1]: bytes on each list
    late_hits: np.ndarray  # int64[1]: hits on blocks that libCacheSim would have evicted
    queues: int  # sentinel of the lowest segment; the others follow
    segments: int
    share: int  # capacity of each segment
    capacity: int
    as_libcachesim: bool


def init(context, *, segments=4, as_libcachesim=False):
    if not 1 <= segments <= 8:
        raise ValueError(f"segments is {segments}; expected 1 to 8")
    return State(
        nodes=make_nodes(context.blocks, segments + 1),
        used=np.zeros(segments + 1, np.int64),
        late_hits=np.zeros(1, np.int64),
        queues=context.blocks,
        segments=segments,
        share=context.capacity // segments,
        capacity=context.capacity,
        as_libcachesim=as_libcachesim,
    )


@inlined
def _push(state, block, segment):
    push_node(state.nodes, state.used, state.queues, block, segment)


@inlined
def _take(state, block):
    take_node(state.nodes, state.used, block, 0)


@inlined
def _sink(state, segment):
    """Move the oldest blocks of an overfull segment down, and so on as long as that overfills the next.

    Only libCacheSim limits the lowest segment, and only here; what sinks out of it waits to leave.
    """
    floor = 0 if state.as_libcachesim else 1
    while segment >= floor and state.used[segment] > state.share:
        while state.used[segment] > state.share:
            block = oldest(state.nodes, state.queues + segment)
            _take(state, block)
            _push(state, block, segment - 1 if segment > 0 else state.segments)
        segment -= 1


@inlined
def _lowest_block(state):
    """The oldest block of the lowest segment that has any, the sentinel above them all where none has."""
    for queue in range(state.queues, state.queues + state.segments):
        block = oldest(state.nodes, queue)
        if block != queue:
            return np.int64(block)
    return np.int64(state.queues + state.segments)


@inlined
def _resident_bytes(state):
    """What libCacheSim would hold."""
    total = 0
    for segment in range(state.segments):
        total += state.used[segment]
    return total


@inlined
def _enter(state, block):
    """Insert as libCacheSim does: the lowest segment with room, else the lowest."""
    for segment in range(state.segments):
        if state.used[segment] + size_of(state.nodes, block) <= state.share:
            _push(state, block, segment)
            return
    _push(state, block, 0)


@subroutine
def _enter_late(state, block):
    """A hit on a block that waits to leave: libCacheSim makes room and inserts it again."""
    state.late_hits[0] += 1
    _take(state, block)
    while _resident_bytes(state) + size_of(state.nodes, block) > state.capacity:
        victim = _lowest_block(state)
        _take(state, victim)
        _push(state, victim, state.segments)
    _enter(state, block)


@inlined
def on_hit(state, request):
    block = request.block
    segment = place_of(state.nodes, block)
    if segment == state.segments:
        _enter_late(state, block)
    elif segment == state.segments - 1:
        unlink(state.nodes, block)
        push_newest(state.nodes, state.queues + segment, block)
    else:
        _take(state, block)
        _push(state, block, segment + 1)
        _sink(state, segment + 1)


@inlined
def on_insert(state, request):
    set_size(state.nodes, request.block, request.size_bytes)
    if state.as_libcachesim:
        _enter(state, request.block)
    else:
        _push(state, request.block, 0)


@inlined
def admit(state, request):
    return not state.as_libcachesim or request.size_bytes <= state.share


@inlined
def evict(state, request):
    waiting = state.queues + state.segments
    victim = np.int64(oldest(state.nodes, waiting))
    if victim == waiting:
        victim = _lowest_block(state)
    _take(state, victim)
    return victim


@inlined
def remove(state, block):
    _take(state, block)


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
