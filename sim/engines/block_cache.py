"""The timed engine: requests for blocks go through a hierarchy of tiers, and every device and link has finite service.

Events are the arrivals of requests, the moments at which a transfer reaches its next device or link, and those at which
one is complete; each server sees its work in order of time. A transfer is cut through: it enters the next server when
its first byte gets there, so that unloaded it takes the sum of the latencies and its size over the smallest
bandwidth on the way, and queues wherever a server is held by others.

Residency changes when a request arrives (see `residency.py`), data follow: a block that is being fetched counts as
resident, and requests for it wait for that fetch (delayed hits; Atre et al., SIGCOMM 2020). Filling upper tiers,
copies, demotions and write-backs run beside the requests and share devices and links with them. A block may be
evicted while it is still on its way; those who wait for it are served all the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.engines.columns import Columns, request_at, request_for_block
from sim.engines.event_devices import (
    CHUNK_BYTES,
    LEFT,
    OFFSET,
    PARENT,
    EventDevices,
    begin,
    count_done,
    first_waiting,
    forget_first_waiting,
    hand_over,
    is_chunk,
    is_cut,
    is_driven,
    most_slots,
    plan_next,
    soonest,
    wait_in_front,
    with_more_slots,
)
from sim.engines.flags import PREFETCHED, holds
from sim.engines.residency import BLOCK as MOVE_BLOCK
from sim.engines.residency import CAUSE as MOVE_CAUSE
from sim.engines.residency import (
    CLEAN_EVICTION,
    DAEMON,
    DEMAND,
    DIRTY_EVICTION,
    END,
    FAULT,
    FILLS,
    HELD,
    HITS,
    LOOKUPS,
    PREFETCHES,
    PREFETCHING,
    STARTED,
    USED,
    WRITTEN_LEVEL,
    access,
    forget_moves,
)
from sim.engines.residency import EVICTED_FROM as MOVE_EVICTED_FROM
from sim.engines.residency import SOURCE as MOVE_SOURCE
from sim.engines.residency import TARGET as MOVE_TARGET
from sim.kernels.address_index import find_or_add
from sim.kernels.compile import inlined, kernel, known_natural
from sim.kernels.event_heap import EventHeap, make_heap, next_event_ns, push, take
from sim.policy import NO_BLOCK, make_request

NOBODY = -1

HIT, DELAYED_HIT, FETCH, WRITE = 0, 1, 2, 3  # outcome of a request
OUTCOMES = ("hit", "delayed_hit", "fetch", "write")

REQUEST, FILL, MOVE, PREFETCH = 0, 1, 2, 3  # purpose of a transfer
PURPOSES = ("request", "fill", "move", "prefetch")

FROM_LEVEL, TO_LEVEL, FILL_LEVEL, BETWEEN_LEVELS = 0, 1, 2, 3  # kinds of route

FINISHED, AT_LIMIT, NEEDS_ROOM, NEEDS_BLOCKS, FAULTY, LOG_FULL = range(6)  # why `advance` returned

QUEUE_NS, DEVICE_NS, LINK_NS, WAIT_NS = 0, 1, 2, 3
PARTS = ("queue_ns", "device_ns", "link_ns", "wait_ns")

ARRIVAL = -1  # event of a closed loop: a client sends its next request

# columns of a transfer: float64 (the parts of its time so far are at QUEUE_NS, DEVICE_NS, LINK_NS) and int64
HEAD_NS, TAIL_NS = 3, 4  # when the first byte reaches the next stage, the last byte has passed those so far
BLOCK, ROW, SIZE, PURPOSE, SOURCE_LEVEL, TO_FILL, STAGE, LAST_STAGE, WAITING, NEXT_FREE = range(10)

SERVER, ROW_OF_MODEL, COLUMN, IS_WRITE, PART = range(5)  # columns of a stage of a route

# counts of a run; LOGGED: records that the log should hold, of which those beyond its end are lost
ISSUED, COMPLETED, REJOINED, EVENTS, DRAWN, FREE, FREE_COUNT, PROPOSED, KNOWN, TO_START, LOGGED = range(11)
NOW, LAST_COMPLETION = 0, 1

# columns of the log. Of a transfer at one server: its slot, the stage of its route, when it reached the server, was
# begun with, and had passed it with its last byte, its size, purpose and block, the request it answers (or, of a move,
# -1 - its cause), and the transfer that it is a chunk of. Of an eviction: EVICTED in place of the slot, the level, when
# (thrice), its size, the level that the block moves to or -3, the block, and whether it had been written to.
LOG_SLOT, LOG_STAGE, LOG_REACHED_NS, LOG_START_NS, LOG_END_NS, LOG_SIZE, LOG_PURPOSE, LOG_BLOCK, LOG_ROW, LOG_WHOLE = (
    range(10)
)
LOG_COLUMNS = 10
AT_ONCE, EVICTED = -1, -2  # in place of a slot: a request that one server answers without a transfer; an eviction


class Workload(NamedTuple):
    """The accesses to serve. arrival_ns is empty in a closed loop, size_bytes where each is of the block's own size."""

    columns: Columns
    think_ns: np.ndarray  # float64[n], closed loop: from a client's previous completion to this request


