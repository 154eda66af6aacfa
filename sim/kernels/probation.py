"""A small queue that new blocks pass, a main one, and ghosts of what the small one gave up (2Q, S3-FIFO and their kin).

The functions work on any state that has `rings` (of `make_rings`, with three queues) and `ghost_capacity`; what else
they need they say. A block's place is its queue, or one of the two below. The ghosts are asked before anything is
evicted.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.rings import (
    bytes_on,
    counter_of,
    place_of,
    push,
    set_info,
    set_place,
    set_size,
    size_of,
    take,
    take_oldest,
)

SMALL, MAIN, GHOST = 0, 1, 2  # queues, by number
RECALLED, NOWHERE = 3, 4  # the place of a block that left the ghosts by this access; of one that is on no queue


def check_ratios(small_ratio: float, ghost_ratio: float) -> None:
    """Raises ValueError for shares of the capacity that make no sense."""
    if not 0 < small_ratio < 1:
        raise ValueError(f"small_ratio is {small_ratio}; expected between 0 and 1")
    if not 0 <= ghost_ratio <= 100:
        raise ValueError(f"ghost_ratio is {ghost_ratio}; expected 0 to 100")


@inlined
def enter(state, block, place):
    """Put a block that is on no queue on one, its hits forgotten."""
    set_info(state.rings, block, place, 0)
    push(state.rings, place, block)


@inlined
def leave(state, block):
    """Take a block off its queue."""
    take(state.rings, place_of(state.rings, block), block)
    set_place(state.rings, block, NOWHERE)


@inlined
def remember(state, block):
    """Make a ghost of `block`, which is on no queue, forgetting the oldest ghosts for it."""
    rings = state.rings
    size = size_of(rings, block)
    if size > state.ghost_capacity:
        set_info(rings, block, NOWHERE, 0)
        return
    while bytes_on(rings, GHOST) + size > state.ghost_capacity:
        set_place(rings, take_oldest(rings, GHOST), NOWHERE)
    enter(state, block, GHOST)


@inlined
def recall(state, block):
    """At a miss: a ghost is one no longer, but its insertion will know that it was."""
    place = place_of(state.rings, block)
    if place == GHOST:
        take(state.rings, GHOST, block)
        set_info(state.rings, block, RECALLED, 0)
    elif place == RECALLED:
        set_info(state.rings, block, NOWHERE, 0)  # it was not inserted when it was recalled


@inlined
def was_remembered(state, request):
    """At an insertion: note the block's size; whether it comes back from the ghosts."""
    place = place_of(state.rings, request.block)
    if place == GHOST:  # inserted without an access, as by a prefetch
        leave(state, request.block)
    set_size(state.rings, request.block, request.size_bytes)
    return place in (GHOST, RECALLED)


@inlined
def is_admitted(state, request):
    """Whether libCacheSim takes a block into the small queue, which it must not fill alone, or into the main one."""
    size = request.size_bytes
    if not state.as_libcachesim or size < state.small_capacity:
        return True
    return size == state.small_capacity and place_of(state.rings, request.block) == RECALLED


@subroutine
def clock_victim(rings):
    """The victim of the main queue, whose oldest end is the hand of a CLOCK; -1 where it is empty."""
    if bytes_on(rings, MAIN) == 0:
        return np.int64(-1)
    while True:
        block = take_oldest(rings, MAIN)
        hits = counter_of(rings, block)
        if hits == 0:
            set_info(rings, block, NOWHERE, 0)
            return block
        set_info(rings, block, MAIN, hits - 1)
        push(rings, MAIN, block)


@inlined
def lazily_promoted_victim(state):
    """The victim where the small queue promotes what was hit only when it would leave (S3-FIFO).

    The state has `small_capacity`, `main_capacity`, `promotion_hits` and `as_libcachesim`, too.
    """
    victim = np.int64(-1)
    if not _small_is_due(state):
        victim = clock_victim(state.rings)
    if victim < 0:
        victim = _small_victim(state)
    if victim < 0:  # all of the small queue was promoted
        victim = clock_victim(state.rings)
    return victim


@inlined
def _small_is_due(state):
    """Whether the small queue is to give up a block rather than the main one."""
    if state.as_libcachesim:
        return bytes_on(state.rings, MAIN) <= state.main_capacity
    return bytes_on(state.rings, SMALL) >= state.small_capacity


@inlined
def _small_victim(state):
    """The victim of the small queue, or of the main one where a promotion overfills it; -1 where all were promoted."""
    rings = state.rings
    while bytes_on(rings, SMALL) > 0:
        block = take_oldest(rings, SMALL)
        if counter_of(rings, block) < state.promotion_hits:
            remember(state, block)
            return block
        enter(state, block, MAIN)
        if not state.as_libcachesim and bytes_on(rings, MAIN) > state.main_capacity:
            return clock_victim(rings)
    return np.int64(-1)
