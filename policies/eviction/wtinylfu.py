"""W-TinyLFU: new blocks enter a small LRU window; what falls out of it enters the main segmented LRU only if a sketch
of recent accesses says that it is the more popular of itself and the block that it would replace (Einziger, Friedman
and Manes, ACM Transactions on Storage 2017).

window_ratio: the window's share of the capacity; protected_ratio: the protected segment's share of the rest. The sketch
is a count-min sketch with counters of 4 bits that is halved after sample_factor times as many accesses as the cache has
held blocks. counters: in each of its four rows, 0 for as many as the trace has blocks. doorkeeper: let only blocks seen
before into the sketch. Accesses are hits, misses, and insertions without an access.

The window holds the newest block even where its share is less. Sizes do not enter the comparison, as in the paper;
where a block admitted is larger than the one it replaced, the next eviction is from the main part.

libCacheSim's WTinyLFU differs in most of this (`as_libcachesim`, of whose parameters window_ratio is the only one):
- The sketch is a counting Bloom filter of the addresses. It counts hits in the main part, insertions, and falls from
  the window, and is halved after as many hits in the main part as 32 times its capacity.
- Blocks larger than the window or than the probation segment, a fifth of the main part, are refused. Those are all
  blocks in a cache of fewer than 100.
- Until the cache is full, all blocks are in the window, which has no limit of its own; when there is need of room, it
  empties into the main part until that is full.
- The main part is libCacheSim's SLRU (see `slru`): a block from the window enters the protected segment where the
  probation segment is full and the protected one is not, and what a hit moves out of the probation segment leaves the
  cache at once, during the hit. A policy cannot evict during a hit, so such a block waits to be the next victim. If it
  is accessed before that, libCacheSim counts a miss; here it is a hit, handled as the insertion that it is there and
  counted in `late_hits`. Misses plus late hits are libCacheSim's misses, to the last one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.counting_bloom import CountingBloom, bloom_count, bloom_estimate, bloom_halve, make_counting_bloom
from sim.kernels.frequency_sketch import Sketch, count_access, estimate, make_sketch
from sim.kernels.rings import (
    Rings,
    bytes_on,
    make_rings,
    move_to_newest,
    oldest,
    oldest_or_none,
    place_of,
    push,
    set_info,
    set_size,
    size_of,
    take,
    take_oldest,
)
from sim.policy import EvictionPolicy

WINDOW, PROBATION, PROTECTED, WAITING = 0, 1, 2, 3  # queues, by number; the last only as_libcachesim
# of counts: blocks now; blocks at most so far; block of the last miss; hits in the main part since the last halving
RESIDENTS, MOST_RESIDENTS, NOTED, MAIN_HITS = 0, 1, 2, 3
LIBRARY_PROBATION, LIBRARY_PERIOD = 0.2, 32


class State(NamedTuple):
    rings: Rings  # the four queues; place, and size as inserted
    sketch: Sketch
    bloom: CountingBloom
    address: np.ndarray  # int64[blocks] as_libcachesim
    late_hits: np.ndarray  # int64[1]: hits on blocks that libCacheSim would have evicted
    counts: np.ndarray  # int64[4]
    window_capacity: int
    main_capacity: int
    probation_capacity: int  # as_libcachesim
    protected_capacity: int
    sample_factor: int
    as_libcachesim: bool


def init(
    context,
    *,
    window_ratio=0.01,
    protected_ratio=0.8,
    sample_factor=10,
    counters=0,
    doorkeeper=False,
    as_libcachesim=False,
):
    if not 0 <= window_ratio <= 1:
        raise ValueError(f"window_ratio is {window_ratio}; expected 0 to 1")
    if not 0 <= protected_ratio <= 1:
        raise ValueError(f"protected_ratio is {protected_ratio}; expected 0 to 1")
    if sample_factor < 1:
        raise ValueError(f"sample_factor is {sample_factor}; expected at least 1")
    if counters < 0:
        raise ValueError(f"counters is {counters}; expected at least 0")
    window = int(context.capacity * window_ratio)
    main = context.capacity - window
    return State(
        rings=make_rings(context, 4),
        sketch=make_sketch(1 if as_libcachesim else counters or context.blocks, doorkeeper),
        bloom=make_counting_bloom(main if as_libcachesim else 0, context.blocks),
        address=np.zeros(context.blocks if as_libcachesim else 0, np.int64),
        late_hits=np.zeros(1, np.int64),
        counts=np.array([0, 0, -1, 0]),
        window_capacity=window,
        main_capacity=main,
        probation_capacity=int(main * LIBRARY_PROBATION),
        protected_capacity=int(main * (1 - LIBRARY_PROBATION if as_libcachesim else protected_ratio)),
        sample_factor=sample_factor,
        as_libcachesim=as_libcachesim,
    )


@inlined
def _push(state, block, place):
    set_info(state.rings, block, place, 0)
    push(state.rings, place, block)


@inlined
def _take(state, block):
    take(state.rings, place_of(state.rings, block), block)


@inlined
def _count(state, block):
    count_access(state.sketch, block, state.sample_factor * max(state.counts[MOST_RESIDENTS], 1))


@inlined
def _protect(state, block):
    """A hit in the probation segment: what the protected one cannot hold sinks back."""
    _take(state, block)
    _push(state, block, PROTECTED)
    while bytes_on(state.rings, PROTECTED) > state.protected_capacity:
        _push(state, take_oldest(state.rings, PROTECTED), PROBATION)


@inlined
def _main_victim(state):
    """The block that the main part would give up; -1 where it is empty."""
    block = oldest_or_none(state.rings, PROBATION)
    return block if block >= 0 else oldest_or_none(state.rings, PROTECTED)


@inlined
def _main_bytes(state):
    return bytes_on(state.rings, PROBATION) + bytes_on(state.rings, PROTECTED)


@inlined
def _let_wait(state, block):
    """libCacheSim evicts this block of one of the lists."""
    _take(state, block)
    _push(state, block, WAITING)


@subroutine
def _enter_main(state, block):
    """Into the first segment with room, else into probation; sizes may ask for more room than one block left."""
    size = size_of(state.rings, block)
    if bytes_on(state.rings, PROBATION) + size > state.probation_capacity:
        if bytes_on(state.rings, PROTECTED) + size <= state.protected_capacity:
            _push(state, block, PROTECTED)
            return
        while _main_bytes(state) + size > state.main_capacity:
            _let_wait(state, _main_victim(state))
    _push(state, block, PROBATION)


@subroutine
def _make_room(state):
    """One eviction of libCacheSim's, during which several blocks may leave."""
    while True:
        falling = oldest_or_none(state.rings, WINDOW)
        if falling < 0:
            _let_wait(state, _main_victim(state))
            return
        full = _main_bytes(state) + size_of(state.rings, falling) > state.main_capacity
        enters = not full
        if full:
            victim = _main_victim(state)
            popularity = bloom_estimate(state.bloom, state.address[falling])
            enters = popularity > bloom_estimate(state.bloom, state.address[victim])
            if enters:
                _let_wait(state, victim)
        if enters:
            _take(state, falling)
            _enter_main(state, falling)
        else:
            _let_wait(state, falling)
        bloom_count(state.bloom, state.address[falling])
        if full:
            return


