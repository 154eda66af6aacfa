"""The lowest priority leaves first, the least recently used of equals (`radix-eviction-policy: priority` of SGLang;
vLLM's and TensorRT-LLM's retention priorities order blocks alike).

A block has the priority of its last access (`priority` of the trace), so that a request of a higher or lower class
lifts or lowers what it touches. SGLang never lowers the priority of a prefix that a more important request once used:
`keep_highest` does the same, until the block leaves. The priorities that TensorRT-LLM gives for a limited time end by
themselves; those here do not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.heap import heap_pop, heap_push, heap_remove, heap_update, make_heap
from sim.policy import EvictionPolicy

PRIORITY, ACCESSED = 0, 1  # columns of keys


class State(NamedTuple):
    keys: np.ndarray  # int64[blocks, 2]: priority; when it was accessed last
    heap: np.ndarray
    slot: np.ndarray
    count: np.ndarray
    clock: np.ndarray  # int64[1]: accesses so far
    keep_highest: bool


def init(context, *, keep_highest=False):
    heap, slot, count = make_heap(context.blocks)
    return State(np.zeros((context.blocks, 2), np.int64), heap, slot, count, np.zeros(1, np.int64), keep_highest)


@inlined
def on_hit(state, request):
    block, priority = request.block, request.priority
    state.clock[0] += 1
    if state.keep_highest:
        priority = max(priority, state.keys[block, PRIORITY])
    state.keys[block, PRIORITY] = priority
    state.keys[block, ACCESSED] = state.clock[0]
    heap_update(state.heap, state.slot, state.count, state.keys, block)


@inlined
def on_insert(state, request):
    state.clock[0] += 1
    state.keys[request.block, PRIORITY] = request.priority
    state.keys[request.block, ACCESSED] = state.clock[0]
    heap_push(state.heap, state.slot, state.count, state.keys, request.block)


@inlined
def evict(state, request):
    return heap_pop(state.heap, state.slot, state.count, state.keys)


@inlined
def remove(state, block):
    heap_remove(state.heap, state.slot, state.count, state.keys, block)


POLICY = EvictionPolicy(
    name="priority",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    needs=("priority",),
)
