"""Least recently used, but in a scan, after `patience` misses in a row, the newest block leaves instead.

An example of a policy from outside of memhier: everything that it needs is in `sim`.
"""

from typing import NamedTuple

import numpy as np

import sim
from sim import newest, oldest, push_newest, unlink


class State(NamedTuple):
    links: np.ndarray  # one list, newest access first
    queue: int  # its sentinel
    misses: np.ndarray  # int64[1]: misses in a row
    patience: int


def init(context, *, patience=16):
    if patience < 1:
        raise ValueError(f"patience is {patience}; expected at least 1")
    return State(sim.make_lists(context.blocks), context.blocks, np.zeros(1, np.int64), patience)


def on_hit(state, request):
    state.misses[0] = 0
    unlink(state.links, request.block)
    push_newest(state.links, state.queue, request.block)


def on_insert(state, request):
    state.misses[0] += 1
    push_newest(state.links, state.queue, request.block)


def evict(state, request):
    scanning = state.misses[0] > state.patience
    victim = newest(state.links, state.queue) if scanning else oldest(state.links, state.queue)
    unlink(state.links, victim)
    return victim


def remove(state, block):
    unlink(state.links, block)


POLICY = sim.EvictionPolicy(
    name="scan_aware", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove
)


class MostRecent:
    """A plain class is a policy, too: the block that came last leaves first."""

    name = "most_recent"

    def __init__(self, context):
        self.blocks = []

    def on_hit(self, request):
        """Hits leave no trace."""

    def on_insert(self, request):
        self.blocks.append(request.block)

    def evict(self, request):
        return self.blocks.pop()
