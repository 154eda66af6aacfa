"""A DRAM device with its controllers, from command to command: DDR, LPDDR, GDDR and HBM by one set of rules.

Each channel has a controller with a read and a write queue of transactions. What may be issued, oldest first among what
the timing rules allow at the same tick (FR-FCFS, Rixner et al., ISCA 2000): the column access of a request for which a
row was opened; refreshing, for which everything else waits; then accesses, activations and precharges for the queue at
hand, reads or writes. Writes wait until they are many or no read is left, and are then drained (two watermarks). A
write is done when it is issued, a read when its last data is there, both later by the latency of a path between the
requester and the controller, where there is one; a read of what is waiting to be written is answered
from the queue, and a second write to the same place is taken into the first.

Time is kept in ticks (cycles, or half cycles where there are commands of half a cycle), and jumps from one command to
the next. A request is seen from the tick after its arrival on. Calls come in order of time, `advance` up to a request's
arrival before its `submit`; how often `advance` is called between changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sim.dram import mapping as mappings
from sim.dram.timing import (
    ACTIVATE,
    ORGANISATION,
    PRECHARGE,
    PRECHARGE_ALL,
    READ,
    REFRESH_ALL,
    REFRESH_BANK,
    WRITE,
    DramParameters,
    dram_parameters,
    timing_sets,
)
from sim.errors import InputError
from sim.kernels.compile import inlined, subroutine
from sim.policy import EventModel

if TYPE_CHECKING:
    from sim.profile import Device

NEVER = 1 << 62
_LONG_AGO = -(1 << 40)
# A command's key: ticks from now, then its class (for an opened row, refreshing, from the queues), then the age.
_TICKS_AT = 46
_PRIORITY, _QUEUED_CLASS = 1 << 44, 1 << 45
_AGE = _PRIORITY - 1

# columns of `bank`: when it may next take RD, WR, ACT, PRE; what it would do next, and its queues (reads, writes)
OK_RD, OK_WR, OK_ACT, OK_PRE, OPEN_ROW, COLUMN_ORDER, ROW_ORDER, ACTIVE_ORDER, ACTIVE_WRITE = *range(6), 7, 9, 10
ACTIVE, USED, LAST_USE, HEAD, HIT, TAIL, ROW_ENTRY, PLACE_ACTIVE = 11, 12, 13, 14, 16, 18, 20, 22
COLUMN_PLACE, ROW_PLACE, ROW_LIST = 23, 25, 27
_BANK_COLUMNS = 29
# lists of banks in `listed`: with an access to an open row, with a row to close, with a request for which a row was
# opened, and of each unit, with a row to open; the first, second and last for reads and for writes
_HITS, _CLOSERS, _ACTIVES, _OPENERS = 0, 2, 4, 5
# columns of `unit`: a rank, or a pseudo-channel of stacked dies, within which activations are counted
FAW, FAW_PLACE, OK_REFPB, NEXT_REFRESHED, OK_UNIT_ACT = 0, 4, 5, 6, 7
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
) = range(63)
_ALL_BANK, _PER_BANK, _NO_REFRESH = range(3)
_OPEN, _CLOSED, _TIMEOUT = range(3)
_ROW_HIT, _PLAIN, _FCFS = range(3)
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

    rule: np.ndarray  # int64[63]
    parts: (
        np.ndarray
    )  # int64[parts, 4] of an address, least significant first: field, size, place in field, shift or -1
    channel: np.ndarray  # int64[channels, 21]
    bank: np.ndarray  # int64[banks, 29], those of a channel together, of a bank group, of a rank, of a pseudo-channel
    gate: np.ndarray  # int64[groups, 4]: when a bank group may next take RD, WR, ACT, PRE
    unit: np.ndarray  # int64[units, 8]
    listed: np.ndarray  # int64[channels, lists, banks a channel + 1]: lists of banks, the last place holds how many
    entry: np.ndarray  # int64[entries, 9]
    priority: np.ndarray  # int64[channels, places]: refreshes that are due, a ring
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
    entry = np.zeros((channels * entries, 9), np.int64)
    entry[:, NEXT] = np.arange(1, channels * entries + 1)
    channel = np.zeros((channels, _CHANNEL_COLUMNS), np.int64)
    channel[:, [FLOOR_COLUMN, FLOOR_ROW]] = 1
    channel[:, FREE_ENTRY] = np.arange(channels) * entries
    channel[:, [DONE_HEAD, DONE_TAIL]] = -1
    channel[:, REFRESH_AT] = rule[REFI] if p.refresh != "none" else NEVER
    channel[:, DIRTY] = 1
    slot = np.full((slots, 5), -1, np.int64)
    slot[:, DONE_NEXT] = np.arange(1, slots + 1)
    unit = np.zeros((units, 8), np.int64)
    unit[:, FAW : FAW + 4] = _LONG_AGO
    leaves = 1 << (channels - 1).bit_length()
    return State(
        rule=rule,
        parts=np.column_stack([parts, shifts]).astype(np.int64),
        channel=channel,
        bank=bank,
        gate=np.zeros((banks // p.banks_per_group, 4), np.int64),
        unit=unit,
        listed=np.zeros((channels, _OPENERS + 2 * units // channels, p.banks_per_channel + 1), np.int64),
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
    rule = np.zeros(63, np.int64)
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
    rule[REFI] = (_bank_interval(p) if p.refresh == "per_bank" else p.nREFI) * p.ticks_per_cycle
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


def _bank_interval(p: DramParameters) -> int:
    """Cycles between two refreshes of single banks of one rank: each bank once in nREFI."""
    return p.nREFIpb or max(1, p.nREFI // (p.bank_groups * p.banks_per_group * p.stack_ids))


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
        (ACT_TO_REFPB, p.nRRDS, ACTIVATE, REFRESH_BANK),
    ]


# --- hooks -----------------------------------------------------------------------------------------------------------


def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
    """Take in one request; False, and nothing is changed, where the queue that it needs has no room.

    Transactions of a large request that do not fit wait in front of the queues, and so does every later request.
    `arrival_ns` is no sooner than the time last advanced to. Addresses are below the capacity: `sim.traffic` refuses
    others; here they would wrap around.
    """
    shared, slot = state.shared, state.slot
    if state.front[FRONT_SLOT] >= 0 or shared[FREE_SLOT] >= slot.shape[0]:
        return False
    tick = _tick(arrival_ns, state.tick_ns)
    transaction = state.rule[TRANSACTION]
    first = address // transaction
    last = (address + max(size_bytes, 1) - 1) // transaction
    place = shared[FREE_SLOT]
    following = slot[place, DONE_NEXT]
    slot[place, TICKET], slot[place, LEFT], slot[place, DONE_TICK] = ticket, last - first + 1, 0
    if not _enqueue(state, tick, first, place, is_write):
        return False
    shared[FREE_SLOT] = following
    first += 1
    while first <= last and _enqueue(state, tick, first, place, is_write):
        first += 1
    if first <= last:
        front = state.front
        front[FRONT_SLOT], front[FRONT_ADDRESS], front[FRONT_END], front[FRONT_WRITE] = place, first, last, is_write
    return True


def advance(state, until_ns):
    """Simulate all that happens up to until_ns; how many completions there are in done_ticket and done_ns."""
    limit = _tick(until_ns, state.tick_ns)
    state.shared[TICK_NOW] = limit
    channel, tree = state.channel, state.tree
    done = 0
    while tree[1] <= limit:
        index = _winner(tree)
        # A request that waits in front of the queues ties the channels together: one tick of one channel at a time.
        stop = limit if state.front[FRONT_SLOT] < 0 else tree[1]
        _run_apart(state, index, stop)
        if state.front[FRONT_SLOT] >= 0:
            _feed(state, stop)
        head = channel[index, DONE_HEAD]
        while head >= 0 and state.slot[head, DONE_TICK] <= stop:
            state.done_ticket[done] = state.slot[head, TICKET]
            state.done_ns[done] = state.slot[head, DONE_TICK] * state.tick_ns
            done += 1
            following = state.slot[head, DONE_NEXT]
            _release(state, index, head, following)
            head = following
        _rekey(state, index)
    if done > 1:
        _sort(state.done_ns, state.done_ticket, done)
    return done


def next_event(state):
    """When something next happens, ns; infinity while no request is under way (refreshing goes on all the same)."""
    tree, channel = state.tree, state.channel
    while True:
        tick = tree[1]
        if tick >= NEVER:
            return np.inf
        index = _winner(tree)
        if not channel[index, DIRTY]:
            return tick * state.tick_ns
        _plan_apart(state, index)
        _rekey(state, index)


# --- a request and its transactions ----------------------------------------------------------------------------------


@inlined
def _tick(time_ns, tick_ns):
    """The last tick that is not after this time."""
    return np.int64(np.floor(time_ns / tick_ns + 1e-6))


@subroutine
def _enqueue(state, tick, number, place, is_write):
    """Put transaction `number` of the device into the queue of its channel; False where that is full."""
    index, gb, row = _decode(state, number)
    channel, bank, entry, rule = state.channel, state.bank, state.entry, state.rule
    write = 1 if is_write else 0
    if channel[index, FLOOR_COLUMN] <= tick:
        if channel[index, DIRTY] or min(channel[index, PLAN_TICK], channel[index, REFRESH_AT]) <= tick:
            _run_apart(state, index, tick)
        _raise_floors(channel, index, tick + 1)
    waiting = _waiting_write(state, gb, number)
    if waiting:  # answered from the write queue, or taken into it
        state.counts[COALESCED if write else FORWARDED] += 1
        channel[index, REQUESTS] += 1
        _complete(state, index, place, tick + 1)
        _rekey(state, index)
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
    _reorder(state, index, gb, write)
    if channel[index, DIRTY] == 0 and _changes_plan(state, index, gb, write):
        channel[index, DIRTY] = 1
    _rekey(state, index)
    return True


@inlined
def _changes_plan(state, index, gb, write):
    """Whether a transaction that has just come, the youngest of all, may come before the command that is planned."""
    channel, bank, gate, rule = state.channel, state.bank, state.gate, state.rule
    before = channel[index, DRAINING]
    if _set_draining(channel, rule, index) != before or rule[POLICY] != _OPEN or rule[SCHEDULER] == _FCFS:
        return True
    if write != before or channel[index, PRIO_COUNT] > 0:
        return False
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
def _decode(state, number):
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


@inlined
def _list(state, index, gb, which, place):
    """Enter a bank into one of its channel's lists; where it is there, the bank keeps in column `place`."""
    listed, length = state.listed, state.rule[BANKS]
    at = listed[index, which, length]
    listed[index, which, at] = gb
    state.bank[gb, place] = at
    listed[index, which, length] = at + 1


