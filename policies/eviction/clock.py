"""CLOCK, or FIFO with second chances: a hand passes over blocks that were hit and takes the first that was not
(Corbato 1968).

With `bits` above 1 a block counts its hits up to 2**bits - 1 and outlives as many passes of the hand (generalised
CLOCK, Smith 1978). Agrees with libCacheSim's Clock to the last miss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.linked_list import NEWER, make_lists, push_newest, unlink
from sim.policy import EvictionPolicy


class State(NamedTuple):
    links: np.ndarray  # one circle of the resident blocks and a sentinel, which the hand steps over
    hits: np.ndarray  # uint8[blocks]: hits not yet paid for
    hand: np.ndarray  # int64[1]: where the hand points
    queue: int  # the sentinel
    most_hits: int


def init(context, *, bits=1):
    if not 1 <= bits <= 8:
        raise ValueError(f"bits is {bits}; expected 1 to 8")
    return State(
        links=make_lists(context.blocks),
        hits=np.zeros(context.blocks, np.uint8),
        hand=np.array([context.blocks], np.int64),
        queue=context.blocks,
        most_hits=2**bits - 1,
    )


def on_hit(state, request):
    state.hits[request.block] = min(np.int64(state.hits[request.block]) + 1, state.most_hits)  # no branch to mispredict


def on_insert(state, request):
    """Just behind the hand is where it comes last."""
    state.hits[request.block] = 0
    push_newest(state.links, state.hand[0], request.block)


def evict(state, request):
    block = state.hand[0]
    while block == state.queue or state.hits[block] > 0:
        if block != state.queue:
            state.hits[block] -= 1
        block = state.links[block, NEWER]
    state.hand[0] = state.links[block, NEWER]
    unlink(state.links, block)
    return block


def remove(state, block):
    if state.hand[0] == block:
        state.hand[0] = state.links[block, NEWER]
    unlink(state.links, block)


POLICY = EvictionPolicy(name="clock", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
