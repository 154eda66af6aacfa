"""One bit of prediction, that a block may go: such blocks leave first, and where the predictions prove bad the cache
follows LRU (Antoniadis et al., "Paging with Succinct Predictions", ICML 2023: Mark0, made robust).

The prediction comes with each access, in the column `prediction`: 1 says that the optimum evicts the block before its
next access, anything else that it keeps it. `sim.predictions.discard_predictions` makes perfect ones; with those and
unit sizes this misses exactly as often as the optimum. Mark0 marks a block on an access that predicts 0 and unmarks it
on one that predicts 1. A block that is not marked leaves; where all are marked, all marks go. The paper allows any
unmarked block, this takes the least recently used.

On bad predictions Mark0 alone can do as badly as one likes. So Mark0 and LRU are both simulated, the cache follows one
of them by giving up blocks that it does not hold, and changes over when the one that it follows has missed more than
`switch_ratio` times as often as the other since the beginning (Fiat et al. 1991, "Competitive paging algorithms", on
combining algorithms; the paper leaves the choice of robust algorithm and combination open). robust: false follows Mark0
always. error_rate: this share of the predictions is turned round, at random.

Both are simulated on the accesses that the tier sees, as if every block were admitted. Where space is fragmented a
block may have to go that the one followed holds; it is then the least recently used.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.linked_list import NEWER, OLDER, make_lists, newest, oldest, push_newest, unlink
from sim.kernels.random import make_rng, uniform
from sim.policy import EvictionPolicy

MARK0, LRU, REAL = 0, 1, 2  # caches, by number; a block's `holders` has a bit for each
UNMARKED, MARKED, RECENCY, AGREED, SURPLUS = 0, 1, 0, 0, 1  # lists of the caches, by number


class State(NamedTuple):
    mark0: np.ndarray  # links of two lists: unmarked and marked blocks
    lru: np.ndarray  # links of one list
    real: np.ndarray  # links of two lists of the resident blocks: those that the one followed holds, and the others
    holders: np.ndarray  # uint8[blocks]: which caches hold a block
    size_of: np.ndarray  # int64[blocks]: of what a simulated cache holds
    used: np.ndarray  # int64[2]: bytes in the two simulated caches
    misses: np.ndarray  # int64[2]: their misses
    followed: np.ndarray  # int64[1]: which one the cache follows
    rng: np.ndarray
    queue: int  # sentinel of the first list of each cache
    capacity: int
    robust: bool
    switch_ratio: float
    error_rate: float


def init(context, *, robust=True, switch_ratio=1.1, error_rate=0.0):
    if not 1 <= switch_ratio < np.inf:
        raise ValueError(f"switch_ratio is {switch_ratio}; expected at least 1")
    if not 0 <= error_rate <= 1:
        raise ValueError(f"error_rate is {error_rate}; expected 0 to 1")
    return State(
        mark0=make_lists(context.blocks, 2),
        lru=make_lists(context.blocks),
        real=make_lists(context.blocks, 2),
        holders=np.zeros(context.blocks, np.uint8),
        size_of=np.zeros(context.blocks, np.int64),
        used=np.zeros(2, np.int64),
        misses=np.zeros(2, np.int64),
        followed=np.array([MARK0]),
        rng=make_rng(context.seed),
        queue=context.blocks,
        capacity=context.capacity,
        robust=robust,
        switch_ratio=switch_ratio,
        error_rate=error_rate,
    )


@inlined
def _holds(state, cache, block):
    return (state.holders[block] >> cache) & 1 == 1


@inlined
def _enter(state, cache, block):
    state.holders[block] = np.int64(state.holders[block]) | (1 << cache)


@inlined
def _leave(state, cache, block):
    state.holders[block] = np.int64(state.holders[block]) & ~(1 << cache)


@inlined
def _drop(state, cache, links, block):
    """Take a block out of a simulated cache."""
    unlink(links, block)
    _leave(state, cache, block)
    state.used[cache] -= state.size_of[block]
    if state.followed[0] == cache and _holds(state, REAL, block):
        unlink(state.real, block)
        push_newest(state.real, state.queue + SURPLUS, block)


@inlined
def _unmark_all(links, queue):
    """Make the marked blocks the unmarked ones, of which there are none."""
    unmarked, marked = queue + UNMARKED, queue + MARKED
    first, last = oldest(links, marked), newest(links, marked)
    links[unmarked, NEWER], links[unmarked, OLDER] = first, last
    links[first, OLDER], links[last, NEWER] = unmarked, unmarked
    links[marked, NEWER], links[marked, OLDER] = marked, marked


@subroutine
def _access(state, cache, links, place, block, counts):
    """An access in a simulated cache, which puts the block on its list number `place`."""
    if _holds(state, cache, block):
        unlink(links, block)
    else:
        state.misses[cache] += counts
        while state.used[cache] + state.size_of[block] > state.capacity:
            if oldest(links, state.queue) == state.queue:
                _unmark_all(links, state.queue)
            _drop(state, cache, links, np.int64(oldest(links, state.queue)))
        _enter(state, cache, block)
        state.used[cache] += state.size_of[block]
    push_newest(links, state.queue + place, block)


@subroutine
def _follow(state, cache):
    """Follow the other one from now on, and sort the resident blocks by whether it holds them."""
    real, agreed, surplus = state.real, state.queue + AGREED, state.queue + SURPLUS
    state.followed[0] = cache
    block = np.int64(oldest(real, surplus))
    while block != surplus:
        newer = np.int64(real[block, NEWER])
        if _holds(state, cache, block):
            unlink(real, block)
            push_newest(real, agreed, block)
        block = newer
    block = np.int64(oldest(real, agreed))
    while block != agreed:
        newer = np.int64(real[block, NEWER])
        if not _holds(state, cache, block):
            unlink(real, block)
            push_newest(real, surplus, block)
        block = newer


@subroutine
def _simulate(state, block, size_bytes, prediction, counts):
    """One access in both simulated caches; counts: 1 where misses count, 0 for a block that nobody asked for."""
    may_go = prediction == 1
    if state.error_rate > 0 and uniform(state.rng) < state.error_rate:
        may_go = not may_go
    if not _holds(state, MARK0, block) and not _holds(state, LRU, block):
        state.size_of[block] = min(size_bytes, state.capacity)
    _access(state, MARK0, state.mark0, UNMARKED if may_go else MARKED, block, counts)
    _access(state, LRU, state.lru, RECENCY, block, counts)
    followed = state.followed[0]
    if state.robust and state.misses[followed] > state.switch_ratio * state.misses[1 - followed]:
        _follow(state, 1 - followed)


@inlined
def on_hit(state, request):
    block = request.block
    _simulate(state, block, request.size_bytes, request.prediction, 1)
    unlink(state.real, block)
    push_newest(state.real, state.queue + AGREED, block)


@inlined
def on_miss(state, request):
    if request.size_bytes <= state.capacity:
        _simulate(state, request.block, request.size_bytes, request.prediction, 1)


@subroutine
def on_insert(state, request):
    block = request.block
    if not _holds(state, state.followed[0], block):  # inserted without an access, as by a prefetch
        _simulate(state, block, request.size_bytes, request.prediction, 0)
    _enter(state, REAL, block)
    push_newest(state.real, state.queue + AGREED, block)


@inlined
def evict(state, request):
    victim = np.int64(oldest(state.real, state.queue + SURPLUS))
    if victim == state.queue + SURPLUS:
        victim = np.int64(oldest(state.real, state.queue + AGREED))
    unlink(state.real, victim)
    _leave(state, REAL, victim)
    return victim


@subroutine
def remove(state, block):
    unlink(state.real, block)
    _leave(state, REAL, block)
    if _holds(state, MARK0, block):
        _drop(state, MARK0, state.mark0, block)
    if _holds(state, LRU, block):
        _drop(state, LRU, state.lru, block)


POLICY = EvictionPolicy(
    name="discard_bit",
    init=init,
    on_hit=on_hit,
    on_miss=on_miss,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    needs=("prediction",),
)