@inlined
def _unlist(state, index, gb, which, place):
    """Take a bank out; the last one takes its place."""
    listed, length = state.listed, state.rule[BANKS]
    last = listed[index, which, length] - 1
    moved = listed[index, which, last]
    at = state.bank[gb, place]
    listed[index, which, at] = moved
    state.bank[moved, place] = at
    listed[index, which, length] = last


@inlined
def _leave_queue(state, index, gb, at):
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
def _first_hit(entry, at, row):
    """The first from `at` on in a bank's queue that wants this row; -1 where there is none."""
    while at >= 0 and entry[at, ROW_OF] != row:
        at = entry[at, NEXT]
    return at


@inlined
def _complete(state, index, place, tick):
    """One transaction of a request has been served, at this tick; with the last one, the request is done."""
    slot, channel = state.slot, state.channel
    slot[place, LEFT] -= 1
    slot[place, DONE_TICK] = max(slot[place, DONE_TICK], tick + state.rule[PATH])
    if slot[place, LEFT] > 0:
        channel[index, REQUESTS] -= 1
        return
    tick = slot[place, DONE_TICK]
    after = np.int64(-1)
    before = channel[index, DONE_TAIL]
    while before >= 0 and slot[before, DONE_TICK] > tick:
        after, before = before, slot[before, DONE_PREVIOUS]
    slot[place, DONE_PREVIOUS], slot[place, DONE_NEXT] = before, after
    if before >= 0:
        slot[before, DONE_NEXT] = place
    else:
        channel[index, DONE_HEAD] = place
    if after >= 0:
        slot[after, DONE_PREVIOUS] = place
    else:
        channel[index, DONE_TAIL] = place


