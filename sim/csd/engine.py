"""A computational drive from event to event: host requests go to its SSD as they are, operations are read in chunks.

An operation reads a range of bytes, by one of four routes. To the engine: chunks are read from flash, cross the
internal path (or the drive's link, where there is none), go through the engine's memory and the engine, and leave
results, which go up the link to the host. To the host: they are read over the link as any request of the host's, and
stay there, or go on to a GPU. To a peer: over the link to a GPU. What is behind the flash is first come, first served;
flash, channels and link are shared with the host's own requests. So many chunks are under way as the engine has places
for, each place being free again when the engine is done with its chunk.
"""

from __future__ import annotations

import numpy as np

from sim.csd.state import (
    ASKED,
    BY_LINK,
    BYTE_NS,
    CHUNK_BYTES,
    CHUNKS,
    DONE,
    ENGINE,
    ENGINE_BUSY,
    ENGINE_BYTES,
    ENGINE_FREE,
    ENGINE_NS_PER_BYTE,
    FIRST_BYTE,
    FLOP_NS,
    HOST,
    HOST_COPY_NS_PER_BYTE,
    HOST_GPU,
    LAST_RESULT,
    MEMORY_BUSY,
    MEMORY_BYTES,
    MEMORY_FREE,
    MEMORY_NS_PER_BYTE,
    NONE,
    OPERATIONS,
    PAGE_BYTES,
    PEER_NS_PER_BYTE,
    RETURNED,
    RETURNED_BYTES,
    RETURNED_PER_BYTE,
    ROUTE,
    ROUTE_BUSY,
    ROUTE_FREE,
    SIZE_BYTES,
    SLOTS,
    SSD_PAGE_BYTES,
    TICKET,
)
from sim.kernels.compile import inlined, subroutine
from sim.kernels.event_heap import next_event_ns, push, take
from sim.nand import ssd
from sim.nand.host import ENTRY_BYTES, hold_link
from sim.nand.state import DOWN_FREE, FROM_LINK, INTERNAL, INTERNAL_BY_LINK, NOW, UP_FREE

_BEGIN, _FINISH, _CHUNK = -2, -1, 0  # what happens; from _CHUNK on, the number of the chunk that is done
_advance_ssd = inlined(ssd.advance)
_next_of_ssd = inlined(ssd.next_event)


def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
    """Take in a request of the host's, as `sim.nand.ssd.submit`; ticket from 0."""
    return ssd.take_in(state.ssd, ticket, arrival_ns, address, size_bytes, is_write, FROM_LINK)


@subroutine
def begin_operation(state, ticket, route, address, size_bytes, flops_per_byte, returned_bytes):
    """Start an operation now; False where one is under way. ticket: from 0, unlike those of requests.

    flops_per_byte: what the engine computes of each; returned_bytes: what it sends to the host, as it goes on.
    """
    words, real = state.words, state.real
    if words[TICKET] != NONE:
        return False
    words[TICKET], words[ROUTE], words[FIRST_BYTE], words[SIZE_BYTES] = ticket, route, address, size_bytes
    words[ASKED] = words[DONE] = 0
    words[CHUNKS] = 0  # none is asked for before the command is here
    real[ENGINE_NS_PER_BYTE] = max(real[BYTE_NS], flops_per_byte * real[FLOP_NS])
    real[RETURNED_PER_BYTE] = returned_bytes / size_bytes if route == ENGINE else 0.0
    real[RETURNED], real[LAST_RESULT] = 0.0, 0.0
    push(state.heap, hold_link(state.ssd, DOWN_FREE, ENTRY_BYTES), _BEGIN)
    return True


def next_event(state):
    """When something happens next, ns; infinity where nothing is under way."""
    return _next_event(state)


@inlined
def _next_event(state):
    return min(_next_of_ssd(state.ssd), next_event_ns(state.heap))


