"""Queues of transactions, one of reads and one of writes for each bank, and what a bank would next do for them."""

from __future__ import annotations

import numpy as np

from sim.dram.state import (
    ACTIVE,
    BANKS,
    CAP,
    CLOSER_BANKS,
    COLUMN_ORDER,
    COLUMN_PLACE,
    DRAINING,
    FCFS,
    HEAD,
    HELD,
    HIGH,
    HIT,
    HIT_BANKS,
    IS_WRITE,
    LOW,
    NEVER,
    NEXT,
    OPEN_ROW,
    OPENER_BANKS,
    PLAIN,
    PREVIOUS,
    QUEUED,
    QUEUED_CLASS,
    ROW_ENTRY,
    ROW_LIST,
    ROW_OF,
    ROW_ORDER,
    ROW_PLACE,
    SCHEDULER,
    SEQUENCE,
    TAIL,
    UNIT_SHIFT,
    USED,
)
from sim.kernels.compile import inlined


@inlined
def list_bank(state, index, gb, which, place):
    """Enter a bank into one of its channel's lists; where it is there, the bank keeps in column `place`."""
    listed, length = state.listed, state.rule[BANKS]
    at = listed[index, which, length]
    listed[index, which, at] = gb
    state.bank[gb, place] = at
    listed[index, which, length] = at + 1


@inlined
def unlist_bank(state, index, gb, which, place):
    """Take a bank out; the last one takes its place."""
    listed, length = state.listed, state.rule[BANKS]
    last = listed[index, which, length] - 1
    moved = listed[index, which, last]
    at = state.bank[gb, place]
    listed[index, which, at] = moved
    state.bank[moved, place] = at
    listed[index, which, length] = last


@inlined
def leave_queue(state, index, gb, at):
    """Take a transaction out of its bank's queue; what the queue's oldest hit was is the caller's to mend."""
    bank, entry, channel = state.bank, state.entry, state.channel
    write = entry[at, IS_WRITE]
    before, after = entry[at, PREVIOUS], entry[at, NEXT]
    if before >= 0:
        entry[before, NEXT] = after
    else:
        bank[gb, HEAD + write] = after
    if after >= 0:
        entry[after, PREVIOUS] = before
    else:
        bank[gb, TAIL + write] = before
    channel[index, QUEUED + write] -= 1


@inlined
def first_hit(entry, at, row):
    """The first from `at` on in a bank's queue that wants this row; -1 where there is none."""
    while at >= 0 and entry[at, ROW_OF] != row:
        at = entry[at, NEXT]
    return at


@inlined
def _first_other(entry, at, row):
    """The first in a bank's queue that wants another row; -1 where there is none."""
    while at >= 0 and entry[at, ROW_OF] == row:
        at = entry[at, NEXT]
    return at


@inlined
def reorder(state, index, gb, write):
    """What a bank would next do for its reads or writes has changed: the access, and the row command, and how old."""
    bank, entry, rule = state.bank, state.entry, state.rule
    head, hit = bank[gb, HEAD + write], bank[gb, HIT + write]
    column, row, other = np.int64(NEVER), np.int64(NEVER), head
    is_open = bank[gb, OPEN_ROW] >= 0
    if is_open:
        capped = False
        if head == hit and head >= 0:  # what wants another row is younger, and has to wait
            other = np.int64(-1)
            if rule[SCHEDULER] == PLAIN or rule[CAP] > 0:
                other = _first_other(entry, head, bank[gb, OPEN_ROW])
                capped = rule[CAP] > 0 and bank[gb, USED] >= rule[CAP] and other >= 0
                if rule[SCHEDULER] != PLAIN and not capped:
                    other = np.int64(-1)
        elif rule[CAP] > 0:
            capped = bank[gb, USED] >= rule[CAP]
        if rule[SCHEDULER] == FCFS and hit != head:
            hit = np.int64(-1)
        if hit >= 0 and not capped:
            column = QUEUED_CLASS | entry[hit, SEQUENCE]
        if bank[gb, ACTIVE] >= 0:
            other = np.int64(-1)
    row_list = np.int64(-1)
    if bank[gb, HELD]:
        column = np.int64(NEVER)
    elif other >= 0:
        row = QUEUED_CLASS | entry[other, SEQUENCE]
        row_list = CLOSER_BANKS + write if is_open else _opener_list(rule, gb, write)
    if (column < NEVER) != (bank[gb, COLUMN_ORDER + write] < NEVER):
        if column < NEVER:
            list_bank(state, index, gb, HIT_BANKS + write, COLUMN_PLACE + write)
        else:
            unlist_bank(state, index, gb, HIT_BANKS + write, COLUMN_PLACE + write)
    if row_list != bank[gb, ROW_LIST + write]:
        if bank[gb, ROW_LIST + write] >= 0:
            unlist_bank(state, index, gb, bank[gb, ROW_LIST + write], ROW_PLACE + write)
        if row_list >= 0:
            list_bank(state, index, gb, row_list, ROW_PLACE + write)
        bank[gb, ROW_LIST + write] = row_list
    bank[gb, COLUMN_ORDER + write], bank[gb, ROW_ORDER + write], bank[gb, ROW_ENTRY + write] = column, row, other


@inlined
def _opener_list(rule, gb, write):
    """The list of closed banks of a unit, of which it is one."""
    units = rule[BANKS] >> rule[UNIT_SHIFT]
    return OPENER_BANKS + 2 * ((gb >> rule[UNIT_SHIFT]) % units) + write


@inlined
def reorder_both(state, index, gb):
    """As `reorder`, for reads and writes."""
    bank = state.bank
    for write in range(2):
        waits = bank[gb, HEAD + write] >= 0
        if waits or bank[gb, ROW_LIST + write] >= 0 or bank[gb, COLUMN_ORDER + write] < NEVER:
            reorder(state, index, gb, write)


@inlined
def set_draining(channel, rule, index):
    """Which queue is at hand: 1 for that of writes, to which it turns when they are too many or no read waits."""
    reads, writes = channel[index, QUEUED], channel[index, QUEUED + 1]
    if channel[index, DRAINING]:
        if writes < rule[LOW] and reads > 0:
            channel[index, DRAINING] = 0
    elif writes > rule[HIGH] or reads == 0:
        channel[index, DRAINING] = 1
    return channel[index, DRAINING]
