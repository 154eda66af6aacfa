"""What a scheduling policy is told of a call, and where the time of a call goes."""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.policy import make_call
from sim.serving import record as r
from sim.serving import state as s
from sim.serving.blocks import look_up


@subroutine
def call_view(engine, call):
    """A call, as scheduling policies see it."""
    work, calls = engine.work, engine.calls
    hits, first = np.int64(-1), np.int64(-1)
    if engine.rules[s.SEES_HITS] and calls[call, s.STATUS] == s.WAITING:
        run, _ = look_up(engine, call, 0)
        hits = run * engine.rules[s.BLOCK_TOKENS]
    if work.first_row[call] < work.first_row[call + 1]:
        first = np.int64(work.block[work.first_row[call]])
    return make_call(
        call,
        engine.clock[s.NOW],
        work.arrival_ns[call],
        work.input_tokens[call],
        work.predicted_tokens[call],
        calls[call, s.TOKENS] - work.input_tokens[call],
        hits,
        first,
        work.tenant[call],
        work.priority[call],
        work.program[call],
        work.program_arrival_ns[call],
        work.has_next[call],
        calls[call, s.ADMISSION],
        calls[call, s.PREEMPTIONS],
    )


@inlined
def blocked_ns(engine, now_ns):
    """For how long so far the first waiting call has found no blocks."""
    blocked = engine.clock[s.BLOCKED]
    return blocked + (now_ns - engine.clock[s.BLOCKED_SINCE] if engine.count[s.HEAD_BLOCKED] else 0.0)


@inlined
def set_blocked(engine, is_blocked, now_ns):
    """The last pass ended because the first waiting call finds no blocks, or it did not.

    Where nothing changes nothing is added up, so that it comes to the same however many passes there were.
    """
    if engine.count[s.HEAD_BLOCKED] == is_blocked:
        return
    engine.clock[s.BLOCKED] = blocked_ns(engine, now_ns)
    engine.clock[s.BLOCKED_SINCE] = now_ns
    engine.count[s.HEAD_BLOCKED] = is_blocked


@subroutine
def leave_phase(engine, call, now_ns, following):
    """Add the time of the phase that a call is in to its part, and let it enter the one that follows.

    A call that was preempted counts as such until its next token, whatever it does in between.
    """
    calls, times, parts = engine.calls, engine.times, engine.parts_ns
    phase = calls[call, s.PHASE]
    if phase == r.PREEMPTED and following not in (r.DECODE, r.TRANSFER):
        return
    passed_ns = now_ns - times[call, s.SINCE]
    if phase == r.QUEUE:
        blocked = min(passed_ns, blocked_ns(engine, now_ns) - times[call, s.BLOCKED_BEFORE])
        insisted = 0.0
        if np.isnan(times[call, s.FIRST_TOKEN]) and times[call, s.LAST_TOKEN] >= 0.0:
            # until it has a first token, that is since when it was passed over for its prefetch
            insisted = min(passed_ns - blocked, max(0.0, times[call, s.STAGED_UNTIL] - times[call, s.LAST_TOKEN]))
            times[call, s.LAST_TOKEN] = np.nan
        parts[call, r.BLOCK_WAIT] += blocked
        parts[call, r.PREFETCH_WAIT] += insisted
        parts[call, r.QUEUE] += passed_ns - blocked - insisted
    elif phase in (r.PREFILL, r.DECODE):
        stalled = min(passed_ns, engine.clock[s.STALLED] - times[call, s.STALL_BEFORE])
        parts[call, r.STALL] += stalled
        parts[call, phase] += passed_ns - stalled
    else:
        parts[call, phase] += passed_ns
    enter_phase(engine, call, now_ns, following)


@inlined
def enter_phase(engine, call, now_ns, phase):
    """A call is in a phase from now on."""
    engine.calls[call, s.PHASE] = phase
    engine.times[call, s.SINCE] = now_ns
    engine.times[call, s.STALL_BEFORE] = engine.clock[s.STALLED]
    engine.times[call, s.BLOCKED_BEFORE] = blocked_ns(engine, now_ns)
