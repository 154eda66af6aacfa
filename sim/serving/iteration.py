"""Iterations: what is in the batch, how long it takes, what it leaves, and many alike taken in one go.

An iteration takes the time of its kernels (`sim.cost.step`) and of what it has to wait for: blocks of G1 that were
given up for it must have been copied away before it begins, and a prefix that is loaded while it runs must have arrived
layer by layer.
"""

from __future__ import annotations

import math

import numpy as np

from sim.cost.step import outputs_ns, step_attention_ns, tokens_ns
from sim.kernels.compile import inlined, known_natural, subroutine
from sim.serving import record as r
from sim.serving import state as s
from sim.serving import tiers as t
from sim.serving.blocks import commit, full_blocks, grow, mark_computed, release
from sim.serving.calls import call_view, leave_phase
from sim.serving.log import is_filling, note_iteration
from sim.serving.network import DRAINING as COPIES_DUE
from sim.serving.network import HOLD_ENDS, push, timer

SEQUENCES, TOKENS, WINDOWED = range(3)  # places in `sums`
LINEAR_NS, PREFILL_NS, DECODE_NS, HEAD_NS, OVERHEAD_NS, LOAD_STALL_NS, STORE_STALL_NS = range(7)


@inlined
def _tokens_ns(engine, tokens):
    memo = engine.tokens_memo
    if np.isnan(memo[tokens]):
        memo[tokens] = tokens_ns(engine.step, np.float64(tokens))
    return memo[tokens]


@inlined
def _outputs_ns(engine, sequences):
    memo = engine.outputs_memo
    if np.isnan(memo[sequences]):
        memo[sequences] = outputs_ns(engine.step, np.float64(sequences))
    return memo[sequences]


@inlined
def _duration_ns(engine):
    """Of the batch at hand; its parts are added to those of the engine."""
    step, sums, parts = engine.step, engine.sums, engine.engine_ns
    linear_ns = _tokens_ns(engine, known_natural(engine.count[s.BATCH_TOKENS]))
    head_ns = _outputs_ns(engine, known_natural(engine.count[s.BATCH_OUTPUTS]))
    attention_ns = step_attention_ns(step, engine.work_sums, sums[SEQUENCES], sums[TOKENS], sums[WINDOWED])
    prefill_ns = 0.0
    if engine.count[s.BATCH_PREFILLS]:
        prefill_ns = attention_ns
        if sums[SEQUENCES] > 0.0:
            prefill_ns = step_attention_ns(step, engine.work_sums, 0.0, 0.0, 0.0)
    parts[LINEAR_NS] += linear_ns
    parts[HEAD_NS] += head_ns
    parts[PREFILL_NS] += prefill_ns
    parts[DECODE_NS] += attention_ns - prefill_ns
    parts[OVERHEAD_NS] += step.overhead_ns
    return step.overhead_ns + linear_ns + head_ns + attention_ns


@inlined
def _mapping_ns(engine):
    """How long the next iteration waits for the system's calls that the allocator has made since the last one."""
    if engine.rules[s.ALLOCATED]:
        return engine.allocator.waited_ns(engine.allocator_state) - engine.clock[s.MAPPING]
    return 0.0


@inlined
def begin(engine, now_ns):
    """Let the batch at hand begin: at once, or when what was evicted for it has been copied away."""
    clock, count = engine.clock, engine.count
    if count[s.STATE] == s.IDLE and engine.network.counts[COPIES_DUE] > 0:
        count[s.STATE] = s.DRAINING
        clock[s.DRAIN_SINCE] = now_ns
        return
    if count[s.STATE] == s.DRAINING:
        clock[s.STALLED] += now_ns - clock[s.DRAIN_SINCE]
        engine.engine_ns[STORE_STALL_NS] += now_ns - clock[s.DRAIN_SINCE]
    if engine.rules[s.OVERLAP] == 1 and count[s.BATCH_LOADS] > 0:
        count[s.STATE] = s.AWAITING
        clock[s.LOAD_SINCE] = now_ns
        return
    _run(engine, now_ns)


