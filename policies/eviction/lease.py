"""Leases as in Mooncake Store: what was read is safe for a while, and of the rest the block whose lease ended longest
ago leaves (option `default_kv_lease_ttl`; kvcache-ai/Mooncake, mooncake-store).

A hit gives a block a lease of `lease_ns` from its arrival on; an insertion gives none, so that what is never read goes
first. Where every resident block has a lease, the new block is refused, as Mooncake Store refuses an object. With
`lease_ns` of 0 this is LRU. keep_leases: if not, the block whose lease ends first is given up then, counted in
`broken`.

Mooncake Store frees `eviction_ratio` of its objects at a time once `eviction_high_watermark_ratio` is passed, and only
those with the oldest leases in each shard. Here blocks leave one by one, in exact order; the migration daemon of a
scenario has the watermarks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.heap import heap_pop, heap_push, heap_remove, heap_update, make_heap
from sim.policy import EvictionPolicy

LEASE_NS, ACCESSED = 0, 1  # columns of keys


class State(NamedTuple):
    keys: np.ndarray  # float64[blocks, 2]: when each block's lease ends; when it was accessed last
    heap: np.ndarray
    slot: np.ndarray
    count: np.ndarray
    clock: np.ndarray  # int64[1]: accesses so far
    broken: np.ndarray  # int64[1]: blocks that left although their lease still ran
    lease_ns: float
    keep_leases: bool


def init(context, *, lease_ns=5e9, keep_leases=True):
    if not lease_ns >= 0:
        raise ValueError(f"lease_ns is {lease_ns}; expected at least 0")
    heap, slot, count = make_heap(context.blocks)
    clock, broken = np.zeros(1, np.int64), np.zeros(1, np.int64)
    return State(np.zeros((context.blocks, 2), np.float64), heap, slot, count, clock, broken, lease_ns, keep_leases)


@inlined
def on_hit(state, request):
    block = request.block
    state.clock[0] += 1
    state.keys[block, LEASE_NS] = max(state.keys[block, LEASE_NS], request.arrival_ns + state.lease_ns)
    state.keys[block, ACCESSED] = state.clock[0]
    heap_update(state.heap, state.slot, state.count, state.keys, block)


@inlined
def on_insert(state, request):
    state.clock[0] += 1
    state.keys[request.block, LEASE_NS] = request.arrival_ns
    state.keys[request.block, ACCESSED] = state.clock[0]
    heap_push(state.heap, state.slot, state.count, state.keys, request.block)


@inlined
def evict(state, request):
    if state.keys[state.heap[0], LEASE_NS] > request.arrival_ns:
        if state.keep_leases:
            return request.block
        state.broken[0] += 1
    return np.int64(heap_pop(state.heap, state.slot, state.count, state.keys))


@inlined
def remove(state, block):
    heap_remove(state.heap, state.slot, state.count, state.keys, block)


POLICY = EvictionPolicy(
    name="lease",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    needs=("arrival_ns",),
    counts=("broken",),
)
