"""Clock2Q+: S3-FIFO's three queues with a correlation window: hits on a block that entered the small queue just now do
not count, since they belong to the same burst (Zhai et al., VLDB 2026, arXiv:2511.21958).

small_ratio: the small queue's share of the capacity. ghost_ratio: how much the ghost queue remembers, as a share of the
capacity. promotion_hits: hits beyond the window that a block needs to enter the main queue, a CLOCK with one bit.
window_ratio: the window as a share of the small queue: a block leaves it once so many bytes have entered that queue
after it.

libCacheSim's Clock2QPlus differs (`as_libcachesim`) as its S3FIFO does: until the first eviction new blocks fill the
main queue once the small one is full, and a block promoted into a full main queue does not make that give one up at
once. With sizes in bytes it also compares the window, in bytes, with the number of blocks that entered, so that hardly
any hit counts. With it the counts agree to the last miss. It also refuses blocks larger than the small queue;
`admission: size` does the same here. In both forms the ghost queue is asked before anything is evicted.
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
MOST_HITS = 15
ENTERED, EVICTED = 0, 1  # of counts: bytes (libCacheSim: blocks) that entered the small queue; 1 after an eviction


class State(NamedTuple):
    nodes: np.ndarray  # the three lists; place, hits, and size as inserted, of residents and ghosts
    entered: np.ndarray  # int64[blocks]: of a block in the small queue, counts[ENTERED] when it had entered
    used: np.ndarray  # int64[3]: bytes on each list
    counts: np.ndarray  # int64[2]
    queues: int  # sentinel of the small list; main and ghost follow
    small_capacity: int
    main_capacity: int
    ghost_capacity: int
    promotion_hits: int
    window: float
    as_libcachesim: bool


def init(context, *, small_ratio=0.1, ghost_ratio=0.9, promotion_hits=1, window_ratio=0.5, as_libcachesim=False):
    if not 0 < small_ratio < 1:
        raise ValueError(f"small_ratio is {small_ratio}; expected between 0 and 1")
    if not 0 <= ghost_ratio <= 100:
        raise ValueError(f"ghost_ratio is {ghost_ratio}; expected 0 to 100")
    if not 1 <= promotion_hits <= MOST_HITS:
        raise ValueError(f"promotion_hits is {promotion_hits}; expected 1 to {MOST_HITS}")
    if not 0 <= window_ratio <= 1:
        raise ValueError(f"window_ratio is {window_ratio}; expected 0 to 1")
    small = int(context.capacity * small_ratio)
    return State(
        nodes=make_nodes(context.blocks, 3, NOWHERE),
        entered=np.zeros(context.blocks, np.int64),
        used=np.zeros(3, np.int64),
        counts=np.zeros(2, np.int64),
        queues=context.blocks,
        small_capacity=small,
        main_capacity=context.capacity - small,
        ghost_capacity=int(context.capacity * ghost_ratio),
        promotion_hits=promotion_hits,
        window=small * window_ratio,
        as_libcachesim=as_libcachesim,
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
    """The victim of the main queue, -1 where that is empty: its oldest end is the hand of a CLOCK."""
    while True:
        block = np.int64(oldest(nodes, queue))
        if block == queue:
            return np.int64(-1)
        if counter_of(nodes, block) == 0:
            take_node(nodes, used, block, NOWHERE)
            return block
        set_counter(nodes, block, 0)
        unlink(nodes, block)
        push_newest(nodes, queue, block)


@inlined
def _evict_small(state):
    """The victim of the small queue, or of the main one where a promotion overfills it; -1 where all were promoted."""
    queue = state.queues + SMALL
    while True:
        block = np.int64(oldest(state.nodes, queue))
        if block == queue:
            return -1
        hits = counter_of(state.nodes, block)
        _take(state, block)
        if hits < state.promotion_hits:
            _remember(state, block)
            return block
        _push(state, block, MAIN)
        if not state.as_libcachesim and state.used[MAIN] > state.main_capacity:
            return _evict_main(state.nodes, state.used, state.queues + MAIN)


@inlined
def _small_is_due(state):
    """Whether the small queue is to give up a block rather than the main one."""
    if state.as_libcachesim:
        return state.used[MAIN] <= state.main_capacity
    return state.used[SMALL] >= state.small_capacity


@inlined
def on_hit(state, request):
    block = request.block
    if place_of(state.nodes, block) == MAIN:
        set_counter(state.nodes, block, 1)
    elif state.counts[ENTERED] - state.entered[block] >= state.window:
        set_counter(state.nodes, block, min(counter_of(state.nodes, block) + 1, MOST_HITS))


@inlined
def on_miss(state, request):
    place = place_of(state.nodes, request.block)
    if place == GHOST:
        take_node(state.nodes, state.used, request.block, RECALLED)
    elif place == RECALLED:
        set_place(state.nodes, request.block, NOWHERE)  # it was not inserted when it was recalled


@inlined
def evict(state, request):
    state.counts[EVICTED] = 1
    victim = np.int64(-1)
    if not _small_is_due(state):
        victim = _evict_main(state.nodes, state.used, state.queues + MAIN)
    if victim < 0:
        victim = _evict_small(state)
    if victim < 0:  # all of the small queue was promoted
        victim = _evict_main(state.nodes, state.used, state.queues + MAIN)
    return victim


@inlined
def on_insert(state, request):
    block = request.block
    place = place_of(state.nodes, block)
    if place == GHOST:  # inserted without an access, as by a prefetch
        _take(state, block)
    set_size(state.nodes, block, request.size_bytes)
    fills_main = state.as_libcachesim and state.counts[EVICTED] == 0 and state.used[SMALL] >= state.small_capacity
    if place in (GHOST, RECALLED) or fills_main:
        _push(state, block, MAIN)
        return
    state.counts[ENTERED] += 1 if state.as_libcachesim else request.size_bytes
    state.entered[block] = state.counts[ENTERED]
    _push(state, block, SMALL)


@inlined
def remove(state, block):
    _take(state, block)


POLICY = EvictionPolicy(
    name="clock2qplus", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
