"""The loop of an engine: arrivals, copies and iterations in order of time, until somebody else is to act."""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, kernel, known_natural, subroutine
from sim.kernels.event_heap import next_event_ns, take
from sim.serving import record as r
from sim.serving import state as s
from sim.serving import tiers as t
from sim.serving.blocks import commit, full_blocks, look_up, mark_computed, request_of, tokens_in
from sim.serving.calls import call_view, enter_phase, leave_phase
from sim.serving.iteration import begin, end_hold, finish, give_up, jump, keep_holds, loads_arrived
from sim.serving.log import COPY, is_filling, note, note_iteration
from sim.serving.network import (
    BEGUN_NS,
    BLOCKS,
    CALL,
    DRAINS,
    FIRST_NODE,
    FREE_COUNT,
    FREE_NODES,
    HANDED,
    HOLD_ENDS,
    KIND,
    LOAD,
    LOWER,
    NOBODY,
    PREFETCH_TIMEOUT,
    STAGING,
    STORE,
    SWAP_IN,
    TARGET,
    add_block,
    close,
    open_transfer,
    pass_stage,
    push,
    start,
    timer,
    timer_call,
    timer_kind,
)
from sim.serving.network import DRAINING as COPIES_DUE
from sim.serving.network import SOURCE as COPY_SOURCE
from sim.serving.scheduler import enqueue, plan
from sim.serving.tiers import BLOCK, SOURCE, TARGET_TIER, VICTIM, WHY, block_request, pin, stage, unpin

FINISHED, AT_LIMIT, NEEDS_ROOM, FAULTY, OUT, LOG_FULL = range(6)  # why `advance` returned; OUT: to the outbox


@inlined
def _send(engine, source, target, why, now_ns):
    """Start a copy of all that is to go from one tier to another for one reason."""
    tiers, network = engine.tiers, engine.network
    moves, slot, blocks = tiers.moves, np.int64(NOBODY), np.int64(0)
    for at in range(tiers.state[t.END]):
        if moves[at, WHY] != why or moves[at, SOURCE] != source or moves[at, TARGET_TIER] != target:
            continue
        if slot < 0:
            drains = np.int64(source == 0 and why == VICTIM)
            slot = open_transfer(network, STORE if source == 0 else LOWER, NOBODY, source, target, drains, now_ns)
        add_block(network, slot, moves[at, BLOCK])
        if source == 0 and why == t.COPY:  # it must stay until it has been copied
            pin(tiers, moves[at, BLOCK])
        blocks += 1
    if slot >= 0:
        start(network, slot, blocks, now_ns)


@subroutine
def _send_moves(engine, now_ns, all_of_them):
    """Start copies of what left a tier, and, once they are computed, of blocks that lower tiers are given."""
    tiers = engine.tiers
    moves, state = tiers.moves, tiers.state
    end, ends = state[t.END], len(tiers.held)
    for source in range(ends - 1):
        for target in range(1, ends):
            for why in range(t.VICTIM, t.COPY + 1 if all_of_them else t.VICTIM + 1):
                _send(engine, source, target, why, now_ns)
    kept = np.int64(0)
    if not all_of_them:
        for at in range(end):
            if moves[at, WHY] != VICTIM:
                for column in range(4):
                    moves[kept, column] = moves[at, column]
                kept += 1
    state[t.END], state[t.SETTLED] = kept, kept


@inlined
def _refuse(engine, call, reason, now_ns):
    """A call is turned away for a reason."""
    calls, count = engine.calls, engine.count
    calls[call, s.STATUS], calls[call, s.REASON] = s.REFUSED, reason
    count[s.REFUSED_NOW] += 1
    engine.times[call, s.FINISH] = np.nan


@inlined
def _arrive(engine, now_ns):
    """The next call of the inbox is there."""
    calls, count, work = engine.calls, engine.count, engine.work
    call = known_natural(engine.inbox[count[s.ARRIVED]])
    count[s.ARRIVED] += 1
    count[s.DIRTY] = 1
    if work.reason[call] != r.NO_REASON:
        _refuse(engine, call, work.reason[call], now_ns)
        return
    enter_phase(engine, call, now_ns, r.QUEUE)
    calls[call, s.TOKENS] = max(calls[call, s.TOKENS], work.input_tokens[call])
    calls[call, s.STATUS] = s.WAITING
    if engine.rules[s.PREFETCH_RULE] and engine.rules[s.HASHED] and calls[call, s.HANDED_IN] == 0:
        _prefetch(engine, call, now_ns)
    if count[s.HELD_CALLS] > 0:
        keep_holds(engine, call)
    engine.scheduling.on_arrive(engine.scheduling_state, call_view(engine, call))
    enqueue(engine, call)


