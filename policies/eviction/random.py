"""Random replacement: any resident block leaves, each as likely as another (Belady 1966)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.pool import add_row, make_pool, take_row
from sim.kernels.random import below, make_rng
from sim.policy import EvictionPolicy


class State(NamedTuple):
    members: np.ndarray  # uint32[blocks, 1]: the resident blocks, without gaps
    slot: np.ndarray  # uint32[blocks]: where in members a resident block stands
    count: np.ndarray  # int64[1]: how many are resident
    rng: np.ndarray


def init(context):
    members, slot, count = make_pool(context.blocks)
    return State(members=members, slot=slot, count=count, rng=make_rng(context.seed))


def on_hit(state, request):
    """Hits leave no trace."""


def on_insert(state, request):
    add_row(state.members, state.slot, state.count, request.block)


def evict(state, request):
    at = below(state.rng, state.count[0])
    victim = state.members[at, 0]
    take_row(state.members, state.slot, state.count, at)
    return victim


def remove(state, block):
    take_row(state.members, state.slot, state.count, state.slot[block])


POLICY = EvictionPolicy(name="random", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
