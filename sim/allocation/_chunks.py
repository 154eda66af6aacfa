"""What allocators with size classes share: slabs of whole pages, each cut into chunks of one class.

A request takes a chunk of the smallest class that holds it; a larger one takes whole pages side by side, the lowest run
of enough of them. A class that has no free chunk takes a slab, of as many pages as its slabs have, at the lowest run of
enough pages. Within a class a chunk that was given back is taken before one that was never used, and both before a new
slab; a slab whose last chunk is given back returns to the pages. There is no fallback to chunks of another class, so a
request can be refused although a larger one would succeed; `largest_free_bytes` is the largest that would.

The capacity is rounded down to whole pages. Unused chunks, and what is left over at the end of a slab that the chunks
do not fill, are in no allocation and so are free bytes; that few requests can use them shows as external fragmentation.
Chunk less request, and whole pages less request, are internal. What each slab holds of books is metadata, or outside.

Free chunks are one set of bits, so the state grows with the objects (some bits for each object and class) and not with
the capacity. Allocating and releasing take O(1), O(log n) where pages are taken or returned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation._places import one_run
from sim.kernels.bits import highest_bit
from sim.kernels.bitset import BitSet, add, contains, discard, first_from, make_bitset
from sim.kernels.compile import subroutine
from sim.kernels.regions import (
    ADDRESS,
    FREE,
    PLACED,
    Regions,
    addresses,
    find_fit,
    give_back,
    largest_run,
    make_regions,
    place_found,
    rounded,
)

_FREE, _INTERNAL, _OPEN, _CUT = range(4)
(
    _CHUNK_BYTES,
    _SLAB_BYTES,
    _PER_SLAB,
    _SHIFT,
    _FIRST_CHUNK,
    _FIRST_SLAB,
    _OPENED,
    _SPARE,
    _NEWEST,
    _USED,
    _FREE_CHUNKS,
    _COLUMNS,
) = range(12)
_USED_CHUNKS, _NEXT_SPARE = 0, 1
_ASKED, _PLACE = 0, 1
_NONE = -1
_WHOLE_PAGES = -1  # the place of a block that has pages of its own
_NOT_PLACED = 0  # no block is of size 0
_CLASS_BITS = 20  # of a place: the class, below the number of the chunk
_MOST_CLASSES = 1 << _CLASS_BITS
_STEP_BITS = 3  # the classes are looked up by that many digits of a size after its first


class Books(NamedTuple):
    """What the allocator's own books take."""

    header_bytes: int = 0  # at the end of each slab, in the managed memory
    slab_bytes: int = 0  # outside, for each slab and each block with pages of its own
    page_bytes: int = 0  # outside, for each page in use
    chunk_bits: int = 0  # outside, for each chunk of a slab in use


class State(NamedTuple):
    classes: np.ndarray  # one row a class, see below; the last row closes the numbering of chunks and slabs
    lookup: np.ndarray  # int32: the lowest class that may hold the sizes that share their first digits
    slabs: np.ndarray  # of each slab a class has opened: chunks in use; or, given back, the next spare number
    released: BitSet  # the chunks that were given back and are free, numbered through all slabs of all classes
    pool: Regions  # of pages: segments are the classes' slabs, then the blocks that have pages of their own
    blocks: np.ndarray  # bytes asked for by each placed block, and where it is: its chunk and that one's class
    totals: np.ndarray  # free bytes; bytes allocated beyond what was asked for; slabs in use, and chunks in them
    books: Books

    @property
    def address(self) -> np.ndarray:
        """Where each block is placed, -1 where it is not."""
        places = addresses(self.pool)
        result = places[self.slabs.shape[0] :]
        in_chunks = np.flatnonzero((self.blocks[:, _ASKED] != _NOT_PLACED) & (self.blocks[:, _PLACE] != _WHOLE_PAGES))
        place = self.blocks[in_chunks, _PLACE]
        rows = self.classes[place & (_MOST_CLASSES - 1)]
        chunk = (place >> _CLASS_BITS) - rows[:, _FIRST_CHUNK]
        within = chunk & ((1 << rows[:, _SHIFT]) - 1)
        result[in_chunks] = places[rows[:, _FIRST_SLAB] + (chunk >> rows[:, _SHIFT])] + within * rows[:, _CHUNK_BYTES]
        return result


