"""LIRS, low inter-reference recency set: blocks whose last two accesses were close together hold most of the cache, the
others pass through a small rest of it and take a place of the former if they come back soon (Jiang and Zhang,
SIGMETRICS 2002).

hir_ratio: the share of the capacity for blocks of high inter-reference recency, HIR, a byte at least; the others, LIR,
have the rest. stack_ratio: how many bytes the stack may list, as a multiple of the capacity; beyond it those blocks are
forgotten first that were evicted first.

The stack S lists blocks by recency down to the LIR block at its bottom: LIR ones, HIR ones and evicted ones. The queue
Q has the resident HIR blocks, and its oldest is the victim. An HIR block that is accessed while in S becomes LIR, and
the LIR block at the bottom becomes HIR. Until the LIR share is full, new blocks are LIR.

libCacheSim's LIRS differs: on a hit of an HIR block that is not in S it also turns the bottom LIR block into an HIR
one, and evicts for it during the hit; with a queue of one block it even evicts the block that is hit, and counts its
next access as a hit. On a trace of block I/O that makes a difference of 5 misses in 100,485 at most. It also refuses
blocks larger than the queue; `admission: size` does the same here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.linked_list import make_lists, oldest, push_newest, unlink
from sim.kernels.nodes import make_nodes, place_of, set_place, set_size, size_of
from sim.policy import EvictionPolicy

LIR, HIR, QUEUED, GHOST, NOWHERE = 0, 1, 2, 3, 4  # places: HIR is in S and Q, QUEUED in Q alone, GHOST in S, evicted


class State(NamedTuple):
    nodes: np.ndarray  # the stack S, newest at its top; place, and size as inserted
    links: np.ndarray  # two lists: the queue Q, and the ghosts in the order of their eviction
    used: np.ndarray  # int64[5]: bytes of each place
    stack: int  # the sentinel of S, and of Q; that of the ghosts follows
    lir_capacity: int
    stack_capacity: int


def init(context, *, hir_ratio=0.01, stack_ratio=2.0):
    if not 0 <= hir_ratio <= 1:
        raise ValueError(f"hir_ratio is {hir_ratio}; expected 0 to 1")
    if not 1 <= stack_ratio <= 100:
        raise ValueError(f"stack_ratio is {stack_ratio}; expected 1 to 100")
    return State(
        nodes=make_nodes(context.blocks, 1, NOWHERE),
        links=make_lists(context.blocks, 2),
        used=np.zeros(5, np.int64),
        stack=context.blocks,
        lir_capacity=context.capacity - max(int(context.capacity * hir_ratio), 1),
        stack_capacity=int(context.capacity * stack_ratio),
    )


@inlined
def _set_place(nodes, used, block, place):
    """Note where a block is now; its links are the caller's business."""
    size = size_of(nodes, block)
    used[place_of(nodes, block)] -= size
    used[place] += size
    set_place(nodes, block, place)


@subroutine
def _prune(nodes, links, used, stack):
    """Take off the bottom of S what is not LIR."""
    while True:
        block = np.int64(oldest(nodes, stack))
        place = LIR if block == stack else place_of(nodes, block)
        if place == LIR:
            return
        unlink(nodes, block)
        if place == GHOST:
            unlink(links, block)
        _set_place(nodes, used, block, NOWHERE if place == GHOST else QUEUED)


@subroutine
def _demote(nodes, links, used, stack):
    """The LIR block at the bottom of S becomes the newest of Q."""
    block = np.int64(oldest(nodes, stack))
    unlink(nodes, block)
    push_newest(links, stack, block)
    _set_place(nodes, used, block, QUEUED)
    _prune(nodes, links, used, stack)


@inlined
def _limit_lir(state):
    while state.used[LIR] > max(state.lir_capacity, 0):
        _demote(state.nodes, state.links, state.used, state.stack)


@inlined
def _limit_stack(state):
    """Forget the ghosts evicted first while S lists too many bytes."""
    used = state.used
    while used[GHOST] > 0 and used[LIR] + used[HIR] + used[GHOST] > state.stack_capacity:
        block = np.int64(oldest(state.links, state.stack + 1))
        unlink(state.links, block)
        unlink(state.nodes, block)  # above the LIR block at the bottom
        _set_place(state.nodes, used, block, NOWHERE)


@inlined
def on_hit(state, request):
    block, nodes, links, stack = request.block, state.nodes, state.links, state.stack
    place = place_of(nodes, block)
    if place == QUEUED:
        push_newest(nodes, stack, block)
        unlink(links, block)
        push_newest(links, stack, block)
        _set_place(nodes, state.used, block, HIR)
        _prune(nodes, links, state.used, stack)  # where there is no LIR block
        _limit_stack(state)
        return
    unlink(nodes, block)
    push_newest(nodes, stack, block)
    if place == HIR:
        unlink(links, block)
        _set_place(nodes, state.used, block, LIR)
        _limit_lir(state)
    _prune(nodes, links, state.used, stack)


@inlined
def evict(state, request):
    nodes, links, used, stack = state.nodes, state.links, state.used, state.stack
    if used[HIR] + used[QUEUED] == 0:
        _demote(nodes, links, used, stack)
    victim = np.int64(oldest(links, stack))
    unlink(links, victim)
    if place_of(nodes, victim) == HIR:
        push_newest(links, stack + 1, victim)
        _set_place(nodes, used, victim, GHOST)
    else:
        _set_place(nodes, used, victim, NOWHERE)
    return victim


@inlined
def on_insert(state, request):
    block, nodes, links, used, stack = request.block, state.nodes, state.links, state.used, state.stack
    size = request.size_bytes
    known = place_of(nodes, block) == GHOST
    if known:
        unlink(nodes, block)
        unlink(links, block)
        _set_place(nodes, used, block, NOWHERE)
    set_size(nodes, block, size)
    used[NOWHERE] += size
    push_newest(nodes, stack, block)
    if known or used[LIR] + size <= state.lir_capacity:
        _set_place(nodes, used, block, LIR)
        _limit_lir(state)
    else:
        push_newest(links, stack, block)
        _set_place(nodes, used, block, HIR)
    _prune(nodes, links, used, stack)
    _limit_stack(state)


@inlined
def remove(state, block):
    place = place_of(state.nodes, block)
    if place in (LIR, HIR):
        unlink(state.nodes, block)
    if place in (HIR, QUEUED):
        unlink(state.links, block)
    _set_place(state.nodes, state.used, block, NOWHERE)
    _prune(state.nodes, state.links, state.used, state.stack)


POLICY = EvictionPolicy(name="lirs", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
