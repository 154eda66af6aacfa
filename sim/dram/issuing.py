"""A command goes out: what it changes, and what it keeps others from, and until when."""

from __future__ import annotations

from sim.dram.completing import complete
from sim.dram.queues import first_hit, leave_queue, list_bank, reorder_both, unlist_bank
from sim.dram.refreshing import next_turn
from sim.dram.state import (
    ACT_TO_REFPB,
    ACTIVATES,
    ACTIVE,
    ACTIVE_BANKS,
    ACTIVE_ORDER,
    ACTIVE_WRITE,
    AND_PRECHARGE,
    BANK_REFRESHES,
    BUS_COLUMN,
    BUS_ROW,
    CLOSE_AFTER,
    CLOSED,
    CONFLICTS,
    COUNTED,
    FAW,
    FAW_PLACE,
    FAW_TICKS,
    FLOOR_COLUMN,
    FLOOR_ROW,
    FREE_ENTRY,
    GROUP_SHIFT,
    HEAD,
    HIT,
    HITS,
    IS_WRITE,
    LAST_USE,
    LOGGED,
    MISSES,
    NEXT,
    OK_ACT,
    OK_PRE,
    OK_RD,
    OK_REFPB,
    OK_UNIT_ACT,
    OK_WR,
    OPEN_ROW,
    PBR2PBR,
    PC_GROUPS,
    PLACE_ACTIVE,
    PLAN_BANK,
    PLAN_COMMAND,
    PLAN_ENTRY,
    POLICY,
    PPD,
    PRIO_COUNT,
    PRIO_HEAD,
    RANK_SHIFT,
    RAS,
    RC,
    RCD_RD,
    RCD_WR,
    RD_RD_L,
    RD_RD_R,
    RD_RD_S,
    READ_LATENCY,
    READS,
    REFRESHES,
    RFC,
    RFCPB,
    ROW_OF,
    RP,
    RPAB,
    RRDL,
    RRDS,
    RREFD,
    RTP,
    RTW,
    RTW_R,
    SEPARATE,
    SEQUENCE,
    SLOT,
    TICKS_ACT,
    TICKS_COL,
    TICKS_PRE,
    TICKS_REF,
    TURNS,
    UNIT_BANKS,
    UNIT_GROUPS,
    UNIT_SHIFT,
    USED,
    WCK_EXPIRY,
    WCK_RD,
    WCK_WR,
    WR_TO_PRE,
    WR_WR_L,
    WR_WR_R,
    WR_WR_S,
    WRITES,
    WTR_L,
    WTR_R,
    WTR_S,
)
from sim.dram.timing import ACTIVATE, PRECHARGE, PRECHARGE_ALL, READ, REFRESH_ALL, WRITE
from sim.kernels.compile import inlined


@inlined
def issue(state, index, tick):
    """The planned command goes out."""
    channel, rule = state.channel, state.rule
    command, gb, at = channel[index, PLAN_COMMAND], channel[index, PLAN_BANK], channel[index, PLAN_ENTRY]
    if at >= 0 and state.entry[at, COUNTED] == 0:
        state.entry[at, COUNTED] = 1
        outcome = HITS if command <= WRITE else MISSES if command == ACTIVATE else CONFLICTS
        state.counts[outcome] += 1
    bus_ticks = rule[TICKS_PRE]
    if command <= WRITE:
        if rule[WCK_RD] > 0:
            tick = _start_data_clock(state, index, tick, command)
        _log(state, tick, command, gb, AND_PRECHARGE if _closes_row(state, gb, at) else -1)
        _issue_column(state, index, tick, command, gb, at)
        bus_ticks = rule[TICKS_COL]
    elif command == ACTIVATE:
        _log(state, tick, command, gb, state.entry[at, ROW_OF])
        _issue_activate(state, index, tick, gb, at)
        bus_ticks = rule[TICKS_ACT]
    elif command == PRECHARGE:
        _log(state, tick, command, gb)
        close_row(state, gb, tick + rule[RP])
        delay_precharges(state, gb, tick)
    else:
        _log(state, tick, command, gb)
        _issue_maintenance(state, index, tick, command, gb)
        if command != PRECHARGE_ALL:
            bus_ticks = rule[TICKS_REF]
    touched = rule[UNIT_BANKS] if command == PRECHARGE_ALL else 1
    for other in range(gb, gb + touched):
        reorder_both(state, index, other)
    if rule[SEPARATE] == 0:
        channel[index, BUS_COLUMN] = channel[index, BUS_ROW] = tick + bus_ticks
        channel[index, FLOOR_COLUMN] = channel[index, FLOOR_ROW] = tick + 1
    elif command <= WRITE:
        channel[index, BUS_COLUMN] = tick + bus_ticks
        channel[index, FLOOR_COLUMN], channel[index, FLOOR_ROW] = tick + 1, max(channel[index, FLOOR_ROW], tick)
    else:
        channel[index, BUS_ROW] = tick + bus_ticks
        channel[index, FLOOR_COLUMN] = channel[index, FLOOR_ROW] = tick + 1


