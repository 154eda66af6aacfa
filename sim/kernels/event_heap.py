"""A binary heap of timed events over preallocated arrays: earliest first, in order of entry where times are equal.

`time_ns` float64[capacity], `entry` int64[capacity] (the order number that breaks ties) and `what` int64[capacity] hold
the events; `size` int64[3] the number of places in use, the next order number, and whether the first place is that of
an event already taken. Most events bring about another one, which then takes that place: one pass through the heap
instead of two. The caller sees to it that there is room.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine

SIZE, NEXT_ENTRY, TAKEN = 0, 1, 2


class EventHeap(NamedTuple):
    time_ns: np.ndarray
    entry: np.ndarray
    what: np.ndarray
    size: np.ndarray


def make_heap(capacity: int) -> EventHeap:
    """An empty heap for `capacity` events."""
    entry, what = np.zeros(capacity, np.int64), np.zeros(capacity, np.int64)
    return EventHeap(np.zeros(capacity), entry, what, np.zeros(3, np.int64))


@subroutine
def push(heap, time_ns, what):
    """Add an event."""
    entry = heap.size[NEXT_ENTRY]
    heap.size[NEXT_ENTRY] = entry + 1
    if heap.size[TAKEN]:
        heap.size[TAKEN] = 0
        _sink(heap, heap.size[SIZE], time_ns, entry, what)
        return
    child = heap.size[SIZE]
    heap.size[SIZE] = child + 1
    while child > 0:
        parent = (child - 1) >> 1
        if heap.time_ns[parent] <= time_ns:  # at equal times the parent entered first
            break
        heap.time_ns[child] = heap.time_ns[parent]
        heap.entry[child] = heap.entry[parent]
        heap.what[child] = heap.what[parent]
        child = parent
    heap.time_ns[child] = time_ns
    heap.entry[child] = entry
    heap.what[child] = what


@inlined
def next_event_ns(heap):
    """When the earliest event is; infinity where there is none."""
    if heap.size[TAKEN]:
        _close(heap)
    return heap.time_ns[0] if heap.size[SIZE] else np.inf


@inlined
def take(heap):
    """What the earliest event is, whose time `next_event_ns` has just told; it is an event no longer."""
    heap.size[TAKEN] = 1
    return heap.what[0]


@subroutine
def _close(heap):
    """Move the last event from its place to that of the one taken."""
    last = heap.size[SIZE] - 1
    heap.size[SIZE], heap.size[TAKEN] = last, 0
    _sink(heap, last, heap.time_ns[last], heap.entry[last], heap.what[last])


@inlined
def _sink(heap, size, time_ns, entry, what):
    """Put an event into the first of `size` places and move it down to where it belongs."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        if child + 1 < size:
            child += _sooner(heap, child + 1, heap.time_ns[child], heap.entry[child])
        if not _sooner(heap, child, time_ns, entry):
            break
        heap.time_ns[parent] = heap.time_ns[child]
        heap.entry[parent] = heap.entry[child]
        heap.what[parent] = heap.what[child]
        parent = child
    heap.time_ns[parent] = time_ns
    heap.entry[parent] = entry
    heap.what[parent] = what


@inlined
def _sooner(heap, place, time_ns, entry):
    """Whether the event at `place` comes before one of this time and entry. No branches: they would be guesses."""
    at_ns = heap.time_ns[place]
    return (at_ns < time_ns) | ((at_ns == time_ns) & (heap.entry[place] < entry))
