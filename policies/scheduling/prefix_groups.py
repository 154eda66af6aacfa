"""Calls that share their first block go together, so that what they share is computed once and kept no longer than
needed (BatchLLM: Zheng et al., "Optimizing Large Batched LLM Inference with Global Prefix Sharing and
Throughput-oriented Token Batching", 2024).

A group is the waiting calls whose prompts begin with the same block; a call without hashes is one of its own. A group
that has begun goes on until none of its calls waits, also of those that arrive meanwhile; preempted calls go before all
others. Which group begins next, `order` says: `decode_ratio`, that with the most predicted tokens for each prompt
token, so that its decoding overlaps the prefill of those after it (the paper's); `size`, that with the most calls;
`arrival`, that which came first. Equal ones begin in order of arrival, and in a group calls go in that order, too.

BatchLLM has all calls at hand before it begins, and splits prefixes into one level by dynamic programming. Here calls
arrive, and the first block alone decides; ratios are told apart in steps of 1/1024.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.policy import SchedulingPolicy

ORDERS = ("arrival", "size", "decode_ratio")
ARRIVAL, SIZE, DECODE_RATIO = range(len(ORDERS))
STEPS = 1024.0  # of a ratio
TURNS = 1 << 22  # groups that are told apart by their order of arrival: a rank is a whole number below 2**53
MOST_STEPS = 2.0**30
BEGUN, PREEMPTED = -(2.0**54), -(2.0**55)  # ranks below all others


class State(NamedTuple):
    waiting: np.ndarray  # int64[blocks]: calls of the group that wait, preempted ones apart
    size: np.ndarray  # int64[blocks]: calls of the group since it was last empty
    outputs: np.ndarray  # float64[blocks]: their predicted tokens
    inputs: np.ndarray  # float64[blocks]: their prompts' tokens
    turn: np.ndarray  # int64[blocks]: which group this was to come
    turn_of_call: np.ndarray  # int64[calls]: of calls that have no group
    begun: np.ndarray  # int64[1]: group that has begun; -1 where there is none
    turns: np.ndarray  # int64[1]: groups so far
    order: int


def init(context, *, order="decode_ratio"):
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}; expected one of {', '.join(ORDERS)}")
    blocks = context.blocks
    return State(
        waiting=np.zeros(blocks, np.int64),
        size=np.zeros(blocks, np.int64),
        outputs=np.zeros(blocks),
        inputs=np.zeros(blocks),
        turn=np.zeros(blocks, np.int64),
        turn_of_call=np.zeros(context.calls, np.int64),
        begun=np.full(1, -1, np.int64),
        turns=np.zeros(1, np.int64),
        order=ORDERS.index(order),
    )


@inlined
def on_arrive(state, call):
    group = call.first_block
    if group < 0:
        state.turn_of_call[call.index] = state.turns[0]
        state.turns[0] += 1
        return
    if state.waiting[group] == 0:
        state.size[group] = 0
        state.outputs[group] = 0.0
        state.inputs[group] = 0.0
        state.turn[group] = state.turns[0]
        state.turns[0] += 1
    state.waiting[group] += 1
    state.size[group] += 1
    state.outputs[group] += call.predicted_tokens
    state.inputs[group] += call.input_tokens


@inlined
def on_admit(state, call):
    if call.preemptions > 0:
        return
    state.begun[0] = call.first_block
    if call.first_block >= 0:
        state.waiting[call.first_block] -= 1


@inlined
def _worth(order, size, outputs, inputs):
    """What a group goes before others for, as a whole number."""
    if order == SIZE:
        return min(float(size), MOST_STEPS)
    if order == DECODE_RATIO:
        return float(int(min(outputs / max(inputs, 1.0) * STEPS, MOST_STEPS)))
    return 0.0


@inlined
def rank(state, call):
    group = call.first_block
    if call.preemptions > 0:
        return PREEMPTED
    if group < 0:
        worth = _worth(state.order, 1, call.predicted_tokens, float(call.input_tokens))
        return float(state.turn_of_call[call.index] % TURNS) - worth * TURNS
    if group == state.begun[0]:
        return BEGUN
    worth = _worth(state.order, state.size[group], state.outputs[group], state.inputs[group])
    return float(state.turn[group] % TURNS) - worth * TURNS


POLICY = SchedulingPolicy(
    name="prefix_groups", init=init, rank=rank, on_arrive=on_arrive, on_admit=on_admit, dynamic=True
)
