"""A set of small integers that finds its largest member below a bound in a few steps: a tree of 32-bit words.

`words` is one uint32 array of all levels, `starts` int64[levels] where each begins. A bit of level 0 is a member; a bit
of any other level says that a word of the level below is not zero.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined


def make_bitmap(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The arrays words and starts of an empty set over 0 to size - 1."""
    starts, total, level = [], 0, size
    while True:
        level = -(-level // 32)
        starts.append(total)
        total += level
        if level <= 1:
            return np.zeros(total, np.uint32), np.array(starts, np.int64)


@inlined
def bit_is_set(words, item):
    return (np.int64(words[item >> 5]) >> (item & 31)) & 1 == 1


@inlined
def set_bit(words, starts, item):
    for level in range(starts.size):
        at = starts[level] + (item >> 5)
        old = np.int64(words[at])
        words[at] = old | (np.int64(1) << (item & 31))
        if old != 0:
            return
        item >>= 5


@inlined
def clear_bit(words, starts, item):
    for level in range(starts.size):
        at = starts[level] + (item >> 5)
        left = np.int64(words[at]) & ~(np.int64(1) << (item & 31))
        words[at] = left
        if left != 0:
            return
        item >>= 5


@inlined
def top_bit(word):
    """Place of the highest bit of a word of 32 bits that is not zero."""
    place = 0
    if word >= 1 << 16:
        word >>= 16
        place += 16
    if word >= 1 << 8:
        word >>= 8
        place += 8
    if word >= 1 << 4:
        word >>= 4
        place += 4
    if word >= 1 << 2:
        word >>= 2
        place += 2
    if word >= 2:
        place += 1
    return place


@inlined
def last_at_or_below(words, starts, item):
    """The largest member that is not above `item`, -1 where there is none."""
    level = 0
    while level < starts.size and item >= 0:
        word = np.int64(words[starts[level] + (item >> 5)]) & ((np.int64(2) << (item & 31)) - 1)
        if word != 0:
            return _descend(words, starts, level, ((item >> 5) << 5) + top_bit(word))
        item = (item >> 5) - 1
        level += 1
    return -1


@inlined
def _descend(words, starts, level, item):
    """The largest member below bit `item` of `level`, which is set."""
    while level > 0:
        level -= 1
        item = (item << 5) + top_bit(np.int64(words[starts[level] + item]))
    return item
