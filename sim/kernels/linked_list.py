"""Doubly linked lists threaded through blocks: several lists share one array, each block is on at most one.

`links` is uint32[blocks + lists, 2]: row `b` holds the newer and the older neighbour of block `b`; row
`blocks + k` is the sentinel of list `k`, whose "older" end is the head (newest) and "newer" end the tail (oldest).
Circular lists with a sentinel need no branch for an empty list or an end, and unsigned links no wrap-around check.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import subroutine

NEWER, OLDER = 0, 1


def make_lists(blocks: int, lists: int = 1) -> np.ndarray:
    """`lists` empty lists over `blocks` blocks."""
    links = np.zeros((blocks + lists, 2), np.uint32)
    sentinels = np.arange(blocks, blocks + lists, dtype=np.uint32)
    links[blocks:] = sentinels[:, None]
    return links


@subroutine
def push_newest(links, sentinel, block):
    """Put `block`, which is on no list, at the newest end of the list of `sentinel`."""
    head = links[sentinel, OLDER]
    links[block, NEWER] = sentinel
    links[block, OLDER] = head
    links[head, NEWER] = block
    links[sentinel, OLDER] = block


@subroutine
def push_oldest(links, sentinel, block):
    """Put `block`, which is on no list, at the oldest end of the list of `sentinel`."""
    tail = links[sentinel, NEWER]
    links[block, OLDER] = sentinel
    links[block, NEWER] = tail
    links[tail, OLDER] = block
    links[sentinel, NEWER] = block


@subroutine
def unlink(links, block):
    """Take `block` off the list that it is on."""
    newer, older = links[block, NEWER], links[block, OLDER]
    links[newer, OLDER] = older
    links[older, NEWER] = newer


@subroutine
def oldest(links, sentinel):
    """The block at the oldest end, or `sentinel` itself where the list is empty."""
    return np.int64(links[sentinel, NEWER])


@subroutine
def newest(links, sentinel):
    """The block at the newest end, or `sentinel` itself where the list is empty."""
    return np.int64(links[sentinel, OLDER])
