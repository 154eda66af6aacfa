"""Blocks of PyTorch's CUDA caching allocator: pieces of segments, in use, cached, or (of expandable segments) unmapped.

Sizes and rounding are those of c10/cuda/CUDACachingAllocator.cpp. Pieces of a segment are a list in order of address;
cached ones are in an index by pool and stream (a group), size and address, so that the best fit is its first entry that
is large enough. `whole` has the cached pieces that can be given back to the system.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.bits import highest_bit
from sim.kernels.compile import outlined, subroutine
from sim.kernels.ordered_index import Index, found, insert, make_index, remove_found, seek, seek_before

PAGE_BYTES = 2 << 20  # of the device; segments are whole numbers of them
SMALLEST_BYTES = 512  # kMinBlockSize
SMALL_BYTES = 1 << 20  # kSmallSize: the most that is taken from the small pool
SMALL_SEGMENT_BYTES = 2 << 20  # kSmallBuffer
LARGE_SEGMENT_BYTES = 20 << 20  # kLargeBuffer
OWN_SEGMENT_BYTES = 10 << 20  # kMinLargeAlloc: from here on a request has a segment of its own
MOST_BYTES = 1 << 44  # of memory: what the keys of the index leave room for, and far beyond any device

ADDRESS, BYTES, LOWER, UPPER, STATE, GROUP, BORN = range(7)  # columns of a piece
IN_USE, CACHED, UNMAPPED = range(3)
NONE = -1
(ALLOCATED, INTERNAL, HELD, MALLOCS, FREES, MAPS, UNMAPS, SEARCHES, IDLE, IDLE_BORN, FREE_FRAMES, IDLE_FRAMES) = range(
    12
)
_SPARE, _UNUSED = 0, 1
_SIZE_BITS = 40


class Pool(NamedTuple):
    rows: np.ndarray  # int64[pieces, 7]
    numbers: np.ndarray  # piece given back last, first one never used
    cached: Index
    whole: Index
    totals: np.ndarray  # bytes in use, of these beyond what was asked for, held; calls; and what the two modes count


class Limits(NamedTuple):
    """What can be set of the allocator."""

    divisions: int  # of each power of two that sizes are rounded up to; 0: none
    max_split_bytes: int
    max_excess_bytes: int  # by which a block that is not split may be larger than what is asked for
    collect_beyond_bytes: int  # held bytes from which idle segments are collected


def make_pool(objects: int, pages: int, groups: int) -> Pool:
    """Room for all that can be: between two free pieces lies one in use or the end of what is mapped."""
    most = 2 * objects + 2 * pages + 2 * groups + 4
    return Pool(
        rows=np.zeros((most, 7), np.int64),
        numbers=np.array([NONE, 0]),
        cached=make_index(objects + pages + groups + 2),
        whole=make_index(pages + 2),
        totals=np.zeros(12, np.int64),
    )


def device_pages(capacity: int) -> int:
    """Raises ValueError for more memory than the indices have keys for."""
    if capacity > MOST_BYTES:
        raise ValueError(f"the capacity is {capacity} bytes; expected at most {MOST_BYTES} (16 TiB)")
    return capacity // PAGE_BYTES


def dense_streams(context) -> tuple[np.ndarray, int]:
    """The stream of each block, numbered from 0, and how many there are; stream 0 where nothing is known of them."""
    if context.objects is None or not context.objects.stream.size:
        return np.zeros(context.blocks, np.int64), 1
    known, stream = np.unique(context.objects.stream, return_inverse=True)
    return np.resize(stream.astype(np.int64), context.blocks), known.size


def costs(**each_us: float) -> np.ndarray:
    """Nanoseconds of each call. Raises ValueError for one that is not a time."""
    for name, value in each_us.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}; expected a time of at least 0")
    return np.array([1000.0 * value for value in each_us.values()])


@subroutine
def rounded(size, divisions):
    """What is taken of a segment for a request."""
    if size < SMALLEST_BYTES:
        return np.int64(SMALLEST_BYTES)
    step = _step(size, divisions)
    return (size + step - 1) // step * step


@subroutine
def rounded_down(size, divisions):
    """The largest request that is not rounded up beyond `size`; 0 where there is none."""
    if size < SMALLEST_BYTES:
        return np.int64(0)
    step = _step(size, divisions)
    return size // step * step


@subroutine
def _step(size, divisions):
    if divisions > 1 and size > SMALLEST_BYTES * divisions:
        return (np.int64(1) << np.int64(highest_bit(np.uint64(size)))) // divisions
    return np.int64(SMALLEST_BYTES)


@subroutine
def segment_bytes(size):
    """What is asked of the system for a request that finds no cached piece."""
    if size <= SMALL_BYTES:
        return np.int64(SMALL_SEGMENT_BYTES)
    if size < OWN_SEGMENT_BYTES:
        return np.int64(LARGE_SEGMENT_BYTES)
    return (size + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES


@subroutine
def group_of(stream, size):
    return 2 * stream + (size > SMALL_BYTES)


@subroutine
def is_large(group):
    return group & 1 == 1


@subroutine
def size_key(group, size):
    return group << _SIZE_BITS | size // SMALLEST_BYTES


@outlined
def new_piece(pool, address, size, group, state):
    piece = pool.numbers[_SPARE]
    if piece == NONE:
        piece = pool.numbers[_UNUSED]
        pool.numbers[_UNUSED] += 1
    else:
        pool.numbers[_SPARE] = pool.rows[piece, LOWER]
    row = pool.rows[piece]
    row[ADDRESS], row[BYTES], row[GROUP], row[STATE] = address, size, group, state
    row[LOWER], row[UPPER] = NONE, NONE
    return piece


@outlined
def drop_piece(pool, piece):
    pool.rows[piece, LOWER] = pool.numbers[_SPARE]  # a piece that is no more is on a list of such
    pool.numbers[_SPARE] = piece


@outlined
def split_piece(pool, piece, size, state):
    """Leave `size` bytes to a piece, which is in no index; what was above is a new piece."""
    rows = pool.rows
    rest = new_piece(pool, rows[piece, ADDRESS] + size, rows[piece, BYTES] - size, rows[piece, GROUP], state)
    rows[piece, BYTES] = size
    upper = rows[piece, UPPER]
    rows[rest, LOWER], rows[rest, UPPER] = piece, upper
    rows[piece, UPPER] = rest
    if upper != NONE:
        rows[upper, LOWER] = rest
    return rest


@outlined
def join_upper(pool, piece):
    """Let a piece take up the one above it, which is in no index either."""
    rows, gone = pool.rows, pool.rows[piece, UPPER]
    rows[piece, BYTES] += rows[gone, BYTES]
    upper = rows[gone, UPPER]
    rows[piece, UPPER] = upper
    if upper != NONE:
        rows[upper, LOWER] = piece
    drop_piece(pool, gone)


@subroutine
def state_of(pool, piece):
    """IN_USE of what is beyond the end of a segment."""
    return pool.rows[piece, STATE] if piece != NONE else IN_USE


@outlined
def enter_cached(pool, piece):
    row = pool.rows[piece]
    row[STATE], row[BORN] = CACHED, pool.totals[SEARCHES]
    insert(pool.cached, size_key(row[GROUP], row[BYTES]), row[ADDRESS], piece)


@outlined
def leave_cached(pool, piece):
    row = pool.rows[piece]
    seek(pool.cached, size_key(row[GROUP], row[BYTES]), row[ADDRESS])
    remove_found(pool.cached)


@outlined
def best_fit(pool, group, size):
    """The smallest cached piece of a group that is large enough, the lowest of equal ones; NONE where there is none."""
    if seek(pool.cached, size_key(group, size), 0):
        piece = found(pool.cached)
        if pool.rows[piece, GROUP] == group:
            return piece
    return NONE


@outlined
def largest_below(pool, group, size):
    """The largest cached piece of a group that is smaller than `size`, the highest of equal ones; NONE for none."""
    if seek_before(pool.cached, size_key(group, size), 0):
        piece = found(pool.cached)
        if pool.rows[piece, GROUP] == group:
            return piece
    return NONE


@subroutine
def may_serve(limits, available, size):
    """Whether a cached piece may be used, or is kept whole for requests of about its size."""
    if size < limits.max_split_bytes:
        return available < limits.max_split_bytes
    return available < size + limits.max_excess_bytes
