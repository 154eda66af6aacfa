"""First in, first out: the block that entered longest ago leaves, however often it was hit (Belady 1966)."""

from __future__ import annotations

from typing import NamedTuple

from sim.kernels.rings import Rings, make_rings, push, take, take_oldest
from sim.policy import EvictionPolicy

QUEUE = 0


class State(NamedTuple):
    rings: Rings  # one queue


def init(context):
    return State(rings=make_rings(context, 1, by_size=False))


def on_hit(state, request):
    """Hits leave no trace."""


def on_insert(state, request):
    push(state.rings, QUEUE, request.block)


def evict(state, request):
    return take_oldest(state.rings, QUEUE)


def remove(state, block):
    take(state.rings, QUEUE, block)


POLICY = EvictionPolicy(name="fifo", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
