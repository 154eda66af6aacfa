"""LFU with dynamic ageing: a block's rank is its accesses since it entered plus the rank of the block evicted last, as
of its last access, and the lowest rank leaves (Arlitt et al. 2000, "Evaluating content management techniques for web
proxy caches").

So what was popular long ago is overtaken by what is accessed now. The least recently used of equals leaves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.lazy_heap import KEY, LazyHeap, lazy_pop, lazy_push, lazy_remove, make_lazy_heap, raise_key
from sim.policy import EvictionPolicy

AGE, CLOCK = 0, 1  # of counts: rank of the block evicted last; accesses so far


class State(NamedTuple):
    ranks: LazyHeap  # int64: rank, time of the last access
    frequency: np.ndarray  # uint32[blocks]: accesses since it entered
    counts: np.ndarray  # int64[2]


def init(context):
    return State(
        ranks=make_lazy_heap(context.blocks, np.int64),
        frequency=np.zeros(context.blocks, np.uint32),
        counts=np.zeros(2, np.int64),
    )


@inlined
def on_hit(state, request):
    frequency = np.int64(state.frequency[request.block]) + 1
    state.frequency[request.block] = frequency
    state.counts[CLOCK] += 1
    raise_key(state.ranks, request.block, frequency + state.counts[AGE], state.counts[CLOCK])


@inlined
def on_insert(state, request):
    state.frequency[request.block] = 1
    state.counts[CLOCK] += 1
    lazy_push(state.ranks, request.block, 1 + state.counts[AGE], state.counts[CLOCK])


@inlined
def evict(state, request):
    victim = lazy_pop(state.ranks)
    state.counts[AGE] = state.ranks.keys[victim, KEY]
    return victim


@inlined
def remove(state, block):
    lazy_remove(state.ranks, block)


POLICY = EvictionPolicy(name="lfuda", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
