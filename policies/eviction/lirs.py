"""LIRS, low inter-reference recency set: blocks whose last two accesses were close together hold most of the cache, the
others pass through a small rest of it and take a place of the former if they come back soon (Jiang and Zhang,
SIGMETRICS 2002).

hir_ratio: the share of the capacity for blocks of high inter-reference recency, HIR, a byte at least; the others, LIR,
have the rest. stack_ratio: how many bytes the stack may list, as a multiple of the capacity; beyond it those blocks are
forgotten first that were evicted first.

The stack S lists blocks by recency down to the LIR block at its bottom: LIR ones, HIR ones and evicted ones. The queue
Q has the resident HIR blocks, and its oldest is the victim. An HIR block that is accessed while in S becomes LIR, and
the LIR block at the bottom becomes HIR. Until the LIR share is full, new blocks are LIR.

libCacheSim's LIRS differs (`as_libcachesim`). It refuses blocks larger than the queue's share. On a hit of an HIR block
that is not in S it also turns the bottom LIR block into an HIR one, and evicts for it during the hit. A policy cannot
evict during a hit, so such a block waits to be the next victim; if it is accessed before that, libCacheSim counts a
miss, and here it is a hit, handled as the insertion that it is there and counted in `late_hits`. What leaves may
be the very block that is hit, always where the queue has one block. It stays in S as if it were resident, and
libCacheSim counts its next access as a hit although the cache does not hold it. Where that is a miss here, it is
counted in `false_hits`. Misses plus late hits less false hits are libCacheSim's misses, to the last one. A cache
of two blocks is left out: there it loses its only LIR block and goes on as if the bottom of S were one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.linked_list import make_lists, oldest, push_newest, unlink
from sim.kernels.nodes import counter_of, make_nodes, place_of, set_counter, set_place, set_size, size_of
from sim.policy import EvictionPolicy

# places: HIR is in S and Q, QUEUED in Q alone, GHOST in S, evicted, PHANTOM the same, but libCacheSim takes it for HIR
LIR, HIR, QUEUED, GHOST, NOWHERE, PHANTOM = 0, 1, 2, 3, 4, 5


class State(NamedTuple):
    nodes: np.ndarray  # the stack S, newest at its top; place, whether it waits to leave, and size as inserted
    links: np.ndarray  # two lists: the queue Q, and the ghosts in the order of their eviction
    waiting: np.ndarray  # one list of the blocks that wait to leave; of no blocks unless as_libcachesim
    used: np.ndarray  # int64[6]: bytes of each place
    late_hits: np.ndarray  # int64[1]: hits on blocks that libCacheSim would have evicted
    false_hits: np.ndarray  # int64[1]: misses that libCacheSim counts as hits
    stack: int  # the sentinel of S, and of Q; that of the ghosts follows
    lir_capacity: int
    hir_capacity: int
    stack_capacity: int
    as_libcachesim: bool


def init(context, *, hir_ratio=0.01, stack_ratio=2.0, as_libcachesim=False):
    if not 0 <= hir_ratio <= 1:
        raise ValueError(f"hir_ratio is {hir_ratio}; expected 0 to 1")
    if not 1 <= stack_ratio <= 100:
        raise ValueError(f"stack_ratio is {stack_ratio}; expected 1 to 100")
    hir_capacity = max(int(context.capacity * hir_ratio), 1)
    return State(
        nodes=make_nodes(context.blocks, 1, NOWHERE),
        links=make_lists(context.blocks, 2),
        waiting=make_lists(context.blocks if as_libcachesim else 0),
        used=np.zeros(6, np.int64),
        late_hits=np.zeros(1, np.int64),
        false_hits=np.zeros(1, np.int64),
        stack=context.blocks,
        lir_capacity=context.capacity - hir_capacity,
        hir_capacity=hir_capacity,
        stack_capacity=int(context.capacity * stack_ratio),
        as_libcachesim=as_libcachesim,
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
        _set_place(nodes, used, block, QUEUED if place == HIR else NOWHERE)


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
    while used[GHOST] > 0 and used[LIR] + used[HIR] + used[GHOST] + used[PHANTOM] > state.stack_capacity:
        block = np.int64(oldest(state.links, state.stack + 1))
        unlink(state.links, block)
        unlink(state.nodes, block)  # above the LIR block at the bottom
        _set_place(state.nodes, used, block, NOWHERE)


@inlined
def _room_for_lir(state, size):
    return state.used[LIR] == 0 or state.used[LIR] + size <= state.lir_capacity


@inlined
def _room_for_hir(state, size):
    return state.used[HIR] + state.used[QUEUED] == 0 or (
        state.used[HIR] + state.used[QUEUED] + size <= state.hir_capacity
    )


@subroutine
def _give_up(state):
    """The oldest block of Q leaves libCacheSim's cache, and waits to leave this one."""
    block = np.int64(oldest(state.links, state.stack))
    unlink(state.links, block)
    if place_of(state.nodes, block) == HIR:
        push_newest(state.links, state.stack + 1, block)
        _set_place(state.nodes, state.used, block, GHOST)
    else:
        _set_place(state.nodes, state.used, block, NOWHERE)
    set_counter(state.nodes, block, 1)
    push_newest(state.waiting, state.stack, block)


