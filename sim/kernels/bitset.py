"""A set of small integers as bits, in which the next member from a number on is found without a scan.

Level 0 has one bit a number; each higher level has one bit for each word below, set where that word is not 0 (a
64-ary tree, after van Emde Boas 1975). An operation touches one word a level: five for a thousand million numbers.
Zeroed memory that is never touched stays unmapped, so what a sparse set costs is the words it has used.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import subroutine

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


@subroutine
def contains(bits, number):
    return bits.words[number >> 6] & _mask(number) != _ZERO


@subroutine
def add(bits, number):
    """Put in a number; nothing changes where it is in already."""
    for level in range(bits.starts.size - 1):
        word = bits.starts[level] + (number >> 6)
        before = bits.words[word]
        bits.words[word] = before | _mask(number)
        if before != _ZERO:
            return
        number >>= 6


@subroutine
def discard(bits, number):
    """Take out a number; nothing changes where it is not in."""
    for level in range(bits.starts.size - 1):
        word = bits.starts[level] + (number >> 6)
        bits.words[word] &= ~_mask(number)
        if bits.words[word] != _ZERO:
            return
        number >>= 6


@subroutine
def first_from(bits, number):
    """The lowest member that is at least `number`, -1 where there is none."""
    levels = bits.starts.size - 1
    level = 0
    while level < levels and number >> 6 < bits.starts[level + 1] - bits.starts[level]:
        rest = bits.words[bits.starts[level] + (number >> 6)] & (_ALL << np.uint64(number & 63))
        if rest != _ZERO:
            return _descend(bits, level, (number >> 6 << 6) + _lowest_bit(rest))
        number = (number >> 6) + 1  # on the level above, the words after this one
        level += 1
    return -1


@subroutine
def _descend(bits, level, number):
    """The lowest member under bit `number` of a level."""
    while level > 0:
        level -= 1
        number = (number << 6) + _lowest_bit(bits.words[bits.starts[level] + number])
    return number


@subroutine
def _mask(number):
    return _ONE << np.uint64(number & 63)


@subroutine
def _lowest_bit(word):
    """The position of the lowest bit of a word that is not 0: of a power of two the exponent is exact."""
    return math.frexp(np.float64(word & ~(word - _ONE)))[1] - 1
