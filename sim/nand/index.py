"""Where a mapping entry or a page of the write cache is, by logical page: a hash table in an SSD's memory.

Open addressing with linear probing in slots of two words, key and address (0: empty), at most half of them taken.
Removal shifts back what follows (Knuth, The Art of Computer Programming 3, algorithm 6.4R). A page of the write cache
has the key -1 - page.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.nand.state import INDEX_MASK, INDEX_ROWS, NONE

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: neighbours get slots far apart
_TOP = np.uint64(32)


@inlined
def _home(memory, key):
    return np.int64((np.uint64(key) * _MULTIPLIER) >> _TOP) & memory[INDEX_MASK]


@inlined
def _slot_of(memory, key):
    """Number of the slot that has the key, or of the empty one where it would be."""
    mask, first = memory[INDEX_MASK], memory[INDEX_ROWS]
    slot = _home(memory, key)
    while memory[first + 2 * slot + 1] and memory[first + 2 * slot] != key:
        slot = (slot + 1) & mask
    return slot


@subroutine
def find(memory, key):
    """The address at `key`, NONE where there is none."""
    address = memory[memory[INDEX_ROWS] + 2 * _slot_of(memory, key) + 1]
    return address if address else np.int64(NONE)


@subroutine
def put(memory, key, address):
    """Set the address at `key`, whether or not there is one."""
    at = memory[INDEX_ROWS] + 2 * _slot_of(memory, key)
    memory[at] = key
    memory[at + 1] = address


@subroutine
def remove(memory, key):
    """Forget `key`, if it is there."""
    mask, first = memory[INDEX_MASK], memory[INDEX_ROWS]
    hole = _slot_of(memory, key)
    if memory[first + 2 * hole + 1] == 0:
        return
    slot = (hole + 1) & mask
    while memory[first + 2 * slot + 1]:
        home = _home(memory, memory[first + 2 * slot])
        if (slot - home) & mask >= (slot - hole) & mask:  # its home is not after the hole: it may move there
            memory[first + 2 * hole] = memory[first + 2 * slot]
            memory[first + 2 * hole + 1] = memory[first + 2 * slot + 1]
            hole = slot
        slot = (slot + 1) & mask
    memory[first + 2 * hole + 1] = 0
