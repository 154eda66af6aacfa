"""SIEVE: a hand moves from old to new through a FIFO queue, spares blocks hit since it last passed and takes the first
that was not, leaving the spared where they stand (Zhang et al., NSDI 2024).

Agrees with libCacheSim's Sieve to the last miss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.linked_list import NEWER, make_lists, push_newest, unlink
from sim.policy import EvictionPolicy


class State(NamedTuple):
    links: np.ndarray  # one list, newest entry first
    visited: np.ndarray  # uint8[blocks]
    hand: np.ndarray  # int64[1]: the block to look at next; the sentinel sends it back to the oldest
    queue: int  # the sentinel


def init(context):
    return State(
        links=make_lists(context.blocks),
        visited=np.zeros(context.blocks, np.uint8),
        hand=np.array([context.blocks], np.int64),
        queue=context.blocks,
    )


def on_hit(state, request):
    state.visited[request.block] = 1


def on_insert(state, request):
    state.visited[request.block] = 0
    push_newest(state.links, state.queue, request.block)


def evict(state, request):
    block = state.hand[0]
    while block == state.queue or state.visited[block] == 1:
        if block != state.queue:
            state.visited[block] = 0
        block = state.links[block, NEWER]  # of the sentinel: the oldest block
    state.hand[0] = state.links[block, NEWER]
    unlink(state.links, block)
    return block


def remove(state, block):
    if state.hand[0] == block:
        state.hand[0] = state.links[block, NEWER]
    unlink(state.links, block)


POLICY = EvictionPolicy(name="sieve", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