@inlined
def _release(state, index, place, following):
    """A request that was done is told, and its place free."""
    channel, slot = state.channel, state.slot
    channel[index, DONE_HEAD] = following
    if following >= 0:
        slot[following, DONE_PREVIOUS] = -1
    else:
        channel[index, DONE_TAIL] = -1
    channel[index, REQUESTS] -= 1
    slot[place, DONE_NEXT] = state.shared[FREE_SLOT]
    state.shared[FREE_SLOT] = place


@subroutine
def _feed(state, tick):
    """Let in what fits of the request that waits in front of the queues."""
    front = state.front
    place, number, last, write = front[FRONT_SLOT], front[FRONT_ADDRESS], front[FRONT_END], front[FRONT_WRITE]
    while number <= last and _enqueue(state, tick, number, place, write == 1):
        number += 1
    front[FRONT_ADDRESS] = number
    if number > last:
        front[FRONT_SLOT] = -1


# --- channels side by side -------------------------------------------------------------------------------------------


@inlined
def _winner(tree):
    """The channel whose next tick is the first of all."""
    at, leaves = 1, tree.size >> 1
    while at < leaves:
        at = 2 * at if tree[2 * at] <= tree[2 * at + 1] else 2 * at + 1
    return at - leaves


@inlined
def _rekey(state, index):
    """Enter a channel's next tick into the tournament."""
    channel, tree = state.channel, state.tree
    tick = np.int64(NEVER)
    if channel[index, REQUESTS] > 0:
        planned = channel[index, PLAN_TICK]
        if channel[index, DIRTY]:
            planned = min(channel[index, FLOOR_COLUMN], channel[index, FLOOR_ROW])
        tick = min(planned, channel[index, REFRESH_AT])
        head = channel[index, DONE_HEAD]
        if head >= 0:
            tick = min(tick, state.slot[head, DONE_TICK])
    at = index + (tree.size >> 1)
    tree[at] = tick
    at >>= 1
    while at >= 1:
        least = min(tree[2 * at], tree[2 * at + 1])
        if tree[at] == least:
            break
        tree[at] = least
        at >>= 1


