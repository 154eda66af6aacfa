"""A range of addresses cut into segments: placed ones, and free runs that are merged as soon as they touch.

The segments form one list in address order (boundary tags: Knuth, The Art of Computer Programming, vol. 1, 2.5,
algorithm C), so the neighbours of a segment that is given back are found without a search. The free runs are also in
an ordered index, by address (to find the lowest run that is large enough) or by size, then address (to find the
tightest). Memory is proportional to the number of segments that can be placed at a time, never to the range.

Segments are numbered: 0 to segments - 1 can be placed, `segments` is the sentinel that closes the list, higher numbers
are free runs. Lengths are rounded up to the unit, so that each address is a multiple of it; a capacity is rounded down.
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
)

ADDRESS, BYTES, LOWER, UPPER = 0, 1, 2, 3  # columns of a segment; BYTES is what was asked for, UPPER the next segment
FREE, ROUNDING, _SPARE, _UNUSED = 0, 1, 2, 3
_NONE = -1
_NOT_PLACED = 0  # no segment has 0 bytes


class Regions(NamedTuple):
    segments: np.ndarray  # int64[segments, 4]; one row, because the columns of a segment are used together
    counts: np.ndarray  # free bytes; bytes placed beyond what was asked for; run given back last, first one never used
    index: Index  # of the free runs
    sentinel: int
    unit: int
    by_size: bool  # the order of the index


def make_regions(segments: int, capacity: int, unit: int, by_size: bool) -> Regions:
    """One free run of `capacity` bytes, less what is beyond a whole number of units."""
    runs = min(segments, capacity // unit) + 1  # between two free runs lies a placed segment
    regions = Regions(
        segments=np.zeros((segments + 1 + runs, 4), np.int64),
        counts=np.array([capacity // unit * unit, 0, _NONE, segments + 1]),
        index=make_index(runs),
        sentinel=segments,
        unit=unit,
        by_size=by_size,
    )
    regions.segments[segments] = (capacity, 0, segments, segments)
    if capacity >= unit:
        _add_run(regions, 0, capacity // unit * unit, segments, segments)
    return regions


def addresses(regions: Regions) -> np.ndarray:
    """Where each segment that can be placed is, -1 where it is not placed."""
    segments = regions.segments[: regions.sentinel]
    return np.where(segments[:, BYTES] == _NOT_PLACED, -1, segments[:, ADDRESS])


@subroutine
def expect_new(regions, segment, size):
    """Refuse to place a segment twice, or one of no bytes."""
    if regions.segments[segment, BYTES] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size < 1:
        raise ValueError("the block to allocate has no bytes")


@subroutine
def rounded(regions, size):
    """`size` rounded up to whole units."""
    return (size + regions.unit - 1) // regions.unit * regions.unit


@subroutine
def find_fit(regions, size):
    """Go to a free run that holds `size` bytes; False where there is none.

    It is the smallest one, the lowest of equal ones, where runs are indexed by size, and the lowest one otherwise.
    """
    least = rounded(regions, size)
    return seek(regions.index, least, 0) if regions.by_size else seek_peak(regions.index, least)


@subroutine
def place_found(regions, segment, size):
    """Place `segment` at the start of the free run that was found."""
    segments = regions.segments
    run, taken = found(regions.index), rounded(regions, size)
    segments[segment, ADDRESS], segments[segment, BYTES] = segments[run, ADDRESS], size
    regions.counts[FREE] -= taken
    regions.counts[ROUNDING] += taken - size
    if taken == segments[run, BYTES]:
        _relink(segments, segment, segments[run, LOWER], segments[run, UPPER])
        remove_found(regions.index)
        _give_back_number(regions, run)
        return
    _relink(segments, segment, segments[run, LOWER], run)
    segments[run, ADDRESS] += taken
    segments[run, BYTES] -= taken
    _reindex_found(regions, run)


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
    regions.counts[FREE] += size
    regions.counts[ROUNDING] -= size - asked
    if lower > regions.sentinel and upper > regions.sentinel:
        _seek_run(regions, upper)
        remove_found(regions.index)
        size += segments[upper, BYTES]
        merged, upper = upper, segments[upper, UPPER]
        _give_back_number(regions, merged)
    if lower > regions.sentinel:
        _relink(segments, lower, segments[lower, LOWER], upper)
        _resize(regions, lower, segments[lower, ADDRESS], segments[lower, BYTES] + size)
    elif upper > regions.sentinel:
        _relink(segments, upper, lower, segments[upper, UPPER])
        _resize(regions, upper, address, segments[upper, BYTES] + size)
    else:
        _add_run(regions, address, size, lower, upper)


@subroutine
def split_end(regions, segment, size, other):
    """Place `other` where a placed segment is to end after its first `size` bytes: whole units, and not all it has."""
    segments = regions.segments
    segments[other, ADDRESS], segments[other, BYTES] = (
        segments[segment, ADDRESS] + size,
        segments[segment, BYTES] - size,
    )
    segments[segment, BYTES] = size
    _relink(segments, other, segment, segments[segment, UPPER])


@subroutine
def largest_run(regions):
    """Bytes of the largest free run."""
    return highest_key(regions.index) if regions.by_size else highest_peak(regions.index)


@subroutine
def _entry(regions, run):
    """What a run is indexed by."""
    address, size = regions.segments[run, ADDRESS], regions.segments[run, BYTES]
    return (size, address) if regions.by_size else (address, size)


@subroutine
def _seek_run(regions, run):
    key, second = _entry(regions, run)
    seek(regions.index, key, second)


@subroutine
def _resize(regions, run, address, size):
    """Change a run's place; among runs ordered by address its rank stays."""
    _seek_run(regions, run)
    regions.segments[run, ADDRESS], regions.segments[run, BYTES] = address, size
    _reindex_found(regions, run)


@subroutine
def _reindex_found(regions, run):
    """Bring the entry that was found in line with its run."""
    key, second = _entry(regions, run)
    if regions.by_size:
        remove_found(regions.index)
        insert(regions.index, key, second, run)
    else:
        replace_found(regions.index, key, second)


@subroutine
def _add_run(regions, address, size, lower, upper):
    run = _new_number(regions)
    regions.segments[run, ADDRESS], regions.segments[run, BYTES] = address, size
    _relink(regions.segments, run, lower, upper)
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
