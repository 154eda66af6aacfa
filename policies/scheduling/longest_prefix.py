"""The call with the most prompt tokens in the accelerator's memory goes first, of equals the one that arrived first
(`--schedule-policy lpm` of SGLang; Zheng et al., "SGLang: Efficient Execution of Structured Language Model Programs",
NeurIPS 2024).

With more than `most_waiting` calls waiting, they are served in order of arrival (0: never), as SGLang does with more
than 128 because it looks each of them up. Of calls that wait for one prefix that is not there yet, SGLang also holds
back all but one for a pass; that is left out here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.policy import SchedulingPolicy


class State(NamedTuple):
    waiting: np.ndarray  # int64[1]: calls
    most_waiting: int


def init(context, *, most_waiting=128):
    if most_waiting < 0:
        raise ValueError(f"most_waiting is {most_waiting}; expected 0 or more")
    return State(np.zeros(1, np.int64), most_waiting)


@inlined
def rank(state, call):
    """A pass that begins in order of arrival stays so: where admissions bring the queue below the limit, the next
    call's rank only falls."""
    if state.most_waiting > 0 and state.waiting[0] > state.most_waiting:
        return call.arrival_ns
    return -float(call.hit_tokens)


@inlined
def wait(state, call):
    state.waiting[0] += 1


@inlined
def on_admit(state, call):
    state.waiting[0] -= 1


POLICY = SchedulingPolicy(
    name="longest_prefix",
    init=init,
    rank=rank,
    on_arrive=wait,
    on_preempt=wait,
    on_admit=on_admit,
    dynamic=True,
    sees_hits=True,
)