@inlined
def _sort(done_ns, done_ticket, count):
    """By time, then ticket: Shell's sort, of what is mostly in order."""
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap >= 1:
        for i in range(gap, count):
            time_ns, ticket = done_ns[i], done_ticket[i]
            at = i
            while at >= gap and (
                done_ns[at - gap] > time_ns or (done_ns[at - gap] == time_ns and done_ticket[at - gap] > ticket)
            ):
                done_ns[at], done_ticket[at] = done_ns[at - gap], done_ticket[at - gap]
                at -= gap
            done_ns[at], done_ticket[at] = time_ns, ticket
        gap //= 3


# --- one channel -----------------------------------------------------------------------------------------------------


@inlined
def _run(state, index, until):
    """Issue all commands of a channel up to and including a tick."""
    channel = state.channel
    while True:
        if channel[index, DIRTY]:
            _plan(state, index)
        tick, refresh_at = channel[index, PLAN_TICK], channel[index, REFRESH_AT]
        if refresh_at <= tick:
            if refresh_at > until:
                break
            _refresh_due(state, index, refresh_at)
        elif tick > until:
            break
        else:
            _issue(state, index, tick)
        channel[index, DIRTY] = 1
    _raise_floors(channel, index, until + 1)


@inlined
def _raise_floors(channel, index, tick):
    """Nothing more is issued before this tick."""
    channel[index, FLOOR_COLUMN] = max(channel[index, FLOOR_COLUMN], tick)
    channel[index, FLOOR_ROW] = max(channel[index, FLOOR_ROW], tick)


@subroutine
def _run_apart(state, index, until):
    _run(state, index, until)


@subroutine
def _plan_apart(state, index):
    _plan(state, index)


@inlined
def _refresh_due(state, index, tick):
    """The time has come for a refresh: of every rank (pseudo-channel of stacked dies), or of one bank of each."""
    channel, rule, unit = state.channel, state.rule, state.unit
    channel[index, REFRESH_AT] = tick + rule[REFI]
    places = state.priority.shape[1]
    units = rule[BANKS] // rule[UNIT_BANKS]
    for i in range(units):
        if channel[index, PRIO_COUNT] >= places:
            break
        target = index * units + i
        if rule[REFRESH] == _PER_BANK:
            turn = unit[target, NEXT_REFRESHED]
            unit[target, NEXT_REFRESHED] = turn + 1 if turn + 1 < rule[UNIT_BANKS] else 0
            target = target * rule[UNIT_BANKS] + turn
        at = (channel[index, PRIO_HEAD] + channel[index, PRIO_COUNT]) % places
        state.priority[index, at] = target
        channel[index, PRIO_COUNT] += 1
    _raise_floors(channel, index, tick)


