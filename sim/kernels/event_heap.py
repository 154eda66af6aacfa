"""A binary heap of timed events over preallocated arrays: earliest first, in order of entry where times are equal.

`time_ns` float64[capacity], `entry` int64[capacity] (the order number that breaks ties) and `what` int64[capacity] hold
the events; `size` int64[2] the number of events and the next order number. The caller sees to it that there is room.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import kernel

SIZE, NEXT_ENTRY = 0, 1


class EventHeap(NamedTuple):
    time_ns: np.ndarray
    entry: np.ndarray
    what: np.ndarray
    size: np.ndarray


def make_heap(capacity: int) -> EventHeap:
    """An empty heap for `capacity` events."""
    entry, what = np.zeros(capacity, np.int64), np.zeros(capacity, np.int64)
    return EventHeap(np.zeros(capacity), entry, what, np.zeros(2, np.int64))


@kernel
def push(heap, time_ns, what):
    """Add an event."""
    child = heap.size[SIZE]
    entry = heap.size[NEXT_ENTRY]
    heap.size[SIZE] = child + 1
    heap.size[NEXT_ENTRY] = entry + 1
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


@kernel
def pop(heap):
    """Take out the earliest event and return what it is; its time was `heap.time_ns[0]`."""
    what = heap.what[0]
    last = heap.size[SIZE] - 1
    heap.size[SIZE] = last
    time_ns, entry = heap.time_ns[last], heap.entry[last]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= last:
            break
        if child + 1 < last and (
            heap.time_ns[child + 1] < heap.time_ns[child]
            or (heap.time_ns[child + 1] == heap.time_ns[child] and heap.entry[child + 1] < heap.entry[child])
        ):
            child += 1
        if time_ns < heap.time_ns[child] or (time_ns == heap.time_ns[child] and entry < heap.entry[child]):
            break
        heap.time_ns[parent] = heap.time_ns[child]
        heap.entry[parent] = heap.entry[child]
        heap.what[parent] = heap.what[child]
        parent = child
    heap.time_ns[parent] = time_ns
    heap.entry[parent] = entry
    heap.what[parent] = heap.what[last]
    return what
