"""CAR, CLOCK with adaptive replacement: ARC's two lists and two ghost lists, with the lists of residents as clocks, so
that a hit sets a bit and moves nothing (Bansal and Modha, FAST 2004).

The target size of the first clock is a real number. With sizes in bytes a ghost hit moves it by the paper's step times
the size of the block, so that multiplying all sizes and the capacity changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.linked_list import oldest, push_newest, unlink
from sim.kernels.nodes import (
    counter_of,
    make_nodes,
    place_of,
    push_node,
    set_counter,
    set_size,
    size_of,
    take_node,
)
from sim.policy import EvictionPolicy

T1, T2, B1, B2, NOWHERE = 0, 1, 2, 3, 4  # lists, by number: resident clocks, their ghosts; on no list


class State(NamedTuple):
    nodes: np.ndarray  # the four lists; place, reference bit, and size as inserted, of residents and ghosts
    used: np.ndarray  # int64[4]: bytes on each list
    target: np.ndarray  # float64[1]: bytes that T1 should have, p in the paper
    queues: int  # sentinel of T1; the others follow
    capacity: int


def init(context):
    return State(
        nodes=make_nodes(context.blocks, 4, NOWHERE),
        used=np.zeros(4, np.int64),
        target=np.zeros(1, np.float64),
        queues=context.blocks,
        capacity=context.capacity,
    )


@inlined
def _push(state, block, place):
    push_node(state.nodes, state.used, state.queues, block, place)


@inlined
def _take(state, block):
    take_node(state.nodes, state.used, block, NOWHERE)


@inlined
def on_hit(state, request):
    set_counter(state.nodes, request.block, 1)


@inlined
def evict(state, request):
    """replace() of the paper: the hands are the oldest ends, and what a hand spares goes to the newest end of T2."""
    nodes, used, queues = state.nodes, state.used, state.queues
    while True:
        from_t1 = used[T1] > 0 and (used[T1] >= state.target[0] or used[T2] == 0)
        block = np.int64(oldest(nodes, queues if from_t1 else queues + T2))
        spared = counter_of(nodes, block) == 1
        if spared:
            set_counter(nodes, block, 0)
        if spared and not from_t1:
            unlink(nodes, block)
            push_newest(nodes, queues + T2, block)
            continue
        _take(state, block)
        if spared:
            _push(state, block, T2)
            continue
        _push(state, block, B1 if from_t1 else B2)
        return block


@inlined
def _adapt(state, block):
    """A ghost came back: move the target towards the clock that it fell off."""
    place = place_of(state.nodes, block)
    other = B2 if place == B1 else B1
    step = max(state.used[other] / state.used[place], 1.0) * size_of(state.nodes, block)
    if place == B1:
        state.target[0] = min(state.target[0] + step, float(state.capacity))
    else:
        state.target[0] = max(state.target[0] - step, 0.0)


@inlined
def _forget_ghosts(state, size_bytes):
    """Make room in the directory for a block that is not in it."""
    used, capacity = state.used, state.capacity
    while used[B1] > 0 and used[T1] + used[B1] + size_bytes > capacity:
        _take(state, oldest(state.nodes, state.queues + B1))
    while used[B2] > 0 and used[T1] + used[T2] + used[B1] + used[B2] + size_bytes > 2 * capacity:
        _take(state, oldest(state.nodes, state.queues + B2))


@inlined
def on_insert(state, request):
    block = request.block
    known = place_of(state.nodes, block) != NOWHERE
    if known:
        _adapt(state, block)
        _take(state, block)
    else:
        _forget_ghosts(state, request.size_bytes)
    set_size(state.nodes, block, request.size_bytes)
    set_counter(state.nodes, block, 0)
    _push(state, block, T2 if known else T1)


@inlined
def remove(state, block):
    _take(state, block)


POLICY = EvictionPolicy(name="car", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
