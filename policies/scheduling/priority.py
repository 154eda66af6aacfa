"""By priority, calls of equal priority in the order in which they arrived (`--scheduling-policy priority` of vLLM).

Where blocks run out, the running call of the lowest priority is preempted, of equals the one that arrived last. A
waiting call does not preempt a running one for its sake, whatever their priorities.

A call of a higher `priority` goes first, as everywhere in memhier and by default in SGLang. vLLM counts the other way,
and so does SGLang where told to: `low_values_first` is for traces with their numbers.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.kernels.compile import inlined
from sim.policy import SchedulingPolicy


class State(NamedTuple):
    sign: int  # of priorities, so that the lowest goes first


def init(context, *, low_values_first=False):
    return State(1 if low_values_first else -1)


@inlined
def rank(state, call):
    return float(state.sign * call.priority)


POLICY = SchedulingPolicy(name="priority", init=init, rank=rank, victim_rank=rank)