@subroutine
def _prefetch(engine, call, now_ns):
    """Bring blocks that a call will need, and that lie below the second tier, up into it."""
    tiers, network, calls = engine.tiers, engine.network, engine.calls
    last = len(tiers.held) - 1
    run, _ = look_up(engine, call, last)
    below = np.int64(0)
    for position in range(run):
        below += engine.sources[position] > 1
    if below * engine.rules[s.BLOCK_TOKENS] < max(engine.rules[s.PREFETCH_MIN], 1):
        return
    for tier in range(2, last + 1):
        slot, blocks = np.int64(NOBODY), np.int64(0)
        for position in range(run):
            if engine.sources[position] != tier:
                continue
            request = request_of(engine, call, position)
            if not stage(tiers, 1, request):
                continue
            if slot < 0:
                slot = open_transfer(network, STAGING, call, tier, 1, 0, now_ns)
            add_block(network, slot, request.block)
            blocks += 1
        if slot >= 0:
            start(network, slot, blocks, now_ns)
            calls[call, s.STAGED] += 1
    if calls[call, s.STAGED] > 0:
        engine.times[call, s.STAGED_UNTIL] = np.inf
        if engine.rules[s.PREFETCH_RULE] == 3:
            engine.times[call, s.STAGED_UNTIL] = now_ns + engine.numbers[s.TIMEOUT_NS]
            push(network.events, now_ns + engine.numbers[s.TIMEOUT_NS], timer(PREFETCH_TIMEOUT, call))
    _send_moves(engine, now_ns, False)


@subroutine
def _has_come(engine, slot, now_ns):
    """The blocks of a transfer are where it brought them; those that the next tier waits for go on to it.

    A block of G1 that was copied from there may be evicted again.
    """
    network, tiers = engine.network, engine.tiers
    held, last = tiers.held, len(tiers.held) - 1
    target, node = network.facts[slot, TARGET], network.facts[slot, FIRST_NODE]
    pinned = network.facts[slot, KIND] == STORE and network.facts[slot, DRAINS] == 0
    onward, blocks = np.int64(NOBODY), np.int64(0)
    while node >= 0:
        block = network.node_block[node]
        held[target][block] &= t.ALL_BITS - t.UNDER_WAY
        if pinned:
            unpin(tiers, block_request(0, block, now_ns, 0, 0, 0), False)
        if target < last and held[target + 1][block] & t.AWAITS:
            held[target + 1][block] &= t.ALL_BITS - t.AWAITS
            if onward < 0:
                onward = open_transfer(network, LOWER, NOBODY, target, target + 1, 0, now_ns)
            add_block(network, onward, block)
            blocks += 1
        node = network.node_next[node]
    if onward >= 0:
        start(network, onward, blocks, now_ns)


@subroutine
def _loaded(engine, call, now_ns):
    """All that a call waited for outside of the batch has come, or has failed to."""
    calls, count, rules = engine.calls, engine.count, engine.rules
    count[s.LOADING_NOW] -= 1
    failed = False
    if calls[call, s.SWAPPED] > 0:
        count[s.SWAP_USED] -= calls[call, s.SWAPPED]
        calls[call, s.SWAPPED] = 0
    elif calls[call, s.HANDED_IN] > 0:
        calls[call, s.FILLED] = calls[call, s.HANDED_IN]
        calls[call, s.MOST_FILLED] = calls[call, s.FILLED]
        calls[call, s.HANDED_IN] = 0
        engine.outbox[count[s.OUTBOX]] = call
        count[s.OUTBOX] += 1
    else:
        failed = calls[call, s.LOAD_FAILS] == 1
        calls[call, s.LOAD_FAILS] = 0
        count[s.LOADS_FAILED] += failed
        if not failed:
            calls[call, s.FILLED] = tokens_in(engine, call, calls[call, s.LOAD_TO])
            if rules[s.COMMIT_ALL]:
                mark_computed(engine, call, calls[call, s.LOAD_TO])
        calls[call, s.MOST_FILLED] = max(calls[call, s.FILLED], calls[call, s.MOST_FILLED])
    if failed and rules[s.FAIL_ON_LOAD]:
        leave_phase(engine, call, now_ns, r.QUEUE)
        give_up(engine, call)
        _refuse(engine, call, r.LOAD_FAILED, now_ns)
        return
    if rules[s.HASHED]:
        commit(engine, call, full_blocks(engine, call, calls[call, s.FILLED]))
    leave_phase(engine, call, now_ns, r.QUEUE)
    calls[call, s.STATUS] = s.LOADED
    enqueue(engine, call)


