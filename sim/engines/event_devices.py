"""Devices simulated event by event (`sim.policy.EventModel`) as servers of the timed engine.

A transfer that reaches such a device is handed over, or waits in front of it, first come first served, while the queue
that it needs is full; when the device says that it is done, it goes on. What is large is cut into chunks, which travel
as transfers of their own, so that a later server begins before the first has given the last byte; the whole has
arrived with its last chunk, and its time is divided as that one's.

How many devices there are is known to the compiler (the length of a tuple): an engine without any has no code for them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, known_natural

NOBODY = -1
DRIVEN = 0xFFFFFFFF  # in a stage of a route, in place of a model's row: its server is one of these devices

CAPACITY_BYTES, FIRST_WAITING, LAST_WAITING, UNDER_WAY = range(4)  # columns of `queues`
NEXT_NS, BUSY_NS, SINCE_NS = range(3)  # columns of `clocks`
PARENT, CHUNK_BYTES, LEFT, OFFSET, NEXT_WAITING = range(5)  # columns of `chunks`


class EventDevices(NamedTuple):
    """n devices; p transfers under way at most, r routes, B blocks."""

    model: object  # a stack of event models, one level a device
    states: tuple
    queues: np.ndarray  # int64[n, 4] CAPACITY_BYTES, the first and last transfer that waits, how many it has under way
    clocks: np.ndarray  # float64[n, 3] when it next does something; how long it has had work, and since when
    chunk_bytes: np.ndarray  # int64[r] into which what takes this route is cut; 0: it meets no such device
    most_chunks: int  # of one transfer
    place_of: np.ndarray  # int64[B] where a block begins among all blocks; in a device, modulo its capacity
    chunks: (
        np.ndarray
    )  # int64[p, 5] of transfers: what it is a chunk of; into what it is to be cut, and how many of them
    #   are under way; the first byte of a chunk; the next transfer that waits for the same device
    sent_ns: np.ndarray  # float64[p] when the device at hand took it


def with_more_slots(devices: EventDevices, slots: int) -> EventDevices:
    """The same devices with room for as many transfers more."""
    chunks = np.concatenate([devices.chunks, np.full((slots, devices.chunks.shape[1]), NOBODY)])
    return devices._replace(chunks=chunks, sent_ns=np.concatenate([devices.sent_ns, np.zeros(slots)]))


@inlined
def most_slots(devices, starts):
    """How many transfers one event may start, of which `starts` have a place on a list."""
    return starts if len(devices.states) == 0 else starts * (1 + devices.most_chunks)


@inlined
def is_driven(devices, row_of_model):
    """Whether the server of a stage is one of these."""
    return len(devices.states) > 0 and row_of_model == DRIVEN


@inlined
def begin(devices, slot, route, size_bytes):
    """A transfer takes this slot and will take this route."""
    if len(devices.states) > 0:
        chunk_bytes = devices.chunk_bytes[route]
        devices.chunks[slot, PARENT], devices.chunks[slot, OFFSET] = NOBODY, 0
        devices.chunks[slot, CHUNK_BYTES] = chunk_bytes if size_bytes > chunk_bytes else 0


@inlined
def is_cut(devices, slot):
    """Whether a transfer travels in chunks."""
    return len(devices.states) > 0 and devices.chunks[slot, CHUNK_BYTES] > 0


@inlined
def is_chunk(devices, slot):
    return len(devices.states) > 0 and devices.chunks[slot, PARENT] >= 0


@inlined
def soonest(devices):
    """The device that does something first, and when; NOBODY and infinity where none will."""
    which, at_ns = np.int64(NOBODY), np.inf
    if len(devices.states) > 0:
        for number in range(len(devices.clocks)):
            next_ns = devices.clocks[number, NEXT_NS]
            if next_ns < at_ns:
                which, at_ns = np.int64(number), next_ns
    return which, at_ns


@inlined
def wait_in_front(devices, number, slot):
    """Let a transfer wait for a device, behind those that do."""
    queues, chunks = devices.queues, devices.chunks
    chunks[slot, NEXT_WAITING] = NOBODY
    last = queues[number, LAST_WAITING]
    if last < 0:
        queues[number, FIRST_WAITING] = slot
    else:
        chunks[known_natural(last), NEXT_WAITING] = slot
    queues[number, LAST_WAITING] = slot


@inlined
def hand_over(devices, number, slot, now_ns, block, size_bytes, is_write):
    """Offer a transfer to a device that is at now_ns; whether it was taken."""
    capacity = devices.queues[number, CAPACITY_BYTES]
    address = (devices.place_of[block] + devices.chunks[slot, OFFSET]) % capacity
    address = max(np.int64(0), min(address, capacity - size_bytes))
    if not devices.model.submit(devices.states, number, slot, now_ns, address, size_bytes, is_write):
        return False
    devices.sent_ns[slot] = now_ns
    if devices.queues[number, UNDER_WAY] == 0:
        devices.clocks[number, SINCE_NS] = now_ns
    devices.queues[number, UNDER_WAY] += 1
    return True


@inlined
def first_waiting(devices, number):
    """The transfer that waits longest for a device, or NOBODY."""
    return devices.queues[number, FIRST_WAITING] if len(devices.states) > 0 else np.int64(NOBODY)


@inlined
def forget_first_waiting(devices, number):
    queues = devices.queues
    queues[number, FIRST_WAITING] = devices.chunks[known_natural(queues[number, FIRST_WAITING]), NEXT_WAITING]
    if queues[number, FIRST_WAITING] < 0:
        queues[number, LAST_WAITING] = NOBODY


@inlined
def count_done(devices, number, done, now_ns):
    """Note that so many of a device's transfers are done."""
    devices.queues[number, UNDER_WAY] -= done
    if done > 0 and devices.queues[number, UNDER_WAY] == 0:
        devices.clocks[number, BUSY_NS] += now_ns - devices.clocks[number, SINCE_NS]


@inlined
def plan_next(devices, number):
    """Ask a device when it next does something."""
    devices.clocks[number, NEXT_NS] = devices.model.next_event(devices.states, number)


def busy_ns(devices: EventDevices, now_ns: float) -> np.ndarray:
    """float64[n]: how long each device had any work until now."""
    working = devices.queues[:, UNDER_WAY] > 0
    return devices.clocks[:, BUSY_NS] + np.where(working, now_ns - devices.clocks[:, SINCE_NS], 0.0)