@inlined
def _start_data_clock(state, index, tick, command):
    """LPDDR5's data clock stops soon after the last burst; a command of its own starts it, just before the access."""
    channel, rule = state.channel, state.rule
    if tick >= channel[index, WCK_EXPIRY]:
        tick += 1
    ends = tick + (rule[WCK_RD] if command == READ else rule[WCK_WR])
    channel[index, WCK_EXPIRY] = max(channel[index, WCK_EXPIRY], ends)
    return tick


@inlined
def _log(state, tick, command, gb, row=-1):
    at = state.shared[LOGGED]
    if at < state.log.shape[0]:
        state.log[at, 0], state.log[at, 1], state.log[at, 2], state.log[at, 3] = tick, command, gb, row
        state.shared[LOGGED] = at + 1


@inlined
def _closes_row(state, gb, at):
    """Whether an access closes its row itself; never the row that was opened for another, which still has to come."""
    bank, rule = state.bank, state.rule
    awaited = bank[gb, ACTIVE] >= 0 and bank[gb, ACTIVE] != at
    return rule[POLICY] == CLOSED and bank[gb, USED] >= rule[CLOSE_AFTER] and not awaited


@inlined
def _issue_column(state, index, tick, write, gb, at):
    channel, bank, gate, entry, rule = state.channel, state.bank, state.gate, state.entry, state.rule
    _delay_columns(gate, rule, gb >> rule[GROUP_SHIFT], tick, write)
    place, closes = entry[at, SLOT], _closes_row(state, gb, at)
    if bank[gb, ACTIVE] == at:
        bank[gb, ACTIVE] = -1
        unlist_bank(state, index, gb, ACTIVE_BANKS, PLACE_ACTIVE)
    else:
        following = entry[at, NEXT]
        leave_queue(state, index, gb, at)
        bank[gb, HIT + write] = first_hit(entry, following, bank[gb, OPEN_ROW])
    entry[at, NEXT] = channel[index, FREE_ENTRY]
    channel[index, FREE_ENTRY] = at
    state.counts[WRITES if write else READS] += 1
    closing = tick + (rule[WR_TO_PRE] if write else rule[RTP])
    bank[gb, OK_PRE] = max(bank[gb, OK_PRE], closing)
    bank[gb, LAST_USE] = tick
    if closes:
        close_row(state, gb, bank[gb, OK_PRE] + rule[RP])
    else:
        bank[gb, USED] += 1
    complete(state, index, place, tick if write else tick + rule[READ_LATENCY])


@inlined
def _delay_columns(gate, rule, group, tick, write):
    """What a column access keeps from the bank groups of its pseudo-channel."""
    span, rank_shift = rule[PC_GROUPS], rule[RANK_SHIFT]
    first = group & -span
    own_rank = group >> rank_shift
    for other in range(first, first + span):
        near = other >> rank_shift == own_rank
        if write:
            to_write = rule[WR_WR_S] if near else rule[WR_WR_R]
            to_read = rule[WTR_S] if near else rule[WTR_R]
        else:
            to_write = rule[RTW] if near else rule[RTW_R]
            to_read = rule[RD_RD_S] if near else rule[RD_RD_R]
        gate[other, READ] = max(gate[other, READ], tick + to_read)
        gate[other, WRITE] = max(gate[other, WRITE], tick + to_write)
    if write:
        gate[group, READ] = max(gate[group, READ], tick + rule[WTR_L])
        gate[group, WRITE] = max(gate[group, WRITE], tick + rule[WR_WR_L])
    else:
        gate[group, READ] = max(gate[group, READ], tick + rule[RD_RD_L])