def advance(state, until_ns):
    """Simulate all up to until_ns, as `sim.nand.ssd.advance`; operations, too, end with their tickets."""
    done = 0
    while True:
        at_ns = min(_next_event(state), until_ns)
        if at_ns == np.inf:
            break
        count = _advance_ssd(state.ssd, at_ns)
        for i in range(count):
            ticket = state.ssd.done_ticket[i]
            if ticket >= 0:
                state.done_ticket[done], state.done_ns[done] = ticket, state.ssd.done_ns[i]
                done += 1
            else:
                _arrived(state, -1 - ticket, at_ns)
        while next_event_ns(state.heap) <= at_ns:
            if _event(state, take(state.heap), at_ns):
                state.done_ticket[done], state.done_ns[done] = state.words[TICKET], at_ns
                state.words[TICKET] = NONE
                done += 1
        _ask(state)
        if at_ns == until_ns and _next_event(state) > until_ns:
            break
    for i in range(state.ssd.counts.size):
        state.counts[i] = state.ssd.counts[i]
    return done


@inlined
def _chunk_bytes(words, number):
    return min(words[CHUNK_BYTES], words[SIZE_BYTES] - number * words[CHUNK_BYTES])


@subroutine
def _ask(state):
    """Ask for further chunks as long as there is a place for one and the drive's queue takes it."""
    words = state.words
    while words[SLOTS] > 0 and words[ASKED] < words[CHUNKS]:
        number, path = words[ASKED], FROM_LINK
        if words[ROUTE] == ENGINE:
            path = INTERNAL_BY_LINK if words[BY_LINK] else INTERNAL
        address = words[FIRST_BYTE] + number * words[CHUNK_BYTES]
        now_ns, size_bytes = state.ssd.real[NOW], _chunk_bytes(words, number)
        if not ssd.take_in(state.ssd, -1 - number, now_ns, address, size_bytes, False, path):
            return
        words[SLOTS] -= 1
        words[ASKED] += 1


@subroutine
def _arrived(state, number, now_ns):
    """A chunk is off the drive: it queues at what it goes through next, whose end is an event."""
    words, real = state.words, state.real
    size_bytes = _chunk_bytes(words, number)
    end_ns = now_ns
    if words[ROUTE] == ENGINE:
        moved = size_bytes
        if words[PAGE_BYTES]:  # the engine is in the dies: its memory sees results alone
            pages = (size_bytes + words[SSD_PAGE_BYTES] - 1) // words[SSD_PAGE_BYTES]
            moved = min(size_bytes, pages * words[PAGE_BYTES])
        end_ns = _queue(real, MEMORY_FREE, MEMORY_BUSY, end_ns, moved * real[MEMORY_NS_PER_BYTE])
        end_ns = _queue(real, ENGINE_FREE, ENGINE_BUSY, end_ns, size_bytes * real[ENGINE_NS_PER_BYTE])
        state.counts[MEMORY_BYTES] += moved
        state.counts[ENGINE_BYTES] += size_bytes
    elif words[ROUTE] != HOST:
        ns_per_byte = real[HOST_COPY_NS_PER_BYTE] if words[ROUTE] == HOST_GPU else real[PEER_NS_PER_BYTE]
        end_ns = _queue(real, ROUTE_FREE, ROUTE_BUSY, end_ns, size_bytes * ns_per_byte)
    push(state.heap, end_ns, _CHUNK + number)


@inlined
def _queue(real, free, busy, now_ns, takes_ns):
    real[free] = max(real[free], now_ns) + takes_ns
    real[busy] += takes_ns
    return real[free]


@subroutine
def _event(state, what, now_ns):
    """The command is here, a chunk is done, or the last result is with the host; whether the operation has ended."""
    words, real = state.words, state.real
    if what == _FINISH:
        state.counts[OPERATIONS] += 1
        return True
    if what == _BEGIN:
        words[CHUNKS] = (words[SIZE_BYTES] + words[CHUNK_BYTES] - 1) // words[CHUNK_BYTES]
        return False
    words[SLOTS] += 1
    words[DONE] += 1
    if words[ROUTE] == ENGINE:
        before = np.int64(real[RETURNED])
        real[RETURNED] += _chunk_bytes(words, what - _CHUNK) * real[RETURNED_PER_BYTE]
        if words[DONE] == words[CHUNKS]:
            real[RETURNED] = np.round(words[SIZE_BYTES] * real[RETURNED_PER_BYTE])
        more = np.int64(real[RETURNED]) - before
        if more > 0:
            real[LAST_RESULT] = hold_link(state.ssd, UP_FREE, more)
            state.counts[RETURNED_BYTES] += more
    if words[DONE] == words[CHUNKS]:
        push(state.heap, max(now_ns, real[LAST_RESULT]), _FINISH)
    return False
