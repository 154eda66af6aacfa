"""Requests come in: their transactions find channel, bank and row, and enter a queue."""

from __future__ import annotations

from sim.dram import mapping as mappings
from sim.dram.completing import complete, rekey
from sim.dram.queues import reorder, set_draining
from sim.dram.running import run_apart
from sim.dram.state import (
    ALIGNED,
    BANKS,
    BUS_COLUMN,
    BUS_ROW,
    CAPACITY,
    COALESCED,
    COLUMN_ORDER,
    COUNTED,
    DIRTY,
    DRAINING,
    ENTRY_BANK,
    FCFS,
    FLOOR_COLUMN,
    FLOOR_ROW,
    FORWARDED,
    FREE_ENTRY,
    FRONT_ADDRESS,
    FRONT_END,
    FRONT_SLOT,
    FRONT_WRITE,
    GROUP_BANKS,
    GROUP_SHIFT,
    HEAD,
    HIT,
    IS_WRITE,
    NEVER,
    NEXT,
    OPEN,
    OPEN_ROW,
    PC_GROUPS,
    PER_BANK,
    PLAN_COLUMN,
    PLAN_ENTRY,
    PLAN_TICK,
    POLICY,
    PREVIOUS,
    PRIO_COUNT,
    QUEUED,
    RANK_GROUPS,
    READ_QUEUE,
    REFRESH,
    REFRESH_AT,
    REQUESTS,
    ROW_OF,
    ROW_ORDER,
    SCHEDULER,
    SEPARATE,
    SEQUENCE,
    SEQUENCE_NEXT,
    SLOT,
    TAIL,
    TRANSACTION,
    UNIT_ADDRESS,
    XOR,
    raise_floors,
)
from sim.dram.timing import ACTIVATE, PRECHARGE
from sim.kernels.compile import inlined, subroutine


@subroutine
def enqueue(state, tick, number, place, is_write):
    """Put transaction `number` of the device into the queue of its channel; False where that is full."""
    index, gb, row = decode(state, number)
    channel, bank, entry, rule = state.channel, state.bank, state.entry, state.rule
    write = 1 if is_write else 0
    if channel[index, FLOOR_COLUMN] <= tick:
        if channel[index, DIRTY] or min(channel[index, PLAN_TICK], channel[index, REFRESH_AT]) <= tick:
            run_apart(state, index, tick)
        raise_floors(channel, index, tick + 1)
    waiting = _waiting_write(state, gb, number)
    if waiting:  # answered from the write queue, or taken into it
        state.counts[COALESCED if write else FORWARDED] += 1
        channel[index, REQUESTS] += 1
        complete(state, index, place, tick + 1)
        rekey(state, index)
        return True
    if channel[index, QUEUED + write] >= rule[READ_QUEUE + write]:
        return False
    new = channel[index, FREE_ENTRY]
    channel[index, FREE_ENTRY] = entry[new, NEXT]
    sequence = state.shared[SEQUENCE_NEXT]
    state.shared[SEQUENCE_NEXT] = sequence + 1
    entry[new, SEQUENCE], entry[new, ENTRY_BANK], entry[new, ROW_OF] = sequence, gb, row
    entry[new, UNIT_ADDRESS], entry[new, IS_WRITE], entry[new, SLOT] = number, write, place
    entry[new, COUNTED] = 0
    channel[index, QUEUED + write] += 1
    channel[index, REQUESTS] += 1
    tail = bank[gb, TAIL + write]
    entry[new, PREVIOUS], entry[new, NEXT] = tail, -1
    if tail >= 0:
        entry[tail, NEXT] = new
    else:
        bank[gb, HEAD + write] = new
    bank[gb, TAIL + write] = new
    if bank[gb, HIT + write] < 0 and bank[gb, OPEN_ROW] == row:
        bank[gb, HIT + write] = new
    reorder(state, index, gb, write)
    if channel[index, DIRTY] == 0 and _changes_plan(state, index, gb, write):
        channel[index, DIRTY] = 1
    rekey(state, index)
    return True


