"""The commands of units in each channel, one after the other, each at the first tick that all rules allow.

Columns come in the order of the program. Rows that the step at hand needs, and where the units' controller may those
of the next one in another bank set, are opened meanwhile; where it cares, rows that the step leaves alone are closed.
Loads beside a step go out between its columns. What could come first does, and a column before a row command at the
same tick. A refresh that is due comes before anything else: all rows are closed, all banks refreshed, and the rows
opened again.

Rules are those of `sim.devices.dram`, of a channel whose banks are bank sets
(`PimParameters.lockstep`). Each channel has a lane of its own.
"""

from __future__ import annotations

import numpy as np

from sim.dram.timing import ACTIVATE, PRECHARGE, PRECHARGE_ALL, READ, REFRESH_ALL, WRITE
from sim.kernels.compile import inlined, kernel, subroutine
from sim.pim.program import ACTIVATIONS, BESIDE, COUNT, CRF, FIRST, KIND, LOAD, MODE, ROW, SET, STORE
from sim.pim.state import (
    ACTIVATES,
    AHEAD,
    ALIGNED,
    CLOSES,
    DONE,
    FAW,
    FAW_PLACE,
    FAW_TICKS,
    FENCE,
    FLOOR_COLUMN,
    FLOOR_ROW,
    GROUPS,
    LAST,
    LOADED,
    LOGGED,
    NEVER,
    OK_ACT,
    OK_ANY_ACT,
    OK_LOAD,
    OK_PRE,
    OK_RD,
    OK_WR,
    OPEN_ROW,
    OPENED,
    OWN_PATH,
    PRECHARGES,
    RAS,
    RC,
    RCD_RD,
    RCD_WR,
    RD_RD_L,
    RD_RD_S,
    READ_LATENCY,
    REF_AFTER_ACT_OK,
    REFI,
    REFRESH_AT,
    REFRESHES,
    RFC,
    RP,
    RPAB,
    RRDL,
    RRDS,
    RTP,
    RTW,
    SEPARATE,
    SETS,
    STEP,
    TICKS_ACT,
    TICKS_COL,
    TICKS_PRE,
    TICKS_REF,
    WR_TO_PRE,
    WR_WR_L,
    WR_WR_S,
    WTR_L,
    WTR_S,
)


@kernel
def run_alone(engine, index):
    """All steps of one channel that nobody else uses; the tick at which the last of them is done."""
    run_steps(engine, index, 0, engine.step.shape[0])
    return engine.lane[index, LAST]


@subroutine
def run_steps(engine, index, begin, end):
    """Issue the steps from `begin` up to `end` in one channel. LAST of the lane: when the last of them is done."""
    lane, step, rule = engine.lane, engine.step, engine.rule
    lane[index, STEP], lane[index, DONE], lane[index, LOADED] = begin, 0, 0
    while lane[index, STEP] < end:
        at = lane[index, STEP]
        column_tick, column_bank = _next_column(engine, index, at)
        load_tick = _next_load(engine, index, at)
        row_tick, row_bank, wanted_row, activations = _next_row(engine, index, at, end)
        tick = min(column_tick, min(load_tick, row_tick))
        if lane[index, REFRESH_AT] <= tick:
            _refresh(engine, index)
        elif tick == column_tick:
            _issue_column(engine, index, tick, column_bank, at)
            lane[index, DONE] += 1
        elif tick == load_tick:
            _issue_apart(engine, index, tick, LOAD)
            lane[index, LOADED] += 1
        elif engine.bank[index, row_bank, OPEN_ROW] >= 0:
            _precharge(engine, index, tick, row_bank)
        else:
            _activate(engine, index, tick, row_bank, wanted_row, activations)
        if lane[index, DONE] == step[at, COUNT] and lane[index, LOADED] == step[at, BESIDE]:
            lane[index, STEP], lane[index, DONE], lane[index, LOADED] = at + 1, 0, 0
            if rule[FENCE] > 0:
                _raise_floors(lane, index, max(lane[index, FLOOR_COLUMN], lane[index, FLOOR_ROW]) + rule[FENCE])


