"""QD-LP-FIFO, quick demotion and lazy promotion: new blocks pass a small FIFO queue and reach a main CLOCK only if hit
there, or if they come back while a ghost queue remembers them (Yang et al., "FIFO can be better than LRU", HotOS 2023).

small_ratio: the small queue's share of the capacity. ghost_ratio: how much the ghost queue remembers, as a share of the
capacity; the paper has as many ghosts as the main queue has blocks. bits: of the main queue's counters.

The main queue has the rest of the capacity, and a block promoted into it when it is full makes it give one up. Until it
is full the small queue uses what it leaves. The ghost queue is asked before anything is evicted.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.kernels.compile import inlined
from sim.kernels.probation import (
    MAIN,
    NOWHERE,
    RECALLED,
    SMALL,
    check_ratios,
    clock_victim,
    enter,
    leave,
    recall,
    remember,
    was_remembered,
)
from sim.kernels.rings import Rings, bytes_on, counter_of, make_rings, place_of, set_counter, take_oldest
from sim.policy import EvictionPolicy


class State(NamedTuple):
    rings: Rings  # the three queues; place, hits, and size as inserted, of residents and ghosts
    main_capacity: int
    ghost_capacity: int
    most_hits: int


def init(context, *, small_ratio=0.1, ghost_ratio=0.9, bits=2):
    check_ratios(small_ratio, ghost_ratio)
    if not 1 <= bits <= 4:
        raise ValueError(f"bits is {bits}; expected 1 to 4")
    ghosts = int(context.capacity * ghost_ratio)
    return State(
        rings=make_rings(context, 3, NOWHERE, capacity=ghosts),
        main_capacity=context.capacity - int(context.capacity * small_ratio),
        ghost_capacity=ghosts,
        most_hits=2**bits - 1,
    )


@inlined
def on_hit(state, request):
    hits = counter_of(state.rings, request.block)
    set_counter(state.rings, request.block, min(hits + 1, state.most_hits))  # no branch to mispredict


@inlined
def on_miss(state, request):
    recall(state, request.block)


@inlined
def evict(state, request):
    rings = state.rings
    coming = request.size_bytes if place_of(rings, request.block) == RECALLED else 0
    crowded = bytes_on(rings, MAIN) > 0 and bytes_on(rings, MAIN) + coming > state.main_capacity
    while not crowded and bytes_on(rings, SMALL) > 0:
        block = take_oldest(rings, SMALL)
        if counter_of(rings, block) == 0:
            remember(state, block)
            return block
        enter(state, block, MAIN)
        crowded = bytes_on(rings, MAIN) + coming > state.main_capacity
    return clock_victim(rings)


@inlined
def on_insert(state, request):
    enter(state, request.block, MAIN if was_remembered(state, request) else SMALL)


@inlined
def remove(state, block):
    leave(state, block)


POLICY = EvictionPolicy(
    name="qdlp", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
