"""Least recently attended: the block leaves that no query has attended to for the longest time (Yang and Hua,
"Attendre", 2024).

The paper's memory holds keys and values of one layer, and an entry is attended to when it is among those that a query
retrieves. A trace says how many queries of an access attended to the block in its column `prediction`; -1, or a trace
without that column, is one. An access to which no query attended (0) leaves the block where it is in the order.
Entering counts as attention. Without the column this is LRU. How the paper orders entries that were attended to in the
same step we do not know; here each access is a step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.linked_list import make_lists, oldest, push_newest, unlink
from sim.policy import EvictionPolicy


class State(NamedTuple):
    links: np.ndarray  # one list, attended to most recently first
    queue: int  # its sentinel


def init(context):
    return State(links=make_lists(context.blocks), queue=context.blocks)


def on_hit(state, request):
    if request.prediction != 0:
        unlink(state.links, request.block)
        push_newest(state.links, state.queue, request.block)


def on_insert(state, request):
    push_newest(state.links, state.queue, request.block)


def evict(state, request):
    victim = oldest(state.links, state.queue)
    unlink(state.links, victim)
    return victim


def remove(state, block):
    unlink(state.links, block)


POLICY = EvictionPolicy(
    name="lra",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    uses=("prediction",),
)
