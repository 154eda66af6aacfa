"""Least frequently used: the block with the fewest accesses since it entered leaves, the least recently used of equals.

Every operation takes constant time (after Shah, Mitra and Matani 2010): one list holds all blocks in the order in which
they would leave, and blocks of equal frequency form a run of it, called a group. A block that is hit moves behind the
run of the next frequency. Frequency is forgotten on eviction. Agrees with libCacheSim's LFU to the last miss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.linked_list import NEWER, OLDER, oldest, push_newest, unlink
from sim.policy import EvictionPolicy

GROUP = 2  # column of nodes after NEWER and OLDER
FREQUENCY, LAST = 0, 1  # columns of groups


class State(NamedTuple):
    nodes: np.ndarray  # uint32[blocks + 1, 3]: one list, its oldest end leaves first; the group of each resident block
    groups: np.ndarray  # uint32[blocks + 1, 2]: frequency and last block of each; of a free group LAST is the next free
    queue: int  # the sentinel; also its group, whose frequency is 0 as no other's, and whose LAST is the first free one


def init(context):
    blocks = context.blocks
    nodes = np.zeros((blocks + 1, 3), np.uint32)
    nodes[blocks] = blocks
    groups = np.zeros((blocks + 1, 2), np.uint32)
    groups[:blocks, LAST] = np.arange(1, blocks + 1)
    return State(nodes=nodes, groups=groups, queue=blocks)


@inlined
def _add(state, after, block, frequency):
    """Put `block` behind the run that follows `after` if that run has `frequency`, else at once behind `after`."""
    nodes, groups = state.nodes, state.groups
    own = np.int64(nodes[nodes[after, NEWER], GROUP])
    if groups[own, FREQUENCY] == frequency:
        after = np.int64(groups[own, LAST])
    else:
        own = np.int64(groups[state.queue, LAST])
        groups[state.queue, LAST] = groups[own, LAST]
        groups[own, FREQUENCY] = frequency
    nodes[block, GROUP] = own
    groups[own, LAST] = block
    push_newest(nodes, nodes[after, NEWER], block)  # on the old side of its newer neighbour


@inlined
def _take(state, block):
    """Take `block` off the list and out of its group, which is freed with its last member."""
    nodes, groups = state.nodes, state.groups
    own = np.int64(nodes[block, GROUP])
    older = np.int64(nodes[block, OLDER])
    unlink(nodes, block)
    if groups[own, LAST] != block:
        return
    if nodes[older, GROUP] == own:
        groups[own, LAST] = older
    else:
        groups[own, LAST] = groups[state.queue, LAST]
        groups[state.queue, LAST] = own


@inlined
def on_hit(state, request):
    block = request.block
    own = np.int64(state.nodes[block, GROUP])
    frequency = state.groups[own, FREQUENCY] + 1
    after = np.int64(state.groups[own, LAST])
    if after == block:
        after = np.int64(state.nodes[block, OLDER])
    _take(state, block)
    _add(state, after, block, frequency)


@inlined
def on_insert(state, request):
    _add(state, state.queue, request.block, 1)


@inlined
def evict(state, request):
    victim = oldest(state.nodes, state.queue)
    _take(state, victim)
    return victim


@inlined
def remove(state, block):
    _take(state, block)


POLICY = EvictionPolicy(name="lfu", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)
