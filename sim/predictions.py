"""Perfect one-bit predictions of a trace, for policies that work with predictions (Antoniadis et al., "Paging with
Succinct Predictions", ICML 2023).

A prediction belongs to an access, and 1 says that the block may leave after it. Blocks count as objects of one size.
Errors are injected by the policies (`error_rate`), so that one set of predictions serves any rate of them. A trace
carries them in its column `prediction`:

    prediction = discard_predictions(Trace.from_columns("t", ids=ids), capacity)
    replay(Trace.from_columns("t", ids=ids, prediction=prediction), "discard_bit:error_rate=0.1", capacity)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.errors import InputError
from sim.kernels.compile import kernel
from sim.kernels.heap import heap_pop, heap_push, heap_update, make_heap

if TYPE_CHECKING:
    from sim.trace import Trace


def discard_predictions(trace: Trace, capacity: int) -> np.ndarray:
    """int64[n_requests]: 1 where Belady's optimum evicts the block before its next access, or there is none.

    capacity: of the cache that the predictions are for, in objects. Raises InputError where it is below 1.
    """
    _check(capacity)
    trace = trace.with_next_access()
    out = np.ones(trace.n_requests, np.int64)
    keys, resident = np.zeros((trace.n_blocks, 1), np.int64), np.zeros(trace.n_blocks, np.bool_)
    latest = np.zeros(trace.n_blocks, np.int64)
    _discard(
        trace.column("block"),
        trace.column("next_access"),
        capacity,
        make_heap(trace.n_blocks),
        keys,
        resident,
        latest,
        out,
    )
    return out


def phase_predictions(trace: Trace, capacity: int) -> np.ndarray:
    """int64[n_requests]: 1 where the block is not accessed in the next phase, 0 where it is.

    A phase is the longest run of accesses to at most `capacity` distinct blocks; the next begins where it ends. Raises
    InputError where the capacity is below 1.
    """
    _check(capacity)
    blocks = trace.column("block")
    phase = np.empty(trace.n_requests, np.int64)
    _phases(blocks, capacity, np.full(trace.n_blocks, -1, np.int64), phase)
    out = np.empty(trace.n_requests, np.int64)
    _not_in_next_phase(blocks, phase, np.full((trace.n_blocks, 2), -1, np.int64), out)
    return out


def _check(capacity: int) -> None:
    if capacity < 1:
        raise InputError("capacity that the predictions are for", value=capacity, expected="at least 1 object")


@kernel
def _discard(blocks, upcoming, capacity, heap_arrays, keys, resident, latest, out):
    """Run Belady's optimum; out[i] becomes 0 where the block of row i is still there at its next access.

    keys: the next access of each resident block, negative, so that the heap gives the furthest first; latest: the last
    row so far of each block.
    """
    heap, slot, count = heap_arrays
    for row in range(blocks.size):
        block = np.int64(blocks[row])
        if resident[block]:
            out[latest[block]] = 0
            keys[block, 0] = -upcoming[row]
            heap_update(heap, slot, count, keys, block)
        else:
            if count[0] == capacity:
                resident[heap_pop(heap, slot, count, keys)] = False
            resident[block] = True
            keys[block, 0] = -upcoming[row]
            heap_push(heap, slot, count, keys, block)
        latest[block] = row


@kernel
def _phases(blocks, capacity, seen_in, out):
    """Number the phases from 0; seen_in: the last phase that each block was accessed in."""
    phase = distinct = 0
    for row in range(blocks.size):
        block = blocks[row]
        if seen_in[block] != phase:
            if distinct == capacity:
                phase += 1
                distinct = 0
            distinct += 1
            seen_in[block] = phase
        out[row] = phase


@kernel
def _not_in_next_phase(blocks, phase, upcoming, out):
    """Going back from the end; upcoming[b]: the nearest phase that b is accessed in from here on, and the one after."""
    for row in range(blocks.size - 1, -1, -1):
        block = blocks[row]
        if upcoming[block, 0] != phase[row]:
            upcoming[block, 1] = upcoming[block, 0]
            upcoming[block, 0] = phase[row]
        out[row] = upcoming[block, 1] != phase[row] + 1
