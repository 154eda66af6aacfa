"""From requests to transactions of pages, through the write cache where there is one.

With the write cache a write is complete once its data is in DRAM; its programs start at once, and the DRAM holds what
waits for them. A page that is written again before its program has a place is merged into it; reads find what the DRAM
holds.
"""

from __future__ import annotations

from sim.kernels.compile import inlined, subroutine
from sim.kernels.event_heap import push
from sim.nand.host import IN_DRAM, event_code, pages_of, room_of
from sim.nand.index import find, put, remove
from sim.nand.mapping import look_up
from sim.nand.parameters import SECTOR_BYTES
from sim.nand.rows import append, count_bits, low_bits, pop
from sim.nand.state import (
    ACCEPTED,
    BITMAP,
    BUFFER_HAS_ROOM,
    BUFFER_HITS,
    BUFFER_SECTORS,
    BUFFERED_SECTORS,
    BYTES,
    CONTINUED,
    DRAM_FREE,
    DRAM_LATENCY_NS,
    DRAM_NS_PER_BYTE,
    DRAM_ROW,
    DRAM_ROW_NS,
    FIRST_SECTOR,
    FLASH_PAGE,
    FROM_HOST,
    FROM_LINK,
    HEAD,
    INTERNAL_PAGE_BYTES,
    IS_WRITE,
    LOGICAL_PAGES,
    NONE,
    NOW,
    PAGE_OWNER,
    PATH,
    PROGRAM,
    READ,
    SECTOR_COUNT,
    SECTORS,
    UNBUFFERED,
    WRITE_CACHE,
)
from sim.nand.transactions import new_transaction


@inlined
def _part(memory, request, number):
    """Of one page of a request: the logical page, how many of its sectors, their bitmap."""
    sectors, first = memory[SECTORS], memory[request + FIRST_SECTOR]
    page = first // sectors + number
    low = max(0, first - page * sectors)
    count = min(sectors, first + memory[request + SECTOR_COUNT] - page * sectors) - low
    return page % memory[LOGICAL_PAGES], count, low_bits(count) << low


@inlined
def _new_part(memory, op, request, logical, count, bitmap):
    size_bytes, most = count * SECTOR_BYTES, memory[INTERNAL_PAGE_BYTES]
    if most and request != NONE and memory[request + PATH] != FROM_LINK:
        size_bytes = min(size_bytes, most)
    one = new_transaction(memory, FROM_HOST, op, request, logical, size_bytes)
    memory[one + BITMAP] = bitmap
    return one


@subroutine
def begin(state, request):
    """Begin with as many pages of a request as may be under way; `go_on` does the rest of a larger one.

    Writes to the write cache wait for room in it, in order.
    """
    memory = state.memory
    if memory[request + IS_WRITE] and memory[WRITE_CACHE]:
        append(memory, request, UNBUFFERED)
        memory[BUFFER_HAS_ROOM] = 1
        return
    from_dram, dram_bytes = 0, 0
    is_write = memory[request + IS_WRITE]
    number = memory[request + ACCEPTED]
    last = room_of(memory, request)
    memory[request + ACCEPTED] = last
    while number < last:
        logical, count, bitmap = _part(memory, request, number)
        number += 1
        if memory[WRITE_CACHE]:
            held = find(memory, -1 - logical)
            if held != NONE and memory[held + BITMAP] & bitmap == bitmap:
                from_dram += 1
                dram_bytes += count * SECTOR_BYTES
                continue
        one = _new_part(memory, PROGRAM if is_write else READ, request, logical, count, bitmap)
        look_up(memory, one)
    if from_dram:
        memory[BUFFER_HITS] += from_dram
        _use_dram(state, request, from_dram, dram_bytes)


@inlined
def go_on(state):
    """Some pages of the request that is larger than the queue are done: others may begin."""
    memory = state.memory
    request = memory[CONTINUED]
    memory[CONTINUED] = NONE
    if memory[request + IS_WRITE] and memory[WRITE_CACHE]:
        memory[BUFFER_HAS_ROOM] = 1
    else:
        begin(state, request)


@subroutine
def accept_writes(state):
    """Take pages of the requests that wait into the write cache, in order, as long as it has room."""
    memory = state.memory
    memory[BUFFER_HAS_ROOM] = 0
    while memory[UNBUFFERED + HEAD] != NONE:
        request = memory[UNBUFFERED + HEAD]
        pages, room = pages_of(memory, request), room_of(memory, request)
        taken, dram_bytes = 0, 0
        while memory[request + ACCEPTED] < room:
            logical, count, bitmap = _part(memory, request, memory[request + ACCEPTED])
            if not _buffer(memory, logical, count, bitmap):
                break
            memory[request + ACCEPTED] += 1
            taken += 1
            dram_bytes += count * SECTOR_BYTES
        if taken:
            _use_dram(state, request, taken, dram_bytes)
        if memory[request + ACCEPTED] < pages:
            break
        pop(memory, UNBUFFERED)


@inlined
def _buffer(memory, logical, count, bitmap):
    """Hold a page in DRAM and start its program, or add it to one that waits; False where there is no room."""
    held = find(memory, -1 - logical)
    merged = held != NONE and memory[held + FLASH_PAGE] == NONE
    more = count_bits(bitmap & ~memory[held + BITMAP]) if merged else count
    if memory[BUFFERED_SECTORS] + more > memory[BUFFER_SECTORS]:
        return False
    memory[BUFFERED_SECTORS] += more
    if merged:
        memory[held + BITMAP] |= bitmap
        memory[held + BYTES] += more * SECTOR_BYTES
        return True
    one = _new_part(memory, PROGRAM, NONE, logical, count, bitmap)
    put(memory, -1 - logical, one)
    look_up(memory, one)
    return True


@subroutine
def unbuffer(memory, one):
    """A page of the write cache is on flash: its room is free for what waits."""
    key = -1 - memory[one + PAGE_OWNER]
    if find(memory, key) == one:
        remove(memory, key)
    memory[BUFFERED_SECTORS] -= count_bits(memory[one + BITMAP])
    memory[BUFFER_HAS_ROOM] = 1


@inlined
def _use_dram(state, request, pages, size_bytes):
    """Queue an access of the DRAM, with whose end so many pages of the request are done."""
    real = state.real
    rows = (size_bytes + state.memory[DRAM_ROW] - 1) // state.memory[DRAM_ROW]
    busy_ns = real[DRAM_LATENCY_NS] + size_bytes * real[DRAM_NS_PER_BYTE] + (rows - 1) * real[DRAM_ROW_NS]
    real[DRAM_FREE] = max(real[NOW], real[DRAM_FREE]) + busy_ns
    push(state.heap, real[DRAM_FREE], event_code(IN_DRAM + pages - 1, request))
