"""A block is admitted once its count, which doubles each time it could be inserted and decays with time, is at least
`threshold`: the disk filter of NVIDIA Dynamo's KV block manager (ai-dynamo/dynamo, lib/kvbm, FrequencyFilter).

A block's count begins at 1. Every `decay_ns`, by the arrival of requests, all counts fall by one, and those that reach
0 are forgotten. They also fall by one at once when more than `most_blocks` would be counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import subroutine
from sim.policy import AdmissionPolicy

HIGHEST = 1 << 61  # of a count, which can still be doubled


class State(NamedTuple):
    counts: np.ndarray  # int64[blocks]
    counted: np.ndarray  # int64[1]: blocks with a count
    decay_at_ns: np.ndarray  # float64[1]: when all fall next
    threshold: int
    decay_ns: float
    most_blocks: int


def init(context, *, threshold=2, decay_ns=6e11, most_blocks=1_000_000):
    for name, value in (("threshold", threshold), ("most_blocks", most_blocks)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    if not decay_ns > 0:
        raise ValueError(f"decay_ns is {decay_ns}; expected more than 0")
    counts, counted, decay_at_ns = np.zeros(context.blocks, np.int64), np.zeros(1, np.int64), np.array([decay_ns])
    return State(counts, counted, decay_at_ns, threshold, decay_ns, most_blocks)


@subroutine
def _decay(counts, counted, by):
    for block in range(counts.size):
        if counts[block] > 0:
            counts[block] = max(counts[block] - by, 0)
            counted[0] -= counts[block] == 0


def admit(state, request):
    block = request.block
    if request.arrival_ns >= state.decay_at_ns[0]:
        times = (request.arrival_ns - state.decay_at_ns[0]) // state.decay_ns + 1
        state.decay_at_ns[0] += times * state.decay_ns
        _decay(state.counts, state.counted, np.int64(times))
    if state.counts[block] == 0:
        state.counted[0] += 1
        state.counts[block] = 1
    else:
        state.counts[block] = min(2 * state.counts[block], HIGHEST)
    admitted = state.counts[block] >= state.threshold
    if state.counted[0] > state.most_blocks:
        _decay(state.counts, state.counted, 1)
    return admitted


POLICY = AdmissionPolicy(name="decayed_frequency", init=init, admit=admit, needs=("arrival_ns",))
