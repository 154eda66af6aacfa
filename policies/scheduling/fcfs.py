"""First come, first served: calls run in the order in which they arrived (the default of vLLM and SGLang).

Where blocks run out, the call that was admitted last is preempted; it arrived before all that wait, and is next again.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.kernels.compile import inlined
from sim.policy import SchedulingPolicy


class State(NamedTuple):
    pass


def init(context):
    return State()


@inlined
def rank(state, call):
    return call.arrival_ns


POLICY = SchedulingPolicy(name="fcfs", init=init, rank=rank)
