"""The host side of an SSD: the link, NVMe doorbells, fetched commands, completions.

The host rings a doorbell; the device fetches the command and, for a write, its data; it sends data of a read and the
completion, which the host answers with another doorbell. Messages queue at the link, one server a direction.
"""

from __future__ import annotations

from sim.kernels.compile import inlined, subroutine
from sim.kernels.event_heap import push
from sim.nand.parameters import SECTOR_BYTES
from sim.nand.rows import give_row, pop
from sim.nand.state import (
    ACCEPTED,
    CONTINUED,
    DONE,
    DOWN_FREE,
    FETCHED,
    FIRST_SECTOR,
    FREE_REQUEST,
    FROM_LINK,
    HEAD,
    INTERNAL_BUSY,
    INTERNAL_BY_LINK,
    INTERNAL_BYTES,
    INTERNAL_FREE,
    INTERNAL_NS_PER_BYTE,
    INTERNAL_PAGE_BYTES,
    IS_WRITE,
    LEFT,
    LINK_LANES,
    LINK_NS_PER_CYCLE,
    NONE,
    NOW,
    PAGES_IN_FLIGHT,
    PAGES_PER_REQUEST,
    PATH,
    QUEUE_DEPTH,
    READ_BYTES,
    READ_REQUESTS,
    SECTOR_COUNT,
    SECTORS,
    TICKET,
    TLP_OVERHEAD,
    TLP_PAYLOAD,
    UNFETCHED,
    UP_BUSY,
    UP_FREE,
    WRITE_BYTES,
    WRITE_REQUESTS,
)

# what may happen: the request, unit or channel that it happens to is the address in `event_code`
(
    DOORBELL,
    COMMAND_ASKED,
    COMMAND_HERE,
    DATA_ASKED,
    DATA_HERE,
    COMPLETED,
    COMMAND_SENT,
    UNIT_DONE,
    DATA_SENT,
    IN_DRAM,  # and one code more for each further page
) = range(10)
_CODES = 1 << 20
DOORBELL_BYTES, ENTRY_BYTES, COMPLETION_BYTES, ASKING_BYTES = 2, 64, 16, 4


@inlined
def event_code(kind, row):
    return kind + _CODES * row


@inlined
def kind_and_row(code):
    return code % _CODES, code // _CODES


@inlined
def link_ns(state, payload_bytes):
    memory = state.memory
    lanes = memory[LINK_LANES]
    if lanes == 0:
        return 0.0
    packets = (payload_bytes + memory[TLP_PAYLOAD] - 1) // memory[TLP_PAYLOAD]
    framed = payload_bytes + packets * memory[TLP_OVERHEAD]
    return (framed + lanes - 1) // lanes * state.real[LINK_NS_PER_CYCLE]


@inlined
def hold_link(state, way, payload_bytes):
    """Queue a message; return when it is across. way: UP_FREE towards the host, DOWN_FREE towards the device."""
    busy_ns = link_ns(state, payload_bytes)
    end_ns = max(state.real[NOW], state.real[way]) + busy_ns
    state.real[way] = end_ns
    state.real[way - UP_FREE + UP_BUSY] += busy_ns
    return end_ns


@subroutine
def send_down(state, payload_bytes, kind, request):
    """Queue a message to the device, whose arrival is the event."""
    push(state.heap, hold_link(state, DOWN_FREE, payload_bytes), event_code(kind, request))


@subroutine
def send_up(state, payload_bytes, kind, request):
    """Queue a message to the host, likewise."""
    push(state.heap, hold_link(state, UP_FREE, payload_bytes), event_code(kind, request))


@inlined
def fetch(state, request):
    state.memory[FETCHED] += 1
    send_up(state, ASKING_BYTES, COMMAND_ASKED, request)


@inlined
def pages_of(memory, request):
    """How many pages a request touches."""
    first, sectors = memory[request + FIRST_SECTOR], memory[SECTORS]
    return (first + memory[request + SECTOR_COUNT] - 1) // sectors - first // sectors + 1


@inlined
def held_pages(memory, request):
    """How many pages of a request may be under way at once: all of them, unless it is larger than the queue."""
    return min(pages_of(memory, request), memory[QUEUE_DEPTH] * PAGES_PER_REQUEST)


@inlined
def room_of(memory, request):
    """Up to which of its pages a request may go on: those are done, under way, or may be begun."""
    pages = pages_of(memory, request)
    return min(pages, pages - memory[request + LEFT] + held_pages(memory, request))


@subroutine
def pages_done(state, request, pages):
    """So many pages of the request are read, programmed or in DRAM; with the last one it is complete."""
    memory = state.memory
    memory[request + LEFT] -= pages
    if memory[request + LEFT]:
        if memory[request + ACCEPTED] < pages_of(memory, request):
            memory[CONTINUED] = request
        return
    size_bytes = memory[request + SECTOR_COUNT] * SECTOR_BYTES
    if memory[request + PATH] != FROM_LINK:
        _to_engine(state, request, size_bytes)
        return
    if memory[request + IS_WRITE]:
        memory[WRITE_REQUESTS] += 1
        memory[WRITE_BYTES] += size_bytes
    else:
        memory[READ_REQUESTS] += 1
        memory[READ_BYTES] += size_bytes
        hold_link(state, UP_FREE, size_bytes)
    memory[FETCHED] -= 1
    if memory[UNFETCHED + HEAD] != NONE:
        fetch(state, pop(memory, UNFETCHED))
    send_up(state, COMPLETION_BYTES, COMPLETED, request)


@inlined
def _to_engine(state, request, size_bytes):
    """Send what was read to the engine inside the device, over a path of its own or over the device's link."""
    memory, real = state.memory, state.real
    memory[INTERNAL_BYTES] += size_bytes
    if memory[INTERNAL_PAGE_BYTES]:
        size_bytes = min(size_bytes, pages_of(memory, request) * memory[INTERNAL_PAGE_BYTES])
    if memory[request + PATH] == INTERNAL_BY_LINK:
        send_up(state, size_bytes, COMPLETED, request)
        return
    busy_ns = size_bytes * real[INTERNAL_NS_PER_BYTE]
    real[INTERNAL_FREE] = max(real[NOW], real[INTERNAL_FREE]) + busy_ns
    real[INTERNAL_BUSY] += busy_ns
    push(state.heap, real[INTERNAL_FREE], event_code(COMPLETED, request))


@inlined
def complete(state, request):
    """The host has the completion, and says so with a doorbell; or the engine has its data."""
    memory = state.memory
    state.done_ticket[memory[DONE]] = memory[request + TICKET]
    state.done_ns[memory[DONE]] = state.real[NOW]
    memory[DONE] += 1
    memory[PAGES_IN_FLIGHT] -= held_pages(memory, request)
    if memory[request + PATH] == FROM_LINK:
        hold_link(state, DOWN_FREE, DOORBELL_BYTES)
    give_row(memory, FREE_REQUEST, request)
