"""Lines on their way through slices, banks, ports and the link between two partitions, from event to event.

Banks, ports and links are servers that take lines in order of their coming; each keeps only the time from which it is
free. A bank is held for its cycle and passes a line on at once (it is pipelined); a port, which leads to the requesters
of its own partition, and the link are held for the transfer. Unloaded, a line of s bytes is done after

    latency + s / port                                  in the requester's own partition
    latency + 2 x crossing + line / link + s / port     read in the other one
    latency + 2 x crossing + line / link                written in the other one

A line asked for from one partition goes to the slice there that may have it. Where it is neither at home nor copied
there, it goes on to its home, and a read leaves a copy, in place of a random other one where the partition is full:
what is at home in a partition is never given up for a copy. A write goes home and drops the copy. Two misses of one
line at once both cross.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.event_heap import next_event_ns, push, take
from sim.kernels.random import below
from sim.sram.places import BANKS, LINE, LINES, ONE_SIDED, PARTITIONS, QUEUE, SLICES, home_of, side_of
from sim.sram.state import (
    BANK_CONFLICTS,
    BANK_NS,
    CROSS_NS,
    FAR_ACCESSES,
    FREE_JOB,
    FREE_REQUEST,
    FRONT,
    FRONT_ADDRESS,
    FRONT_END,
    FRONT_WRITE,
    LATENCY_NS,
    LEFT,
    LINK_NS,
    NEAR,
    NEAR_HITS,
    NEXT,
    NEXT_FREE,
    NUMBER,
    OF_REQUEST,
    PORT_NS_PER_BYTE,
    PORT_WAITS,
    READ_BYTES,
    READS,
    SIZE,
    STAGE,
    TICKET,
    WRITE,
    WRITES,
    WRITTEN_BYTES,
)

# what happens to a line at its next event
_AT_BANK, _AT_HOME, _AT_HOME_BANK, _AT_NEAR, _FILLED, _AT_PORT, _DONE = range(7)


def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
    """Take in one request; False, and nothing is changed, where the queue that its first line needs is full.

    Lines of it that do not fit wait in front of the queues, and so does every later request. An address beyond the
    capacity wraps around.
    """
    shared, request = state.shared, state.request
    row = shared[FREE_REQUEST]
    if shared[FRONT] >= 0 or row < 0:
        return False
    end = address + max(size_bytes, 1)
    first, last = address // state.rule[LINE], (end - 1) // state.rule[LINE]
    if not _has_room(state, first, ticket):
        return False
    shared[FREE_REQUEST] = request[row, NEXT_FREE]
    request[row, TICKET], request[row, LEFT] = ticket, last - first + 1
    state.counts[WRITES if is_write else READS] += 1
    state.counts[WRITTEN_BYTES if is_write else READ_BYTES] += end - address
    shared[FRONT], shared[FRONT_ADDRESS], shared[FRONT_END], shared[FRONT_WRITE] = row, address, end, is_write
    _feed(state, arrival_ns)
    return True


def advance(state, until_ns):
    """Simulate all that happens up to until_ns; how many completions there are in done_ticket and done_ns."""
    done = 0
    while True:
        now_ns = next_event_ns(state.events)
        if now_ns > until_ns or now_ns == np.inf:
            return done
        at = take(state.events)
        if state.job[at, STAGE] == _DONE:
            row = state.job[at, OF_REQUEST]
            _release(state, at)
            if _is_last(state, row):
                state.done_ticket[done], state.done_ns[done] = state.request[row, TICKET], now_ns
                done += 1
            _feed(state, now_ns)
        else:
            _step(state, at, now_ns)


def next_event(state):
    """When something next happens, ns; infinity while nothing is under way."""
    return next_event_ns(state.events)


# --- a line's way ----------------------------------------------------------------------------------------------------


@subroutine
def _step(state, at, now_ns):
    """What is due happens to a line, and its next event is entered."""
    job, time_ns, slices = state.job, state.time_ns, state.rule[SLICES]
    stage, near, is_write = job[at, STAGE], job[at, NEAR], job[at, WRITE]
    home, bank = home_of(state.rule, job[at, NUMBER])
    if stage == _AT_BANK:
        if home == near or (not is_write and state.copy_at[job[at, NUMBER]] >= 0):
            state.counts[NEAR_HITS] += 1
            _to_port(state, at, now_ns)
            return
        state.counts[FAR_ACCESSES] += 1
        sent_ns = now_ns
        if is_write:
            sent_ns = _hold(state.link_free_ns, 2 * home // slices, now_ns, time_ns[LINK_NS]) + time_ns[LINK_NS]
        _later(state, at, _AT_HOME, sent_ns + time_ns[CROSS_NS])
    elif stage == _AT_HOME:
        _later(state, at, _AT_HOME_BANK, _hold_bank(state, home, bank, now_ns))
    elif stage == _AT_HOME_BANK:
        if is_write:
            _drop_copy(state, job[at, NUMBER], 1 - 2 * home // slices)
            state.queued[near] -= 1
            _later(state, at, _DONE, now_ns + time_ns[CROSS_NS] + time_ns[LATENCY_NS])
            _feed(state, now_ns)
            return
        sent_ns = _hold(state.link_free_ns, 2 * near // slices, now_ns, time_ns[LINK_NS]) + time_ns[LINK_NS]
        _later(state, at, _AT_NEAR, sent_ns + time_ns[CROSS_NS])
    elif stage == _AT_NEAR:
        _later(state, at, _FILLED, _hold_bank(state, near, bank, now_ns))
    elif stage == _FILLED:
        _add_copy(state, job[at, NUMBER], 2 * near // slices)
        _to_port(state, at, now_ns)
    else:  # its data begin to pass the port
        if is_write and state.rule[PARTITIONS] == 2:
            _drop_copy(state, job[at, NUMBER], 1 - 2 * home // slices)
        state.queued[near] -= 1
        _later(state, at, _DONE, now_ns + job[at, SIZE] * time_ns[PORT_NS_PER_BYTE] + time_ns[LATENCY_NS])
        _feed(state, now_ns)


@inlined
def _to_port(state, at, now_ns):
    job = state.job
    hold_ns = job[at, SIZE] * state.time_ns[PORT_NS_PER_BYTE]
    start_ns = _hold(state.port_free_ns, job[at, NEAR], now_ns, hold_ns)
    state.counts[PORT_WAITS] += start_ns > now_ns
    _later(state, at, _AT_PORT, start_ns)


@inlined
def _later(state, at, stage, when_ns):
    state.job[at, STAGE] = stage
    push(state.events, when_ns, at)


@inlined
def _hold(free_ns, server, now_ns, hold_ns):
    """Hold a server as soon as it is free; since when."""
    start_ns = max(now_ns, free_ns[server])
    free_ns[server] = start_ns + hold_ns
    return start_ns


@inlined
def _hold_bank(state, at_slice, bank, now_ns):
    start_ns = _hold(state.bank_free_ns, at_slice * state.rule[BANKS] + bank, now_ns, state.time_ns[BANK_NS])
    state.counts[BANK_CONFLICTS] += start_ns > now_ns
    return start_ns


# --- copies ----------------------------------------------------------------------------------------------------------


@inlined
def _add_copy(state, line, partition):
    """Keep a line beside what is at home in this partition, where it is not kept already and there is any room."""
    copies, room = state.copies, state.copy_room
    if state.copy_at[line] >= 0 or room[partition, 1] == 0:
        return
    place = room[partition, 0]
    if place < room[partition, 1]:
        room[partition, 0] = place + 1
    else:
        place = below(state.rng, room[partition, 1])
        state.copy_at[copies[partition, place]] = -1
    copies[partition, place] = line
    state.copy_at[line] = place


@inlined
def _drop_copy(state, line, partition):
    """Forget the copy of a line that has changed, if there is one; the last copy takes its place."""
    copies, room, place = state.copies, state.copy_room, state.copy_at[line]
    if place < 0:
        return
    last = room[partition, 0] - 1
    moved = copies[partition, last]
    copies[partition, place] = moved
    state.copy_at[moved] = place
    state.copy_at[line] = -1
    room[partition, 0] = last


# --- requests and their lines ----------------------------------------------------------------------------------------


@inlined
def _near(state, line, ticket):
    """The slice that a request asks for a line, and the bank."""
    at_slice, bank = home_of(state.rule, line % state.rule[LINES])
    if state.rule[PARTITIONS] == 2:
        half = state.rule[SLICES] // 2
        at_slice %= half
        if state.rule[ONE_SIDED] == 0:
            at_slice += side_of(ticket) * half
    return at_slice, bank


@inlined
def _has_room(state, line, ticket):
    at_slice, _ = _near(state, line, ticket)
    return state.shared[FREE_JOB] >= 0 and state.queued[at_slice] < state.rule[QUEUE]


@subroutine
def _feed(state, now_ns):
    """Let in the lines of the request in front for which there is room, in order."""
    shared, job, rule = state.shared, state.job, state.rule
    row = shared[FRONT]
    if row < 0:
        return
    address, end, ticket = shared[FRONT_ADDRESS], shared[FRONT_END], state.request[row, TICKET]
    while address < end:
        line = address // rule[LINE]
        at_slice, bank = _near(state, line, ticket)
        at = shared[FREE_JOB]
        if at < 0 or state.queued[at_slice] >= rule[QUEUE]:
            break
        upto = min(end, (line + 1) * rule[LINE])
        shared[FREE_JOB] = job[at, NEXT]
        job[at, NUMBER], job[at, OF_REQUEST], job[at, NEAR] = line % rule[LINES], row, at_slice
        job[at, SIZE], job[at, WRITE] = upto - address, shared[FRONT_WRITE]
        state.queued[at_slice] += 1
        _later(state, at, _AT_BANK, _hold_bank(state, at_slice, bank, now_ns))
        address = upto
    shared[FRONT_ADDRESS] = address
    if address >= end:
        shared[FRONT] = -1


@inlined
def _release(state, at):
    state.job[at, NEXT] = state.shared[FREE_JOB]
    state.shared[FREE_JOB] = at


@inlined
def _is_last(state, row):
    """A line of a request is done; whether that was the last one, with which the request's place is free."""
    request = state.request
    request[row, LEFT] -= 1
    if request[row, LEFT] > 0:
        return False
    request[row, NEXT_FREE] = state.shared[FREE_REQUEST]
    state.shared[FREE_REQUEST] = row
    return True