@inlined
def _run(engine, now_ns):
    clock, count = engine.clock, engine.count
    count[s.STATE] = s.COMPUTING
    clock[s.STEP_START] = now_ns
    waits_ns = _mapping_ns(engine)
    clock[s.STEP_END] = now_ns + _duration_ns(engine) + waits_ns
    clock[s.MAPPING] += waits_ns
    engine.engine_ns[OVERHEAD_NS] += waits_ns
    count[s.ITERATIONS] += 1


@inlined
def loads_arrived(engine, now_ns):
    """All that the batch at hand waited for is there: it begins, or its last layer can."""
    clock, count = engine.clock, engine.count
    waited_ns = now_ns - clock[s.LOAD_SINCE]
    clock[s.STALLED] += waited_ns
    engine.engine_ns[LOAD_STALL_NS] += waited_ns
    if engine.rules[s.OVERLAP] == 1:
        _run(engine, now_ns)
        return
    layer_ns = (clock[s.LOAD_SINCE] - clock[s.STEP_START]) / engine.rules[s.LAYERS]
    count[s.STATE] = s.COMPUTING
    clock[s.STEP_END] = now_ns + layer_ns


@inlined
def add_gap(engine, gap_ns, times):
    """Count so many equal gaps between two tokens."""
    place = np.int64(0)
    if gap_ns > s.GAP_LOW_NS:
        place = np.int64(math.log(gap_ns / s.GAP_LOW_NS) / math.log(s.GAP_RATIO))
    engine.gaps[min(place, s.GAP_BINS - 1)] += times
    engine.gap_total_ns[0] += np.int64(round(gap_ns)) * times


@subroutine
def finish(engine, now_ns):
    """The batch at hand has been computed. Whether any call has ended with it."""
    calls, times, count, work = engine.calls, engine.times, engine.count, engine.work
    running = engine.running
    ended = False
    for place in range(count[s.RUNNING_NOW]):
        call = known_natural(running[place])
        new = calls[call, s.SCHEDULED]
        if new == 0:
            continue
        calls[call, s.SCHEDULED] = 0
        before = calls[call, s.FILLED]
        filled = before + new
        calls[call, s.FILLED] = filled
        prompt = work.input_tokens[call]
        again = max(np.int64(0), min(filled, calls[call, s.MOST_FILLED]) - before)
        calls[call, s.RECOMPUTED] += again
        count[s.RECOMPUTED_ALL] += again
        of_prompt = max(np.int64(0), min(filled, prompt) - min(before, prompt) - again)
        calls[call, s.COMPUTED] += of_prompt
        count[s.PROMPT_COMPUTED] += of_prompt
        calls[call, s.MOST_FILLED] = max(filled, calls[call, s.MOST_FILLED])
        if engine.rules[s.COMMIT_ALL]:
            mark_computed(engine, call, full_blocks(engine, call, filled))
        told = filled == calls[call, s.TOKENS]
        calls[call, s.TOKENS] += told
        if engine.rules[s.COUNTS_TOKENS]:
            engine.scheduling.on_tokens(engine.scheduling_state, call_view(engine, call), new)
        if not told:
            continue
        count[s.GENERATED] += 1
        if np.isnan(times[call, s.FIRST_TOKEN]):
            times[call, s.FIRST_TOKEN] = now_ns
        else:
            add_gap(engine, now_ns - times[call, s.LAST_TOKEN], 1)
        times[call, s.LAST_TOKEN] = now_ns
        if calls[call, s.PHASE] != r.DECODE:
            leave_phase(engine, call, now_ns, r.DECODE)
        if calls[call, s.TOKENS] - prompt == work.output_tokens[call]:
            end(engine, call, now_ns)
            ended = True
        elif engine.rules[s.ROLE] == s.PREFILLS:
            calls[call, s.STATUS] = s.HANDING
            count[s.HANDING_NOW] += 1
            leave_phase(engine, call, now_ns, r.TRANSFER)
            engine.outbox[count[s.OUTBOX]] = call
            count[s.OUTBOX] += 1
            ended = True
    if ended:
        kept = 0
        for place in range(count[s.RUNNING_NOW]):
            call = running[place]
            if calls[call, s.STATUS] == s.RUNNING:
                running[kept] = call
                kept += 1
        count[s.RUNNING_NOW] = kept
    return ended


