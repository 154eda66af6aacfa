"""Refreshing: when it is due, and when it can go on."""

from __future__ import annotations

import numpy as np

from sim.dram.state import (
    ACTIVE,
    ALIGNED,
    BANKS,
    GROUP_SHIFT,
    NEVER,
    NEXT_REFRESHED,
    OK_ACT,
    OK_PRE,
    OK_REFPB,
    OPEN_ROW,
    PER_BANK,
    PRIO_COUNT,
    PRIO_HEAD,
    REF_AFTER_ACT_OK,
    REFI,
    REFRESH,
    REFRESH_AT,
    UNIT_BANKS,
    UNIT_SHIFT,
    raise_floors,
)
from sim.dram.timing import PRECHARGE, PRECHARGE_ALL, REFRESH_ALL, REFRESH_BANK
from sim.kernels.compile import inlined


@inlined
def refresh_due(state, index, tick):
    """The time has come for a refresh: of every rank (pseudo-channel of stacked dies), or of one bank of each."""
    channel, rule, unit = state.channel, state.rule, state.unit
    channel[index, REFRESH_AT] = tick + rule[REFI]
    places = state.priority.shape[1]
    units = rule[BANKS] // rule[UNIT_BANKS]
    for i in range(units):
        if channel[index, PRIO_COUNT] >= places:
            break
        target = index * units + i
        if rule[REFRESH] == PER_BANK:
            turn = unit[target, NEXT_REFRESHED]
            unit[target, NEXT_REFRESHED] = turn + 1 if turn + 1 < rule[UNIT_BANKS] else 0
            target = target * rule[UNIT_BANKS] + turn
        at = (channel[index, PRIO_HEAD] + channel[index, PRIO_COUNT]) % places
        state.priority[index, at] = target
        channel[index, PRIO_COUNT] += 1
    raise_floors(channel, index, tick)


@inlined
def plan_refresh(state, index, floor_row):
    """When the refresh that is due can go on, with which command, and the first bank (of all banks: of the unit)."""
    channel, bank, rule = state.channel, state.bank, state.rule
    target = state.priority[index, channel[index, PRIO_HEAD]]
    if rule[REFRESH] == PER_BANK:
        if bank[target, OPEN_ROW] >= 0:
            if bank[target, ACTIVE] >= 0:
                return np.int64(NEVER), PRECHARGE, target
            pre_gate = state.gate[target >> rule[GROUP_SHIFT], PRECHARGE]
            return max(floor_row, max(bank[target, OK_PRE], pre_gate)), PRECHARGE, target
        ready = max(bank[target, OK_ACT] + rule[REF_AFTER_ACT_OK], state.unit[target >> rule[UNIT_SHIFT], OK_REFPB])
        return max(floor_row, ready) | rule[ALIGNED], REFRESH_BANK, target
    first = target * rule[UNIT_BANKS]
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
