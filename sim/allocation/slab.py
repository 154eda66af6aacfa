"""Segregated slabs: equal chunks cut from slabs, one size class a slab (Bonwick 1994; classes grow as memcached's).

A class is `factor` times the one below, from `smallest_bytes` up to half of a slab, rounded up to 8 bytes. A request
takes a chunk of the smallest class that holds it; a larger one takes whole slabs side by side, so that a single block
can fill the memory. A new slab is the lowest free one, a large block the lowest run of enough free slabs. Within a
class a chunk that was given back is taken before one that was never used, and both before a new slab; a slab whose last
chunk is given back returns to the pool. There is no fallback to chunks of another class, so a request can be refused
although a larger one would succeed; `largest_free_bytes` is the largest that would.

`slab_bytes` is cut to the capacity where that is less, and the capacity to whole slabs. The tail beyond is neither free
nor allocated: allocated + free + tail = capacity. Unused chunks, and what is left over at the end of a slab that the
chunks do not fill, are in no allocation and so are free bytes; that few requests can use them shows as external
fragmentation. Chunk less request, and whole slabs less request, are internal.

Free chunks are one set of bits, so the state grows with the blocks (some bits for each block and class) and not with
the capacity. Allocating and releasing take O(1), O(log n) where a slab is taken or returned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation._places import one_run
from sim.kernels.bitset import BitSet, add, contains, discard, first_from, make_bitset
from sim.kernels.compile import subroutine
from sim.kernels.regions import (
    ADDRESS,
    FREE,
    Regions,
    addresses,
    find_fit,
    give_back,
    largest_run,
    make_regions,
    place_found,
    rounded,
)
from sim.policy import Allocator

_ALIGNMENT = 8
_FREE, _INTERNAL = 0, 1
_CHUNK_BYTES, _PER_SLAB, _FIRST_CHUNK, _FIRST_SLAB, _OPENED, _SPARE, _NEWEST, _USED, _FREE_CHUNKS = range(9)
_USED_CHUNKS, _NEXT_SPARE = 0, 1
_ASKED, _CHUNK = 0, 1
_NONE = -1
_WHOLE_SLABS = -1  # the chunk of a block that has slabs of its own
_NOT_PLACED = 0  # no block is of size 0


class State(NamedTuple):
    classes: np.ndarray  # one row a class, see below; the last row closes the numbering of chunks and slabs
    slabs: np.ndarray  # of each slab a class has opened: chunks in use; or, given back, the next spare number
    released: BitSet  # the chunks that were given back and are free, numbered through all slabs of all classes
    pool: Regions  # of slabs: segments are the classes' slabs, then the blocks that have slabs of their own
    blocks: np.ndarray  # bytes asked for by each placed block, and the number of the chunk that holds it
    totals: np.ndarray  # free bytes, bytes allocated beyond what was asked for

    @property
    def address(self) -> np.ndarray:
        """Where each block is placed, -1 where it is not."""
        places = addresses(self.pool)
        result = places[self.slabs.shape[0] :]
        in_chunks = np.flatnonzero((self.blocks[:, _ASKED] != _NOT_PLACED) & (self.blocks[:, _CHUNK] != _WHOLE_SLABS))
        chunk = self.blocks[in_chunks, _CHUNK]
        rows = self.classes[np.searchsorted(self.classes[:, _FIRST_CHUNK], chunk, side="right") - 1]
        slab, within = np.divmod(chunk - rows[:, _FIRST_CHUNK], rows[:, _PER_SLAB])
        result[in_chunks] = places[rows[:, _FIRST_SLAB] + slab] + within * rows[:, _CHUNK_BYTES]
        return result


# A row of `classes`: bytes of a chunk; chunks of a slab; first chunk number and first slab number of the class; how
# many slab numbers were ever used; the slab number given back last; the newest slab, which still has chunks never used,
# and how many of it have been used; free chunks in all slabs. A class has as many slab numbers as it can hold slabs at
# a time: it opens one only where all its chunks are in use.


def init(context, *, smallest_bytes=64, factor=1.25, slab_bytes=1 << 20):
    for name, value in (("smallest_bytes", smallest_bytes), ("slab_bytes", slab_bytes)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected a positive whole number")
    if not 1 < factor < float("inf"):
        raise ValueError(f"factor is {factor}; expected a number above 1")
    slab_bytes = max(1, min(slab_bytes, context.capacity))
    sizes = _chunk_sizes(smallest_bytes, factor, slab_bytes // 2)
    classes = _make_classes(sizes, slab_bytes, context)
    chunks, slabs = (int(number) for number in classes[-1, [_FIRST_CHUNK, _FIRST_SLAB]])
    return State(
        classes=classes,
        slabs=np.zeros((slabs, 2), np.int64),
        released=make_bitset(chunks),
        pool=make_regions(slabs + context.blocks, context.capacity, slab_bytes, by_size=False),
        blocks=np.zeros((context.blocks, 2), np.int64),
        totals=np.array([context.capacity // slab_bytes * slab_bytes, 0]),
    )


def _chunk_sizes(smallest, factor, largest):
    sizes, size = [], smallest
    while (chunk := -(-int(size) // _ALIGNMENT) * _ALIGNMENT) <= largest:
        sizes.append(chunk)
        size = max(chunk * factor, chunk + 1)
    return sizes


def _make_classes(sizes, slab_bytes, context):
    classes = np.zeros((len(sizes) + 1, 9), np.int64)
    for row, following, size in zip(classes, classes[1:], sizes, strict=False):
        per_slab = slab_bytes // size
        slabs = min(context.blocks // per_slab + 1, context.capacity // slab_bytes)
        row[_CHUNK_BYTES], row[_PER_SLAB] = size, per_slab
        following[_FIRST_CHUNK] = row[_FIRST_CHUNK] + slabs * per_slab
        following[_FIRST_SLAB] = row[_FIRST_SLAB] + slabs
    classes[:, _SPARE] = classes[:, _NEWEST] = _NONE
    return classes


@subroutine
def _class_of(classes, size_bytes):
    """The lowest row whose chunks hold so many bytes; the row after the last class where none does."""
    low, high = 0, classes.shape[0] - 1
    while low < high:
        middle = (low + high) >> 1
        if classes[middle, _CHUNK_BYTES] < size_bytes:
            low = middle + 1
        else:
            high = middle
    return low


@subroutine
def _slab_of(classes, number, chunk):
    return (chunk - classes[number, _FIRST_CHUNK]) // classes[number, _PER_SLAB] + classes[number, _FIRST_SLAB]


@subroutine
def _open_slab(state, number):
    """Take a slab from the pool for a class, as its newest; False where there is none."""
    if not find_fit(state.pool, state.pool.unit):
        return False
    row = state.classes[number]
    slab = row[_SPARE]
    if slab == _NONE:
        slab = row[_FIRST_SLAB] + row[_OPENED]
        row[_OPENED] += 1
    else:
        row[_SPARE] = state.slabs[slab, _NEXT_SPARE]
    place_found(state.pool, slab, state.pool.unit)
    row[_NEWEST], row[_USED] = slab, 0
    row[_FREE_CHUNKS] += row[_PER_SLAB]
    return True


@subroutine
def _close_slab(state, number, slab):
    """Return a slab without a used chunk to the pool."""
    row = state.classes[number]
    first = row[_FIRST_CHUNK] + (slab - row[_FIRST_SLAB]) * row[_PER_SLAB]
    for chunk in range(first, first + row[_PER_SLAB]):
        if not contains(state.released, chunk):  # in the newest slab the chunks from here on were never used
            break
        discard(state.released, chunk)
    if row[_NEWEST] == slab:
        row[_NEWEST] = _NONE
    row[_FREE_CHUNKS] -= row[_PER_SLAB]
    state.slabs[slab, _NEXT_SPARE] = row[_SPARE]
    row[_SPARE] = slab
    give_back(state.pool, slab)


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
    slab, within = classes[number, _NEWEST], classes[number, _USED]
    classes[number, _USED] += 1
    if classes[number, _USED] == classes[number, _PER_SLAB]:
        classes[number, _NEWEST] = _NONE
    first = classes[number, _FIRST_CHUNK] + (slab - classes[number, _FIRST_SLAB]) * classes[number, _PER_SLAB]
    return first + within


@subroutine
def _place_in_slabs(state, block, size_bytes):
    if not find_fit(state.pool, size_bytes):
        return False
    place_found(state.pool, state.slabs.shape[0] + block, size_bytes)
    _note(state.blocks, state.totals, block, size_bytes, _WHOLE_SLABS, rounded(state.pool, size_bytes))
    return True


@subroutine
def _note(blocks, totals, block, size_bytes, chunk, taken):
    blocks[block, _ASKED], blocks[block, _CHUNK] = size_bytes, chunk
    totals[_FREE] -= taken
    totals[_INTERNAL] += taken - size_bytes


@subroutine
def _forget(blocks, totals, block, taken):
    totals[_FREE] += taken
    totals[_INTERNAL] -= taken - blocks[block, _ASKED]
    blocks[block, _ASKED] = _NOT_PLACED


# What is done for every request takes the arrays it needs and not the state: a state is passed array by array.


def allocate(state, block, size_bytes):
    classes = state.classes
    if state.blocks[block, _ASKED] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    number = _class_of(classes, size_bytes)
    if number == classes.shape[0] - 1:
        return _place_in_slabs(state, block, size_bytes)
    chunk = _released_chunk(classes, state.released, number)
    if chunk == _NONE:
        if classes[number, _NEWEST] == _NONE and not _open_slab(state, number):
            return False
        chunk = _unused_chunk(classes, number)
    state.slabs[_slab_of(classes, number, chunk), _USED_CHUNKS] += 1
    classes[number, _FREE_CHUNKS] -= 1
    _note(state.blocks, state.totals, block, size_bytes, chunk, classes[number, _CHUNK_BYTES])
    return True


def release(state, block):
    classes, size_bytes, chunk = state.classes, state.blocks[block, _ASKED], state.blocks[block, _CHUNK]
    if size_bytes == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    if chunk == _WHOLE_SLABS:
        _forget(state.blocks, state.totals, block, rounded(state.pool, size_bytes))
        give_back(state.pool, state.slabs.shape[0] + block)
        return
    number = _class_of(classes, size_bytes)
    _forget(state.blocks, state.totals, block, classes[number, _CHUNK_BYTES])
    add(state.released, chunk)
    classes[number, _FREE_CHUNKS] += 1
    slab = _slab_of(classes, number, chunk)
    state.slabs[slab, _USED_CHUNKS] -= 1
    if state.slabs[slab, _USED_CHUNKS] == 0:
        _close_slab(state, number, slab)


def free_bytes(state):
    return state.totals[_FREE]


def largest_free_bytes(state):
    if state.pool.counts[FREE] > 0:
        return largest_run(state.pool)
    for number in range(state.classes.shape[0] - 2, -1, -1):
        if state.classes[number, _FREE_CHUNKS] > 0:
            return state.classes[number, _CHUNK_BYTES]
    return 0


def internal_bytes(state):
    return state.totals[_INTERNAL]


def extents(state, block, out):
    segments, size_bytes, chunk = state.pool.segments, state.blocks[block, _ASKED], state.blocks[block, _CHUNK]
    if chunk == _WHOLE_SLABS:
        return one_run(out, segments[state.slabs.shape[0] + block, ADDRESS], rounded(state.pool, size_bytes))
    number = _class_of(state.classes, size_bytes)
    row = state.classes[number]
    within = (chunk - row[_FIRST_CHUNK]) % row[_PER_SLAB] * row[_CHUNK_BYTES]
    return one_run(out, segments[_slab_of(state.classes, number, chunk), ADDRESS] + within, row[_CHUNK_BYTES])


ALLOCATOR = Allocator(
    name="slab",
    init=init,
    allocate=allocate,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    extents=extents,
)
