"""Random replacement: any resident block leaves, each as likely as another (Belady 1966)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.random import below, make_rng
from sim.policy import EvictionPolicy


class State(NamedTuple):
    members: np.ndarray  # uint32[blocks]: the resident blocks, without gaps
    slot: np.ndarray  # uint32[blocks]: where in members a resident block stands
    count: np.ndarray  # int64[1]: how many are resident
    rng: np.ndarray


def init(context):
    return State(
        members=np.zeros(context.blocks, np.uint32),
        slot=np.zeros(context.blocks, np.uint32),
        count=np.zeros(1, np.int64),
        rng=make_rng(context.seed),
    )


def on_hit(state, request):
    """Hits leave no trace."""


def on_insert(state, request):
    size = state.count[0]
    state.members[size] = request.block
    state.slot[request.block] = size
    state.count[0] = size + 1


@inlined
def _take(state, at):
    """Close the gap at place `at` with the last member."""
    size = state.count[0] - 1
    last = state.members[size]
    state.members[at] = last
    state.slot[last] = at
    state.count[0] = size


def evict(state, request):
    at = below(state.rng, state.count[0])
    victim = state.members[at]
    _take(state, at)
    return victim


def remove(state, block):
    _take(state, state.slot[block])


POLICY = EvictionPolicy(name="random", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
