"""CLOCK, or FIFO with second chances: a hand passes over blocks that were hit and takes the first that was not
(Corbato 1968).

With `bits` above 1 a block counts its hits up to 2**bits - 1 and outlives as many passes of the hand (generalised
CLOCK, Smith 1978). Agrees with libCacheSim's Clock to the last miss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.rings import Rings, make_rings, push, take, take_oldest
from sim.policy import EvictionPolicy

QUEUE = 0


class State(NamedTuple):
    rings: Rings  # the circle, cut open at the hand: its oldest block is the next under it; info: hits not yet paid for
    most_hits: int


def init(context, *, bits=1):
    if not 1 <= bits <= 8:
        raise ValueError(f"bits is {bits}; expected 1 to 8")
    return State(rings=make_rings(context, 1, by_size=False), most_hits=2**bits - 1)


def on_hit(state, request):
    hits = state.rings.info
    hits[request.block] = min(np.int64(hits[request.block]) + 1, state.most_hits)  # no branch to mispredict


def on_insert(state, request):
    """Just behind the hand is where it comes last."""
    state.rings.info[request.block] = 0
    push(state.rings, QUEUE, request.block)


def evict(state, request):
    rings = state.rings
    while True:
        block = take_oldest(rings, QUEUE)
        if rings.info[block] == 0:
            return block
        rings.info[block] -= 1
        push(rings, QUEUE, block)


def remove(state, block):
    take(state.rings, QUEUE, block)


POLICY = EvictionPolicy(name="clock", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
