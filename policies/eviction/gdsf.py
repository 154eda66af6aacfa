"""GreedyDual-Size-Frequency: a block's priority is its accesses since it entered over its size, plus the priority of
the block evicted last, as of its last access, and the lowest priority leaves (Cherkasova, HP Labs HPL-98-69R1, 1998).

A miss costs the same whatever is missed. The least recently used of equals leaves.

A block that is missed always enters. In libCacheSim's GDSF (`as_libcachesim`) it is put in before anything is evicted,
with a priority over that of the block evicted last before, and leaves in its turn: where its priority is the lowest
before there is room, it is not kept, and the next priorities count from its own. On a trace of block I/O that saves up
to 0.1 % of the requests.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.lazy_heap import KEY, SECOND, LazyHeap, lazy_pop, lazy_push, lazy_remove, make_lazy_heap, raise_key
from sim.policy import NO_BLOCK, EvictionPolicy

MISS_COST = 1e6  # any number orders blocks alike, but for rounding; this is libCacheSim's


class State(NamedTuple):
    priorities: LazyHeap  # float64: priority, time of the last access
    frequency: np.ndarray  # uint32[blocks]: accesses since it entered
    age: np.ndarray  # float64[1]: priority of the block evicted last
    clock: np.ndarray  # int64[1]: accesses so far
    missed: np.ndarray  # int64[1]: the block of the last miss, where as_libcachesim
    entry: np.ndarray  # float64[1]: the priority with which it enters
    as_libcachesim: bool


def init(context, *, as_libcachesim=False):
    return State(
        priorities=make_lazy_heap(context.blocks, np.float64),
        frequency=np.zeros(context.blocks, np.uint32),
        age=np.zeros(1, np.float64),
        clock=np.zeros(1, np.int64),
        missed=np.full(1, NO_BLOCK, np.int64),
        entry=np.zeros(1, np.float64),
        as_libcachesim=as_libcachesim,
    )


@inlined
def on_hit(state, request):
    frequency = np.int64(state.frequency[request.block]) + 1
    state.frequency[request.block] = frequency
    state.clock[0] += 1
    priority = state.age[0] + frequency * MISS_COST / request.size_bytes
    raise_key(state.priorities, request.block, priority, float(state.clock[0]))


@inlined
def on_miss(state, request):
    if state.as_libcachesim:
        state.missed[0] = request.block
        state.entry[0] = state.age[0] + MISS_COST / request.size_bytes


@inlined
def on_insert(state, request):
    state.frequency[request.block] = 1
    state.clock[0] += 1
    priority = state.age[0] + MISS_COST / request.size_bytes
    if state.missed[0] == request.block:
        priority = state.entry[0]
        state.missed[0] = NO_BLOCK
    lazy_push(state.priorities, request.block, priority, float(state.clock[0]))


@inlined
def evict(state, request):
    victim = lazy_pop(state.priorities)
    state.age[0] = state.priorities.keys[victim, KEY]
    if state.missed[0] == request.block and request.block != NO_BLOCK and state.entry[0] < state.age[0]:
        state.age[0] = state.entry[0]
        state.missed[0] = NO_BLOCK
        lazy_push(state.priorities, victim, state.priorities.keys[victim, KEY], state.priorities.keys[victim, SECOND])
        return request.block
    return victim


@inlined
def remove(state, block):
    lazy_remove(state.priorities, block)


POLICY = EvictionPolicy(
    name="gdsf", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
