"""A hash index from an address (any int64) to the block at it: open addressing with linear probing.

`keys` int64[slots] and `values` int32[slots] (-1: empty), slots a power of two and at least twice the blocks.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import kernel, subroutine

_EMPTY = -1
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: neighbours get slots far apart
_TOP = np.uint64(32)


def make_address_index(address_of: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of an index in which address_of[b] finds b, with room for `room` addresses in all."""
    slots = 1 << max(4, int(2 * room - 1).bit_length())
    keys, values = np.zeros(slots, np.int64), np.full(slots, _EMPTY, np.int32)
    _fill(keys, values, np.ascontiguousarray(address_of, np.int64))
    return keys, values


@subroutine
def find_or_add(keys, values, address, new_block):
    """The block at `address`; where there is none, `new_block` is put there and returned."""
    mask = keys.size - 1
    slot = np.int64((np.uint64(address) * _MULTIPLIER) >> _TOP) & mask
    while values[slot] != _EMPTY:
        if keys[slot] == address:
            return np.int64(values[slot])
        slot = (slot + 1) & mask
    keys[slot] = address
    values[slot] = new_block
    return np.int64(new_block)


@kernel
def _fill(keys, values, address_of):
    for block in range(address_of.size):
        find_or_add(keys, values, address_of[block], block)
