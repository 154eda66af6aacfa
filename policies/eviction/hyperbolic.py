"""Hyperbolic caching: of some blocks drawn at random, the one with the fewest accesses for each moment since it entered
leaves (Blankstein, Sen and Freedman, ATC 2017).

A block's priority is n / t: its accesses since it entered, over the time since then, counted in requests; it falls for
a block that is not accessed without anyone touching it. Candidates are drawn with replacement.

samples: candidates for each eviction (the paper's S, 64). by_size: divide the priority by the block's size, by_cost:
multiply it by what computing or fetching the block costs, where the trace says so; the paper's cost- and size-aware
forms (its section 3). libCacheSim's Hyperbolic has neither; its misses agree within what its own runs differ by.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.pool import add_row, make_pool, take_row
from sim.kernels.random import following, make_rng, unit_of
from sim.policy import EvictionPolicy

BLOCK, ACCESSES, ENTERED_LOW, ENTERED_HIGH = 0, 1, 2, 3  # columns of rows


class State(NamedTuple):
    rows: np.ndarray  # uint32[blocks, 4]: block, accesses, index of the access by which it entered, in two halves
    slot: np.ndarray  # uint32[blocks]: row of each resident block
    count: np.ndarray  # int64[1]: how many are resident
    weight: np.ndarray  # float64[blocks]: cost over size of each resident block; empty where neither counts
    rng: np.ndarray
    samples: int
    by_size: bool
    by_cost: bool


def init(context, *, samples=64, by_size=False, by_cost=False):
    if samples < 1:
        raise ValueError(f"samples is {samples}; expected at least 1")
    rows, slot, count = make_pool(context.blocks, 4)
    weight = np.zeros(context.blocks if by_size or by_cost else 0, np.float64)
    return State(rows, slot, count, weight, make_rng(context.seed), samples, by_size, by_cost)


@inlined
def on_hit(state, request):
    state.rows[state.slot[request.block], ACCESSES] += 1


@inlined
def on_insert(state, request):
    at = add_row(state.rows, state.slot, state.count, request.block)
    state.rows[at, ACCESSES] = 1
    state.rows[at, ENTERED_LOW] = request.index & 0xFFFFFFFF
    state.rows[at, ENTERED_HIGH] = request.index >> 32
    if state.weight.size:
        cost = request.cost if state.by_cost else 1.0
        state.weight[request.block] = cost / max(request.size_bytes, 1) if state.by_size else cost


@inlined
def _priority(rows, weight, at, now):
    entered = np.int64(rows[at, ENTERED_LOW]) | (np.int64(rows[at, ENTERED_HIGH]) << 32)
    priority = np.float64(rows[at, ACCESSES]) / np.float64(max(now - entered, 1))
    return priority * weight[rows[at, BLOCK]] if weight.size else priority


@subroutine
def _draw(rows, count, weight, rng, samples, now):
    """The row of least priority among those drawn, the first drawn of equals."""
    size, word = np.float64(count[0]), rng[0]
    victim, least = np.int64(-1), np.inf
    for _ in range(samples):
        word = following(word)
        at = np.int64(unit_of(word) * size)
        priority = _priority(rows, weight, at, now)
        if priority < least or victim < 0:
            victim, least = at, priority
    rng[0] = word
    return victim


@inlined
def evict(state, request):
    at = _draw(state.rows, state.count, state.weight, state.rng, state.samples, request.index)
    victim = np.int64(state.rows[at, BLOCK])
    take_row(state.rows, state.slot, state.count, at)
    return victim


@inlined
def remove(state, block):
    take_row(state.rows, state.slot, state.count, state.slot[block])


POLICY = EvictionPolicy(
    name="hyperbolic", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove, uses=("cost",)
)