@inlined
def _come(engine, slot, now_ns):
    """A transfer is complete."""
    network, calls, count = engine.network, engine.calls, engine.count
    kind, call = network.facts[slot, KIND], network.facts[slot, CALL]
    count[s.DIRTY] = 1
    _has_come(engine, slot, now_ns)
    source, target, blocks = network.facts[slot, COPY_SOURCE], network.facts[slot, TARGET], network.facts[slot, BLOCKS]
    note(engine, COPY, network.times[slot, BEGUN_NS], now_ns, kind, source, target, blocks, call)
    close(network, slot, now_ns)
    if kind == STAGING:
        calls[call, s.STAGED] -= 1
        if calls[call, s.STAGED] == 0:
            engine.times[call, s.STAGED_UNTIL] = min(now_ns, engine.times[call, s.STAGED_UNTIL])
    elif kind in (LOAD, SWAP_IN, HANDED):
        calls[call, s.PENDING] -= 1
        if calls[call, s.STATUS] == s.RUNNING:
            count[s.BATCH_LOADS] -= 1
            if count[s.BATCH_LOADS] == 0 and count[s.STATE] == s.AWAITING:
                loads_arrived(engine, now_ns)
        elif calls[call, s.PENDING] == 0:
            _loaded(engine, call, now_ns)
    if count[s.STATE] == s.DRAINING and network.counts[COPIES_DUE] == 0:
        begin(engine, now_ns)


@inlined
def _step_ends(engine, now_ns, limit_ns):
    """The batch at hand is computed, unless it is to wait for a layer; the time at which what follows may begin."""
    clock, count = engine.clock, engine.count
    clock[s.STEP_END] = np.inf
    if count[s.BATCH_LOADS] > 0:
        count[s.STATE] = s.AWAITING
        clock[s.LOAD_SINCE] = now_ns
        return now_ns
    count[s.STATE] = s.IDLE
    note_iteration(engine, now_ns)
    undisturbed = count[s.DIRTY] == 0 and count[s.WAITERS_FIXED]
    only_decoding = count[s.BATCH_PREFILLS] == 0 and count[s.BATCH_SEQUENCES] == count[s.RUNNING_NOW]
    ended = finish(engine, now_ns)
    count[s.DIRTY] = 1
    if engine.tiers.state[t.END] > 0:
        _send_moves(engine, now_ns, True)
    elif (
        engine.rules[s.JUMPS] and only_decoding and undisturbed and not ended and engine.network.counts[COPIES_DUE] == 0
    ):
        return jump(engine, now_ns, limit_ns)
    return now_ns


@kernel
def advance(engine, until_ns):
    """Take every event before `until_ns`; why it stopped. The time of the next event is then in `clock[HELD_UNTIL]`."""
    network, clock, count, rules = engine.network, engine.clock, engine.count, engine.rules
    tiers = engine.tiers
    while True:
        most_starts = len(tiers.held) * (len(tiers.held) + engine.waiting.size[0]) + 2 * rules[s.MAX_SEQS]
        if tiers.state[t.FAULT]:
            return FAULTY
        if is_filling(engine):
            return LOG_FULL
        if count[s.OUTBOX] > 0:
            clock[s.HELD_UNTIL] = clock[s.NOW]
            return OUT
        if network.counts[FREE_COUNT] <= most_starts or network.counts[FREE_NODES] <= len(tiers.moves):
            return NEEDS_ROOM
        if network.events.time_ns.size - network.events.size[0] <= most_starts + 2:
            return NEEDS_ROOM
        arrival_ns = engine.inbox_ns[count[s.ARRIVED]] if count[s.ARRIVED] < count[s.INBOX] else np.inf
        copy_ns, step_ns = next_event_ns(network.events), clock[s.STEP_END]
        now_ns = min(arrival_ns, copy_ns, step_ns)
        if count[s.DIRTY] and count[s.STATE] == s.IDLE and now_ns > clock[s.NOW]:
            count[s.DIRTY] = 0
            now_ns = clock[s.NOW]
            filled = plan(engine, now_ns)
            if tiers.state[t.END] > 0:
                _send_moves(engine, now_ns, False)
            if filled:
                begin(engine, now_ns)
            continue
        if now_ns >= until_ns:
            clock[s.HELD_UNTIL] = now_ns
            return FINISHED if now_ns == np.inf else AT_LIMIT
        clock[s.NOW] = now_ns
        if rules[s.ALLOCATED]:
            engine.allocator.tick(engine.allocator_state, now_ns)
        if copy_ns == now_ns:
            event = np.int64(take(network.events))
            if event >= 0:
                if pass_stage(network, event):
                    _come(engine, event, now_ns)
            elif timer_kind(event) == HOLD_ENDS:
                if not engine.calls[timer_call(event), s.AWAITED]:
                    end_hold(engine, timer_call(event))
                count[s.DIRTY] = 1
            else:
                count[s.DIRTY] = 1
        elif step_ns == now_ns:
            clock[s.NOW] = _step_ends(engine, now_ns, min(arrival_ns, copy_ns, until_ns))
        else:
            _arrive(engine, now_ns)
