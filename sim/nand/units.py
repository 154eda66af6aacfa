"""Channels and what hangs on them: which transactions make a command, when it runs, when its data moves.

Transactions wait at a unit: a die, or a whole chip where dies do not work at once. A unit takes one command at a time:
a read holds it until the last byte has left. A channel moves one thing at a time: data read first (translation pages
before the host's, before garbage collection's), then new commands, the units in turn. A unit prefers mapping reads,
then host reads, then programs, then erases; garbage collection comes after the host until a plane of the unit is nearly
out of free blocks, then before it. Transactions to the same page number in several planes of a die make one multi-plane
command. A read may suspend a program or an erase that has long to go, a write an erase.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.event_heap import push
from sim.nand.host import COMMAND_SENT, DATA_SENT, UNIT_DONE, event_code
from sim.nand.rows import append, pop
from sim.nand.state import (
    ACTIVE,
    ARRAY_NS,
    ARRAYS_BUSY,
    BLOCKS,
    BUSY,
    BYTES,
    CHAIN_NEXT,
    CHANNEL,
    CHANNEL_BYTES,
    CHANNEL_NS_PER_BYTE,
    CHANNEL_ROWS,
    CHANNEL_WORDS,
    CHANNELS_BUSY,
    COMMAND_NS,
    DOING,
    ERASE,
    FINISH,
    FIRST_PLANE,
    FIRST_UNIT,
    FLASH_PAGE,
    FREE_COUNT,
    FREE_RING,
    FROM_COLLECTION,
    FROM_HOST,
    FROM_MAPPING,
    HARD_THRESHOLD,
    HEAD,
    IS_TOUCHED,
    KINDS_OF_PAGE,
    LEAST_LEFT_NS,
    MOST_PLANES,
    MOST_SUSPENDS,
    MOVING,
    MULTI_PLANE_COMMANDS,
    NEXT,
    NONE,
    NOW,
    OP,
    OPERATION,
    OUT,
    PAGES,
    PAGES_READ,
    PLANE,
    PLANES_PER_DIE,
    PLANES_PER_UNIT,
    PROGRAM,
    QUEUED,
    QUEUES,
    READ,
    READ_COMMANDS,
    READ_OF_KIND,
    REMAINING,
    SOURCE,
    STALLED,
    SUSPEND_COMMAND_NS,
    SUSPEND_ERASE,
    SUSPEND_FOR_WRITES,
    SUSPEND_NS,
    SUSPEND_PROGRAM,
    SUSPENDED,
    SUSPENDED_OPERATION,
    SUSPENSIONS,
    TIMES_SUSPENDED,
    TO_SEND,
    TOUCHED,
    TURN,
    UNIT_ROWS,
    UNIT_WORDS,
    UNITS_PER_CHANNEL,
)
from sim.nand.transactions import chain_of, take_out, touch

IDLE, WORKING, SENDING = range(3)  # what a unit is doing

_MAPPING_READ, _HOST_READ, _COLLECTION_READ = 3 * READ + FROM_MAPPING, 3 * READ + FROM_HOST, 3 * READ + FROM_COLLECTION
_MAPPING_PROGRAM, _HOST_PROGRAM = 3 * PROGRAM + FROM_MAPPING, 3 * PROGRAM + FROM_HOST
_COLLECTION_PROGRAM, _COLLECTION_ERASE = 3 * PROGRAM + FROM_COLLECTION, 3 * ERASE + FROM_COLLECTION


# --- channels --------------------------------------------------------------------------------------------------------


@inlined
def serve_touched(state):
    """Give the channels that may have something to do, and are free, what they do next."""
    memory = state.memory
    channel = memory[CHANNEL_ROWS]
    while memory[TOUCHED]:
        if memory[channel + IS_TOUCHED]:
            memory[channel + IS_TOUCHED] = 0
            memory[TOUCHED] -= 1
            if memory[channel + BUSY] == 0:
                _serve(state, channel)
        channel += CHANNEL_WORDS


@subroutine
def _serve(state, channel):
    """Data that waits goes first, then new commands: the units are tried in turn until one takes one."""
    memory, real = state.memory, state.real
    for source in range(3):
        waiting = channel + OUT + 2 * source
        if memory[waiting + HEAD] != NONE:
            one = pop(memory, waiting)
            memory[channel + BUSY], memory[channel + MOVING] = 1, one
            busy_ns = memory[one + BYTES] * real[CHANNEL_NS_PER_BYTE]
            memory[CHANNEL_BYTES] += memory[one + BYTES]
            real[CHANNELS_BUSY] += busy_ns
            push(state.heap, real[NOW] + busy_ns, event_code(DATA_SENT, channel))
            return
    units, turn = memory[UNITS_PER_CHANNEL], memory[channel + TURN]
    for _ in range(units):
        if memory[channel + QUEUED] == 0:
            break
        issued = _issue(state, channel, memory[channel + FIRST_UNIT] + turn * UNIT_WORDS)
        turn = turn + 1 if turn + 1 < units else 0
        if issued:
            break
    memory[channel + TURN] = turn


# --- commands --------------------------------------------------------------------------------------------------------


@subroutine
def _issue(state, channel, unit):
    """Send the unit a command, if it can take one; whether it was sent."""
    memory, real = state.memory, state.real
    suspension_ns = 0.0
    if memory[unit + DOING] == IDLE:
        first, second = _choose(memory, unit)
        if first == NONE:
            return False
    else:
        first, second = _choose_urgent(memory, unit)
        if first == NONE or not _may_suspend(memory, real, unit):
            return False
        suspension_ns = _suspend(memory, real, unit)
    op = first // 3
    planes = _gather(memory, unit, first, second)
    one = memory[unit + ACTIVE]
    kind = memory[one + FLASH_PAGE] % memory[PAGES] % memory[KINDS_OF_PAGE]
    sent_ns = real[NOW] + suspension_ns + real[COMMAND_NS + op * MOST_PLANES + planes - 1]
    if op == PROGRAM:
        while one != NONE:
            sent_ns += memory[one + BYTES] * real[CHANNEL_NS_PER_BYTE]
            memory[CHANNEL_BYTES] += memory[one + BYTES]
            one = memory[one + NEXT]
    array_ns = real[ARRAY_NS + 3 * op + kind]
    real[CHANNELS_BUSY] += sent_ns - suspension_ns - real[NOW]
    real[ARRAYS_BUSY] += array_ns
    memory[READ_COMMANDS + op] += 1
    memory[PAGES_READ + op] += planes
    if op != ERASE:
        memory[READ_OF_KIND + 3 * op + kind] += planes
    memory[MULTI_PLANE_COMMANDS] += planes > 1
    memory[channel + QUEUED] -= planes
    memory[channel + BUSY] = 1
    memory[unit + DOING], memory[unit + OPERATION] = WORKING, op
    real[unit + FINISH] = sent_ns + array_ns
    push(state.heap, sent_ns, event_code(COMMAND_SENT, channel))
    push(state.heap, real[unit + FINISH], event_code(UNIT_DONE, unit))
    return True


@inlined
def _waits(memory, unit, queue):
    return memory[unit + QUEUES + 2 * queue + HEAD] != NONE


@inlined
def _if_waits(memory, unit, queue):
    return queue if _waits(memory, unit, queue) else NONE


@subroutine
def _choose(memory, unit):
    """The queue to serve and the one to fill a multi-plane command from, NONE where there is none."""
    urgent = _is_urgent(memory, unit)
    if _waits(memory, unit, _MAPPING_READ):
        other = _COLLECTION_READ if urgent and _waits(memory, unit, _COLLECTION_READ) else _HOST_READ
        return _MAPPING_READ, _if_waits(memory, unit, other)
    if urgent:
        if _waits(memory, unit, _COLLECTION_READ):
            return _COLLECTION_READ, _if_waits(memory, unit, _HOST_READ)
        if _waits(memory, unit, _COLLECTION_PROGRAM):
            return _COLLECTION_PROGRAM, _if_waits(memory, unit, _HOST_PROGRAM)
        if _waits(memory, unit, _COLLECTION_ERASE):
            return _COLLECTION_ERASE, NONE
    if _waits(memory, unit, _HOST_READ):
        return _HOST_READ, _if_waits(memory, unit, _COLLECTION_READ)
    if _waits(memory, unit, _MAPPING_PROGRAM):
        return _MAPPING_PROGRAM, _if_waits(memory, unit, _HOST_PROGRAM)
    if _waits(memory, unit, _HOST_PROGRAM):
        return _HOST_PROGRAM, _if_waits(memory, unit, _COLLECTION_PROGRAM)
    if _waits(memory, unit, _COLLECTION_READ):
        return _COLLECTION_READ, NONE
    if _waits(memory, unit, _COLLECTION_PROGRAM):
        return _COLLECTION_PROGRAM, NONE
    return _if_waits(memory, unit, _COLLECTION_ERASE), NONE


@inlined
def _is_urgent(memory, unit):
    """Whether a plane of the unit is nearly out of free blocks, or has writes that wait for one."""
    words = FREE_RING + memory[BLOCKS]
    plane = memory[unit + FIRST_PLANE]
    for _ in range(memory[PLANES_PER_UNIT]):
        if memory[plane + FREE_COUNT] <= memory[HARD_THRESHOLD] or memory[plane + STALLED + HEAD] != NONE:
            return True
        plane += words
    return False


@subroutine
def _gather(memory, unit, first, second):
    """Move what makes one command from the queues to the unit; return of how many planes it is.

    The first in the queue, and with it those to other planes of its die with the same page number.
    """
    one = memory[unit + QUEUES + 2 * first + HEAD]
    per_die, pages = memory[PLANES_PER_DIE], memory[PAGES]
    most = min(per_die, MOST_PLANES)
    die, page = memory[one + PLANE] // per_die, memory[one + FLASH_PAGE] % pages
    chain = chain_of(memory, one)
    taken, planes, last = np.int64(0), 0, np.int64(NONE)
    queue, then = first, second
    while queue != NONE:
        one = memory[chain + HEAD]
        while one != NONE and planes < most:
            following, plane = memory[one + CHAIN_NEXT], memory[one + PLANE]
            bit = np.int64(1) << (plane % per_die)
            same = memory[one + FLASH_PAGE] % pages == page and plane // per_die == die and taken & bit == 0
            if same and 3 * memory[one + OP] + memory[one + SOURCE] == queue:
                take_out(memory, one, unit + QUEUES + 2 * queue, chain)
                memory[unit + ACTIVE if last == NONE else last + NEXT] = one
                last = one
                taken |= bit
                planes += 1
            one = following
        queue, then = then, NONE
    return planes


# --- suspension ------------------------------------------------------------------------------------------------------


@inlined
def _may_suspend(memory, real, unit):
    """Whether the unit is at a program or erase that has long to go, and nothing else of it is suspended."""
    op = memory[unit + OPERATION]
    if memory[unit + DOING] != WORKING or op == READ or memory[unit + SUSPENDED] != NONE:
        return False
    if memory[SUSPEND_PROGRAM if op == PROGRAM else SUSPEND_ERASE] == 0:
        return False
    left_ns = real[unit + FINISH] - real[NOW]
    return memory[unit + TIMES_SUSPENDED] < memory[MOST_SUSPENDS] and left_ns >= real[LEAST_LEFT_NS + op]


@inlined
def _suspend(memory, real, unit):
    """Put aside what the unit does; return how long that takes."""
    op = memory[unit + OPERATION]
    memory[unit + SUSPENDED], memory[unit + SUSPENDED_OPERATION] = memory[unit + ACTIVE], op
    memory[unit + TIMES_SUSPENDED] += 1
    real[unit + REMAINING] = real[unit + FINISH] - real[NOW]
    memory[SUSPENSIONS] += 1
    return real[SUSPEND_COMMAND_NS] + real[SUSPEND_NS + op]


@subroutine
def _rest(state, unit):
    """The unit has nothing under way: it goes on with what was suspended, or is idle."""
    memory, real = state.memory, state.real
    memory[unit + ACTIVE] = memory[unit + SUSPENDED]
    memory[unit + SUSPENDED] = NONE
    if memory[unit + ACTIVE] == NONE:
        memory[unit + DOING], memory[unit + TIMES_SUSPENDED] = IDLE, 0
        return
    memory[unit + DOING], memory[unit + OPERATION] = WORKING, memory[unit + SUSPENDED_OPERATION]
    real[unit + FINISH] = real[NOW] + real[unit + REMAINING]
    push(state.heap, real[unit + FINISH], event_code(UNIT_DONE, unit))


@inlined
def _choose_urgent(memory, unit):
    """As `_choose`, of what may suspend an operation: reads, and the host's writes an erase, where they may."""
    if _waits(memory, unit, _MAPPING_READ):
        return _MAPPING_READ, _if_waits(memory, unit, _HOST_READ)
    if _waits(memory, unit, _HOST_READ):
        return _HOST_READ, np.int64(NONE)
    if memory[SUSPEND_FOR_WRITES] and memory[unit + OPERATION] == ERASE:
        return _if_waits(memory, unit, _HOST_PROGRAM), np.int64(NONE)
    return np.int64(NONE), np.int64(NONE)


