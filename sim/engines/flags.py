"""What is known of a block in every level, in one word a block, so that a look at a block costs one load.

`flags` is int32[blocks]: bit `level` says that the level holds the block, bit `DIRTY_SHIFT + level` that what it holds
is newer than below, and the last that level 0 holds it because of a prefetch and it was not asked for since.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined

MAX_LEVELS = 15
DIRTY_SHIFT = MAX_LEVELS
LEVELS = (1 << MAX_LEVELS) - 1  # of a word: the set of levels that hold the block
PREFETCHED = 1 << 2 * MAX_LEVELS


def make_flags(blocks: int, levels: int) -> np.ndarray:
    """Only the last level holds anything, and that is everything."""
    return np.full(blocks, 1 << levels - 1, np.int32)


def held_in(flags: np.ndarray, level: int) -> np.ndarray:
    """bool[blocks]: which blocks the level holds."""
    return (flags >> level & 1).astype(np.bool_)


def dirty_in(flags: np.ndarray, level: int) -> np.ndarray:
    """bool[blocks]: which blocks are newer in the level than below."""
    return (flags >> DIRTY_SHIFT + level & 1).astype(np.bool_)


@inlined
def holds(flags, block, level):
    return np.int64(flags[block]) >> level & 1 == 1


@inlined
def is_dirty(flags, block, level):
    return np.int64(flags[block]) >> (DIRTY_SHIFT + level) & 1 == 1


@inlined
def enter(flags, block, level):
    """The level holds the block from now on, as clean."""
    flags[block] = np.int64(flags[block]) | 1 << level


@inlined
def leave(flags, block, level):
    """The level does not hold the block any longer."""
    gone = (1 << DIRTY_SHIFT | 1) << level
    if level == 0:
        gone |= PREFETCHED
    flags[block] = np.int64(flags[block]) & ~gone


@inlined
def set_dirty(flags, block, level):
    flags[block] = np.int64(flags[block]) | 1 << (DIRTY_SHIFT + level)


@inlined
def set_clean(flags, block, level):
    flags[block] = np.int64(flags[block]) & ~(1 << (DIRTY_SHIFT + level))


@inlined
def highest_holder(flags, block, below):
    """The first level above `below` that holds the block, or -1."""
    for level in range(below):
        if holds(flags, block, level):
            return level
    return -1
