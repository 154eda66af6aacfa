"""First in, first out: the block that entered longest ago leaves, however often it was hit (Belady 1966)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.linked_list import make_lists, oldest, push_newest, unlink
from sim.policy import EvictionPolicy


class State(NamedTuple):
    links: np.ndarray  # one list, newest entry first
    queue: int  # its sentinel


def init(context):
    return State(links=make_lists(context.blocks), queue=context.blocks)


def on_hit(state, request):
    """Hits leave no trace."""


def on_insert(state, request):
    push_newest(state.links, state.queue, request.block)


def evict(state, request):
    victim = oldest(state.links, state.queue)
    unlink(state.links, victim)
    return victim


def remove(state, block):
    unlink(state.links, block)


POLICY = EvictionPolicy(name="fifo", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
