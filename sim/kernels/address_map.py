"""A hash map from an address (any int64) to a small number: open addressing, linear probing, entries can be removed.

`keys` int64[slots] and `values` int32[slots] (-1: empty), slots a power of two and at least twice the entries. Removal
shifts back what follows (Knuth, The Art of Computer Programming 3, algorithm 6.4R), so that no slot is lost to it.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import subroutine

EMPTY = -1
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: neighbours get slots far apart
_TOP = np.uint64(32)


def make_map(room: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of an empty map for `room` entries."""
    slots = 1 << max(4, int(2 * room - 1).bit_length())
    return np.zeros(slots, np.int64), np.full(slots, EMPTY, np.int32)


@subroutine
def _home(key, mask):
    return np.int64((np.uint64(key) * _MULTIPLIER) >> _TOP) & mask


@subroutine
def find(keys, values, key):
    """The number at `key`, EMPTY where there is none."""
    mask = keys.size - 1
    slot = _home(key, mask)
    while values[slot] != EMPTY:
        if keys[slot] == key:
            return np.int64(values[slot])
        slot = (slot + 1) & mask
    return np.int64(EMPTY)


@subroutine
def put(keys, values, key, value):
    """Set the number at `key`, whether or not there is one."""
    mask = keys.size - 1
    slot = _home(key, mask)
    while values[slot] != EMPTY and keys[slot] != key:
        slot = (slot + 1) & mask
    keys[slot] = key
    values[slot] = value


@subroutine
def remove(keys, values, key):
    """Forget `key`, if it is there."""
    mask = keys.size - 1
    hole = _home(key, mask)
    while values[hole] != EMPTY and keys[hole] != key:
        hole = (hole + 1) & mask
    if values[hole] == EMPTY:
        return
    slot = hole
    while True:
        slot = (slot + 1) & mask
        if values[slot] == EMPTY:
            break
        home = _home(keys[slot], mask)
        if (slot - home) & mask >= (slot - hole) & mask:  # its home is not after the hole: it may move there
            keys[hole] = keys[slot]
            values[hole] = values[slot]
            hole = slot
    values[hole] = EMPTY
