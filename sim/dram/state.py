"""What is known of a DRAM device with its controllers: rules in ticks, rows, queues, plans; in few packed arrays."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim.dram import mapping as mappings
from sim.dram.timing import ACTIVATE, PRECHARGE, PRECHARGE_ALL, READ, REFRESH_ALL, REFRESH_BANK, WRITE, DramParameters
from sim.kernels.compile import inlined

NEVER = 1 << 62
LONG_AGO = -(1 << 40)
# A command's key: ticks from now, then its class (for an opened row, refreshing, from the queues), then the age.
TICKS_AT = 46
PRIORITY, QUEUED_CLASS = 1 << 44, 1 << 45
_AGE = PRIORITY - 1

# columns of `bank`: when it may next take RD, WR, ACT, PRE; what it would do next, and its queues (reads, writes)
OK_RD, OK_WR, OK_ACT, OK_PRE, OPEN_ROW, COLUMN_ORDER, ROW_ORDER, ACTIVE_ORDER, ACTIVE_WRITE = *range(6), 7, 9, 10
ACTIVE, USED, LAST_USE, HEAD, HIT, TAIL, ROW_ENTRY, PLACE_ACTIVE = 11, 12, 13, 14, 16, 18, 20, 22
COLUMN_PLACE, ROW_PLACE, ROW_LIST = 23, 25, 27
HELD = 29  # for a refresh that can be postponed no longer: its queues wait
_BANK_COLUMNS = 30
# lists of banks in `listed`: with an access to an open row, with a row to close, with a request for which a row was
# opened, and of each unit, with a row to open; the first, second and last for reads and for writes
HIT_BANKS, CLOSER_BANKS, ACTIVE_BANKS, OPENER_BANKS = 0, 2, 4, 5
# columns of `unit`: a rank, or a pseudo-channel of stacked dies, within which activations are counted
FAW, FAW_PLACE, OK_REFPB, NEXT_REFRESHED, OK_UNIT_ACT, OWED = 0, 4, 5, 6, 7, 8  # refreshes of single banks owed
_UNIT_COLUMNS = 9
# columns of `entry`: a transaction
SEQUENCE, ENTRY_BANK, ROW_OF, UNIT_ADDRESS, IS_WRITE, SLOT, NEXT, PREVIOUS, COUNTED = range(9)
# columns of `slot`: a request
TICKET, LEFT, DONE_TICK, DONE_NEXT, DONE_PREVIOUS = range(5)
# columns of `channel`
(
    FLOOR_COLUMN,
    FLOOR_ROW,
    BUS_COLUMN,
    BUS_ROW,
    QUEUED,  # reads, and writes
    DRAINING,
    REFRESH_AT,
    PRIO_HEAD,
    PRIO_COUNT,
    PLAN_TICK,
    PLAN_COMMAND,
    PLAN_BANK,
    PLAN_ENTRY,
    PLAN_COLUMN,
    DIRTY,
    FREE_ENTRY,
    DONE_HEAD,
    DONE_TAIL,
    WCK_EXPIRY,
    REQUESTS,
) = (*range(5), *range(6, 21))
_CHANNEL_COLUMNS = 21
# places of `rule`: how the device is made, in ticks where it is time
_RULES = 66
(
    CHANNELS,
    BANKS,
    GROUP_BANKS,
    UNIT_BANKS,
    UNIT_GROUPS,
    RANK_GROUPS,
    PC_GROUPS,
    ENTRIES,
    TRANSACTION,
    CAPACITY,
    SEPARATE,
    ALIGNED,
    READ_LATENCY,
    TICKS_ACT,
    TICKS_COL,
    TICKS_PRE,
    TICKS_REF,
    XOR,
    GROUP_SHIFT,
    UNIT_SHIFT,
    RANK_SHIFT,
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
    PPD,
    RD_RD_S,
    RD_RD_L,
    RD_RD_R,
    WR_WR_S,
    WR_WR_L,
    WR_WR_R,
    RTW,
    RTW_R,
    WTR_S,
    WTR_L,
    WTR_R,
    REFI,
    RFC,
    RFCPB,
    RREFD,
    PBR2PBR,
    ACT_TO_REFPB,
    REF_AFTER_ACT_OK,
    REFRESH,
    POLICY,
    CLOSE_AFTER,
    TIMEOUT,
    SCHEDULER,
    CAP,
    READ_QUEUE,
    WRITE_QUEUE,
    LOW,
    HIGH,
    WCK_RD,
    WCK_WR,
    PATH,
    POSTPONED,
    TURNS,
) = range(_RULES)
ALL_BANK, PER_BANK, NO_REFRESH = range(3)
OPEN, CLOSED, ON_TIMEOUT = range(3)
ROW_HIT, PLAIN, FCFS = range(3)
AND_PRECHARGE = -2  # for a row in the log: the access closes it
# `counts`
HITS, MISSES, CONFLICTS, ACTIVATES, READS, WRITES, REFRESHES, BANK_REFRESHES, FORWARDED, COALESCED = range(10)
COUNTS = (
    *("row_hits", "row_misses", "row_conflicts", "activates", "reads", "writes", "refreshes", "bank_refreshes"),
    *("forwarded", "coalesced"),
)
# `front`: what is left of a request that the queues did not take whole
FRONT_SLOT, FRONT_ADDRESS, FRONT_END, FRONT_WRITE = range(4)
# `shared`
FREE_SLOT, SEQUENCE_NEXT, LOGGED, TICK_NOW = range(4)


class State(NamedTuple):
    """Few arrays, each with all that is known of its things: compiled code passes every array at every call."""

    rule: np.ndarray  # int64[66]
    parts: (
        np.ndarray
    )  # int64[parts, 4] of an address, least significant first: field, size, place in field, shift or -1
    channel: np.ndarray  # int64[channels, 21]
    bank: np.ndarray  # int64[banks, 30], those of a channel together, of a bank group, of a rank, of a pseudo-channel
    gate: np.ndarray  # int64[groups, 4]: when a bank group may next take RD, WR, ACT, PRE
    unit: np.ndarray  # int64[units, 9]
    listed: np.ndarray  # int64[channels, lists, banks a channel + 1]: lists of banks, the last place holds how many
    entry: np.ndarray  # int64[entries, 9]
    priority: np.ndarray  # int64[channels, places]: refreshes of all banks that are due, a ring
    slot: np.ndarray  # int64[requests, 5]
    tree: np.ndarray  # int64[2 x leaves]: a tournament of the channels' next ticks
    shared: np.ndarray  # int64[4]
    front: np.ndarray  # int64[4]
    done_ticket: np.ndarray  # int64[requests]: of the last `advance`, in order of time and ticket
    done_ns: np.ndarray  # float64[requests]
    counts: np.ndarray  # int64[10]
    log: np.ndarray  # int64[commands, 4]: tick, command, bank, row of the first so many; of no length: not kept
    tick_ns: float


def init(parameters: DramParameters, log_commands: int = 0) -> State:
    """A device at rest, all rows closed; `log_commands` keeps so many commands for a checker to read."""
    p = parameters
    parts, xor = mappings.segments(p.mapping, p.sizes)
    shifts = [size.bit_length() - 1 if size & (size - 1) == 0 else -1 for size in parts[:, 1].tolist()]
    rule = _rules(p, xor)
    banks, channels = p.channels * p.banks_per_channel, p.channels
    entries, units = rule[ENTRIES], banks // rule[UNIT_BANKS]
    slots = channels * (entries + 64) + _on_the_path(p)
    bank = np.zeros((banks, _BANK_COLUMNS), np.int64)
    bank[:, [OPEN_ROW, ACTIVE, HEAD, HEAD + 1, HIT, HIT + 1, TAIL, TAIL + 1, ROW_ENTRY, ROW_ENTRY + 1]] = -1
    bank[:, [COLUMN_ORDER, COLUMN_ORDER + 1, ROW_ORDER, ROW_ORDER + 1]] = NEVER
    bank[:, [ROW_LIST, ROW_LIST + 1]] = -1
    nth = np.arange(channels)
    behind = nth if p.staggered_refresh else 0 * nth
    entry = np.zeros((channels * entries, 9), np.int64)
    entry[:, NEXT] = np.arange(1, channels * entries + 1)
    channel = np.zeros((channels, _CHANNEL_COLUMNS), np.int64)
    channel[:, [FLOOR_COLUMN, FLOOR_ROW]] = 1
    channel[:, FREE_ENTRY] = nth * entries
    channel[:, [DONE_HEAD, DONE_TAIL]] = -1
    channel[:, REFRESH_AT] = rule[REFI] + behind * rule[REFI] // channels if p.refresh != "none" else NEVER
    channel[:, DIRTY] = 1
    slot = np.full((slots, 5), -1, np.int64)
    slot[:, DONE_NEXT] = np.arange(1, slots + 1)
    unit = np.zeros((units, _UNIT_COLUMNS), np.int64)
    unit[:, FAW : FAW + 4] = LONG_AGO
    unit[:, NEXT_REFRESHED] = np.repeat(behind * rule[TURNS] // channels, units // channels)
    leaves = 1 << (channels - 1).bit_length()
    return State(
        rule=rule,
        parts=np.column_stack([parts, shifts]).astype(np.int64),
        channel=channel,
        bank=bank,
        gate=np.zeros((banks // p.banks_per_group, 4), np.int64),
        unit=unit,
        listed=np.zeros((channels, OPENER_BANKS + 2 * units // channels, p.banks_per_channel + 1), np.int64),
        entry=entry,
        priority=np.zeros((channels, 16 * p.banks_per_channel), np.int64),
        slot=slot,
        tree=np.full(2 * leaves, NEVER, np.int64),
        shared=np.zeros(4, np.int64),
        front=np.full(4, -1, np.int64),
        done_ticket=np.zeros(slots, np.int64),
        done_ns=np.zeros(slots),
        counts=np.zeros(len(COUNTS), np.int64),
        log=np.zeros((log_commands, 4), np.int64),
        tick_ns=p.tick_ns,
    )


def _rules(p: DramParameters, xor: bool) -> np.ndarray:
    """Everything that the kernels read of the parameters."""
    rule = np.zeros(_RULES, np.int64)
    ranks = p.ranks * p.stack_ids
    rank_groups = p.bank_groups
    unit_groups = rank_groups * (p.stack_ids if p.stack_ids > 1 else 1)
    rule[CHANNELS], rule[BANKS], rule[GROUP_BANKS] = p.channels, p.banks_per_channel, p.banks_per_group
    rule[UNIT_GROUPS], rule[UNIT_BANKS] = unit_groups, unit_groups * p.banks_per_group
    rule[RANK_GROUPS], rule[PC_GROUPS] = rank_groups, rank_groups * ranks
    rule[ENTRIES] = p.read_queue + p.write_queue + p.banks_per_channel
    rule[TRANSACTION], rule[CAPACITY], rule[XOR] = p.transaction_bytes, p.capacity_bytes, p.rows * xor
    rule[SEPARATE], rule[ALIGNED] = p.separate_buses, p.ticks_per_cycle == 2
    for place, size in ((GROUP_SHIFT, GROUP_BANKS), (UNIT_SHIFT, UNIT_BANKS), (RANK_SHIFT, RANK_GROUPS)):
        rule[place] = int(rule[size]).bit_length() - 1
    rule[READ_LATENCY] = (p.nCL + p.nBL) * p.ticks_per_cycle
    for place, command in ((TICKS_ACT, ACTIVATE), (TICKS_COL, READ), (TICKS_PRE, PRECHARGE), (TICKS_REF, REFRESH_ALL)):
        rule[place] = p.ticks(command)
    for place, nominal, first, then in pair_rules(p):
        rule[place] = p.between(nominal, first, then)
    rule[REFI] = (p.bank_interval if p.refresh == "per_bank" else p.nREFI) * p.ticks_per_cycle
    rule[POSTPONED], rule[TURNS] = p.postponed_refreshes, p.refresh_turns
    rule[REF_AFTER_ACT_OK] = p.tail(ACTIVATE) - p.tail(REFRESH_ALL)
    rule[REFRESH] = ("all_bank", "per_bank", "none").index(p.refresh)
    rule[POLICY], rule[CLOSE_AFTER] = ("open", "closed", "timeout").index(p.row_policy), p.close_after
    rule[TIMEOUT] = math.ceil(p.timeout_ns / p.tick_ns)
    rule[SCHEDULER] = ("fr_fcfs_row_hit", "fr_fcfs", "fcfs").index(p.scheduler)
    rule[CAP], rule[READ_QUEUE], rule[WRITE_QUEUE] = p.row_hit_cap, p.read_queue, p.write_queue
    rule[LOW] = math.ceil(p.write_low_watermark * p.write_queue)  # fewer than this many: drained
    rule[HIGH] = math.floor(p.write_high_watermark * p.write_queue)  # more than this many: to be drained
    if p.nWCKPST is not None:
        rule[WCK_RD], rule[WCK_WR] = p.nCL + p.nBL + p.nWCKPST, p.nCWL + p.nBL + p.nWCKPST
    rule[PATH] = math.ceil(p.path_latency_ns / p.tick_ns)
    return rule


def _on_the_path(p: DramParameters) -> int:
    """How many transactions that left the channels can be on their way to who asked for them."""
    return math.ceil(p.path_latency_ns * p.peak_bytes_per_ns / p.transaction_bytes)


def pair_rules(p: DramParameters) -> list[tuple[int, int, int, int]]:
    """Place in `rule`, cycles, and the two commands that must be so far apart (JEDEC's names as of JESD79-4, JESD238).

    Between ranks the data bus changes hands (tCS); stacked dies share one and have tCCD_R instead.
    """
    ccds_wr = p.nCCDS if p.nCCDS_WR is None else p.nCCDS_WR
    ccdl_wr = p.nCCDL if p.nCCDL_WR is None else p.nCCDL_WR
    stacked = p.stack_ids > 1
    ccdr = p.nCCDS if p.nCCDR is None else p.nCCDR
    turn = p.nBL + p.nCS
    write_end = p.nCWL + p.nBL
    return [
        (RCD_RD, p.nRCDRD, ACTIVATE, READ),
        (RCD_WR, p.nRCDWR, ACTIVATE, WRITE),
        (RAS, p.nRAS, ACTIVATE, PRECHARGE),
        (RC, p.nRC, ACTIVATE, ACTIVATE),
        (RP, p.nRP, PRECHARGE, ACTIVATE),
        (RPAB, p.nRP if p.nRPab is None else p.nRPab, PRECHARGE_ALL, ACTIVATE),
        (RRDS, p.nRRDS, ACTIVATE, ACTIVATE),
        (RRDL, p.nRRDL, ACTIVATE, ACTIVATE),
        (FAW_TICKS, p.nFAW, ACTIVATE, ACTIVATE),
        (RTP, p.nRTP, READ, PRECHARGE),
        (WR_TO_PRE, write_end + p.nWR, WRITE, PRECHARGE),
        (PPD, p.nPPD, PRECHARGE, PRECHARGE),
        (RD_RD_S, max(p.nCCDS, p.nBL), READ, READ),
        (RD_RD_L, max(p.nCCDL, p.nBL), READ, READ),
        (RD_RD_R, max(ccdr, p.nBL) if stacked else turn, READ, READ),
        (WR_WR_S, max(ccds_wr, p.nBL), WRITE, WRITE),
        (WR_WR_L, max(ccdl_wr, p.nBL), WRITE, WRITE),
        (WR_WR_R, max(ccdr, p.nBL) if stacked else p.nBL, WRITE, WRITE),
        (RTW, p.nRTW, READ, WRITE),
        (RTW_R, p.nRTW if stacked else turn, READ, WRITE),
        (WTR_S, write_end + p.nWTRS, WRITE, READ),
        (WTR_L, write_end + p.nWTRL, WRITE, READ),
        (WTR_R, write_end + p.nWTRS if stacked else max(write_end + p.nCS - p.nCL, 1), WRITE, READ),
        (RFC, p.nRFC, REFRESH_ALL, ACTIVATE),
        (RFCPB, p.nRFCpb or 0, REFRESH_BANK, ACTIVATE),
        (RREFD, p.nRREFD, REFRESH_BANK, ACTIVATE),
        (PBR2PBR, p.nRREFD if p.nPBR2PBR is None else p.nPBR2PBR, REFRESH_BANK, REFRESH_BANK),
        (ACT_TO_REFPB, p.nRRDS, ACTIVATE, REFRESH_BANK),
    ]


@inlined
def raise_floors(channel, index, tick):
    """Nothing more is issued before this tick."""
    channel[index, FLOOR_COLUMN] = max(channel[index, FLOOR_COLUMN], tick)
    channel[index, FLOOR_ROW] = max(channel[index, FLOOR_ROW], tick)


@inlined
def tick_of(time_ns, tick_ns):
    """The last tick that is not after this time."""
    return np.int64(np.floor(time_ns / tick_ns + 1e-6))
