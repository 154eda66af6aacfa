"""Which tier holds which block, and what an access changes of it: the rules of a hierarchy, without time.

Levels are numbered from the fastest, 0, to the last, which holds everything. An access
  1. finds the first level that holds the block (it is served from there);
  2. where that is not level 0, places the block in level 0 (its admission and eviction policies decide, and either may
     refuse it), and takes it out of the level that served it where that level's offload policy does not keep what it
     promotes;
  3. places the victims below, each as the offload policies there say, dirty ones always;
  4. writes the block to the levels below whose offload policy copies on insertion or on a hit;
  5. touches it in every other level that already held it.
This order gives, block by block, what public two-tier KV-cache simulators give (tests/test_kv_reference.py).

What must move is left in a list, which a timed engine turns into transfers and an untimed one forgets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.engines.columns import Hints, remember, request_for_block
from sim.engines.flags import (
    LEVELS,
    PREFETCHED,
    enter,
    highest_holder,
    holds,
    is_dirty,
    leave,
    make_flags,
    set_clean,
    set_dirty,
)
from sim.kernels.compile import inlined, known_natural

COUNTS = (
    "lookups",
    "lookup_bytes",
    "hits",
    "hit_bytes",
    "insertions",
    "inserted_bytes",
    "evictions",
    "promotions",
    "demotions",
    "writebacks",
    "dropped",
    "bypassed",
    "refused",
    "unplaced",
    "fragmentation_evictions",
    "back_invalidations",
    "prefetches",
    "prefetch_hits",
)
(
    LOOKUPS,
    LOOKUP_BYTES,
    HITS,
    HIT_BYTES,
    INSERTIONS,
    INSERTED_BYTES,
    EVICTIONS,
    PROMOTIONS,
    DEMOTIONS,
    WRITEBACKS,
    DROPPED,
    BYPASSED,
    REFUSED,
    UNPLACED,
    FRAGMENTATION_EVICTIONS,
    BACK_INVALIDATIONS,
    PREFETCHES,
    PREFETCH_HITS,
) = range(len(COUNTS))

# columns of `Residency.levels`
CAPACITY, USED, HELD, INCLUSIVE, REMOVABLE = range(5)

# places in `Residency.state`: cursors into the list of moves, what the last access leaves, the first fault of a policy,
# whether any level is inclusive, whether the trace has hints
PLACED, STARTED, END, FILLS, WRITTEN_LEVEL, FAULT, FAULT_LEVEL, FAULT_BLOCK, ANY_INCLUSIVE, HAS_HINTS = range(10)
NO_FAULT, NOT_RESIDENT, NO_REMOVE = 0, 1, 2

# columns of a move; a target that is not a level is one of the three below
SOURCE, TARGET, BLOCK, EVICTED_FROM, PROBE, CAUSE = range(6)
CLEAN_VICTIM, DIRTY_VICTIM, NO_MOVE = -1, -2, -3

COPY, CLEAN_EVICTION, DIRTY_EVICTION, INVALIDATION = 0, 1, 2, 3  # causes of a move
CAUSES = ("copy", "demotion", "writeback", "invalidation")

# what an access does next: with the block in level 0, after that, with the levels below in turn, and at the end
TOP, PROMOTE, BELOW, TOUCHES, INCLUSION, DONE = range(6)
NOTHING, TOUCH, FORGET, PLACE, SHRINK = range(5)

DEMAND, PREFETCHING, DAEMON = 0, 1, 2  # who accesses


class Plugins(NamedTuple):
    """What decides, a stack of one per level of each kind, with the stacks' states beside them."""

    eviction: object
    eviction_states: tuple
    admission: object
    admission_states: tuple
    offload: object
    offload_states: tuple
    allocator: object
    allocator_states: tuple


class Residency(NamedTuple):
    """The hierarchy's contents. L levels, B blocks. Few and packed arrays: compiled calls pass seven words for each."""

    flags: np.ndarray  # int32[B] of each block, in which levels it is (see flags.py)
    size_of: np.ndarray  # int64[B] bytes of each block
    address_of: np.ndarray  # int64[B] its number in the trace
    hints: Hints  # as of each block's last access
    levels: np.ndarray  # int64[L, 5] CAPACITY, USED (bytes), HELD (blocks), INCLUSIVE, REMOVABLE (policy can forget)
    counts: np.ndarray  # int64[L, len(COUNTS)]
    moves: np.ndarray  # int32[., 6] SOURCE, TARGET, BLOCK, EVICTED_FROM, PROBE (next level to try), CAUSE
    state: np.ndarray  # int64[10] PLACED .. HAS_HINTS; FILLS is a bit set of levels


