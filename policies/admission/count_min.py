"""A block is admitted once it was asked for `threshold` times of late, as a count-min sketch has it (Mooncake Store's
`promotion_admission_threshold`; the sketch: Cormode and Muthukrishnan 2005).

Each block that could be inserted is counted, and admitted if its count is then `threshold` or more; in Mooncake Store
those are reads of objects that are on SSD alone. The sketch has four rows of `counters` (0: as many as the trace has
blocks) of 4 bits, so its counts end at 15, and are never too low but for ageing: they are halved after `sample_factor`
times as many blocks as it has counters a row. Size and ageing of Mooncake Store's sketch we do not know.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.kernels.frequency_sketch import MOST, Sketch, count_access, estimate, make_sketch
from sim.policy import AdmissionPolicy


class State(NamedTuple):
    sketch: Sketch
    threshold: int
    period: int


def init(context, *, threshold=2, counters=0, sample_factor=10):
    if not 1 <= threshold <= MOST:
        raise ValueError(f"threshold is {threshold}; expected 1 to {MOST}")
    if counters < 0:
        raise ValueError(f"counters is {counters}; expected 0 or more")
    if sample_factor < 1:
        raise ValueError(f"sample_factor is {sample_factor}; expected at least 1")
    counters = counters or context.blocks
    return State(make_sketch(counters, False), threshold, sample_factor * counters)


def admit(state, request):
    count_access(state.sketch, request.block, state.period)
    return estimate(state.sketch, request.block) >= state.threshold


POLICY = AdmissionPolicy(name="count_min", init=init, admit=admit)
