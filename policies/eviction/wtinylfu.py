"""W-TinyLFU: new blocks enter a small LRU window; what falls out of it enters the main segmented LRU only if a sketch
of recent accesses says that it is the more popular of itself and the block that it would replace (Einziger, Friedman
and Manes, ACM Transactions on Storage 2017).

window_ratio: the window's share of the capacity; protected_ratio: the protected segment's share of the rest. The sketch
is a count-min sketch with counters of 4 bits that is halved after sample_factor times as many accesses as the cache has
held blocks. counters: in each of its four rows, 0 for as many as the trace has blocks. doorkeeper: let only blocks seen
before into the sketch. Accesses are hits, misses, and insertions without an access.

The window holds the newest block even where its share is less. Sizes do not enter the comparison, as in the paper;
where a block admitted is larger than the one it replaced, the next eviction is from the main part.

libCacheSim's WTinyLFU differs in most of this (a sketch of 32-bit counters that counts hits in the main part,
insertions and falls from the window; libCacheSim's own SLRU; and it refuses every block larger than the window, which
is all of them in a cache of fewer than 100 blocks), so its counts are not compared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.frequency_sketch import Sketch, count_access, estimate, make_sketch
from sim.kernels.linked_list import oldest, push_newest, unlink
from sim.kernels.nodes import make_nodes, place_of, push_node, set_size, size_of, take_node
from sim.policy import EvictionPolicy

WINDOW, PROBATION, PROTECTED = 0, 1, 2  # lists, by number
RESIDENTS, MOST_RESIDENTS, NOTED = 0, 1, 2  # of counts: blocks now; blocks at most so far; block of the last miss


class State(NamedTuple):
    nodes: np.ndarray  # the three lists; place, and size as inserted
    used: np.ndarray  # int64[3]: bytes on each list
    sketch: Sketch
    counts: np.ndarray  # int64[3]
    queues: int  # sentinel of the window; the others follow
    window_capacity: int
    main_capacity: int
    protected_capacity: int
    sample_factor: int


def init(context, *, window_ratio=0.01, protected_ratio=0.8, sample_factor=10, counters=0, doorkeeper=False):
    if not 0 <= window_ratio <= 1:
        raise ValueError(f"window_ratio is {window_ratio}; expected 0 to 1")
    if not 0 <= protected_ratio <= 1:
        raise ValueError(f"protected_ratio is {protected_ratio}; expected 0 to 1")
    if sample_factor < 1:
        raise ValueError(f"sample_factor is {sample_factor}; expected at least 1")
    if counters < 0:
        raise ValueError(f"counters is {counters}; expected at least 0")
    window = int(context.capacity * window_ratio)
    main = context.capacity - window
    return State(
        nodes=make_nodes(context.blocks, 3),
        used=np.zeros(3, np.int64),
        sketch=make_sketch(counters or context.blocks, doorkeeper),
        counts=np.array([0, 0, -1]),
        queues=context.blocks,
        window_capacity=window,
        main_capacity=main,
        protected_capacity=int(main * protected_ratio),
        sample_factor=sample_factor,
    )


@inlined
def _push(state, block, place):
    push_node(state.nodes, state.used, state.queues, block, place)


@inlined
def _take(state, block):
    take_node(state.nodes, state.used, block, WINDOW)


@inlined
def _count(state, block):
    count_access(state.sketch, block, state.sample_factor * max(state.counts[MOST_RESIDENTS], 1))


@inlined
def _protect(state, block):
    """A hit in the probation segment: what the protected one cannot hold sinks back."""
    _take(state, block)
    _push(state, block, PROTECTED)
    while state.used[PROTECTED] > state.protected_capacity:
        sinking = oldest(state.nodes, state.queues + PROTECTED)
        _take(state, sinking)
        _push(state, sinking, PROBATION)


@inlined
def on_hit(state, request):
    block = request.block
    _count(state, block)
    place = place_of(state.nodes, block)
    if place == PROBATION:
        _protect(state, block)
    else:
        unlink(state.nodes, block)
        push_newest(state.nodes, state.queues + place, block)


@inlined
def on_miss(state, request):
    _count(state, request.block)
    state.counts[NOTED] = request.block


@inlined
def _main_victim(state):
    """The block that the main part would give up; a sentinel where it is empty."""
    block = np.int64(oldest(state.nodes, state.queues + PROBATION))
    if block == state.queues + PROBATION:
        block = np.int64(oldest(state.nodes, state.queues + PROTECTED))
    return block


@inlined
def evict(state, request):
    candidate = np.int64(oldest(state.nodes, state.queues + WINDOW))
    victim = _main_victim(state)
    window_is_full = state.used[WINDOW] + request.size_bytes > state.window_capacity
    if candidate != state.queues + WINDOW and (window_is_full or victim >= state.queues):
        if victim >= state.queues or estimate(state.sketch, candidate) <= estimate(state.sketch, victim):
            victim = candidate
        else:
            _take(state, candidate)
            _push(state, candidate, PROBATION)
    _take(state, victim)
    state.counts[RESIDENTS] -= 1
    return victim


@inlined
def on_insert(state, request):
    block = request.block
    if state.counts[NOTED] != block:  # inserted without an access, as by a prefetch
        _count(state, block)
    state.counts[NOTED] = -1
    set_size(state.nodes, block, request.size_bytes)
    _push(state, block, WINDOW)
    state.counts[RESIDENTS] += 1
    state.counts[MOST_RESIDENTS] = max(state.counts[MOST_RESIDENTS], state.counts[RESIDENTS])
    falling = np.int64(oldest(state.nodes, state.queues + WINDOW))
    while falling != block and state.used[WINDOW] > state.window_capacity:
        if state.used[PROBATION] + state.used[PROTECTED] + size_of(state.nodes, falling) > state.main_capacity:
            return
        _take(state, falling)
        _push(state, falling, PROBATION)
        falling = np.int64(oldest(state.nodes, state.queues + WINDOW))


@inlined
def remove(state, block):
    _take(state, block)
    state.counts[RESIDENTS] -= 1


POLICY = EvictionPolicy(
    name="wtinylfu", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
