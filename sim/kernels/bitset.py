"""A set of small integers as bits, in which the next member from a number on, or down, is found without a scan.

Level 0 has one bit a number; each higher level has one bit for each word below, set where that word is not 0 (a
64-ary tree, after van Emde Boas 1975). An operation touches one word a level: five for a thousand million numbers.
Zeroed memory that is never touched stays unmapped, so what a sparse set costs is the words it has used.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.bits import highest_bit, lowest_bit
from sim.kernels.compile import inlined

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


class BitSet(NamedTuple):
    words: np.ndarray  # uint64: the words of level 0, then those of level 1, and so on
    starts: np.ndarray  # int64: where each level starts, and where the last one ends


def make_bitset(size: int) -> BitSet:
    """The empty set over 0 to size - 1."""
    lengths = [size // 64 + 1]
    while lengths[-1] > 1:
        lengths.append((lengths[-1] + 63) // 64)
    return BitSet(words=np.zeros(sum(lengths), np.uint64), starts=np.cumsum([0, *lengths]))


@inlined
def contains(bits, number):
    return bits.words[number >> 6] & _mask(number) != _ZERO


@inlined
def add(bits, number):
    """Put in a number; nothing changes where it is in already."""
    for level in range(bits.starts.size - 1):
        word = bits.starts[level] + (number >> 6)
        before = bits.words[word]
        bits.words[word] = before | _mask(number)
        if before != _ZERO:
            return
        number >>= 6


@inlined
def discard(bits, number):
    """Take out a number; nothing changes where it is not in."""
    for level in range(bits.starts.size - 1):
        word = bits.starts[level] + (number >> 6)
        left = bits.words[word] & ~_mask(number)
        bits.words[word] = left
        if left != _ZERO:
            return
        number >>= 6


@inlined
def first_from(bits, number):
    """The lowest member that is at least `number`, -1 where there is none."""
    levels = bits.starts.size - 1
    level = 0
    while level < levels and number >> 6 < bits.starts[level + 1] - bits.starts[level]:
        rest = bits.words[bits.starts[level] + (number >> 6)] & (_ALL << np.uint64(number & 63))
        if rest != _ZERO:
            return _lowest_under(bits, level, (number >> 6 << 6) + lowest_bit(rest))
        number = (number >> 6) + 1  # on the level above, the words after this one
        level += 1
    return -1


@inlined
def last_to(bits, number):
    """The highest member that is at most `number`, -1 where there is none."""
    levels = bits.starts.size - 1
    level = 0
    while level < levels and number >= 0:
        rest = bits.words[bits.starts[level] + (number >> 6)] & (_ALL >> np.uint64(63 - (number & 63)))
        if rest != _ZERO:
            return _highest_under(bits, level, (number >> 6 << 6) + highest_bit(rest))
        number = (number >> 6) - 1  # on the level above, the words before this one
        level += 1
    return -1


@inlined
def _lowest_under(bits, level, number):
    """The lowest member under bit `number` of a level."""
    while level > 0:
        level -= 1
        number = (number << 6) + lowest_bit(bits.words[bits.starts[level] + number])
    return number


@inlined
def _highest_under(bits, level, number):
    """The highest member under bit `number` of a level."""
    while level > 0:
        level -= 1
        number = (number << 6) + highest_bit(bits.words[bits.starts[level] + number])
    return number


@inlined
def _mask(number):
    return _ONE << np.uint64(number & 63)
