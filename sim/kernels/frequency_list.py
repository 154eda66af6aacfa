"""Blocks in the order of how often they were accessed, each step in constant time (after Shah, Mitra and Matani 2010).

One list holds all blocks, from the least frequent to the most, of equals from the one that got its frequency first;
blocks of equal frequency form a run of it, called a group. A block that is accessed moves behind the run of the next
frequency. `nodes` is uint32[blocks + lists, 3]: a list of `linked_list` and the group of each block; the first sentinel
is the list's. Rows of blocks that are not on it, and further sentinels, are the owner's. `groups` is uint32[groups, 2]:
frequency and last block of each; of a free group its second column is the next free one. The last row is the
sentinel's: frequency 0 as no other's, and the first free group.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.linked_list import NEWER, OLDER, push_newest, unlink

GROUP = 2  # column of nodes after NEWER and OLDER
FREQUENCY, LAST = 0, 1  # columns of groups
# k groups at once are at least k (k + 1) / 2 accesses: these are enough for 8.6e9
MOST_GROUPS = 1 << 17


def make_frequency_list(blocks: int, lists: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The arrays nodes and groups of an empty list over `blocks` blocks, and room for other lists in nodes."""
    nodes = np.zeros((blocks + lists, 3), np.uint32)
    nodes[blocks:] = np.arange(blocks, blocks + lists, dtype=np.uint32)[:, None]
    spare = min(blocks, MOST_GROUPS)
    nodes[blocks, GROUP] = spare
    groups = np.zeros((spare + 1, 2), np.uint32)
    groups[:spare, LAST] = np.arange(1, spare + 1)
    return nodes, groups


@inlined
def _add_after(nodes, groups, after, block, frequency):
    """Put `block` behind the run that follows `after` if that run has `frequency`, else at once behind `after`."""
    spare = groups.shape[0] - 1
    own = np.int64(nodes[nodes[after, NEWER], GROUP])
    if groups[own, FREQUENCY] == frequency:
        after = np.int64(groups[own, LAST])
    else:
        own = np.int64(groups[spare, LAST])
        groups[spare, LAST] = groups[own, LAST]
        groups[own, FREQUENCY] = frequency
    nodes[block, GROUP] = own
    groups[own, LAST] = block
    push_newest(nodes, nodes[after, NEWER], block)  # on the old side of its newer neighbour


@inlined
def add_frequency(nodes, groups, queue, block, frequency):
    """Put a block on the list; takes as long as there are lesser frequencies."""
    after = np.int64(queue)
    while True:
        own = np.int64(nodes[nodes[after, NEWER], GROUP])
        if own == groups.shape[0] - 1 or groups[own, FREQUENCY] >= frequency:
            break
        after = np.int64(groups[own, LAST])
    _add_after(nodes, groups, after, block, frequency)


@inlined
def take_frequency(nodes, groups, block):
    """Take `block` off the list and out of its group, which is freed with its last member."""
    spare = groups.shape[0] - 1
    own = np.int64(nodes[block, GROUP])
    older = np.int64(nodes[block, OLDER])
    unlink(nodes, block)
    if groups[own, LAST] != block:
        return
    if nodes[older, GROUP] == own:
        groups[own, LAST] = older
    else:
        groups[own, LAST] = groups[spare, LAST]
        groups[spare, LAST] = own


@inlined
def raise_frequency(nodes, groups, block):
    """One access more."""
    own = np.int64(nodes[block, GROUP])
    frequency = groups[own, FREQUENCY] + 1
    after = np.int64(groups[own, LAST])
    if after == block:
        after = np.int64(nodes[block, OLDER])
    take_frequency(nodes, groups, block)
    _add_after(nodes, groups, after, block, frequency)


@inlined
def frequency_of(nodes, groups, block):
    return np.int64(groups[nodes[block, GROUP], FREQUENCY])


@inlined
def least_frequent(nodes, queue):
    """The block of least frequency, of equals the one that got it first; `queue` itself where the list is empty."""
    return np.int64(nodes[queue, NEWER])


@inlined
def last_least_frequent(nodes, groups, queue):
    """The block of least frequency, of equals the one that got it last; `queue` itself where the list is empty."""
    first = np.int64(nodes[queue, NEWER])
    return first if first == queue else np.int64(groups[nodes[first, GROUP], LAST])
