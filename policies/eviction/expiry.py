"""Expired blocks leave first, the one that expired earliest before the others; then the least recently used (TTL
caching as in Memcached and Redis's volatile-ttl; Yang, Yue and Vinayak, "Segcache", NSDI 2021, on why it matters).

A block may be used until its access's `arrival_ns` plus `ttl_ns`. renew_on_hit: whether a hit starts that time anew; if
not, only the insertion, a write, and an access after it ended do. A block without a time never expires.

What a policy cannot do: whether an access hits is decided by residency alone, so an expired block that has not been
evicted yet still counts as a hit, where a store would fetch it anew. Such accesses are counted in `late_hits`
(misses of a store that honours the times are the misses counted plus these), and start the block's time anew. Nor does
the policy evict before there is need of room; the migration daemon of a scenario can.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.heap import heap_pop, heap_push, heap_remove, heap_update, make_heap
from sim.kernels.linked_list import make_lists, oldest, push_newest, unlink
from sim.policy import EvictionPolicy

DEADLINE_NS, RENEWED = 0, 1  # columns of keys


class State(NamedTuple):
    keys: np.ndarray  # float64[blocks, 2]: until when each resident block may be used; the access that said so
    heap: np.ndarray  # by deadline
    slot: np.ndarray
    count: np.ndarray
    links: np.ndarray  # one list, newest access first
    counts: np.ndarray  # int64[1]: accesses so far
    late_hits: np.ndarray  # int64[1]: hits on expired blocks
    queue: int  # the list's sentinel
    renew_on_hit: bool


def init(context, *, renew_on_hit=True):
    heap, slot, count = make_heap(context.blocks)
    return State(
        keys=np.zeros((context.blocks, 2), np.float64),
        heap=heap,
        slot=slot,
        count=count,
        links=make_lists(context.blocks),
        counts=np.zeros(1, np.int64),
        late_hits=np.zeros(1, np.int64),
        queue=context.blocks,
        renew_on_hit=renew_on_hit,
    )


@inlined
def _renew(state, block, arrival_ns, ttl_ns):
    state.keys[block, DEADLINE_NS] = arrival_ns + ttl_ns
    state.keys[block, RENEWED] = state.counts[0]


@inlined
def on_hit(state, request):
    block = request.block
    state.counts[0] += 1
    unlink(state.links, block)
    push_newest(state.links, state.queue, block)
    expired = state.keys[block, DEADLINE_NS] <= request.arrival_ns
    state.late_hits[0] += expired
    if expired or state.renew_on_hit or request.is_write:
        _renew(state, block, request.arrival_ns, request.ttl_ns)
        heap_update(state.heap, state.slot, state.count, state.keys, block)


@inlined
def on_insert(state, request):
    state.counts[0] += 1
    push_newest(state.links, state.queue, request.block)
    _renew(state, request.block, request.arrival_ns, request.ttl_ns)
    heap_push(state.heap, state.slot, state.count, state.keys, request.block)


@subroutine
def evict(state, request):
    if state.keys[state.heap[0], DEADLINE_NS] <= request.arrival_ns:
        victim = np.int64(heap_pop(state.heap, state.slot, state.count, state.keys))
        unlink(state.links, victim)
        return victim
    victim = np.int64(oldest(state.links, state.queue))
    remove(state, victim)
    return victim


@inlined
def remove(state, block):
    unlink(state.links, block)
    heap_remove(state.heap, state.slot, state.count, state.keys, block)


POLICY = EvictionPolicy(
    name="expiry",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    needs=("arrival_ns", "ttl_ns"),
    uses=("op",),
    counts=("late_hits",),
)
