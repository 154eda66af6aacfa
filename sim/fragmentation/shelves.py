"""Puts objects of known lifetimes, one after the other, into gaps between those that are there already; compiled.

Two objects may share addresses where one is released before the other is allocated. What is placed is kept in order of
address, cut into shelves of some hundred, so that one pass over it sees all gaps of a lifetime from the lowest up, and
an insertion moves one shelf. A pass stops at a gap of exactly the size asked for, since none is tighter; otherwise it
takes time in proportion to what is placed: n objects take O(n^2) in the worst case.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import kernel, subroutine

_ROOM = 256  # objects of a shelf
_MOST = np.iinfo(np.int64).max


class Shelves(NamedTuple):
    address: np.ndarray  # int64[shelves, _ROOM], ascending on a shelf, and from one in `order` to the next
    end: np.ndarray
    born: np.ndarray
    dies: np.ndarray
    count: np.ndarray  # int64[shelves] objects on each
    earliest: np.ndarray  # int64[shelves] birth on each
    latest: np.ndarray  # int64[shelves] death on each
    order: np.ndarray  # int64[shelves] the shelves by address
    used: np.ndarray  # int64[1] shelves


def make_shelves(objects: int) -> Shelves:
    shelves = 2 + 2 * objects // _ROOM
    room, each = (shelves, _ROOM), np.zeros(shelves, np.int64)
    earliest = np.full(shelves, _MOST)
    used = np.ones(1, np.int64)
    rows = (np.zeros(room, np.int64) for _ in range(4))
    return Shelves(*rows, each, earliest, each.copy(), each.copy(), used)


@subroutine
def _gap(shelves, size, born, dies, tightest):
    """The lowest address of the tightest gap, or of the lowest, during a lifetime; above all else where there is none.

    A gap is tighter than all that is above what is placed.
    """
    top, best, least = np.int64(0), np.int64(-1), _MOST
    for rank in range(shelves.used[0]):
        shelf = shelves.order[rank]
        if shelves.earliest[shelf] >= dies or shelves.latest[shelf] <= born:
            continue
        for at in range(shelves.count[shelf]):
            if shelves.born[shelf, at] < dies and shelves.dies[shelf, at] > born:
                gap = shelves.address[shelf, at] - top
                if size <= gap < least:
                    best, least = top, gap
                    if gap == size or not tightest:
                        return best
                top = max(top, shelves.end[shelf, at])
    return best if best >= 0 else top


@subroutine
def _shelf_of(shelves, address):
    """The rank of the last shelf that begins at or below an address."""
    low, high = np.int64(0), shelves.used[0] - 1
    while low < high:
        middle = (low + high + 1) // 2
        if shelves.address[shelves.order[middle], 0] <= address:
            low = middle
        else:
            high = middle - 1
    return low


@subroutine
def _split(shelves, rank):
    """Move the upper half of a full shelf to a new one behind it."""
    old, new, half = shelves.order[rank], shelves.used[0], _ROOM // 2
    for later in range(shelves.used[0], rank + 1, -1):
        shelves.order[later] = shelves.order[later - 1]
    shelves.order[rank + 1] = new
    shelves.used[0] += 1
    for at in range(half, _ROOM):
        _put(shelves, new, at - half, *_row(shelves, old, at))
    shelves.count[old], shelves.count[new] = half, _ROOM - half
    for shelf in (old, new):
        shelves.earliest[shelf], shelves.latest[shelf] = _MOST, 0
        for at in range(half):
            _stretch(shelves, shelf, shelves.born[shelf, at], shelves.dies[shelf, at])


@subroutine
def _row(shelves, shelf, at):
    return shelves.address[shelf, at], shelves.end[shelf, at], shelves.born[shelf, at], shelves.dies[shelf, at]


@subroutine
def _put(shelves, shelf, at, address, end, born, dies):
    shelves.address[shelf, at], shelves.end[shelf, at] = address, end
    shelves.born[shelf, at], shelves.dies[shelf, at] = born, dies


@subroutine
def _stretch(shelves, shelf, born, dies):
    shelves.earliest[shelf] = min(shelves.earliest[shelf], born)
    shelves.latest[shelf] = max(shelves.latest[shelf], dies)


@subroutine
def _insert(shelves, address, end, born, dies):
    rank = _shelf_of(shelves, address)
    if shelves.count[shelves.order[rank]] == _ROOM:
        _split(shelves, rank)
        rank = _shelf_of(shelves, address)
    shelf = shelves.order[rank]
    at = shelves.count[shelf]
    while at > 0 and shelves.address[shelf, at - 1] > address:
        _put(shelves, shelf, at, *_row(shelves, shelf, at - 1))
        at -= 1
    _put(shelves, shelf, at, address, end, born, dies)
    shelves.count[shelf] += 1
    _stretch(shelves, shelf, born, dies)


@kernel
def place_all(shelves, order, size_bytes, born, dies, tightest, addresses):
    """Fill `addresses` of all objects, placed in `order`, each in the tightest gap of its lifetime or the lowest."""
    for number in order:
        size = size_bytes[number]
        address = _gap(shelves, size, born[number], dies[number], tightest)
        addresses[number] = address
        _insert(shelves, address, address + size, born[number], dies[number])
