"""Multi-Queue: LRU queues by the logarithm of a block's access count, which ghosts keep; a block not accessed for a
lifetime sinks by one queue, and the lowest queue's oldest block leaves (Zhou, Philbin and Li, USENIX ATC 2001).

queues: how many. lifetime: accesses after which a block that was not accessed sinks; the paper sets it to the peak of
the workload's temporal distances. history_ratio: how much the ghost queue (Qout) remembers, as a share of the capacity;
the paper advises four times. It is asked before anything is evicted, so a block is not forgotten by its own access.

Time is counted in hits and insertions. Agrees with libCacheSim's MQ to the last miss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.bits import highest_bit
from sim.kernels.compile import inlined, subroutine
from sim.kernels.linked_list import oldest
from sim.kernels.nodes import make_nodes, place_of, push_node, set_place, set_size, size_of, take_node
from sim.policy import NEVER, EvictionPolicy

MOST_QUEUES = 12
GHOST, RECALLED, NOWHERE = 12, 13, 14  # places after the queues': the ghost list, a block that left it now, on no list
CLOCK, EARLIEST = 0, 1  # of times: hits and insertions so far; no block above the lowest queue expires before this


class State(NamedTuple):
    nodes: np.ndarray  # a list a queue, lowest first, and from GHOST on the ghosts; size as inserted
    frequency: np.ndarray  # uint32[blocks]: accesses, as a resident or before it became a ghost
    expiry: np.ndarray  # int64[blocks]: when a resident sinks
    used: np.ndarray  # int64[GHOST + 1]: bytes on each list
    times: np.ndarray  # int64[2]
    first: int  # sentinel of the lowest queue; the others follow
    queues: int
    lifetime: int
    history_capacity: int


def init(context, *, queues=8, lifetime=10_000, history_ratio=4.0):
    if not 1 <= queues <= MOST_QUEUES:
        raise ValueError(f"queues is {queues}; expected 1 to {MOST_QUEUES}")
    if lifetime < 1:
        raise ValueError(f"lifetime is {lifetime}; expected at least 1")
    if not 0 <= history_ratio <= 100:
        raise ValueError(f"history_ratio is {history_ratio}; expected 0 to 100")
    return State(
        nodes=make_nodes(context.blocks, GHOST + 1, NOWHERE),
        frequency=np.zeros(context.blocks, np.uint32),
        expiry=np.zeros(context.blocks, np.int64),
        used=np.zeros(GHOST + 1, np.int64),
        times=np.array([0, NEVER]),
        first=context.blocks,
        queues=queues,
        lifetime=lifetime,
        history_capacity=int(context.capacity * history_ratio),
    )


@inlined
def _push(state, block, place):
    push_node(state.nodes, state.used, state.first, block, place)


@inlined
def _take(state, block):
    take_node(state.nodes, state.used, block, NOWHERE)


@subroutine
def _sink_expired(nodes, used, expiry, times, first, queues, lifetime):
    """Adjust() of the paper: the oldest block of each queue sinks if it has expired.

    Each queue is in order of expiry, so its oldest block says when there is something to do again.
    """
    now, earliest = times[CLOCK], NEVER
    for place in range(1, queues):
        block = np.int64(oldest(nodes, first + place))
        if block != first + place and expiry[block] < now:
            take_node(nodes, used, block, NOWHERE)
            push_node(nodes, used, first, block, place - 1)
            expiry[block] = now + lifetime
            if place > 1:
                earliest = min(earliest, expiry[block])
            block = np.int64(oldest(nodes, first + place))
        if block != first + place:
            earliest = min(earliest, expiry[block])
    times[EARLIEST] = earliest


@inlined
def _enter(state, block):
    """Put a block that is on no list where its frequency belongs, and let time pass."""
    place = min(highest_bit(np.uint64(state.frequency[block])), state.queues - 1)
    _push(state, block, place)
    expiry = state.times[CLOCK] + state.lifetime
    state.expiry[block] = expiry
    state.times[CLOCK] += 1
    if place > 0:
        state.times[EARLIEST] = min(state.times[EARLIEST], expiry)
    if state.times[EARLIEST] < state.times[CLOCK]:
        _sink_expired(state.nodes, state.used, state.expiry, state.times, state.first, state.queues, state.lifetime)


@inlined
def _count(state, block):
    state.frequency[block] = min(np.int64(state.frequency[block]) + 1, 0xFFFFFFFF)


@inlined
def on_hit(state, request):
    _take(state, request.block)
    _count(state, request.block)
    _enter(state, request.block)


@inlined
def on_miss(state, request):
    place = place_of(state.nodes, request.block)
    if place == GHOST:
        take_node(state.nodes, state.used, request.block, RECALLED)
    elif place == RECALLED:
        set_place(state.nodes, request.block, NOWHERE)  # it was not inserted when it was recalled


@inlined
def evict(state, request):
    place = 0
    while state.used[place] == 0:
        place += 1
    victim = np.int64(oldest(state.nodes, state.first + place))
    _take(state, victim)
    size = size_of(state.nodes, victim)
    if size <= state.history_capacity:
        while state.used[GHOST] + size > state.history_capacity:
            _take(state, oldest(state.nodes, state.first + GHOST))
        _push(state, victim, GHOST)
    return victim


@inlined
def on_insert(state, request):
    block = request.block
    place = place_of(state.nodes, block)
    if place == GHOST:  # inserted without an access, as by a prefetch
        _take(state, block)
    elif place != RECALLED:
        state.frequency[block] = 0
    set_size(state.nodes, block, request.size_bytes)
    _count(state, block)
    _enter(state, block)


@inlined
def remove(state, block):
    _take(state, block)


POLICY = EvictionPolicy(
    name="mq", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
