"""CACHEUS: at each eviction one of two experts, SR-LRU against scans and CR-LFU against churn, is drawn by its weight,
with a learning rate that adapts itself (Rodriguez et al., FAST 2021).

SR-LRU keeps new blocks on a list of its own (Q) from which it evicts; a block hit there or found in a history enters
the other list (S), whose oldest blocks are demoted to Q. A hit on a demoted block in Q makes S larger, a block found in
the history of SR-LRU that had entered Q as new makes Q larger. CR-LFU evicts, of the blocks of least frequency, the one
that got it last. A history for each expert remembers what it evicted, with its frequency, as much as `ghost_ratio` of
the capacity; a miss on a block that one of them holds multiplies the weight of that expert by e^-rate, no weight
getting above 0.99. Every N accesses the rate moves on in the direction in which the hit ratio rose; after ten times
without progress it is drawn anew, as at the start, between 0.001 and 1.

new_ratio: the share of Q at the start (0.01, as in the authors' program). ghost_ratio: of each history (0.5).
learning_rate: at the start; 0 draws it.

With sizes in bytes the lists' shares move by the paper's step times the size of the block, and N is how many blocks the
cache holds, so that the unit of size changes nothing. Where Q is empty SR-LRU evicts the oldest block of S.

libCacheSim's Cacheus is another policy in its details (`as_libcachesim`). Q has half of the capacity at first and never
more than its share, so that blocks are dropped before the cache is full; blocks lose their marks as they move, so that
Q grows alone; SR-LRU has a history of its own, beside those of the experts; the hit ratio is divided as a whole number,
so that the rate falls until it is 0.0001; weights may get to 0 and 1 and are compared with whole percents. A policy
here cannot drop a block during an insertion: such a block waits to be the next victim. If it is asked for before that,
the library counts a miss and memhier a hit; `late_hits` counts those. With them added the misses lie within what the
library's own runs differ by, which is much, as they start from a rate that is drawn.
"""

from __future__ import annotations

from math import exp
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.frequency_list import (
    GROUP,
    add_frequency,
    frequency_of,
    last_least_frequent,
    make_frequency_list,
    raise_frequency,
    take_frequency,
)
from sim.kernels.linked_list import oldest, push_newest, unlink
from sim.kernels.nodes import (
    counter_of,
    make_nodes,
    place_of,
    push_node,
    set_counter,
    set_place,
    set_size,
    size_of,
    take_node,
)
from sim.kernels.pool import add_row, make_pool, take_row
from sim.kernels.random import make_rng, uniform
from sim.policy import EvictionPolicy

S, Q, GHOST_LRU, GHOST_LFU = 0, 1, 2, 3  # lists, by number; the library's only history of SR-LRU is GHOST_LRU
RECALLED, NOWHERE = 4, 5  # places: found in a history by this access; on no list
NEW, DEMOTED, IN_LRU_G, IN_LFU_G = 1, 2, 4, 8  # marks of a block, in its counter; the last two the library's
LRU, LFU = 0, 1
MOST_WEIGHT = 0.99
LEAST_RATE, LIBRARY_LEAST_RATE = 0.001, 0.0001
PATIENCE = 10
RATE, RATE_BEFORE, HIT_RATIO = range(3)  # of learnt
DEMOTED_COUNT, NEW_COUNT, RESIDENT, SINCE, HITS, UNLEARNT, EVICTED = range(7)  # of numbers


class State(NamedTuple):
    nodes: np.ndarray  # four lists; place, marks, and size as inserted, of residents and ghosts
    used: np.ndarray  # int64[4]: bytes on each list
    ranks: np.ndarray  # resident blocks by frequency; a ghost's frequency; the library's histories of experts
    groups: np.ndarray
    shares: np.ndarray  # float64[2]: bytes that S and Q should have
    weights: np.ndarray  # float64[2]: of SR-LRU and CR-LFU
    learnt: np.ndarray  # float64[3]: learning rate, the one before, hit ratio then
    numbers: (
        np.ndarray
    )  # int64[7]: demoted blocks, new ghosts, residents, accesses and hits since, failures; 1 after an eviction
    expert_used: np.ndarray  # int64[2]: bytes in the library's histories of experts
    dropped: np.ndarray  # uint32[blocks, 1]: what the library would have dropped, and so waits to be evicted
    dropped_slot: np.ndarray
    dropped_count: np.ndarray
    late_hits: np.ndarray  # int64[1]: hits on such
    rng: np.ndarray
    queues: int  # sentinel of the first list in nodes and in ranks
    capacity: int
    ghost_capacity: int
    as_libcachesim: bool


