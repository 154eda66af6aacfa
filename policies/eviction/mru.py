"""Most recently used: the block that was accessed last leaves, so that of a loop larger than the cache a part stays
(Chou and DeWitt, VLDB 1985).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.linked_list import make_lists, newest, push_newest, unlink
from sim.policy import EvictionPolicy


class State(NamedTuple):
    links: np.ndarray  # one list, newest access first
    queue: int  # its sentinel


def init(context):
    return State(links=make_lists(context.blocks), queue=context.blocks)


def on_hit(state, request):
    unlink(state.links, request.block)
    push_newest(state.links, state.queue, request.block)


def on_insert(state, request):
    push_newest(state.links, state.queue, request.block)


def evict(state, request):
    victim = newest(state.links, state.queue)
    unlink(state.links, victim)
    return victim


def remove(state, block):
    unlink(state.links, block)


POLICY = EvictionPolicy(name="mru", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
