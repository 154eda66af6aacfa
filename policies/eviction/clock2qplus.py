"""Clock2Q+: S3-FIFO's three queues with a correlation window: hits on a block that entered the small queue just now do
not count, since they belong to the same burst (Zhai et al., VLDB 2026, arXiv:2511.21958).

small_ratio: the small queue's share of the capacity. ghost_ratio: how much the ghost queue remembers, as a share of the
capacity. promotion_hits: hits beyond the window that a block needs to enter the main queue, a CLOCK with one bit.
window_ratio: the window as a share of the small queue: a block leaves it once so many bytes have entered that queue
after it.

libCacheSim's Clock2QPlus differs (`as_libcachesim`) as its S3FIFO does: until the first eviction new blocks fill the
main queue once the small one is full, and a block promoted into a full main queue does not make that give one up at
once. With sizes in bytes it also compares the window, in bytes, with the number of blocks that entered, so that hardly
any hit counts. It refuses the blocks that its S3FIFO refuses. With it the counts agree to the last miss, with the same
exception. In both forms the ghost queue is asked before anything is evicted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.probation import (
    MAIN,
    NOWHERE,
    SMALL,
    check_ratios,
    enter,
    is_admitted,
    lazily_promoted_victim,
    leave,
    recall,
    was_remembered,
)
from sim.kernels.rings import Rings, bytes_on, counter_of, make_rings, place_of, set_counter
from sim.policy import EvictionPolicy

MOST_HITS = 15
ENTERED, EVICTED = 0, 1  # of counts: bytes (libCacheSim: blocks) that entered the small queue; 1 after an eviction


class State(NamedTuple):
    rings: Rings  # the three queues; place, hits, and size as inserted, of residents and ghosts
    entered: np.ndarray  # int64[blocks]: of a block in the small queue, counts[ENTERED] when it had entered
    counts: np.ndarray  # int64[2]
    small_capacity: int
    main_capacity: int
    ghost_capacity: int
    promotion_hits: int
    window: float
    as_libcachesim: bool


def init(context, *, small_ratio=0.1, ghost_ratio=0.9, promotion_hits=1, window_ratio=0.5, as_libcachesim=False):
    check_ratios(small_ratio, ghost_ratio)
    if not 1 <= promotion_hits <= MOST_HITS:
        raise ValueError(f"promotion_hits is {promotion_hits}; expected 1 to {MOST_HITS}")
    if not 0 <= window_ratio <= 1:
        raise ValueError(f"window_ratio is {window_ratio}; expected 0 to 1")
    small = int(context.capacity * small_ratio)
    ghosts = int(context.capacity * ghost_ratio)
    return State(
        rings=make_rings(context, 3, NOWHERE, capacity=ghosts),
        entered=np.zeros(context.blocks, np.int64),
        counts=np.zeros(2, np.int64),
        small_capacity=small,
        main_capacity=context.capacity - small,
        ghost_capacity=ghosts,
        promotion_hits=promotion_hits,
        window=small * window_ratio,
        as_libcachesim=as_libcachesim,
    )


@inlined
def on_hit(state, request):
    block = request.block
    if place_of(state.rings, block) == MAIN:
        set_counter(state.rings, block, 1)
    elif state.counts[ENTERED] - state.entered[block] >= state.window:
        set_counter(state.rings, block, min(counter_of(state.rings, block) + 1, MOST_HITS))


@inlined
def on_miss(state, request):
    recall(state, request.block)


@inlined
def admit(state, request):
    return is_admitted(state, request)


@inlined
def evict(state, request):
    state.counts[EVICTED] = 1
    return lazily_promoted_victim(state)


@inlined
def on_insert(state, request):
    block = request.block
    returns = was_remembered(state, request)
    full = bytes_on(state.rings, SMALL) >= state.small_capacity
    fills_main = full and state.as_libcachesim and state.counts[EVICTED] == 0
    if returns or fills_main:
        enter(state, block, MAIN)
        return
    state.counts[ENTERED] += 1 if state.as_libcachesim else request.size_bytes
    state.entered[block] = state.counts[ENTERED]
    enter(state, block, SMALL)


@inlined
def remove(state, block):
    leave(state, block)


POLICY = EvictionPolicy(
    name="clock2qplus",
    init=init,
    on_hit=on_hit,
    on_miss=on_miss,
    on_insert=on_insert,
    admit=admit,
    evict=evict,
    remove=remove,
)
