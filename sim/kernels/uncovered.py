"""A line of cells, ranges of which are covered and uncovered again: the longest stretch that is not covered.

A tree over the cells: of each node the longest uncovered stretch, and those at both of its ends. A range is made of the
few largest nodes that it fills, which are marked, not what is below them; ranges that are covered at a time must not
overlap. Covering and uncovering take O(log cells) steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import subroutine

_WIDTH, _FIRST, _LAST, _LONGEST = range(4)


class Line(NamedTuple):
    nodes: np.ndarray  # int64[2 * leaves, 4]: width; uncovered at the start, at the end, anywhere; 1 is the root
    covered: np.ndarray  # bool[2 * leaves] by a range that this node is one of the nodes of


def make_line(widths: np.ndarray) -> Line:
    """Nothing is covered. widths: int64[cells], each above 0: a cell of no width would not part what lies beside it."""
    leaves = 1 << max(0, int(widths.size - 1).bit_length())
    width = np.zeros(2 * leaves, np.int64)
    width[leaves : leaves + widths.size] = widths
    for level in reversed(range(leaves.bit_length() - 1)):
        at = 1 << level
        width[at : 2 * at] = width[2 * at : 4 * at].reshape(-1, 2).sum(axis=1)
    return Line(nodes=np.repeat(width[:, None], 4, axis=1), covered=np.zeros(2 * leaves, bool))


@subroutine
def longest(line):
    """Of the uncovered stretches."""
    return line.nodes[1, _LONGEST]


@subroutine
def mark(line, first, end, covers):
    """Cover the cells from `first` up to `end`, or uncover them, which must have been covered together."""
    leaves = line.covered.shape[0] // 2
    low, high = first + leaves, end + leaves
    while low < high:
        if low & 1:
            _set(line, low, covers)
            low += 1
        if high & 1:
            high -= 1
            _set(line, high, covers)
        low >>= 1
        high >>= 1
    _refresh_above(line, first + leaves)
    _refresh_above(line, end - 1 + leaves)


@subroutine
def _set(line, node, covers):
    line.covered[node] = covers
    _refresh(line, node)


@subroutine
def _refresh_above(line, node):
    node >>= 1
    while node > 0:
        _refresh(line, node)
        node >>= 1


@subroutine
def _refresh(line, node):
    nodes = line.nodes
    if line.covered[node]:
        nodes[node, _FIRST] = nodes[node, _LAST] = nodes[node, _LONGEST] = 0
        return
    width = nodes[node, _WIDTH]
    if 2 * node >= line.covered.shape[0]:
        nodes[node, _FIRST] = nodes[node, _LAST] = nodes[node, _LONGEST] = width
        return
    low, high = nodes[2 * node], nodes[2 * node + 1]
    nodes[node, _FIRST] = low[_FIRST] + (high[_FIRST] if low[_FIRST] == low[_WIDTH] else 0)
    nodes[node, _LAST] = high[_LAST] + (low[_LAST] if high[_LAST] == high[_WIDTH] else 0)
    nodes[node, _LONGEST] = max(low[_LONGEST], high[_LONGEST], low[_LAST] + high[_FIRST])
