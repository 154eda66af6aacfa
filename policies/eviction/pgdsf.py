"""Prefix-aware GDSF: as GreedyDual-Size-Frequency with the cost of computing a block anew, but only blocks that no
other resident block continues can leave (Jin et al., "RAGCache", 2024).

A block's priority, as of its last access, is the clock + accesses since it entered * mean cost / size; the clock is the
highest priority of a block evicted so far. The mean is over all times that the block was computed (`cost` of the trace,
1 where it has none), remembered after it has left. The least recently used of equals leaves.

The tree of prefixes is learnt from the order of accesses: a block of an LLM call continues the block accessed before it
if that is the one before it in its call. A block keeps the place and the parent of its first access, as blocks named by
the hash of their whole prefix do. The parent of the block that enters is passed over where there is another choice: its
call is using it. In a trace without calls, and in a lower tier, which sees no calls, all blocks may leave.

RAGCache counts accesses in a window of time whose length we do not know, and has a clock and a queue for each of its
two tiers; here each tier has its own policy anyway.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.heap import heap_pop, heap_push, heap_remove, heap_update, make_heap
from sim.policy import EvictionPolicy

PRIORITY, ACCESSED = 0, 1  # columns of keys
PARENT, DEPTH, CHILDREN, RESIDENT, FREQUENCY, COMPUTED = range(6)  # columns of nodes
ACCESSES, LAST = 0, 1  # of notes
NONE = -1


class State(NamedTuple):
    keys: np.ndarray  # float64[blocks, 2]: priority; when it was accessed last
    heap: np.ndarray  # of the resident blocks without resident children
    slot: np.ndarray
    count: np.ndarray
    nodes: np.ndarray  # int32[blocks, 6]
    cost: np.ndarray  # float64[blocks]: mean of the costs of computing it
    clock: np.ndarray  # float64[1]
    notes: np.ndarray  # int64[2]: accesses so far; the block accessed last


def init(context):
    heap, slot, count = make_heap(context.blocks)
    nodes = np.zeros((context.blocks, 6), np.int32)
    nodes[:, (PARENT, DEPTH)] = NONE
    return State(
        keys=np.zeros((context.blocks, 2), np.float64),
        heap=heap,
        slot=slot,
        count=count,
        nodes=nodes,
        cost=np.zeros(context.blocks, np.float64),
        clock=np.zeros(1, np.float64),
        notes=np.array([0, NONE], np.int64),
    )


@subroutine
def _gain_child(state, block):
    state.nodes[block, CHILDREN] += 1
    if state.nodes[block, CHILDREN] == 1 and state.nodes[block, RESIDENT]:
        heap_remove(state.heap, state.slot, state.count, state.keys, block)


@subroutine
def _lose_child(state, block):
    state.nodes[block, CHILDREN] -= 1
    if state.nodes[block, CHILDREN] == 0 and state.nodes[block, RESIDENT]:
        heap_push(state.heap, state.slot, state.count, state.keys, block)


@subroutine
def _learn(state, block, position):
    """Note the block's place in its call, and its parent, the first time; the depth of a parent is always less."""
    nodes, last = state.nodes, state.notes[LAST]
    state.notes[LAST] = block
    if nodes[block, DEPTH] != NONE:
        return
    nodes[block, DEPTH] = position
    if last != NONE and position > 0 and nodes[last, DEPTH] == position - 1:
        nodes[block, PARENT] = last
        if nodes[block, RESIDENT]:
            _gain_child(state, last)


@inlined
def _rank(state, block, size_bytes):
    """Give the block its priority as of now."""
    state.notes[ACCESSES] += 1
    value = state.nodes[block, FREQUENCY] * state.cost[block] / size_bytes
    state.keys[block, PRIORITY] = state.clock[0] + value
    state.keys[block, ACCESSED] = state.notes[ACCESSES]


@subroutine
def on_hit(state, request):
    block = request.block
    _learn(state, block, request.position)
    state.nodes[block, FREQUENCY] += 1
    _rank(state, block, request.size_bytes)
    if state.nodes[block, CHILDREN] == 0:
        heap_update(state.heap, state.slot, state.count, state.keys, block)


@inlined
def on_miss(state, request):
    _learn(state, request.block, request.position)


@subroutine
def on_insert(state, request):
    block, nodes = request.block, state.nodes
    nodes[block, COMPUTED] += 1
    state.cost[block] += (request.cost - state.cost[block]) / nodes[block, COMPUTED]
    nodes[block, FREQUENCY] = 1
    nodes[block, RESIDENT] = 1
    _rank(state, block, request.size_bytes)
    if nodes[block, CHILDREN] == 0:
        heap_push(state.heap, state.slot, state.count, state.keys, block)
    if nodes[block, PARENT] != NONE:
        _gain_child(state, nodes[block, PARENT])


@subroutine
def evict(state, request):
    victim = np.int64(heap_pop(state.heap, state.slot, state.count, state.keys))
    if victim == state.nodes[request.block, PARENT] and state.count[0] > 0:
        parent = victim
        victim = np.int64(heap_pop(state.heap, state.slot, state.count, state.keys))
        heap_push(state.heap, state.slot, state.count, state.keys, parent)
    state.clock[0] = max(state.clock[0], state.keys[victim, PRIORITY])
    _leave(state, victim)
    return victim


@inlined
def _leave(state, block):
    state.nodes[block, RESIDENT] = 0
    if state.nodes[block, PARENT] != NONE:
        _lose_child(state, state.nodes[block, PARENT])


@subroutine
def remove(state, block):
    if state.nodes[block, CHILDREN] == 0:
        heap_remove(state.heap, state.slot, state.count, state.keys, block)
    _leave(state, block)


POLICY = EvictionPolicy(
    name="pgdsf",
    init=init,
    on_hit=on_hit,
    on_miss=on_miss,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    needs=("position",),
    uses=("cost",),
)
