"""One pass over a trace for what `trace-stats` counts by request: popularity, reuse times, working sets, runs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, kernel

BINS_AN_OCTAVE = 4
BINS = 64 * BINS_AN_OCTAVE + 1
WINDOWS = 200


class Tally(NamedTuple):
    """What is known after some rows. Reuse times are counted in bins: bin 0 is 0, bin b ends at 2^(b / 4)."""

    accesses: np.ndarray  # int64[blocks]
    latest_row: np.ndarray  # int64[blocks], -1 where not seen yet
    latest_ns: np.ndarray  # float64[blocks]; empty where the trace has no times
    latest_window: np.ndarray  # int32[blocks], -1 where not seen yet
    reuse_rows: np.ndarray  # int64[BINS]
    reuse_ns: np.ndarray  # int64[BINS]
    window_blocks: np.ndarray  # int64[WINDOWS] distinct blocks of a window
    window_bytes: np.ndarray  # int64[WINDOWS] and their bytes
    run: np.ndarray  # int64[4]: address and size of the row before, length of the run that it ends, rows in runs


ADDRESS, SIZE, RUN_LENGTH, IN_RUNS = range(4)
SECTOR_BYTES = 512


def make_tally(blocks: int, timed: bool) -> Tally:
    """Nothing counted yet."""
    return Tally(
        accesses=np.zeros(blocks, np.int64),
        latest_row=np.full(blocks, -1, np.int64),
        latest_ns=np.zeros(blocks if timed else 0),
        latest_window=np.full(blocks, -1, np.int32),
        reuse_rows=np.zeros(BINS, np.int64),
        reuse_ns=np.zeros(BINS, np.int64),
        window_blocks=np.zeros(WINDOWS, np.int64),
        window_bytes=np.zeros(WINDOWS, np.int64),
        run=np.zeros(4, np.int64),
    )


def bin_ends() -> np.ndarray:
    """float64[BINS] the largest value of each bin."""
    return np.concatenate([[0.0], 2.0 ** (np.arange(1, BINS) / BINS_AN_OCTAVE)])


@inlined
def _bin(value):
    if value < 1:
        return 0
    return min(max(math.ceil(math.log2(value) * BINS_AN_OCTAVE), 1), BINS - 1)


@kernel
def tally_rows(tally, first, window_rows, shortest_run, blocks, arrival_ns, size_bytes, address, block_bytes):
    """Count the rows `first` and on. arrival_ns and size_bytes may be empty; address, block_bytes: by block."""
    run = tally.run
    at, size, length, in_runs = run[ADDRESS], run[SIZE], run[RUN_LENGTH], run[IN_RUNS]
    for i in range(blocks.size):
        row, block = first + i, np.int64(blocks[i])
        before = tally.latest_row[block]
        if before >= 0:
            tally.reuse_rows[_bin(np.float64(row - before))] += 1
            if arrival_ns.size:
                tally.reuse_ns[_bin(arrival_ns[i] - tally.latest_ns[block])] += 1
        tally.accesses[block] += 1
        tally.latest_row[block] = row
        if arrival_ns.size:
            tally.latest_ns[block] = arrival_ns[i]
        window = row // window_rows
        if tally.latest_window[block] != window:
            tally.latest_window[block] = window
            tally.window_blocks[window] += 1
            tally.window_bytes[window] += block_bytes[block]
        step = address[block] - at
        if row > 0 and (step == 1 or step == size or step * SECTOR_BYTES == size):
            length += 1
            if length == shortest_run:
                in_runs += length
            elif length > shortest_run:
                in_runs += 1
        else:
            length = 1
        at = address[block]
        size = size_bytes[i] if size_bytes.size else 1
    run[ADDRESS], run[SIZE], run[RUN_LENGTH], run[IN_RUNS] = at, size, length, in_runs