def make_residency(size_of, address_of, hints, capacity, inclusive, removable, proposals: int) -> Residency:
    """An empty hierarchy, but for the last level, which holds everything. proposals: prefetches an access may cause."""
    levels, blocks = len(capacity), len(size_of)
    table = np.zeros((levels, 5), np.int64)
    table[:, CAPACITY], table[:, INCLUSIVE], table[:, REMOVABLE] = capacity, inclusive, removable
    table[-1, USED], table[-1, HELD] = size_of.sum(), blocks
    state = np.zeros(10, np.int64)
    state[ANY_INCLUSIVE], state[HAS_HINTS] = any(inclusive), any(column.size for column in hints)
    moves = levels * blocks + 4 * levels * (2 + proposals)  # each level's blocks can leave it once in an access
    return Residency(
        flags=make_flags(blocks, levels),
        size_of=size_of,
        address_of=address_of,
        hints=hints,
        levels=table,
        counts=np.zeros((levels, len(COUNTS)), np.int64),
        moves=np.zeros((moves, 6), np.int32),
        state=state,
    )


@inlined
def add_move(moves, state, source, target, block, evicted_from, cause):
    """Note that the block is to be copied from level `source`; a victim's target is found below `evicted_from`."""
    end = known_natural(state[END])
    moves[end, SOURCE], moves[end, TARGET], moves[end, BLOCK] = source, target, block
    moves[end, EVICTED_FROM], moves[end, PROBE], moves[end, CAUSE] = evicted_from, evicted_from + 1, cause
    state[END] = end + 1


@inlined
def set_fault(state, code, level, block):
    """Note the first thing that a policy did wrong; the run stops on it."""
    if state[FAULT] == NO_FAULT:
        state[FAULT], state[FAULT_LEVEL], state[FAULT_BLOCK] = code, level, block


@inlined
def count_lookup(flags, counts, block, size_bytes, served):
    for level in range(served + 1):
        counts[level, LOOKUPS] += 1
        counts[level, LOOKUP_BYTES] += size_bytes
    counts[served, HITS] += 1
    counts[served, HIT_BYTES] += size_bytes
    if flags[block] & PREFETCHED:
        flags[block] &= ~PREFETCHED
        counts[0, PREFETCH_HITS] += 1


@inlined
def settle_victim(flags, counts, moves, state, at, target):
    """The victim at place `at` of the list has found its level, or none."""
    source, block = known_natural(moves[at, EVICTED_FROM]), known_natural(moves[at, BLOCK])
    if moves[at, TARGET] == DIRTY_VICTIM:
        counts[source, WRITEBACKS] += 1
        if target < len(counts) - 1:
            set_dirty(flags, block, target)
    elif target == NO_MOVE:
        counts[source, DROPPED] += 1
    moves[at, TARGET] = target
    state[PLACED] = at + 1


@inlined
def write_on(flags, moves, state, block, wanted, last):
    """The block was written in level 0: mark it dirty, or write it on through the levels in the bit set `wanted`."""
    set_dirty(flags, block, 0)
    for level in range(1, last + 1):
        if not wanted >> level & 1 or not holds(flags, block, level):
            break
        set_clean(flags, block, level - 1)
        if level < last:
            set_dirty(flags, block, level)
        add_move(moves, state, level - 1, level, block, level - 1, COPY)
        state[PLACED] = state[END]


@inlined
def finish_below(flags, moves, state, block, is_write, served, held_by, in_top, wanted, last):
    """What follows from where the block now is: levels to fill, copies to make, where a write goes."""
    new = 0
    for level in range(last):
        if holds(flags, block, level) and not held_by >> level & 1:
            new |= 1 << level
    if is_write and in_top:
        write_on(flags, moves, state, block, wanted, last)
    elif is_write:
        level = 1
        while level < last and not holds(flags, block, level):
            level += 1
        if level < last:
            set_dirty(flags, block, level)
        state[WRITTEN_LEVEL] = level
    elif served > 0:
        state[FILLS] = new
    else:
        for level in range(1, last):
            if new >> level & 1:
                add_move(moves, state, 0, level, block, 0, COPY)
                state[PLACED] = state[END]