class Answers(NamedTuple):
    """What became of each request."""

    latency_ns: np.ndarray  # float64[n], NaN until it is complete
    arrival_ns: np.ndarray  # float64[n], the trace's own in an open loop
    parts_ns: np.ndarray  # float32[n, 4] queue, device, link, waiting for another's fetch
    level: np.ndarray  # int8[n] that served it
    outcome: np.ndarray  # int8[n]
    next_waiting: np.ndarray  # int32[n] list of those that wait for the same fetch


class Traffic(NamedTuple):
    """What passed each server: a column per device direction and link direction."""

    bytes: np.ndarray  # int64[columns, len(PURPOSES)]
    requests: np.ndarray  # int64[columns]
    wait_ns: np.ndarray  # float64[columns] sum over what queued there


class Engine(NamedTuple):
    """All of it, as one argument. L levels, B blocks, p transfers under way at most (the pool grows)."""

    plug: object  # residency.Plugins
    model: object  # stack of device models, one level a model
    model_states: tuple
    devices: EventDevices  # those simulated event by event
    prefetch: object
    prefetch_state: object
    res: object  # residency.Residency
    work: Workload
    first_stage: np.ndarray  # int64[4 L L + 1] route r is stages[first_stage[r]:first_stage[r + 1]]
    stages: np.ndarray  # uint32[., 5] SERVER (level of the model stack), ROW_OF_MODEL, COLUMN, IS_WRITE, PART; where
    #   the row is DRIVEN, the server is one of `devices`, by number
    times: np.ndarray  # float64[p, 5] of the transfers under way
    facts: np.ndarray  # int64[p, 10] of the transfers under way
    starts: np.ndarray  # int64[.] transfers that the event at hand will start
    fetching: np.ndarray  # int32[B] transfer that brings the block up, or NOBODY
    answers: Answers
    traffic: Traffic
    proposals: np.ndarray  # int64[degree] addresses that the prefetcher proposes
    index_keys: np.ndarray  # address -> block, where there is a prefetcher
    index_values: np.ndarray
    events: EventHeap
    counts: np.ndarray  # int64[11] ISSUED .. LOGGED
    clock_ns: np.ndarray  # float64[2] NOW, LAST_COMPLETION
    log: np.ndarray  # float64[., 10] what servers did and levels gave up, in order of events; empty: nobody asks


