"""LRU-K: the block whose K-th last access is longest ago leaves, before all a block with fewer than K accesses, the
least recently used of those first (O'Neil, O'Neil and Weikum, SIGMOD 1993).

k: which access decides. correlated_period: accesses to the same block no more than this apart count as one, and keep it
from being evicted meanwhile, unless all blocks are kept so; then the least recently used leaves. The unit is hits and
insertions of this cache. history_ratio: how many evicted blocks' accesses are remembered, as a share of the capacity;
those evicted first are forgotten first (the paper forgets by time). It is asked before anything is evicted.

libCacheSim's LRU_K forgets a block with its eviction: with history_ratio=0 and k=2 the counts agree to the last miss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.lazy_heap import SECOND, LazyHeap, lazy_pop, lazy_push, lazy_remove, make_lazy_heap, raise_key
from sim.kernels.linked_list import oldest
from sim.kernels.nodes import make_nodes, place_of, push_node, set_place, set_size, size_of, take_node
from sim.policy import EvictionPolicy

MOST_K = 8
CORRELATED, HISTORY = 0, 1  # lists, by number: accessed within the correlated period; evicted and remembered
RANKED, RECALLED, NOWHERE = 2, 3, 4  # in the heap; left the history by this access; unknown


class State(NamedTuple):
    ranks: LazyHeap  # int64: time of the K-th last access, 0 where there is none; time of the last one, for all blocks
    times: np.ndarray  # int64[blocks, k]: of the last K accesses that count, latest first
    nodes: np.ndarray  # the two lists; place, and size as inserted
    used: np.ndarray  # int64[2]: bytes on each list
    clock: np.ndarray  # int64[1]: hits and insertions so far
    lists: int  # sentinel of the first list; the other follows
    k: int
    correlated_period: int
    history_capacity: int


def init(context, *, k=2, correlated_period=0, history_ratio=1.0):
    if not 1 <= k <= MOST_K:
        raise ValueError(f"k is {k}; expected 1 to {MOST_K}")
    if correlated_period < 0:
        raise ValueError(f"correlated_period is {correlated_period}; expected at least 0")
    if not 0 <= history_ratio <= 100:
        raise ValueError(f"history_ratio is {history_ratio}; expected 0 to 100")
    return State(
        ranks=make_lazy_heap(context.blocks, np.int64),
        times=np.zeros((context.blocks, k), np.int64),
        nodes=make_nodes(context.blocks, 2, NOWHERE),
        used=np.zeros(2, np.int64),
        clock=np.zeros(1, np.int64),
        lists=context.blocks,
        k=k,
        correlated_period=correlated_period,
        history_capacity=int(context.capacity * history_ratio),
    )


@inlined
def _push(state, block, place):
    push_node(state.nodes, state.used, state.lists, block, place)


@inlined
def _take(state, block, place):
    take_node(state.nodes, state.used, block, place)


@inlined
def _note(state, block, now, correlated_for):
    """A new access that counts; the time that the last one went on for, correlated, is not counted."""
    for i in range(state.k - 1, 0, -1):
        before = state.times[block, i - 1]
        state.times[block, i] = before + correlated_for if before > 0 else 0
    state.times[block, 0] = now


@inlined
def _last(state, block):
    return state.ranks.keys[block, SECOND]


@inlined
def _rank(state, block):
    set_place(state.nodes, block, RANKED)
    lazy_push(state.ranks, block, state.times[block, state.k - 1], _last(state, block))


@inlined
def on_hit(state, request):
    block = request.block
    state.clock[0] += 1
    now, last = state.clock[0], _last(state, block)
    if now - last > state.correlated_period:
        _note(state, block, now, last - state.times[block, 0])
    if state.correlated_period > 0:
        if place_of(state.nodes, block) == RANKED:
            lazy_remove(state.ranks, block)
        else:
            _take(state, block, NOWHERE)
        _push(state, block, CORRELATED)
    raise_key(state.ranks, block, state.times[block, state.k - 1], now)


@inlined
def on_miss(state, request):
    place = place_of(state.nodes, request.block)
    if place == HISTORY:
        _take(state, request.block, RECALLED)
    elif place == RECALLED:
        set_place(state.nodes, request.block, NOWHERE)  # it was not inserted when it was recalled


@inlined
def _remember(state, block):
    size = size_of(state.nodes, block)
    if size > state.history_capacity:
        return
    while state.used[HISTORY] + size > state.history_capacity:
        _take(state, oldest(state.nodes, state.lists + HISTORY), NOWHERE)
    _push(state, block, HISTORY)


@inlined
def evict(state, request):
    sentinel = state.lists + CORRELATED
    victim = np.int64(oldest(state.nodes, sentinel))
    while victim != sentinel and state.clock[0] + 1 - _last(state, victim) > state.correlated_period:
        _take(state, victim, RANKED)
        _rank(state, victim)
        victim = np.int64(oldest(state.nodes, sentinel))
    if state.ranks.count[0] > 0:
        victim = lazy_pop(state.ranks)
        set_place(state.nodes, victim, NOWHERE)
    else:
        _take(state, victim, NOWHERE)
    _remember(state, victim)
    return victim


@inlined
def on_insert(state, request):
    block = request.block
    place = place_of(state.nodes, block)
    if place == HISTORY:  # inserted without an access, as by a prefetch
        _take(state, block, RECALLED)
    elif place == NOWHERE:
        state.times[block, :] = 0
    set_size(state.nodes, block, request.size_bytes)
    state.clock[0] += 1
    _note(state, block, state.clock[0], 0)
    state.ranks.keys[block, SECOND] = state.clock[0]
    if state.correlated_period == 0:
        _rank(state, block)
    else:
        _push(state, block, CORRELATED)


@inlined
def remove(state, block):
    if place_of(state.nodes, block) == RANKED:
        lazy_remove(state.ranks, block)
        set_place(state.nodes, block, NOWHERE)
    else:
        _take(state, block, NOWHERE)


POLICY = EvictionPolicy(
    name="lruk", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
