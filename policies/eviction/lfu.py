"""Least frequently used: the block with the fewest accesses since it entered leaves, the least recently used of equals.

Every operation takes constant time (Shah, Mitra and Matani 2010). Frequency is forgotten on eviction. Agrees with
libCacheSim's LFU to the last miss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.frequency_list import (
    add_frequency,
    least_frequent,
    make_frequency_list,
    raise_frequency,
    take_frequency,
)
from sim.policy import EvictionPolicy


class State(NamedTuple):
    nodes: np.ndarray  # uint32[blocks + 1, 3]: the blocks by frequency
    groups: np.ndarray
    queue: int


def init(context):
    nodes, groups = make_frequency_list(context.blocks)
    return State(nodes=nodes, groups=groups, queue=context.blocks)


@inlined
def on_hit(state, request):
    raise_frequency(state.nodes, state.groups, request.block)


@inlined
def on_insert(state, request):
    add_frequency(state.nodes, state.groups, state.queue, request.block, 1)


@inlined
def evict(state, request):
    victim = least_frequent(state.nodes, state.queue)
    take_frequency(state.nodes, state.groups, victim)
    return victim


@inlined
def remove(state, block):
    take_frequency(state.nodes, state.groups, block)


POLICY = EvictionPolicy(name="lfu", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