# --- ends ------------------------------------------------------------------------------------------------------------


@subroutine
def unit_done(state, unit):
    """What the unit did has ended: data that was read waits for the channel; return the list of what is complete."""
    memory, real = state.memory, state.real
    if memory[unit + DOING] != WORKING or real[unit + FINISH] != real[NOW]:
        return np.int64(NONE)  # it was suspended since
    channel, one = memory[unit + CHANNEL], memory[unit + ACTIVE]
    touch(memory, channel)
    if memory[unit + OPERATION] != READ:
        _rest(state, unit)
        return one
    memory[unit + DOING] = SENDING
    waiting = channel + OUT + 2 * memory[one + SOURCE]
    while one != NONE:
        following = memory[one + NEXT]
        memory[unit + TO_SEND] += 1
        append(memory, one, waiting)
        one = following
    return np.int64(NONE)


@subroutine
def data_sent(state, channel):
    """The channel has moved data that was read; return what is complete."""
    memory = state.memory
    one = memory[channel + MOVING]
    unit = memory[UNIT_ROWS] + memory[one + PLANE] // memory[PLANES_PER_UNIT] * UNIT_WORDS
    memory[unit + TO_SEND] -= 1
    if memory[unit + TO_SEND] == 0:
        _rest(state, unit)
    memory[channel + BUSY] = 0
    touch(memory, channel)
    return one
