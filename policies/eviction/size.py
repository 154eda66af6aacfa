"""SIZE: the largest block leaves (Williams et al., SIGCOMM 1996).

The paper leaves open which of equal size; here it is the least recently used. libCacheSim's Size takes whichever its
heap gives first (`as_libcachesim`): with that the counts agree to the last miss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.lazy_heap import LazyHeap, lazy_pop, lazy_push, lazy_remove, make_lazy_heap, raise_key
from sim.policy import EvictionPolicy


class State(NamedTuple):
    ranks: LazyHeap  # int64: size, negative; time of the last access, 0 as libCacheSim
    clock: np.ndarray  # int64[1]: accesses so far
    as_libcachesim: bool


def init(context, *, as_libcachesim=False):
    ranks = make_lazy_heap(context.blocks, np.int64)
    return State(ranks=ranks, clock=np.zeros(1, np.int64), as_libcachesim=as_libcachesim)


@inlined
def _now(state):
    if not state.as_libcachesim:
        state.clock[0] += 1
    return state.clock[0]


@inlined
def on_hit(state, request):
    raise_key(state.ranks, request.block, -request.size_bytes, _now(state))


@inlined
def on_insert(state, request):
    lazy_push(state.ranks, request.block, -request.size_bytes, _now(state))


@inlined
def evict(state, request):
    return lazy_pop(state.ranks)


@inlined
def remove(state, block):
    lazy_remove(state.ranks, block)


POLICY = EvictionPolicy(name="size", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
