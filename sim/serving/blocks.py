"""The blocks of one call: which it finds, which it takes, when they enter the index, and how it gives them back.

A call's sequence is cut into blocks of `block_tokens`. The first of its prompt have the numbers that the trace's hashes
gave them, and can be found by others; what it generates has numbers of its own. A block that is not full, or that
somebody else had entered into the index before, is owned: nobody finds it there.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, known_natural, subroutine
from sim.serving import state as s
from sim.serving import tiers as t
from sim.serving.network import BLOCK_BYTES
from sim.serving.tiers import access, block_request, free_blocks, is_held, is_ready, make_room, pin, unpin


@inlined
def blocks_for(engine, call, filled):
    """Blocks that hold so many tokens of a call."""
    each = engine.rules[s.BLOCK_TOKENS]
    prompt = engine.work.input_tokens[call]
    if engine.rules[s.PARTIAL] and filled > prompt:
        return (prompt + each - 1) // each + (filled - prompt + each - 1) // each
    return (filled + each - 1) // each


@inlined
def full_blocks(engine, call, filled):
    """How many leading blocks are complete once so many tokens are computed."""
    each = engine.rules[s.BLOCK_TOKENS]
    prompt = engine.work.input_tokens[call]
    if engine.rules[s.PARTIAL] and filled >= prompt:
        return (prompt + each - 1) // each + (filled - prompt) // each
    return filled // each


@inlined
def tokens_in(engine, call, blocks):
    """Tokens in so many complete leading blocks."""
    each = engine.rules[s.BLOCK_TOKENS]
    prompt = engine.work.input_tokens[call]
    of_prompt = (prompt + each - 1) // each
    if engine.rules[s.PARTIAL] and blocks >= of_prompt:
        return prompt + (blocks - of_prompt) * each
    return blocks * each


@inlined
def block_of(work, call, position):
    """The number of a call's block."""
    row = work.first_row[call] + position
    if row < work.first_row[call + 1]:
        return np.int64(work.block[row])
    return np.int64(work.fresh_first[call] + row - work.first_row[call + 1])


@inlined
def is_shared(work, call, position):
    return work.first_row[call] + position < work.first_row[call + 1]


@inlined
def request_of(engine, call, position):
    work = engine.work
    block = block_of(work, call, position)
    return block_request(call, block, engine.clock[s.NOW], work.tenant[call], position, work.priority[call])


@subroutine
def look_up(engine, call, deepest):
    """Blocks of the longest run, from the first on, that tiers up to `deepest` hold; how many of its first are in G1.

    Where each was found is left in `sources`. At least one token is left to compute. What comes after the first block
    that G1 lacks is looked for below it: G1 gives its blocks to a call only as a prefix.
    """
    tiers, sources = engine.tiers, engine.sources
    most = full_blocks(engine, call, engine.calls[call, s.TOKENS])
    while most > 0 and tokens_in(engine, call, most) >= engine.calls[call, s.TOKENS]:
        most -= 1
    run, near, unbroken = np.int64(0), np.int64(0), True
    while run < most:
        block = block_of(engine.work, call, run)
        found = np.int64(-1)
        for tier in range(deepest, -1, -1):
            if is_ready(tiers, tier, block) and (tier > 0 or unbroken):
                found = np.int64(tier)
        if found < 0:
            break
        sources[run] = found
        unbroken &= found == 0
        near += unbroken
        run += 1
    return run, near


@subroutine
def count_found(engine, call):
    """Count what a call finds of its prompt's blocks, in a run from the first on: once, when it is first admitted."""
    tiers, work = engine.tiers, engine.work
    rows = work.first_row[call + 1] - work.first_row[call]
    tiers.counts[0][t.LOOKUPS] += rows
    unbroken = True
    for position in range(rows):
        block = block_of(work, call, position)
        found = np.int64(-1)
        for tier in range(len(tiers.held) - 1, -1, -1):
            if is_ready(tiers, tier, block) and (tier > 0 or unbroken):
                found = np.int64(tier)
        unbroken &= found == 0
        if found < 0:
            for tier in range(1, len(tiers.held)):
                tiers.counts[tier][t.LOOKUPS] += rows - position
            return
        tiers.counts[found][t.HITS] += 1
        for tier in range(1, found + 1):
            tiers.counts[tier][t.LOOKUPS] += 1


@inlined
def unpinned_hits(engine, call, near):
    """How many of a call's first blocks nobody uses: they are free now and will not be."""
    count = np.int64(0)
    for position in range(near):
        count += engine.tiers.pins[block_of(engine.work, call, position)] == 0
    return count


@inlined
def _kept_at(work, call, position):
    """Where `kept` has a call's block: first all rows of the trace, then all blocks that one call alone has."""
    beyond = work.first_row[call] + position - work.first_row[call + 1]
    if beyond < 0:
        return known_natural(work.first_row[call] + position)
    return known_natural(work.block.size + work.fresh_first[call] - work.fresh_first[0] + beyond)


@inlined
def _keep(engine, call, position, what):
    engine.kept[_kept_at(engine.work, call, position)] = what


@subroutine
def use_hits(engine, call, near):
    """Let a call use its first blocks, which are in G1."""
    calls = engine.calls
    for position in range(near):
        request = request_of(engine, call, position)
        pin(engine.tiers, request.block)
        access(engine.tiers, request, True)
        _keep(engine, call, position, s.PINNED_HERE)
    calls[call, s.BLOCKS] += near
    calls[call, s.COMMITTED] = near


