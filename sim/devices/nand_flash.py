"""An NVMe SSD in time: host link, commands, mapping cache, write cache, flash channels, chips, garbage collection.

What a command goes through. The host rings a doorbell; the device fetches the command and, for a write, its data, over
a link with one server a direction (`NandParameters.link_ns`). Each logical page of it becomes a flash transaction. Its
mapping entry is looked up in a cache of entries (Gupta et al., DFTL, ASPLOS 2009): a miss reads the translation page
from flash, and all that ask for entries of that page meanwhile wait for the same read; a dirty entry that is evicted
takes all dirty entries of its translation page with it, in one read (of what stays) and one program.

Transactions wait at a unit: a die, or a whole chip where dies do not work at once. A unit takes one command at a time:
a read holds it until the last byte has left. Each channel moves one thing at a time: data read first (translation pages
before the host's, before garbage collection's), then new commands, the units in turn. A unit prefers mapping reads, then
host reads, then programs, then erases; garbage collection comes after the host until a plane of the unit is nearly out
of free blocks, then before it. Transactions to the same page number in several planes of a die make one multi-plane
command. A read may suspend a program or an erase that has long to go.

With the write cache a write is complete once its data is in DRAM; programs start at once and the DRAM holds what waits
for them. A page that is written again before its program has begun is merged; reads find what the DRAM holds.

Seam: `submit`, `advance`, `next_event`. Requests are submitted in order of arrival, each before `advance` has passed its
arrival. It does not matter how often `advance` is called.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.devices.ftl import (
    COLLECTED,
    COLLECTING,
    ENTRIES,
    FREE_COUNT,
    HARD_THRESHOLD,
    HOST,
    NONE,
    PAGES,
    PREFILLED_SECTORS,
    SECTORS,
    TO_MOVE,
    TRANSLATION,
    TRANSLATION_PAGES,
    Ftl,
    begin_collection,
    choose_victim,
    free_victim,
    has_room,
    make_ftl,
    map_host_page,
    map_translation_page,
    move_page,
    needs_collection,
    plane_of,
)
from sim.devices.nand_parameters import SECTOR_BYTES, NandParameters
from sim.kernels.address_map import EMPTY, find, make_map, put, remove
from sim.kernels.compile import inlined, subroutine
from sim.kernels.event_heap import EventHeap, make_heap, next_event_ns, push, take
from sim.kernels.linked_list import make_lists, oldest, push_newest, unlink

_PAGES_PER_REQUEST = 17  # that a full queue of requests may have on average: 128 KiB, not aligned, in pages of 8 KiB
_MOST_PLANES = 16  # of one multi-plane command

# whole numbers of the configuration
(
    CHANNELS,
    UNITS_PER_CHANNEL,
    PLANES_PER_UNIT,
    PLANES_PER_DIE,
    CACHED_ENTRIES,
    WRITE_CACHE,
    BUFFER_SECTORS,
    FETCH_LIMIT,
    SUSPEND_PROGRAM,
    SUSPEND_ERASE,
    MOST_SUSPENDS,
    KINDS_OF_PAGE,
    TRANSLATION_READ_BYTES,
    LINK_LANES,
    TLP_PAYLOAD,
    TLP_OVERHEAD,
    DRAM_ROW,
    _CONFIG,
) = range(18)
# times of the configuration, ns; READ_NS and PROGRAM_NS have one for each kind of page
(
    CHANNEL_NS_PER_BYTE,
    LINK_NS_PER_CYCLE,
    DRAM_NS_PER_BYTE,
    DRAM_LATENCY_NS,
    DRAM_ROW_NS,
    ERASE_NS,
    SUSPEND_COMMAND_NS,
    SUSPEND_PROGRAM_NS,
    SUSPEND_ERASE_NS,
    LEAST_PROGRAM_LEFT_NS,
    LEAST_ERASE_LEFT_NS,
    READ_NS,
) = range(12)
PROGRAM_NS = READ_NS + 3
COMMAND_NS = PROGRAM_NS + 3  # of a read of one plane; three rows of _MOST_PLANES
_TIMES = COMMAND_NS + 3 * _MOST_PLANES
# clock
NOW, UP_FREE, DOWN_FREE, DRAM_FREE, _CLOCK = range(5)
# tally
(
    DONE,
    FREE_REQUESTS,
    FREE_TRANSACTIONS,
    PAGES_IN_FLIGHT,
    FIRST_ARRIVAL,
    LAST_ARRIVAL,
    FETCHED,
    FIRST_UNFETCHED,
    LAST_UNFETCHED,
    FIRST_UNBUFFERED,
    LAST_UNBUFFERED,
    BUFFERED_SECTORS,
    ENTRIES_CACHED,
    TOUCHED,
    READ_REQUESTS,
    WRITE_REQUESTS,
    READ_BYTES,
    WRITE_BYTES,
    MAPPING_HITS,
    MAPPING_MISSES,
    PAGES_READ,
    PAGES_PROGRAMMED,
    BLOCKS_ERASED,
    READ_COMMANDS,
    PROGRAM_COMMANDS,
    ERASE_COMMANDS,
    MULTI_PLANE_COMMANDS,
    SUSPENSIONS,
    WRITES_STALLED,
    BUFFER_HITS,
    _TALLY,
) = range(31)
# request
TICKET, FIRST_SECTOR, SECTOR_COUNT, IS_WRITE, LEFT, ACCEPTED, FOLLOWING, _REQUEST = range(8)
# transaction
NEXT, SOURCE, OP, OF_REQUEST, PAGE_OWNER, FLASH_PAGE, PLANE, BYTES, BITMAP, THEN, _TRANSACTION = range(11)
# where a transaction is from, and what it does; a unit has a queue for each pair
FROM_MAPPING, FROM_HOST, FROM_COLLECTION = range(3)
READ, PROGRAM, ERASE = range(3)
_QUEUES = 9
HEAD, TAIL = range(2)
# channel; from OUT on the head and tail of the data that waits to leave, for each source
BUSY, TURN, MOVING, QUEUED, IS_TOUCHED, OUT = range(6)
_CHANNEL = OUT + 6
# unit
IDLE, WORKING, SENDING = range(3)
DOING, OPERATION, ACTIVE, TO_SEND, SUSPENDED, SUSPENDED_OPERATION, TIMES_SUSPENDED, _UNIT = range(8)
FINISH, REMAINING = range(2)
# events
(
    DOORBELL,
    COMMAND_ASKED,
    COMMAND_HERE,
    DATA_ASKED,
    DATA_HERE,
    IN_DRAM,
    COMPLETED,
    COMMAND_SENT,
    UNIT_DONE,
    DATA_SENT,
    _EVENTS,
) = range(11)


class NandState(NamedTuple):
    """One device. Lists are threaded through the rows of their elements, NONE at the end."""

    config: np.ndarray  # int64[_CONFIG]
    times: np.ndarray  # float64[_TIMES]
    clock: np.ndarray  # float64[_CLOCK]
    tally: np.ndarray  # int64[_TALLY]
    done_ticket: np.ndarray  # int64[requests] what the last advance completed
    done_ns: np.ndarray  # float64[requests]
    request: np.ndarray  # int64[requests, _REQUEST]
    arrival_ns: np.ndarray  # float64[requests]
    free_request: np.ndarray  # int64[requests] a stack
    transaction: np.ndarray  # int64[transactions, _TRANSACTION]
    free_transaction: np.ndarray  # int64[transactions] a stack
    queue: np.ndarray  # int64[units, _QUEUES, 2] transactions that wait for the unit, by operation and source
    channel: np.ndarray  # int64[channels, _CHANNEL]
    unit: np.ndarray  # int64[units, _UNIT]
    unit_ns: np.ndarray  # float64[units, 2] FINISH of what it does, REMAINING of what is suspended
    stalled: np.ndarray  # int64[planes, 2] programs that wait for a free block
    arriving: np.ndarray  # int64[translation pages, 2] transactions that wait for the translation page
    departing: np.ndarray  # int32[translation pages] programs of the translation page under way
    dirty: np.ndarray  # int32[translation pages] a list of its dirty entries in the mapping cache
    entry_page: np.ndarray  # int64[cached entries] the logical page of each entry of the mapping cache
    entry_dirty: np.ndarray  # int32[cached entries] next on the list of dirty ones, itself at the end, NONE if clean
    entry_links: np.ndarray  # uint32[cached entries + 1, 2] their order of use
    entry_keys: np.ndarray  # int64[] where in the mapping cache a logical page is
    entry_values: np.ndarray  # int32[]
    buffer_keys: np.ndarray  # int64[] which program of a logical page the write cache holds
    buffer_values: np.ndarray  # int32[]
    heap: EventHeap
    ftl: Ftl


def make_state(parameters: NandParameters) -> NandState:
    """A brand-new device at time 0; `sim.devices.ftl.fill` and `fill_steady` precondition its `ftl`."""
    p = parameters
    dies = p.channels * p.chips_per_channel * p.dies_per_chip
    units = dies if p.die_interleaving else p.channels * p.chips_per_channel
    host_pages = _most_pages_in_flight(p)
    buffered = p.write_buffer_bytes // SECTOR_BYTES if p.write_cache else 0
    # a page of the host: itself, a read of what it leaves, of its mapping, a read and a program of an evicted one's
    transactions = 5 * (host_pages + buffered) + p.planes * (3 * p.pages_per_block + 1)
    translation_pages = 0 if p.mapping_cache_bytes is None else p.translation_pages
    entries = p.cached_entries if translation_pages else 0
    tally = np.zeros(_TALLY, np.int64)
    tally[[FIRST_ARRIVAL, LAST_ARRIVAL, FIRST_UNFETCHED, LAST_UNFETCHED, FIRST_UNBUFFERED, LAST_UNBUFFERED]] = NONE
    tally[FREE_REQUESTS], tally[FREE_TRANSACTIONS] = p.queue_depth, transactions
    channel = np.full((p.channels, _CHANNEL), NONE, np.int64)
    channel[:, :OUT] = 0
    unit = np.full((units, _UNIT), NONE, np.int64)
    unit[:, [DOING, OPERATION, TO_SEND, TIMES_SUSPENDED]] = 0
    entry_keys, entry_values = make_map(max(1, entries))
    buffer_keys, buffer_values = make_map(max(1, buffered))
    return NandState(
        config=_config(p, units),
        times=_times(p),
        clock=np.zeros(_CLOCK),
        tally=tally,
        done_ticket=np.zeros(p.queue_depth, np.int64),
        done_ns=np.zeros(p.queue_depth),
        request=np.zeros((p.queue_depth, _REQUEST), np.int64),
        arrival_ns=np.zeros(p.queue_depth),
        free_request=np.arange(p.queue_depth, dtype=np.int64)[::-1].copy(),
        transaction=np.zeros((transactions, _TRANSACTION), np.int64),
        free_transaction=np.arange(transactions, dtype=np.int64)[::-1].copy(),
        queue=np.full((units, _QUEUES, 2), NONE, np.int64),
        channel=channel,
        unit=unit,
        unit_ns=np.zeros((units, 2)),
        stalled=np.full((p.planes, 2), NONE, np.int64),
        arriving=np.full((translation_pages, 2), NONE, np.int64),
        departing=np.zeros(translation_pages, np.int32),
        dirty=np.full(translation_pages, NONE, np.int32),
        entry_page=np.zeros(entries, np.int64),
        entry_dirty=np.full(entries, NONE, np.int32),
        entry_links=make_lists(entries),
        entry_keys=entry_keys,
        entry_values=entry_values,
        buffer_keys=buffer_keys,
        buffer_values=buffer_values,
        # an event for each request on the link, for each accepted part of one in DRAM, and those of units and channels,
        # with those of suspended operations that will not happen
        heap=make_heap(2 * p.queue_depth + host_pages + 2 * p.channels + (2 + p.most_suspends) * units + 16),
        ftl=make_ftl(p),
    )


def _most_pages_in_flight(p: NandParameters) -> int:
    return p.queue_depth * _PAGES_PER_REQUEST


def _config(p: NandParameters, units: int) -> np.ndarray:
    config = np.zeros(_CONFIG, np.int64)
    config[CHANNELS], config[UNITS_PER_CHANNEL] = p.channels, units // p.channels
    config[PLANES_PER_UNIT], config[PLANES_PER_DIE] = p.planes // units, p.planes_per_die
    config[CACHED_ENTRIES] = p.cached_entries
    config[WRITE_CACHE], config[BUFFER_SECTORS] = p.write_cache, p.write_buffer_bytes // SECTOR_BYTES
    config[FETCH_LIMIT] = p.fetch_limit
    config[SUSPEND_PROGRAM], config[SUSPEND_ERASE] = p.suspend_program, p.suspend_erase
    config[MOST_SUSPENDS] = p.most_suspends
    config[KINDS_OF_PAGE] = len(p.page_times_ns)
    config[TRANSLATION_READ_BYTES] = p.translation_read_bytes
    config[LINK_LANES], config[TLP_PAYLOAD], config[TLP_OVERHEAD] = (
        p.link_lanes,
        p.tlp_payload_bytes,
        p.tlp_overhead_bytes,
    )
    config[DRAM_ROW] = p.dram_row_bytes
    return config


def _times(p: NandParameters) -> np.ndarray:
    times = np.zeros(_TIMES)
    times[CHANNEL_NS_PER_BYTE] = p.channel_ns_per_byte
    times[LINK_NS_PER_CYCLE] = 1 / p.link_lane_rate
    times[DRAM_NS_PER_BYTE], times[DRAM_LATENCY_NS] = 1 / p.dram_rate, p.dram_latency_ns
    times[DRAM_ROW_NS] = p.dram_row_ns
    times[ERASE_NS] = p.erase_ns
    times[SUSPEND_COMMAND_NS] = p.suspend_command_ns
    times[SUSPEND_PROGRAM_NS], times[SUSPEND_ERASE_NS] = p.suspend_program_ns, p.suspend_erase_ns
    times[LEAST_PROGRAM_LEFT_NS], times[LEAST_ERASE_LEFT_NS] = p.least_program_left_ns, p.least_erase_left_ns
    for kind, (read_ns, program_ns) in enumerate(p.page_times_ns):
        times[READ_NS + kind], times[PROGRAM_NS + kind] = read_ns, program_ns
    for op, command_ns in enumerate((p.read_command_ns, p.program_command_ns, p.erase_command_ns)):
        for planes in range(1, _MOST_PLANES + 1):
            times[COMMAND_NS + op * _MOST_PLANES + planes - 1] = command_ns(planes)
    return times


# --- the seam --------------------------------------------------------------------------------------------------------


def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
    """Take in a request of whole sectors; False, with nothing changed, where the queue is full.

    The queue holds `queue_depth` requests of 17 pages each on average. An address beyond the capacity wraps around; a
    request that begins or ends inside a sector takes all of it.
    """
    first = address // SECTOR_BYTES
    count = max(1, (address + size_bytes + SECTOR_BYTES - 1) // SECTOR_BYTES - first)
    sectors = state.ftl.shape[SECTORS]
    first %= state.ftl.location.size * sectors
    pages = (first + count - 1) // sectors - first // sectors + 1
    most_pages = state.request.shape[0] * _PAGES_PER_REQUEST
    if state.tally[FREE_REQUESTS] == 0 or state.tally[PAGES_IN_FLIGHT] + pages > most_pages:
        return False
    state.tally[FREE_REQUESTS] -= 1
    slot = state.free_request[state.tally[FREE_REQUESTS]]
    row = state.request[slot]
    row[TICKET], row[FIRST_SECTOR], row[SECTOR_COUNT], row[IS_WRITE] = ticket, first, count, is_write
    row[LEFT], row[ACCEPTED], row[FOLLOWING] = pages, 0, NONE
    state.arrival_ns[slot] = max(arrival_ns, state.clock[NOW])
    state.tally[PAGES_IN_FLIGHT] += pages
    _append_request(state, slot, FIRST_ARRIVAL)
    return True


def next_event(state):
    """When something happens next, ns; infinity where nothing is under way."""
    at_ns = next_event_ns(state.heap)
    first = state.tally[FIRST_ARRIVAL]
    return at_ns if first == NONE else min(at_ns, state.arrival_ns[first])


def advance(state, until_ns):
    """Simulate all that happens up to until_ns, that moment included; return how many requests it completed.

    They are in state.done_ticket[:n] and state.done_ns[:n], in order of completion, until the next call.
    """
    state.tally[DONE] = 0
    while step(state, until_ns):
        pass
    if until_ns < np.inf:
        state.clock[NOW] = max(state.clock[NOW], until_ns)
    return state.tally[DONE]


@subroutine
def step(state, until_ns):
    """Simulate the next event, if it is not after until_ns; whether it was not."""
    at_ns = next_event_ns(state.heap)
    first = state.tally[FIRST_ARRIVAL]
    if first != NONE and state.arrival_ns[first] <= at_ns:
        if state.arrival_ns[first] > until_ns:
            return False
        state.clock[NOW] = state.arrival_ns[first]
        _take_first_request(state, FIRST_ARRIVAL)
        _send_down(state, 2, DOORBELL, first)
        return True
    if not at_ns <= until_ns or at_ns == np.inf:
        return False
    state.clock[NOW] = at_ns
    what = take(state.heap)
    kind, index = what % _EVENTS, what // _EVENTS
    if kind == UNIT_DONE:
        _unit_done(state, index)
    elif kind == DATA_SENT:
        _data_sent(state, index)
    elif kind == COMMAND_SENT:
        state.channel[index, BUSY] = 0
        _serve_channel(state, index)
    else:
        _host_event(state, kind, index)
    if state.tally[TOUCHED]:
        _schedule_touched(state)
    return True


# --- host side -------------------------------------------------------------------------------------------------------


@subroutine
def _host_event(state, kind, index):
    if kind == DOORBELL:
        if state.tally[FETCHED] < state.config[FETCH_LIMIT]:
            _fetch(state, index)
        else:
            _append_request(state, index, FIRST_UNFETCHED)
    elif kind == COMMAND_ASKED:
        _send_down(state, 64, COMMAND_HERE, index)
    elif kind == COMMAND_HERE:
        if state.request[index, IS_WRITE]:
            _send_up(state, 4, DATA_ASKED, index)
        else:
            _begin_read(state, index)
    elif kind == DATA_ASKED:
        _send_down(state, state.request[index, SECTOR_COUNT] * SECTOR_BYTES, DATA_HERE, index)
    elif kind == DATA_HERE:
        _begin_write(state, index)
    elif kind == IN_DRAM:
        requests = state.request.shape[0]
        _pages_done(state, index % requests, index // requests)
    else:
        _complete(state, index)


@inlined
def _append_request(state, slot, first):
    """To one of the lists of requests in the tally, whose end is beside its beginning."""
    last = state.tally[first + 1]
    state.request[slot, FOLLOWING] = NONE
    if last == NONE:
        state.tally[first] = slot
    else:
        state.request[last, FOLLOWING] = slot
    state.tally[first + 1] = slot


@inlined
def _take_first_request(state, first):
    slot = state.tally[first]
    state.tally[first] = state.request[slot, FOLLOWING]
    if state.tally[first] == NONE:
        state.tally[first + 1] = NONE
    return slot


@inlined
def _link_ns(state, payload_bytes):
    lanes = state.config[LINK_LANES]
    if lanes == 0:
        return 0.0
    packets = (payload_bytes + state.config[TLP_PAYLOAD] - 1) // state.config[TLP_PAYLOAD]
    framed = payload_bytes + packets * state.config[TLP_OVERHEAD]
    return (framed + lanes - 1) // lanes * state.times[LINK_NS_PER_CYCLE]


@subroutine
def _send_down(state, payload_bytes, event, index):
    """Queue a message from the host to the device, whose arrival is the event."""
    end_ns = max(state.clock[NOW], state.clock[DOWN_FREE]) + _link_ns(state, payload_bytes)
    state.clock[DOWN_FREE] = end_ns
    push(state.heap, end_ns, event + _EVENTS * index)


@subroutine
def _send_up(state, payload_bytes, event, index):
    end_ns = max(state.clock[NOW], state.clock[UP_FREE]) + _link_ns(state, payload_bytes)
    state.clock[UP_FREE] = end_ns
    push(state.heap, end_ns, event + _EVENTS * index)


@inlined
def _fetch(state, slot):
    state.tally[FETCHED] += 1
    _send_up(state, 4, COMMAND_ASKED, slot)


@inlined
def _pages_done(state, slot, pages):
    """So many pages of the request are read, programmed or in DRAM."""
    state.request[slot, LEFT] -= pages
    if state.request[slot, LEFT] == 0:
        _finish(state, slot)


@subroutine
def _finish(state, slot):
    """Data of a read and the completion go to the host; the next command that waits is fetched."""
    size_bytes = state.request[slot, SECTOR_COUNT] * SECTOR_BYTES
    if state.request[slot, IS_WRITE]:
        state.tally[WRITE_REQUESTS] += 1
        state.tally[WRITE_BYTES] += size_bytes
    else:
        state.tally[READ_REQUESTS] += 1
        state.tally[READ_BYTES] += size_bytes
        state.clock[UP_FREE] = max(state.clock[NOW], state.clock[UP_FREE]) + _link_ns(state, size_bytes)
    state.tally[FETCHED] -= 1
    if state.tally[FIRST_UNFETCHED] != NONE:
        _fetch(state, _take_first_request(state, FIRST_UNFETCHED))
    _send_up(state, 16, COMPLETED, slot)


@inlined
def _complete(state, slot):
    """The host has the completion, and says so with a doorbell."""
    state.done_ticket[state.tally[DONE]] = state.request[slot, TICKET]
    state.done_ns[state.tally[DONE]] = state.clock[NOW]
    state.tally[DONE] += 1
    state.clock[DOWN_FREE] = max(state.clock[NOW], state.clock[DOWN_FREE]) + _link_ns(state, 2)
    first, count = state.request[slot, FIRST_SECTOR], state.request[slot, SECTOR_COUNT]
    sectors = state.ftl.shape[SECTORS]
    state.tally[PAGES_IN_FLIGHT] -= (first + count - 1) // sectors - first // sectors + 1
    state.free_request[state.tally[FREE_REQUESTS]] = slot
    state.tally[FREE_REQUESTS] += 1


# --- pages of a request ----------------------------------------------------------------------------------------------


@inlined
def _part(state, slot, place):
    """Of the place-th page of a request: the logical page, how many of its sectors, their bitmap."""
    sectors = state.ftl.shape[SECTORS]
    first, count = state.request[slot, FIRST_SECTOR], state.request[slot, SECTOR_COUNT]
    page = first // sectors + place
    low = max(0, first - page * sectors)
    number = min(sectors, first + count - page * sectors) - low
    return page % state.ftl.location.size, number, _bits(number) << low


@inlined
def _bits(number):
    return (np.int64(1) << number) - 1 if number < 64 else np.int64(-1)


@inlined
def _count_bits(bitmap):
    number = 0
    while bitmap != 0:
        bitmap &= bitmap - 1
        number += 1
    return number


@subroutine
def _begin_read(state, slot):
    pages, from_dram, dram_bytes = state.request[slot, LEFT], 0, 0
    at_once = 0
    for place in range(pages):
        logical, number, bitmap = _part(state, slot, place)
        if state.config[WRITE_CACHE]:
            held = find(state.buffer_keys, state.buffer_values, logical)
            if held != EMPTY and state.transaction[held, BITMAP] & bitmap == bitmap:
                from_dram += 1
                dram_bytes += number * SECTOR_BYTES
                continue
        one = _new_transaction(state, FROM_HOST, READ, slot)
        state.transaction[one, PAGE_OWNER] = logical
        state.transaction[one, BITMAP] = bitmap
        state.transaction[one, BYTES] = number * SECTOR_BYTES
        if _look_up(state, one, logical):
            at_once += _dispatch(state, one)
    if from_dram:
        state.tally[BUFFER_HITS] += from_dram
        _use_dram(state, slot, from_dram, dram_bytes)
    if at_once:
        _pages_done(state, slot, at_once)


@subroutine
def _begin_write(state, slot):
    if state.config[WRITE_CACHE]:
        _append_request(state, slot, FIRST_UNBUFFERED)
        _accept_writes(state)
        return
    for place in range(state.request[slot, LEFT]):
        logical, number, bitmap = _part(state, slot, place)
        one = _new_write(state, slot, logical, number, bitmap)
        if _look_up(state, one, logical):
            _dispatch(state, one)


@inlined
def _new_write(state, slot, logical, number, bitmap):
    one = _new_transaction(state, FROM_HOST, PROGRAM, slot)
    state.transaction[one, PAGE_OWNER] = logical
    state.transaction[one, BITMAP] = bitmap
    state.transaction[one, BYTES] = number * SECTOR_BYTES
    return one


@subroutine
def _accept_writes(state):
    """Take pages of the requests that wait into the write cache, in order, as long as it has room."""
    while state.tally[FIRST_UNBUFFERED] != NONE:
        slot = state.tally[FIRST_UNBUFFERED]
        sectors = state.ftl.shape[SECTORS]
        first, count = state.request[slot, FIRST_SECTOR], state.request[slot, SECTOR_COUNT]
        pages = (first + count - 1) // sectors - first // sectors + 1
        taken, dram_bytes = 0, 0
        while state.request[slot, ACCEPTED] < pages:
            logical, number, bitmap = _part(state, slot, state.request[slot, ACCEPTED])
            if not _buffer(state, logical, number, bitmap):
                break
            state.request[slot, ACCEPTED] += 1
            taken += 1
            dram_bytes += number * SECTOR_BYTES
        complete = state.request[slot, ACCEPTED] == pages
        if complete:
            _take_first_request(state, FIRST_UNBUFFERED)
        if taken:
            _use_dram(state, slot, taken, dram_bytes)
        if not complete:
            break


@inlined
def _buffer(state, logical, number, bitmap):
    """Hold a page in DRAM and start its program, or add it to one that waits; False where there is no room."""
    held = find(state.buffer_keys, state.buffer_values, logical)
    if held != EMPTY and state.transaction[held, FLASH_PAGE] == NONE:  # its program has no place yet
        more = _count_bits(bitmap & ~state.transaction[held, BITMAP])
        if state.tally[BUFFERED_SECTORS] + more > state.config[BUFFER_SECTORS]:
            return False
        state.transaction[held, BITMAP] |= bitmap
        state.transaction[held, BYTES] += more * SECTOR_BYTES
        state.tally[BUFFERED_SECTORS] += more
        return True
    if state.tally[BUFFERED_SECTORS] + number > state.config[BUFFER_SECTORS]:
        return False
    state.tally[BUFFERED_SECTORS] += number
    one = _new_write(state, NONE, logical, number, bitmap)
    state.transaction[one, OF_REQUEST] = NONE
    put(state.buffer_keys, state.buffer_values, logical, one)
    if _look_up(state, one, logical):
        _dispatch(state, one)
    return True


@inlined
def _use_dram(state, slot, pages, size_bytes):
    rows = (size_bytes + state.config[DRAM_ROW] - 1) // state.config[DRAM_ROW]
    busy_ns = state.times[DRAM_LATENCY_NS] + size_bytes * state.times[DRAM_NS_PER_BYTE]
    end_ns = max(state.clock[NOW], state.clock[DRAM_FREE]) + busy_ns + (rows - 1) * state.times[DRAM_ROW_NS]
    state.clock[DRAM_FREE] = end_ns
    push(state.heap, end_ns, IN_DRAM + _EVENTS * (slot + state.request.shape[0] * pages))


# --- mapping ---------------------------------------------------------------------------------------------------------


@subroutine
def _look_up(state, one, logical):
    """Whether the mapping of the page is at hand; if not, the transaction waits for it to be read."""
    if state.ftl.shape[TRANSLATION_PAGES] == 0:
        return True
    entry = find(state.entry_keys, state.entry_values, logical)
    if entry != EMPTY:
        unlink(state.entry_links, entry)
        push_newest(state.entry_links, state.entry_page.size, entry)
        state.tally[MAPPING_HITS] += 1
        return True
    state.tally[MAPPING_MISSES] += 1
    number = logical // state.ftl.shape[ENTRIES]
    if state.arriving[number, HEAD] == NONE:
        stored = state.ftl.translation[number]
        if stored == 0 or state.departing[number]:  # there is none yet, or it is still in DRAM
            _cache_entry(state, logical)
            return True
        read = _new_transaction(state, FROM_MAPPING, READ, NONE)
        state.transaction[read, PAGE_OWNER] = number
        state.transaction[read, BYTES] = state.config[TRANSLATION_READ_BYTES]
        _place(state, read, stored - 1)
        _enqueue(state, read)
    _append(state, one, state.arriving[number])
    return False


@subroutine
def _cache_entry(state, logical):
    """Hold the mapping of a page in the cache, where it is not; return its entry."""
    entry = state.tally[ENTRIES_CACHED]
    if entry < state.entry_page.size:
        state.tally[ENTRIES_CACHED] += 1
    else:
        entry = oldest(state.entry_links, state.entry_page.size)
        evicted = state.entry_page[entry]
        if state.entry_dirty[entry] != NONE:
            _write_back(state, evicted // state.ftl.shape[ENTRIES])
        unlink(state.entry_links, entry)
        remove(state.entry_keys, state.entry_values, evicted)
    state.entry_page[entry] = logical
    push_newest(state.entry_links, state.entry_page.size, entry)
    put(state.entry_keys, state.entry_values, logical, entry)
    return entry


@subroutine
def _write_back(state, number):
    """Program a translation page anew with all its dirty entries; what is not cached of it is read first."""
    entry = state.dirty[number]
    while entry != NONE:
        following = state.entry_dirty[entry]
        state.entry_dirty[entry] = NONE
        entry = NONE if following == entry else following
    state.dirty[number] = NONE
    one = _new_transaction(state, FROM_MAPPING, PROGRAM, NONE)
    state.transaction[one, PAGE_OWNER] = number
    state.transaction[one, BYTES] = state.ftl.shape[SECTORS] * SECTOR_BYTES
    state.departing[number] += 1
    _dispatch_translation(state, one)


@subroutine
def _dispatch_translation(state, one):
    number = state.transaction[one, PAGE_OWNER]
    plane = plane_of(state.ftl, number)
    if not has_room(state.ftl, plane, TRANSLATION):
        _append(state, one, state.stalled[plane])
        _collect(state, plane)
        return
    old = state.ftl.translation[number]
    _place(state, one, map_translation_page(state.ftl, number, plane))
    if old:
        read = _new_transaction(state, FROM_MAPPING, READ, NONE)
        state.transaction[read, PAGE_OWNER] = number
        state.transaction[read, BYTES] = state.ftl.shape[SECTORS] * SECTOR_BYTES
        state.transaction[read, THEN] = one
        _place(state, read, old - 1)
        _enqueue(state, read)
    else:
        _enqueue(state, one)
    _collect(state, plane)


@subroutine
def _mark_dirty(state, logical):
    """The mapping of a page has changed: its entry, made where there is none, has to be written some time."""
    if state.ftl.shape[TRANSLATION_PAGES] == 0:
        return
    entry = find(state.entry_keys, state.entry_values, logical)
    if entry == EMPTY:
        entry = _cache_entry(state, logical)
    if state.entry_dirty[entry] == NONE:
        number = logical // state.ftl.shape[ENTRIES]
        following = state.dirty[number]
        state.entry_dirty[entry] = entry if following == NONE else following
        state.dirty[number] = entry


@subroutine
def _mapping_arrived(state, number):
    """Entries of a translation page that was read go into the cache, and what waited for them goes on."""
    one = state.arriving[number, HEAD]
    state.arriving[number, HEAD] = NONE
    state.arriving[number, TAIL] = NONE
    while one != NONE:
        following = state.transaction[one, NEXT]
        logical = state.transaction[one, PAGE_OWNER]
        if find(state.entry_keys, state.entry_values, logical) == EMPTY:
            _cache_entry(state, logical)
        slot = state.transaction[one, OF_REQUEST]
        if _dispatch(state, one):
            _pages_done(state, slot, 1)
        one = following


@subroutine
def _dispatch(state, one):
    """Send a transaction of the host, whose mapping is at hand, to its unit; 1 where it needs no flash."""
    logical = state.transaction[one, PAGE_OWNER]
    old = np.int64(state.ftl.location[logical])
    if state.transaction[one, OP] == READ:
        if old == 0:  # a page that was never written reads as zeros
            _free(state, one)
            return 1
        _place(state, one, old - 1)
        _enqueue(state, one)
        return 0
    plane = plane_of(state.ftl, logical)
    if state.stalled[plane, HEAD] != NONE or not has_room(state.ftl, plane, HOST):
        state.tally[WRITES_STALLED] += 1
        _append(state, one, state.stalled[plane])
        _collect(state, plane)
        return 0
    _write_page(state, one, logical, plane, old)
    return 0


@subroutine
def _write_page(state, one, logical, plane, old):
    """Give a write its flash page; sectors of the old one that it leaves alone are read first."""
    bitmap = state.transaction[one, BITMAP]
    kept = np.int64(0)
    if old:
        kept = np.int64(state.ftl.sectors[logical])
        if kept == 0:
            kept = state.ftl.shape[PREFILLED_SECTORS]
        if kept & ~bitmap:
            read = _new_transaction(state, FROM_HOST, READ, NONE)
            state.transaction[read, BYTES] = _count_bits(kept) * SECTOR_BYTES
            state.transaction[read, THEN] = one
            _place(state, read, old - 1)
            _enqueue(state, read)
            state.transaction[one, BYTES] = _count_bits(kept | bitmap) * SECTOR_BYTES
            state.transaction[one, THEN] = read  # not to be queued before it has come
    state.ftl.sectors[logical] = kept | bitmap
    _place(state, one, map_host_page(state.ftl, logical, plane))
    _mark_dirty(state, logical)
    if state.transaction[one, THEN] == NONE:
        _enqueue(state, one)
    _collect(state, plane)


# --- garbage collection ----------------------------------------------------------------------------------------------


@subroutine
def _collect(state, plane):
    """Start to collect a block of the plane, where it is short of free ones: its valid pages are read."""
    if not needs_collection(state.ftl, plane):
        return
    victim = choose_victim(state.ftl, plane)
    if victim == NONE:
        return
    begin_collection(state.ftl, plane, victim)
    pages = state.ftl.shape[PAGES]
    moves = 0
    for page in range(victim * pages, (victim + 1) * pages):
        if state.ftl.owner[page]:
            one = _new_transaction(state, FROM_COLLECTION, READ, NONE)
            state.transaction[one, BYTES] = state.ftl.shape[SECTORS] * SECTOR_BYTES
            _place(state, one, page)
            _enqueue(state, one)
            moves += 1
    state.ftl.plane[plane, TO_MOVE] = moves
    if moves == 0:
        _erase(state, plane)


@inlined
def _erase(state, plane):
    block = plane * (state.ftl.owner.size // state.ftl.plane.shape[0] // state.ftl.shape[PAGES])
    block += state.ftl.plane[plane, COLLECTING]
    one = _new_transaction(state, FROM_COLLECTION, ERASE, NONE)
    _place(state, one, block * state.ftl.shape[PAGES])
    _enqueue(state, one)


@inlined
def _moved(state, plane):
    """One more page of the block that the plane collects is elsewhere, or not needed any more."""
    state.ftl.plane[plane, TO_MOVE] -= 1
    if state.ftl.plane[plane, TO_MOVE] == 0:
        _erase(state, plane)


@subroutine
def _collected_page_read(state, one):
    """Move it on, unless the host has written it anew meanwhile."""
    page, plane = state.transaction[one, FLASH_PAGE], state.transaction[one, PLANE]
    owner = np.int64(state.ftl.owner[page])
    if owner == 0 or not has_room(state.ftl, plane, COLLECTED):
        _free(state, one)
        _moved(state, plane)
        return
    _place(state, one, move_page(state.ftl, page, plane))
    state.transaction[one, OP] = PROGRAM
    _enqueue(state, one)
    if owner > 0:
        _mark_dirty(state, owner - 1)


@subroutine
def _erased(state, plane):
    free_victim(state.ftl, plane)
    while state.stalled[plane, HEAD] != NONE:
        one = state.stalled[plane, HEAD]
        stream = TRANSLATION if state.transaction[one, SOURCE] == FROM_MAPPING else HOST
        if not has_room(state.ftl, plane, stream):
            break
        _pop(state, state.stalled[plane])
        if stream == TRANSLATION:
            _dispatch_translation(state, one)
        else:
            logical = state.transaction[one, PAGE_OWNER]
            _write_page(state, one, logical, plane, np.int64(state.ftl.location[logical]))
    _collect(state, plane)


# --- transactions and their queues -----------------------------------------------------------------------------------


@inlined
def _new_transaction(state, source, op, slot):
    state.tally[FREE_TRANSACTIONS] -= 1
    one = state.free_transaction[state.tally[FREE_TRANSACTIONS]]
    row = state.transaction[one]
    row[NEXT], row[SOURCE], row[OP], row[OF_REQUEST] = NONE, source, op, slot
    row[PAGE_OWNER], row[FLASH_PAGE], row[PLANE] = NONE, NONE, NONE
    row[BYTES], row[BITMAP], row[THEN] = 0, 0, NONE
    return one


@inlined
def _free(state, one):
    state.free_transaction[state.tally[FREE_TRANSACTIONS]] = one
    state.tally[FREE_TRANSACTIONS] += 1


@inlined
def _place(state, one, page):
    state.transaction[one, FLASH_PAGE] = page
    state.transaction[one, PLANE] = page // (state.ftl.owner.size // state.ftl.plane.shape[0])


@inlined
def _append(state, one, ends):
    """To a list of transactions given by its ends."""
    state.transaction[one, NEXT] = NONE
    if ends[TAIL] == NONE:
        ends[HEAD] = one
    else:
        state.transaction[ends[TAIL], NEXT] = one
    ends[TAIL] = one


@inlined
def _pop(state, ends):
    one = ends[HEAD]
    ends[HEAD] = state.transaction[one, NEXT]
    if ends[HEAD] == NONE:
        ends[TAIL] = NONE
    return one


@subroutine
def _enqueue(state, one):
    """Let a transaction that has its flash page wait for its unit."""
    unit = state.transaction[one, PLANE] // state.config[PLANES_PER_UNIT]
    _append(state, one, state.queue[unit, 3 * state.transaction[one, OP] + state.transaction[one, SOURCE]])
    channel = unit // state.config[UNITS_PER_CHANNEL]
    state.channel[channel, QUEUED] += 1
    if state.channel[channel, IS_TOUCHED] == 0:
        state.channel[channel, IS_TOUCHED] = 1
        state.tally[TOUCHED] += 1


@subroutine
def _schedule_touched(state):
    """Give the channels that got new transactions something to do."""
    for channel in range(state.config[CHANNELS]):
        if state.channel[channel, IS_TOUCHED]:
            state.channel[channel, IS_TOUCHED] = 0
            if state.channel[channel, BUSY] == 0:
                _schedule(state, channel)
    state.tally[TOUCHED] = 0


# --- channels and units ----------------------------------------------------------------------------------------------


@subroutine
def _serve_channel(state, channel):
    """The channel is free: data that waits goes first, then new commands."""
    for source in range(3):
        ends = state.channel[channel, OUT + 2 * source : OUT + 2 * source + 2]
        if ends[HEAD] != NONE:
            _send_data(state, channel, _pop(state, ends))
            return
    _schedule(state, channel)


@inlined
def _send_data(state, channel, one):
    state.channel[channel, BUSY] = 1
    state.channel[channel, MOVING] = one
    end_ns = state.clock[NOW] + state.transaction[one, BYTES] * state.times[CHANNEL_NS_PER_BYTE]
    push(state.heap, end_ns, DATA_SENT + _EVENTS * channel)


@subroutine
def _schedule(state, channel):
    """Try the units of a free channel in turn until one takes a command."""
    units = state.config[UNITS_PER_CHANNEL]
    turn = state.channel[channel, TURN]
    for _ in range(units):
        if state.channel[channel, QUEUED] == 0:
            break
        issued = _issue(state, channel, channel * units + turn)
        turn = turn + 1 if turn + 1 < units else 0
        if issued:
            break
    state.channel[channel, TURN] = turn


@subroutine
def _issue(state, channel, unit):
    """Send the unit a command, if it can take one; whether it was sent."""
    suspended_ns = 0.0
    waiting = state.queue[unit, :, HEAD]
    if state.unit[unit, DOING] == IDLE:
        first, second = _choose(state, unit, waiting)
        if first == NONE:
            return False
    else:
        first = FROM_MAPPING if waiting[FROM_MAPPING] != NONE else FROM_HOST
        second = FROM_HOST if first == FROM_MAPPING else NONE
        if waiting[first] == NONE or not _may_suspend(state, unit):
            return False
        suspended_ns = _suspend(state, unit)
    op = first // 3
    planes = _gather(state, unit, first, second)
    state.channel[channel, QUEUED] -= planes
    channel_ns = suspended_ns + state.times[COMMAND_NS + op * _MOST_PLANES + planes - 1]
    one = state.unit[unit, ACTIVE]
    kind = state.transaction[one, FLASH_PAGE] % state.ftl.shape[PAGES] % state.config[KINDS_OF_PAGE]
    if op == READ:
        array_ns = state.times[READ_NS + kind]
        state.tally[READ_COMMANDS] += 1
        state.tally[PAGES_READ] += planes
    elif op == PROGRAM:
        array_ns = state.times[PROGRAM_NS + kind]
        state.tally[PROGRAM_COMMANDS] += 1
        state.tally[PAGES_PROGRAMMED] += planes
        while one != NONE:
            channel_ns += state.transaction[one, BYTES] * state.times[CHANNEL_NS_PER_BYTE]
            one = state.transaction[one, NEXT]
    else:
        array_ns = state.times[ERASE_NS]
        state.tally[ERASE_COMMANDS] += 1
        state.tally[BLOCKS_ERASED] += planes
    state.tally[MULTI_PLANE_COMMANDS] += planes > 1
    sent_ns = state.clock[NOW] + channel_ns
    state.channel[channel, BUSY] = 1
    state.unit[unit, DOING] = WORKING
    state.unit[unit, OPERATION] = op
    state.unit_ns[unit, FINISH] = sent_ns + array_ns
    push(state.heap, sent_ns, COMMAND_SENT + _EVENTS * channel)
    push(state.heap, sent_ns + array_ns, UNIT_DONE + _EVENTS * unit)
    return True


@subroutine
def _choose(state, unit, waiting):
    """The queue to serve and the one to fill a multi-plane command from, NONE where there is none."""
    mapping, host, collection = 3 * READ + FROM_MAPPING, 3 * READ + FROM_HOST, 3 * READ + FROM_COLLECTION
    host_program, collection_program = 3 * PROGRAM + FROM_HOST, 3 * PROGRAM + FROM_COLLECTION
    erase = 3 * ERASE + FROM_COLLECTION
    collects = waiting[collection] != NONE or waiting[collection_program] != NONE or waiting[erase] != NONE
    urgent = collects and _is_urgent(state, unit)
    if waiting[mapping] != NONE:
        return mapping, _if_waiting(waiting, collection if urgent and waiting[collection] != NONE else host)
    if urgent:
        if waiting[collection] != NONE:
            return collection, _if_waiting(waiting, host)
        if waiting[collection_program] != NONE:
            return collection_program, _if_waiting(waiting, host_program)
        return erase, NONE
    if waiting[host] != NONE:
        return host, _if_waiting(waiting, collection)
    if waiting[3 * PROGRAM + FROM_MAPPING] != NONE:
        return 3 * PROGRAM + FROM_MAPPING, _if_waiting(waiting, host_program)
    if waiting[host_program] != NONE:
        return host_program, _if_waiting(waiting, collection_program)
    if waiting[collection] != NONE:
        return collection, NONE
    if waiting[collection_program] != NONE:
        return collection_program, NONE
    return _if_waiting(waiting, erase), NONE


@inlined
def _if_waiting(waiting, queue):
    return queue if waiting[queue] != NONE else NONE


@inlined
def _is_urgent(state, unit):
    """Whether a plane of the unit is nearly out of free blocks, or has writes that wait for one."""
    planes = state.config[PLANES_PER_UNIT]
    for plane in range(unit * planes, (unit + 1) * planes):
        short = state.ftl.plane[plane, FREE_COUNT] <= state.ftl.shape[HARD_THRESHOLD]
        if short or state.stalled[plane, HEAD] != NONE:
            return True
    return False


@inlined
def _gather(state, unit, first, second):
    """Move what makes one command from the queues to the unit; return of how many planes it is.

    The first in the queue, and with it those to other planes of its die with the same page number.
    """
    state.unit[unit, ACTIVE] = NONE
    one = state.queue[unit, first, HEAD]
    die = state.transaction[one, PLANE] // state.config[PLANES_PER_DIE]
    page = state.transaction[one, FLASH_PAGE] % state.ftl.shape[PAGES]
    taken, planes, last = np.int64(0), 0, NONE
    queue = first
    while queue != NONE:
        before, one = NONE, state.queue[unit, queue, HEAD]
        while one != NONE and planes < min(state.config[PLANES_PER_DIE], _MOST_PLANES):
            following = state.transaction[one, NEXT]
            plane = state.transaction[one, PLANE]
            bit = np.int64(1) << (plane % state.config[PLANES_PER_DIE])
            same_page = state.transaction[one, FLASH_PAGE] % state.ftl.shape[PAGES] == page
            if plane // state.config[PLANES_PER_DIE] == die and not taken & bit and same_page:
                if before == NONE:
                    state.queue[unit, queue, HEAD] = following
                else:
                    state.transaction[before, NEXT] = following
                if following == NONE:
                    state.queue[unit, queue, TAIL] = before
                state.transaction[one, NEXT] = NONE
                if last == NONE:
                    state.unit[unit, ACTIVE] = one
                else:
                    state.transaction[last, NEXT] = one
                last = one
                taken |= bit
                planes += 1
            else:
                before = one
            one = following
        queue, second = second, NONE
    return planes


@inlined
def _may_suspend(state, unit):
    """Whether the unit is at a program or erase that has long to go, and nothing else of it is suspended."""
    op = state.unit[unit, OPERATION]
    if state.unit[unit, DOING] != WORKING or op == READ or state.unit[unit, SUSPENDED] != NONE:
        return False
    if state.unit[unit, TIMES_SUSPENDED] >= state.config[MOST_SUSPENDS]:
        return False
    left_ns = state.unit_ns[unit, FINISH] - state.clock[NOW]
    if op == PROGRAM:
        return state.config[SUSPEND_PROGRAM] == 1 and left_ns >= state.times[LEAST_PROGRAM_LEFT_NS]
    return state.config[SUSPEND_ERASE] == 1 and left_ns >= state.times[LEAST_ERASE_LEFT_NS]


@inlined
def _suspend(state, unit):
    """Put aside what the unit does; return how long that takes."""
    row = state.unit[unit]
    row[SUSPENDED], row[SUSPENDED_OPERATION] = row[ACTIVE], row[OPERATION]
    row[TIMES_SUSPENDED] += 1
    state.unit_ns[unit, REMAINING] = state.unit_ns[unit, FINISH] - state.clock[NOW]
    state.tally[SUSPENSIONS] += 1
    program = row[OPERATION] == PROGRAM
    return state.times[SUSPEND_COMMAND_NS] + state.times[SUSPEND_PROGRAM_NS if program else SUSPEND_ERASE_NS]


@inlined
def _rest(state, unit):
    """The unit has nothing under way: it goes on with what was suspended, or is idle."""
    row = state.unit[unit]
    if row[SUSPENDED] == NONE:
        row[DOING], row[ACTIVE], row[TIMES_SUSPENDED] = IDLE, NONE, 0
        return
    row[ACTIVE], row[OPERATION], row[SUSPENDED] = row[SUSPENDED], row[SUSPENDED_OPERATION], NONE
    row[DOING] = WORKING
    state.unit_ns[unit, FINISH] = state.clock[NOW] + state.unit_ns[unit, REMAINING]
    push(state.heap, state.unit_ns[unit, FINISH], UNIT_DONE + _EVENTS * unit)


@subroutine
def _unit_done(state, unit):
    """What the unit did has ended: data read waits for the channel, anything else is complete."""
    if state.unit[unit, DOING] != WORKING or state.unit_ns[unit, FINISH] != state.clock[NOW]:
        return  # it was suspended since
    channel = unit // state.config[UNITS_PER_CHANNEL]
    one = state.unit[unit, ACTIVE]
    if state.unit[unit, OPERATION] == READ:
        state.unit[unit, DOING] = SENDING
        out = OUT + 2 * state.transaction[one, SOURCE]
        while one != NONE:
            following = state.transaction[one, NEXT]
            state.unit[unit, TO_SEND] += 1
            if state.channel[channel, BUSY]:
                _append(state, one, state.channel[channel, out : out + 2])
            else:
                _send_data(state, channel, one)
            one = following
        return
    while one != NONE:
        following = state.transaction[one, NEXT]
        _served(state, one)
        one = following
    _rest(state, unit)
    if state.channel[channel, BUSY] == 0:
        _schedule(state, channel)


@subroutine
def _data_sent(state, channel):
    one = state.channel[channel, MOVING]
    unit = state.transaction[one, PLANE] // state.config[PLANES_PER_UNIT]
    _served(state, one)
    state.unit[unit, TO_SEND] -= 1
    if state.unit[unit, TO_SEND] == 0:
        _rest(state, unit)
    state.channel[channel, BUSY] = 0
    _serve_channel(state, channel)


@subroutine
def _served(state, one):
    """A transaction is complete: what waited for it goes on."""
    row = state.transaction[one]
    source, op, plane, then, slot = row[SOURCE], row[OP], row[PLANE], row[THEN], row[OF_REQUEST]
    owner = row[PAGE_OWNER]
    if op == READ and source == FROM_COLLECTION:
        _collected_page_read(state, one)
        return
    if op == READ and then != NONE:  # of what a program leaves as it was
        state.transaction[then, THEN] = NONE
        _enqueue(state, then)
    elif source == FROM_HOST and slot != NONE:
        _pages_done(state, slot, 1)
    elif source == FROM_HOST:
        _unbuffer(state, one)
    elif source == FROM_MAPPING and op == READ:
        _mapping_arrived(state, owner)
    elif source == FROM_MAPPING:
        state.departing[owner] -= 1
    elif op == PROGRAM:
        _moved(state, plane)
    else:
        _erased(state, plane)
    _free(state, one)


@inlined
def _unbuffer(state, one):
    """Data of the write cache is on flash: its room is free for what waits."""
    logical = state.transaction[one, PAGE_OWNER]
    if find(state.buffer_keys, state.buffer_values, logical) == one:
        remove(state.buffer_keys, state.buffer_values, logical)
    state.tally[BUFFERED_SECTORS] -= _count_bits(state.transaction[one, BITMAP])
    _accept_writes(state)
