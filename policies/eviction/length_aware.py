"""LengthAwareCache of Mooncake: as LFU, but of equally frequent blocks the one nearest to the head of its call
leaves, then the least recently used (Qin et al. 2024, section 4).

The later blocks of a long prompt are the costlier ones to compute again. It ignores that they cannot be used without
the head, so with prefix matching its hits are fewer than the resident blocks suggest. Frequency is forgotten on
eviction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.heap import heap_pop, heap_push, heap_remove, make_heap, sift_down
from sim.policy import EvictionPolicy

FREQUENCY_BITS = 32  # a key is frequency, then position in the bits below this


class State(NamedTuple):
    keys: np.ndarray  # int64[blocks, 2]: frequency and position; time of the last access
    heap: np.ndarray
    slot: np.ndarray
    count: np.ndarray
    clock: np.ndarray  # int64[1]: accesses so far


def init(context):
    heap, slot, count = make_heap(context.blocks)
    return State(
        keys=np.zeros((context.blocks, 2), np.int64), heap=heap, slot=slot, count=count, clock=np.zeros(1, np.int64)
    )


@inlined
def on_hit(state, request):
    block = request.block
    frequency = (state.keys[block, 0] >> FREQUENCY_BITS) + 1
    state.clock[0] += 1
    state.keys[block, 0] = (frequency << FREQUENCY_BITS) + request.position
    state.keys[block, 1] = state.clock[0]
    sift_down(state.heap, state.slot, state.keys, np.int64(state.slot[block]), state.count[0])


@inlined
def on_insert(state, request):
    state.clock[0] += 1
    state.keys[request.block, 0] = (np.int64(1) << FREQUENCY_BITS) + request.position
    state.keys[request.block, 1] = state.clock[0]
    heap_push(state.heap, state.slot, state.count, state.keys, request.block)


@inlined
def evict(state, request):
    return heap_pop(state.heap, state.slot, state.count, state.keys)


@inlined
def remove(state, block):
    heap_remove(state.heap, state.slot, state.count, state.keys, block)


POLICY = EvictionPolicy(
    name="length_aware",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    needs=("position",),
)
