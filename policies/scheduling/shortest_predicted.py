"""The call with the least predicted work left goes first (shortest predicted job first: Qiu et al., "Efficient
Interactive LLM Serving with Proxy Model-based Sequence Length Prediction", 2024).

Work is the tokens still to be generated, as predicted, and `input_weight` for each token of the prompt. What a call had
generated when it was preempted counts as done, so that the order is by work that remains, as estimated by ALISE (Zhao
and Wang, "Accelerating Large Language Model Serving with Speculative Scheduling", 2024); a call that has outgrown its
prediction has none left. Where blocks run out, the running call that would go last is preempted. With `preemptive`, a
waiting call that finds no room takes the place of a running one that would go after it. S3 (Jin et al., NeurIPS 2023)
predicts lengths, too, but to pack memory by them.

aging_tokens_per_s: a call counts so many tokens less for each second that it waits, so that long ones do not starve; 0:
never. Of two calls that wait, both age alike: that is the same as counting more for each second that a call came later,
and ranks need not be told anew.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from sim.kernels.compile import inlined
from sim.policy import SchedulingPolicy


class State(NamedTuple):
    aging_tokens_per_ns: float
    input_weight: float
    preemptive: bool


def init(context, *, aging_tokens_per_s=0.0, input_weight=0.0, preemptive=False):
    if not 0 <= aging_tokens_per_s < math.inf:
        raise ValueError(f"aging_tokens_per_s is {aging_tokens_per_s}; expected 0 or more")
    if not 0 <= input_weight < math.inf:
        raise ValueError(f"input_weight is {input_weight}; expected 0 or more")
    return State(aging_tokens_per_s * 1e-9, input_weight, preemptive)


@inlined
def left_tokens(state, call):
    """Predicted work that is left of a call."""
    return max(call.predicted_tokens - call.generated_tokens, 0.0) + state.input_weight * call.input_tokens


@inlined
def rank(state, call):
    return left_tokens(state, call) + state.aging_tokens_per_ns * call.arrival_ns


@inlined
def preempts(state, waiting, running):
    return state.preemptive and rank(state, waiting) < rank(state, running)


POLICY = SchedulingPolicy(name="shortest_predicted", init=init, rank=rank, victim_rank=rank, preempts=preempts)
