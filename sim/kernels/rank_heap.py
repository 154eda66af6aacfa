"""A binary heap of ranked calls over preallocated arrays: the lowest rank first, of equals the lowest `tie`, then call.

`rank` float64[capacity], `tie` int64[capacity] and `call` int64[capacity] hold the entries in heap order; `size`
int64[1] how many there are. An engine gives the order of arrival as the tie. The caller sees to it that there is room,
that no rank is NaN, and that nothing is taken out of an empty heap.

Unlike in `event_heap`, whose order of entry breaks ties, an entry may come back with the tie that it had, and ranks may
be told anew: of all entries (`rebuild`), or of the first one alone (`replace_first`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine


class RankHeap(NamedTuple):
    rank: np.ndarray
    tie: np.ndarray
    call: np.ndarray
    size: np.ndarray


def make_rank_heap(capacity: int) -> RankHeap:
    """An empty heap for `capacity` entries."""
    tie, call = np.zeros(capacity, np.int64), np.zeros(capacity, np.int64)
    return RankHeap(np.zeros(capacity), tie, call, np.zeros(1, np.int64))


@subroutine
def push(heap, rank, tie, call):
    """Add an entry."""
    child = heap.size[0]
    heap.size[0] = child + 1
    while child > 0:
        parent = (child - 1) >> 1
        if not _precedes(rank, tie, call, heap.rank[parent], heap.tie[parent], heap.call[parent]):
            break
        _put(heap, child, heap.rank[parent], heap.tie[parent], heap.call[parent])
        child = parent
    _put(heap, child, rank, tie, call)


@inlined
def peek(heap):
    """The call that is first; -1 where there is none."""
    return heap.call[0] if heap.size[0] else -1


@subroutine
def pop(heap):
    """Take out the call that is first."""
    first, last = heap.call[0], heap.size[0] - 1
    heap.size[0] = last
    if last > 0:
        _sink(heap, 0, last, heap.rank[last], heap.tie[last], heap.call[last])
    return first


@subroutine
def replace_first(heap, rank):
    """Tell the rank of the call that is first anew; the call that is first then."""
    _sink(heap, 0, heap.size[0], rank, heap.tie[0], heap.call[0])
    return heap.call[0]


@subroutine
def rebuild(heap):
    """Put all entries in order after their ranks were told anew, in `heap.rank[:size]` beside `heap.call[:size]`."""
    size = heap.size[0]
    for place in range((size >> 1) - 1, -1, -1):
        _sink(heap, place, size, heap.rank[place], heap.tie[place], heap.call[place])


@inlined
def _precedes(rank, tie, call, other_rank, other_tie, other_call):
    """No branch: which of two entries is first cannot be predicted."""
    before = (tie < other_tie) | ((tie == other_tie) & (call < other_call))
    return (rank < other_rank) | ((rank == other_rank) & before)


@inlined
def _put(heap, place, rank, tie, call):
    heap.rank[place] = rank
    heap.tie[place] = tie
    heap.call[place] = call


@inlined
def _sink(heap, place, size, rank, tie, call):
    """Put an entry at the free `place` of `size`, or as far below it as its rank asks."""
    child = 2 * place + 1
    while child < size:
        other = min(child + 1, size - 1)
        child += _precedes(
            heap.rank[other], heap.tie[other], heap.call[other], heap.rank[child], heap.tie[child], heap.call[child]
        )
        if not _precedes(heap.rank[child], heap.tie[child], heap.call[child], rank, tie, call):
            break
        _put(heap, place, heap.rank[child], heap.tie[child], heap.call[child])
        place = child
        child = 2 * place + 1
    _put(heap, place, rank, tie, call)