@inlined
def end(engine, call, now_ns):
    """A call has its last token."""
    calls, times, count, clock = engine.calls, engine.times, engine.count, engine.clock
    leave_phase(engine, call, now_ns, r.DECODE)
    calls[call, s.STATUS] = s.DONE
    times[call, s.FINISH] = now_ns
    clock[s.LAST_FINISH] = now_ns
    count[s.FINISHED] += 1
    view = call_view(engine, call)
    engine.scheduling.on_finish(engine.scheduling_state, view)
    hold_ns = engine.scheduling.hold_ns(engine.scheduling_state, view)
    if hold_ns > 0.0 and engine.rules[s.HASHED]:
        calls[call, s.HELD_AT], calls[call, s.AWAITED] = count[s.HELD_CALLS], 0
        engine.holding[count[s.HELD_CALLS]] = call
        count[s.HELD_CALLS] += 1
        push(engine.network.events, now_ns + hold_ns, timer(HOLD_ENDS, call))
    else:
        give_up(engine, call)


@inlined
def give_up(engine, call):
    """All that a call has of G1 is free again."""
    if engine.rules[s.ALLOCATED]:
        if engine.calls[call, s.BLOCKS] > 0:
            engine.allocator.release(engine.allocator_state, call)
            engine.tiers.sizes[0][t.PRIVATE] -= engine.calls[call, s.BLOCKS]
            engine.calls[call, s.BLOCKS], engine.calls[call, s.OWNED] = 0, 0
    else:
        release(engine, call)


@inlined
def end_hold(engine, call):
    """A call that has ended keeps its blocks no longer."""
    count, calls, holding = engine.count, engine.calls, engine.holding
    place = calls[call, s.HELD_AT]
    if place < 0:
        return
    last = holding[count[s.HELD_CALLS] - 1]
    holding[place] = last
    calls[last, s.HELD_AT] = place
    count[s.HELD_CALLS] -= 1
    calls[call, s.HELD_AT] = -1
    give_up(engine, call)


@subroutine
def keep_holds(engine, call):
    """A call of a program has arrived: what the program holds stays until this one is let in."""
    for place in range(engine.count[s.HELD_CALLS]):
        held = engine.holding[place]
        if engine.work.program[held] == engine.work.program[call]:
            engine.calls[held, s.AWAITED] = 1


@subroutine
def end_holds(engine, call):
    """A call of a program has been let in, with what the program held."""
    place = engine.count[s.HELD_CALLS] - 1
    while place >= 0:
        held = known_natural(engine.holding[place])
        if engine.work.program[held] == engine.work.program[call]:
            end_hold(engine, held)
        place -= 1


@subroutine
def _next_blocks(engine):
    """Give blocks to the calls of a batch that only decodes; whether nothing else follows from it."""
    calls, count = engine.calls, engine.count
    for place in range(count[s.RUNNING_NOW]):
        call = known_natural(engine.running[place])
        if not grow(engine, call, calls[call, s.FILLED] + 1):
            return False
        if engine.rules[s.HASHED]:
            commit(engine, call, full_blocks(engine, call, calls[call, s.FILLED]))
    return engine.tiers.state[t.END] == 0


@inlined
def _until_change(engine, given):
    """Iterations until a call of a batch that only decodes ends, or needs a block; given: it has that of the next."""
    calls, work, each = engine.calls, engine.work, engine.rules[s.BLOCK_TOKENS]
    ends, fills = np.int64(1 << 62), np.int64(1 << 62)
    for place in range(engine.count[s.RUNNING_NOW]):
        call = known_natural(engine.running[place])
        ends = min(ends, work.input_tokens[call] + work.output_tokens[call] - calls[call, s.TOKENS])
        filled = calls[call, s.FILLED]
        if engine.rules[s.PARTIAL]:
            filled -= work.input_tokens[call]
        further = (-filled) % each
        fills = min(fills, each if given and further == 0 else further)
    return ends, fills


