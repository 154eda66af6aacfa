"""Nodes of linked lists that also carry what a policy with several queues knows of a block, all in one cache line.

`nodes` is uint32[blocks + lists, 4]: the two columns of `linked_list`, whose functions work on it, the low 32 bits of
the block's size, and a word that packs the place of the block (4 bits: which list, or what else the policy means by
it), a small counter (4 bits) and the high 24 bits of the size.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.linked_list import push_newest, unlink

SIZE, PACKED = 2, 3  # columns after NEWER and OLDER


def make_nodes(blocks: int, lists: int, place: int = 0) -> np.ndarray:
    """`lists` empty lists over `blocks` blocks of size 0, all at `place`."""
    nodes = np.zeros((blocks + lists, 4), np.uint32)
    nodes[blocks:, :SIZE] = np.arange(blocks, blocks + lists, dtype=np.uint32)[:, None]
    nodes[:blocks, PACKED] = place
    return nodes


@inlined
def size_of(nodes, block):
    return np.int64(nodes[block, SIZE]) | (np.int64(nodes[block, PACKED] >> 8) << 32)


@inlined
def set_size(nodes, block, size_bytes):
    nodes[block, SIZE] = size_bytes & 0xFFFFFFFF
    nodes[block, PACKED] = (np.int64(nodes[block, PACKED]) & 0xFF) | ((size_bytes >> 32) << 8)


@inlined
def place_of(nodes, block):
    return np.int64(nodes[block, PACKED]) & 15


@inlined
def set_place(nodes, block, place):
    nodes[block, PACKED] = (np.int64(nodes[block, PACKED]) & ~15) | place


@inlined
def counter_of(nodes, block):
    return (np.int64(nodes[block, PACKED]) >> 4) & 15


@inlined
def set_counter(nodes, block, count):
    nodes[block, PACKED] = (np.int64(nodes[block, PACKED]) & ~0xF0) | (count << 4)


@inlined
def push_node(nodes, used, first_list, block, place):
    """Put a block at the newest end of list number `place` (sentinels begin at `first_list`); used[place] grows."""
    push_newest(nodes, first_list + place, block)
    set_place(nodes, block, place)
    used[place] += size_of(nodes, block)


@inlined
def take_node(nodes, used, block, place):
    """Take a block off its list, which leaves it at `place`; the bytes of its list shrink."""
    unlink(nodes, block)
    used[place_of(nodes, block)] -= size_of(nodes, block)
    set_place(nodes, block, place)
