"""Recency and compute saved: the block leaves with the lowest sum of its recency and `alpha` times the compute that a
hit on it saves per byte (Pan et al., "Marconi: Prefix Caching for the Era of Hybrid LLMs", MLSys 2025).

Both terms are scaled to 0 to 1 between the lowest and the highest of all resident blocks, as in the paper; recency is
the number of accesses before a block's last one. With alpha 0 this is LRU. The paper finds alpha by a grid search over
the beginning of its trace; here it is set. The compute that a hit saves is `cost` of the trace (1 where it has none),
times 1 + context_weight for each earlier block of the call: attention makes later blocks costlier. 0.01 is about right
for a model of 70 billion parameters and blocks of 512 tokens; where the trace's costs count attention already, set 0.

The paper's candidates are the nodes of a radix tree with at most one child; here every block is one. As both scales
move, no order can be kept: an eviction looks at every resident block, as it does in the paper's own simulator.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, kernel
from sim.policy import EvictionPolicy


class State(NamedTuple):
    members: np.ndarray  # uint32[blocks]: the resident blocks, without gaps
    slot: np.ndarray  # uint32[blocks]: where in members a resident block stands
    count: np.ndarray  # int64[2]: how many are resident; accesses so far
    accessed: np.ndarray  # int64[blocks]: the last access to each resident block
    saved: np.ndarray  # float64[blocks]: what a hit on it saves per byte
    alpha: float
    context_weight: float


def init(context, *, alpha=1.0, context_weight=0.01):
    for name, value in (("alpha", alpha), ("context_weight", context_weight)):
        if not 0 <= value < np.inf:
            raise ValueError(f"{name} is {value}; expected at least 0")
    return State(
        members=np.zeros(context.blocks, np.uint32),
        slot=np.zeros(context.blocks, np.uint32),
        count=np.zeros(2, np.int64),
        accessed=np.zeros(context.blocks, np.int64),
        saved=np.zeros(context.blocks, np.float64),
        alpha=alpha,
        context_weight=context_weight,
    )


@inlined
def on_hit(state, request):
    state.count[1] += 1
    state.accessed[request.block] = state.count[1]
    compute = request.cost * (1.0 + state.context_weight * request.position)
    state.saved[request.block] = compute / request.size_bytes


@inlined
def on_insert(state, request):
    size = state.count[0]
    state.members[size] = request.block
    state.slot[request.block] = size
    state.count[0] = size + 1
    on_hit(state, request)


@kernel
def _span(values, members, count):
    """The lowest value of the members, and the highest less that, 1 where they are equal."""
    lowest = highest = values[members[0]]
    for i in range(1, count):
        lowest = min(lowest, values[members[i]])
        highest = max(highest, values[members[i]])
    return lowest, highest - lowest if highest > lowest else 1


@kernel
def _lowest_score(accessed, saved, members, count, alpha):
    first, accesses = _span(accessed, members, count)
    least, range_saved = _span(saved, members, count)
    victim, lowest = np.int64(members[0]), np.inf
    for i in range(count):
        block = np.int64(members[i])
        score = (accessed[block] - first) / accesses + alpha * ((saved[block] - least) / range_saved)
        if score < lowest or (score == lowest and accessed[block] < accessed[victim]):
            victim, lowest = block, score
    return victim


@inlined
def evict(state, request):
    victim = _lowest_score(state.accessed, state.saved, state.members, state.count[0], state.alpha)
    remove(state, victim)
    return victim


@inlined
def remove(state, block):
    size = state.count[0] - 1
    at, last = state.slot[block], state.members[size]
    state.members[at] = last
    state.slot[last] = at
    state.count[0] = size


POLICY = EvictionPolicy(
    name="flop_aware",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    uses=("cost",),
)