@inlined
def _plan(state, index):
    """Find the next command of a channel: when, which, for what."""
    channel, bank, gate, rule, listed = state.channel, state.bank, state.gate, state.rule, state.listed
    group_shift, aligned = rule[GROUP_SHIFT], rule[ALIGNED]
    floor_column = max(channel[index, FLOOR_COLUMN], channel[index, BUS_COLUMN])
    floor_row = max(channel[index, FLOOR_ROW], channel[index, BUS_ROW])
    now = min(floor_column, floor_row)
    column_key, column_bank, row_key, row_bank, row_command = NEVER, 0, NEVER, 0, 0
    length = rule[BANKS]  # where a list has its length
    actives = listed[index, _ACTIVES, length]
    for i in range(actives):
        gb = listed[index, _ACTIVES, i]
        write = bank[gb, ACTIVE_WRITE]
        ready = max(bank[gb, write], gate[gb >> group_shift, write])
        key = (((max(floor_column, ready) | aligned) - now) << _TICKS_AT) | bank[gb, ACTIVE_ORDER]
        if key < column_key:
            column_key, column_bank = key, gb
    if channel[index, PRIO_COUNT] > 0:
        tick, row_command, row_bank = _plan_refresh(state, index, floor_row)
        if tick < NEVER:
            row_key = ((tick - now) << _TICKS_AT) | _PRIORITY
    elif rule[SCHEDULER] == _FCFS:
        if actives == 0:
            write = _set_draining(channel, rule, index)
            gb = _oldest(state, index, write)
            if gb >= 0 and bank[gb, COLUMN_ORDER + write] < NEVER:
                ready = max(bank[gb, write], gate[gb >> group_shift, write])
                column_key = (((max(floor_column, ready) | aligned) - now) << _TICKS_AT) | _QUEUED_CLASS
                column_bank = gb
            elif gb >= 0 and bank[gb, ROW_ORDER + write] < NEVER:
                row_bank, row_command = gb, PRECHARGE if bank[gb, OPEN_ROW] >= 0 else ACTIVATE
                ready = max(floor_row, max(bank[gb, row_command], gate[gb >> group_shift, row_command]))
                row_key = (((ready | (aligned if row_command == ACTIVATE else 0)) - now) << _TICKS_AT) | _QUEUED_CLASS
    else:
        write = _set_draining(channel, rule, index)
        for i in range(listed[index, _HITS + write, length]):
            gb = listed[index, _HITS + write, i]
            ready = max(bank[gb, write], gate[gb >> group_shift, write])
            key = (((max(floor_column, ready) | aligned) - now) << _TICKS_AT) | bank[gb, COLUMN_ORDER + write]
            if key < column_key:
                column_key, column_bank = key, gb
        for i in range(listed[index, _CLOSERS + write, length]):
            gb = listed[index, _CLOSERS + write, i]
            ready = max(bank[gb, OK_PRE], gate[gb >> group_shift, PRECHARGE])
            key = ((max(floor_row, ready) - now) << _TICKS_AT) | bank[gb, ROW_ORDER + write]
            if key < row_key:
                row_key, row_bank, row_command = key, gb, PRECHARGE
        units = rule[BANKS] >> rule[UNIT_SHIFT]
        for u in range(units):  # a whole unit can be passed over, most of the time
            at_unit = index * units + u
            earliest = max(floor_row, state.unit[at_unit, OK_UNIT_ACT]) | aligned
            if (earliest - now) << _TICKS_AT > min(row_key, column_key):
                continue
            which = _OPENERS + 2 * u + write
            for i in range(listed[index, which, length]):
                gb = listed[index, which, i]
                ready = max(bank[gb, OK_ACT], gate[gb >> group_shift, ACTIVATE])
                key = (((max(earliest, ready) | aligned) - now) << _TICKS_AT) | bank[gb, ROW_ORDER + write]
                if key < row_key:
                    row_key, row_bank, row_command = key, gb, ACTIVATE
    if rule[POLICY] != _OPEN:
        tick, gb = _plan_close(state, index, floor_row)
        key = ((tick - now) << _TICKS_AT) | _PRIORITY if tick < now + (1 << 15) else NEVER
        if key < row_key:
            row_key, row_bank, row_command = key, gb, PRECHARGE
    # At one tick the column bus goes first; of one shared bus, what comes first in order.
    if rule[SEPARATE]:
        first = (column_key >> _TICKS_AT) <= (row_key >> _TICKS_AT) and column_key < NEVER
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
    channel[index, PLAN_TICK] = now + (key >> _TICKS_AT)
    of_queue = key & _QUEUED_CLASS
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
def _reorder(state, index, gb, write):
    """What a bank would next do for its reads or writes has changed: the access, and the row command, and how old."""
    bank, entry, rule = state.bank, state.entry, state.rule
    head, hit = bank[gb, HEAD + write], bank[gb, HIT + write]
    column, row, other = np.int64(NEVER), np.int64(NEVER), head
    is_open = bank[gb, OPEN_ROW] >= 0
    if is_open:
        capped = False
        if head == hit and head >= 0:  # what wants another row is younger, and has to wait
            other = np.int64(-1)
            if rule[SCHEDULER] == _PLAIN or rule[CAP] > 0:
                other = _first_other(entry, head, bank[gb, OPEN_ROW])
                capped = rule[CAP] > 0 and bank[gb, USED] >= rule[CAP] and other >= 0
                if rule[SCHEDULER] != _PLAIN and not capped:
                    other = np.int64(-1)
        elif rule[CAP] > 0:
            capped = bank[gb, USED] >= rule[CAP]
        if rule[SCHEDULER] == _FCFS and hit != head:
            hit = np.int64(-1)
        if hit >= 0 and not capped:
            column = _QUEUED_CLASS | entry[hit, SEQUENCE]
        if bank[gb, ACTIVE] >= 0:
            other = np.int64(-1)
    row_list = np.int64(-1)
    if other >= 0:
        row = _QUEUED_CLASS | entry[other, SEQUENCE]
        row_list = _CLOSERS + write if is_open else _opener_list(rule, gb, write)
    if (column < NEVER) != (bank[gb, COLUMN_ORDER + write] < NEVER):
        if column < NEVER:
            _list(state, index, gb, _HITS + write, COLUMN_PLACE + write)
        else:
            _unlist(state, index, gb, _HITS + write, COLUMN_PLACE + write)
    if row_list != bank[gb, ROW_LIST + write]:
        if bank[gb, ROW_LIST + write] >= 0:
            _unlist(state, index, gb, bank[gb, ROW_LIST + write], ROW_PLACE + write)
        if row_list >= 0:
            _list(state, index, gb, row_list, ROW_PLACE + write)
        bank[gb, ROW_LIST + write] = row_list
    bank[gb, COLUMN_ORDER + write], bank[gb, ROW_ORDER + write], bank[gb, ROW_ENTRY + write] = column, row, other


