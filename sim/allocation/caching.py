"""PyTorch's CUDA caching allocator: best fit in segments that are kept when they are empty, a pool a stream and size.

After c10/cuda/CUDACachingAllocator.cpp and "CUDA semantics", section "Optimizing memory usage with
PYTORCH_CUDA_ALLOC_CONF", of PyTorch. Sizes are rounded up to 512 bytes. Up to 1 MiB they are cut from segments of 2 MiB
(the small pool); above, from segments of 20 MiB for less than 10 MiB, and otherwise from a segment of their own size,
rounded up to 2 MiB. The smallest cached piece of the same pool and stream that is large enough is used, and split where
512 bytes are left in the small pool, or more than 1 MiB in the large one. A piece that is freed is merged with its
neighbours of the same segment. Where the device has no room, the segments of which nothing is in use are returned to
it, and the request is tried once more.

The parameters are PyTorch's options: `max_split_size_mb`, in MiB, 0 for none: larger blocks are not split, and serve
requests that are smaller by less than `max_non_split_rounding_mb` (20 by default, as there); where the device has no
room, a block of these that is large enough is returned first. `roundup_power2_divisions` of each power of two that
sizes are rounded up to, one number for all sizes (PyTorch takes one for each power of two, too). At and above the
fraction `garbage_collection_threshold` of the device, segments that were not used for long are returned.
`expandable_segments`: `sim/allocation/_expandable.py`; without them, `sim/allocation/_segments.py`. The device is
`context.capacity`, less what is beyond whole pages of 2 MiB, and all of it is this allocator's, so no fraction is set
for the process. What is freed on a stream can be used on it at once; other streams do not wait for it (record_stream),
and private pools of CUDA graphs are not modelled.

Free are cached pieces and what is in no segment. Internal is what a piece has beyond its request. `waited_ns` counts
what is called, failed tries excepted: a map is of one handle, of 2 MiB in the small pool and 20 MiB in the large one,
and its time that of cuMemCreate, cuMemMap and cuMemSetAccess together. Defaults: for maps and unmaps (cuMemUnmap and
cuMemRelease), 2 MiB, vAttention (Prabhu et al., ASPLOS 2025, arXiv 2405.04437), table of latencies of CUDA's calls,
recalled, not re-read: 29 + 2 + 38 and 34 + 23 microseconds; for cudaMalloc, of GMLake's table (Guo et al., ASPLOS 2024,
arXiv 2401.08156), recalled, not re-read, by which cuMemSetAccess of 1024 chunks takes 96.8 times as long as cuMemAlloc
of their 2 GiB: 38 * 1024 / 96.8 = 402 microseconds; cudaFree is taken to be as long.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation import _pieces as p
from sim.allocation import _segments as s
from sim.allocation._expandable import (
    Virtual,
    extents_of,
    free_in_virtual,
    largest_in_virtual,
    make_virtual,
    place_in_virtual,
)
from sim.allocation._places import one_run
from sim.hook_arguments import MAPS, SYSTEM_ALLOCATIONS, SYSTEM_RELEASES, UNMAPS
from sim.kernels.compile import outlined
from sim.policy import Allocator

_MIB = 1 << 20


class State(NamedTuple):
    pool: p.Pool
    device: s.Device
    virtual: Virtual
    limits: p.Limits
    place: np.ndarray  # the piece of each block, -1 where it is not placed
    asked: np.ndarray  # bytes asked for by each placed block
    stream: np.ndarray  # of each block, from 0
    costs_ns: np.ndarray  # of cudaMalloc, cudaFree, a map, an unmap
    streams: int
    usable_bytes: int
    expandable: bool


def init(
    context,
    *,
    max_split_size_mb=0,
    max_non_split_rounding_mb=20,
    roundup_power2_divisions=0,
    garbage_collection_threshold=0.0,
    expandable_segments=False,
    malloc_us=402.0,
    free_us=402.0,
    map_us=69.0,
    unmap_us=57.0,
):
    _check_options(max_split_size_mb, max_non_split_rounding_mb, roundup_power2_divisions, garbage_collection_threshold)
    costs_ns = p.costs(malloc_us=malloc_us, free_us=free_us, map_us=map_us, unmap_us=unmap_us)
    pages = p.device_pages(context.capacity)
    stream, streams = p.dense_streams(context)
    groups = 2 * streams
    pool = p.make_pool(context.blocks, pages, groups)
    threshold = garbage_collection_threshold
    limits = p.Limits(
        divisions=roundup_power2_divisions,
        max_split_bytes=max_split_size_mb * _MIB or p.MOST_BYTES,
        max_excess_bytes=max_non_split_rounding_mb * _MIB,
        collect_beyond_bytes=int(threshold * pages * p.PAGE_BYTES) if threshold > 0 else -1,
    )
    return State(
        pool=pool,
        device=s.make_device(0 if expandable_segments else pages),
        virtual=make_virtual(pool, context.blocks, pages if expandable_segments else 0, groups),
        limits=limits,
        place=np.full(context.blocks, p.NONE),
        asked=np.zeros(context.blocks, np.int64),
        stream=stream,
        costs_ns=costs_ns,
        streams=streams,
        usable_bytes=pages * p.PAGE_BYTES,
        expandable=expandable_segments,
    )


def _check_options(max_split_mb, max_excess_mb, divisions, threshold):
    if max_split_mb != 0 and not 20 < max_split_mb <= p.MOST_BYTES // _MIB:
        raise ValueError(f"max_split_size_mb is {max_split_mb}; expected 0 or more than 20")
    if not 20 <= max_excess_mb <= p.MOST_BYTES // _MIB:
        raise ValueError(f"max_non_split_rounding_mb is {max_excess_mb}; expected at least 20")
    if divisions != 0 and (divisions < 1 or divisions & (divisions - 1)):
        raise ValueError(f"roundup_power2_divisions is {divisions}; expected 0 or a power of two")
    if not 0 <= threshold < 1:
        raise ValueError(f"garbage_collection_threshold is {threshold}; expected 0 (none) to less than 1")


@outlined
def allocate(state, block, size_bytes):
    if state.place[block] != p.NONE:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    pool, limits = state.pool, state.limits
    size = min(p.rounded(size_bytes, limits.divisions), p.MOST_BYTES)  # which is more than there is
    group = p.group_of(state.stream[block], size)
    if state.expandable:
        piece = place_in_virtual(pool, state.virtual, limits, group, size)
    else:
        piece = s.place_in_segment(pool, state.device, limits, group, size)
    if piece == p.NONE:
        return False
    taken = pool.rows[piece, p.BYTES]
    pool.totals[p.ALLOCATED] += taken
    pool.totals[p.INTERNAL] += taken - size_bytes
    state.place[block], state.asked[block] = piece, size_bytes
    return True


@outlined
def release(state, block):
    piece, pool = state.place[block], state.pool
    if piece == p.NONE:
        raise ValueError("the block to release is not placed")
    taken = pool.rows[piece, p.BYTES]
    pool.totals[p.ALLOCATED] -= taken
    pool.totals[p.INTERNAL] -= taken - state.asked[block]
    state.place[block] = p.NONE
    if state.expandable:
        free_in_virtual(pool, state.virtual, piece)
    else:
        s.free_piece(pool, state.device, piece)


def free_bytes(state):
    return state.usable_bytes - state.pool.totals[p.ALLOCATED]


@outlined
def largest_free_bytes(state):
    if state.expandable:
        return largest_in_virtual(state.pool, state.virtual, state.limits, state.streams)
    return s.largest_in_segments(state.pool, state.device, state.limits, state.streams)


def internal_bytes(state):
    return state.pool.totals[p.INTERNAL]


def held_bytes(state):
    return state.pool.totals[p.HELD]


@outlined
def extents(state, block, out):
    row = state.pool.rows[state.place[block]]
    if state.expandable:
        return extents_of(state.virtual, row[p.ADDRESS], row[p.BYTES], out)
    return one_run(out, row[p.ADDRESS], row[p.BYTES])


def calls_made(state, which):
    totals = state.pool.totals
    if which == SYSTEM_ALLOCATIONS:
        return totals[p.MALLOCS]
    if which == SYSTEM_RELEASES:
        return totals[p.FREES]
    if which == MAPS:
        return totals[p.MAPS]
    return totals[p.UNMAPS] if which == UNMAPS else 0


def waited_ns(state):
    totals, costs = state.pool.totals, state.costs_ns
    segments = totals[p.MALLOCS] * costs[0] + totals[p.FREES] * costs[1]
    return segments + totals[p.MAPS] * costs[2] + totals[p.UNMAPS] * costs[3]


ALLOCATOR = Allocator(
    name="caching",
    init=init,
    allocate=allocate,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    held_bytes=held_bytes,
    extents=extents,
    calls_made=calls_made,
    waited_ns=waited_ns,
)