@inlined
def _changes_plan(state, index, gb, write):
    """Whether a transaction that has just come, the youngest of all, may come before the command that is planned."""
    channel, bank, gate, rule = state.channel, state.bank, state.gate, state.rule
    before = channel[index, DRAINING]
    if set_draining(channel, rule, index) != before or rule[POLICY] != OPEN or rule[SCHEDULER] == FCFS:
        return True
    if write != before or channel[index, PRIO_COUNT] > 0:
        return False
    if rule[REFRESH] == PER_BANK and channel[index, PLAN_ENTRY] < 0:  # a refresh, of a bank that has no requests
        return True
    group, planned = gb >> rule[GROUP_SHIFT], channel[index, PLAN_TICK]
    if bank[gb, COLUMN_ORDER + write] < NEVER:
        ready = max(channel[index, FLOOR_COLUMN], channel[index, BUS_COLUMN])
        ready = max(ready, max(bank[gb, write], gate[group, write])) | rule[ALIGNED]
        if ready < planned or (ready == planned and rule[SEPARATE] == 1 and channel[index, PLAN_COLUMN] == 0):
            return True
    if bank[gb, ROW_ORDER + write] < NEVER:
        command = ACTIVATE if bank[gb, OPEN_ROW] < 0 else PRECHARGE
        ready = max(channel[index, FLOOR_ROW], channel[index, BUS_ROW])
        return max(ready, max(bank[gb, command], gate[group, command])) < planned
    return False


@inlined
def decode(state, number):
    """Channel, bank (of the device) and row of a transaction."""
    rule, parts = state.rule, state.parts
    rest = number % (rule[CAPACITY] // rule[TRANSACTION]) if number * rule[TRANSACTION] >= rule[CAPACITY] else number
    channel, pseudo, rank, group, bank, row, column = 0, 0, 0, 0, 0, 0, 0
    for i in range(parts.shape[0]):
        field, size, at, shift = parts[i, 0], parts[i, 1], parts[i, 2], parts[i, 3]
        if shift >= 0:
            value = rest & (size - 1)
            rest >>= shift
        else:
            value = rest % size
            rest //= size
        value <<= at
        if field == mappings.CHANNEL:
            channel += value
        elif field == mappings.PSEUDO_CHANNEL:
            pseudo += value
        elif field == mappings.RANK:
            rank += value
        elif field == mappings.GROUP:
            group += value
        elif field == mappings.BANK:
            bank += value
        elif field == mappings.ROW:
            row += value
        else:
            column += value
    ranks = rule[PC_GROUPS] // rule[RANK_GROUPS]
    if rule[XOR]:
        pseudos = rule[BANKS] // (rule[PC_GROUPS] * rule[GROUP_BANKS])
        pseudo ^= column & (pseudos - 1)
        column_left = column // pseudos
        rank ^= column_left & (ranks - 1)
        column_left //= ranks
        group ^= column_left & (rule[RANK_GROUPS] - 1)
        column_left //= rule[RANK_GROUPS]
        bank ^= column_left & (rule[GROUP_BANKS] - 1)
        row ^= (column_left // rule[GROUP_BANKS]) & (rule[XOR] - 1)
    local = ((pseudo * ranks + rank) * rule[RANK_GROUPS] + group) * rule[GROUP_BANKS] + bank
    return channel, channel * rule[BANKS] + local, row


@inlined
def _waiting_write(state, gb, number):
    """Whether a write to the same place waits in the queue."""
    at = state.bank[gb, HEAD + 1]
    while at >= 0:
        if state.entry[at, UNIT_ADDRESS] == number:
            return True
        at = state.entry[at, NEXT]
    return False


@subroutine
def feed(state, tick):
    """Let in what fits of the request that waits in front of the queues."""
    front = state.front
    place, number, last, write = front[FRONT_SLOT], front[FRONT_ADDRESS], front[FRONT_END], front[FRONT_WRITE]
    while number <= last and enqueue(state, tick, number, place, write == 1):
        number += 1
    front[FRONT_ADDRESS] = number
    if number > last:
        front[FRONT_SLOT] = -1