def init(context, *, new_ratio=0.01, ghost_ratio=0.5, learning_rate=0.0, as_libcachesim=False):
    if not 0 < new_ratio < 1:
        raise ValueError(f"new_ratio is {new_ratio}; expected between 0 and 1")
    if not 0 <= ghost_ratio <= 100:
        raise ValueError(f"ghost_ratio is {ghost_ratio}; expected 0 to 100")
    if not 0 <= learning_rate <= 1:
        raise ValueError(f"learning_rate is {learning_rate}; expected 0 to 1")
    capacity, rng = context.capacity, make_rng(context.seed)
    ranks, groups = make_frequency_list(context.blocks, 3)
    dropped, dropped_slot, dropped_count = make_pool(context.blocks if as_libcachesim else 0)
    new = capacity // 2 if as_libcachesim else capacity * new_ratio
    old = capacity // 2 if as_libcachesim else capacity - new
    rate = learning_rate if learning_rate > 0 else _drawn_rate(rng, as_libcachesim)
    return State(
        nodes=make_nodes(context.blocks, 4, NOWHERE),
        used=np.zeros(4, np.int64),
        ranks=ranks,
        groups=groups,
        shares=np.array([old, new], np.float64),
        weights=np.full(2, 0.5),
        learnt=np.array([rate, 0.0, 0.0]),
        numbers=np.zeros(7, np.int64),
        expert_used=np.zeros(2, np.int64),
        dropped=dropped,
        dropped_slot=dropped_slot,
        dropped_count=dropped_count,
        late_hits=np.zeros(1, np.int64),
        rng=rng,
        queues=context.blocks,
        capacity=capacity,
        ghost_capacity=int(capacity * ghost_ratio),
        as_libcachesim=as_libcachesim,
    )


# ----------------------------------------------------------------------------------------------------- what both do


@subroutine
def _drawn_rate(rng, as_libcachesim):
    drawn = uniform(rng)
    if as_libcachesim:
        return LEAST_RATE + np.float64(np.int64(drawn * 1000)) / 1000
    return LEAST_RATE + (1 - LEAST_RATE) * drawn


@inlined
def _has(state, block, mark):
    return counter_of(state.nodes, block) & mark != 0


@inlined
def _mark(state, block, mark):
    set_counter(state.nodes, block, counter_of(state.nodes, block) | mark)


@inlined
def _unmark(state, block, mark):
    set_counter(state.nodes, block, counter_of(state.nodes, block) & ~mark)


@inlined
def _push(state, block, place):
    push_node(state.nodes, state.used, state.queues, block, place)


@inlined
def _take(state, block):
    take_node(state.nodes, state.used, block, NOWHERE)


@inlined
def _enter(state, block, place, frequency):
    _push(state, block, place)
    add_frequency(state.ranks, state.groups, state.queues, block, frequency)
    state.numbers[RESIDENT] += 1


@subroutine
def _leave(state, block):
    """A resident block leaves its lists; returns the frequency that it had."""
    frequency = frequency_of(state.ranks, state.groups, block)
    if _has(state, block, DEMOTED):
        state.numbers[DEMOTED_COUNT] -= 1
        _unmark(state, block, DEMOTED)
    _take(state, block)
    take_frequency(state.ranks, state.groups, block)
    state.numbers[RESIDENT] -= 1
    return frequency


@inlined
def _oldest_of_experts(state):
    """What SR-LRU would evict: the oldest block of Q, of S where that is empty."""
    block = np.int64(oldest(state.nodes, state.queues + Q))
    return block if block != state.queues + Q else np.int64(oldest(state.nodes, state.queues + S))


@inlined
def _move(state, block, place):
    _take(state, block)
    _push(state, block, place)


@subroutine
def _demote_oldest(state):
    block = np.int64(oldest(state.nodes, state.queues + S))
    _move(state, block, Q)
    if not _has(state, block, DEMOTED):
        _mark(state, block, DEMOTED)
        state.numbers[DEMOTED_COUNT] += 1


# -------------------------------------------------------------------------------------------------- the paper's form


@subroutine
def _grow(state, place, other_count, own_count, size):
    """Move the shares of S and Q: `place` gets larger by the ratio of the counts, in blocks as large as this one."""
    step = max(1, np.int64(np.float64(other_count) / np.float64(max(own_count, 1)) + 0.5)) * size
    most = np.float64(state.capacity - size)
    state.shares[place] = max(min(most, state.shares[place] + step), 0.0)
    state.shares[1 - place] = state.capacity - state.shares[place]


