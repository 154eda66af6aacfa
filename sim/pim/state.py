"""What is known of units and their bank sets in each channel while an operation runs: rules, rows, gates, counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.devices import dram
from sim.dram.timing import ACTIVATE, PRECHARGE_ALL, READ, REFRESH_ALL
from sim.pim.parameters import PimParameters
from sim.pim.program import KINDS

NEVER = 1 << 62
_LONG_AGO = -(1 << 40)
# places of `rule`, in ticks where it is time; those up to RFC are of the DRAM model's names
(
    RCD_RD,
    RCD_WR,
    RAS,
    RC,
    RP,
    RPAB,
    RRDS,
    RRDL,
    FAW_TICKS,
    RTP,
    WR_TO_PRE,
    RD_RD_S,
    RD_RD_L,
    WR_WR_S,
    WR_WR_L,
    RTW,
    WTR_S,
    WTR_L,
    RFC,
    TICKS_ACT,
    TICKS_COL,
    TICKS_PRE,
    TICKS_REF,
    REF_AFTER_ACT_OK,
    READ_LATENCY,
    REFI,
    SEPARATE,
    ALIGNED,
    SETS,
    GROUPS,
    OWN_PATH,
    AHEAD,
    FENCE,
    CLOSES,
) = range(34)
_OF_DRAM = (
    *(dram.RCD_RD, dram.RCD_WR, dram.RAS, dram.RC, dram.RP, dram.RPAB, dram.RRDS, dram.RRDL, dram.FAW_TICKS),
    *(dram.RTP, dram.WR_TO_PRE, dram.RD_RD_S, dram.RD_RD_L, dram.WR_WR_S, dram.WR_WR_L, dram.RTW, dram.WTR_S),
    *(dram.WTR_L, dram.RFC),
)
# columns of `bank`: a bank set (of one group)
OPEN_ROW, OK_RD, OK_WR, OK_ACT, OK_PRE, OPENED = range(6)
# columns of `lane`
(
    STEP,
    DONE,
    LOADED,
    FLOOR_COLUMN,
    FLOOR_ROW,
    OK_LOAD,
    OK_ANY_ACT,
    FAW,
    FAW_PLACE,
    REFRESH_AT,
    LAST,
) = (*range(7), 7, 11, 12, 13)
_LANE_COLUMNS = 14
# `counts`: columns by kind of step, then row commands
ACTIVATES, PRECHARGES, REFRESHES = range(len(KINDS), len(KINDS) + 3)
COUNTS = (*(f"pim_{name.lower()}" for name in KINDS), "pim_activates", "pim_precharges", "pim_refreshes")
LOGGED = 0


class Engine(NamedTuple):
    rule: np.ndarray  # int64[34]
    step: np.ndarray  # int64[steps, 8]
    bank: np.ndarray  # int64[channels, groups x sets, 6]
    gate: np.ndarray  # int64[channels, groups, 3]: when a group may next take RD, WR, ACT
    lane: np.ndarray  # int64[channels, 14]
    counts: np.ndarray  # int64[17]
    log: np.ndarray  # int64[commands, 4]: tick, command, bank set, row
    shared: np.ndarray  # int64[1]


def make_engine(p: PimParameters, steps: np.ndarray, channels: int, counts=None, log_commands: int = 0) -> Engine:
    """At rest, all rows closed, the first refresh a refresh interval away; `log_commands` are kept for a checker."""
    one = p.lockstep
    rule = np.zeros(34, np.int64)
    ticks = {place: one.between(nominal, first, then) for place, nominal, first, then in dram.pair_rules(one)}
    rule[: len(_OF_DRAM)] = [ticks[place] for place in _OF_DRAM]
    rule[TICKS_ACT], rule[TICKS_COL] = one.ticks(ACTIVATE), one.ticks(READ)
    rule[TICKS_PRE], rule[TICKS_REF] = one.ticks(PRECHARGE_ALL), one.ticks(REFRESH_ALL)
    rule[REF_AFTER_ACT_OK] = one.tail(ACTIVATE) - one.tail(REFRESH_ALL)
    rule[READ_LATENCY] = (one.nCL + one.nBL) * one.ticks_per_cycle
    rule[SEPARATE], rule[ALIGNED] = one.separate_buses, one.ticks_per_cycle == 2
    rule[REFI] = one.nREFI * one.ticks_per_cycle
    rule[SETS], rule[GROUPS] = p.sets, p.set_groups
    rule[OWN_PATH], rule[AHEAD] = p.own_operand_path, p.opens_ahead
    rule[CLOSES] = p.closes_idle
    rule[FENCE] = p.fence_cycles * one.ticks_per_cycle
    bank = np.zeros((channels, p.sets * p.set_groups, 6), np.int64)
    bank[:, :, OPEN_ROW] = -1
    lane = np.zeros((channels, _LANE_COLUMNS), np.int64)
    lane[:, [FLOOR_COLUMN, FLOOR_ROW]] = 1
    lane[:, FAW : FAW + 4] = _LONG_AGO
    lane[:, REFRESH_AT] = rule[REFI] if one.refresh != "none" else NEVER
    return Engine(
        rule=rule,
        step=np.ascontiguousarray(steps, np.int64),
        bank=bank,
        gate=np.zeros((channels, p.set_groups, 3), np.int64),
        lane=lane,
        counts=np.zeros(len(COUNTS), np.int64) if counts is None else counts,
        log=np.zeros((log_commands, 4), np.int64),
        shared=np.zeros(1, np.int64),
    )
