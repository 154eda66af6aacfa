"""LeCaR: at each eviction one of two experts, LRU and LFU, is drawn by its weight, which regret lowers: a block that an
expert gave up is asked for again (Vietri et al., HotStorage 2018).

A history for each expert remembers what it evicted, as much as `ghost_ratio` of the capacity. A miss on a block that
one of them holds, t requests after its eviction, multiplies the weight of that expert by e^(-learning_rate * r), with
r = discount^(t / N); both weights are then divided by their sum. Where both experts would evict the same block, it is
evicted and not remembered.

learning_rate: 0.45. discount: 0.005. lru_weight: LRU's weight at the start. ghost_ratio: of each history.

As in its authors' program, a block found in a history comes back with the frequency that it had, plus one, and no
weight gets above 0.99. N is how many blocks the cache holds, so that the unit of size changes nothing. libCacheSim's
LeCaR (`as_libcachesim`) starts each block at frequency 1, lets weights come within 1e-10 of 0 and 1, compares them with
whole percents, and takes the capacity for N, bytes where sizes are in bytes. With it the misses agree within what the
library's own runs differ by.
"""

from __future__ import annotations

from math import exp
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.frequency_list import (
    GROUP,
    add_frequency,
    frequency_of,
    least_frequent,
    make_frequency_list,
    raise_frequency,
    take_frequency,
)
from sim.kernels.linked_list import NEWER, OLDER, oldest, push_newest, unlink
from sim.kernels.nodes import make_nodes, place_of, push_node, set_place, set_size, take_node
from sim.kernels.random import make_rng, uniform
from sim.policy import EvictionPolicy

CACHE, GHOST_LRU, GHOST_LFU = 0, 1, 2  # lists, by number
RECALLED, NOWHERE = 3, 4  # the place of a block that left a history by this access; of one that is on no list
LRU, LFU = 0, 1  # columns of weights
MOST_WEIGHT = 0.99
LIBRARY_FLOOR = 1e-10


class State(NamedTuple):
    nodes: np.ndarray  # the cache by recency, and both histories; place and size as inserted
    used: np.ndarray  # int64[3]: bytes on each list
    ranks: np.ndarray  # the resident blocks by frequency; of a ghost (time low, time high, frequency) at its eviction
    groups: np.ndarray
    count: np.ndarray  # int64[1]: how many are resident
    weights: np.ndarray  # float64[2]: of LRU and LFU
    rng: np.ndarray
    queues: int  # sentinel of the first list in nodes; the only one in ranks
    capacity: int
    ghost_capacity: int
    learning_rate: float
    discount: float
    as_libcachesim: bool


def init(context, *, learning_rate=0.45, discount=0.005, lru_weight=0.5, ghost_ratio=0.5, as_libcachesim=False):
    if not 0 <= learning_rate <= 100:
        raise ValueError(f"learning_rate is {learning_rate}; expected 0 to 100")
    if not 0 < discount <= 1:
        raise ValueError(f"discount is {discount}; expected above 0 and at most 1")
    if not 0 <= lru_weight <= 1:
        raise ValueError(f"lru_weight is {lru_weight}; expected 0 to 1")
    if not 0 <= ghost_ratio <= 100:
        raise ValueError(f"ghost_ratio is {ghost_ratio}; expected 0 to 100")
    ranks, groups = make_frequency_list(context.blocks)
    return State(
        nodes=make_nodes(context.blocks, 3, NOWHERE),
        used=np.zeros(3, np.int64),
        ranks=ranks,
        groups=groups,
        count=np.zeros(1, np.int64),
        weights=np.array([lru_weight, 1 - lru_weight]),
        rng=make_rng(context.seed),
        queues=context.blocks,
        capacity=context.capacity,
        ghost_capacity=int(context.capacity * ghost_ratio),
        learning_rate=learning_rate,
        discount=discount,
        as_libcachesim=as_libcachesim,
    )