@subroutine
def allocate(engine, call, blocks):
    """Have the allocator give a call memory of so many blocks, in place of what it has; False where it cannot."""
    size_bytes = np.int64(blocks * engine.network.copy[BLOCK_BYTES])
    if engine.calls[call, s.BLOCKS] == 0:
        return engine.allocator.allocate(engine.allocator_state, call, size_bytes)
    return engine.allocator.resize(engine.allocator_state, call, size_bytes)


@subroutine
def grow(engine, call, filled):
    """Give a call the blocks that so many tokens need; False, and nothing is given, where they cannot be had."""
    calls, tiers = engine.calls, engine.tiers
    need = blocks_for(engine, call, filled) - calls[call, s.BLOCKS]
    if need <= 0:
        return True
    if engine.rules[s.ALLOCATED]:
        if not allocate(engine, call, calls[call, s.BLOCKS] + need):
            return False
    elif free_blocks(tiers) < need or not make_room(tiers, need, engine.clock[s.NOW]):
        return False
    tiers.sizes[0][t.PRIVATE] += need
    calls[call, s.OWNED] += need
    calls[call, s.BLOCKS] += need
    return True


@subroutine
def commit(engine, call, upto):
    """Enter a call's complete blocks into the index, so that others find them; tell lower tiers of them."""
    calls, tiers = engine.calls, engine.tiers
    position = known_natural(calls[call, s.COMMITTED])
    while position < upto:
        request = request_of(engine, call, position)
        if is_held(tiers, 0, request.block):
            _keep(engine, call, position, s.DUPLICATE)
            engine.count[s.DUPLICATES] += 1
        else:
            enter(engine, call, position, request)
        position += 1
    if upto > calls[call, s.COMMITTED]:
        calls[call, s.COMMITTED] = upto


@inlined
def enter(engine, call, position, request):
    """An owned block becomes one of the index, if the policies of G1 want it."""
    tiers = engine.tiers
    tiers.sizes[0][t.PRIVATE] -= 1
    copy_down = engine.rules[s.STORE_OUTPUTS] == 1 or is_shared(engine.work, call, position)
    access(tiers, request, copy_down)
    if is_held(tiers, 0, request.block):
        pin(tiers, request.block)
        engine.calls[call, s.OWNED] -= 1
        _keep(engine, call, position, s.PINNED_HERE)
    else:
        tiers.sizes[0][t.PRIVATE] += 1


@subroutine
def enter_prompt(engine, call):
    """Enter all of a prompt's blocks at once, found or not, and then use them; what is not there yet is marked so."""
    calls, tiers, rules, work = engine.calls, engine.tiers, engine.rules, engine.work
    rows = work.first_row[call + 1] - work.first_row[call]
    for step in range(rows):
        position = rows - 1 - step if rules[s.BACKWARD] else step
        request = request_of(engine, call, position)
        ready = is_ready(tiers, 0, request.block)
        if ready or not is_held(tiers, 0, request.block):  # not what another call is computing
            access(tiers, request, True)
            if not ready and is_held(tiers, 0, request.block):
                tiers.held[0][request.block] |= t.UNDER_WAY
                _keep(engine, call, position, s.PINNED_HERE)
    owned = np.int64(0)
    for position in range(rows):
        block = block_of(work, call, position)
        mine = is_ready(tiers, 0, block) or engine.kept[work.first_row[call] + position] == s.PINNED_HERE
        if mine and is_held(tiers, 0, block):
            pin(tiers, block)
            _keep(engine, call, position, s.PINNED_HERE)
        else:
            engine.count[s.DUPLICATES] += is_held(tiers, 0, block)
            _keep(engine, call, position, s.DUPLICATE if is_held(tiers, 0, block) else s.NOTHING_KEPT)
            owned += 1
    calls[call, s.BLOCKS] += rows - owned
    calls[call, s.COMMITTED] = rows
    if owned and make_room(tiers, owned, engine.clock[s.NOW]):
        tiers.sizes[0][t.PRIVATE] += owned
        calls[call, s.OWNED] += owned
        calls[call, s.BLOCKS] += owned
        return True
    return owned == 0


@subroutine
def mark_computed(engine, call, upto):
    """The first blocks of a prompt that was entered at once have been computed or loaded."""
    work, tiers = engine.work, engine.tiers
    rows = work.first_row[call + 1] - work.first_row[call]
    for position in range(min(upto, rows)):
        if engine.kept[work.first_row[call] + position] == s.PINNED_HERE:
            tiers.held[0][block_of(work, call, position)] &= t.ALL_BITS - t.UNDER_WAY


@subroutine
def release(engine, call):
    """A call gives back all its blocks; those of the index stay there, the last one to leave first."""
    calls, tiers, work = engine.calls, engine.tiers, engine.work
    touch = engine.rules[s.TOUCH_ON_RELEASE] == 1
    committed = calls[call, s.COMMITTED]
    for step in range(committed):
        position = committed - 1 - step
        at = _kept_at(work, call, position)
        kept = engine.kept[at]
        engine.kept[at] = s.NOTHING_KEPT
        engine.count[s.DUPLICATES] -= kept == s.DUPLICATE
        if kept == s.PINNED_HERE:
            unpin(tiers, request_of(engine, call, position), touch)
    tiers.sizes[0][t.PRIVATE] -= calls[call, s.OWNED]
    calls[call, s.OWNED], calls[call, s.BLOCKS], calls[call, s.COMMITTED] = 0, 0, 0
