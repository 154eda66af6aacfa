"""Expandable segments of PyTorch's CUDA caching allocator: a growing range of virtual addresses a pool and stream.

Physical memory is in frames of 2 MiB, any of which may be mapped anywhere, the lowest free one first. It is mapped and
unmapped by handles of 2 MiB in the small pool and 20 MiB in the large one. New memory is mapped at the lowest addresses
at which a request fits between pieces in use, be they cached or unmapped: the end of the range, or a hole that an
earlier release has left. PyTorch reserves addresses for 9/8 of the device, and another range when that is used up; here
one range has 8 times the device, of which a request that finds no room is refused.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation import _pieces as p
from sim.allocation._places import add_run
from sim.kernels.bitset import BitSet, add, discard, first_from, make_bitset
from sim.kernels.compile import outlined
from sim.kernels.ordered_index import Index, found, found_key, insert, make_index, remove_found, seek, seek_peak_from
from sim.kernels.spans import add_span, lowest_span, make_spans, span_start, take_span, weigh_span

_RANGE = 8  # devices


class Virtual(NamedTuple):
    unmapped: Index  # pieces by address
    runs: Index  # spans without a piece in use, weighing their length where memory can be mapped into them
    emptied: Index  # the same as if all that can be unmapped were
    frames: BitSet  # free ones
    frame_of: np.ndarray  # int64[pages] of each virtual page that is mapped
    range_bytes: int  # from one group's addresses to the next one's


def make_virtual(pool: p.Pool, objects: int, pages: int, groups: int) -> Virtual:
    """All addresses of each group unmapped, all frames free."""
    size = -(-_RANGE * pages * p.PAGE_BYTES // p.LARGE_SEGMENT_BYTES) * p.LARGE_SEGMENT_BYTES
    range_bytes = size + p.LARGE_SEGMENT_BYTES  # the ranges do not touch
    most = objects + pages + groups + 2
    frames = make_bitset(pages)
    _fill(frames, pages)
    virtual = Virtual(
        unmapped=make_index(most),
        runs=make_spans(most),
        emptied=make_spans(most),
        frames=frames,
        frame_of=np.zeros(groups * range_bytes // p.PAGE_BYTES, np.int64),
        range_bytes=range_bytes,
    )
    pool.totals[p.FREE_FRAMES] = pages
    for group in range(groups if pages else 0):
        piece = p.new_piece(pool, group * range_bytes, size, group, p.UNMAPPED)
        _put_unmapped(pool, virtual, piece)
        for runs in (virtual.runs, virtual.emptied):
            add_span(runs, group * range_bytes, group * range_bytes + size)
    return virtual


def _fill(frames: BitSet, pages: int) -> None:
    """Put in 0 to pages - 1, level by level."""
    for level in range(frames.starts.size - 1):
        words, rest = divmod(pages, 64)
        frames.words[frames.starts[level] : frames.starts[level] + words] = np.uint64(0xFFFFFFFFFFFFFFFF)
        if rest:
            frames.words[frames.starts[level] + words] = np.uint64((1 << rest) - 1)
        pages = words + (rest > 0)


@outlined
def _handle_bytes(group):
    return np.int64(p.LARGE_SEGMENT_BYTES if p.is_large(group) else p.SMALL_SEGMENT_BYTES)


@outlined
def _whole_handles(pool, piece):
    """Where the handles that lie wholly in a piece start and end."""
    row = pool.rows[piece]
    handle = _handle_bytes(row[p.GROUP])
    first = (row[p.ADDRESS] + handle - 1) // handle * handle
    return first, max(first, (row[p.ADDRESS] + row[p.BYTES]) // handle * handle)


@outlined
def _put_unmapped(pool, virtual, piece):
    pool.rows[piece, p.STATE] = p.UNMAPPED
    insert(virtual.unmapped, pool.rows[piece, p.ADDRESS], 0, piece)


@outlined
def _take_unmapped(pool, virtual, piece):
    seek(virtual.unmapped, pool.rows[piece, p.ADDRESS], 0)
    remove_found(virtual.unmapped)


@outlined
def _put_cached(pool, piece):
    p.enter_cached(pool, piece)
    first, end = _whole_handles(pool, piece)
    if end > first:
        insert(pool.whole, pool.rows[piece, p.ADDRESS], 0, piece)
        pool.totals[p.IDLE_FRAMES] += (end - first) // p.PAGE_BYTES


@outlined
def _take_cached(pool, piece):
    p.leave_cached(pool, piece)
    first, end = _whole_handles(pool, piece)
    if end > first:
        seek(pool.whole, pool.rows[piece, p.ADDRESS], 0)
        remove_found(pool.whole)
        pool.totals[p.IDLE_FRAMES] -= (end - first) // p.PAGE_BYTES


@outlined
def _cache(pool, piece):
    """Cache a piece, merged with what is cached beside it; the piece that it has become."""
    for low in (piece, pool.rows[piece, p.LOWER]):  # which may be merged with the piece above it
        beside = pool.rows[piece, p.UPPER] if low == piece else low
        if p.state_of(pool, beside) == p.CACHED:
            _take_cached(pool, beside)
            p.join_upper(pool, low)
            piece = low
    _put_cached(pool, piece)
    return piece


@outlined
def _weigh(pool, virtual, address):
    """Bring the weights of the run that holds an address up to date, if one does."""
    start = span_start(virtual.runs, address)
    if start < 0:
        return
    end = found_key(virtual.runs)
    weight = end - start if seek(virtual.unmapped, start, 0) and found_key(virtual.unmapped) < end else 0
    emptied = end - start if weight or (seek(pool.whole, start, 0) and found_key(pool.whole) < end) else 0
    weigh_span(virtual.runs, address, weight)
    weigh_span(virtual.emptied, address, emptied)


@outlined
def _map(pool, virtual, piece, size):
    """Map memory at the start of an unmapped piece, and merge that with what is cached beside it.

    The cached piece; NONE where there is not enough memory.
    """
    rows, totals = pool.rows, pool.totals
    handle = _handle_bytes(rows[piece, p.GROUP])
    mapped = (size + handle - 1) // handle * handle
    if mapped // p.PAGE_BYTES > totals[p.FREE_FRAMES]:
        return p.NONE
    _take_unmapped(pool, virtual, piece)
    if mapped < rows[piece, p.BYTES]:
        _put_unmapped(pool, virtual, p.split_piece(pool, piece, mapped, p.UNMAPPED))
    _take_frames(pool, virtual, rows[piece, p.ADDRESS], mapped)
    totals[p.MAPS] += mapped // handle
    return _cache(pool, piece)


@outlined
def _take_frames(pool, virtual, address, size):
    for page in range(address // p.PAGE_BYTES, (address + size) // p.PAGE_BYTES):
        frame = first_from(virtual.frames, 0)
        discard(virtual.frames, frame)
        virtual.frame_of[page] = frame
    pool.totals[p.FREE_FRAMES] -= size // p.PAGE_BYTES
    pool.totals[p.HELD] += size


@outlined
def _unmap(pool, virtual, piece):
    """Unmap the handles that lie wholly in a cached piece; what is left of it stays cached."""
    rows = pool.rows
    first, end = _whole_handles(pool, piece)
    _take_cached(pool, piece)
    if first > rows[piece, p.ADDRESS]:
        middle = p.split_piece(pool, piece, first - rows[piece, p.ADDRESS], p.UNMAPPED)
        _put_cached(pool, piece)
        piece = middle
    if rows[piece, p.BYTES] > end - first:
        _put_cached(pool, p.split_piece(pool, piece, end - first, p.CACHED))
    for page in range(first // p.PAGE_BYTES, end // p.PAGE_BYTES):
        add(virtual.frames, virtual.frame_of[page])
    pool.totals[p.FREE_FRAMES] += (end - first) // p.PAGE_BYTES
    pool.totals[p.HELD] -= end - first
    pool.totals[p.UNMAPS] += (end - first) // _handle_bytes(rows[piece, p.GROUP])
    lower, upper = rows[piece, p.LOWER], rows[piece, p.UPPER]
    if p.state_of(pool, upper) == p.UNMAPPED:
        _take_unmapped(pool, virtual, upper)
        p.join_upper(pool, piece)
    if p.state_of(pool, lower) == p.UNMAPPED:
        _take_unmapped(pool, virtual, lower)
        p.join_upper(pool, lower)
        piece = lower
    _put_unmapped(pool, virtual, piece)
    _weigh(pool, virtual, first)


@outlined
def _unmap_all(pool, virtual):
    while seek(pool.whole, 0, 0):
        _unmap(pool, virtual, found(pool.whole))


@outlined
def _cached_piece(pool, virtual, limits, group, size):
    """The best fit, where a piece that can grow counts with what is unmapped after it; NONE where none may be used."""
    piece = p.best_fit(pool, group, size)
    if piece == p.NONE:
        return p.NONE
    while True:
        following = _following(pool, piece)
        if following == p.NONE or _growing_bytes(pool, following) >= _growing_bytes(pool, piece):
            break
        piece = following
    return piece if p.may_serve(limits, pool.rows[piece, p.BYTES], size) else p.NONE


@outlined
def _following(pool, piece):
    """The next cached piece of the group in order of size."""
    row = pool.rows[piece]
    if seek(pool.cached, p.size_key(row[p.GROUP], row[p.BYTES]), row[p.ADDRESS] + 1):
        following = found(pool.cached)
        if pool.rows[following, p.GROUP] == row[p.GROUP]:
            return following
    return p.NONE


@outlined
def _growing_bytes(pool, piece):
    upper = pool.rows[piece, p.UPPER]
    return pool.rows[piece, p.BYTES] + (pool.rows[upper, p.BYTES] if p.state_of(pool, upper) == p.UNMAPPED else 0)


@outlined
def _first_of_run(pool, virtual, start):
    """The first piece of the run that starts there, in which something is unmapped."""
    seek(virtual.unmapped, start, 0)
    piece = found(virtual.unmapped)
    return piece if pool.rows[piece, p.ADDRESS] == start else pool.rows[piece, p.LOWER]


@outlined
def _mapped_piece(pool, virtual, group, size):
    """A cached piece of at least so many bytes, memory mapped into the lowest run that has room; NONE for none."""
    rows = pool.rows
    start = lowest_span(virtual.runs, group * virtual.range_bytes, size)
    if start < 0 or start >= (group + 1) * virtual.range_bytes:
        return p.NONE
    piece = _first_of_run(pool, virtual, start)
    while piece != p.NONE and (rows[piece, p.STATE] == p.UNMAPPED or rows[piece, p.BYTES] < size):
        mapped = rows[piece, p.BYTES] if rows[piece, p.STATE] == p.CACHED else 0
        unmapped = rows[piece, p.UPPER] if rows[piece, p.STATE] == p.CACHED else piece
        piece = _map(pool, virtual, unmapped, min(size - mapped, rows[unmapped, p.BYTES]))
    _weigh(pool, virtual, start)
    return piece


@outlined
def place_in_virtual(pool, virtual, limits, group, size):
    """A piece in use for a request of so many bytes, rounded already; NONE where it does not fit."""
    piece = _cached_piece(pool, virtual, limits, group, size)
    for attempt in range(2):
        if piece != p.NONE:
            break
        if attempt == 1:
            _unmap_all(pool, virtual)
        piece = _mapped_piece(pool, virtual, group, size)
    if piece == p.NONE:
        return p.NONE
    row = pool.rows[piece]
    _take_cached(pool, piece)
    if row[p.BYTES] > size:
        _put_cached(pool, p.split_piece(pool, piece, size, p.CACHED))
    row[p.STATE] = p.IN_USE
    start, end = row[p.ADDRESS], row[p.ADDRESS] + size
    take_span(virtual.runs, start, end)
    take_span(virtual.emptied, start, end)
    _weigh(pool, virtual, start - 1)
    _weigh(pool, virtual, end)
    return piece


@outlined
def free_in_virtual(pool, virtual, piece):
    """Cache a piece that was in use, merged with what is cached beside it."""
    row = pool.rows[piece]
    start = row[p.ADDRESS]
    add_span(virtual.runs, start, start + row[p.BYTES])
    add_span(virtual.emptied, start, start + row[p.BYTES])
    _cache(pool, piece)
    _weigh(pool, virtual, start)


@outlined
def largest_in_virtual(pool, virtual, limits, streams):
    """The largest request that would succeed on any stream."""
    largest = np.int64(0)
    for group in range(2 * streams):
        piece = p.largest_below(pool, group, min(limits.max_split_bytes, p.MOST_BYTES))
        if piece != p.NONE:
            largest = max(largest, _for_group(group, pool.rows[piece, p.BYTES], limits.divisions))
        piece = p.largest_below(pool, group, p.MOST_BYTES)
        if piece != p.NONE:
            fitting = _for_group(group, pool.rows[piece, p.BYTES], limits.divisions)
            if p.best_fit(pool, group, fitting) != p.NONE and _may_take(pool, virtual, limits, group, fitting):
                largest = max(largest, fitting)
        for emptied in range(2):
            largest = max(largest, _largest_mapped(pool, virtual, group, limits.divisions, emptied == 1))
    return largest


@outlined
def _may_take(pool, virtual, limits, group, size):
    return size > 0 and _cached_piece(pool, virtual, limits, group, size) != p.NONE


@outlined
def _for_group(group, available, divisions):
    """The largest request of a group's pool that is not rounded up beyond what is available; 0 where there is none."""
    if not p.is_large(group):
        return p.rounded_down(min(available, p.SMALL_BYTES), divisions)
    fitting = p.rounded_down(available, divisions)
    return fitting if fitting > p.SMALL_BYTES else 0


