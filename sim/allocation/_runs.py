"""What first fit and best fit share: allocations in runs of free bytes, which are merged with their neighbours at once.

Sizes are rounded up to `alignment_bytes`. The capacity is rounded down to it; the tail beyond is neither free nor
allocated, so that allocated + free + tail = capacity. Allocating and releasing take O(log n).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation._places import one_run
from sim.kernels.regions import (
    ADDRESS,
    BYTES,
    FREE,
    ROUNDING,
    Regions,
    addresses,
    expect_new,
    find_fit,
    give_back,
    largest_run,
    make_regions,
    place_found,
    rounded,
)
from sim.policy import Context


class State(NamedTuple):
    regions: Regions  # a block's number is that of its segment

    @property
    def address(self) -> np.ndarray:
        """Where each block is placed, -1 where it is not."""
        return addresses(self.regions)


def make_state(context: Context, alignment_bytes: int, by_size: bool) -> State:
    """by_size: the tightest run is taken, not the lowest. Raises ValueError for an alignment below 1."""
    if alignment_bytes < 1:
        raise ValueError(f"alignment_bytes is {alignment_bytes}; expected a positive whole number")
    return State(regions=make_regions(context.blocks, context.capacity, alignment_bytes, by_size))


def allocate(state, block, size_bytes):
    expect_new(state.regions, block, size_bytes)
    if not find_fit(state.regions, size_bytes):
        return False
    place_found(state.regions, block, size_bytes)
    return True


def release(state, block):
    give_back(state.regions, block)


def free_bytes(state):
    return state.regions.counts[FREE]


def largest_free_bytes(state):
    return largest_run(state.regions)


def internal_bytes(state):
    return state.regions.counts[ROUNDING]


def extents(state, block, out):
    segments = state.regions.segments
    return one_run(out, segments[block, ADDRESS], rounded(state.regions, segments[block, BYTES]))


HOOKS = {
    "allocate": allocate,
    "release": release,
    "free_bytes": free_bytes,
    "largest_free_bytes": largest_free_bytes,
    "internal_bytes": internal_bytes,
    "extents": extents,
}