@subroutine
def jump(engine, now_ns, limit_ns):
    """Take iterations that only decode one after the other, as long as nothing else happens; when the last one ends.

    The batch at hand has just been computed, at now_ns, and the next would be the same again. What it takes one by one
    is what the scheduler would do in as many passes, in the same order and with the same numbers.
    """
    times, count, sums = engine.times, engine.count, engine.sums
    sequences = count[s.RUNNING_NOW]
    windowed = engine.step.window_layers > 0.0
    lag = np.int64(0)
    ends, fills = _until_change(engine, False)
    while ends > 1:
        if fills == 0 or (windowed and lag > 0) or (engine.rules[s.COUNTS_TOKENS] and lag > 0):
            _catch_up(engine, lag, now_ns)
            lag = np.int64(0)
            if not _next_blocks(engine):
                break
            _, fills = _until_change(engine, True)
        before = sums[TOKENS], sums[WINDOWED]
        sums[TOKENS] += sequences
        sums[WINDOWED] = _windowed_tokens(engine) if windowed else sums[TOKENS]
        parts = engine.engine_ns
        kept = parts[LINEAR_NS], parts[PREFILL_NS], parts[DECODE_NS], parts[HEAD_NS], parts[OVERHEAD_NS]
        waits_ns = _mapping_ns(engine)
        end_ns = now_ns + _duration_ns(engine) + waits_ns
        if end_ns >= limit_ns:
            sums[TOKENS], sums[WINDOWED] = before
            parts[LINEAR_NS], parts[PREFILL_NS], parts[DECODE_NS], parts[HEAD_NS], parts[OVERHEAD_NS] = kept
            break
        engine.clock[s.MAPPING] += waits_ns
        parts[OVERHEAD_NS] += waits_ns
        add_gap(engine, end_ns - now_ns, sequences)
        engine.clock[s.STEP_START], engine.clock[s.NOW] = now_ns, end_ns
        now_ns = end_ns
        if engine.rules[s.ALLOCATED]:
            engine.allocator.tick(engine.allocator_state, now_ns)
        lag += 1
        ends -= 1
        fills -= 1
        count[s.ITERATIONS] += 1
        count[s.JUMPED] += 1
        count[s.GENERATED] += sequences
        note_iteration(engine, end_ns)
        if is_filling(engine):
            break
    _catch_up(engine, lag, now_ns)
    if windowed:
        sums[WINDOWED] = _windowed_tokens(engine)
    for place in range(sequences):
        call = known_natural(engine.running[place])
        times[call, s.LAST_TOKEN] = now_ns
    return now_ns


@inlined
def _catch_up(engine, lag, now_ns):
    """Tell every running call of so many tokens more."""
    calls = engine.calls
    if lag == 0:
        return
    for place in range(engine.count[s.RUNNING_NOW]):
        call = known_natural(engine.running[place])
        calls[call, s.FILLED] += lag
        calls[call, s.TOKENS] += lag
        again = max(np.int64(0), min(calls[call, s.FILLED], calls[call, s.MOST_FILLED]) - calls[call, s.FILLED] + lag)
        calls[call, s.RECOMPUTED] += again
        engine.count[s.RECOMPUTED_ALL] += again
        calls[call, s.MOST_FILLED] = max(calls[call, s.FILLED], calls[call, s.MOST_FILLED])
        if engine.rules[s.COUNTS_TOKENS]:
            engine.scheduling.on_tokens(engine.scheduling_state, call_view(engine, call), lag)


@inlined
def _windowed_tokens(engine):
    """Tokens that the batch's next tokens see, each up to the window."""
    calls, total = engine.calls, 0.0
    for place in range(engine.count[s.RUNNING_NOW]):
        call = known_natural(engine.running[place])
        total += min(np.float64(calls[call, s.FILLED] + 1), engine.step.window)
    return total