# A row of `classes`: bytes of a chunk and of a slab; chunks of a slab, and how many digits of a chunk's number say
# which of its slab it is; first chunk number and first slab number of the class; how many slab numbers were ever used;
# the slab number given back last; the newest slab, which still has chunks never used, and how many of it have been
# used; free chunks in all slabs. A class has as many slab numbers as it can hold slabs at a time: it opens one only
# where all its chunks are in use.


def make_state(context, page_bytes: int, classes: list[tuple[int, int]], books: Books) -> State:
    """classes: (bytes of a chunk, of a slab) from the smallest on; a slab is whole pages and holds a chunk or more.

    Raises ValueError where there are more classes than can be numbered.
    """
    if len(classes) >= _MOST_CLASSES:
        raise ValueError(f"there are {len(classes)} size classes; expected fewer than {_MOST_CLASSES}")
    rows = _make_rows(classes, books.header_bytes, context)
    chunks, slabs = (int(number) for number in rows[-1, [_FIRST_CHUNK, _FIRST_SLAB]])
    return State(
        classes=rows,
        lookup=_make_lookup(rows[:-1, _CHUNK_BYTES]),
        slabs=np.zeros((slabs, 2), np.int64),
        released=make_bitset(chunks),
        pool=make_regions(slabs + context.blocks, context.capacity, page_bytes, by_size=False),
        blocks=np.zeros((context.blocks, 2), np.int64),
        totals=np.array([context.capacity // page_bytes * page_bytes, 0, 0, 0]),
        books=books,
    )


def _make_rows(classes, header_bytes, context):
    rows = np.zeros((len(classes) + 1, _COLUMNS), np.int64)
    for row, following, (chunk_bytes, slab_bytes) in zip(rows, rows[1:], classes, strict=False):
        per_slab = (slab_bytes - header_bytes) // chunk_bytes
        slabs = min(context.blocks // per_slab + 1, context.capacity // slab_bytes)
        row[:_FIRST_CHUNK] = chunk_bytes, slab_bytes, per_slab, (per_slab - 1).bit_length()
        following[_FIRST_CHUNK] = row[_FIRST_CHUNK] + (slabs << row[_SHIFT])
        following[_FIRST_SLAB] = row[_FIRST_SLAB] + slabs
    rows[:, _SPARE] = rows[:, _NEWEST] = _NONE
    return rows


def _make_lookup(sizes):
    """A size of chunks lies at or above the lowest size of each entry that leads to it."""
    if not sizes.size:
        return np.zeros(1, np.int32)
    entry, lowest = np.arange(1 + int(_entry_of(int(sizes[-1])))), 1 << _STEP_BITS
    shift = np.maximum(0, (entry >> _STEP_BITS) - 1)
    smallest = np.where(entry < lowest, entry, ((entry & (lowest - 1)) + lowest) << shift) + 1
    return np.searchsorted(sizes, smallest).astype(np.int32)


@subroutine
def _entry_of(size_bytes):
    """Which entry of the lookup a size belongs to: the place of its first digit, and the digits after it."""
    units = size_bytes - 1
    shift = max(0, highest_bit(np.uint64(units | 1)) - _STEP_BITS)
    return (shift << _STEP_BITS) + (units >> shift)


@subroutine
def _class_of(classes, lookup, size_bytes):
    """The lowest row whose chunks hold so many bytes; the row after the last class where none does."""
    last, entry = classes.shape[0] - 1, _entry_of(size_bytes)
    if entry >= lookup.shape[0]:
        return last
    number = np.int64(lookup[entry])
    while number < last and classes[number, _CHUNK_BYTES] < size_bytes:
        number += 1
    return number


@subroutine
def _slab_of(classes, number, chunk):
    return ((chunk - classes[number, _FIRST_CHUNK]) >> classes[number, _SHIFT]) + classes[number, _FIRST_SLAB]


@subroutine
def _first_chunk_of(classes, number, slab):
    return classes[number, _FIRST_CHUNK] + ((slab - classes[number, _FIRST_SLAB]) << classes[number, _SHIFT])


@subroutine
def _take_pages(pool, segment, size_bytes):
    """Give pages to a segment; False where there are none."""
    if not find_fit(pool, size_bytes):
        return False
    place_found(pool, segment, size_bytes)
    return True


@subroutine
def _next_slab(classes, number):
    """The slab number that the class uses next."""
    slab = classes[number, _SPARE]
    if slab == _NONE:
        return classes[number, _FIRST_SLAB] + classes[number, _OPENED]
    return slab


@subroutine
def _open_slab(classes, slabs, totals, books, number, slab):
    """Note that the class has a slab more, its newest, under its next number."""
    if classes[number, _SPARE] == slab:
        classes[number, _SPARE] = slabs[slab, _NEXT_SPARE]
    else:
        classes[number, _OPENED] += 1
    classes[number, _NEWEST], classes[number, _USED] = slab, 0
    _count_slab(classes, totals, books, number, 1)


@subroutine
def _close_slab(classes, slabs, totals, books, released, number, slab):
    """Note that a slab without a used chunk is the class's no longer."""
    first = _first_chunk_of(classes, number, slab)
    for chunk in range(first, first + classes[number, _PER_SLAB]):
        if not contains(released, chunk):  # in the newest slab the chunks from here on were never used
            break
        discard(released, chunk)
    if classes[number, _NEWEST] == slab:
        classes[number, _NEWEST] = _NONE
    slabs[slab, _NEXT_SPARE] = classes[number, _SPARE]
    classes[number, _SPARE] = slab
    _count_slab(classes, totals, books, number, -1)


@subroutine
def _count_slab(classes, totals, books, number, slabs):
    """Note that the class has one slab more, or less."""
    classes[number, _FREE_CHUNKS] += slabs * classes[number, _PER_SLAB]
    totals[_CUT] += slabs * classes[number, _PER_SLAB]
    totals[_OPEN] += slabs
    totals[_FREE] -= slabs * books.header_bytes


@subroutine
def _released_chunk(classes, released, number):
    """Take a chunk of the class that was given back, _NONE where there is none."""
    chunk = first_from(released, classes[number, _FIRST_CHUNK])
    if chunk < 0 or chunk >= classes[number + 1, _FIRST_CHUNK]:
        return _NONE
    discard(released, chunk)
    return chunk


@subroutine
def _unused_chunk(classes, number):
    """Take the first chunk never used of the newest slab, which there is."""
    chunk = _first_chunk_of(classes, number, classes[number, _NEWEST]) + classes[number, _USED]
    classes[number, _USED] += 1
    if classes[number, _USED] == classes[number, _PER_SLAB]:
        classes[number, _NEWEST] = _NONE
    return chunk


@subroutine
def _note(blocks, totals, block, size_bytes, place, taken):
    blocks[block, _ASKED], blocks[block, _PLACE] = size_bytes, place
    totals[_FREE] -= taken
    totals[_INTERNAL] += taken - size_bytes


@subroutine
def _forget(blocks, totals, block, taken):
    totals[_FREE] += taken
    totals[_INTERNAL] -= taken - blocks[block, _ASKED]
    blocks[block, _ASKED] = _NOT_PLACED


# Subroutines take the arrays they need and not the state: a state is passed array by array. The pages are asked for at
# one place and given back at one, because the compiler puts a copy of the code for it at each.


def allocate(state, block, size_bytes):
    classes, slabs, totals = state.classes, state.slabs, state.totals
    if state.blocks[block, _ASKED] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    number, chunk = _class_of(classes, state.lookup, size_bytes), np.int64(_NONE)
    large = number == classes.shape[0] - 1
    if not large:
        chunk = _released_chunk(classes, state.released, number)
    if large or (chunk == _NONE and classes[number, _NEWEST] == _NONE):
        segment = slabs.shape[0] + block if large else _next_slab(classes, number)
        if not _take_pages(state.pool, segment, size_bytes if large else classes[number, _SLAB_BYTES]):
            return False
        if large:
            _note(state.blocks, totals, block, size_bytes, _WHOLE_PAGES, rounded(state.pool, size_bytes))
            return True
        _open_slab(classes, slabs, totals, state.books, number, segment)
    if chunk == _NONE:
        chunk = _unused_chunk(classes, number)
    slabs[_slab_of(classes, number, chunk), _USED_CHUNKS] += 1
    classes[number, _FREE_CHUNKS] -= 1
    place = (chunk << _CLASS_BITS) | number
    _note(state.blocks, totals, block, size_bytes, place, classes[number, _CHUNK_BYTES])
    return True


def release(state, block):
    classes, slabs, totals = state.classes, state.slabs, state.totals
    size_bytes, place = state.blocks[block, _ASKED], state.blocks[block, _PLACE]
    if size_bytes == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    if place == _WHOLE_PAGES:
        segment = slabs.shape[0] + block
        _forget(state.blocks, totals, block, rounded(state.pool, size_bytes))
    else:
        number, chunk = place & (_MOST_CLASSES - 1), place >> _CLASS_BITS
        _forget(state.blocks, totals, block, classes[number, _CHUNK_BYTES])
        add(state.released, chunk)
        classes[number, _FREE_CHUNKS] += 1
        segment = _slab_of(classes, number, chunk)
        slabs[segment, _USED_CHUNKS] -= 1
        if slabs[segment, _USED_CHUNKS] > 0:
            return
        _close_slab(classes, slabs, totals, state.books, state.released, number, segment)
    give_back(state.pool, segment)


def free_bytes(state):
    return state.totals[_FREE]


def largest_free_bytes(state):
    run, classes = largest_run(state.pool), state.classes
    last = classes.shape[0] - 2
    if last < 0 or run > classes[last, _CHUNK_BYTES]:
        return run
    for number in range(last, -1, -1):
        if classes[number, _FREE_CHUNKS] > 0 or classes[number, _SLAB_BYTES] <= run:
            return classes[number, _CHUNK_BYTES]
    return 0


def internal_bytes(state):
    return state.totals[_INTERNAL]


def metadata_bytes(state):
    return state.totals[_OPEN] * state.books.header_bytes


def outside_bytes(state):
    pool, books = state.pool, state.books
    pages = (pool.segments[pool.sentinel, ADDRESS] - pool.counts[FREE]) // pool.unit
    bits = state.totals[_CUT] * books.chunk_bits
    return pool.counts[PLACED] * books.slab_bytes + pages * books.page_bytes + (bits + 7) // 8


def extents(state, block, out):
    classes, segments = state.classes, state.pool.segments
    size_bytes, place = state.blocks[block, _ASKED], state.blocks[block, _PLACE]
    if place == _WHOLE_PAGES:
        return one_run(out, segments[state.slabs.shape[0] + block, ADDRESS], rounded(state.pool, size_bytes))
    number, chunk = place & (_MOST_CLASSES - 1), place >> _CLASS_BITS
    slab = _slab_of(classes, number, chunk)
    within = (chunk - _first_chunk_of(classes, number, slab)) * classes[number, _CHUNK_BYTES]
    return one_run(out, segments[slab, ADDRESS] + within, classes[number, _CHUNK_BYTES])


HOOKS = {
    "allocate": allocate,
    "release": release,
    "free_bytes": free_bytes,
    "largest_free_bytes": largest_free_bytes,
    "internal_bytes": internal_bytes,
    "metadata_bytes": metadata_bytes,
    "outside_bytes": outside_bytes,
    "extents": extents,
}
