"""Exact stack distances: how many distinct other blocks were accessed since the last access to this one.

An LRU cache of c blocks hits exactly where the distance is below c (Mattson et al., "Evaluation techniques for storage
hierarchies", 1970). As in Bennett and Kruskal (1975), a bit for each position in time is set where that position is the
latest access to its block so far, and the distance is the number of bits set after the block's own. Bits are counted
by words within a group of 512, and by a Fenwick tree (1994) over groups. The group in which time stands is not in the
tree yet: it changes at every access, and enters it once, when it is full.

`stack_distances` takes whole columns; `StackDistances` takes a stream, in memory that depends on the number of blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, kernel

FIRST_ACCESS = -1  # the distance of a block that was not accessed before

_GROUP_BITS = 9
_GROUP = 1 << _GROUP_BITS
_WORDS = _GROUP >> 6
_SMALLEST_POSITIONS = 1 << 16
_POSITIONS_A_BLOCK = 4
_INT32_END = 1 << 31

_ZERO, _ONE, _TWO, _FOUR = (np.uint64(n) for n in (0, 1, 2, 4))
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_FIVES, _THREES = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_NIBBLES, _BYTES, _TOP_BYTE = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101), np.uint64(56)


class Marks(NamedTuple):
    """Which positions are the latest access to their block."""

    words: np.ndarray  # uint64: a bit a position
    tree: np.ndarray  # int32[groups + 1]: a Fenwick tree over the groups that time has left


def make_marks(positions: int) -> Marks:
    """No marks, with room for positions 0 to `positions` - 1."""
    groups = -(-positions // _GROUP)
    return Marks(np.zeros(groups * _WORDS, np.uint64), np.zeros(groups + 1, np.int32))


@inlined
def _ones(word):
    """How many bits of a word are set; the compiler makes one instruction of it."""
    word = word - ((word >> _ONE) & _FIVES)
    word = (word & _THREES) + ((word >> _TWO) & _THREES)
    word = (word + (word >> _FOUR)) & _NIBBLES
    return np.int64((word * _BYTES) >> _TOP_BYTE)


@inlined
def _after(words, position):
    """Marks after a position within its group."""
    word = position >> 6
    above = np.uint64(position & 63)
    count = _ones(words[word] & ((_ALL << above) << _ONE))
    for rest in range(word + 1, ((position >> _GROUP_BITS) + 1) * _WORDS):
        count += _ones(words[rest])
    return count


@inlined
def _up_to(tree, group):
    """Marks in the groups 0 to `group`, all of which time has left."""
    count = np.int64(0)
    at = group + 1
    while at > 0:
        count += tree[at]
        at &= at - 1
    return count


@inlined
def _add(tree, group, count):
    at = group + 1
    while at < tree.size:
        tree[at] += count
        at += at & -at


@inlined
def _set(words, position):
    words[position >> 6] |= _ONE << np.uint64(position & 63)


@inlined
def _close(words, tree, group):
    """Time leaves a group: its marks enter the tree."""
    count = np.int64(0)
    for word in range(group * _WORDS, (group + 1) * _WORDS):
        count += _ones(words[word])
    _add(tree, group, count)


@inlined
def _take(words, tree, now_group, marks, position):
    """The number of marks after `position`, whose own mark goes; `marks` is how many there are in all."""
    group = position >> _GROUP_BITS
    count = _after(words, position)
    words[position >> 6] &= ~(_ONE << np.uint64(position & 63))
    if group < now_group:
        count += marks - _up_to(tree, group)
        _add(tree, group, -1)
    return count


@kernel
def _whole(previous, words, tree, out):
    """Distances where positions are rows."""
    marks = np.int64(0)
    for row in range(previous.size):
        now_group = row >> _GROUP_BITS
        if row & (_GROUP - 1) == 0 and row > 0:
            _close(words, tree, now_group - 1)
        if previous[row] < 0:
            out[row] = FIRST_ACCESS
            marks += 1
        else:
            out[row] = _take(words, tree, now_group, marks, np.int64(previous[row]))
        _set(words, row)


@kernel
def _streamed(blocks, words, tree, owner, latest, facts, out):
    """Distances of a chunk. facts: int64[2], the next position and the number of marks; positions are used again."""
    position, marks = facts[0], facts[1]
    for row in range(blocks.size):
        if position == owner.size:
            position = _compact(words, tree, owner, latest)
        now_group = position >> _GROUP_BITS
        if position & (_GROUP - 1) == 0 and position > 0:
            _close(words, tree, now_group - 1)
        block = np.int64(blocks[row])
        if latest[block] < 0:
            out[row] = FIRST_ACCESS
            marks += 1
        else:
            out[row] = _take(words, tree, now_group, marks, np.int64(latest[block]))
        _set(words, position)
        owner[position] = block
        latest[block] = position
        position += 1
    facts[0], facts[1] = position, marks


@kernel
def _compact(words, tree, owner, latest):
    """Move all marks to the lowest positions, in order; the first position that is free."""
    kept = 0
    for position in range(owner.size):
        if (words[position >> 6] >> np.uint64(position & 63)) & _ONE != _ZERO:
            block = owner[position]
            owner[kept] = block
            latest[block] = kept
            kept += 1
    words[:] = _ZERO
    tree[:] = 0
    for position in range(kept):
        _set(words, position)
    for group in range((kept - 1) >> _GROUP_BITS):  # a last group that is just full is closed by the next access
        _close(words, tree, group)
    return kept


@kernel
def tally(distances, histogram):
    """Count distances; the number of first accesses."""
    first = 0
    for row in range(distances.size):
        if distances[row] < 0:
            first += 1
        else:
            histogram[distances[row]] += 1
    return first


def stack_distances(block: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """The stack distance of each access in distinct blocks, -1 (`FIRST_ACCESS`) where there is none.

    block: int[n]; previous: int[n] row of the access before to the same block, -1 for none. Returns int32[n], or
    int64[n] for 2^31 rows or more. Memory besides: an eighth of a byte a row.
    """
    if block.shape != previous.shape:
        raise ValueError(f"{block.size} blocks, {previous.size} previous accesses")
    out = np.empty(previous.size, np.int32 if previous.size < _INT32_END else np.int64)
    words, tree = make_marks(previous.size)
    _whole(previous, words, tree, out)
    return out


class StackDistances:
    """Stack distances of a stream of chunks, in memory for each distinct block: some 21 bytes."""

    def __init__(self, n_blocks: int):
        positions = max(_SMALLEST_POSITIONS, _POSITIONS_A_BLOCK * n_blocks)
        self._marks = make_marks(positions)
        room = self._marks.words.size * 64
        dtype = np.int32 if room < _INT32_END else np.int64
        self._owner = np.zeros(room, np.int32)
        self._latest = np.full(n_blocks, -1, dtype)
        self._facts = np.zeros(2, np.int64)

    def __call__(self, blocks: np.ndarray) -> np.ndarray:
        """int32[n] distance of each access of the next chunk (int32[n] blocks), -1 for a first one."""
        out = np.empty(blocks.size, np.int32)
        _streamed(blocks, *self._marks, self._owner, self._latest, self._facts, out)
        return out


class Histogram(NamedTuple):
    """count[d]: accesses at stack distance d, int64[n_blocks]; first: accesses to a block not seen before.

    An LRU cache of c blocks hits count[:c].sum() times.
    """

    count: np.ndarray
    first: int


def stack_distance_histogram(chunks: Iterable[np.ndarray], n_blocks: int) -> Histogram:
    """The histogram of all distances of a stream of chunks (int32 blocks below `n_blocks`), in bounded memory."""
    distances, count, first = StackDistances(n_blocks), np.zeros(n_blocks, np.int64), 0
    for blocks in chunks:
        first += int(tally(distances(blocks), count))
    return Histogram(count, first)
