"""Which tier of the KV cache holds which block, and what an access changes of it: the rules, without time.

Tiers are numbered from the accelerator's memory, G1, which is 0. All blocks are of one size, and none is ever dirty.
What no tier holds is computed. The order of steps is that of `sim.engines.residency`, which also serves blocks that are
written: place in G1; let go of what an exclusive tier promotes; settle the victims; copy down; touch.

A block in use (pinned) stays in G1 whatever its policy says: a policy that gives up such a block has forgotten it, so
it is told of it anew once nobody uses it any more. Memory that calls have for themselves (`PRIVATE`) takes room from
what G1 can hold.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, known_natural, subroutine
from sim.policy import NO_BLOCK, make_request

# bits of a tier's word for a block; ORPHAN: held, but its policy has forgotten it; AWAITS: a copy is to be made of what
# is under way to the tier above
HELD, UNDER_WAY, ORPHAN, AWAITS = 1, 2, 4, 8
ALL_BITS = 255  # of a word; what is to be kept of it is said as `ALL_BITS - UNDER_WAY`, which fits without compilation

COUNTS = (
    "lookups",
    "hits",
    "insertions",
    "evictions",
    "promotions",
    "demotions",
    "dropped",
    "refused",
    "copies",
)
LOOKUPS, HITS, INSERTIONS, EVICTIONS, PROMOTIONS, DEMOTIONS, DROPPED, REFUSED, COPIES = range(len(COUNTS))

# of a tier: its blocks, those that it holds, those of them that are orphans; blocks at which eviction begins, blocks
# that it leaves; of G1: blocks that calls have for themselves, distinct blocks pinned; whether its policy can forget
CAPACITY, COUNT, ORPHANS, TRIGGER, TARGET, PRIVATE, PINNED, REMOVABLE = range(8)

# of a move
SOURCE, TARGET_TIER, BLOCK, WHY = range(4)
VICTIM, COPY = 0, 1  # it has left its source; it stays there

END, FAULT, FAULT_TIER, FAULT_BLOCK, SETTLED = range(5)  # places in `state`
NO_FAULT, NOT_HELD, TOO_MANY_MOVES, NO_REMOVE = range(4)


class Tiers(NamedTuple):
    """T tiers, B blocks. What is one array a tier may be shared with the tiers of another engine."""

    eviction: object  # stacks of plugins, a level a tier, and their states
    eviction_states: tuple
    admission: object
    admission_states: tuple
    offload: object
    offload_states: tuple
    held: tuple  # of uint8[B], one a tier
    sizes: tuple  # of int64[8] CAPACITY .. REMOVABLE, one a tier
    counts: tuple  # of int64[len(COUNTS)], one a tier
    pins: np.ndarray  # int32[B] users of a block in G1
    moves: np.ndarray  # int64[., 4] SOURCE, TARGET_TIER, BLOCK, WHY: what the last accesses want moved
    state: np.ndarray  # int64[5] END (of moves), FAULT .., SETTLED (moves before it are)


@inlined
def is_ready(tiers, tier, block):
    """Whether a tier holds a block, and its data are there."""
    return tiers.held[tier][block] & (HELD | UNDER_WAY) == HELD


@inlined
def is_held(tiers, tier, block):
    return tiers.held[tier][block] & HELD != 0


@inlined
def free_blocks(tiers):
    """Blocks of G1 that nobody uses; what it caches in some of them can be evicted."""
    g1 = tiers.sizes[0]
    return g1[CAPACITY] - g1[PINNED] - g1[PRIVATE]


@inlined
def block_request(index, block, now_ns, tenant, position, priority):
    return make_request(index, block, block, 1, now_ns, False, tenant, -1, position, 1.0, np.inf, 0, -1.0, priority)


@inlined
def _add_move(tiers, source, target, block, why):
    state = tiers.state
    end = known_natural(state[END])
    if end >= len(tiers.moves):
        _fault(state, TOO_MANY_MOVES, target, block)
        return
    tiers.moves[end, SOURCE], tiers.moves[end, TARGET_TIER] = source, target
    tiers.moves[end, BLOCK], tiers.moves[end, WHY] = block, why
    state[END] = end + 1


@inlined
def _fault(state, code, tier, block):
    if state[FAULT] == NO_FAULT:
        state[FAULT], state[FAULT_TIER], state[FAULT_BLOCK] = code, tier, block


@subroutine
def _evict_one(tiers, tier, request):
    """Let the policy of a tier give up one block that nobody uses; whether it did.

    Its victim goes to the list of moves, with a target to be found.
    """
    sizes, held = tiers.sizes[tier], tiers.held[tier]
    while sizes[COUNT] > sizes[ORPHANS]:
        victim = np.int64(tiers.eviction.evict(tiers.eviction_states, tier, request))
        if victim == request.block and (victim < 0 or held[victim] & HELD == 0):
            return False
        if victim < 0 or victim >= len(held) or held[victim] & HELD == 0:
            _fault(tiers.state, NOT_HELD, tier, victim)
            return False
        victim = known_natural(victim)
        if tier == 0 and tiers.pins[victim] > 0:
            held[victim] |= ORPHAN
            sizes[ORPHANS] += 1
            continue
        held[victim] = 0
        sizes[COUNT] -= 1
        tiers.counts[tier][EVICTIONS] += 1
        if tier < len(tiers.held) - 1:
            _add_move(tiers, tier, -1, victim, VICTIM)
        else:
            tiers.counts[tier][DROPPED] += 1
        return True
    return False


@subroutine
def _place(tiers, tier, request):
    """Ask a tier to take a block that it does not hold; whether it did."""
    sizes, block = tiers.sizes[tier], request.block
    tiers.eviction.on_miss(tiers.eviction_states, tier, request)
    wanted = tiers.admission.admit(tiers.admission_states, tier, request) and tiers.eviction.admit(
        tiers.eviction_states, tier, request
    )
    private = sizes[PRIVATE]
    if wanted and sizes[COUNT] + private >= sizes[TRIGGER]:
        while sizes[COUNT] + private > sizes[TARGET]:
            if not _evict_one(tiers, tier, request):
                break
        while sizes[COUNT] + private >= sizes[CAPACITY] and wanted:
            wanted = _evict_one(tiers, tier, request)
    if not wanted:
        tiers.counts[tier][REFUSED] += 1
        return False
    tiers.held[tier][block] = HELD
    sizes[COUNT] += 1
    tiers.counts[tier][INSERTIONS] += 1
    tiers.eviction.on_insert(tiers.eviction_states, tier, request)
    return True


@subroutine
def _settle(tiers, request):
    """Find a tier for each victim on the list: the one below where its offload policy takes it, else none."""
    moves, state = tiers.moves, tiers.state
    while state[SETTLED] < state[END] and state[FAULT] == NO_FAULT:
        at = known_natural(state[SETTLED])
        state[SETTLED] = at + 1
        if moves[at, TARGET_TIER] >= 0 or moves[at, WHY] != VICTIM:
            continue
        source, victim = known_natural(moves[at, SOURCE]), known_natural(moves[at, BLOCK])
        below = source + 1
        chosen = make_request(request.index, victim, victim, 1, request.arrival_ns, False, request.tenant)
        there = is_held(tiers, below, victim)
        if not tiers.offload.copy_on_evict(tiers.offload_states, below, victim):
            tiers.counts[source][DROPPED] += not there
        elif there:
            tiers.eviction.on_hit(tiers.eviction_states, below, chosen)
        elif _place(tiers, below, chosen):
            moves[at, TARGET_TIER] = below
            tiers.held[below][victim] |= UNDER_WAY
            tiers.counts[source][DEMOTIONS] += 1
        else:
            tiers.counts[source][DROPPED] += 1


@subroutine
def _let_go(tiers, tier, block):
    """A tier gives up a block that has moved up."""
    sizes = tiers.sizes[tier]
    if not sizes[REMOVABLE]:
        _fault(tiers.state, NO_REMOVE, tier, block)
        return
    tiers.eviction.remove(tiers.eviction_states, tier, block)
    tiers.held[tier][block] = 0
    sizes[COUNT] -= 1


@inlined
def _copy_to(tiers, tier, block):
    """A lower tier is to get a copy: of the tier above where that is a lower one, too, and has it, else of G1."""
    tiers.counts[tier][COPIES] += 1
    source = 0
    if tier > 1 and is_held(tiers, tier - 1, block):
        source = tier - 1
    tiers.held[tier][block] |= UNDER_WAY
    if source > 0 and tiers.held[source][block] & UNDER_WAY:
        tiers.held[tier][block] |= AWAITS
    else:
        _add_move(tiers, source, tier, block, COPY)


@subroutine
def access(tiers, request, copy_down):
    """A block is used in G1: the tier where it was found, T where none held it.

    copy_down: whether lower tiers may be given a copy of it.
    """
    block, tier_count = request.block, len(tiers.held)
    last = tier_count - 1
    served, held_by = tier_count, 0
    for tier in range(last, -1, -1):
        if is_held(tiers, tier, block):
            served = tier
            held_by |= 1 << tier
    for tier in range(tier_count):
        tiers.admission.on_access(tiers.admission_states, tier, request)
        if tier > 0:
            tiers.offload.on_access(tiers.offload_states, tier, request)
    wanted = 0
    in_g1 = served == 0
    if in_g1:
        if tiers.held[0][block] & ORPHAN == 0:
            tiers.eviction.on_hit(tiers.eviction_states, 0, request)
        for tier in range(1, tier_count):
            if copy_down and tiers.offload.copy_on_hit(tiers.offload_states, tier, request):
                wanted |= 1 << tier
    else:
        in_g1 = _place(tiers, 0, request)
        if in_g1 and served <= last:
            tiers.counts[served][PROMOTIONS] += 1
            if not tiers.offload.keep_on_promote(tiers.offload_states, served, block):
                _let_go(tiers, served, block)
        _settle(tiers, request)
        for tier in range(1, tier_count):
            if copy_down and tiers.offload.copy_on_insert(tiers.offload_states, tier, request):
                wanted |= 1 << tier
    for tier in range(1, tier_count):
        if wanted >> tier & 1 and not is_held(tiers, tier, block) and _place(tiers, tier, request):
            _copy_to(tiers, tier, block)
        _settle(tiers, request)
    for tier in range(1, tier_count):
        if held_by >> tier & 1 and is_held(tiers, tier, block):
            tiers.eviction.on_hit(tiers.eviction_states, tier, request)
    return served


@subroutine
def make_room(tiers, blocks, now_ns):
    """Evict from G1 until so many more blocks can be given to calls for themselves; whether that succeeded."""
    g1 = tiers.sizes[0]
    nobody = make_request(0, NO_BLOCK, NO_BLOCK, 0, now_ns)
    while g1[COUNT] + g1[PRIVATE] + blocks > g1[CAPACITY]:
        if not _evict_one(tiers, 0, nobody):
            return False
        _settle(tiers, nobody)
    return True


@subroutine
def stage(tiers, tier, request):
    """Put a block into a lower tier, whose data are then under way to it; whether it was taken."""
    if is_held(tiers, tier, request.block) or not _place(tiers, tier, request):
        return False
    tiers.held[tier][request.block] |= UNDER_WAY
    _settle(tiers, request)
    return True


@inlined
def pin(tiers, block):
    """One more call uses a block of G1."""
    if tiers.pins[block] == 0:
        tiers.sizes[0][PINNED] += 1
    tiers.pins[block] += 1


@subroutine
def unpin(tiers, request, touch):
    """One call fewer uses a block of G1; touch: its policy is told that it was in use until now."""
    block = request.block
    tiers.pins[block] -= 1
    if tiers.held[0][block] & ORPHAN and tiers.pins[block] == 0:
        tiers.held[0][block] &= ALL_BITS - ORPHAN
        tiers.sizes[0][ORPHANS] -= 1
        tiers.eviction.on_insert(tiers.eviction_states, 0, request)
    elif touch and tiers.held[0][block] & ORPHAN == 0:
        tiers.eviction.on_hit(tiers.eviction_states, 0, request)
    if tiers.pins[block] == 0:
        tiers.sizes[0][PINNED] -= 1


def _unreachable(state, block):
    """Stands in for the missing hook; `_let_go` looks at REMOVABLE before it calls."""


def without_remove(plugin):
    """The same eviction policy with a hook that is never called."""
    return replace(plugin, remove=_unreachable)