@outlined
def _largest_mapped(pool, virtual, group, divisions, emptied):
    """The largest request that mapping memory into a run would serve, now or as if all that can be were unmapped.

    A request is for the lowest run that is long enough, so a run serves those that are too long for all below it.
    """
    runs = virtual.emptied if emptied else virtual.runs
    frames = pool.totals[p.FREE_FRAMES] + (pool.totals[p.IDLE_FRAMES] if emptied else 0)
    base, end = group * virtual.range_bytes, (group + 1) * virtual.range_bytes
    largest, beyond, most = np.int64(0), np.int64(0), pool.rows.shape[0]
    for _ in range(most):
        if not seek_peak_from(runs, base + 1, beyond + 1) or found(runs) >= end:
            break
        start, length = found(runs), found_key(runs) - found(runs)
        fitting = _for_group(group, min(length, _mappable(pool, virtual, start, length, frames, emptied)), divisions)
        if fitting > beyond:
            largest = max(largest, fitting)
        beyond = length
    return largest


@outlined
def _mappable(pool, virtual, start, length, frames, emptied):
    """Bytes from the start of a run that could be mapped one after another with so many free frames."""
    piece, bytes_ = _piece_at(pool, virtual, start), np.int64(0)
    while bytes_ < length:
        row = pool.rows[piece]
        handle = _handle_bytes(row[p.GROUP])
        head, wanted = row[p.BYTES], np.int64(0)
        tail = np.int64(0)
        if row[p.STATE] == p.UNMAPPED:
            head, wanted = np.int64(0), row[p.BYTES]
        elif emptied:
            first, last = _whole_handles(pool, piece)
            if last > first:
                head, wanted = first - row[p.ADDRESS], last - first
                tail = row[p.BYTES] - head - wanted
        handles = min(wanted // handle, frames // (handle // p.PAGE_BYTES))
        frames -= handles * (handle // p.PAGE_BYTES)
        bytes_ += head + handles * handle
        if handles * handle < wanted:
            break
        bytes_ += tail
        piece = row[p.UPPER]
    return bytes_


@outlined
def _piece_at(pool, virtual, start):
    """The first piece of a run, whatever is in it."""
    if seek(virtual.unmapped, start, 0):
        unmapped = found(virtual.unmapped)
        if pool.rows[unmapped, p.ADDRESS] == start:
            return unmapped
        lower = pool.rows[unmapped, p.LOWER]
        if lower != p.NONE and pool.rows[lower, p.ADDRESS] == start:
            return lower
    seek(pool.whole, start, 0)  # nothing is unmapped in the run, so that it is one cached piece
    return found(pool.whole)


@outlined
def extents_of(virtual, address, size, out):
    """The runs of frames behind a piece."""
    runs, end = 0, address + size
    while address < end:
        page = address // p.PAGE_BYTES
        until = min(end, (page + 1) * p.PAGE_BYTES)
        place = virtual.frame_of[page] * p.PAGE_BYTES + address % p.PAGE_BYTES
        runs = add_run(out, runs, place, until - address)
        address = until
    return runs
