"""A range of addresses cut into segments: placed ones, and free runs that are merged as soon as they touch.

The segments form one list in address order (boundary tags: Knuth, The Art of Computer Programming, vol. 1, 2.5,
algorithm C), so the neighbours of a segment that is given back are found without a search. The free runs are also in
an ordered index, by address (to find the lowest run that is large enough, or the next one after a roving pointer) or by
size, then address (to find the tightest, or the largest). Memory is proportional to the number of segments that can be
placed at a time, never to the range.

Segments are numbered: 0 to segments - 1 can be placed, `segments` is the sentinel that closes the list, higher numbers
are free runs. Lengths are rounded up to the unit, so that each address is a multiple of it; a capacity is rounded down.
A segment begins with a header of so many bytes, if any, which is part of what is rounded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import subroutine
from sim.kernels.ordered_index import (
    Index,
    found,
    highest_key,
    highest_peak,
    insert,
    make_index,
    remove_found,
    replace_found,
    seek,
    seek_peak,
    seek_peak_from,
)

ADDRESS, BYTES, LOWER, UPPER = 0, 1, 2, 3  # columns of a segment; BYTES is what was asked for, UPPER the next segment
FREE, ROUNDING, PLACED, _SPARE, _UNUSED, _ROVER = range(6)
_NONE = -1
_NOT_PLACED = 0  # no segment has 0 bytes


class Regions(NamedTuple):
    segments: np.ndarray  # int64[segments, 4]; one row, because the columns of a segment are used together
    counts: np.ndarray  # see below
    index: Index  # of the free runs
    sentinel: int
    unit: int
    by_size: bool  # the order of the index
    header_bytes: int  # in front of each placed segment
    roving: bool  # by address: a search goes on where the last segment was placed
    largest_first: bool  # by size


# `counts`: free bytes; bytes placed beyond headers and what was asked for; segments placed; number of the run given
# back last, and of the first one never used; the address from which a roving search goes on.


def make_regions(
    segments: int,
    capacity: int,
    unit: int,
    by_size: bool,
    header_bytes: int = 0,
    roving: bool = False,
    largest_first: bool = False,
) -> Regions:
    """One free run of `capacity` bytes, less what is beyond a whole number of units."""
    runs = min(segments, capacity // unit) + 1  # between two free runs lies a placed segment
    regions = Regions(
        segments=np.zeros((segments + 1 + runs, 4), np.int64),
        counts=np.array([capacity // unit * unit, 0, 0, _NONE, segments + 1, 0]),
        index=make_index(runs),
        sentinel=segments,
        unit=unit,
        by_size=by_size,
        header_bytes=header_bytes,
        roving=roving,
        largest_first=largest_first,
    )
    regions.segments[segments] = (capacity, 0, segments, segments)
    if capacity >= unit:
        run = _new_number(regions)
        regions.segments[run, :LOWER] = 0, capacity // unit * unit
        _relink(regions.segments, run, segments, segments)
        _index_run(regions, run)
    return regions


def addresses(regions: Regions) -> np.ndarray:
    """Where the bytes of each segment that can be placed are, behind its header; -1 where it is not placed."""
    segments = regions.segments[: regions.sentinel]
    return np.where(segments[:, BYTES] == _NOT_PLACED, -1, segments[:, ADDRESS] + regions.header_bytes)


@subroutine
def expect_new(regions, segment, size):
    """Refuse to place a segment twice, or one of no bytes."""
    if regions.segments[segment, BYTES] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size < 1:
        raise ValueError("the block to allocate has no bytes")


@subroutine
def rounded(regions, size):
    """What a segment of that size takes: with its header, rounded up to whole units."""
    return (size + regions.header_bytes + regions.unit - 1) // regions.unit * regions.unit


@subroutine
def find_fit(regions, size):
    """Go to a free run that holds `size` bytes; False where there is none.

    Where runs are indexed by size it is the smallest or the largest one, the lowest of equal ones; otherwise the lowest
    one, or the next one from the roving pointer on, and from the start again.
    """
    index, least = regions.index, rounded(regions, size)
    if regions.by_size:
        return seek(index, max(least, highest_key(index)) if regions.largest_first else least, 0)
    if regions.roving and seek_peak_from(index, regions.counts[_ROVER], least):
        return True
    return seek_peak(index, least)


@subroutine
def place_found(regions, segment, size):
    """Place `segment` at the start of the free run that was found."""
    segments = regions.segments
    run, taken = found(regions.index), rounded(regions, size)
    segments[segment, ADDRESS], segments[segment, BYTES] = segments[run, ADDRESS], size
    _count(regions, 1, taken, size)
    regions.counts[_ROVER] = segments[run, ADDRESS] + taken
    left = segments[run, BYTES] - taken
    if left == 0 or regions.by_size:
        remove_found(regions.index)
    if left == 0:
        _relink(segments, segment, segments[run, LOWER], segments[run, UPPER])
        _give_back_number(regions, run)
        return
    _relink(segments, segment, segments[run, LOWER], run)
    segments[run, ADDRESS] += taken
    segments[run, BYTES] = left
    if regions.by_size:
        _index_run(regions, run)
    else:
        replace_found(regions.index, segments[run, ADDRESS], left)


# Each function of the index is called at as few places as can be: the compiler puts a copy of it at each.


@subroutine
def give_back(regions, segment):
    """Free the place of a segment, merging it with the free runs on both sides."""
    segments = regions.segments
    asked = segments[segment, BYTES]
    if asked == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    address, size = segments[segment, ADDRESS], rounded(regions, asked)
    lower, upper = segments[segment, LOWER], segments[segment, UPPER]
    segments[segment, BYTES] = _NOT_PLACED
    _count(regions, -1, size, asked)
    run, merged = _NONE, _NONE  # the run that stays, as part of which this place is free, and one that goes
    if upper > regions.sentinel:
        run, size, upper = upper, size + segments[upper, BYTES], segments[upper, UPPER]
    if lower > regions.sentinel:
        run, merged = lower, run
        address, size, lower = segments[lower, ADDRESS], size + segments[lower, BYTES], segments[lower, LOWER]
    is_new = run == _NONE
    _take_out(regions, run, merged, address, size)
    if is_new:
        run = _new_number(regions)
    segments[run, ADDRESS], segments[run, BYTES] = address, size
    _relink(segments, run, lower, upper)
    if is_new or regions.by_size:
        _index_run(regions, run)
    if address < regions.counts[_ROVER] < address + size:
        regions.counts[_ROVER] = address  # the run it pointed to has become part of this one


@subroutine
def _take_out(regions, run, merged, address, size):
    """Drop a run that is part of another now, and take that one out of the index or, where its rank stays, change it.

    Either may be none.
    """
    for step in range(2):
        number = merged if step == 0 else run
        if number == _NONE:
            continue
        key, second = _entry(regions, number)
        seek(regions.index, key, second)
        if step == 0 or regions.by_size:
            remove_found(regions.index)
        else:
            replace_found(regions.index, address, size)
    if merged != _NONE:
        _give_back_number(regions, merged)


@subroutine
def _count(regions, segments, taken, asked):
    """Note that so many segments more, or one less, take that many bytes each."""
    regions.counts[FREE] -= segments * taken
    regions.counts[ROUNDING] += segments * (taken - regions.header_bytes - asked)
    regions.counts[PLACED] += segments


@subroutine
def split_end(regions, segment, size, other):
    """Place `other` where a placed segment is to end after its first `size` bytes: whole units, and not all it has.

    For segments without headers.
    """
    segments = regions.segments
    regions.counts[PLACED] += 1
    segments[other, ADDRESS], segments[other, BYTES] = (
        segments[segment, ADDRESS] + size,
        segments[segment, BYTES] - size,
    )
    segments[segment, BYTES] = size
    _relink(segments, other, segment, segments[segment, UPPER])


@subroutine
def largest_run(regions):
    """Bytes of the largest free run, headers included."""
    return highest_key(regions.index) if regions.by_size else highest_peak(regions.index)


@subroutine
def largest_fit(regions):
    """The largest size that `find_fit` finds a place for."""
    return max(0, largest_run(regions) - regions.header_bytes)


@subroutine
def headers(regions):
    """Bytes of all headers."""
    return regions.counts[PLACED] * regions.header_bytes


@subroutine
def _entry(regions, run):
    """What a run is indexed by."""
    address, size = regions.segments[run, ADDRESS], regions.segments[run, BYTES]
    return (size, address) if regions.by_size else (address, size)


@subroutine
def _index_run(regions, run):
    key, second = _entry(regions, run)
    insert(regions.index, key, second, run)


@subroutine
def _new_number(regions):
    run = regions.counts[_SPARE]
    if run == _NONE:
        run = regions.counts[_UNUSED]
        regions.counts[_UNUSED] += 1
    else:
        regions.counts[_SPARE] = regions.segments[run, LOWER]
    return run


@subroutine
def _give_back_number(regions, run):
    regions.segments[run, LOWER] = regions.counts[_SPARE]  # a run that is no more is on a list of such runs
    regions.counts[_SPARE] = run


@subroutine
def _relink(segments, segment, lower, upper):
    """Put `segment` between two others of the list."""
    segments[segment, LOWER], segments[segment, UPPER] = lower, upper
    segments[lower, UPPER] = segment
    segments[upper, LOWER] = segment