@inlined
def _issue_activate(state, index, tick, gb, at):
    """Open the row that a transaction wants, which then leaves the queue and is served before all others."""
    bank, gate, entry, rule, unit = state.bank, state.gate, state.entry, state.rule, state.unit
    state.counts[ACTIVATES] += 1
    bank[gb, OK_RD], bank[gb, OK_WR] = tick + rule[RCD_RD], tick + rule[RCD_WR]
    bank[gb, OK_ACT], bank[gb, OK_PRE] = tick + rule[RC], tick + rule[RAS]
    at_unit = gb >> rule[UNIT_SHIFT]
    place = unit[at_unit, FAW_PLACE]
    unit[at_unit, FAW + place] = tick
    place = (place + 1) & 3
    unit[at_unit, FAW_PLACE] = place
    earliest = max(tick + rule[RRDS], unit[at_unit, FAW + place] + rule[FAW_TICKS])
    unit[at_unit, OK_REFPB] = max(unit[at_unit, OK_REFPB], tick + rule[ACT_TO_REFPB])
    unit[at_unit, OK_UNIT_ACT] = max(unit[at_unit, OK_UNIT_ACT], earliest)
    group = gb >> rule[GROUP_SHIFT]
    gate[group, ACTIVATE] = max(gate[group, ACTIVATE], tick + rule[RRDL])
    row = entry[at, ROW_OF]
    leave_queue(state, index, gb, at)
    bank[gb, OPEN_ROW], bank[gb, ACTIVE], bank[gb, USED], bank[gb, LAST_USE] = row, at, 0, tick
    list_bank(state, index, gb, ACTIVE_BANKS, PLACE_ACTIVE)
    bank[gb, HIT] = first_hit(entry, bank[gb, HEAD], row)
    bank[gb, HIT + 1] = first_hit(entry, bank[gb, HEAD + 1], row)
    bank[gb, ACTIVE_ORDER], bank[gb, ACTIVE_WRITE] = entry[at, SEQUENCE], entry[at, IS_WRITE]


@inlined
def close_row(state, gb, opens):
    """The bank's row is closed; it can open one again from `opens` on."""
    bank = state.bank
    bank[gb, OPEN_ROW] = bank[gb, HIT] = bank[gb, HIT + 1] = -1
    bank[gb, OK_ACT] = max(bank[gb, OK_ACT], opens)


@inlined
def delay_precharges(state, gb, tick):
    gate, rule = state.gate, state.rule
    if rule[PPD] > 1:
        first = (gb >> rule[UNIT_SHIFT]) * rule[UNIT_GROUPS]
        for group in range(first, first + rule[UNIT_GROUPS]):
            gate[group, PRECHARGE] = tick + rule[PPD]


@inlined
def _issue_maintenance(state, index, tick, command, gb):
    """Close all banks of a rank, refresh them, or refresh those whose turn it is."""
    channel, bank, rule, unit = state.channel, state.bank, state.rule, state.unit
    at_unit = gb >> rule[UNIT_SHIFT]
    if command == PRECHARGE_ALL:
        for other in range(gb, gb + rule[UNIT_BANKS]):
            close_row(state, other, tick + rule[RPAB])
        delay_precharges(state, gb, tick)
        return
    if command == REFRESH_ALL:
        state.counts[REFRESHES] += 1
        for other in range(gb, gb + rule[UNIT_BANKS]):
            bank[other, OK_ACT] = max(bank[other, OK_ACT], tick + rule[RFC])
        channel[index, PRIO_HEAD] = (channel[index, PRIO_HEAD] + 1) % state.priority.shape[1]
        channel[index, PRIO_COUNT] -= 1
    else:
        state.counts[BANK_REFRESHES] += 1
        for other in range(gb, (at_unit + 1) * rule[UNIT_BANKS], rule[TURNS]):
            bank[other, OK_ACT] = max(bank[other, OK_ACT], tick + rule[RFCPB])
        unit[at_unit, OK_REFPB] = max(unit[at_unit, OK_REFPB], tick + max(rule[PBR2PBR], 1))
        unit[at_unit, OK_UNIT_ACT] = max(unit[at_unit, OK_UNIT_ACT], tick + rule[RREFD])
        next_turn(state, index, at_unit)