def make_pool(slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and facts of a pool of free transfers, each pointing to the next free one."""
    facts = np.zeros((slots, 10), np.int64)
    facts[:, NEXT_FREE] = np.arange(1, slots + 1)
    return np.zeros((slots, 5)), facts


def with_more_room(engine: Engine) -> Engine:
    """The same state with twice the slots for transfers, and room for their events."""
    slots = len(engine.times)
    times, facts = make_pool(2 * slots)
    times[:slots], facts[:slots] = engine.times, engine.facts
    facts[-1, NEXT_FREE] = engine.counts[FREE]
    engine.counts[FREE] = slots
    engine.counts[FREE_COUNT] += slots
    events = make_heap(engine.events.time_ns.size + slots)
    for before, after in zip(engine.events, events, strict=True):
        after[: before.size] = before
    devices = with_more_slots(engine.devices, slots)
    return engine._replace(times=times, facts=facts, events=events, devices=devices)


@inlined
def route_number(levels, kind, source, target):
    """`target` is 0 where the kind of route has only one end in the hierarchy."""
    return (kind * levels + source) * levels + target


@inlined
def take_slot(facts, counts):
    slot = known_natural(counts[FREE])
    counts[FREE] = facts[slot, NEXT_FREE]
    counts[FREE_COUNT] -= 1
    return slot


@inlined
def add_start(engine, route, block, row, size, purpose, source, fills):
    """Take a slot for a transfer that the event at hand is going to start."""
    times, facts, counts = engine.times, engine.facts, engine.counts
    slot = take_slot(facts, counts)
    facts[slot, BLOCK], facts[slot, ROW], facts[slot, SIZE], facts[slot, PURPOSE] = block, row, size, purpose
    facts[slot, SOURCE_LEVEL], facts[slot, TO_FILL], facts[slot, WAITING] = source, fills, NOBODY
    facts[slot, STAGE], facts[slot, LAST_STAGE] = engine.first_stage[route], engine.first_stage[route + 1]
    times[slot, QUEUE_NS], times[slot, DEVICE_NS], times[slot, LINK_NS] = 0.0, 0.0, 0.0
    now_ns = engine.clock_ns[NOW]
    times[slot, HEAD_NS], times[slot, TAIL_NS] = now_ns, now_ns
    begin(engine.devices, slot, route, size)
    if purpose == PREFETCH or (purpose == REQUEST and source > 0):
        engine.fetching[block] = slot
    at = counts[TO_START]
    engine.starts[at] = slot
    counts[TO_START] = at + 1


@inlined
def note(engine, slot, stage, reached_ns, start_ns, end_ns, size, purpose, block, row, whole):
    """Add a record to the log, where there is one."""
    log, counts = engine.log, engine.counts
    if log.size:
        at = known_natural(counts[LOGGED])
        counts[LOGGED] = at + 1
        if at < len(log):
            log[at, LOG_SLOT], log[at, LOG_STAGE], log[at, LOG_REACHED_NS] = slot, stage, reached_ns
            log[at, LOG_START_NS], log[at, LOG_END_NS], log[at, LOG_SIZE] = start_ns, end_ns, size
            log[at, LOG_PURPOSE], log[at, LOG_BLOCK], log[at, LOG_ROW] = purpose, block, row
            log[at, LOG_WHOLE] = whole


@inlined
def note_evictions(engine, since, now_ns):
    """Add those among the moves from place `since` of the list on to the log."""
    moves, size_of = engine.res.moves, engine.res.size_of
    for at in range(since, engine.res.state[END]):
        cause = moves[at, MOVE_CAUSE]
        if cause in (CLEAN_EVICTION, DIRTY_EVICTION):
            level, target, block = moves[at, MOVE_EVICTED_FROM], moves[at, MOVE_TARGET], moves[at, MOVE_BLOCK]
            dirty = cause == DIRTY_EVICTION
            note(engine, EVICTED, level, now_ns, now_ns, now_ns, size_of[block], target, block, dirty, NOBODY)


@inlined
def note_stage(engine, slot, reached_ns, start_ns, end_ns):
    """Add what the server at hand did for a transfer to the log, where there is one."""
    if engine.log.size:
        facts, devices = engine.facts, engine.devices
        whole = devices.chunks[slot, PARENT] if is_chunk(devices, slot) else np.int64(NOBODY)
        row = facts[whole, ROW] if whole >= 0 else facts[slot, ROW]
        stage, size, purpose = facts[slot, STAGE], facts[slot, SIZE], facts[slot, PURPOSE]
        note(engine, slot, stage, reached_ns, start_ns, end_ns, size, purpose, facts[slot, BLOCK], row, whole)


@inlined
def give_back(facts, counts, slot):
    facts[slot, NEXT_FREE] = counts[FREE]
    counts[FREE] = slot
    counts[FREE_COUNT] += 1


@inlined
def think(think_ns, events, counts, now_ns):
    """A client of a closed loop is free from now_ns on; it thinks, then sends its next request."""
    drawn = counts[DRAWN]
    if drawn < think_ns.size:
        counts[DRAWN] = drawn + 1
        push(events, now_ns + think_ns[drawn], ARRIVAL)


@kernel
def start_clients(think_ns, events, counts, clients):
    """Let the clients of a closed loop begin to think at time 0."""
    for _ in range(clients):
        think(think_ns, events, counts, 0.0)


@inlined
def complete(latency_ns, arrival_ns, think_ns, events, counts, clock_ns, row, now_ns):
    """The request is answered; in a closed loop its client will send another."""
    latency_ns[row] = now_ns - arrival_ns[row]
    counts[COMPLETED] += 1
    clock_ns[LAST_COMPLETION] = max(clock_ns[LAST_COMPLETION], now_ns)
    if think_ns.size:
        think(think_ns, events, counts, now_ns)


@inlined
def store_parts(answers, times, row, slot):
    """Of what its request's time was made."""
    answers.parts_ns[row, QUEUE_NS] = times[slot, QUEUE_NS]
    answers.parts_ns[row, DEVICE_NS] = times[slot, DEVICE_NS]
    answers.parts_ns[row, LINK_NS] = times[slot, LINK_NS]


@inlined
def arrive(engine, levels, slot, now_ns):
    """A transfer has passed its last server: answer those who wait for it, start the fills of upper levels."""
    times, facts, answers, work = engine.times, engine.facts, engine.answers, engine.work
    events, counts, clock_ns = engine.events, engine.counts, engine.clock_ns
    fetching, flags, size_of = engine.fetching, engine.res.flags, engine.res.size_of
    slot = whole_of(engine, slot)
    if slot < 0:
        return
    block, row = known_natural(facts[slot, BLOCK]), facts[slot, ROW]
    if row >= 0:
        store_parts(answers, times, row, slot)
        answers.next_waiting[row] = facts[slot, WAITING]
    else:
        row = facts[slot, WAITING]
    waited = facts[slot, ROW] < 0
    while row >= 0:
        if waited:
            answers.parts_ns[row, WAIT_NS] = now_ns - answers.arrival_ns[row]
        complete(answers.latency_ns, answers.arrival_ns, work.think_ns, events, counts, clock_ns, row, now_ns)
        waited = True
        row = np.int64(answers.next_waiting[row])
    if fetching[block] == slot:
        fetching[block] = NOBODY
    for level in range(levels - 1):
        if facts[slot, TO_FILL] >> level & 1 and holds(flags, block, level):
            source = facts[slot, SOURCE_LEVEL]
            route = route_number(levels, FILL_LEVEL, source, level)
            add_start(engine, route, block, NOBODY, size_of[block], FILL, source, 0)
    give_back(facts, counts, slot)


@inlined
def whole_of(engine, slot):
    """What has arrived with this transfer: itself, or what it was the last chunk of; NOBODY while others are due."""
    devices, times, facts = engine.devices, engine.times, engine.facts
    if not is_chunk(devices, slot):
        return slot
    whole = known_natural(devices.chunks[slot, PARENT])
    devices.chunks[whole, LEFT] -= 1
    if devices.chunks[whole, LEFT] > 0:
        whole = np.int64(NOBODY)
    else:
        for part in range(QUEUE_NS, TAIL_NS + 1):
            times[whole, part] = times[slot, part]
    give_back(facts, engine.counts, slot)
    return whole


@inlined
def cut(engine, slot, now_ns):
    """Let a transfer that is about to begin travel in chunks, which reach its first server at once, in order."""
    times, facts, counts, chunks = engine.times, engine.facts, engine.counts, engine.devices.chunks
    size_bytes, chunk_bytes, offset = facts[slot, SIZE], chunks[slot, CHUNK_BYTES], 0
    chunks[slot, LEFT] = 0
    while offset < size_bytes:
        chunk = take_slot(facts, counts)
        facts[chunk, BLOCK], facts[chunk, ROW], facts[chunk, WAITING] = facts[slot, BLOCK], NOBODY, NOBODY
        facts[chunk, SIZE], facts[chunk, PURPOSE] = min(chunk_bytes, size_bytes - offset), facts[slot, PURPOSE]
        facts[chunk, SOURCE_LEVEL], facts[chunk, TO_FILL] = facts[slot, SOURCE_LEVEL], 0
        facts[chunk, STAGE], facts[chunk, LAST_STAGE] = facts[slot, STAGE], facts[slot, LAST_STAGE]
        for part in range(QUEUE_NS, TAIL_NS + 1):
            times[chunk, part] = times[slot, part]
        chunks[chunk, PARENT], chunks[chunk, OFFSET], chunks[chunk, CHUNK_BYTES] = slot, offset, 0
        chunks[slot, LEFT] += 1
        push(engine.events, now_ns, chunk)
        offset += chunk_bytes


@inlined
def enter(engine, slot, now_ns):
    """A transfer reaches a device that is simulated by events."""
    devices, facts, stages = engine.devices, engine.facts, engine.stages
    stage = known_natural(facts[slot, STAGE])
    column, purpose = np.int64(stages[stage, COLUMN]), known_natural(facts[slot, PURPOSE])
    engine.traffic.bytes[column, purpose] += facts[slot, SIZE]
    engine.traffic.requests[column] += 1
    number = np.int64(stages[stage, SERVER])
    wait_in_front(devices, number, slot)
    work_on(engine, number, now_ns)


@inlined
def work_on(engine, number, now_ns):
    """Bring a device to now_ns: let go on what it is done with, hand over what waits, and ask it what comes next."""
    devices, times, facts, stages = engine.devices, engine.times, engine.facts, engine.stages
    done = devices.model.advance(devices.states, number, now_ns)
    for place in range(done):
        slot = known_natural(devices.model.done_ticket(devices.states, number, place))
        done_ns = devices.model.done_at_ns(devices.states, number, place)
        stage = known_natural(facts[slot, STAGE])
        head_ns, tail_ns = times[slot, HEAD_NS], times[slot, TAIL_NS]
        passed_ns = max(done_ns, tail_ns)
        waited_ns = devices.sent_ns[slot] - head_ns
        queued_ns = min(waited_ns, passed_ns - tail_ns)
        times[slot, QUEUE_NS] += queued_ns
        times[slot, np.int64(stages[stage, PART])] += passed_ns - tail_ns - queued_ns
        times[slot, HEAD_NS], times[slot, TAIL_NS] = done_ns, passed_ns
        engine.traffic.wait_ns[np.int64(stages[stage, COLUMN])] += waited_ns
        note_stage(engine, slot, head_ns, devices.sent_ns[slot], passed_ns)
        facts[slot, STAGE] = stage + 1
        reached_ns = done_ns if stage + 1 < facts[slot, LAST_STAGE] else passed_ns
        push(engine.events, max(reached_ns, now_ns), slot)
    count_done(devices, number, done, now_ns)
    slot = first_waiting(devices, number)
    while slot >= 0:
        slot = known_natural(slot)
        is_write = stages[known_natural(facts[slot, STAGE]), IS_WRITE] == 1
        if not hand_over(devices, number, slot, now_ns, facts[slot, BLOCK], facts[slot, SIZE], is_write):
            break
        forget_first_waiting(devices, number)
        slot = first_waiting(devices, number)
    plan_next(devices, number)


@inlined
def is_fetch(fetching, facts, slot):
    """Whether a transfer brings its block up, so that others may come to wait for it."""
    return facts[slot, PURPOSE] in (REQUEST, PREFETCH) and fetching[facts[slot, BLOCK]] == slot


@inlined
def request_to_prefetch(res, counts, block, address, asked):
    """The access that the prefetcher makes to `block` on the occasion of the request `asked`."""
    if block == counts[KNOWN]:  # an address that the trace does not have: a block like the one asked for
        counts[KNOWN] = block + 1
        res.address_of[block] = address
        res.size_of[block] = res.size_of[asked.block]
    return request_for_block(res.hints, res.address_of, res.size_of, block, asked)


@inlined
def next_move(moves, state):
    """Place on the list of the next move that is one, or -1."""
    at = known_natural(state[STARTED])
    while at < state[END]:
        if moves[at, MOVE_TARGET] >= 0:
            state[STARTED] = at
            return at
        at += 1
    state[STARTED] = at
    return np.int64(-1)


@kernel
def advance(engine, until_ns, shrink_level, shrink_to_bytes):
    """Take every event before `until_ns`; why it stopped. The time of the next event is then in `clock_ns[NOW]`.

    shrink_level: NOBODY, or the level from which, at `until_ns` and before anything else, blocks are to be evicted
    until it holds at most `shrink_to_bytes`.
    """
    res, work, answers = engine.res, engine.work, engine.answers
    times, facts, starts, stages = engine.times, engine.facts, engine.starts, engine.stages
    events, counts, clock_ns = engine.events, engine.counts, engine.clock_ns
    fetching, proposals, first_stage, devices = engine.fetching, engine.proposals, engine.first_stage, engine.devices
    flags, size_of, moves, state, traffic = res.flags, res.size_of, res.moves, res.state, engine.traffic
    levels, rows = len(engine.plug.eviction_states), work.columns.block.size  # levels: a constant to the compiler
    closed = work.think_ns.size > 0
    reserve = most_slots(devices, len(starts))  # what an event starts itself; moves wait in their list for a slot
    logging = engine.log.size > 0
    log_room = len(engine.log) // 2 if logging else np.int64(1)  # an event may add many records
    while True:
        if state[FAULT]:
            return FAULTY
        if counts[FREE_COUNT] <= reserve:
            return NEEDS_ROOM
        if counts[KNOWN] + proposals.size > fetching.size:
            return NEEDS_BLOCKS
        if counts[LOGGED] >= log_room:
            return LOG_FULL
        arriving, daemon, slot, now_ns = False, False, np.int64(NOBODY), clock_ns[NOW]
        if next_move(moves, state) < 0:  # what was left for want of slots comes first
            forget_moves(state)
            event_ns = next_event_ns(events)
            arrival_ns = work.columns.arrival_ns[counts[ISSUED]] if not closed and counts[ISSUED] < rows else np.inf
            device, device_ns = soonest(devices)
            now_ns = min(event_ns, arrival_ns, device_ns)
            if now_ns >= until_ns:
                if shrink_level == NOBODY:
                    clock_ns[NOW] = now_ns
                    return FINISHED if now_ns == np.inf else AT_LIMIT
                now_ns, daemon = until_ns, True
            elif device >= 0 and device_ns == now_ns:
                clock_ns[NOW] = now_ns
                work_on(engine, device, now_ns)
                continue
            elif arrival_ns < event_ns:
                arriving = True
            else:
                slot = np.int64(take(events))
                arriving = slot == ARRIVAL and counts[ISSUED] < rows
            clock_ns[NOW] = now_ns
            counts[EVENTS] += 1
        if arriving or daemon:
            slot = np.int64(NOBODY)
            row = known_natural(counts[ISSUED])
            asked = make_request(row, NO_BLOCK, NO_BLOCK, 0, now_ns)
            if arriving:
                counts[ISSUED] = row + 1
                block_bytes = size_of[work.columns.block[row]]
                asked = request_at(work.columns, row, row, res.address_of, block_bytes, now_ns)
                if not work.columns.arrival_ns.size:
                    answers.arrival_ns[row] = now_ns
            request, who = asked, DAEMON if daemon else DEMAND
            proposed, proposal = 0, 0
            while True:
                block = request.block
                was_in_top = levels == 1 or who == DAEMON or holds(flags, block, 0)
                moves_before = state[END]
                served = access(engine.plug, res, request, who, shrink_level, shrink_to_bytes)
                if logging:
                    note_evictions(engine, moves_before, now_ns)
                if who == DAEMON:
                    shrink_level = NOBODY
                    break
                if who == DEMAND:
                    answers.level[row] = served
                    under_way = fetching[block]
                    if request.is_write:
                        answers.outcome[row] = WRITE
                        route = route_number(levels, TO_LEVEL, state[WRITTEN_LEVEL], 0)
                        add_start(engine, route, block, row, request.size_bytes, REQUEST, 0, 0)
                    elif under_way >= 0:
                        answers.outcome[row] = DELAYED_HIT
                        answers.next_waiting[row] = facts[under_way, WAITING]
                        facts[under_way, WAITING] = row
                        facts[under_way, TO_FILL] |= state[FILLS]
                        counts[REJOINED] += not was_in_top
                    else:
                        answers.outcome[row] = HIT if served == 0 else FETCH
                        route = route_number(levels, FROM_LEVEL, served, 0)
                        size = request.size_bytes
                        stage = known_natural(first_stage[route])
                        alone = first_stage[route + 1] == stage + 1
                        simple = alone and not closed and not is_driven(devices, stages[stage, ROW_OF_MODEL])
                        if served == 0 and simple:
                            # one server and nothing after it: answered here and now, without a transfer
                            column, part = np.int64(stages[stage, COLUMN]), np.int64(stages[stage, PART])
                            start_ns, _, end_ns, _ = engine.model.serve(
                                engine.model_states,
                                np.int64(stages[stage, SERVER]),
                                np.int64(stages[stage, ROW_OF_MODEL]),
                                now_ns,
                                size,
                                False,
                            )
                            answers.parts_ns[row, QUEUE_NS] = start_ns - now_ns
                            answers.parts_ns[row, part] = end_ns - start_ns
                            answers.latency_ns[row] = end_ns - now_ns
                            counts[COMPLETED] += 1
                            clock_ns[LAST_COMPLETION] = max(clock_ns[LAST_COMPLETION], end_ns)
                            traffic.bytes[column, REQUEST] += size
                            traffic.requests[column] += 1
                            traffic.wait_ns[column] += start_ns - now_ns
                            if logging:
                                note(
                                    engine, AT_ONCE, stage, now_ns, start_ns, end_ns, size, REQUEST, block, row, NOBODY
                                )
                        else:
                            add_start(engine, route, block, row, size, REQUEST, served, state[FILLS])
                    if proposals.size:
                        proposed = engine.prefetch.propose(engine.prefetch_state, asked, served == 0, proposals)
                        counts[PROPOSED] += proposed
                    who = PREFETCHING
                elif holds(flags, block, 0):
                    flags[block] |= PREFETCHED
                    res.counts[0, PREFETCHES] += 1
                    route = route_number(levels, BETWEEN_LEVELS, served, 0)
                    fills = state[FILLS] & ~1
                    add_start(engine, route, block, NOBODY, size_of[block], PREFETCH, served, fills)
                found = False
                while proposal < proposed and not found:
                    address = proposals[proposal]
                    proposal += 1
                    block = find_or_add(engine.index_keys, engine.index_values, address, counts[KNOWN])
                    request = request_to_prefetch(res, counts, block, address, asked)
                    found = fetching[block] < 0 and not holds(flags, block, 0)
                if not found:
                    break
        elif slot >= 0 and facts[slot, STAGE] == facts[slot, LAST_STAGE]:
            arrive(engine, levels, slot, now_ns)
            slot = np.int64(NOBODY)
        started = 0
        while True:  # step the transfer whose event this is, or start what the event brought about, one by one
            if slot < 0:
                if started == counts[TO_START]:
                    counts[TO_START], started = 0, 0
                    move = next_move(moves, state)
                    if move < 0 or counts[FREE_COUNT] <= reserve:
                        break
                    state[STARTED] = move + 1
                    block = known_natural(moves[move, MOVE_BLOCK])
                    source, target = known_natural(moves[move, MOVE_SOURCE]), known_natural(moves[move, MOVE_TARGET])
                    route = route_number(levels, BETWEEN_LEVELS, source, target)
                    for_nobody = NOBODY - np.int64(moves[move, MOVE_CAUSE])
                    add_start(engine, route, block, for_nobody, size_of[block], MOVE, source, 0)
                slot = known_natural(starts[started])
                started += 1
                if is_cut(devices, slot):
                    cut(engine, slot, now_ns)
                    slot = np.int64(NOBODY)
                    continue
            slot = known_natural(slot)
            stage, purpose = known_natural(facts[slot, STAGE]), known_natural(facts[slot, PURPOSE])
            size = facts[slot, SIZE]
            if is_driven(devices, stages[stage, ROW_OF_MODEL]):
                enter(engine, slot, now_ns)
                slot = np.int64(NOBODY)
                continue
            head_ns, tail_ns = times[slot, HEAD_NS], times[slot, TAIL_NS]
            column, part = np.int64(stages[stage, COLUMN]), np.int64(stages[stage, PART])
            start_ns, first_ns, end_ns, latency_ns = engine.model.serve(
                engine.model_states,
                np.int64(stages[stage, SERVER]),
                np.int64(stages[stage, ROW_OF_MODEL]),
                head_ns,
                size,
                stages[stage, IS_WRITE] == 1,
            )
            passed_ns = max(end_ns, tail_ns + latency_ns)
            added_ns = passed_ns - tail_ns
            queued_ns = min(start_ns - head_ns, added_ns - latency_ns)
            times[slot, QUEUE_NS] += queued_ns
            times[slot, part] += added_ns - queued_ns
            times[slot, HEAD_NS], times[slot, TAIL_NS] = first_ns, passed_ns
            if logging:
                note_stage(engine, slot, head_ns, start_ns, passed_ns)
            facts[slot, STAGE] = stage + 1
            traffic.bytes[column, purpose] += size
            traffic.requests[column] += 1
            traffic.wait_ns[column] += start_ns - head_ns
            if stage + 1 < facts[slot, LAST_STAGE]:
                push(events, first_ns, slot)
            elif closed or is_chunk(devices, slot) or is_fetch(fetching, facts, slot):
                push(events, passed_ns, slot)
            else:  # nothing follows from its arrival, so that no event is needed for it
                row = facts[slot, ROW]
                if row >= 0:
                    store_parts(answers, times, row, slot)
                    answers.latency_ns[row] = passed_ns - answers.arrival_ns[row]
                    counts[COMPLETED] += 1
                    clock_ns[LAST_COMPLETION] = max(clock_ns[LAST_COMPLETION], passed_ns)
                give_back(facts, counts, slot)
            slot = np.int64(NOBODY)


SAMPLED = ("used_bytes", "held_blocks", "lookups", "hits", "free_bytes", "largest_free_bytes", "internal_bytes")


@kernel
def sample(engine, out):
    """Fill `out`, int64[caching levels, len(SAMPLED)], with what a monitor reads of each level at this moment."""
    plug, res = engine.plug, engine.res
    for level in range(len(out)):
        out[level, 0] = res.levels[level, USED]
        out[level, 1] = res.levels[level, HELD]
        out[level, 2] = res.counts[level, LOOKUPS]
        out[level, 3] = res.counts[level, HITS]
        out[level, 4] = plug.allocator.free_bytes(plug.allocator_states, level)
        out[level, 5] = plug.allocator.largest_free_bytes(plug.allocator_states, level)
        out[level, 6] = plug.allocator.internal_bytes(plug.allocator_states, level)
