"""A small queue that new blocks pass, a main one, and ghosts of what the small one gave up (2Q, S3-FIFO and their kin).

The functions work on any state that has `nodes` (of `make_nodes`, with three lists), `used` (int64[3], the bytes on
each), `queues` (the sentinel of the small list; main and ghost follow) and `ghost_capacity`; what else they need they
say. A block's place is its list, or one of the two below. The ghosts are asked before anything is evicted.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.linked_list import oldest, push_newest, unlink
from sim.kernels.nodes import counter_of, place_of, push_node, set_counter, set_place, set_size, size_of, take_node

SMALL, MAIN, GHOST = 0, 1, 2  # lists, by number
RECALLED, NOWHERE = 3, 4  # the place of a block that left the ghosts by this access; of one that is on no list


def check_ratios(small_ratio: float, ghost_ratio: float) -> None:
    """Raises ValueError for shares of the capacity that make no sense."""
    if not 0 < small_ratio < 1:
        raise ValueError(f"small_ratio is {small_ratio}; expected between 0 and 1")
    if not 0 <= ghost_ratio <= 100:
        raise ValueError(f"ghost_ratio is {ghost_ratio}; expected 0 to 100")


@inlined
def push(state, block, place):
    """Put a block that is on no list on one, its hits forgotten."""
    push_node(state.nodes, state.used, state.queues, block, place)
    set_counter(state.nodes, block, 0)


@inlined
def take(state, block):
    """Take a block off its list."""
    take_node(state.nodes, state.used, block, NOWHERE)


@inlined
def remember(state, block):
    """Make a ghost of `block`, forgetting the oldest ghosts for it."""
    size = size_of(state.nodes, block)
    if size > state.ghost_capacity:
        return
    while state.used[GHOST] + size > state.ghost_capacity:
        take(state, oldest(state.nodes, state.queues + GHOST))
    push(state, block, GHOST)


@inlined
def recall(state, block):
    """At a miss: a ghost is one no longer, but its insertion will know that it was."""
    place = place_of(state.nodes, block)
    if place == GHOST:
        take_node(state.nodes, state.used, block, RECALLED)
    elif place == RECALLED:
        set_place(state.nodes, block, NOWHERE)  # it was not inserted when it was recalled


@inlined
def was_remembered(state, request):
    """At an insertion: note the block's size; whether it comes back from the ghosts."""
    place = place_of(state.nodes, request.block)
    if place == GHOST:  # inserted without an access, as by a prefetch
        take(state, request.block)
    set_size(state.nodes, request.block, request.size_bytes)
    return place in (GHOST, RECALLED)


@inlined
def is_admitted(state, request):
    """Whether libCacheSim takes a block into the small queue, which it must not fill alone, or into the main one."""
    size = request.size_bytes
    if not state.as_libcachesim or size < state.small_capacity:
        return True
    return size == state.small_capacity and place_of(state.nodes, request.block) == RECALLED


@subroutine
def clock_victim(nodes, used, queue):
    """The victim of a queue whose oldest end is the hand of a CLOCK; -1 where it is empty."""
    while True:
        block = np.int64(oldest(nodes, queue))
        if block == queue:
            return np.int64(-1)
        hits = counter_of(nodes, block)
        if hits == 0:
            take_node(nodes, used, block, NOWHERE)
            return block
        set_counter(nodes, block, hits - 1)
        unlink(nodes, block)
        push_newest(nodes, queue, block)


@inlined
def lazily_promoted_victim(state):
    """The victim where the small queue promotes what was hit only when it would leave (S3-FIFO).

    The state has `small_capacity`, `main_capacity`, `promotion_hits` and `as_libcachesim`, too.
    """
    victim = np.int64(-1)
    if not _small_is_due(state):
        victim = clock_victim(state.nodes, state.used, state.queues + MAIN)
    if victim < 0:
        victim = _small_victim(state)
    if victim < 0:  # all of the small queue was promoted
        victim = clock_victim(state.nodes, state.used, state.queues + MAIN)
    return victim


@inlined
def _small_is_due(state):
    """Whether the small queue is to give up a block rather than the main one."""
    if state.as_libcachesim:
        return state.used[MAIN] <= state.main_capacity
    return state.used[SMALL] >= state.small_capacity


@inlined
def _small_victim(state):
    """The victim of the small queue, or of the main one where a promotion overfills it; -1 where all were promoted."""
    queue = state.queues + SMALL
    while True:
        block = np.int64(oldest(state.nodes, queue))
        if block == queue:
            return -1
        hits = counter_of(state.nodes, block)
        take(state, block)
        if hits < state.promotion_hits:
            remember(state, block)
            return block
        push(state, block, MAIN)
        if not state.as_libcachesim and state.used[MAIN] > state.main_capacity:
            return clock_victim(state.nodes, state.used, state.queues + MAIN)