@inlined
def _opener_list(rule, gb, write):
    """The list of closed banks of a unit, of which it is one."""
    units = rule[BANKS] >> rule[UNIT_SHIFT]
    return _OPENERS + 2 * ((gb >> rule[UNIT_SHIFT]) % units) + write


@inlined
def _both(state, index, gb):
    """As `_reorder`, for reads and writes."""
    bank = state.bank
    for write in range(2):
        waits = bank[gb, HEAD + write] >= 0
        if waits or bank[gb, ROW_LIST + write] >= 0 or bank[gb, COLUMN_ORDER + write] < NEVER:
            _reorder(state, index, gb, write)


@inlined
def _set_draining(channel, rule, index):
    """Which queue is at hand: 1 for that of writes, to which it turns when they are too many or no read waits."""
    reads, writes = channel[index, QUEUED], channel[index, QUEUED + 1]
    if channel[index, DRAINING]:
        if writes < rule[LOW] and reads > 0:
            channel[index, DRAINING] = 0
    elif writes > rule[HIGH] or reads == 0:
        channel[index, DRAINING] = 1
    return channel[index, DRAINING]


@inlined
def _first_other(entry, at, row):
    """The first in a bank's queue that wants another row; -1 where there is none."""
    while at >= 0 and entry[at, ROW_OF] == row:
        at = entry[at, NEXT]
    return at