@inlined
def access(plug, res, request, who, shrink_level, shrink_to_bytes):
    """One access: the level that serves it. What is to be filled, written and moved is left in `res`.

    who: DEMAND; PREFETCHING, which is not counted as an access; or DAEMON, which accesses nothing but evicts from
    `shrink_level` until it holds at most `shrink_to_bytes`.

    One loop, each turn of which finds out what is to be done next and does one thing with one block in one level: so
    each hook of a policy is called from one place, and the compiled code stays small.
    """
    flags, size_of, levels, counts, moves, state = (
        res.flags,
        res.size_of,
        res.levels,
        res.counts,
        res.moves,
        res.state,
    )
    block = request.block
    last = len(plug.eviction_states) - 1  # a constant to the compiler, which unrolls every loop over levels
    served, held_by = 0, 0  # held_by: levels that held the block before, a bit set
    any_inclusive = state[ANY_INCLUSIVE] != 0
    if who != DAEMON:
        held_by = np.int64(flags[block]) & LEVELS
        for level in range(last, -1, -1):
            if held_by >> level & 1:
                served = level
        state[FILLS], state[WRITTEN_LEVEL] = 0, 0
        if who == DEMAND:
            count_lookup(flags, counts, block, request.size_bytes, served)
            if state[HAS_HINTS]:
                remember(res.hints, request)
        for level in range(last):
            plug.admission.on_access(plug.admission_states, level, request)
            plug.offload.on_access(plug.offload_states, level + 1, request)
    stage, level = DONE if who == DAEMON or last == 0 else TOP, 0
    shrinking = who == DAEMON
    in_top = False
    wanted_below = 0  # levels whose offload policy wants a copy, a bit set
    if stage == TOP and served == 0:
        plug.eviction.on_hit(plug.eviction_states, 0, request)
        for below in range(1, last + request.is_write):  # a write is told to the last level, too
            if plug.offload.copy_on_hit(plug.offload_states, below, request):
                wanted_below |= 1 << below
        only_here = held_by == 1 | 1 << last and wanted_below == 0
        if only_here and not request.is_write and not any_inclusive:
            return served  # most accesses: nothing else holds it, or is to
        stage = PROMOTE
    settling = -1  # place on the list of the victim whose placement is being tried
    while state[FAULT] == NO_FAULT:
        action, target, chosen = NOTHING, 0, request
        if stage == PROMOTE:  # before the victims: what an exclusive level gives up makes room for one
            in_top = holds(flags, block, 0)
            stage, level = BELOW, 1
            if served > 0 and in_top:
                counts[served, PROMOTIONS] += 1
                if served < last and not plug.offload.keep_on_promote(plug.offload_states, served, block):
                    if is_dirty(flags, block, served):
                        set_dirty(flags, block, 0)
                    action, target = FORGET, served
        if action == NOTHING and state[PLACED] < state[END]:
            at = known_natural(state[PLACED])
            victim, from_level = known_natural(moves[at, BLOCK]), known_natural(moves[at, EVICTED_FROM])
            dirty = moves[at, TARGET] == DIRTY_VICTIM
            probe = known_natural(moves[at, PROBE])
            above = highest_holder(flags, victim, from_level) if levels[from_level, INCLUSIVE] else -1
            held = holds(flags, victim, probe)
            chosen = request_for_block(res.hints, res.address_of, size_of, victim, request)
            if above >= 0:  # what leaves an inclusive level leaves those above it, first
                action, target = FORGET, above
                if is_dirty(flags, victim, above) and not dirty:
                    moves[at, TARGET], moves[at, SOURCE] = DIRTY_VICTIM, above
                    if moves[at, CAUSE] == CLEAN_EVICTION:
                        moves[at, CAUSE] = DIRTY_EVICTION
                counts[above, BACK_INVALIDATIONS] += 1
            elif settling == at and not held and dirty:  # it did not fit there; the next level has to take it
                settling = -1
                moves[at, PROBE] = probe + 1
            elif settling == at or probe == last:
                if probe < last and held:
                    counts[probe, DEMOTIONS] += 1
                elif probe < last or not dirty:
                    probe = NO_MOVE
                settling = -1
                settle_victim(flags, counts, moves, state, at, probe)
            elif plug.offload.copy_on_evict(plug.offload_states, probe, victim):
                if held:
                    action, target = TOUCH, probe
                    settle_held(flags, counts, moves, state, at, probe, dirty)
                else:
                    action, target, settling = PLACE, probe, at
            elif held:
                settle_held(flags, counts, moves, state, at, probe, dirty)
            elif dirty:
                moves[at, PROBE] = probe + 1
            else:
                settle_victim(flags, counts, moves, state, at, NO_MOVE)
        elif action == NOTHING:
            if stage == TOP:
                action, stage = PLACE, PROMOTE
            while stage == BELOW and action == NOTHING:
                if level + (not request.is_write) > last or (
                    not in_top and level > 1 and holds(flags, block, level - 1)
                ):  # a write is told to the last level, too; a block that level 0 did not take is placed once
                    finish_below(
                        flags, moves, state, block, request.is_write, served, held_by, in_top, wanted_below, last
                    )
                    stage, level = TOUCHES, 1
                else:
                    wanted = wanted_below >> level & 1 == 1  # on a hit
                    if served > 0:
                        wanted = plug.offload.copy_on_insert(plug.offload_states, level, request)
                    if not in_top and not wanted:
                        wanted = plug.offload.copy_on_evict(plug.offload_states, level, block)
                    if wanted:
                        wanted_below |= 1 << level
                        if not holds(flags, block, level) and (not in_top or holds(flags, block, level - 1)):
                            action, target = PLACE, level
                    level += 1
            while stage == TOUCHES and action == NOTHING:
                if level >= last:
                    stage, level = INCLUSION if any_inclusive else DONE, 1
                else:
                    if held_by >> level & 1 and holds(flags, block, level):
                        action, target = TOUCH, level
                    level += 1
            while stage == INCLUSION and action == NOTHING and state[PLACED] == state[END]:
                # where an inclusive level could not take the block, those above must not hold it
                above = -1
                if level >= last:
                    stage = DONE
                elif levels[level, INCLUSIVE] and not holds(flags, block, level):
                    above = highest_holder(flags, block, level)
                if above >= 0:
                    action, target = FORGET, above
                    if is_dirty(flags, block, above):
                        add_move(moves, state, above, DIRTY_VICTIM, block, level, INVALIDATION)
                    counts[above, BACK_INVALIDATIONS] += 1
                else:
                    level += 1
            if stage == DONE and action == NOTHING:
                if not shrinking:
                    break
                action, target, shrinking = SHRINK, shrink_level, False
        target = known_natural(target)
        if action == TOUCH:
            plug.eviction.on_hit(plug.eviction_states, target, chosen)
        elif action == FORGET:
            if levels[target, REMOVABLE]:
                plug.eviction.remove(plug.eviction_states, target, chosen.block)
                plug.allocator.release(plug.allocator_states, target, chosen.block)
                leave(flags, chosen.block, target)
                levels[target, USED] -= size_of[chosen.block]
                levels[target, HELD] -= 1
            else:
                set_fault(state, NO_REMOVE, target, chosen.block)
        elif action >= PLACE:
            room, size, wanted = levels[target, CAPACITY], np.int64(0), True
            if action == SHRINK:
                room = shrink_to_bytes
            else:
                size = size_of[chosen.block]
                plug.eviction.on_miss(plug.eviction_states, target, chosen)
                if size > room:
                    counts[target, BYPASSED] += 1
                    wanted = False
                elif not plug.admission.admit(plug.admission_states, target, chosen) or not plug.eviction.admit(
                    plug.eviction_states, target, chosen
                ):
                    counts[target, REFUSED] += 1
                    wanted = False
            while wanted:
                if levels[target, USED] + size <= room:
                    if action == SHRINK:
                        break
                    if plug.allocator.allocate(plug.allocator_states, target, chosen.block, size):
                        enter(flags, chosen.block, target)
                        levels[target, USED] += size
                        levels[target, HELD] += 1
                        counts[target, INSERTIONS] += 1
                        counts[target, INSERTED_BYTES] += size
                        plug.eviction.on_insert(plug.eviction_states, target, chosen)
                        break
                    if levels[target, HELD] == 0:
                        counts[target, UNPLACED] += 1
                        break
                    counts[target, FRAGMENTATION_EVICTIONS] += 1
                victim = np.int64(plug.eviction.evict(plug.eviction_states, target, chosen))
                if victim == chosen.block and (victim < 0 or not holds(flags, victim, target)):
                    counts[target, REFUSED] += action == PLACE  # a shrinking level keeps the rest, too
                    break
                if victim < 0 or victim >= size_of.size or not holds(flags, victim, target):
                    set_fault(state, NOT_RESIDENT, target, victim)
                    break
                victim = known_natural(victim)
                dirty = is_dirty(flags, victim, target)
                plug.allocator.release(plug.allocator_states, target, victim)
                leave(flags, victim, target)
                levels[target, USED] -= size_of[victim]
                levels[target, HELD] -= 1
                counts[target, EVICTIONS] += 1
                kind, cause = (DIRTY_VICTIM, DIRTY_EVICTION) if dirty else (CLEAN_VICTIM, CLEAN_EVICTION)
                add_move(moves, state, target, kind, victim, target, cause)
    return served


@inlined
def settle_held(flags, counts, moves, state, at, level, dirty):
    """A level already holds the victim: a dirty one is written over that copy, a clean one needs nothing."""
    if dirty:
        settle_victim(flags, counts, moves, state, at, level)
    else:
        moves[at, TARGET] = NO_MOVE
        state[PLACED] = at + 1


@inlined
def forget_moves(state):
    """The list of moves is done with: an engine without time calls this after each access."""
    state[PLACED], state[STARTED], state[END] = 0, 0, 0
