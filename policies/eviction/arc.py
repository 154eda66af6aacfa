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
from sim.kernels.rings import (
    Rings,
    bytes_on,
    make_rings,
    place_of,
    push,
    set_info,
    set_size,
    size_of,
    take,
    take_oldest,
)
from sim.policy import EvictionPolicy

T1, T2, B1, B2 = 0, 1, 2, 3  # queues, by number: resident and seen once, seen again; ghosts of these
RECALLED_B1, RECALLED_B2, NOWHERE = 4, 5, 6  # places of blocks that left a ghost queue by this access; on no queue


class State(NamedTuple):
    rings: Rings  # the four queues; place and size as inserted of residents and ghosts
    target: np.ndarray  # float64[1]: bytes that T1 should have, p in the paper
    capacity: int
    as_libcachesim: bool


def init(context, *, as_libcachesim=False):
    return State(
        rings=make_rings(context, 4, NOWHERE, capacity=2 * context.capacity),
        target=np.zeros(1, np.float64),
        capacity=context.capacity,
        as_libcachesim=as_libcachesim,
    )


@inlined
def _enter(state, block, place):
    """Put a block that is on no queue on one."""
    set_info(state.rings, block, place, 0)
    push(state.rings, place, block)


@inlined
def _forget_oldest(state, place):
    """Take the oldest block off a queue that is not empty, and keep nothing of it."""
    block = take_oldest(state.rings, place)
    set_info(state.rings, block, NOWHERE, 0)
    return block


@inlined
def _recall(state, block, place):
    """A ghost is asked for: move the target towards the queue that it fell off, and forget the ghost."""
    rings = state.rings
    other = B2 if place == B1 else B1
    step = max(bytes_on(rings, other) / bytes_on(rings, place), 1.0)
    if not state.as_libcachesim:
        step *= size_of(rings, block)
    if place == B1:
        state.target[0] = min(state.target[0] + step, float(state.capacity))
    else:
        state.target[0] = max(state.target[0] - step, 0.0)
    take(rings, place, block)
    set_info(rings, block, RECALLED_B1 if place == B1 else RECALLED_B2, 0)


@inlined
def _replace(state, for_b2):
    """REPLACE of the paper: the oldest block of one of the queues becomes a ghost."""
    once, target = bytes_on(state.rings, T1), state.target[0]
    from_t1 = once > 0 and (once > target or (for_b2 and once == target))
    place = T1 if from_t1 or bytes_on(state.rings, T2) == 0 else T2
    victim = take_oldest(state.rings, place)
    _enter(state, victim, B1 if place == T1 else B2)
    return victim


@inlined
def on_hit(state, request):
    block = request.block
    take(state.rings, place_of(state.rings, block), block)
    _enter(state, block, T2)


@inlined
def on_miss(state, request):
    place = place_of(state.rings, request.block)
    if place in (B1, B2):
        _recall(state, request.block, place)
    elif place != NOWHERE:
        set_info(state.rings, request.block, NOWHERE, 0)  # it was not inserted when it was recalled


@inlined
def evict(state, request):
    rings = state.rings
    place = place_of(rings, request.block)
    if place not in (RECALLED_B1, RECALLED_B2):
        t1, b1 = bytes_on(rings, T1), bytes_on(rings, B1)
        if t1 + b1 + request.size_bytes > state.capacity:
            if b1 > 0:
                _forget_oldest(state, B1)
            elif t1 > 0:
                return _forget_oldest(state, T1)  # the paper keeps no ghost here
        elif t1 + b1 + bytes_on(rings, T2) + bytes_on(rings, B2) >= 2 * state.capacity and bytes_on(rings, B2) > 0:
            _forget_oldest(state, B2)
    return _replace(state, place == RECALLED_B2)


@inlined
def on_insert(state, request):
    block = request.block
    place = place_of(state.rings, block)
    if place in (B1, B2):  # inserted without an access, as by a prefetch
        _recall(state, block, place)
    set_size(state.rings, block, request.size_bytes)
    _enter(state, block, T1 if place == NOWHERE else T2)


@inlined
def remove(state, block):
    take(state.rings, place_of(state.rings, block), block)
    set_info(state.rings, block, NOWHERE, 0)


POLICY = EvictionPolicy(
    name="arc", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
