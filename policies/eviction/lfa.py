"""Least frequently attended: the block leaves that the fewest queries have attended to since it entered (Yang and Hua,
"Attendre", 2024); the one attended to least recently of equals.

A trace says how many queries of an access attended to the block in its column `prediction`; -1, or a trace without
that column, is one. Entering counts as one more. Without the column this is LFU. Whether the paper lets counts decay
or divides them by the time that an entry has been there we do not know; here they are plain counts, forgotten on
eviction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.heap import heap_pop, heap_push, heap_remove, heap_update, make_heap
from sim.policy import EvictionPolicy

ATTENDED, LAST = 0, 1  # columns of keys


class State(NamedTuple):
    keys: np.ndarray  # int64[blocks, 2]: queries that attended to the block; when the last one did
    heap: np.ndarray
    slot: np.ndarray
    count: np.ndarray
    clock: np.ndarray  # int64[1]: accesses so far


def init(context):
    heap, slot, count = make_heap(context.blocks)
    return State(np.zeros((context.blocks, 2), np.int64), heap, slot, count, np.zeros(1, np.int64))


@inlined
def _queries(prediction):
    return prediction if prediction >= 0 else 1


@inlined
def on_hit(state, request):
    state.clock[0] += 1
    queries = _queries(request.prediction)
    if queries > 0:
        state.keys[request.block, ATTENDED] += queries
        state.keys[request.block, LAST] = state.clock[0]
        heap_update(state.heap, state.slot, state.count, state.keys, request.block)


@inlined
def on_insert(state, request):
    state.clock[0] += 1
    state.keys[request.block, ATTENDED] = 1 + _queries(request.prediction)
    state.keys[request.block, LAST] = state.clock[0]
    heap_push(state.heap, state.slot, state.count, state.keys, request.block)


@inlined
def evict(state, request):
    return heap_pop(state.heap, state.slot, state.count, state.keys)


@inlined
def remove(state, block):
    heap_remove(state.heap, state.slot, state.count, state.keys, block)


POLICY = EvictionPolicy(
    name="lfa",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    uses=("prediction",),
)
