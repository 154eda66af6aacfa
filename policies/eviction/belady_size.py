"""Belady's rule weighed by size: of some blocks drawn at random, the one with the largest product of size and time to
its next access leaves; one that is not accessed again leaves before all (libCacheSim's bound for many sizes, after
Belady 1966).

With sizes in bytes it hits more often than `belady`, which ignores them, and is no optimum. Needs the index of each
next access. Candidates are drawn with replacement. Of blocks not accessed again the one that became so last leaves
first, as in `belady`; a block whose recorded next access is past, since a tier above served it, leaves last.

samples: candidates for each eviction (128). libCacheSim's BeladySize does not let in what is not accessed again, which
no eviction policy can do: with `admission: accessed_again` the misses agree within what its own runs differ by.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.pool import add_row, make_pool, take_row
from sim.kernels.random import following, make_rng, unit_of
from sim.policy import NEVER, EvictionPolicy

BLOCK, SIZE, UPCOMING = 0, 1, 2  # columns of rows


class State(NamedTuple):
    rows: np.ndarray  # int64[blocks, 3]: block, its size, index of its next access; dead blocks at the end
    slot: np.ndarray  # uint32[blocks]: row of each resident block
    count: np.ndarray  # int64[1]: blocks that are accessed again
    dead: np.ndarray  # int64[1]: blocks that are not
    rng: np.ndarray
    samples: int


def init(context, *, samples=128):
    if samples < 1:
        raise ValueError(f"samples is {samples}; expected at least 1")
    rows, slot, count = make_pool(context.blocks, 3, np.int64)
    return State(rows, slot, count, np.zeros(1, np.int64), make_rng(context.seed), samples)


@inlined
def _add(state, request):
    if request.next_access == NEVER or request.next_access < 0:
        state.dead[0] += 1
        at = state.rows.shape[0] - state.dead[0]
        state.rows[at, BLOCK] = request.block
        state.slot[request.block] = at
    else:
        at = add_row(state.rows, state.slot, state.count, request.block)
        state.rows[at, SIZE] = request.size_bytes
        state.rows[at, UPCOMING] = request.next_access


@inlined
def _take(state, block):
    at = np.int64(state.slot[block])
    if at < state.count[0]:
        take_row(state.rows, state.slot, state.count, at)
        return
    first = state.rows.shape[0] - state.dead[0]
    moved = state.rows[first, BLOCK]
    state.rows[at, BLOCK] = moved
    state.slot[moved] = at
    state.dead[0] -= 1


@inlined
def on_hit(state, request):
    at = np.int64(state.slot[request.block])
    if at < state.count[0] and 0 <= request.next_access < NEVER:
        state.rows[at, UPCOMING] = request.next_access
        return
    _take(state, request.block)
    _add(state, request)


@inlined
def on_insert(state, request):
    _add(state, request)


@subroutine
def _draw(rows, count, rng, samples, now):
    """The row of the largest product among those drawn, the first drawn of equals."""
    size, word = np.float64(count[0]), rng[0]
    victim, most = np.int64(-1), -np.inf
    for _ in range(samples):
        word = following(word)
        at = np.int64(unit_of(word) * size)
        product = np.float64(rows[at, SIZE]) * np.float64(rows[at, UPCOMING] - now)
        if product > most:
            victim, most = at, product
    rng[0] = word
    return victim


@inlined
def evict(state, request):
    if state.dead[0] > 0:
        victim = state.rows[state.rows.shape[0] - state.dead[0], BLOCK]
        state.dead[0] -= 1
        return victim
    at = _draw(state.rows, state.count, state.rng, state.samples, request.index)
    victim = state.rows[at, BLOCK]
    take_row(state.rows, state.slot, state.count, at)
    return victim


@inlined
def remove(state, block):
    _take(state, block)


POLICY = EvictionPolicy(
    name="belady_size",
    init=init,
    on_hit=on_hit,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    needs=("next_access",),
)