# --- what could come next --------------------------------------------------------------------------------------------


@inlined
def _bank_of(engine, at, number):
    """The bank set that column `number` of a step is in: the step's set, of each group in turn."""
    step, rule = engine.step, engine.rule
    return (step[at, FIRST] + number) % rule[GROUPS] * rule[SETS] + step[at, SET]


@inlined
def _is_write(kind):
    return kind in (MODE, STORE) or CRF <= kind <= LOAD


@inlined
def _next_column(engine, index, at):
    """When the next column of a step can go, and to which bank set; never while its row is closed."""
    lane, step, bank, rule = engine.lane, engine.step, engine.bank, engine.rule
    floor = lane[index, FLOOR_COLUMN]
    if lane[index, DONE] >= step[at, COUNT]:
        return np.int64(NEVER), np.int64(0)
    if step[at, ROW] < 0:
        if rule[OWN_PATH]:
            return max(floor, lane[index, OK_LOAD]) | rule[ALIGNED], np.int64(-1)
        ready = engine.gate[index, 0, WRITE if _is_write(step[at, KIND]) else READ]
        return max(floor, ready) | rule[ALIGNED], np.int64(-1)
    which = _bank_of(engine, at, lane[index, DONE])
    if bank[index, which, OPEN_ROW] != step[at, ROW]:
        return np.int64(NEVER), which
    write = WRITE if _is_write(step[at, KIND]) else READ
    ready = max(bank[index, which, OK_RD + write], engine.gate[index, which // rule[SETS], write])
    return max(floor, ready) | rule[ALIGNED], which


@inlined
def _next_load(engine, index, at):
    """When the next load beside a step can go."""
    lane, rule = engine.lane, engine.rule
    if lane[index, LOADED] >= engine.step[at, BESIDE]:
        return np.int64(NEVER)
    return max(lane[index, FLOOR_COLUMN], lane[index, OK_LOAD]) | rule[ALIGNED]


@inlined
def _next_row(engine, index, at, end):
    """When a row command can go, for which bank set, and which row is wanted: the first row that is not open of those
    that the step needs, and then the next step."""
    lane, step, rule = engine.lane, engine.step, engine.rule
    left = step[at, COUNT] - lane[index, DONE]
    tick, which = np.int64(NEVER), np.int64(0)
    if step[at, ROW] >= 0:
        tick, which = _row_for(engine, index, at, lane[index, DONE], left)
    if tick < NEVER:
        return tick, which, step[at, ROW], step[at, ACTIVATIONS]
    following = at + 1
    if following < end and step[following, ROW] >= 0 and (rule[AHEAD] or left <= 1):
        if step[following, SET] != step[at, SET] or step[at, ROW] < 0:
            tick, which = _row_for(engine, index, following, 0, step[following, COUNT])
            if tick < NEVER:
                return tick, which, step[following, ROW], step[following, ACTIVATIONS]
    elif rule[CLOSES]:
        tick, which = _idle_row(engine, index, at)
    return tick, which, np.int64(0), np.int64(0)


@inlined
def _idle_row(engine, index, at):
    """The first bank set to be closed of those that a step leaves alone; when."""
    bank, rule, lane, step = engine.bank, engine.rule, engine.lane, engine.step
    tick, which = np.int64(NEVER), np.int64(0)
    for other in range(bank.shape[1]):
        idle = step[at, ROW] < 0 or other % rule[SETS] != step[at, SET]
        if idle and bank[index, other, OPEN_ROW] >= 0:
            ready = max(lane[index, FLOOR_ROW], bank[index, other, OK_PRE])
            if ready < tick:
                tick, which = ready, np.int64(other)
    return tick, which


@inlined
def _row_for(engine, index, at, number, left):
    """The first bank set, of the next columns of a step, whose row is not open."""
    bank, rule, lane = engine.bank, engine.rule, engine.lane
    for i in range(min(left, rule[GROUPS])):
        which = _bank_of(engine, at, number + i)
        if bank[index, which, OPEN_ROW] == engine.step[at, ROW]:
            continue
        floor = lane[index, FLOOR_ROW]
        if bank[index, which, OPEN_ROW] >= 0:
            return max(floor, bank[index, which, OK_PRE]), which
        ready = max(bank[index, which, OK_ACT], engine.gate[index, which // rule[SETS], ACTIVATE])
        return max(floor, max(ready, lane[index, OK_ANY_ACT])) | rule[ALIGNED], which
    return np.int64(NEVER), np.int64(0)


# --- commands --------------------------------------------------------------------------------------------------------


@inlined
def _raise_floors(lane, index, tick):
    lane[index, FLOOR_COLUMN] = max(lane[index, FLOOR_COLUMN], tick)
    lane[index, FLOOR_ROW] = max(lane[index, FLOOR_ROW], tick)


@inlined
def _hold_bus(engine, index, tick, ticks, is_column):
    """A command has the bus; the other one, where there are two, may take a command at the same tick after a column."""
    lane, rule = engine.lane, engine.rule
    if rule[SEPARATE] == 0:
        _raise_floors(lane, index, tick + ticks)
    elif is_column:
        lane[index, FLOOR_COLUMN] = tick + ticks
        lane[index, FLOOR_ROW] = max(lane[index, FLOOR_ROW], tick)
    else:
        lane[index, FLOOR_ROW] = tick + ticks
        lane[index, FLOOR_COLUMN] = max(lane[index, FLOOR_COLUMN], tick + 1)


@inlined
def _log(engine, tick, command, which, row):
    at = engine.shared[LOGGED]
    if at < engine.log.shape[0]:
        engine.log[at, 0], engine.log[at, 1], engine.log[at, 2], engine.log[at, 3] = tick, command, which, row
        engine.shared[LOGGED] = at + 1


@inlined
def _done_at(engine, index, write, tick):
    ends = tick if write else tick + engine.rule[READ_LATENCY]
    engine.lane[index, LAST] = max(engine.lane[index, LAST], ends)


@subroutine
def _issue_apart(engine, index, tick, kind):
    """A transfer between host and unit that uses no bank."""
    lane, rule = engine.lane, engine.rule
    engine.counts[kind] += 1
    write = _is_write(kind)
    _done_at(engine, index, write, tick)
    _hold_bus(engine, index, tick, rule[TICKS_COL], True)
    if rule[OWN_PATH]:
        lane[index, OK_LOAD] = tick + rule[WR_WR_S]
    else:
        _delay_columns(engine, index, tick, 0, write)


@subroutine
def _issue_column(engine, index, tick, which, at):
    bank, rule, step = engine.bank, engine.rule, engine.step
    kind = step[at, KIND]
    if which < 0:
        _issue_apart(engine, index, tick, kind)
        return
    write = _is_write(kind)
    engine.counts[kind] += 1
    _log(engine, tick, WRITE if write else READ, which, -1)
    _done_at(engine, index, write, tick)
    _hold_bus(engine, index, tick, rule[TICKS_COL], True)
    closing = tick + (rule[WR_TO_PRE] if write else rule[RTP])
    bank[index, which, OK_PRE] = max(bank[index, which, OK_PRE], closing)
    _delay_columns(engine, index, tick, which // rule[SETS], write)


@inlined
def _delay_columns(engine, index, tick, group, write):
    """What a column keeps from the groups."""
    gate, rule = engine.gate, engine.rule
    for other in range(rule[GROUPS]):
        near = other == group
        if write:
            to_read = rule[WTR_L] if near else rule[WTR_S]
            to_write = rule[WR_WR_L] if near else rule[WR_WR_S]
        else:
            to_read = rule[RD_RD_L] if near else rule[RD_RD_S]
            to_write = rule[RTW]
        gate[index, other, READ] = max(gate[index, other, READ], tick + to_read)
        gate[index, other, WRITE] = max(gate[index, other, WRITE], tick + to_write)


@subroutine
def _activate(engine, index, tick, which, row, activations):
    """One activation of a bank set; its row is open with the last one of those that it takes."""
    bank, lane, rule, gate = engine.bank, engine.lane, engine.rule, engine.gate
    engine.counts[ACTIVATES] += 1
    _log(engine, tick, ACTIVATE, which, row)
    _hold_bus(engine, index, tick, rule[TICKS_ACT], False)
    place = lane[index, FAW_PLACE]
    lane[index, FAW + place] = tick
    place = (place + 1) & 3
    lane[index, FAW_PLACE] = place
    window = lane[index, FAW + place] + rule[FAW_TICKS]
    lane[index, OK_ANY_ACT] = max(lane[index, OK_ANY_ACT], max(tick + rule[RRDS], window))
    group = which // rule[SETS]
    if activations == 1:  # of single banks, the next one is in another group
        gate[index, group, ACTIVATE] = max(gate[index, group, ACTIVATE], tick + rule[RRDL])
    bank[index, which, OK_PRE] = tick + rule[RAS]
    bank[index, which, OPENED] += 1
    if bank[index, which, OPENED] < activations:
        return
    bank[index, which, OPENED], bank[index, which, OPEN_ROW] = 0, row
    bank[index, which, OK_RD], bank[index, which, OK_WR] = tick + rule[RCD_RD], tick + rule[RCD_WR]
    bank[index, which, OK_ACT] = tick + rule[RC]


@subroutine
def _precharge(engine, index, tick, which):
    rule = engine.rule
    engine.counts[PRECHARGES] += 1
    _log(engine, tick, PRECHARGE, which, -1)
    _hold_bus(engine, index, tick, rule[TICKS_PRE], False)
    _close(engine, index, which, tick + rule[RP])


@inlined
def _close(engine, index, which, opens):
    bank = engine.bank
    bank[index, which, OPEN_ROW], bank[index, which, OPENED] = -1, 0
    bank[index, which, OK_ACT] = max(bank[index, which, OK_ACT], opens)


@subroutine
def close_all(engine, index):
    """Close every row of a channel with one command, where one is open; the first tick at which a refresh may come."""
    bank, lane, rule = engine.bank, engine.lane, engine.rule
    is_open, tick = False, lane[index, FLOOR_ROW]
    for which in range(bank.shape[1]):
        if bank[index, which, OPEN_ROW] >= 0 or bank[index, which, OPENED] > 0:
            is_open, tick = True, max(tick, bank[index, which, OK_PRE])
    if is_open:
        engine.counts[PRECHARGES] += 1
        _log(engine, tick, PRECHARGE_ALL, 0, -1)
        _hold_bus(engine, index, tick, rule[TICKS_PRE], False)
        for which in range(bank.shape[1]):
            _close(engine, index, which, tick + rule[RPAB])
    tick = lane[index, FLOOR_ROW]
    for which in range(bank.shape[1]):
        tick = max(tick, bank[index, which, OK_ACT] + rule[REF_AFTER_ACT_OK])
    return tick | rule[ALIGNED]


@subroutine
def _refresh(engine, index):
    """Close all rows and refresh all banks; what was at work goes on afterwards."""
    bank, lane, rule = engine.bank, engine.lane, engine.rule
    lane[index, FLOOR_ROW] = max(lane[index, FLOOR_ROW], lane[index, REFRESH_AT])
    tick = close_all(engine, index)
    engine.counts[REFRESHES] += 1
    _log(engine, tick, REFRESH_ALL, 0, -1)
    _hold_bus(engine, index, tick, rule[TICKS_REF], False)
    for which in range(bank.shape[1]):
        bank[index, which, OK_ACT] = max(bank[index, which, OK_ACT], tick + rule[RFC])
    lane[index, REFRESH_AT] += rule[REFI]
