"""Tenants get equal shares: the next call is of the tenant that was served least (VTC: Sheng et al., "Fairness in
Serving Large Language Models", OSDI 2024), and a tenant far behind takes the place of one far ahead.

A counter for each tenant grows by `input_weight` for each prompt token of a call when it is first admitted, and by
`output_weight` for each token as it is generated. Of the tenants that wait, the one with the lowest counter is next,
with its call that arrived first. A tenant that begins to wait has its counter lifted to the lowest among those that
wait; where nobody does, to that of the tenant that was the last to wait. So nobody saves up shares while away. Without
preemption, the counters of two tenants that both always wait never differ by more than the larger of `input_weight`
times the longest prompt and `output_weight` times the tokens that fit into memory (the paper's bound).

quantum: a waiting call that finds no room preempts a running one whose tenant's counter is higher by more than this;
0: never, which is VTC alone. Where blocks run out, a call of the tenant with the highest counter is preempted. To
preempt for fairness is as in FastSwitch (Shen, Li and Gao, "Optimizing Context Switching Efficiency in Fairness-aware
Large Language Model Serving", 2024), which is about what a switch costs; the size of the quantum is our choice.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.policy import SchedulingPolicy


class State(NamedTuple):
    counter: np.ndarray  # float64[tenants]: weighted tokens
    waiting: np.ndarray  # int64[tenants]: calls
    generated: np.ndarray  # int64[calls]: tokens that the counter has
    last: np.ndarray  # int64[1]: tenant that was the last to wait no more; -1: none yet
    total: np.ndarray  # int64[1]: calls that wait
    input_weight: float
    output_weight: float
    quantum: float


def init(context, *, input_weight=1.0, output_weight=2.0, quantum=16384.0):
    for name, value in (("input_weight", input_weight), ("output_weight", output_weight), ("quantum", quantum)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; expected 0 or more")
    tenants = max(context.tenants, 1)
    return State(
        counter=np.zeros(tenants),
        waiting=np.zeros(tenants, np.int64),
        generated=np.zeros(context.calls, np.int64),
        last=np.full(1, -1, np.int64),
        total=np.zeros(1, np.int64),
        input_weight=input_weight,
        output_weight=output_weight,
        quantum=quantum,
    )


@subroutine
def _lowest(counter, waiting):
    """Of the counters of tenants that wait."""
    lowest = np.inf
    for tenant in range(counter.size):
        if waiting[tenant] > 0:
            lowest = min(lowest, counter[tenant])
    return lowest


@inlined
def wait(state, call):
    tenant = call.tenant
    if state.waiting[tenant] == 0:
        if state.total[0] > 0:
            state.counter[tenant] = max(state.counter[tenant], _lowest(state.counter, state.waiting))
        elif state.last[0] >= 0:
            state.counter[tenant] = max(state.counter[tenant], state.counter[state.last[0]])
    state.waiting[tenant] += 1
    state.total[0] += 1


@inlined
def on_admit(state, call):
    tenant = call.tenant
    state.waiting[tenant] -= 1
    state.total[0] -= 1
    if state.waiting[tenant] == 0:
        state.last[0] = tenant
    if call.preemptions == 0:
        state.counter[tenant] += state.input_weight * call.input_tokens


@inlined
def count_generated(state, call):
    """Tokens that were computed again, after a preemption, are not new ones."""
    more = call.generated_tokens - state.generated[call.index]
    state.counter[call.tenant] += state.output_weight * more
    state.generated[call.index] = call.generated_tokens


@inlined
def on_tokens(state, call, tokens):
    count_generated(state, call)


@inlined
def rank(state, call):
    return state.counter[call.tenant]


@inlined
def preempts(state, waiting, running):
    return state.quantum > 0 and state.counter[waiting.tenant] + state.quantum < state.counter[running.tenant]


POLICY = SchedulingPolicy(
    name="fair_share",
    init=init,
    rank=rank,
    victim_rank=rank,
    preempts=preempts,
    on_arrive=wait,
    on_preempt=wait,
    on_admit=on_admit,
    on_tokens=on_tokens,
    on_finish=count_generated,
    dynamic=True,
    counts_tokens=True,
)
