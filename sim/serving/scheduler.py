"""One pass of the scheduler, as vLLM v1 makes it: the batch of the next iteration.

Calls that run come first, in order of admission, each with what it still lacks of its sequence, within the budget of
tokens. One that finds no block takes those of the running call that the policy gives up first. Where none was given up,
waiting calls follow in the policy's order, each with the prefix that the tiers hold, until one does not fit.
"""

from __future__ import annotations

import numpy as np

from sim.cost.step import add_step_chunk, step_attention_ns, tokens_ns
from sim.kernels.compile import inlined, known_natural, subroutine
from sim.kernels.random import unit_of
from sim.kernels.rank_heap import peek, pop, push, rebuild, replace_first
from sim.serving import record as r
from sim.serving import state as s
from sim.serving import tiers as t
from sim.serving.blocks import (
    allocate,
    blocks_for,
    commit,
    count_found,
    enter_prompt,
    full_blocks,
    grow,
    look_up,
    release,
    tokens_in,
    unpinned_hits,
    use_hits,
)
from sim.serving.calls import call_view, leave_phase, set_blocked
from sim.serving.iteration import SEQUENCES, TOKENS, WINDOWED, end_hold, end_holds, give_up
from sim.serving.log import PREEMPTION, note
from sim.serving.network import HANDED, LOAD, STARTED, SWAP_IN, SWAP_OUT, open_transfer, start
from sim.serving.tiers import free_blocks

ADMITTED, NO_BLOCKS, NO_BUDGET, LOADS = range(4)  # what became of the first waiting call
ALWAYS, SOONER, NEVER = range(3)  # LOAD_RULE
ASYNC, BLOCKING, LAYERWISE = range(3)  # OVERLAP


@subroutine
def enqueue(engine, call):
    """Let a call wait, at the place that the policy gives it."""
    engine.calls[call, s.STATUS] = max(engine.calls[call, s.STATUS], s.WAITING)
    rank = engine.scheduling.rank(engine.scheduling_state, call_view(engine, call))
    push(engine.waiting, rank, call, call)


@subroutine
def _rank_anew(engine):
    """Ask the policy again for the ranks of all that wait."""
    waiting = engine.waiting
    for place in range(waiting.size[0]):
        call = known_natural(waiting.call[place])
        waiting.rank[place] = engine.scheduling.rank(engine.scheduling_state, call_view(engine, call))
    rebuild(waiting)


@inlined
def _commit_ahead(engine, call, new):
    """Enter the blocks that a call completes with its next tokens. Of a token that is generated, a block follows when
    the next one needs room: so that iterations taken in one go (`iteration.jump`) do the same in the same order.
    """
    if engine.rules[s.HASHED]:
        filled = engine.calls[call, s.FILLED]
        commit(engine, call, full_blocks(engine, call, filled if new == 1 and filled > 0 else filled + new))


@subroutine
def _add_up(engine):
    """What all that is in the batch comes to."""
    calls, count, sums, step = engine.calls, engine.count, engine.sums, engine.step
    for place in (s.BATCH_TOKENS, s.BATCH_OUTPUTS, s.BATCH_SEQUENCES, s.BATCH_PREFILLS, s.BATCH_LOADS):
        count[place] = 0
    sums[:] = 0.0
    engine.work_sums[:, :] = 0.0
    for place in range(count[s.RUNNING_NOW]):
        call = known_natural(engine.running[place])
        new, filled = calls[call, s.SCHEDULED], calls[call, s.FILLED]
        if new == 0:
            continue
        count[s.BATCH_TOKENS] += new
        count[s.BATCH_SEQUENCES] += 1
        count[s.BATCH_OUTPUTS] += filled + new == calls[call, s.TOKENS]
        count[s.BATCH_LOADS] += calls[call, s.PENDING]
        if new == 1 and filled > 0:
            sums[SEQUENCES] += 1.0
            sums[TOKENS] += filled + 1
            sums[WINDOWED] += min(np.float64(filled + 1), step.window)
        else:
            count[s.BATCH_PREFILLS] += 1
            add_step_chunk(step, engine.work_sums, np.float64(new), np.float64(filled))


