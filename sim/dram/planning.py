"""The next command of a channel: when, which, for what."""

from __future__ import annotations

import numpy as np

from sim.dram.queues import set_draining
from sim.dram.refreshing import plan_bank_refresh, plan_refresh
from sim.dram.state import (
    ACTIVE,
    ACTIVE_BANKS,
    ACTIVE_ORDER,
    ACTIVE_WRITE,
    ALIGNED,
    BANKS,
    BUS_COLUMN,
    BUS_ROW,
    CLOSE_AFTER,
    CLOSED,
    CLOSER_BANKS,
    COLUMN_ORDER,
    DIRTY,
    DRAINING,
    FCFS,
    FLOOR_COLUMN,
    FLOOR_ROW,
    GROUP_SHIFT,
    HEAD,
    HIT,
    HIT_BANKS,
    LAST_USE,
    NEVER,
    OK_ACT,
    OK_PRE,
    OK_UNIT_ACT,
    OPEN,
    OPEN_ROW,
    OPENER_BANKS,
    PER_BANK,
    PLAN_BANK,
    PLAN_COLUMN,
    PLAN_COMMAND,
    PLAN_ENTRY,
    PLAN_TICK,
    POLICY,
    PRIO_COUNT,
    PRIORITY,
    QUEUED_CLASS,
    REFRESH,
    ROW_ENTRY,
    ROW_ORDER,
    SCHEDULER,
    SEPARATE,
    SEQUENCE,
    TICKS_AT,
    TIMEOUT,
    UNIT_SHIFT,
    USED,
)
from sim.dram.timing import ACTIVATE, PRECHARGE
from sim.kernels.compile import inlined


@inlined
def plan(state, index):
    """Find the next command of a channel: when, which, for what."""
    channel, bank, gate, rule, listed = state.channel, state.bank, state.gate, state.rule, state.listed
    group_shift, aligned = rule[GROUP_SHIFT], rule[ALIGNED]
    floor_column = max(channel[index, FLOOR_COLUMN], channel[index, BUS_COLUMN])
    floor_row = max(channel[index, FLOOR_ROW], channel[index, BUS_ROW])
    now = min(floor_column, floor_row)
    column_key, column_bank, row_key, row_bank, row_command = NEVER, 0, NEVER, 0, 0
    length = rule[BANKS]  # where a list has its length
    actives = listed[index, ACTIVE_BANKS, length]
    for i in range(actives):
        gb = listed[index, ACTIVE_BANKS, i]
        write = bank[gb, ACTIVE_WRITE]
        ready = max(bank[gb, write], gate[gb >> group_shift, write])
        key = (((max(floor_column, ready) | aligned) - now) << TICKS_AT) | bank[gb, ACTIVE_ORDER]
        if key < column_key:
            column_key, column_bank = key, gb
    if channel[index, PRIO_COUNT] > 0:
        tick, row_command, row_bank = plan_refresh(state, index, floor_row)
        if tick < NEVER:
            row_key = ((tick - now) << TICKS_AT) | PRIORITY
    elif rule[SCHEDULER] == FCFS:
        if actives == 0:
            write = set_draining(channel, rule, index)
            gb = _oldest(state, index, write)
            if gb >= 0 and bank[gb, COLUMN_ORDER + write] < NEVER:
                ready = max(bank[gb, write], gate[gb >> group_shift, write])
                column_key = (((max(floor_column, ready) | aligned) - now) << TICKS_AT) | QUEUED_CLASS
                column_bank = gb
            elif gb >= 0 and bank[gb, ROW_ORDER + write] < NEVER:
                row_bank, row_command = gb, PRECHARGE if bank[gb, OPEN_ROW] >= 0 else ACTIVATE
                ready = max(floor_row, max(bank[gb, row_command], gate[gb >> group_shift, row_command]))
                if row_command == ACTIVATE:
                    ready = max(ready, state.unit[gb >> rule[UNIT_SHIFT], OK_UNIT_ACT])
                row_key = (((ready | (aligned if row_command == ACTIVATE else 0)) - now) << TICKS_AT) | QUEUED_CLASS
    else:
        write = set_draining(channel, rule, index)
        for i in range(listed[index, HIT_BANKS + write, length]):
            gb = listed[index, HIT_BANKS + write, i]
            ready = max(bank[gb, write], gate[gb >> group_shift, write])
            key = (((max(floor_column, ready) | aligned) - now) << TICKS_AT) | bank[gb, COLUMN_ORDER + write]
            if key < column_key:
                column_key, column_bank = key, gb
        for i in range(listed[index, CLOSER_BANKS + write, length]):
            gb = listed[index, CLOSER_BANKS + write, i]
            ready = max(bank[gb, OK_PRE], gate[gb >> group_shift, PRECHARGE])
            key = ((max(floor_row, ready) - now) << TICKS_AT) | bank[gb, ROW_ORDER + write]
            if key < row_key:
                row_key, row_bank, row_command = key, gb, PRECHARGE
        units = rule[BANKS] >> rule[UNIT_SHIFT]
        for u in range(units):  # a whole unit can be passed over, most of the time
            at_unit = index * units + u
            earliest = max(floor_row, state.unit[at_unit, OK_UNIT_ACT]) | aligned
            if (earliest - now) << TICKS_AT > min(row_key, column_key):
                continue
            which = OPENER_BANKS + 2 * u + write
            for i in range(listed[index, which, length]):
                gb = listed[index, which, i]
                ready = max(bank[gb, OK_ACT], gate[gb >> group_shift, ACTIVATE])
                key = (((max(earliest, ready) | aligned) - now) << TICKS_AT) | bank[gb, ROW_ORDER + write]
                if key < row_key:
                    row_key, row_bank, row_command = key, gb, ACTIVATE
    if rule[REFRESH] == PER_BANK:
        tick, command, gb = plan_bank_refresh(state, index, floor_row)
        key = ((tick - now) << TICKS_AT) | PRIORITY if tick < NEVER else NEVER
        if key < row_key:
            row_key, row_bank, row_command = key, gb, command
    if rule[POLICY] != OPEN:
        tick, gb = _plan_close(state, index, floor_row)
        key = ((tick - now) << TICKS_AT) | PRIORITY if tick < now + (1 << 15) else NEVER
        if key < row_key:
            row_key, row_bank, row_command = key, gb, PRECHARGE
    # At one tick the column bus goes first; of one shared bus, what comes first in order.
    if rule[SEPARATE]:
        first = (column_key >> TICKS_AT) <= (row_key >> TICKS_AT) and column_key < NEVER
    else:
        first = column_key < row_key
    key, gb = (column_key, column_bank) if first else (row_key, row_bank)
    _note_plan(channel, bank, index, key, gb, first, row_command, now)