@inlined
def _regret(state, block, expert, now):
    """An expert gave up a block that is asked for again: it loses weight."""
    evicted = np.int64(state.ranks[block, NEWER]) | (np.int64(state.ranks[block, OLDER]) << 32)
    n = state.capacity if state.as_libcachesim else max(state.count[0], 1)
    regret = state.discount ** (np.float64(now - evicted) / np.float64(n))
    weights, other = state.weights, 1 - expert
    floor = LIBRARY_FLOOR if state.as_libcachesim else 0.0
    weights[expert] = weights[expert] * exp(-state.learning_rate * regret) + floor
    weights[other] += floor
    weights[expert] /= weights[expert] + weights[other]
    if not state.as_libcachesim:
        weights[expert] = min(max(weights[expert], 1 - MOST_WEIGHT), MOST_WEIGHT)
    weights[other] = 1 - weights[expert]


@inlined
def _recall(state, block, now):
    """A ghost is asked for: weigh its expert anew, and forget it."""
    place = place_of(state.nodes, block)
    _regret(state, block, LRU if place == GHOST_LRU else LFU, now)
    take_node(state.nodes, state.used, block, RECALLED)


@inlined
def _remember(state, block, frequency, now, place):
    """Make a ghost of `block`, forgetting the oldest ghosts for it."""
    state.ranks[block, NEWER] = now & 0xFFFFFFFF
    state.ranks[block, OLDER] = now >> 32
    state.ranks[block, GROUP] = frequency
    push_node(state.nodes, state.used, state.queues, block, place)
    while state.used[place] > state.ghost_capacity:
        take_node(state.nodes, state.used, oldest(state.nodes, state.queues + place), NOWHERE)


@inlined
def _leave(state, block):
    take_node(state.nodes, state.used, block, NOWHERE)
    take_frequency(state.ranks, state.groups, block)
    state.count[0] -= 1


@inlined
def on_hit(state, request):
    unlink(state.nodes, request.block)
    push_newest(state.nodes, state.queues + CACHE, request.block)
    raise_frequency(state.ranks, state.groups, request.block)


@inlined
def on_miss(state, request):
    place = place_of(state.nodes, request.block)
    if place in (GHOST_LRU, GHOST_LFU):
        _recall(state, request.block, request.index)
    elif place == RECALLED:
        set_place(state.nodes, request.block, NOWHERE)  # it was not inserted when it was recalled


@inlined
def _lru_is_drawn(state):
    drawn = uniform(state.rng)
    if state.as_libcachesim:
        drawn = np.float64(np.int64(drawn * 100)) / 100
    return drawn < state.weights[LRU]


@inlined
def evict(state, request):
    recent = np.int64(oldest(state.nodes, state.queues + CACHE))
    rare = least_frequent(state.ranks, state.queues)
    if recent == rare:
        _leave(state, recent)
        return recent
    by_lru = _lru_is_drawn(state)
    victim = recent if by_lru else rare
    frequency = frequency_of(state.ranks, state.groups, victim)
    _leave(state, victim)
    _remember(state, victim, frequency, request.index, GHOST_LRU if by_lru else GHOST_LFU)
    return victim


@inlined
def on_insert(state, request):
    block = request.block
    if place_of(state.nodes, block) in (GHOST_LRU, GHOST_LFU):  # inserted without an access, as by a prefetch
        _recall(state, block, request.index)
    known = place_of(state.nodes, block) == RECALLED and not state.as_libcachesim
    frequency = np.int64(state.ranks[block, GROUP]) + 1 if known else np.int64(1)
    set_size(state.nodes, block, request.size_bytes)
    push_node(state.nodes, state.used, state.queues, block, CACHE)
    add_frequency(state.ranks, state.groups, state.queues, block, frequency)
    state.count[0] += 1


@inlined
def remove(state, block):
    _leave(state, block)


POLICY = EvictionPolicy(
    name="lecar", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
