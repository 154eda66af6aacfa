"""S3-FIFO: new blocks pass a small FIFO queue and reach the main one only if hit there often enough, or if they come
back while a ghost queue remembers them (Yang et al., SOSP 2023).

small_ratio: the small queue's share of the capacity. ghost_ratio: how much the ghost queue remembers, as a share of
the capacity. promotion_hits: hits in the small queue that a block needs to enter the main one. A block in the main
queue is reinserted once for each hit, three at most.

libCacheSim's S3FIFO differs from the paper's algorithm 1 (`as_libcachesim`): until the first eviction new blocks fill
the main queue once the small one is full, and a block promoted into a full main queue does not make that give one up
at once. It also refuses blocks that are not smaller than the small queue, but for one of just its size that comes back
from the ghosts. With it the counts agree to the last miss, unless there are blocks of just that size, for which it
evicts before it refuses them. In both forms the ghost queue is asked before anything is evicted.
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
from sim.kernels.rings import Rings, bytes_on, counter_of, make_rings, set_counter
from sim.policy import EvictionPolicy

MOST_HITS = 3


class State(NamedTuple):
    rings: Rings  # the three queues; place, hits, and size as inserted, of residents and ghosts
    evicted: np.ndarray  # int64[1]: 1 after the first eviction
    small_capacity: int
    main_capacity: int
    ghost_capacity: int
    promotion_hits: int
    as_libcachesim: bool


def init(context, *, small_ratio=0.1, ghost_ratio=0.9, promotion_hits=2, as_libcachesim=False):
    check_ratios(small_ratio, ghost_ratio)
    if not 1 <= promotion_hits <= MOST_HITS:
        raise ValueError(f"promotion_hits is {promotion_hits}; expected 1 to {MOST_HITS}")
    small = int(context.capacity * small_ratio)
    ghosts = int(context.capacity * ghost_ratio)
    return State(
        rings=make_rings(context, 3, NOWHERE, capacity=ghosts),
        evicted=np.zeros(1, np.int64),
        small_capacity=small,
        main_capacity=context.capacity - small,
        ghost_capacity=ghosts,
        promotion_hits=promotion_hits,
        as_libcachesim=as_libcachesim,
    )


@inlined
def on_hit(state, request):
    hits = counter_of(state.rings, request.block)
    set_counter(state.rings, request.block, min(hits + 1, MOST_HITS))  # no branch to mispredict


@inlined
def on_miss(state, request):
    recall(state, request.block)


@inlined
def admit(state, request):
    return is_admitted(state, request)


@inlined
def evict(state, request):
    state.evicted[0] = 1
    return lazily_promoted_victim(state)


@inlined
def on_insert(state, request):
    returns = was_remembered(state, request)
    fills_main = state.as_libcachesim and state.evicted[0] == 0 and bytes_on(state.rings, SMALL) >= state.small_capacity
    enter(state, request.block, MAIN if returns or fills_main else SMALL)


@inlined
def remove(state, block):
    leave(state, block)


POLICY = EvictionPolicy(
    name="s3fifo",
    init=init,
    on_hit=on_hit,
    on_miss=on_miss,
    on_insert=on_insert,
    admit=admit,
    evict=evict,
    remove=remove,
)