@subroutine
def _victim(engine):
    """Place of the running call that the policy gives up first; of equals the last admitted."""
    worst, latest_ns, chosen = -np.inf, -np.inf, np.int64(0)
    for place in range(engine.count[s.RUNNING_NOW]):
        call = known_natural(engine.running[place])
        rank = engine.scheduling.victim_rank(engine.scheduling_state, call_view(engine, call))
        arrival_ns = engine.work.arrival_ns[call]
        if rank > worst or (rank == worst and arrival_ns >= latest_ns):
            worst, latest_ns, chosen = rank, arrival_ns, np.int64(place)
    return chosen


@subroutine
def _preempt(engine, place, now_ns):
    """Take a running call's blocks: it will compute its sequence again, or get it back from the second tier."""
    calls, count, tiers = engine.calls, engine.count, engine.tiers
    call = known_natural(engine.running[place])
    for later in range(place, count[s.RUNNING_NOW] - 1):
        engine.running[later] = engine.running[later + 1]
    count[s.RUNNING_NOW] -= 1
    count[s.PREEMPTED] += 1
    calls[call, s.PREEMPTIONS] += 1
    note(engine, PREEMPTION, now_ns, now_ns, 0, 0, 0, calls[call, s.BLOCKS], call)
    leave_phase(engine, call, now_ns, r.PREEMPTED)
    calls[call, s.SCHEDULED] = 0
    blocks = calls[call, s.BLOCKS]
    swapped = engine.rules[s.SWAP_BLOCKS] > 0 and count[s.SWAP_USED] + blocks <= engine.rules[s.SWAP_BLOCKS]
    if swapped and len(tiers.held) > 1:
        count[s.SWAP_USED] += blocks
        calls[call, s.SWAPPED] = blocks
        start(engine.network, open_transfer(engine.network, SWAP_OUT, call, 0, 1, 1, now_ns), blocks, now_ns)
    else:
        calls[call, s.FILLED] = 0
    give_up(engine, call)
    calls[call, s.STATUS] = s.WAITING
    engine.scheduling.on_preempt(engine.scheduling_state, call_view(engine, call))
    enqueue(engine, call)


@subroutine
def _load_tokens_ns(engine, from_block, upto_block):
    """How long a load of the blocks in `sources` would take now, behind what is being loaded already."""
    total_ns = max(0.0, engine.network.copier_ns[0] - engine.clock[s.NOW])
    for tier in range(1, len(engine.tiers.held)):
        blocks = 0
        for position in range(from_block, upto_block):
            blocks += engine.sources[position] == tier
        if blocks:
            total_ns += engine.load_ns[tier, 0] + blocks * engine.load_ns[tier, 1]
    return total_ns


@subroutine
def _compute_ns(engine, filled, new):
    """How long computing so many tokens of a prompt would take, in whole batches."""
    most = engine.rules[s.MAX_TOKENS]
    engine.work_sums[:] = 0.0
    add_step_chunk(engine.step, engine.work_sums, np.float64(new), np.float64(filled))
    attention_ns = step_attention_ns(engine.step, engine.work_sums, 0.0, 0.0, 0.0)
    return attention_ns + new / most * tokens_ns(engine.step, np.float64(most))


