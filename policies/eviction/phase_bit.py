"""Marking with one bit of prediction: of the blocks not accessed in this phase, one leaves that was predicted not to
be, else any, each as likely as another (Mark&Predict of Antoniadis et al., "Paging with Succinct Predictions", ICML
2023).

A phase ends when a block has to leave and all have been accessed in it. The prediction comes with each access, in the
column `prediction`: 1 says that the block will not be accessed in the next phase, anything else that it will; the
block's last one counts. `sim.predictions.phase_predictions` makes perfect ones. With those no block leaves that its
phase still asks for.

As every marking algorithm it is robust whatever the predictions are: with bad ones it misses at most 2 H(k) times as
often as the optimum in expectation, for k blocks and the k-th harmonic number, so that it needs nothing to fall back
on. error_rate: this share of the predictions is turned round, at random.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.random import below, make_rng, uniform
from sim.policy import EvictionPolicy

STAYS, GOES, MARKED = 0, 1, 2  # sets: not marked, by prediction; marked


class State(NamedTuple):
    members: np.ndarray  # uint32[3, blocks]: the blocks of each set, without gaps
    counts: np.ndarray  # int64[3]: how many
    slot: np.ndarray  # uint32[blocks]: where in its set a resident block stands
    place: np.ndarray  # uint8[blocks]: in which set
    bit: np.ndarray  # uint8[blocks]: its last prediction, STAYS or GOES
    rng: np.ndarray
    error_rate: float


def init(context, *, error_rate=0.0):
    if not 0 <= error_rate <= 1:
        raise ValueError(f"error_rate is {error_rate}; expected 0 to 1")
    return State(
        members=np.zeros((3, context.blocks), np.uint32),
        counts=np.zeros(3, np.int64),
        slot=np.zeros(context.blocks, np.uint32),
        place=np.zeros(context.blocks, np.uint8),
        bit=np.zeros(context.blocks, np.uint8),
        rng=make_rng(context.seed),
        error_rate=error_rate,
    )


@inlined
def _put(state, block, place):
    size = state.counts[place]
    state.members[place, size] = block
    state.slot[block] = size
    state.place[block] = place
    state.counts[place] = size + 1


@inlined
def _take(state, block):
    """Close the gap with the last member."""
    place, at = np.int64(state.place[block]), state.slot[block]
    size = state.counts[place] - 1
    last = state.members[place, size]
    state.members[place, at] = last
    state.slot[last] = at
    state.counts[place] = size


@inlined
def _mark(state, request):
    bit = request.prediction == 1
    if state.error_rate > 0 and uniform(state.rng) < state.error_rate:
        bit = not bit
    state.bit[request.block] = GOES if bit else STAYS
    _put(state, request.block, MARKED)


@inlined
def on_hit(state, request):
    _take(state, request.block)
    _mark(state, request)


@inlined
def on_insert(state, request):
    _mark(state, request)


@subroutine
def evict(state, request):
    if state.counts[STAYS] + state.counts[GOES] == 0:  # a new phase
        for i in range(state.counts[MARKED]):
            block = np.int64(state.members[MARKED, i])
            _put(state, block, np.int64(state.bit[block]))
        state.counts[MARKED] = 0
    place = GOES if state.counts[GOES] > 0 else STAYS
    victim = np.int64(state.members[place, below(state.rng, state.counts[place])])
    _take(state, victim)
    return victim


@inlined
def remove(state, block):
    _take(state, block)


POLICY = EvictionPolicy(
    name="phase_bit",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    needs=("prediction",),
)