@inlined
def _plan_refresh(state, index, floor_row):
    """When the refresh that is due can go on, with which command, and the first bank (of all banks: of the unit)."""
    channel, bank, rule = state.channel, state.bank, state.rule
    target = state.priority[index, channel[index, PRIO_HEAD]]
    if rule[REFRESH] == _PER_BANK:
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
        if rule[POLICY] == _CLOSED:
            if bank[gb, USED] < max(rule[CLOSE_AFTER], 1):
                continue
        elif bank[gb, HIT] >= 0 or bank[gb, HIT + 1] >= 0:
            continue
        else:
            tick = max(tick, bank[gb, LAST_USE] + rule[TIMEOUT])
        if tick < best:
            best, which = tick, gb
    return best, which


@inlined
def _issue(state, index, tick):
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
        _close(state, gb, tick + rule[RP])
        _delay_precharges(state, gb, tick)
    else:
        _log(state, tick, command, gb)
        _issue_maintenance(state, index, tick, command, gb)
        if command != PRECHARGE_ALL:
            bus_ticks = rule[TICKS_REF]
    touched = rule[UNIT_BANKS] if command == PRECHARGE_ALL else 1
    for other in range(gb, gb + touched):
        _both(state, index, other)
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
    return rule[POLICY] == _CLOSED and bank[gb, USED] >= rule[CLOSE_AFTER] and not awaited


@inlined
def _issue_column(state, index, tick, write, gb, at):
    channel, bank, gate, entry, rule = state.channel, state.bank, state.gate, state.entry, state.rule
    _delay_columns(gate, rule, gb >> rule[GROUP_SHIFT], tick, write)
    place, closes = entry[at, SLOT], _closes_row(state, gb, at)
    if bank[gb, ACTIVE] == at:
        bank[gb, ACTIVE] = -1
        _unlist(state, index, gb, _ACTIVES, PLACE_ACTIVE)
    else:
        following = entry[at, NEXT]
        _leave_queue(state, index, gb, at)
        bank[gb, HIT + write] = _first_hit(entry, following, bank[gb, OPEN_ROW])
    entry[at, NEXT] = channel[index, FREE_ENTRY]
    channel[index, FREE_ENTRY] = at
    state.counts[WRITES if write else READS] += 1
    closing = tick + (rule[WR_TO_PRE] if write else rule[RTP])
    bank[gb, OK_PRE] = max(bank[gb, OK_PRE], closing)
    bank[gb, LAST_USE] = tick
    if closes:
        _close(state, gb, bank[gb, OK_PRE] + rule[RP])
    else:
        bank[gb, USED] += 1
    _complete(state, index, place, tick if write else tick + rule[READ_LATENCY])


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
    _leave_queue(state, index, gb, at)
    bank[gb, OPEN_ROW], bank[gb, ACTIVE], bank[gb, USED], bank[gb, LAST_USE] = row, at, 0, tick
    _list(state, index, gb, _ACTIVES, PLACE_ACTIVE)
    bank[gb, HIT] = _first_hit(entry, bank[gb, HEAD], row)
    bank[gb, HIT + 1] = _first_hit(entry, bank[gb, HEAD + 1], row)
    bank[gb, ACTIVE_ORDER], bank[gb, ACTIVE_WRITE] = entry[at, SEQUENCE], entry[at, IS_WRITE]


@inlined
def _close(state, gb, opens):
    """The bank's row is closed; it can open one again from `opens` on."""
    bank = state.bank
    bank[gb, OPEN_ROW] = bank[gb, HIT] = bank[gb, HIT + 1] = -1
    bank[gb, OK_ACT] = max(bank[gb, OK_ACT], opens)


@inlined
def _delay_precharges(state, gb, tick):
    gate, rule = state.gate, state.rule
    if rule[PPD] > 1:
        first = (gb >> rule[UNIT_SHIFT]) * rule[UNIT_GROUPS]
        for group in range(first, first + rule[UNIT_GROUPS]):
            gate[group, PRECHARGE] = tick + rule[PPD]


