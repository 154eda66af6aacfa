"""ARC, the adaptive replacement cache: balances a list of blocks seen once against one of blocks seen again, steered
by hits on the ghosts of both (Megiddo and Modha, FAST 2003).

The target size of the first list is a real number. With sizes in bytes a ghost hit moves it by the paper's step times
the size of the block, so that multiplying all sizes and the capacity changes nothing. libCacheSim moves it by the bare
step, about one byte (`as_libcachesim`); with that the counts agree to the last miss. With unit sizes the two are the
same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.linked_list import oldest
from sim.kernels.nodes import make_nodes, place_of, push_node, set_place, set_size, size_of, take_node
from sim.policy import EvictionPolicy

T1, T2, B1, B2 = 0, 1, 2, 3  # lists, by number: resident and seen once, seen again; ghosts of these
RECALLED_B1, RECALLED_B2, NOWHERE = 4, 5, 6  # places of blocks that left a ghost list by this access; on no list


class State(NamedTuple):
    nodes: np.ndarray  # the four lists; place and size as inserted of residents and ghosts
    used: np.ndarray  # int64[4]: bytes on each list
    target: np.ndarray  # float64[1]: bytes that T1 should have, p in the paper
    queues: int  # sentinel of T1; the others follow
    capacity: int
    as_libcachesim: bool


def init(context, *, as_libcachesim=False):
    return State(
        nodes=make_nodes(context.blocks, 4, NOWHERE),
        used=np.zeros(4, np.int64),
        target=np.zeros(1, np.float64),
        queues=context.blocks,
        capacity=context.capacity,
        as_libcachesim=as_libcachesim,
    )


@inlined
def _push(state, block, place):
    push_node(state.nodes, state.used, state.queues, block, place)


@inlined
def _take_oldest(state, place):
    """Take the oldest block off a list that is not empty."""
    block = oldest(state.nodes, state.queues + place)
    take_node(state.nodes, state.used, block, NOWHERE)
    return block


@inlined
def _recall(state, block):
    """A ghost is asked for: move the target towards the list that it fell off, and forget the ghost."""
    place = place_of(state.nodes, block)
    other = B2 if place == B1 else B1
    step = max(state.used[other] / state.used[place], 1.0)
    if not state.as_libcachesim:
        step *= size_of(state.nodes, block)
    if place == B1:
        state.target[0] = min(state.target[0] + step, float(state.capacity))
    else:
        state.target[0] = max(state.target[0] - step, 0.0)
    take_node(state.nodes, state.used, block, RECALLED_B1 if place == B1 else RECALLED_B2)


@inlined
def _replace(state, for_b2):
    """REPLACE of the paper: the oldest block of one of the lists becomes a ghost."""
    once, target = state.used[T1], state.target[0]
    from_t1 = once > 0 and (once > target or (for_b2 and once == target))
    place = T1 if from_t1 or state.used[T2] == 0 else T2
    victim = _take_oldest(state, place)
    _push(state, victim, B1 if place == T1 else B2)
    return victim


@inlined
def on_hit(state, request):
    take_node(state.nodes, state.used, request.block, NOWHERE)
    _push(state, request.block, T2)


@inlined
def on_miss(state, request):
    place = place_of(state.nodes, request.block)
    if place in (B1, B2):
        _recall(state, request.block)
    elif place != NOWHERE:
        set_place(state.nodes, request.block, NOWHERE)  # it was not inserted when it was recalled


@inlined
def evict(state, request):
    place, used = place_of(state.nodes, request.block), state.used
    if place not in (RECALLED_B1, RECALLED_B2):
        if used[T1] + used[B1] + request.size_bytes > state.capacity:
            if used[B1] > 0:
                _take_oldest(state, B1)
            elif used[T1] > 0:
                return _take_oldest(state, T1)  # the paper keeps no ghost here
        elif used[T1] + used[T2] + used[B1] + used[B2] >= 2 * state.capacity and used[B2] > 0:
            _take_oldest(state, B2)
    return _replace(state, place == RECALLED_B2)


@inlined
def on_insert(state, request):
    block = request.block
    place = place_of(state.nodes, block)
    if place in (B1, B2):  # inserted without an access, as by a prefetch
        _recall(state, block)
    set_size(state.nodes, block, request.size_bytes)
    _push(state, block, T1 if place == NOWHERE else T2)


@inlined
def remove(state, block):
    take_node(state.nodes, state.used, block, NOWHERE)


POLICY = EvictionPolicy(
    name="arc", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
