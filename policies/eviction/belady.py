"""Belady's optimum: the block whose next access is furthest away leaves, one never accessed again before all (Belady
1966).

No policy has fewer misses on unit sizes; with sizes in bytes it is a strong bound but not the optimum. Needs the index
of each next access. Of several blocks never accessed again the one that became so last leaves first; their order
decides no hit, as all of them leave before any other block. Agrees with libCacheSim's Belady to the last miss.

Next accesses less than a window away have a slot each in a ring, found by a bit set; those further away, few, and those
that a hierarchy's upper tier served unseen wait in a heap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.bitset import BitSet, add, contains, discard, last_to, make_bitset
from sim.kernels.compile import inlined, subroutine
from sim.kernels.heap import heap_pop, heap_push, heap_remove, make_heap
from sim.policy import NEVER, EvictionPolicy

IN_HEAP, DEAD = 0, 1  # places of counts: blocks in the heap; blocks never accessed again


class State(NamedTuple):
    keys: np.ndarray  # int64[blocks, 1]: the next access of each resident block, with all bits inverted if in the heap
    owner: np.ndarray  # uint32[window]: the block with a next access at this index modulo window
    taken: BitSet  # which slots of owner are
    heap: np.ndarray  # from the front the heap, from the back the blocks never accessed again
    slot: np.ndarray  # uint32[blocks]: where in it a block is
    counts: np.ndarray  # int64[2]
    window: int  # a power of two


def init(context):
    window = 1 << max(2 * context.blocks - 1, 31).bit_length()
    heap, slot, _ = make_heap(context.blocks)
    return State(
        keys=np.zeros((context.blocks, 1), np.int64),
        owner=np.zeros(window, np.uint32),
        taken=make_bitset(window),
        heap=heap,
        slot=slot,
        counts=np.zeros(2, np.int64),
        window=window,
    )


@inlined
def _push_heap(state, block, upcoming):
    state.keys[block, 0] = ~upcoming  # negative, and smallest for the furthest, which the heap gives first
    heap_push(state.heap, state.slot, state.counts, state.keys, block)


@inlined
def _push_dead(state, block):
    state.counts[DEAD] += 1
    at = state.heap.size - state.counts[DEAD]
    state.keys[block, 0] = NEVER
    state.heap[at] = block
    state.slot[block] = at


@inlined
def _take_dead(state, block):
    """The one that became so last closes the gap."""
    moved = state.heap[state.heap.size - state.counts[DEAD]]
    state.heap[state.slot[block]] = moved
    state.slot[moved] = state.slot[block]
    state.counts[DEAD] -= 1


@inlined
def _add(state, block, now, upcoming):
    at = upcoming & (state.window - 1)
    if upcoming == NEVER or upcoming < 0:
        _push_dead(state, block)
    elif now < upcoming < now + state.window and not contains(state.taken, at):
        state.keys[block, 0] = upcoming
        state.owner[at] = block
        add(state.taken, at)
    else:
        _push_heap(state, block, upcoming)


@inlined
def _take(state, block):
    upcoming = state.keys[block, 0]
    if upcoming < 0:
        heap_remove(state.heap, state.slot, state.counts, state.keys, block)
    elif upcoming == NEVER:
        _take_dead(state, block)
    else:
        discard(state.taken, upcoming & (state.window - 1))


@inlined
def _furthest_in_ring(state, now):
    """The block of the ring with the furthest next access, -1 where the ring is empty.

    Slots follow each other from `now` round to the one before it. A block whose time has passed unseen would stand out
    of order: it moves to the heap.
    """
    mask = state.window - 1
    while True:
        at = last_to(state.taken, (now & mask) - 1)
        if at < 0:
            at = last_to(state.taken, mask)
        if at < 0:
            return np.int64(-1)
        block = np.int64(state.owner[at])
        upcoming = state.keys[block, 0]
        if now < upcoming < now + state.window:
            return block
        discard(state.taken, at)
        _push_heap(state, block, upcoming)


@inlined
def on_hit(state, request):
    at = request.index & (state.window - 1)
    if contains(state.taken, at) and state.owner[at] == request.block:
        discard(state.taken, at)  # it was due now: slots are read in order, keys are not
    else:
        _take(state, request.block)
    _add(state, request.block, request.index, request.next_access)


@inlined
def on_insert(state, request):
    _add(state, request.block, request.index, request.next_access)


@subroutine
def evict(state, request):
    if state.counts[DEAD] > 0:
        victim = np.int64(state.heap[state.heap.size - state.counts[DEAD]])
        state.counts[DEAD] -= 1
        return victim
    victim = _furthest_in_ring(state, request.index)
    if victim < 0 or (state.counts[IN_HEAP] > 0 and ~state.keys[state.heap[0], 0] > state.keys[victim, 0]):
        return np.int64(heap_pop(state.heap, state.slot, state.counts, state.keys))
    _take(state, victim)
    return victim


@inlined
def remove(state, block):
    _take(state, block)


POLICY = EvictionPolicy(
    name="belady",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    needs=("next_access",),
)