@inlined
def _issue_maintenance(state, index, tick, command, gb):
    """Close all banks of a rank, refresh them, or refresh one bank."""
    channel, bank, rule, unit = state.channel, state.bank, state.rule, state.unit
    at_unit = gb >> rule[UNIT_SHIFT]
    if command == PRECHARGE_ALL:
        for other in range(gb, gb + rule[UNIT_BANKS]):
            _close(state, other, tick + rule[RPAB])
        _delay_precharges(state, gb, tick)
        return
    if command == REFRESH_ALL:
        state.counts[REFRESHES] += 1
        for other in range(gb, gb + rule[UNIT_BANKS]):
            bank[other, OK_ACT] = max(bank[other, OK_ACT], tick + rule[RFC])
    else:
        state.counts[BANK_REFRESHES] += 1
        bank[gb, OK_ACT] = max(bank[gb, OK_ACT], tick + rule[RFCPB])
        unit[at_unit, OK_REFPB] = max(unit[at_unit, OK_REFPB], tick + max(rule[RREFD], 1))
        unit[at_unit, OK_UNIT_ACT] = max(unit[at_unit, OK_UNIT_ACT], tick + rule[RREFD])
    channel[index, PRIO_HEAD] = (channel[index, PRIO_HEAD] + 1) % state.priority.shape[1]
    channel[index, PRIO_COUNT] -= 1


# --- what it took ----------------------------------------------------------------------------------------------------


def energy_pj(parameters: DramParameters, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    """Picojoules by cause, of the commands counted in that time; a bank's refresh takes its share of one of all."""
    e = parameters.energy
    banks = parameters.bank_groups * parameters.banks_per_group * parameters.stack_ids
    return {
        "activate": counts[ACTIVATES] * e.activate_pj,
        "read": counts[READS] * e.read_pj,
        "write": counts[WRITES] * e.write_pj,
        "refresh": (counts[REFRESHES] + counts[BANK_REFRESHES] / banks) * e.refresh_pj,
        "background": elapsed_ns * e.background_w * 1000 * parameters.channels,
    }


def settle(state: State, until_ns: float) -> None:
    """Bring the refreshing of idle channels up to this time, too, for who wants to count it."""
    for index in range(state.rule[CHANNELS]):
        if state.tree[index + state.tree.size // 2] >= NEVER:
            _run_apart(state, index, _tick(until_ns, state.tick_ns))


def of_device(device: Device, changes: Mapping[str, Any]) -> DramParameters:
    """The parameters of a device file: its timing set, with its other parameters and then `changes` over it.

    Raises InputError.
    """
    given = {"channels": device.channels, **device.parameters, **changes}
    timing_set = given.pop("timing_set", None)
    if timing_set is None:
        raise InputError(f"device {device.name!r}: no parameter 'timing_set'", expected="one", candidates=timing_sets())
    parameters = dram_parameters(timing_set, given)
    if changes.keys().isdisjoint(ORGANISATION):
        _check_capacity(device, parameters)
    return parameters


def _check_capacity(device: Device, parameters: DramParameters) -> None:
    """A part of the memory may be set aside; more than there is may not be promised."""
    if device.capacity_bytes is not None and device.capacity_bytes > parameters.capacity_bytes:
        sizes = ", ".join(f"{name} {getattr(parameters, name)}" for name in ORGANISATION[1:-1])
        expected = f"at most the {parameters.capacity_bytes} bytes of its organisation ({sizes})"
        raise InputError(f"device {device.name!r}: capacity is", value=device.capacity_bytes, expected=expected)


def side_by_side(p: DramParameters, count: int) -> DramParameters:
    """So many parts as one: more channels."""
    return p.model_copy(update={"channels": p.channels * count})


MODEL = EventModel(
    name="dram",
    init=init,
    submit=submit,
    advance=advance,
    next_event=next_event,
    of_device=of_device,
    energy_pj=energy_pj,
    count_names=COUNTS,
    times=side_by_side,
)

__all__ = ["COUNTS", "MODEL", "State", "advance", "energy_pj", "init", "next_event", "settle", "submit"]
