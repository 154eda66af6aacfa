"""2Q: a new block passes a FIFO queue, and enters the main LRU queue only if it comes back while a ghost queue
remembers it (Johnson and Shasha, VLDB 1994, the full version).

in_ratio: the share of the capacity above which the FIFO queue (A1in, Kin) gives up a block rather than the main one.
out_ratio: how much the ghost queue (A1out, Kout) remembers, as a share of the capacity. The paper advises a quarter and
a half. Hits in the FIFO queue change nothing. The ghost queue is asked before anything is evicted.

With unit sizes, libCacheSim's TwoQ misses as often to the last one. With sizes in bytes it differs (`as_libcachesim`):
it refuses blocks larger than A1in, and it limits Am to what A1in leaves of the capacity, so that a block that comes
back from the ghosts may make others leave although there is room. A policy cannot evict during an insertion, so such a
block waits to be the next victim. If it is accessed before that, libCacheSim counts a miss; here it is a hit, handled
as the insertion that it is there and counted in `late_hits`. Misses plus late hits are libCacheSim's misses, to the
last one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.linked_list import make_lists, oldest, push_newest, unlink
from sim.kernels.probation import GHOST, MAIN, NOWHERE, SMALL, enter, leave, recall, remember, was_remembered
from sim.kernels.rings import (
    Rings,
    bytes_on,
    counter_of,
    make_rings,
    move_to_newest,
    place_of,
    set_counter,
    set_place,
    size_of,
    take_oldest,
)
from sim.policy import EvictionPolicy

A1IN, AM = SMALL, MAIN  # the paper's names; A1out holds the ghosts


class State(NamedTuple):
    rings: Rings  # A1in, Am, A1out; place, whether it waits to leave, and size as inserted, also of ghosts
    waiting: np.ndarray  # one list of the blocks that wait to leave; of no blocks unless as_libcachesim
    late_hits: np.ndarray  # int64[1]: hits on blocks that libCacheSim would have evicted
    queue: int  # the sentinel of `waiting`
    capacity: int
    in_capacity: int
    ghost_capacity: int
    as_libcachesim: bool


def init(context, *, in_ratio=0.25, out_ratio=0.5, as_libcachesim=False):
    if not 0 <= in_ratio <= 1:
        raise ValueError(f"in_ratio is {in_ratio}; expected 0 to 1")
    if not 0 <= out_ratio <= 100:
        raise ValueError(f"out_ratio is {out_ratio}; expected 0 to 100")
    ghosts = int(context.capacity * out_ratio)
    waiting = context.blocks if as_libcachesim else 0
    return State(
        rings=make_rings(context, 3, NOWHERE, capacity=ghosts),
        waiting=make_lists(waiting),
        late_hits=np.zeros(1, np.int64),
        queue=waiting,
        capacity=context.capacity,
        in_capacity=int(context.capacity * in_ratio),
        ghost_capacity=ghosts,
        as_libcachesim=as_libcachesim,
    )


@inlined
def _victim(state):
    rings = state.rings
    if bytes_on(rings, AM) > 0 and bytes_on(rings, A1IN) <= state.in_capacity:
        victim = take_oldest(rings, AM)
        set_place(rings, victim, NOWHERE)
        return victim
    victim = take_oldest(rings, A1IN)
    remember(state, victim)
    return victim


@inlined
def _let_wait(state, block):
    """libCacheSim has evicted this block."""
    set_counter(state.rings, block, 1)
    push_newest(state.waiting, state.queue, block)


@inlined
def _stop_waiting(state, block):
    set_counter(state.rings, block, 0)
    unlink(state.waiting, block)


@subroutine
def _enter_as_library(state, block, place):
    rings, main_capacity = state.rings, state.capacity - state.in_capacity
    while place == AM and bytes_on(rings, AM) > 0 and bytes_on(rings, AM) + size_of(rings, block) > main_capacity:
        victim = take_oldest(rings, AM)
        set_place(rings, victim, NOWHERE)
        _let_wait(state, victim)
    enter(state, block, place)


@subroutine
def _hit_late(state, block):
    """A hit on a block that waits to leave: libCacheSim makes room and inserts it again."""
    rings = state.rings
    state.late_hits[0] += 1
    _stop_waiting(state, block)
    known = place_of(rings, block) == GHOST
    if known:
        leave(state, block)
    while bytes_on(rings, A1IN) + bytes_on(rings, AM) + size_of(rings, block) > state.capacity:
        _let_wait(state, _victim(state))
    _enter_as_library(state, block, AM if known else A1IN)


@inlined
def on_hit(state, request):
    if place_of(state.rings, request.block) == AM:
        move_to_newest(state.rings, AM, request.block)
    elif state.as_libcachesim and counter_of(state.rings, request.block):  # it waits, and is on no resident queue
        _hit_late(state, request.block)


@inlined
def on_miss(state, request):
    recall(state, request.block)


@inlined
def admit(state, request):
    return not state.as_libcachesim or request.size_bytes <= state.in_capacity


@inlined
def evict(state, request):
    if state.as_libcachesim and oldest(state.waiting, state.queue) != state.queue:
        victim = oldest(state.waiting, state.queue)
        _stop_waiting(state, victim)
        return victim
    return _victim(state)


@inlined
def on_insert(state, request):
    place = AM if was_remembered(state, request) else A1IN
    if state.as_libcachesim:
        _enter_as_library(state, request.block, place)
    else:
        enter(state, request.block, place)


@inlined
def remove(state, block):
    if state.as_libcachesim and counter_of(state.rings, block):
        _stop_waiting(state, block)
    else:
        leave(state, block)


POLICY = EvictionPolicy(
    name="2q",
    init=init,
    on_hit=on_hit,
    on_miss=on_miss,
    on_insert=on_insert,
    admit=admit,
    evict=evict,
    remove=remove,
    counts=("late_hits",),
)
