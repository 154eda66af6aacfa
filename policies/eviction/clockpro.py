"""CLOCK-Pro: LIRS by clock hands. Blocks are hot or cold, and a cold one that is accessed again during its test period,
which may outlast its stay in the cache, becomes hot (Jiang, Chen and Zhang, USENIX ATC 2005).

cold_ratio: the share of the capacity that cold blocks have at first; it adapts: an access during a test period adds the
size of the block, a test period that ends without one takes it away.

All blocks stand on one clock, in the order of their last move to its head, just behind the hot hand. The cold hand
stands at a cold block: it evicts it where it was not hit; where it was, it makes a tested block hot and moves another
to the head, to be tested again; and it goes on to the next cold block. The hot hand turns the first hot block that was
not hit cold, without a test, and ends the tests that it passes. The test hand ends tests where blocks evicted during
theirs, which stay on the clock, are more than the capacity. The cold blocks are also on a list of their own, in the
order of the clock, so that the cold hand need not walk over the others.

libCacheSim's ClockPro (`as_libcachesim`) refuses a block that would bring the cold ones over their share, at first
cold_ratio of the capacity. Blocks become hot, and the share changes, where its hands run; they run where it evicts; and
it evicts for want of room, which there always is for what it does not refuse. So it keeps the blocks that came first
and fit, whatever is accessed afterwards, and never evicts any. That form is here to compare counts with: they are equal
to the last miss, with cold_ratio=0.5 those of its Python binding, with 1 those of its binary. It misses 5 to 13 % of
the requests more than the paper's on a trace of block I/O.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.linked_list import NEWER, OLDER, make_lists, push_newest, unlink
from sim.kernels.nodes import counter_of, make_nodes, place_of, set_counter, set_place, set_size, size_of
from sim.policy import EvictionPolicy

HOT, COLD, TESTED, GHOST, NOWHERE = 0, 1, 2, 3, 4  # places: TESTED is cold during its test, GHOST was when it left
HOT_HAND, COLD_HAND, TEST_HAND, LAST_COLD = 0, 1, 2, 3  # the last is the nearest cold block behind the hot hand


class State(NamedTuple):
    nodes: np.ndarray  # one circle with a sentinel, at which no hand stops; place, whether hit, size as inserted
    cold: np.ndarray  # links of the resident cold blocks in the order of the circle, with a sentinel of the same number
    used: np.ndarray  # int64[5]: bytes of each place
    hands: np.ndarray  # int64[4]: the block that each hand looks at next; the sentinel where there is none
    cold_target: np.ndarray  # int64[1]: bytes that cold blocks should have, m_c in the paper
    capacity: int
    as_libcachesim: bool


def init(context, *, cold_ratio=1.0, as_libcachesim=False):
    if not 0 <= cold_ratio <= 1:
        raise ValueError(f"cold_ratio is {cold_ratio}; expected 0 to 1")
    return State(
        nodes=make_nodes(context.blocks, 1, NOWHERE),
        cold=make_lists(context.blocks),
        used=np.zeros(5, np.int64),
        hands=np.full(4, context.blocks, np.int64),
        cold_target=np.array([int(context.capacity * cold_ratio)], np.int64),
        capacity=context.capacity,
        as_libcachesim=as_libcachesim,
    )


@inlined
def _set_place(nodes, used, block, place):
    size = size_of(nodes, block)
    used[place_of(nodes, block)] -= size
    used[place] += size
    set_place(nodes, block, place)


@inlined
def _following(links, block):
    """The block after another one on a circle, whether or not that is still on it; the sentinel where it is empty."""
    sentinel = links.shape[0] - 1
    following = np.int64(links[block, NEWER])
    return np.int64(links[sentinel, NEWER]) if following == sentinel else following


@inlined
def _off_clock(nodes, hands, block):
    """Take a block off the clock; a hand that is at it goes on."""
    unlink(nodes, block)
    for hand in (HOT_HAND, TEST_HAND):
        if hands[hand] == block:
            hands[hand] = _following(nodes, block)


@inlined
def _enter_head(nodes, hands, block):
    """Put a block that is not on the clock at its head."""
    push_newest(nodes, hands[HOT_HAND], block)
    for hand in (HOT_HAND, TEST_HAND):
        if hands[hand] == nodes.shape[0] - 1:  # it is the first
            hands[hand] = block


@inlined
def _to_head(nodes, hands, block):
    """Move a block of the clock to its head."""
    _off_clock(nodes, hands, block)
    _enter_head(nodes, hands, block)


@inlined
def _add_cold(cold, hands, block):
    """Put a block that is just behind the hot hand on the list of cold blocks."""
    push_newest(cold, cold[hands[LAST_COLD], NEWER], block)
    hands[LAST_COLD] = block
    if hands[COLD_HAND] == cold.shape[0] - 1:
        hands[COLD_HAND] = block


@inlined
def _take_cold(cold, hands, block):
    """Take a block off that list; a hand that is at it goes on, the place where blocks are added goes back."""
    sentinel = cold.shape[0] - 1
    unlink(cold, block)
    if hands[COLD_HAND] == block:
        hands[COLD_HAND] = _following(cold, block)
    if hands[LAST_COLD] == block:
        older = np.int64(cold[block, OLDER])
        hands[LAST_COLD] = cold[sentinel, OLDER] if older == sentinel else older


@inlined
def _end_test(nodes, used, hands, cold_target, block):
    """A test period is over without an access."""
    cold_target[0] = max(cold_target[0] - size_of(nodes, block), 0)
    if place_of(nodes, block) == GHOST:
        _off_clock(nodes, hands, block)
        _set_place(nodes, used, block, NOWHERE)
    else:
        _set_place(nodes, used, block, COLD)


@subroutine
def _run_hot_hand(nodes, cold, used, hands, cold_target):
    """Turn the first hot block that was not hit cold, if there is a hot one."""
    while used[HOT] > 0:
        block = hands[HOT_HAND]
        hands[HOT_HAND] = _following(nodes, block)
        place = place_of(nodes, block)
        if place in (COLD, TESTED):
            hands[LAST_COLD] = block
        if place in (TESTED, GHOST):
            _end_test(nodes, used, hands, cold_target, block)
        elif place == HOT and counter_of(nodes, block) == 0:
            _set_place(nodes, used, block, COLD)
            _add_cold(cold, hands, block)
            return
        elif place == HOT:
            set_counter(nodes, block, 0)  # it is at the head as soon as the hand has passed it


@subroutine
def _forget_ghosts(nodes, used, hands, cold_target, capacity):
    """Run the test hand until the ghosts are no more than the capacity."""
    while used[GHOST] > capacity:
        block = hands[TEST_HAND]
        hands[TEST_HAND] = _following(nodes, block)
        if place_of(nodes, block) in (TESTED, GHOST):
            _end_test(nodes, used, hands, cold_target, block)


@subroutine
def _make_hot(nodes, cold, used, hands, cold_target, capacity, block):
    """A block on the clock, on no list of cold ones, was accessed during its test: it becomes hot, others make room."""
    cold_target[0] = min(cold_target[0] + size_of(nodes, block), capacity)
    set_counter(nodes, block, 0)
    _to_head(nodes, hands, block)
    _set_place(nodes, used, block, HOT)
    while used[HOT] > max(capacity - cold_target[0], 0):
        _run_hot_hand(nodes, cold, used, hands, cold_target)


@subroutine
def _evict(nodes, cold, used, hands, cold_target, capacity):
    while True:
        if used[COLD] + used[TESTED] == 0:
            _run_hot_hand(nodes, cold, used, hands, cold_target)
        block = hands[COLD_HAND]
        place = place_of(nodes, block)
        hit = counter_of(nodes, block) > 0
        _take_cold(cold, hands, block)
        if hit and place == TESTED:
            _make_hot(nodes, cold, used, hands, cold_target, capacity, block)
        elif hit:
            set_counter(nodes, block, 0)
            _to_head(nodes, hands, block)
            _add_cold(cold, hands, block)
            _set_place(nodes, used, block, TESTED)
        elif place == TESTED:
            _set_place(nodes, used, block, GHOST)
            _forget_ghosts(nodes, used, hands, cold_target, capacity)
            return block
        else:
            _off_clock(nodes, hands, block)
            _set_place(nodes, used, block, NOWHERE)
            return block


@inlined
def on_hit(state, request):
    set_counter(state.nodes, request.block, 1)


@inlined
def admit(state, request):
    return not state.as_libcachesim or state.used[COLD] + request.size_bytes <= state.cold_target[0]


@inlined
def evict(state, request):
    if state.as_libcachesim:
        return np.int64(request.block)
    return _evict(state.nodes, state.cold, state.used, state.hands, state.cold_target, state.capacity)


@inlined
def on_insert(state, request):
    block, nodes, used, hands = request.block, state.nodes, state.used, state.hands
    if place_of(nodes, block) == GHOST:
        used[GHOST] += request.size_bytes - size_of(nodes, block)
        set_size(nodes, block, request.size_bytes)
        _make_hot(nodes, state.cold, used, hands, state.cold_target, state.capacity, block)
        return
    set_size(nodes, block, request.size_bytes)
    used[NOWHERE] += request.size_bytes
    if state.as_libcachesim:
        _set_place(nodes, used, block, COLD)
        return
    set_counter(nodes, block, 0)
    _enter_head(nodes, hands, block)
    _add_cold(state.cold, hands, block)
    _set_place(nodes, used, block, TESTED)


@inlined
def remove(state, block):
    if not state.as_libcachesim:
        if place_of(state.nodes, block) != HOT:
            _take_cold(state.cold, state.hands, block)
        _off_clock(state.nodes, state.hands, block)
    _set_place(state.nodes, state.used, block, NOWHERE)


POLICY = EvictionPolicy(
    name="clockpro", init=init, on_hit=on_hit, on_insert=on_insert, admit=admit, evict=evict, remove=remove
)
