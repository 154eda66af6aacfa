"""Recency and compute saved: the block leaves with the lowest sum of its recency and `alpha` times the compute that a
hit on it saves per byte (Pan et al., "Marconi: Prefix Caching for the Era of Hybrid LLMs", MLSys 2025).

Both terms are scaled to 0 to 1 between the lowest and the highest of all resident blocks, as in the paper; recency is
the number of accesses before a block's last one. With alpha 0 this is LRU. The paper finds alpha by a grid search over
the beginning of its trace; here it is set. The compute that a hit saves is `cost` of the trace (1 where it has none),
times 1 + context_weight for each earlier block of the call: attention makes later blocks costlier. 0.01 is about right
for a model of 70 billion parameters and blocks of 512 tokens; where the trace's costs count attention already, set 0.

The paper's candidates are the nodes of a radix tree with at most one child; here every block is one. As both scales
move, no order of all blocks can be kept. Those that save the same compute per byte form a class, of which the least
recently used leaves first, and an eviction looks at the oldest block of every class: as many as there are places in a
call where costs and sizes are all alike, and every block where no two are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.linked_list import make_lists, newest, oldest, push_newest, unlink
from sim.policy import EvictionPolicy

EMPTY = -1
LIVE, ACCESSES = 0, 1  # of counts: classes that have blocks; accesses so far
_SCATTER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio
_TOP = np.uint64(32)


class State(NamedTuple):
    links: np.ndarray  # a list a class, newest access first
    accessed: np.ndarray  # int64[blocks]: the last access to each resident block
    class_of: np.ndarray  # int32[blocks]: of each resident block
    saved: np.ndarray  # float64[blocks]: of each class, what a hit saves per byte
    live: np.ndarray  # int32[blocks]: the classes that have blocks, without gaps; those after them are free
    place: np.ndarray  # int32[blocks]: where in live a class stands
    table: np.ndarray  # int32[slots]: classes by what a hit saves, with linear probing; EMPTY where there is none
    counts: np.ndarray  # int64[2]
    first_list: int  # sentinel of class 0
    alpha: float
    context_weight: float


def init(context, *, alpha=1.0, context_weight=0.01):
    for name, value in (("alpha", alpha), ("context_weight", context_weight)):
        if not 0 <= value < np.inf:
            raise ValueError(f"{name} is {value}; expected at least 0")
    blocks = context.blocks
    return State(
        links=make_lists(blocks, blocks),
        accessed=np.zeros(blocks, np.int64),
        class_of=np.zeros(blocks, np.int32),
        saved=np.zeros(blocks, np.float64),
        live=np.arange(blocks, dtype=np.int32),
        place=np.arange(blocks, dtype=np.int32),
        table=np.full(1 << (2 * blocks).bit_length(), EMPTY, np.int32),
        counts=np.zeros(2, np.int64),
        first_list=blocks,
        alpha=alpha,
        context_weight=context_weight,
    )


@inlined
def _home(saved, slots):
    """Where in the table a class with this value would stand best."""
    fraction, exponent = math.frexp(saved)
    number = np.uint64(np.int64(fraction * 9007199254740992.0)) ^ np.uint64(np.int64(exponent + 2000) << 54)
    return np.int64((number * _SCATTER) >> _TOP) & (slots - 1)


@subroutine
def _find(table, values, saved):
    """The slot of the class with this value, or the free one where it would be put."""
    slot = _home(saved, table.size)
    while table[slot] != EMPTY and values[table[slot]] != saved:
        slot = (slot + 1) & (table.size - 1)
    return slot


@subroutine
def _erase(table, values, saved):
    """Take a class out of the table, and move up those that its slot kept from their home (Knuth, algorithm 6.4R)."""
    mask = table.size - 1
    free = _find(table, values, saved)
    slot = (free + 1) & mask
    while table[slot] != EMPTY:
        home = _home(values[table[slot]], table.size)
        if (slot - home) & mask >= (slot - free) & mask:
            table[free] = table[slot]
            free = slot
        slot = (slot + 1) & mask
    table[free] = EMPTY


@inlined
def _swap(live, place, one, other):
    """Let the classes at two places of `live` change places."""
    live[one], live[other] = live[other], live[one]
    place[live[one]], place[live[other]] = one, other


@subroutine
def _put(state, block, saved):
    """Make a block the newest of its class, which may have to be made."""
    slot = _find(state.table, state.saved, saved)
    if state.table[slot] == EMPTY:
        made = state.live[state.counts[LIVE]]
        state.counts[LIVE] += 1
        state.table[slot] = made
        state.saved[made] = saved
    own = np.int64(state.table[slot])
    state.counts[ACCESSES] += 1
    state.accessed[block] = state.counts[ACCESSES]
    state.class_of[block] = own
    push_newest(state.links, state.first_list + own, block)


@subroutine
def _take(state, block):
    """Take a block out of its class, which goes with its last block."""
    own = np.int64(state.class_of[block])
    unlink(state.links, block)
    if oldest(state.links, state.first_list + own) == state.first_list + own:
        _erase(state.table, state.saved, state.saved[own])
        state.counts[LIVE] -= 1
        _swap(state.live, state.place, np.int64(state.place[own]), state.counts[LIVE])


@inlined
def _saved_by(state, request):
    """Compute per byte that a hit saves."""
    return request.cost * (1.0 + state.context_weight * request.position) / request.size_bytes


@inlined
def on_hit(state, request):
    _take(state, request.block)
    _put(state, request.block, _saved_by(state, request))


@inlined
def on_insert(state, request):
    _put(state, request.block, _saved_by(state, request))


@subroutine
def evict(state, request):
    links, accessed, saved = state.links, state.accessed, state.saved
    first, last, least, most = np.int64(1 << 62), np.int64(0), np.inf, -np.inf
    for i in range(state.counts[LIVE]):
        own = np.int64(state.live[i])
        first = min(first, accessed[oldest(links, state.first_list + own)])
        last = max(last, accessed[newest(links, state.first_list + own)])
        least, most = min(least, saved[own]), max(most, saved[own])
    accesses = last - first if last > first else 1
    range_saved = most - least if most > least else 1.0
    victim, lowest = np.int64(-1), np.inf
    for i in range(state.counts[LIVE]):
        own = np.int64(state.live[i])
        block = np.int64(oldest(links, state.first_list + own))
        score = (accessed[block] - first) / accesses + state.alpha * ((saved[own] - least) / range_saved)
        if victim < 0 or score < lowest or (score == lowest and accessed[block] < accessed[victim]):
            victim, lowest = block, score
    _take(state, victim)
    return victim


@inlined
def remove(state, block):
    _take(state, block)


POLICY = EvictionPolicy(
    name="flop_aware",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    uses=("cost",),
)