@subroutine
def _worth_loading(engine, call, near, run):
    """How many of the blocks found, `near` of them in G1, the call is to begin with."""
    rules = engine.rules
    engine.count[s.INSTEAD_NOW] = 0
    if run == near or rules[s.LOAD_RULE] == NEVER:
        return near
    if rules[s.MAX_LOAD] > 0:
        run = min(run, near + rules[s.MAX_LOAD] // rules[s.BLOCK_TOKENS])
    tokens = tokens_in(engine, call, run) - tokens_in(engine, call, near)
    if tokens < rules[s.MIN_LOAD] or run == near:
        return near
    if rules[s.LOAD_RULE] == SOONER:
        saved_ns = _compute_ns(engine, tokens_in(engine, call, near), tokens)
        if _load_tokens_ns(engine, near, run) >= saved_ns:
            engine.count[s.INSTEAD_NOW] = tokens
            return near
    return run


@subroutine
def _start_loads(engine, call, near, run, now_ns):
    """Load the blocks found in lower tiers, a transfer for each tier."""
    calls, network = engine.calls, engine.network
    for tier in range(1, len(engine.tiers.held)):
        blocks = np.int64(0)
        for position in range(near, run):
            blocks += engine.sources[position] == tier
        if blocks == 0:
            continue
        slot = open_transfer(network, LOAD, call, tier, 0, 0, now_ns)
        start(network, slot, blocks, now_ns)
        calls[call, s.PENDING] += 1
        engine.count[s.LOADED_BLOCKS] += blocks
        engine.count[s.LOADS_STARTED] += 1
    calls[call, s.LOAD_FROM], calls[call, s.LOAD_TO] = near, run


@inlined
def _fails(engine):
    """Whether a load is to fail: a SplitMix64 of how many there were."""
    engine.count[s.DRAWS] += 1
    word = np.uint64(engine.count[s.DRAWS]) * np.uint64(0x9E3779B97F4A7C15)
    return unit_of(word) < engine.numbers[s.FAILURE_RATE]


@subroutine
def _count_hits(engine, call, run):
    """Count what a call finds of its prompt, by the tiers where it is, but for tokens that it has had before."""
    had, prompt = engine.calls[call, s.MOST_FILLED], engine.work.input_tokens[call]
    for position in range(run):
        upto = min(prompt, tokens_in(engine, call, position + 1))
        found = upto - max(had, tokens_in(engine, call, position))
        engine.hit_tokens[call, engine.sources[position]] += max(np.int64(0), found)


@inlined
def _bring_back(engine, call, kind, source, blocks, filled, now_ns):
    """Give a call blocks and fill them from elsewhere: what it had swapped out, or what another engine computed."""
    if not (_reserve(engine, call) if engine.rules[s.RESERVATION] else grow(engine, call, filled)):
        return NO_BLOCKS
    slot = open_transfer(engine.network, kind, call, source, 0, 0, now_ns)
    start(engine.network, slot, blocks, now_ns)
    engine.calls[call, s.PENDING] = 1
    engine.calls[call, s.LOAD_FROM], engine.calls[call, s.LOAD_TO] = 0, 0
    return LOADS


@subroutine
def _take_over(engine, call, now_ns):
    """Give a call blocks for what another engine has computed of it, and fetch those that are not here already."""
    calls, rules, tiers = engine.calls, engine.rules, engine.tiers
    filled, near = calls[call, s.HANDED_IN], np.int64(0)
    blocks = blocks_for(engine, call, filled)
    if rules[s.RESERVATION]:
        if not _reserve(engine, call):
            return NO_BLOCKS
    else:
        if rules[s.HASHED]:
            near = min(look_up(engine, call, 0)[1], blocks)
        need = blocks - near + unpinned_hits(engine, call, near)
        if need + rules[s.WATERMARK_BLOCKS] > free_blocks(tiers):
            return NO_BLOCKS
        use_hits(engine, call, near)
    source = len(tiers.held) + calls[call, s.HANDED_BY]
    became = _bring_back(engine, call, HANDED, source, blocks - near, filled, now_ns)
    if became == NO_BLOCKS:
        release(engine, call)
    return became


@subroutine
def _reserve(engine, call):
    """Contiguous memory for all that the call may get to."""
    rules, calls, tiers = engine.rules, engine.calls, engine.tiers
    if calls[call, s.BLOCKS] > 0:
        return True
    most = engine.work.input_tokens[call] + engine.work.output_tokens[call]
    tokens = rules[s.MAX_LEN]
    if rules[s.RESERVATION] == 3:
        tokens = most
    elif rules[s.RESERVATION] == 2:
        tokens = np.int64(1)
        while tokens < most:
            tokens *= 2
        tokens = min(tokens, rules[s.MAX_LEN])
    each = rules[s.BLOCK_TOKENS]
    blocks = (tokens + each - 1) // each
    if not allocate(engine, call, blocks):
        return False
    tiers.sizes[0][t.PRIVATE] += blocks
    calls[call, s.BLOCKS], calls[call, s.OWNED] = blocks, blocks
    return True


@subroutine
def _admit(engine, call, budget, now_ns):
    """Try to let the first waiting call in: what became of it."""
    calls, rules, tiers = engine.calls, engine.rules, engine.tiers
    sequence = calls[call, s.TOKENS]
    if calls[call, s.SWAPPED] > 0:
        blocks = calls[call, s.SWAPPED]
        return _bring_back(engine, call, SWAP_IN, 1, blocks, calls[call, s.FILLED], now_ns)
    if calls[call, s.HANDED_IN] > 0:
        return _take_over(engine, call, now_ns)
    near, run, filled = np.int64(0), np.int64(0), calls[call, s.FILLED]
    fresh = calls[call, s.STATUS] == s.WAITING
    if fresh and rules[s.HASHED]:
        deepest = len(tiers.held) - 1 if rules[s.PREFETCH_RULE] == 0 else min(1, len(tiers.held) - 1)
        run, near = look_up(engine, call, deepest)
        run = _worth_loading(engine, call, near, run)
        filled = tokens_in(engine, call, run)
    new = sequence - filled
    if rules[s.LONG_PREFILL] > 0:
        new = min(new, rules[s.LONG_PREFILL])
    waits = run > near and rules[s.OVERLAP] == ASYNC
    if not waits:
        if rules[s.CHUNKED] == 0 and new > budget:
            return NO_BUDGET
        new = min(new, budget)
    if rules[s.RESERVATION]:
        if not _reserve(engine, call):
            return NO_BLOCKS
    else:
        target = sequence if rules[s.RESERVE_FULL] else filled + (np.int64(0) if waits else new)
        need = blocks_for(engine, call, target) - calls[call, s.BLOCKS] - near + unpinned_hits(engine, call, near)
        if need + rules[s.WATERMARK_BLOCKS] > free_blocks(tiers):
            return NO_BLOCKS
    if rules[s.HASHED] and not calls[call, s.COUNTED]:
        calls[call, s.COUNTED] = 1
        count_found(engine, call)
    if rules[s.COMMIT_ALL] and fresh and rules[s.HASHED]:
        if not enter_prompt(engine, call):
            release(engine, call)
            return NO_BLOCKS
    elif near:
        use_hits(engine, call, near)
    if not rules[s.RESERVATION] and not grow(engine, call, filled + (np.int64(0) if waits else new)):
        if fresh:
            release(engine, call)
        return NO_BLOCKS
    if run > near:
        _start_loads(engine, call, near, run, now_ns)
        calls[call, s.LOAD_FAILS] = waits and engine.numbers[s.FAILURE_RATE] > 0.0 and _fails(engine)
    if fresh:
        _count_hits(engine, call, near if calls[call, s.LOAD_FAILS] else run)
        engine.count[s.RECOMPUTED_INSTEAD] += engine.count[s.INSTEAD_NOW]  # once, however often it was tried
    if waits:
        calls[call, s.FILLED] = tokens_in(engine, call, near)
        return LOADS
    calls[call, s.FILLED] = filled
    calls[call, s.MOST_FILLED] = max(filled, calls[call, s.MOST_FILLED])
    if np.isnan(engine.times[call, s.FIRST_SCHEDULED]):
        engine.times[call, s.FIRST_SCHEDULED] = now_ns
    handed = calls[call, s.PHASE] == r.QUEUE and not np.isnan(engine.times[call, s.FIRST_TOKEN])
    leave_phase(engine, call, now_ns, r.DECODE if handed else r.PREFILL)
    _run(engine, call, new)
    return ADMITTED


@inlined
def _run(engine, call, new):
    calls, count = engine.calls, engine.count
    calls[call, s.STATUS] = s.RUNNING
    calls[call, s.ADMISSION] = count[s.ADMISSIONS]
    count[s.ADMISSIONS] += 1
    engine.running[count[s.RUNNING_NOW]] = call
    count[s.RUNNING_NOW] += 1
    if not calls[call, s.ADMIT_TOLD]:
        _tell_admitted(engine, call)
    calls[call, s.ADMIT_TOLD] = 0
    calls[call, s.SCHEDULED] = new
    _commit_ahead(engine, call, new)


@inlined
def _tell_admitted(engine, call):
    """A call has been let in: into the batch, or to load what it begins with."""
    engine.scheduling.on_admit(engine.scheduling_state, call_view(engine, call))


@inlined
def _is_prefetching(engine, call, now_ns):
    """Whether a call is to wait for what is being prefetched for it."""
    if engine.rules[s.PREFETCH_RULE] < 2 or engine.calls[call, s.STAGED] == 0:
        return False
    if engine.rules[s.PREFETCH_RULE] == 3 and now_ns >= engine.times[call, s.STAGED_UNTIL]:
        return False
    if np.isnan(engine.times[call, s.LAST_TOKEN]):
        engine.times[call, s.LAST_TOKEN] = now_ns
    return True


@subroutine
def _make_way(engine, call, now_ns):
    """Whether the policy lets a waiting call, for which there is no room, preempt a running one; the tokens that one
    had in the batch, or -1.
    """
    waiting = call_view(engine, call)
    for step in range(engine.count[s.RUNNING_NOW]):
        place = engine.count[s.RUNNING_NOW] - 1 - step
        running = known_natural(engine.running[place])
        if engine.calls[running, s.PENDING] > 0:
            continue
        if engine.scheduling.preempts(engine.scheduling_state, waiting, call_view(engine, running)):
            new = engine.calls[running, s.SCHEDULED]
            _preempt(engine, place, now_ns)
            return new
    return np.int64(-1)


@subroutine
def plan(engine, now_ns):
    """Put the batch of the next iteration together; whether there is anything in it."""
    calls, count, rules = engine.calls, engine.count, engine.rules
    budget, preempted, place = rules[s.MAX_TOKENS], False, np.int64(0)
    while place < count[s.RUNNING_NOW] and budget > 0:
        call = known_natural(engine.running[place])
        new = calls[call, s.TOKENS] - calls[call, s.FILLED]
        if rules[s.LONG_PREFILL] > 0:
            new = min(new, rules[s.LONG_PREFILL])
        new = min(new, budget)
        gone = False
        while not gone and not rules[s.RESERVATION] and not grow(engine, call, calls[call, s.FILLED] + new):
            victim = _victim(engine)
            other = known_natural(engine.running[victim])
            budget += calls[other, s.SCHEDULED]
            _preempt(engine, victim, now_ns)
            preempted = True
            gone = other == call
            place -= victim < place
        if gone:
            break
        calls[call, s.SCHEDULED] = new
        _commit_ahead(engine, call, new)
        budget -= new
        place += 1
    blocked = 0
    if not preempted:
        blocked = _let_in(engine, budget, now_ns)
    set_blocked(engine, blocked, now_ns)
    settled = engine.waiting.size[0] == 0 or blocked == 1 or count[s.RUNNING_NOW] == rules[s.MAX_SEQS]
    steady = engine.waiting.size[0] == 0 or not rules[s.DYNAMIC]
    count[s.WAITERS_FIXED] = settled and steady and not preempted
    _add_up(engine)
    if preempted and count[s.BATCH_TOKENS] == 0:  # the only one that ran: nothing would happen that makes it go on
        count[s.DIRTY] = 1
    return count[s.BATCH_TOKENS] > 0


@subroutine
def _take_back(engine, call, now_ns):
    """Take the blocks of a waiting call other than this first one: of those that have loaded, the last to begin.

    Whether there was one. Calls that load are let in one by one, and together may hold what each of them lacks.
    """
    calls, waiting, found = engine.calls, engine.waiting, np.int64(-1)
    for place in range(waiting.size[0]):
        other = known_natural(waiting.call[place])
        if other == call or calls[other, s.BLOCKS] == 0:
            continue
        if found < 0 or calls[other, s.ADMISSION] > calls[waiting.call[found], s.ADMISSION]:
            found = np.int64(place)
    if found < 0:
        return False
    other = known_natural(waiting.call[found])
    engine.count[s.PREEMPTED] += 1
    calls[other, s.PREEMPTIONS] += 1
    note(engine, PREEMPTION, now_ns, now_ns, 0, 0, 0, calls[other, s.BLOCKS], other)
    calls[other, s.FILLED], calls[other, s.ADMIT_TOLD] = 0, 0
    leave_phase(engine, other, now_ns, r.PREEMPTED)
    give_up(engine, other)
    calls[other, s.STATUS] = s.WAITING
    engine.scheduling.on_preempt(engine.scheduling_state, call_view(engine, other))
    waiting.rank[found] = engine.scheduling.rank(engine.scheduling_state, call_view(engine, other))
    rebuild(waiting)
    return True


@subroutine
def _let_in(engine, budget, now_ns):
    """Let waiting calls in, in the policy's order, until one does not fit: 1 where that one found no blocks."""
    calls, count, rules, aside = engine.calls, engine.count, engine.rules, engine.aside
    blocked, passed = 0, 0
    if rules[s.DYNAMIC] and budget > 0 and count[s.RUNNING_NOW] < rules[s.MAX_SEQS]:
        _rank_anew(engine)
    while engine.waiting.size[0] > 0 and budget > 0:
        call = known_natural(peek(engine.waiting))
        if rules[s.DYNAMIC]:  # what this pass has let in may have lifted its rank
            rank = engine.scheduling.rank(engine.scheduling_state, call_view(engine, call))
            if replace_first(engine.waiting, rank) != call:
                continue
        if count[s.RUNNING_NOW] == rules[s.MAX_SEQS]:
            freed = _make_way(engine, call, now_ns)
            if freed < 0:
                break
            budget += freed
            continue
        if _is_prefetching(engine, call, now_ns):
            aside[passed] = pop(engine.waiting)
            passed += 1
            continue
        became = _admit(engine, call, budget, now_ns)
        if became == NO_BLOCKS:
            if count[s.RUNNING_NOW] == 0 and count[s.HELD_CALLS] > 0:  # nobody would ever free any
                end_hold(engine, known_natural(engine.holding[0]))
                continue
            freed = _make_way(engine, call, now_ns)
            if freed >= 0:
                budget += freed
                continue
            at_rest = count[s.RUNNING_NOW] + count[s.HANDING_NOW] + engine.network.counts[STARTED] == 0
            if at_rest and _take_back(engine, call, now_ns):
                continue
            blocked = 1
            break
        if became == NO_BUDGET:
            break
        pop(engine.waiting)
        if count[s.HELD_CALLS] > 0:
            end_holds(engine, call)
        if became == LOADS:
            calls[call, s.STATUS] = s.LOADING
            calls[call, s.ADMISSION] = count[s.ADMISSIONS]
            count[s.ADMISSIONS] += 1
            _tell_admitted(engine, call)
            calls[call, s.ADMIT_TOLD] = 1
            count[s.LOADING_NOW] += 1
            leave_phase(engine, call, now_ns, r.LOAD if calls[call, s.HANDED_IN] == 0 else r.TRANSFER)
        else:
            budget -= calls[call, s.SCHEDULED]
    for place in range(passed):
        call = known_natural(aside[place])
        push(engine.waiting, engine.scheduling.rank(engine.scheduling_state, call_view(engine, call)), call, call)
    return blocked