@inlined
def _note_plan(channel, bank, index, key, gb, is_column, row_command, now):
    """Keep what was chosen."""
    channel[index, DIRTY] = 0
    channel[index, PLAN_BANK], channel[index, PLAN_COLUMN] = gb, is_column
    if key >= NEVER:
        channel[index, PLAN_TICK] = NEVER
        return
    channel[index, PLAN_TICK] = now + (key >> TICKS_AT)
    of_queue = key & QUEUED_CLASS
    if is_column:
        write = channel[index, DRAINING] if of_queue else bank[gb, ACTIVE_WRITE]
        channel[index, PLAN_COMMAND] = write
        channel[index, PLAN_ENTRY] = bank[gb, HIT + write] if of_queue else bank[gb, ACTIVE]
    else:
        channel[index, PLAN_COMMAND] = row_command
        channel[index, PLAN_ENTRY] = bank[gb, ROW_ENTRY + channel[index, DRAINING]] if of_queue else -1


@inlined
def _oldest(state, index, write):
    """The bank that the oldest transaction of a queue waits for; -1 where none waits."""
    oldest, which = np.int64(NEVER), np.int64(-1)
    first = index * state.rule[BANKS]
    for gb in range(first, first + state.rule[BANKS]):
        head = state.bank[gb, HEAD + write]
        if head >= 0 and state.entry[head, SEQUENCE] < oldest:
            oldest, which = state.entry[head, SEQUENCE], np.int64(gb)
    return which


@inlined
def _plan_close(state, index, floor_row):
    """When the row policy next closes a row, and of which bank."""
    bank, rule = state.bank, state.rule
    best, which = np.int64(NEVER), np.int64(-1)
    first = index * rule[BANKS]
    for gb in range(first, first + rule[BANKS]):
        if bank[gb, OPEN_ROW] < 0 or bank[gb, ACTIVE] >= 0:
            continue
        tick = max(floor_row, max(bank[gb, OK_PRE], state.gate[gb >> rule[GROUP_SHIFT], PRECHARGE]))
        if rule[POLICY] == CLOSED:
            if bank[gb, USED] < max(rule[CLOSE_AFTER], 1):
                continue
        elif bank[gb, HIT] >= 0 or bank[gb, HIT + 1] >= 0:
            continue
        else:
            tick = max(tick, bank[gb, LAST_USE] + rule[TIMEOUT])
        if tick < best:
            best, which = tick, gb
    return best, which
