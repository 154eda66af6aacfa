"""TinyLFU: a missed block is admitted only if it was accessed more often of late than the block that would leave for it
(Einziger, Friedman and Manes, "TinyLFU", ACM Transactions on Storage 2017).

Frequencies are those of a count-min sketch with counters of 4 bits that is halved after sample_factor times as many
accesses as blocks were admitted at once, so that old accesses fade. counters: in each of its four rows, 0 for as many
as the trace has blocks. doorkeeper: let only blocks seen before into the sketch.

An admission policy does not see which block would leave. It keeps an LRU list of the blocks that it admitted, as large
as the tier, and compares with the oldest of that. Under eviction by `lru` this is exactly the block that leaves (in a
tier whose blocks are not removed or evicted for other reasons), and so the paper's TinyLFU over LRU; under another
policy it stands in for its victim. While that list has room every block is admitted. The policy `wtinylfu` has both
sides in one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.frequency_sketch import Sketch, count_access, estimate, make_sketch
from sim.kernels.linked_list import oldest, push_newest, unlink
from sim.kernels.nodes import make_nodes, place_of, push_node, set_size, take_node
from sim.policy import AdmissionPolicy

ABSENT, LISTED = 0, 1  # places; LISTED is the one list, so its number
HELD, MOST_HELD = 0, 1  # of counts: blocks on the list, and at most so far


class State(NamedTuple):
    nodes: np.ndarray  # the list of admitted blocks, newest access first; their sizes
    used: np.ndarray  # int64[2]: bytes on the list, at LISTED
    sketch: Sketch
    counts: np.ndarray  # int64[2]
    first_list: int  # sentinels begin here; that of the list is at LISTED
    capacity: int
    sample_factor: int


def init(context, *, sample_factor=10, counters=0, doorkeeper=False):
    if sample_factor < 1:
        raise ValueError(f"sample_factor is {sample_factor}; expected at least 1")
    if counters < 0:
        raise ValueError(f"counters is {counters}; expected 0 or more")
    return State(
        nodes=make_nodes(context.blocks, 2, ABSENT),
        used=np.zeros(2, np.int64),
        sketch=make_sketch(counters or context.blocks, doorkeeper),
        counts=np.zeros(2, np.int64),
        first_list=context.blocks,
        capacity=context.capacity,
        sample_factor=sample_factor,
    )


@inlined
def on_access(state, request):
    block = request.block
    count_access(state.sketch, block, state.sample_factor * max(state.counts[MOST_HELD], 1))
    if place_of(state.nodes, block) == LISTED:
        unlink(state.nodes, block)
        push_newest(state.nodes, state.first_list + LISTED, block)


@inlined
def _drop(state, block):
    take_node(state.nodes, state.used, block, ABSENT)
    state.counts[HELD] -= 1


@inlined
def admit(state, request):
    block = request.block
    if place_of(state.nodes, block) == LISTED:  # the tier gave it up before its turn here
        _drop(state, block)
    if request.size_bytes > state.capacity:
        return False
    sentinel = state.first_list + LISTED
    if state.used[LISTED] + request.size_bytes > state.capacity:
        victim = np.int64(oldest(state.nodes, sentinel))
        if estimate(state.sketch, block) <= estimate(state.sketch, victim):
            return False
    while state.used[LISTED] + request.size_bytes > state.capacity:
        _drop(state, np.int64(oldest(state.nodes, sentinel)))
    set_size(state.nodes, block, request.size_bytes)
    push_node(state.nodes, state.used, state.first_list, block, LISTED)
    state.counts[HELD] += 1
    state.counts[MOST_HELD] = max(state.counts[MOST_HELD], state.counts[HELD])
    return True


POLICY = AdmissionPolicy(name="tinylfu", init=init, admit=admit, on_access=on_access)
