"""QD-LP-FIFO, quick demotion and lazy promotion: new blocks pass a small FIFO queue and reach a main CLOCK only if hit
there, or if they come back while a ghost queue remembers them (Yang et al., "FIFO can be better than LRU", HotOS 2023).

small_ratio: the small queue's share of the capacity. ghost_ratio: how much the ghost queue remembers, as a share of the
capacity; the paper has as many ghosts as the main queue has blocks. bits: of the main queue's counters.

The main queue has the rest of the capacity, and a block promoted into it when it is full makes it give one up. Until it
is full the small queue uses what it leaves. The ghost queue is asked before anything is evicted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.linked_list import oldest
from sim.kernels.nodes import counter_of, make_nodes, place_of, set_counter
from sim.kernels.probation import (
    MAIN,
    NOWHERE,
    RECALLED,
    SMALL,
    check_ratios,
    clock_victim,
    push,
    recall,
    remember,
    take,
    was_remembered,
)
from sim.policy import EvictionPolicy


class State(NamedTuple):
    nodes: np.ndarray  # the three lists; place, hits, and size as inserted, of residents and ghosts
    used: np.ndarray  # int64[3]: bytes on each list
    queues: int  # sentinel of the small list; main and ghost follow
    main_capacity: int
    ghost_capacity: int
    most_hits: int


def init(context, *, small_ratio=0.1, ghost_ratio=0.9, bits=2):
    check_ratios(small_ratio, ghost_ratio)
    if not 1 <= bits <= 4:
        raise ValueError(f"bits is {bits}; expected 1 to 4")
    return State(
        nodes=make_nodes(context.blocks, 3, NOWHERE),
        used=np.zeros(3, np.int64),
        queues=context.blocks,
        main_capacity=context.capacity - int(context.capacity * small_ratio),
        ghost_capacity=int(context.capacity * ghost_ratio),
        most_hits=2**bits - 1,
    )


@inlined
def on_hit(state, request):
    hits = counter_of(state.nodes, request.block)
    set_counter(state.nodes, request.block, min(hits + 1, state.most_hits))  # no branch to mispredict


@inlined
def on_miss(state, request):
    recall(state, request.block)


@inlined
def evict(state, request):
    main = state.queues + MAIN
    coming = request.size_bytes if place_of(state.nodes, request.block) == RECALLED else 0
    crowded = state.used[MAIN] > 0 and state.used[MAIN] + coming > state.main_capacity
    while not crowded and state.used[SMALL] > 0:
        block = np.int64(oldest(state.nodes, state.queues + SMALL))
        hits = counter_of(state.nodes, block)
        take(state, block)
        if hits == 0:
            remember(state, block)
            return block
        push(state, block, MAIN)
        crowded = state.used[MAIN] + coming > state.main_capacity
    return clock_victim(state.nodes, state.used, main)


@inlined
def on_insert(state, request):
    push(state, request.block, MAIN if was_remembered(state, request) else SMALL)


@inlined
def remove(state, block):
    take(state, block)


POLICY = EvictionPolicy(
    name="qdlp", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
