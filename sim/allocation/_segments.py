"""Segments of PyTorch's CUDA caching allocator that come from cudaMalloc, are cut into pieces and returned as a whole.

The device is a range of addresses in which a segment gets the lowest gap that holds it. (A GPU maps pages of 2 MiB
that may lie anywhere, so that a real cudaMalloc can succeed where this one finds no gap.)
"""

from __future__ import annotations

from typing import NamedTuple

from sim.allocation import _pieces as p
from sim.kernels.compile import outlined
from sim.kernels.ordered_index import Index, found, highest_peak, insert, remove_found, seek
from sim.kernels.spans import add_span, lowest_span, make_spans, take_span

_SMALL_KEY = 1 << 61  # in `whole` segments of the small pool come after those of the large one


class Device(NamedTuple):
    free: Index  # spans in no segment
    idle: Index  # spans in no segment with a piece in use: free after all others were returned


def make_device(pages: int) -> Device:
    device = Device(make_spans(pages + 2), make_spans(pages + 2))
    if pages:
        add_span(device.free, 0, pages * p.PAGE_BYTES)
        add_span(device.idle, 0, pages * p.PAGE_BYTES)
    return device


@outlined
def _is_whole(pool, piece):
    return pool.rows[piece, p.LOWER] == p.NONE and pool.rows[piece, p.UPPER] == p.NONE


@outlined
def _whole_key(pool, piece):
    return pool.rows[piece, p.BORN] if p.is_large(pool.rows[piece, p.GROUP]) else _SMALL_KEY


@outlined
def put_cached(pool, device, piece):
    p.enter_cached(pool, piece)
    if _is_whole(pool, piece):
        row = pool.rows[piece]
        insert(pool.whole, _whole_key(pool, piece), piece, piece)
        add_span(device.idle, row[p.ADDRESS], row[p.ADDRESS] + row[p.BYTES])
        pool.totals[p.IDLE_FRAMES] += row[p.BYTES] // p.PAGE_BYTES
        if p.is_large(row[p.GROUP]):
            pool.totals[p.IDLE] += 1
            pool.totals[p.IDLE_BORN] += row[p.BORN]


@outlined
def _forget(pool, piece):
    """Take a cached piece out of the indices."""
    p.leave_cached(pool, piece)
    if _is_whole(pool, piece):
        seek(pool.whole, _whole_key(pool, piece), piece)
        remove_found(pool.whole)
        pool.totals[p.IDLE_FRAMES] -= pool.rows[piece, p.BYTES] // p.PAGE_BYTES
        if p.is_large(pool.rows[piece, p.GROUP]):
            pool.totals[p.IDLE] -= 1
            pool.totals[p.IDLE_BORN] -= pool.rows[piece, p.BORN]


@outlined
def take_cached(pool, device, piece):
    _forget(pool, piece)
    if _is_whole(pool, piece):
        row = pool.rows[piece]
        take_span(device.idle, row[p.ADDRESS], row[p.ADDRESS] + row[p.BYTES])


@outlined
def cuda_malloc(pool, device, group, size):
    """A new segment as one piece, in no index; NONE where the device has no room."""
    address = lowest_span(device.free, 0, size)
    if address < 0:
        return p.NONE
    take_span(device.free, address, address + size)
    take_span(device.idle, address, address + size)
    pool.totals[p.HELD] += size
    pool.totals[p.MALLOCS] += 1
    return p.new_piece(pool, address, size, group, p.CACHED)


@outlined
def cuda_free(pool, device, piece):
    """Return a segment, which is one cached piece."""
    _forget(pool, piece)
    row = pool.rows[piece]
    add_span(device.free, row[p.ADDRESS], row[p.ADDRESS] + row[p.BYTES])
    pool.totals[p.HELD] -= row[p.BYTES]
    pool.totals[p.FREES] += 1
    p.drop_piece(pool, piece)


@outlined
def release_whole(pool, device):
    """Return all segments of which nothing is in use (release_cached_blocks)."""
    while seek(pool.whole, 0, 0):
        cuda_free(pool, device, found(pool.whole))


@outlined
def release_oversize(pool, device, limits, group, size):
    """Return a segment that is never split and large enough, else several, the largest first, until their sum is.

    Whether as many bytes were returned (release_available_cached_blocks).
    """
    least = max(size, limits.max_split_bytes)
    returned = 0
    while returned < least:
        piece = p.best_fit(pool, group, least)
        if piece == p.NONE:
            piece = p.largest_below(pool, group, least)
        if piece == p.NONE or pool.rows[piece, p.BYTES] < limits.max_split_bytes:
            return False
        returned += pool.rows[piece, p.BYTES]
        cuda_free(pool, device, piece)
    return True


