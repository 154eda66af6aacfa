"""An ordered index: entries (key, second, value) in order of key, then second, as a B+ tree over preallocated arrays.

Every operation takes O(log n) steps, each within one node of at most FANOUT entries that lie side by side in memory;
a balanced binary tree takes four times as many cache misses (Bayer and McCreight 1972; Comer 1979, "The ubiquitous
B-tree"). An inner node holds for each child its highest (key, second) and the greatest `second` below it, its peak, so
that the first entry whose `second` is large enough is found in one descent, too.

`seek`, `seek_before`, `seek_peak`, `seek_peak_from` leave the path to an entry in the index; `found`, `found_key`,
`found_second`, `replace_found`, `remove_found` act on that entry, and are to be called before anything else changes
the index.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import outlined, subroutine

FANOUT = 24
_THIN = FANOUT // 4  # a node with fewer entries is combined with a neighbour
_KEY, _SECOND, _VALUE, _PEAK = 0, 1, 2, 3  # rows of a node; in an inner node `value` is the child
_ROWS = 4
_ROOT, _HEIGHT, _SPARE, _UNUSED, _PATH = 0, 1, 2, 3, 4  # the path is a node and a slot a level
_NONE = -1
_UNKNOWN = -1
_LEVELS = 24  # the tree would hold _THIN ** 23 entries


class Index(NamedTuple):
    nodes: np.ndarray  # int64[nodes, _ROWS, FANOUT]
    counts: np.ndarray  # entries of each node; of a node given back, the next such node
    cursor: np.ndarray  # root, levels above the leaves, node given back last, first node never used, path from the root


def make_index(entries: int) -> Index:
    """An empty index for at most `entries` entries."""
    nodes = entries // (_THIN - 1) + 2 + _LEVELS  # each but the root holds _THIN entries or more
    return Index(
        nodes=np.empty((nodes, _ROWS, FANOUT), np.int64),
        counts=np.zeros(nodes, np.int64),
        cursor=np.array([0, 0, _NONE, 1] + [0, 0] * _LEVELS),  # node 0 is the empty root
    )


@outlined
def seek(index, key, second):
    """Go to the first entry that is not below (key, second); False where there is none."""
    node = index.cursor[_ROOT]
    height = index.cursor[_HEIGHT]
    for level in range(height):
        slot = min(_rank(index.nodes, index.counts, node, key, second), index.counts[node] - 1)
        node = _step(index, level, node, slot)
    slot = _rank(index.nodes, index.counts, node, key, second)
    _step(index, height, node, slot)
    return slot < index.counts[node]


@outlined
def seek_peak(index, least):
    """Go to the first entry whose `second` is at least `least`; False where there is none."""
    return _descend_to_peak(index, 0, index.cursor[_ROOT], 0, least)


@outlined
def seek_peak_from(index, key, least):
    """As `seek_peak`, but only among the entries whose key is at least `key`."""
    seek(index, key, 0)
    height = index.cursor[_HEIGHT]
    for level in range(height, -1, -1):  # the entries right of the path, the nearest first
        node, slot = _at(index.cursor, level)
        if _descend_to_peak(index, level, node, slot + (level < height), least):
            return True
    return False


@subroutine
def _descend_to_peak(index, level, node, slot, least):
    """Go to the first entry, from that slot of a node on, whose `second` is at least `least`; False where none is."""
    for lower in range(level, index.cursor[_HEIGHT] + 1):
        count = index.counts[node]
        while slot < count and index.nodes[node, _PEAK, slot] < least:
            slot += 1
        if slot >= count:
            return False
        node, slot = _step(index, lower, node, slot), 0
    return True


@outlined
def seek_before(index, key, second):
    """Go to the last entry that is below (key, second); False where there is none."""
    seek(index, key, second)
    for level in range(index.cursor[_HEIGHT], -1, -1):
        node, slot = _at(index.cursor, level)
        if slot > 0:
            node = _step(index, level, node, slot - 1)
            for below in range(level + 1, index.cursor[_HEIGHT] + 1):
                node = _step(index, below, node, index.counts[node] - 1)
            return True
    return False


@subroutine
def found_key(index):
    """The key of the entry that was sought."""
    leaf, slot = _at(index.cursor, index.cursor[_HEIGHT])
    return index.nodes[leaf, _KEY, slot]


@subroutine
def found_second(index):
    """The second of the entry that was sought."""
    leaf, slot = _at(index.cursor, index.cursor[_HEIGHT])
    return index.nodes[leaf, _SECOND, slot]


@subroutine
def found(index):
    """The value of the entry that was sought."""
    leaf, slot = _at(index.cursor, index.cursor[_HEIGHT])
    return index.nodes[leaf, _VALUE, slot]


@outlined
def replace_found(index, key, second):
    """Change key and second of the entry that was sought to ones that leave it where it is in the order."""
    leaf, slot = _at(index.cursor, index.cursor[_HEIGHT])
    before = index.nodes[leaf, _SECOND, slot]
    _write(index.nodes, leaf, slot, key, second, index.nodes[leaf, _VALUE, slot])
    _refresh(index, before, second)


@outlined
def insert(index, key, second, value):
    """Add an entry; (key, second) is not in the index yet."""
    if index.counts[index.cursor[_ROOT]] == FANOUT:
        _grow(index)
    node = index.cursor[_ROOT]
    height = index.cursor[_HEIGHT]
    for level in range(height):
        slot = min(_rank(index.nodes, index.counts, node, key, second), index.counts[node] - 1)
        if index.counts[index.nodes[node, _VALUE, slot]] == FANOUT:  # on the way down: the parent has room
            _split(index, node, slot)
            slot += _below(index.nodes, node, slot, key, second)
        node = _step(index, level, node, slot)
    slot = _rank(index.nodes, index.counts, node, key, second)
    _open(index.nodes, index.counts, node, slot, 1)
    _write(index.nodes, node, slot, key, second, value)
    _refresh(index, 0, second)


@outlined
def remove_found(index):
    """Take out the entry that was sought."""
    height = index.cursor[_HEIGHT]
    leaf, slot = _at(index.cursor, height)
    before, after = index.nodes[leaf, _SECOND, slot], 0
    _close(index.nodes, index.counts, leaf, slot, 1)
    for level in range(height - 1, -1, -1):
        parent, slot = _at(index.cursor, level)
        changed = True
        if index.counts[index.nodes[parent, _VALUE, slot]] < _THIN:
            _combine(index, parent, slot)
            before, after = _UNKNOWN, 0
        else:
            changed, before, after = _summarise(index.nodes, index.counts, parent, slot, before, after)
        if not changed:
            return
    _shrink(index)


@subroutine
def highest_key(index):
    """The key of the last entry, 0 where there is none."""
    root = index.cursor[_ROOT]
    last = index.counts[root] - 1
    return index.nodes[root, _KEY, last] if last >= 0 else 0


@subroutine
def highest_peak(index):
    """The greatest `second` of all entries, 0 where there is none."""
    return _peak(index.nodes, index.counts, index.cursor[_ROOT])


@subroutine
def _below(nodes, node, slot, key, second):
    """Is the entry at `slot` below (key, second)?"""
    own = nodes[node, _KEY, slot]
    return own < key or (own == key and nodes[node, _SECOND, slot] < second)


@subroutine
def _rank(nodes, counts, node, key, second):
    """How many entries of the node are below (key, second)."""
    slot, count = 0, counts[node]
    for i in range(count):  # counting takes no branch, and its loads do not wait for one another as a bisection's do
        slot += nodes[node, _KEY, i] < key
    while slot < count and _below(nodes, node, slot, key, second):
        slot += 1
    return slot


@subroutine
def _at(cursor, level):
    """Node and slot of the path at a level."""
    return cursor[_PATH + 2 * level], cursor[_PATH + 2 * level + 1]


@subroutine
def _step(index, level, node, slot):
    """Note the step in the path and give the child; below a leaf that number means nothing, and none may be there."""
    index.cursor[_PATH + 2 * level] = node
    index.cursor[_PATH + 2 * level + 1] = slot
    return index.nodes[node, _VALUE, min(slot, FANOUT - 1)]


@subroutine
def _peak(nodes, counts, node):
    peak = 0
    for slot in range(counts[node]):
        peak = max(peak, nodes[node, _PEAK, slot])
    return peak


@subroutine
def _write(nodes, leaf, slot, key, second, value):
    nodes[leaf, _KEY, slot] = key
    nodes[leaf, _SECOND, slot] = second
    nodes[leaf, _VALUE, slot] = value
    nodes[leaf, _PEAK, slot] = second


@subroutine
def _summarise(nodes, counts, parent, slot, before, after):
    """Set what the parent says of the child at `slot`, in which one entry's peak went from `before` to `after`.

    Returns whether that changed anything, and how the child's peak changed in turn. The child is only read
    through where the highest of its peaks may have gone.
    """
    child = nodes[parent, _VALUE, slot]
    last = counts[child] - 1
    key, second, was = nodes[child, _KEY, last], nodes[child, _SECOND, last], nodes[parent, _PEAK, slot]
    peak = max(was, after)
    if before == _UNKNOWN or (before == was and after < was):
        peak = _peak(nodes, counts, child)
    if nodes[parent, _KEY, slot] == key and nodes[parent, _SECOND, slot] == second and peak == was:
        return False, was, peak
    nodes[parent, _KEY, slot], nodes[parent, _SECOND, slot], nodes[parent, _PEAK, slot] = key, second, peak
    return True, was, peak


@subroutine
def _refresh(index, before, after):
    """Summarise up the path, as far as anything changes; the peak of the entry at its end went from `before`."""
    changed = True
    for level in range(index.cursor[_HEIGHT] - 1, -1, -1):
        parent, slot = _at(index.cursor, level)
        changed, before, after = _summarise(index.nodes, index.counts, parent, slot, before, after)
        if not changed:
            return


@subroutine
def _copy(nodes, source, start, target, at, count):
    """Copy entries from one node to another, or within one towards its start."""
    for i in range(count):
        for row in range(_ROWS):
            nodes[target, row, at + i] = nodes[source, row, start + i]


@subroutine
def _open(nodes, counts, node, slot, width):
    """Move the entries from `slot` on to make room for `width` more."""
    count = counts[node]
    for i in range(count - 1, slot - 1, -1):
        for row in range(_ROWS):
            nodes[node, row, i + width] = nodes[node, row, i]
    counts[node] = count + width


@subroutine
def _close(nodes, counts, node, slot, width):
    """Take out the `width` entries from `slot` on."""
    _copy(nodes, node, slot + width, node, slot, counts[node] - slot - width)
    counts[node] -= width


@subroutine
def _new_node(index):
    node = index.cursor[_SPARE]
    if node == _NONE:
        node = index.cursor[_UNUSED]
        index.cursor[_UNUSED] += 1
    else:
        index.cursor[_SPARE] = index.counts[node]
    index.counts[node] = 0
    return node


@subroutine
def _give_back_node(index, node):
    index.counts[node] = index.cursor[_SPARE]
    index.cursor[_SPARE] = node


@subroutine
def _grow(index):
    """Put a root with one child, the full old root, on top, and split that child."""
    root = _new_node(index)
    index.nodes[root, _VALUE, 0] = index.cursor[_ROOT]
    index.counts[root] = 1
    index.cursor[_ROOT] = root
    index.cursor[_HEIGHT] += 1
    _split(index, root, 0)


@subroutine
def _shrink(index):
    """Take away a root with one child."""
    while index.cursor[_HEIGHT] > 0 and index.counts[index.cursor[_ROOT]] == 1:
        root = index.cursor[_ROOT]
        index.cursor[_ROOT] = index.nodes[root, _VALUE, 0]
        index.cursor[_HEIGHT] -= 1
        _give_back_node(index, root)


@subroutine
def _split(index, parent, slot):
    """Move the upper half of the full child at `slot` to a new child after it; the parent has room."""
    half = FANOUT // 2
    child, upper = index.nodes[parent, _VALUE, slot], _new_node(index)
    _copy(index.nodes, child, half, upper, 0, FANOUT - half)
    index.counts[child], index.counts[upper] = half, FANOUT - half
    _open(index.nodes, index.counts, parent, slot + 1, 1)
    index.nodes[parent, _VALUE, slot + 1] = upper
    _summarise(index.nodes, index.counts, parent, slot, _UNKNOWN, 0)
    _summarise(index.nodes, index.counts, parent, slot + 1, _UNKNOWN, 0)


@subroutine
def _combine(index, parent, slot):
    """Merge the thin child at `slot` with a neighbour, or even the two out where one node cannot hold both."""
    left = min(slot, index.counts[parent] - 2)  # the parent has two children: a root with one is taken away
    low, high = index.nodes[parent, _VALUE, left], index.nodes[parent, _VALUE, left + 1]
    both = index.counts[low] + index.counts[high]
    if both <= FANOUT:
        _move_down(index, low, high, index.counts[high])
        _close(index.nodes, index.counts, parent, left + 1, 1)
        _give_back_node(index, high)
        _summarise(index.nodes, index.counts, parent, left, _UNKNOWN, 0)
        return
    excess = index.counts[low] - both // 2
    if excess > 0:
        _open(index.nodes, index.counts, high, 0, excess)
        _copy(index.nodes, low, index.counts[low] - excess, high, 0, excess)
        index.counts[low] -= excess
    else:
        _move_down(index, low, high, -excess)
    _summarise(index.nodes, index.counts, parent, left, _UNKNOWN, 0)
    _summarise(index.nodes, index.counts, parent, left + 1, _UNKNOWN, 0)


@subroutine
def _move_down(index, low, high, count):
    """Move the first `count` entries of `high` to the end of `low`."""
    _copy(index.nodes, high, 0, low, index.counts[low], count)
    index.counts[low] += count
    _close(index.nodes, index.counts, high, 0, count)
