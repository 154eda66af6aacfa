"""What the fits share: allocations in runs of free bytes, which are merged with their neighbours at once.

Sizes are rounded up to `alignment_bytes`. The capacity is rounded down to it; the tail beyond is neither free nor
allocated, so that allocated + free + tail = capacity. Allocating and releasing take O(log n).

`header_bytes` are kept in front of each object, in the memory itself: the boundary tag that says how long it is and
whether its neighbour is free (Knuth, The Art of Computer Programming, vol. 1, 2.5, algorithm C); glibc's malloc takes 8
on a 64-bit machine, and 16 with the size of a free neighbour below ("malloc/malloc.c", "chunk"). They are rounded with
the object, are metadata and no internal fragmentation, and what `extents` names begins behind them. By default there
are none: the books are then taken to be elsewhere, at a size that depends on how they are made and is not counted.
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
    headers,
    largest_fit,
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


def make_state(
    context: Context,
    alignment_bytes: int,
    header_bytes: int,
    by_size: bool,
    roving: bool = False,
    largest_first: bool = False,
) -> State:
    """Whether the runs are ordered by size or by address, and which is taken: see `sim.kernels.regions`.

    Raises ValueError for an alignment below 1 or a header below 0.
    """
    if alignment_bytes < 1:
        raise ValueError(f"alignment_bytes is {alignment_bytes}; expected a positive whole number")
    if header_bytes < 0:
        raise ValueError(f"header_bytes is {header_bytes}; expected a whole number from 0 on")
    kinds = {"by_size": by_size, "roving": roving, "largest_first": largest_first}
    return State(make_regions(context.blocks, context.capacity, alignment_bytes, header_bytes=header_bytes, **kinds))


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
    return largest_fit(state.regions)


def internal_bytes(state):
    return state.regions.counts[ROUNDING]


def metadata_bytes(state):
    return headers(state.regions)


def extents(state, block, out):
    segments, header = state.regions.segments, state.regions.header_bytes
    taken = rounded(state.regions, segments[block, BYTES])
    return one_run(out, segments[block, ADDRESS] + header, taken - header)


HOOKS = {
    "allocate": allocate,
    "release": release,
    "free_bytes": free_bytes,
    "largest_free_bytes": largest_free_bytes,
    "internal_bytes": internal_bytes,
    "metadata_bytes": metadata_bytes,
    "extents": extents,
}
