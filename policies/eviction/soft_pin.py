"""Soft pins as in Mooncake Store: pinned blocks leave only when nothing else is left, leased ones not at all (options
`default_kv_lease_ttl`, `default_kv_soft_pin_ttl`, `allow_evict_soft_pinned_objects`; kvcache-ai/Mooncake,
mooncake-store).

An access with a `priority` of at least `pin_priority` asks for a pin, as the writer of an object does in Mooncake
Store. From then on, until the block leaves, each access pins it anew for `pin_ns`. Leases are those of the policy
`lease`. In turn leave

1. blocks without a pin whose lease has ended, the one whose lease ended longest ago first;
2. pinned blocks whose lease has ended, unless evict_pinned is false;
3. none: the new block is refused, as Mooncake Store refuses an object; or, unless keep_leases, blocks without a pin
   whose lease ends first, then pinned ones, counted in `broken`.

Times of arrival must not go back, as those of a trace do not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.heap import heap_pop, heap_push, heap_remove, make_heap
from sim.kernels.linked_list import make_lists, oldest, push_newest, unlink
from sim.policy import EvictionPolicy

LEASE_NS, ACCESSED = 0, 1  # columns of keys
NO_PIN = -np.inf


class State(NamedTuple):
    keys: np.ndarray  # float64[blocks, 2]: when each block's lease ends; when it was accessed last
    free: np.ndarray  # a heap of the blocks without a pin
    free_count: np.ndarray
    pinned: np.ndarray  # a heap of the pinned ones
    pinned_count: np.ndarray
    slot: np.ndarray  # uint32[blocks]: where in its heap a block is
    asked: np.ndarray  # bool[blocks]: whether a pin was asked for since the block entered
    pin_end_ns: np.ndarray  # float64[blocks], NO_PIN for what is in the heap of those without
    links: np.ndarray  # one list of the pinned blocks, newest pin first
    clock: np.ndarray  # int64[1]: accesses so far
    broken: np.ndarray  # int64[1]: blocks that left although a lease, or a pin that may not be broken, still ran
    queue: int  # the list's sentinel
    lease_ns: float
    pin_ns: float
    pin_priority: int
    evict_pinned: bool
    keep_leases: bool


def init(context, *, lease_ns=5e9, pin_ns=1.8e12, pin_priority=1, evict_pinned=True, keep_leases=True):
    if not lease_ns >= 0:
        raise ValueError(f"lease_ns is {lease_ns}; expected at least 0")
    if not pin_ns >= 0:
        raise ValueError(f"pin_ns is {pin_ns}; expected at least 0")
    free, slot, free_count = make_heap(context.blocks)
    pinned, _, pinned_count = make_heap(context.blocks)
    return State(
        keys=np.zeros((context.blocks, 2), np.float64),
        free=free,
        free_count=free_count,
        pinned=pinned,
        pinned_count=pinned_count,
        slot=slot,
        asked=np.zeros(context.blocks, np.bool_),
        pin_end_ns=np.full(context.blocks, NO_PIN),
        links=make_lists(context.blocks),
        clock=np.zeros(1, np.int64),
        broken=np.zeros(1, np.int64),
        queue=context.blocks,
        lease_ns=lease_ns,
        pin_ns=pin_ns,
        pin_priority=pin_priority,
        evict_pinned=evict_pinned,
        keep_leases=keep_leases,
    )


@subroutine
def _put(state, block, now_ns):
    """Put a block that is in neither heap into its own, with its pin renewed if one was asked for."""
    if not state.asked[block]:
        heap_push(state.free, state.slot, state.free_count, state.keys, block)
        return
    state.pin_end_ns[block] = now_ns + state.pin_ns
    push_newest(state.links, state.queue, block)
    heap_push(state.pinned, state.slot, state.pinned_count, state.keys, block)


@subroutine
def _unpin(state, block):
    """Take a block out of the heap of the pinned, and into neither."""
    state.pin_end_ns[block] = NO_PIN
    unlink(state.links, block)
    heap_remove(state.pinned, state.slot, state.pinned_count, state.keys, block)


@subroutine
def _take(state, block):
    if state.pin_end_ns[block] != NO_PIN:
        _unpin(state, block)
    else:
        heap_remove(state.free, state.slot, state.free_count, state.keys, block)


@subroutine
def _end_pins(state, now_ns):
    """Free the blocks whose pin has ended; those pinned longest ago are the first."""
    block = np.int64(oldest(state.links, state.queue))
    while block != state.queue and state.pin_end_ns[block] <= now_ns:
        _unpin(state, block)
        heap_push(state.free, state.slot, state.free_count, state.keys, block)
        block = np.int64(oldest(state.links, state.queue))


@subroutine
def on_hit(state, request):
    block = request.block
    state.clock[0] += 1
    state.asked[block] |= request.priority >= state.pin_priority
    _take(state, block)
    state.keys[block, LEASE_NS] = max(state.keys[block, LEASE_NS], request.arrival_ns + state.lease_ns)
    state.keys[block, ACCESSED] = state.clock[0]
    _put(state, block, request.arrival_ns)


@subroutine
def on_insert(state, request):
    block = request.block
    state.clock[0] += 1
    state.asked[block] = request.priority >= state.pin_priority
    state.keys[block, LEASE_NS] = request.arrival_ns
    state.keys[block, ACCESSED] = state.clock[0]
    _put(state, block, request.arrival_ns)


@inlined
def _may_go(state, heap, count, now_ns):
    return count[0] > 0 and state.keys[heap[0], LEASE_NS] <= now_ns


@subroutine
def evict(state, request):
    now_ns = request.arrival_ns
    _end_pins(state, now_ns)
    free_may_go = _may_go(state, state.free, state.free_count, now_ns)
    pinned_may_go = state.evict_pinned and _may_go(state, state.pinned, state.pinned_count, now_ns)
    if not free_may_go and not pinned_may_go:
        if state.keep_leases:
            return np.int64(request.block)
        state.broken[0] += 1
    if free_may_go or (state.free_count[0] > 0 and not pinned_may_go):
        return np.int64(heap_pop(state.free, state.slot, state.free_count, state.keys))
    victim = np.int64(state.pinned[0])
    _unpin(state, victim)
    return victim


@inlined
def remove(state, block):
    _take(state, block)


POLICY = EvictionPolicy(
    name="soft_pin",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    needs=("arrival_ns", "priority"),
    counts=("broken",),
)