@outlined
def collect_garbage(pool, device, limits):
    """Return segments of the large pool not used for longer than the average, until enough was returned or none left.

    An age is the number of searches for a piece since a segment became idle (garbage_collect_cached_blocks).
    """
    totals = pool.totals
    too_many = totals[p.HELD] - limits.collect_beyond_bytes
    before = totals[p.HELD]
    while totals[p.IDLE] > 0 and before - totals[p.HELD] < too_many:
        average = (totals[p.IDLE] * totals[p.SEARCHES] - totals[p.IDLE_BORN]) / totals[p.IDLE]
        while totals[p.IDLE] > 0 and seek(pool.whole, 0, 0):
            piece = found(pool.whole)
            if totals[p.SEARCHES] - pool.rows[piece, p.BORN] < average:
                break
            cuda_free(pool, device, piece)


@outlined
def free_piece(pool, device, piece):
    """Cache a piece that was in use, merged with what is cached beside it."""
    for low in (piece, pool.rows[piece, p.LOWER]):  # which may be merged with the piece above it
        beside = pool.rows[piece, p.UPPER] if low == piece else low
        if p.state_of(pool, beside) == p.CACHED:
            take_cached(pool, device, beside)
            p.join_upper(pool, low)
            piece = low
    put_cached(pool, device, piece)


@outlined
def use_piece(pool, device, piece, size):
    """Use a piece, which is in no index, for `size` bytes, and cache what is split off."""
    row = pool.rows[piece]
    if row[p.BYTES] > size:
        rest = p.split_piece(pool, piece, size, p.CACHED)
        put_cached(pool, device, rest)
    row[p.STATE] = p.IN_USE


@outlined
def should_split(pool, limits, piece, size):
    rest = pool.rows[piece, p.BYTES] - size
    if not p.is_large(pool.rows[piece, p.GROUP]):
        return rest >= p.SMALLEST_BYTES
    return size < limits.max_split_bytes and rest > p.SMALL_BYTES


@outlined
def longest_idle(device):
    """Bytes of the longest gap once all idle segments are returned."""
    return highest_peak(device.idle)


@outlined
def find_piece(pool, device, limits, group, size):
    """A piece of a segment for a request, in no index; NONE where even all idle segments returned make no room."""
    collects = limits.collect_beyond_bytes >= 0
    if collects and p.is_large(group):
        pool.totals[p.SEARCHES] += 1
    piece = p.best_fit(pool, group, size)
    if piece != p.NONE and p.may_serve(limits, pool.rows[piece, p.BYTES], size):
        take_cached(pool, device, piece)
        return piece
    if collects:
        collect_garbage(pool, device, limits)
    wanted, splits_all = p.segment_bytes(size), limits.max_split_bytes == p.MOST_BYTES
    for attempt in range(3):
        if attempt == 1 and (splits_all or not release_oversize(pool, device, limits, group, size)):
            continue
        if attempt == 2:
            release_whole(pool, device)
        piece = cuda_malloc(pool, device, group, wanted)
        if piece != p.NONE:
            break
    return piece


@outlined
def place_in_segment(pool, device, limits, group, size):
    """A piece in use for a request of so many bytes, rounded already; NONE where it does not fit."""
    piece = find_piece(pool, device, limits, group, size)
    if piece != p.NONE:
        taken = size if should_split(pool, limits, piece, size) else pool.rows[piece, p.BYTES]
        use_piece(pool, device, piece, taken)
    return piece


@outlined
def largest_in_segments(pool, device, limits, streams):
    """The largest request that would succeed on any stream.

    A piece too large to be split is a whole segment, and so a part of the longest idle gap.
    """
    largest = _largest_of_gap(longest_idle(device), limits.divisions)
    for stream in range(streams):
        piece = p.largest_below(pool, 2 * stream + 1, min(limits.max_split_bytes, p.MOST_BYTES))
        if piece != p.NONE:
            fitting = p.rounded_down(pool.rows[piece, p.BYTES], limits.divisions)
            largest = max(largest, fitting if fitting > p.SMALL_BYTES else 0)
        largest = max(largest, largest_small(pool, limits, stream))
    return largest


@outlined
def largest_small(pool, limits, stream):
    """The largest request that a cached piece of the small pool serves."""
    piece = p.largest_below(pool, 2 * stream, p.MOST_BYTES)
    if piece == p.NONE:
        return 0
    return p.rounded_down(min(pool.rows[piece, p.BYTES], p.SMALL_BYTES), limits.divisions)


@outlined
def _largest_of_gap(gap, divisions):
    largest = p.rounded_down(gap, divisions)
    if largest >= p.OWN_SEGMENT_BYTES or gap >= p.LARGE_SEGMENT_BYTES:
        return largest
    return p.rounded_down(p.SMALL_BYTES, divisions) if gap >= p.SMALL_SEGMENT_BYTES else 0
