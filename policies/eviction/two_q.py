"""2Q: a new block passes a FIFO queue, and enters the main LRU queue only if it comes back while a ghost queue
remembers it (Johnson and Shasha, VLDB 1994, the full version).

in_ratio: the share of the capacity above which the FIFO queue (A1in, Kin) gives up a block rather than the main one.
out_ratio: how much the ghost queue (A1out, Kout) remembers, as a share of the capacity. The paper advises a quarter and
a half. Hits in the FIFO queue change nothing. The ghost queue is asked before anything is evicted.

Agrees with libCacheSim's TwoQ to the last miss. That also refuses blocks larger than A1in; `admission: size` does the
same here.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.kernels.compile import inlined
from sim.kernels.probation import MAIN, NOWHERE, SMALL, enter, leave, recall, remember, was_remembered
from sim.kernels.rings import Rings, bytes_on, make_rings, move_to_newest, place_of, set_info, take_oldest
from sim.policy import EvictionPolicy

A1IN, AM = SMALL, MAIN  # the paper's names; A1out holds the ghosts


class State(NamedTuple):
    rings: Rings  # A1in, Am and A1out; place, and size as inserted, of residents and ghosts
    in_capacity: int
    ghost_capacity: int


def init(context, *, in_ratio=0.25, out_ratio=0.5):
    if not 0 <= in_ratio <= 1:
        raise ValueError(f"in_ratio is {in_ratio}; expected 0 to 1")
    if not 0 <= out_ratio <= 100:
        raise ValueError(f"out_ratio is {out_ratio}; expected 0 to 100")
    ghosts = int(context.capacity * out_ratio)
    return State(
        rings=make_rings(context, 3, NOWHERE, capacity=ghosts),
        in_capacity=int(context.capacity * in_ratio),
        ghost_capacity=ghosts,
    )


@inlined
def on_hit(state, request):
    if place_of(state.rings, request.block) == AM:
        move_to_newest(state.rings, AM, request.block)


@inlined
def on_miss(state, request):
    recall(state, request.block)


@inlined
def evict(state, request):
    rings = state.rings
    if bytes_on(rings, AM) > 0 and bytes_on(rings, A1IN) <= state.in_capacity:
        victim = take_oldest(rings, AM)
        set_info(rings, victim, NOWHERE, 0)
        return victim
    victim = take_oldest(rings, A1IN)
    remember(state, victim)
    return victim


@inlined
def on_insert(state, request):
    enter(state, request.block, AM if was_remembered(state, request) else A1IN)


@inlined
def remove(state, block):
    leave(state, block)


POLICY = EvictionPolicy(
    name="2q", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