@inlined
def _stop_waiting(state, block):
    set_counter(state.nodes, block, 0)
    unlink(state.waiting, block)


@subroutine
def _demote_as_library(state):
    """The LIR block at the bottom of S becomes the newest of Q, which makes room for it first."""
    nodes, block = state.nodes, np.int64(oldest(state.nodes, state.stack))
    unlink(nodes, block)
    _set_place(nodes, state.used, block, NOWHERE)
    while not _room_for_hir(state, size_of(nodes, block)):
        _give_up(state)
    push_newest(state.links, state.stack, block)
    _set_place(nodes, state.used, block, QUEUED)
    _prune(nodes, state.links, state.used, state.stack)


@subroutine
def _make_room(state, block, size):
    """What libCacheSim evicts before it inserts a block, or makes one LIR that is in S."""
    if place_of(state.nodes, block) in (GHOST, PHANTOM):
        unlink(state.nodes, block)
        push_newest(state.nodes, state.stack, block)
        while not _room_for_lir(state, size):
            _demote_as_library(state)
    elif not _room_for_lir(state, size):
        while not _room_for_hir(state, size):
            _give_up(state)


@subroutine
def _enter_as_library(state, block, size):
    nodes, links, used, stack = state.nodes, state.links, state.used, state.stack
    _make_room(state, block, size)
    place = place_of(nodes, block)
    if place in (GHOST, PHANTOM):
        unlink(nodes, block)
        if place == GHOST:
            unlink(links, block)
        _set_place(nodes, used, block, NOWHERE)
    used[NOWHERE] += size - size_of(nodes, block)
    set_size(nodes, block, size)
    push_newest(nodes, stack, block)
    if place in (GHOST, PHANTOM) or _room_for_lir(state, size):
        _set_place(nodes, used, block, LIR)
    else:
        push_newest(links, stack, block)
        _set_place(nodes, used, block, HIR)
    _prune(nodes, links, used, stack)


@subroutine
def _hit_queued(state, block):
    """libCacheSim demotes LIR blocks until there would be room for this one, too, which does not become LIR.

    Where that evicts the block itself it stops, because it then compares the size of what came to lie in its memory.
    """
    nodes, links = state.nodes, state.links
    unlink(links, block)
    push_newest(links, state.stack, block)
    while place_of(nodes, block) == QUEUED and not _room_for_lir(state, size_of(nodes, block)):
        _demote_as_library(state)
    push_newest(nodes, state.stack, block)
    _set_place(nodes, state.used, block, HIR if place_of(nodes, block) == QUEUED else PHANTOM)
    _prune(nodes, links, state.used, state.stack)


@subroutine
def _hit_as_library(state, block):
    nodes, links = state.nodes, state.links
    place = place_of(nodes, block)
    if counter_of(nodes, block):
        _stop_waiting(state, block)
        state.late_hits[0] += place != PHANTOM
        _enter_as_library(state, block, size_of(nodes, block))
    elif place == QUEUED:
        _hit_queued(state, block)
    else:
        unlink(nodes, block)
        if place == HIR:
            unlink(links, block)
            _set_place(nodes, state.used, block, NOWHERE)
            while not _room_for_lir(state, size_of(nodes, block)):
                _demote_as_library(state)
            _set_place(nodes, state.used, block, LIR)
        push_newest(nodes, state.stack, block)
        _prune(nodes, links, state.used, state.stack)
    _limit_stack(state)


@subroutine
def _evict_as_library(state, block, size):
    waiting = state.stack
    if block >= 0 and oldest(state.waiting, waiting) == waiting:
        _make_room(state, block, size)
    if oldest(state.waiting, waiting) == waiting:  # more is to leave than libCacheSim would give up
        if state.used[HIR] + state.used[QUEUED] == 0:
            _demote_as_library(state)
        _give_up(state)
    victim = np.int64(oldest(state.waiting, waiting))
    _stop_waiting(state, victim)
    return victim


@inlined
def on_hit(state, request):
    if state.as_libcachesim:
        _hit_as_library(state, request.block)
        return
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
def admit(state, request):
    most = min(state.lir_capacity, state.hir_capacity)
    return not state.as_libcachesim or request.size_bytes <= most


@inlined
def evict(state, request):
    if state.as_libcachesim:
        return _evict_as_library(state, request.block, request.size_bytes)
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
    if state.as_libcachesim:
        state.false_hits[0] += place_of(nodes, block) == PHANTOM
        _enter_as_library(state, block, size)
        _limit_stack(state)
        return
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
    if counter_of(state.nodes, block):
        _stop_waiting(state, block)
    if place in (LIR, HIR, PHANTOM):
        unlink(state.nodes, block)
    if place in (HIR, QUEUED):
        unlink(state.links, block)
    if place != GHOST:
        _set_place(state.nodes, state.used, block, NOWHERE)
    _prune(state.nodes, state.links, state.used, state.stack)


POLICY = EvictionPolicy(
    name="lirs",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    admit=admit,
    evict=evict,
    remove=remove,
    counts=("late_hits", "false_hits"),
)
