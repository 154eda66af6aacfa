"""Refreshing: when it is due, when it can go on, and which banks wait for it.

Of all banks at once: once it is due, everything else in the channel waits until the rows are closed and the command is
out. Of single banks: they take turns, one refresh of each rank (pseudo-channel of stacked dies) falling due after the
other, and all other banks go on. A refresh waits while its bank has requests in the queue at hand, as long as no more
are owed than may be postponed; then no more of the bank's requests are served before it.
"""

from __future__ import annotations

import numpy as np

from sim.dram.queues import reorder_both
from sim.dram.state import (
    ACTIVE,
    ALIGNED,
    BANKS,
    DRAINING,
    GROUP_SHIFT,
    HEAD,
    HELD,
    NEVER,
    NEXT_REFRESHED,
    OK_ACT,
    OK_PRE,
    OK_REFPB,
    OPEN_ROW,
    OWED,
    PER_BANK,
    POSTPONED,
    PRIO_COUNT,
    PRIO_HEAD,
    REF_AFTER_ACT_OK,
    REFI,
    REFRESH,
    REFRESH_AT,
    TURNS,
    UNIT_BANKS,
    raise_floors,
)
from sim.dram.timing import PRECHARGE, PRECHARGE_ALL, REFRESH_ALL, REFRESH_BANK
from sim.kernels.compile import inlined, subroutine


@inlined
def refresh_due(state, index, tick):
    """The time has come for a refresh: of every rank (pseudo-channel of stacked dies), or of one bank of each."""
    channel, rule, unit = state.channel, state.rule, state.unit
    channel[index, REFRESH_AT] = tick + rule[REFI]
    places = state.priority.shape[1]
    units = rule[BANKS] // rule[UNIT_BANKS]
    for target in range(index * units, (index + 1) * units):
        if rule[REFRESH] == PER_BANK:
            unit[target, OWED] += 1
            hold_if_overdue(state, index, target)
        elif channel[index, PRIO_COUNT] < places:
            at = (channel[index, PRIO_HEAD] + channel[index, PRIO_COUNT]) % places
            state.priority[index, at] = target
            channel[index, PRIO_COUNT] += 1
    raise_floors(channel, index, tick)


@inlined
def plan_refresh(state, index, floor_row):
    """When the refresh of all banks that is due can go on, with which command, and the first bank of the unit."""
    channel, bank, rule = state.channel, state.bank, state.rule
    first = state.priority[index, channel[index, PRIO_HEAD]] * rule[UNIT_BANKS]
    any_open, closing, opening = False, np.int64(0), np.int64(0)
    for gb in range(first, first + rule[UNIT_BANKS]):
        if bank[gb, ACTIVE] >= 0:
            return np.int64(NEVER), PRECHARGE_ALL, first
        if bank[gb, OPEN_ROW] >= 0:
            any_open = True
            closing = max(closing, bank[gb, OK_PRE])
        opening = max(opening, bank[gb, OK_ACT])
    if any_open:
        return max(floor_row, max(closing, state.gate[first >> rule[GROUP_SHIFT], PRECHARGE])), PRECHARGE_ALL, first
    return max(floor_row, opening + rule[REF_AFTER_ACT_OK]) | rule[ALIGNED], REFRESH_ALL, first


@inlined
def plan_bank_refresh(state, index, floor_row):
    """As `plan_refresh`, of single banks: the first that can go on, with the bank to close or the first to refresh."""
    rule = state.rule
    units = rule[BANKS] // rule[UNIT_BANKS]
    best, what, which = np.int64(NEVER), PRECHARGE, np.int64(-1)
    for at_unit in range(index * units, (index + 1) * units):
        if state.unit[at_unit, OWED] > 0:
            tick, command, gb = _next_of_unit(state, index, at_unit, floor_row)
            if tick < best:
                best, what, which = tick, command, gb
    return best, what, which


@inlined
def _next_of_unit(state, index, at_unit, floor_row):
    """When the banks whose turn it is can be closed or refreshed; never as long as they have requests to serve."""
    bank, rule, queue = state.bank, state.rule, HEAD + state.channel[index, DRAINING]
    first = at_unit * rule[UNIT_BANKS] + state.unit[at_unit, NEXT_REFRESHED]
    closing, open_bank = np.int64(NEVER), first
    ready = state.unit[at_unit, OK_REFPB]
    for gb in range(first, (at_unit + 1) * rule[UNIT_BANKS], rule[TURNS]):
        if bank[gb, ACTIVE] >= 0 or (bank[gb, HELD] == 0 and bank[gb, queue] >= 0):
            return np.int64(NEVER), PRECHARGE, first
        ready = max(ready, bank[gb, OK_ACT] + rule[REF_AFTER_ACT_OK])
        if bank[gb, OPEN_ROW] >= 0:
            closes = max(bank[gb, OK_PRE], state.gate[gb >> rule[GROUP_SHIFT], PRECHARGE])
            if closes < closing:
                closing, open_bank = closes, np.int64(gb)
    if closing < NEVER:
        return max(floor_row, closing), PRECHARGE, open_bank
    return max(floor_row, ready) | rule[ALIGNED], REFRESH_BANK, first


@inlined
def hold_if_overdue(state, index, at_unit):
    """Where more is owed than may be postponed, requests of the banks whose turn it is wait from now on."""
    if state.unit[at_unit, OWED] > state.rule[POSTPONED]:
        _hold(state, index, at_unit, 1)


@subroutine
def next_turn(state, index, at_unit):
    """The banks whose turn it was are being refreshed: it is that of others."""
    rule, unit = state.rule, state.unit
    _hold(state, index, at_unit, 0)
    turn = unit[at_unit, NEXT_REFRESHED] + 1
    unit[at_unit, NEXT_REFRESHED] = turn if turn < rule[TURNS] else 0
    unit[at_unit, OWED] -= 1
    hold_if_overdue(state, index, at_unit)


@subroutine
def _hold(state, index, at_unit, held):
    """Let the queues of the banks whose turn it is wait, or go on."""
    bank, rule = state.bank, state.rule
    first = at_unit * rule[UNIT_BANKS] + state.unit[at_unit, NEXT_REFRESHED]
    for gb in range(first, (at_unit + 1) * rule[UNIT_BANKS], rule[TURNS]):
        if bank[gb, HELD] != held:
            bank[gb, HELD] = held
            reorder_both(state, index, gb)