@inlined
def _limit_s(state):
    while state.used[S] > 0 and state.used[S] >= state.shares[S]:
        _demote_oldest(state)


@inlined
def _learn(state, hit):
    """One access more; at the end of a period the learning rate adapts."""
    numbers, learnt = state.numbers, state.learnt
    if numbers[EVICTED] == 0:
        return
    numbers[SINCE] += 1
    if hit:
        numbers[HITS] += 1
    if numbers[SINCE] >= max(numbers[RESIDENT], 1):
        ratio = np.float64(numbers[HITS]) / np.float64(numbers[SINCE])
        numbers[SINCE] = numbers[HITS] = 0
        _adapt(learnt, numbers, state.rng, ratio)


@subroutine
def _adapt(learnt, numbers, rng, ratio):
    rate = learnt[RATE]
    gain, change = ratio - learnt[HIT_RATIO], rate - learnt[RATE_BEFORE]
    learnt[RATE_BEFORE], learnt[HIT_RATIO] = rate, ratio
    if change != 0:
        step = abs(rate * change)
        moved = rate + step if gain * change > 0 else rate - step
        learnt[RATE] = min(max(moved, LEAST_RATE), 1.0)
        numbers[UNLEARNT] = 0
        return
    if ratio == 0 or gain <= 0:
        numbers[UNLEARNT] += 1
    if numbers[UNLEARNT] >= PATIENCE:
        numbers[UNLEARNT] = 0
        learnt[RATE] = _drawn_rate(rng, False)


@inlined
def _blame(state, expert):
    """An expert gave up a block that is asked for again: it loses weight."""
    weights = state.weights
    weights[expert] *= exp(-state.learnt[RATE])
    weights[expert] /= weights[expert] + weights[1 - expert]
    weights[expert] = min(max(weights[expert], 1 - MOST_WEIGHT), MOST_WEIGHT)
    weights[1 - expert] = 1 - weights[expert]


@subroutine
def _recall(state, block):
    """A ghost is asked for: learn from it, and forget it."""
    nodes, place = state.nodes, place_of(state.nodes, block)
    _take(state, block)
    if place == GHOST_LRU and _has(state, block, NEW):
        state.numbers[NEW_COUNT] -= 1
        _grow(state, Q, state.numbers[DEMOTED_COUNT], state.numbers[NEW_COUNT], size_of(nodes, block))
    _blame(state, LRU if place == GHOST_LRU else LFU)
    set_counter(nodes, block, 0)
    set_place(nodes, block, RECALLED)


@subroutine
def _remember(state, block, frequency, place):
    """Make a ghost of a block, forgetting the oldest ghosts for it."""
    state.ranks[block, GROUP] = frequency
    _push(state, block, place)
    if place == GHOST_LRU and _has(state, block, NEW):
        state.numbers[NEW_COUNT] += 1
    while state.used[place] > state.ghost_capacity:
        ghost = np.int64(oldest(state.nodes, state.queues + place))
        if place == GHOST_LRU and _has(state, ghost, NEW):
            state.numbers[NEW_COUNT] -= 1
        _take(state, ghost)


@subroutine
def _hit(state, block):
    nodes = state.nodes
    raise_frequency(state.ranks, state.groups, block)
    if place_of(nodes, block) == S:
        unlink(nodes, block)
        push_newest(nodes, state.queues + S, block)
        return
    size = size_of(nodes, block)
    if _has(state, block, DEMOTED):
        _grow(state, S, state.numbers[NEW_COUNT], state.numbers[DEMOTED_COUNT], size)
        _unmark(state, block, DEMOTED)
        state.numbers[DEMOTED_COUNT] -= 1
    _take(state, block)
    while state.used[S] > 0 and state.used[S] + size > state.shares[S]:
        _demote_oldest(state)
    _push(state, block, S)


@subroutine
def _evict(state):
    state.numbers[EVICTED] = 1
    recent = _oldest_of_experts(state)
    rare = last_least_frequent(state.ranks, state.groups, state.queues)
    if recent == rare:
        _leave(state, recent)
        return recent
    by_lru = uniform(state.rng) < state.weights[LRU]
    victim = recent if by_lru else rare
    frequency = _leave(state, victim)
    _remember(state, victim, frequency, GHOST_LRU if by_lru else GHOST_LFU)
    return victim