@subroutine
def _enter_as_library(state, block):
    while bytes_on(state.rings, WINDOW) + _main_bytes(state) + size_of(state.rings, block) > (
        state.window_capacity + state.main_capacity
    ):
        _make_room(state)
    _push(state, block, WINDOW)
    bloom_count(state.bloom, state.address[block])


@subroutine
def _hit_as_library(state, block):
    rings, place = state.rings, place_of(state.rings, block)
    if place == WAITING:
        state.late_hits[0] += 1
        _take(state, block)
        _enter_as_library(state, block)
        return
    if place != PROBATION:
        move_to_newest(rings, place, block)
    else:
        sinks = bytes_on(rings, PROTECTED) + size_of(rings, block) > state.protected_capacity
        _protect(state, block)
        while sinks and bytes_on(rings, PROBATION) > state.probation_capacity:
            _let_wait(state, oldest_or_none(rings, PROBATION))
    if place != WINDOW:
        bloom_count(state.bloom, state.address[block])
        state.counts[MAIN_HITS] += 1
        if state.counts[MAIN_HITS] >= LIBRARY_PERIOD * state.main_capacity:
            state.counts[MAIN_HITS] = 0
            bloom_halve(state.bloom)


@subroutine
def _evict_as_library(state):
    if bytes_on(state.rings, WAITING) == 0:
        _make_room(state)
    return take_oldest(state.rings, WAITING)


@inlined
def on_hit(state, request):
    block = request.block
    if state.as_libcachesim:
        _hit_as_library(state, block)
        return
    _count(state, block)
    place = place_of(state.rings, block)
    if place == PROBATION:
        _protect(state, block)
    else:
        move_to_newest(state.rings, place, block)


@inlined
def on_miss(state, request):
    if not state.as_libcachesim:
        _count(state, request.block)
        state.counts[NOTED] = request.block


@inlined
def admit(state, request):
    most = min(state.window_capacity, state.probation_capacity)
    return not state.as_libcachesim or request.size_bytes <= most


@inlined
def evict(state, request):
    if state.as_libcachesim:
        return _evict_as_library(state)
    candidate = oldest_or_none(state.rings, WINDOW)
    victim = _main_victim(state)
    window_is_full = bytes_on(state.rings, WINDOW) + request.size_bytes > state.window_capacity
    if candidate >= 0 and (window_is_full or victim < 0):
        if victim < 0 or estimate(state.sketch, candidate) <= estimate(state.sketch, victim):
            victim = candidate
        else:
            _take(state, candidate)
            _push(state, candidate, PROBATION)
    _take(state, victim)
    state.counts[RESIDENTS] -= 1
    return victim


@inlined
def on_insert(state, request):
    block = request.block
    if state.as_libcachesim:
        set_size(state.rings, block, request.size_bytes)
        state.address[block] = request.address
        _enter_as_library(state, block)
        return
    if state.counts[NOTED] != block:  # inserted without an access, as by a prefetch
        _count(state, block)
    state.counts[NOTED] = -1
    set_size(state.rings, block, request.size_bytes)
    _push(state, block, WINDOW)
    state.counts[RESIDENTS] += 1
    state.counts[MOST_RESIDENTS] = max(state.counts[MOST_RESIDENTS], state.counts[RESIDENTS])
    falling = oldest(state.rings, WINDOW)
    while falling != block and bytes_on(state.rings, WINDOW) > state.window_capacity:
        if _main_bytes(state) + size_of(state.rings, falling) > state.main_capacity:
            return
        _push(state, take_oldest(state.rings, WINDOW), PROBATION)
        falling = oldest(state.rings, WINDOW)


@inlined
def remove(state, block):
    _take(state, block)
    state.counts[RESIDENTS] -= 1


POLICY = EvictionPolicy(
    name="wtinylfu",
    init=init,
    on_hit=on_hit,
    on_miss=on_miss,
    on_insert=on_insert,
    admit=admit,
    evict=evict,
    remove=remove,
    uses_if={"as_libcachesim": ("address",)},
    counts=("late_hits",),
)
