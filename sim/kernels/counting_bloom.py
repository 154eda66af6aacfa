"""A counting Bloom filter as in libCacheSim's W-TinyLFU: how often a number was added, or more (Bonomi et al. 2006).

A number has a counter for each hash, found by double hashing with two XXH64 values (Collet, the xxHash specification),
of 32 bits each. Adding to it raises them all, one that two of its hashes share twice; its estimate is the smallest.

libCacheSim makes 14 counters for each unit of the capacity, also where that is bytes. Here those that a trace's numbers
can reach are kept by hash, where these are fewer.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine

ERROR_RATE = 0.001
SEEDS = (0x12345678, 0x12344321)
_LN2_SQUARED = 0.480453013918201
_MOST_COUNTERS = (1 << 31) - 1
_LOW = np.uint64(0xFFFFFFFF)
_PRIME_1, _PRIME_2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
_PRIME_3, _PRIME_4 = np.uint64(0x165667B19E3779F9), np.uint64(0x85EBCA77C2B2AE63)
_START_1, _START_2 = ((seed + 0x27D4EB2F165667C5 + 8) & (1 << 64) - 1 for seed in SEEDS)  # seed, fifth prime, length
_START_1, _START_2 = np.uint64(_START_1), np.uint64(_START_2)
_S27, _S29, _S31, _S32, _S33, _S37 = (np.uint64(bits) for bits in (27, 29, 31, 32, 33, 37))
_SCATTER = np.uint64(0x9E3779B97F4A7C15)


class CountingBloom(NamedTuple):
    counts: np.ndarray  # uint32[slots]
    owner: np.ndarray  # uint32[slots]: the counter that has the slot, plus one; 0 for none; empty where all have one
    counters: int
    hashes: int


def make_counting_bloom(items: int, numbers: int) -> CountingBloom:
    """An empty filter with libCacheSim's counters for `items`, over at most `numbers` different numbers.

    items wrap around at 2**31, as they do there, and are at least enough for 20 counters.
    """
    items = (items + (1 << 31)) % (1 << 32) - (1 << 31)
    per_item = -math.log(ERROR_RATE) / _LN2_SQUARED
    hashes = math.ceil(math.log(2) * per_item)
    counters = min(math.ceil(per_item * items), _MOST_COUNTERS)
    if counters < hashes:
        counters = 2 * hashes
    slots = 1 << (2 * hashes * max(numbers, 1) - 1).bit_length()
    if counters <= 2 * slots:
        return CountingBloom(np.zeros(counters, np.uint32), np.zeros(0, np.uint32), counters, hashes)
    return CountingBloom(np.zeros(slots, np.uint32), np.zeros(slots, np.uint32), counters, hashes)


@inlined
def _xxh64(number, start):
    """The low 32 bits of XXH64 of a number's eight bytes."""
    lane = np.uint64(number) * _PRIME_2
    lane = ((lane << _S31) | (lane >> _S33)) * _PRIME_1
    spread = start ^ lane
    spread = ((spread << _S27) | (spread >> _S37)) * _PRIME_1 + _PRIME_4
    spread = (spread ^ (spread >> _S33)) * _PRIME_2
    spread = (spread ^ (spread >> _S29)) * _PRIME_3
    return (spread ^ (spread >> _S32)) & _LOW


@inlined
def _slot(bloom, counter):
    """Where a counter is, or would be."""
    if bloom.owner.size == 0:
        return np.int64(counter)
    mask = bloom.owner.size - 1
    slot = np.int64((counter * _SCATTER) >> _S32) & mask
    while bloom.owner[slot] != 0 and bloom.owner[slot] != counter + np.uint64(1):
        slot = (slot + 1) & mask
    return slot


@subroutine
def bloom_estimate(bloom, number):
    """How often the number was added of late; may be too high."""
    at, step, counters = _xxh64(number, _START_1), _xxh64(number, _START_2), np.uint64(bloom.counters)
    least = np.int64(_LOW)
    for _ in range(bloom.hashes):
        least = min(least, np.int64(bloom.counts[_slot(bloom, at % counters)]))
        at = (at + step) & _LOW
    return least


@subroutine
def bloom_count(bloom, number):
    """Add the number once more."""
    at, step, counters = _xxh64(number, _START_1), _xxh64(number, _START_2), np.uint64(bloom.counters)
    for _ in range(bloom.hashes):
        counter = at % counters
        slot = _slot(bloom, counter)
        if bloom.owner.size:
            bloom.owner[slot] = counter + np.uint64(1)
        bloom.counts[slot] += np.uint32(1)
        at = (at + step) & _LOW


@subroutine
def bloom_halve(bloom):
    """Halve every counter."""
    for slot in range(bloom.counts.size):
        bloom.counts[slot] >>= np.uint32(1)