@subroutine
def _insert(state, block):
    nodes, used = state.nodes, state.used
    if place_of(nodes, block) == RECALLED:
        _enter(state, block, S, np.int64(state.ranks[block, GROUP]) + 1)
        _limit_s(state)
        return
    set_counter(nodes, block, 0)
    filling = state.numbers[EVICTED] == 0
    if filling and used[Q] == 0 and used[S] < state.shares[S]:
        _enter(state, block, S, np.int64(1))
    elif filling and used[Q] < state.shares[Q]:
        _enter(state, block, Q, np.int64(1))
    else:
        _mark(state, block, NEW)
        _enter(state, block, Q, np.int64(1))
        _limit_s(state)


# ------------------------------------------------------------------------------------------------ the library's form


@subroutine
def _library_learn(state, hit):
    """The end of the access before: at the end of a period the learning rate adapts. Then one access more."""
    numbers, learnt = state.numbers, state.learnt
    if numbers[SINCE] == state.capacity:
        ratio = np.float64(numbers[HITS] // state.capacity)
        gain, change, rate = ratio - learnt[HIT_RATIO], learnt[RATE] - learnt[RATE_BEFORE], learnt[RATE]
        learnt[RATE_BEFORE], learnt[HIT_RATIO] = rate, ratio
        if change != 0:
            step = abs(rate * change)
            moved = rate + step if gain / change > 0 else rate - step
            learnt[RATE] = moved if moved > LEAST_RATE else LIBRARY_LEAST_RATE
            numbers[UNLEARNT] = 0
        elif ratio == 0 or gain <= 0:
            numbers[UNLEARNT] += 1
        elif numbers[UNLEARNT] >= PATIENCE:
            numbers[UNLEARNT] = 0
            learnt[RATE] = _drawn_rate(state.rng, True)
        numbers[SINCE] = numbers[HITS] = 0
    numbers[SINCE] += 1
    if hit:
        numbers[HITS] += 1


@inlined
def _expert_forget(state, block, expert):
    """Take a block out of the history of an expert, which its links in ranks are on."""
    unlink(state.ranks, block)
    _unmark(state, block, IN_LRU_G if expert == LRU else IN_LFU_G)
    state.expert_used[expert] -= size_of(state.nodes, block)


@inlined
def _expert_remember(state, block, expert):
    queue = state.queues + 1 + expert
    if size_of(state.nodes, block) > state.capacity // 2:
        return
    while state.expert_used[expert] + size_of(state.nodes, block) > state.capacity // 2:
        _expert_forget(state, np.int64(oldest(state.ranks, queue)), expert)
    push_newest(state.ranks, queue, block)
    _mark(state, block, IN_LRU_G if expert == LRU else IN_LFU_G)
    state.expert_used[expert] += size_of(state.nodes, block)


@subroutine
def _library_leave(state, block):
    """A block leaves the lists for the history of SR-LRU."""
    was_new = _has(state, block, NEW)
    frequency = _leave(state, block)
    state.ranks[block, GROUP] = frequency
    if was_new:
        state.numbers[NEW_COUNT] += 1
    _push(state, block, GHOST_LRU)


@inlined
def _library_trim(state):
    while state.used[GHOST_LRU] >= state.capacity:
        _take(state, np.int64(oldest(state.nodes, state.queues + GHOST_LRU)))


@subroutine
def _library_miss(state, block):
    weights = state.weights
    if _has(state, block, IN_LRU_G):
        weights[LRU] *= exp(-state.learnt[RATE])
        _expert_forget(state, block, LRU)
    elif _has(state, block, IN_LFU_G):
        weights[LFU] *= exp(-state.learnt[RATE])
        _expert_forget(state, block, LFU)
    weights[LRU] /= weights[LRU] + weights[LFU]
    weights[LFU] = 1 - weights[LRU]


@subroutine
def _library_hit(state, block):
    """A hit in Q moves the block to S; marks get lost."""
    raise_frequency(state.ranks, state.groups, block)
    if place_of(state.nodes, block) == S:
        unlink(state.nodes, block)
        push_newest(state.nodes, state.queues + S, block)
        return
    set_counter(state.nodes, block, 0)
    _move(state, block, S)
    _library_limit_s(state, 0)


@subroutine
def _library_limit_s(state, size):
    """Demote until S has room for `size` more; what is demoted is no longer new."""
    while state.used[S] > 0 and state.used[S] + size > state.shares[S]:
        block = np.int64(oldest(state.nodes, state.queues + S))
        set_counter(state.nodes, block, 0)
        _demote_oldest(state)


@subroutine
def _library_evict(state):
    """The victim of an expert, which stays in the history of SR-LRU."""
    recent = _oldest_of_experts(state)
    rare = last_least_frequent(state.ranks, state.groups, state.queues)
    by_lru = np.float64(np.int64(uniform(state.rng) * 100)) / 100 < state.weights[LRU]
    victim = recent if by_lru else rare
    _library_leave(state, victim)
    if recent != rare:
        _expert_remember(state, victim, LRU if by_lru else LFU)
    _library_trim(state)
    return victim


@inlined
def _drop(state, block):
    add_row(state.dropped, state.dropped_slot, state.dropped_count, block)


@inlined
def _undrop(state, block):
    take_row(state.dropped, state.dropped_slot, state.dropped_count, np.int64(state.dropped_slot[block]))


@inlined
def _is_dropped(state, block):
    at = np.int64(state.dropped_slot[block])
    return at < state.dropped_count[0] and state.dropped[at, 0] == block


@inlined
def _live(state):
    return state.used[S] + state.used[Q]


@subroutine
def _library_insert(state, block, size):
    """Insert a block, and drop what overfills Q. One too large for its list is dropped itself."""
    nodes, numbers, shares = state.nodes, state.numbers, state.shares
    known = place_of(nodes, block) == GHOST_LRU
    if size > shares[S if known else Q]:
        _drop(state, block)
        return
    was_new = known and _has(state, block, NEW)
    frequency = np.int64(1)
    if known:
        frequency = np.int64(state.ranks[block, GROUP]) + 1
        _take(state, block)
        _library_limit_s(state, size)
    set_counter(nodes, block, 0 if known else NEW)
    set_size(nodes, block, size)
    _enter(state, block, S if known else Q, frequency)
    if was_new:
        ratio = np.int64(numbers[DEMOTED_COUNT] // max(numbers[NEW_COUNT], 1)) + 0.5
        wanted = shares[Q] + max(ratio, 1.0)
        most = _live(state) - 1
        shares[Q] = most if wanted > most else np.float64(np.int64(wanted))
        shares[S] = state.capacity - shares[Q]
    while state.used[Q] > 0 and state.used[Q] > shares[Q]:
        victim = np.int64(oldest(nodes, state.queues + Q))
        _library_leave(state, victim)
        _drop(state, victim)
    _library_trim(state)


@subroutine
def _late_hit(state, block, size):
    """The library has dropped this block: a miss there, with all that follows from it."""
    state.late_hits[0] += 1
    _library_learn(state, False)
    _library_miss(state, block)
    _undrop(state, block)
    while _live(state) > 0 and _live(state) + size > state.capacity:
        _drop(state, _library_evict(state))
    _library_insert(state, block, size)


# ---------------------------------------------------------------------------------------------------------------- hooks


@inlined
def on_hit(state, request):
    block = request.block
    if not state.as_libcachesim:
        _learn(state, True)
        _hit(state, block)
    elif _is_dropped(state, block):
        _late_hit(state, block, request.size_bytes)
    else:
        _library_learn(state, True)
        _library_hit(state, block)


@inlined
def on_miss(state, request):
    block = request.block
    if state.as_libcachesim:
        _library_learn(state, False)
        _library_miss(state, block)
        return
    _learn(state, False)
    place = place_of(state.nodes, block)
    if place in (GHOST_LRU, GHOST_LFU):
        _recall(state, block)
    elif place == RECALLED:
        set_place(state.nodes, block, NOWHERE)  # it was not inserted when it was recalled


@inlined
def evict(state, request):
    if not state.as_libcachesim:
        return _evict(state)
    if state.dropped_count[0] == 0:
        return _library_evict(state)
    victim = np.int64(state.dropped[state.dropped_count[0] - 1, 0])
    _undrop(state, victim)
    return victim


@inlined
def on_insert(state, request):
    block = request.block
    if state.as_libcachesim:
        if _has(state, block, IN_LRU_G | IN_LFU_G):  # inserted without an access, as by a prefetch
            _library_miss(state, block)
        _library_insert(state, block, request.size_bytes)
        return
    if place_of(state.nodes, block) in (GHOST_LRU, GHOST_LFU):  # inserted without an access, as by a prefetch
        _recall(state, block)
    set_size(state.nodes, block, request.size_bytes)
    _insert(state, block)


@inlined
def remove(state, block):
    if state.as_libcachesim and _is_dropped(state, block):
        _undrop(state, block)
    else:
        _leave(state, block)


POLICY = EvictionPolicy(
    name="cacheus",
    init=init,
    on_hit=on_hit,
    on_miss=on_miss,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    counts=("late_hits",),
)
