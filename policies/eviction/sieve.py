"""SIEVE: a hand moves from old to new through a FIFO queue, spares blocks hit since it last passed and takes the first
that was not, leaving the spared where they stand (Zhang et al., NSDI 2024).

Agrees with libCacheSim's Sieve to the last miss.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.kernels.rings import (
    HAND,
    Rings,
    block_at,
    hand_at,
    hand_is_at,
    make_rings,
    next_at,
    push,
    set_hand_after,
    set_info,
    take,
)
from sim.policy import EvictionPolicy

QUEUE = 0


class State(NamedTuple):
    rings: Rings  # one queue with a hand; a block's counter is 1 where it was hit since the hand last passed


def init(context):
    return State(rings=make_rings(context, 1, by_size=False))


def on_hit(state, request):
    set_info(state.rings, request.block, QUEUE, 1)


def on_insert(state, request):
    set_info(state.rings, request.block, QUEUE, 0)
    push(state.rings, QUEUE, request.block)


def evict(state, request):
    rings = state.rings
    at = hand_at(rings, QUEUE)
    block = block_at(rings, QUEUE, at)
    while rings.info[block] != 0:
        rings.info[block] = 0
        at = next_at(rings, QUEUE, at + 1)
        block = block_at(rings, QUEUE, at)
    set_hand_after(rings, QUEUE, at)
    take(rings, QUEUE, block)
    return block


def remove(state, block):
    if hand_is_at(state.rings, QUEUE, block):
        set_hand_after(state.rings, QUEUE, state.rings.ends[QUEUE, HAND])
    take(state.rings, QUEUE, block)


POLICY = EvictionPolicy(name="sieve", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
