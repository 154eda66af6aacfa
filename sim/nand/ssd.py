"""An NVMe SSD with NAND flash, simulated event by event: `submit`, `advance`, `next_event` over one device's state.

`sim.nand.host` is the link and its messages, `write_cache` the way from requests to pages, `mapping` the mapping cache
and garbage collection over the tables of `ftl`, `units` channels and flash. Requests are submitted
in order of arrival, each before `advance` has passed its arrival; it does not matter how often `advance` is called.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.event_heap import next_event_ns, push, take
from sim.nand.ftl import translation_row
from sim.nand.host import (
    ASKING_BYTES,
    COMMAND_ASKED,
    COMMAND_HERE,
    COMMAND_SENT,
    COMPLETED,
    DATA_ASKED,
    DATA_HERE,
    DATA_SENT,
    DOORBELL,
    DOORBELL_BYTES,
    ENTRY_BYTES,
    IN_DRAM,
    UNIT_DONE,
    complete,
    event_code,
    fetch,
    held_pages,
    kind_and_row,
    pages_done,
    pages_of,
    send_down,
    send_up,
)
from sim.nand.mapping import collect, collection_step, dispatch, mapping_arrived
from sim.nand.parameters import SECTOR_BYTES
from sim.nand.rows import append, give_row, pop, take_row
from sim.nand.state import (
    ACCEPTED,
    ARRIVAL,
    ARRIVALS,
    BUFFER_HAS_ROOM,
    BUSY,
    CONTINUED,
    DEPARTING,
    DONE,
    FETCH_LIMIT,
    FETCHED,
    FIRST_SECTOR,
    FREE_REQUEST,
    FREE_TRANSACTION,
    FROM_COLLECTION,
    FROM_HOST,
    FROM_LINK,
    HEAD,
    IS_WRITE,
    LEFT,
    LOGICAL_PAGES,
    NEXT,
    NONE,
    NOW,
    OF_REQUEST,
    OP,
    PAGE_OWNER,
    PAGES_IN_FLIGHT,
    PAGES_PER_REQUEST,
    PATH,
    QUEUE_DEPTH,
    READ,
    READY,
    SECTOR_COUNT,
    SECTORS,
    SHORT_PLANES,
    SOURCE,
    THEN,
    TICKET,
    UNFETCHED,
)
from sim.nand.transactions import enqueue, touch
from sim.nand.units import data_sent, serve_touched, unit_done
from sim.nand.write_cache import accept_writes, begin, go_on, unbuffer


def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
    """Take in a request of whole sectors; False, with nothing changed, where the queue is full.

    The queue holds `queue_depth` requests of 17 pages each on average; a larger request takes all of it, and streams
    through it. An address beyond the capacity wraps around; a request that begins or ends inside a sector takes all
    of it.
    """
    return take_in(state, ticket, arrival_ns, address, size_bytes, is_write, FROM_LINK)


@subroutine
def take_in(state, ticket, arrival_ns, address, size_bytes, is_write, path):
    """As `submit`, of a request that comes from the host or from an engine inside the device, which only reads."""
    memory = state.memory
    request = memory[FREE_REQUEST]
    if request == NONE:
        return False
    first = address // SECTOR_BYTES
    memory[request + SECTOR_COUNT] = max(1, (address + size_bytes + SECTOR_BYTES - 1) // SECTOR_BYTES - first)
    memory[request + FIRST_SECTOR] = first % (memory[LOGICAL_PAGES] * memory[SECTORS])
    held = held_pages(memory, request)
    if memory[PAGES_IN_FLIGHT] + held > memory[QUEUE_DEPTH] * PAGES_PER_REQUEST:
        return False
    take_row(memory, FREE_REQUEST)
    memory[request + TICKET], memory[request + IS_WRITE], memory[request + PATH] = ticket, is_write, path
    memory[request + LEFT], memory[request + ACCEPTED] = pages_of(memory, request), 0
    state.real[request + ARRIVAL] = max(arrival_ns, state.real[NOW])
    memory[PAGES_IN_FLIGHT] += held
    append(memory, request, ARRIVALS)
    return True


def next_event(state):
    """When something happens next, ns; infinity where nothing is under way."""
    first = state.memory[ARRIVALS + HEAD]
    at_ns = next_event_ns(state.heap)
    return at_ns if first == NONE else min(at_ns, state.real[first + ARRIVAL])


def advance(state, until_ns):
    """Simulate all that happens up to until_ns, that moment included; return how many requests it completed.

    They are in state.done_ticket[:n] and state.done_ns[:n], in order of completion, until the next call.
    """
    state.memory[DONE] = 0
    while step(state, until_ns):
        pass
    if until_ns < np.inf:
        state.real[NOW] = max(state.real[NOW], until_ns)
    return state.memory[DONE]


@subroutine
def step(state, until_ns):
    """Simulate the next event, if it is not after until_ns; whether it was not."""
    memory, real = state.memory, state.real
    at_ns = next_event_ns(state.heap)
    first = memory[ARRIVALS + HEAD]
    if first != NONE and real[first + ARRIVAL] <= at_ns:
        if real[first + ARRIVAL] > until_ns:
            return False
        real[NOW] = real[first + ARRIVAL]
        pop(memory, ARRIVALS)
        if memory[first + PATH] == FROM_LINK:
            send_down(state, DOORBELL_BYTES, DOORBELL, first)
            return True
        push(state.heap, real[NOW], event_code(DATA_HERE, first))  # it needs no message
        return True
    if at_ns > until_ns or at_ns == np.inf:
        return False
    real[NOW] = at_ns
    kind, row = kind_and_row(take(state.heap))
    served = np.int64(NONE)
    if kind == UNIT_DONE:
        served = unit_done(state, row)
    elif kind == DATA_SENT:
        served = data_sent(state, row)
    elif kind == COMMAND_SENT:
        memory[row + BUSY] = 0
        touch(memory, row)
    else:
        _host_event(state, kind, row)
    while served != NONE:
        following = memory[served + NEXT]
        _served(state, served)
        served = following
    _settle(state)
    serve_touched(state)
    return True


@inlined
def _served(state, one):
    """A transaction is complete: what waited for it goes on."""
    memory = state.memory
    source, then, request = memory[one + SOURCE], memory[one + THEN], memory[one + OF_REQUEST]
    if source == FROM_COLLECTION:
        collection_step(state, one)
        return
    if then != NONE:
        enqueue(memory, then)
    elif request != NONE:
        pages_done(state, request, 1)
    elif source == FROM_HOST:
        unbuffer(memory, one)
    elif memory[one + OP] == READ:
        mapping_arrived(memory, memory[one + PAGE_OWNER])
    else:
        memory[translation_row(memory, memory[one + PAGE_OWNER]) + DEPARTING] -= 1
    give_row(memory, FREE_TRANSACTION, one)


@inlined
def _settle(state):
    """Do all that can be done at once: give flash pages to what is ready, collect garbage, fill the write cache.

    Each of them may bring about more of the others. They are called from here alone rather than from each other: Numba
    optimises a function again in each that calls it, over as many levels as there are.
    """
    memory = state.memory
    while True:
        if memory[READY + HEAD] != NONE:
            one = pop(memory, READY)
            if dispatch(state, one):
                pages_done(state, memory[one + OF_REQUEST], 1)
                give_row(memory, FREE_TRANSACTION, one)
        elif memory[SHORT_PLANES] != NONE:
            collect(state)
        elif memory[CONTINUED] != NONE:
            go_on(state)
        elif memory[BUFFER_HAS_ROOM]:
            accept_writes(state)
        else:
            return


@inlined
def _host_event(state, kind, request):
    memory = state.memory
    if kind == DOORBELL:
        if memory[FETCHED] < memory[FETCH_LIMIT]:
            fetch(state, request)
        else:
            append(memory, request, UNFETCHED)
    elif kind == COMMAND_ASKED:
        send_down(state, ENTRY_BYTES, COMMAND_HERE, request)
    elif kind == COMMAND_HERE:
        if memory[request + IS_WRITE]:
            send_up(state, ASKING_BYTES, DATA_ASKED, request)
        else:
            begin(state, request)
    elif kind == DATA_ASKED:
        send_down(state, memory[request + SECTOR_COUNT] * SECTOR_BYTES, DATA_HERE, request)
    elif kind == DATA_HERE:
        begin(state, request)
    elif kind == COMPLETED:
        complete(state, request)
    else:
        pages_done(state, request, kind - IN_DRAM + 1)
