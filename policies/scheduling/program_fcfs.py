"""Program by program, in the order in which programs made their first call; what a program will use again stays pinned
while it calls a tool (Continuum: Li et al., "Efficient and Robust Multi-Turn LLM Agent Scheduling with KV Cache
Time-to-Live", 2025).

Preempted calls go first, then calls of programs whose blocks are still pinned, then all others; in each of these, the
program goes first whose first call arrived first. A call of no program counts as a program of its own.

When a call ends after which its program makes another one, its blocks are pinned for `ttl_ns`, unless the program's
pauses so far, from the end of a call to the arrival of the next, took longer than `longest_pause_ns` on average (0: no
matter). These are the rule and the values of Continuum's published program (github.com/Hanchenli/vllm-continuum),
which averages by the tool that is called; our traces do not name tools, so here it is by program. The paper's own rule
weighs the cost of reloading against waiting under the distribution of pauses; it is not offered.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.policy import SchedulingPolicy

CLASS_NS = 2.0**53  # between classes: longer than any trace, and short enough that a rank is right to 2 ns


class State(NamedTuple):
    pinned: np.ndarray  # bool[calls]: it arrived while its program's blocks were pinned
    pinned_until_ns: np.ndarray  # float64[programs]
    ended_ns: np.ndarray  # float64[programs]: when its last call ended; -1 while one runs
    pauses: np.ndarray  # int64[programs]
    paused_ns: np.ndarray  # float64[programs]: in all of them
    ttl_ns: float
    longest_pause_ns: float


def init(context, *, ttl_ns=2e9, longest_pause_ns=2e9):
    for name, value in (("ttl_ns", ttl_ns), ("longest_pause_ns", longest_pause_ns)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; expected 0 or more")
    programs = context.programs
    return State(
        pinned=np.zeros(context.calls, np.bool_),
        pinned_until_ns=np.full(programs, -1.0),
        ended_ns=np.full(programs, -1.0),
        pauses=np.zeros(programs, np.int64),
        paused_ns=np.zeros(programs),
        ttl_ns=ttl_ns,
        longest_pause_ns=longest_pause_ns,
    )


@inlined
def on_arrive(state, call):
    program = call.program
    if program < 0:
        return
    state.pinned[call.index] = call.now_ns < state.pinned_until_ns[program]
    if state.ended_ns[program] >= 0:
        state.pauses[program] += 1
        state.paused_ns[program] += call.now_ns - state.ended_ns[program]
    state.ended_ns[program] = -1.0


@inlined
def on_finish(state, call):
    if call.program >= 0:
        state.ended_ns[call.program] = call.now_ns
        state.pinned_until_ns[call.program] = call.now_ns + hold_ns(state, call)


@inlined
def hold_ns(state, call):
    program = call.program
    if program < 0 or not call.has_next:
        return 0.0
    too_long_ns = state.longest_pause_ns * state.pauses[program]
    if state.longest_pause_ns > 0 and state.paused_ns[program] > too_long_ns:
        return 0.0
    return state.ttl_ns


@inlined
def rank(state, call):
    if call.preemptions > 0:
        return call.program_arrival_ns - 2.0 * CLASS_NS
    if state.pinned[call.index]:
        return call.program_arrival_ns - CLASS_NS
    return call.program_arrival_ns


POLICY = SchedulingPolicy(
    name="program_fcfs", init=init, rank=rank, hold_ns=hold_ns, on_arrive=on_arrive, on_finish=on_finish
)
