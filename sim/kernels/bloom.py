"""Bloom filters over block numbers (Bloom 1970): a set that may say yes of what is not in it, never no of what is.

The bits of a number are found by two hashes (Kirsch and Mitzenmacher, "Less hashing, same performance", 2006).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S31, _S32 = np.uint64(27), np.uint64(31), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ONE, _ZERO = np.uint64(1), np.uint64(0)


class Bloom(NamedTuple):
    words: np.ndarray  # uint64, a power of two of bits
    hashes: int  # bits a number


def make_bloom(items: int, bits_per_item: float) -> Bloom:
    """An empty filter with at least `bits_per_item` bits for each of `items` numbers, and as many hashes as suit it."""
    bits = 1 << max(6, math.ceil(math.log2(max(items * bits_per_item, 1))))
    return Bloom(np.zeros(bits // 64, np.uint64), max(1, round(bits_per_item * math.log(2))))


@inlined
def _hashes(number):
    spread = np.uint64(number + 1) * _MULTIPLIER
    spread = (spread ^ (spread >> _S27)) * _MIX1
    spread = (spread ^ (spread >> _S31)) * _MIX2
    spread ^= spread >> _S32
    return np.int64(spread & _LOW), np.int64(spread >> _S32) | 1


@subroutine
def bloom_has(bloom, number):
    """Whether the number is in, or looks as if."""
    at, step = _hashes(number)
    mask = bloom.words.size * 64 - 1
    for _ in range(bloom.hashes):
        bit = at & mask
        if bloom.words[bit >> 6] & (_ONE << np.uint64(bit & 63)) == _ZERO:
            return False
        at += step
    return True


@subroutine
def bloom_add(bloom, number):
    at, step = _hashes(number)
    mask = bloom.words.size * 64 - 1
    for _ in range(bloom.hashes):
        bit = at & mask
        bloom.words[bit >> 6] |= _ONE << np.uint64(bit & 63)
        at += step


@subroutine
def bloom_clear(bloom):
    for word in range(bloom.words.size):
        bloom.words[word] = _ZERO
