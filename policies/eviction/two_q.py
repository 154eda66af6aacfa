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

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.linked_list import oldest, push_newest, unlink
from sim.kernels.nodes import make_nodes, place_of
from sim.kernels.probation import MAIN, NOWHERE, SMALL, push, recall, remember, take, was_remembered
from sim.policy import EvictionPolicy

A1IN, AM = SMALL, MAIN  # the paper's names; A1out holds the ghosts


class State(NamedTuple):
    nodes: np.ndarray  # the three lists; place, and size as inserted, of residents and ghosts
    used: np.ndarray  # int64[3]: bytes on each list
    queues: int  # sentinel of A1in; Am and A1out follow
    in_capacity: int
    ghost_capacity: int


def init(context, *, in_ratio=0.25, out_ratio=0.5):
    if not 0 <= in_ratio <= 1:
        raise ValueError(f"in_ratio is {in_ratio}; expected 0 to 1")
    if not 0 <= out_ratio <= 100:
        raise ValueError(f"out_ratio is {out_ratio}; expected 0 to 100")
    return State(
        nodes=make_nodes(context.blocks, 3, NOWHERE),
        used=np.zeros(3, np.int64),
        queues=context.blocks,
        in_capacity=int(context.capacity * in_ratio),
        ghost_capacity=int(context.capacity * out_ratio),
    )


@inlined
def on_hit(state, request):
    if place_of(state.nodes, request.block) == AM:
        unlink(state.nodes, request.block)
        push_newest(state.nodes, state.queues + AM, request.block)


@inlined
def on_miss(state, request):
    recall(state, request.block)


@inlined
def evict(state, request):
    if state.used[AM] > 0 and state.used[A1IN] <= state.in_capacity:
        victim = np.int64(oldest(state.nodes, state.queues + AM))
        take(state, victim)
        return victim
    victim = np.int64(oldest(state.nodes, state.queues + A1IN))
    take(state, victim)
    remember(state, victim)
    return victim


@inlined
def on_insert(state, request):
    push(state, request.block, AM if was_remembered(state, request) else A1IN)


@inlined
def remove(state, block):
    take(state, block)


POLICY = EvictionPolicy(
    name="2q", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
