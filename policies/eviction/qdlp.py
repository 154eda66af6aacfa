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

from sim.kernels.compile import inlined, kernel
from sim.kernels.linked_list import oldest, push_newest, unlink
from sim.kernels.nodes import (
    counter_of,
    make_nodes,
    place_of,
    push_node,
    set_counter,
    set_place,
    set_size,
    size_of,
    take_node,
)
from sim.policy import EvictionPolicy

SMALL, MAIN, GHOST = 0, 1, 2  # lists, by number
RECALLED, NOWHERE = 3, 4  # the place of a block that left the ghost queue by this access; of one that is on no list


class State(NamedTuple):
    nodes: np.ndarray  # the three lists; place, hits, and size as inserted, of residents and ghosts
    used: np.ndarray  # int64[3]: bytes on each list
    queues: int  # sentinel of the small list; main and ghost follow
    main_capacity: int
    ghost_capacity: int
    most_hits: int


def init(context, *, small_ratio=0.1, ghost_ratio=0.9, bits=2):
    if not 0 < small_ratio < 1:
        raise ValueError(f"small_ratio is {small_ratio}; expected between 0 and 1")
    if not 0 <= ghost_ratio <= 100:
        raise ValueError(f"ghost_ratio is {ghost_ratio}; expected 0 to 100")
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
def _push(state, block, place):
    """Put a block that is on no list on one, its hits forgotten."""
    push_node(state.nodes, state.used, state.queues, block, place)
    set_counter(state.nodes, block, 0)


@inlined
def _take(state, block):
    take_node(state.nodes, state.used, block, NOWHERE)


@inlined
def _remember(state, block):
    """Make a ghost of `block`, forgetting the oldest ghosts for it."""
    size = size_of(state.nodes, block)
    if size > state.ghost_capacity:
        return
    while state.used[GHOST] + size > state.ghost_capacity:
        _take(state, oldest(state.nodes, state.queues + GHOST))
    _push(state, block, GHOST)


@kernel
def _evict_main(nodes, used, queue):
    """The victim of the main queue, which is not empty: its oldest end is the hand of a CLOCK."""
    while True:
        block = np.int64(oldest(nodes, queue))
        hits = counter_of(nodes, block)
        if hits == 0:
            take_node(nodes, used, block, NOWHERE)
            return block
        set_counter(nodes, block, hits - 1)
        unlink(nodes, block)
        push_newest(nodes, queue, block)


@inlined
def on_hit(state, request):
    hits = counter_of(state.nodes, request.block)
    set_counter(state.nodes, request.block, min(hits + 1, state.most_hits))  # no branch to mispredict


@inlined
def on_miss(state, request):
    place = place_of(state.nodes, request.block)
    if place == GHOST:
        take_node(state.nodes, state.used, request.block, RECALLED)
    elif place == RECALLED:
        set_place(state.nodes, request.block, NOWHERE)  # it was not inserted when it was recalled


@inlined
def evict(state, request):
    main = state.queues + MAIN
    coming = request.size_bytes if place_of(state.nodes, request.block) == RECALLED else 0
    crowded = state.used[MAIN] > 0 and state.used[MAIN] + coming > state.main_capacity
    while not crowded and state.used[SMALL] > 0:
        block = np.int64(oldest(state.nodes, state.queues + SMALL))
        hits = counter_of(state.nodes, block)
        _take(state, block)
        if hits == 0:
            _remember(state, block)
            return block
        _push(state, block, MAIN)
        crowded = state.used[MAIN] + coming > state.main_capacity
    return _evict_main(state.nodes, state.used, main)


@inlined
def on_insert(state, request):
    block = request.block
    place = place_of(state.nodes, block)
    if place == GHOST:  # inserted without an access, as by a prefetch
        _take(state, block)
    set_size(state.nodes, block, request.size_bytes)
    _push(state, block, MAIN if place in (GHOST, RECALLED) else SMALL)


@inlined
def remove(state, block):
    _take(state, block)


POLICY = EvictionPolicy(
    name="qdlp", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
