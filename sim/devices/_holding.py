"""A channel of the DRAM model that somebody else has for a while: closing its rows, keeping it still, giving it back.

Taking it goes as a refresh does: requests for which a row was opened are served, then all rows are closed. Until it is
given back, requests may come and wait, but no command is issued and no refresh falls due: that is for who has it.
"""

from __future__ import annotations

import numpy as np

from sim.devices.dram import (
    BANKS,
    DIRTY,
    NEVER,
    OK_ACT,
    OK_UNIT_ACT,
    PLAN_COLUMN,
    PLAN_COMMAND,
    PLAN_TICK,
    PRIO_COUNT,
    PRIO_HEAD,
    QUEUED,
    REFRESH_AT,
    UNIT_BANKS,
    UNIT_GROUPS,
    _issue,
    _plan_apart,
    _raise_floors,
    _refresh_due,
    _rekey,
    _run_apart,
)
from sim.dram.timing import READ, REFRESH_ALL, WRITE
from sim.kernels.compile import inlined, subroutine


@subroutine
def take(state, index, tick):
    """Take a channel after `tick`: the first tick at which it is wholly closed, and when its next refresh is due.

    Everything up to `tick` must have been simulated, and nothing after it.
    """
    channel, rule = state.channel, state.rule
    _run_apart(state, index, tick)
    due = channel[index, REFRESH_AT]
    _refresh_due(state, index, tick + 1)
    channel[index, REFRESH_AT], channel[index, DIRTY] = NEVER, 1
    units = rule[BANKS] // rule[UNIT_BANKS]
    closed = tick + 1
    while channel[index, PRIO_COUNT] > 0:
        if channel[index, DIRTY]:
            _plan_apart(state, index)
        planned, command = channel[index, PLAN_TICK], channel[index, PLAN_COMMAND]
        if command == REFRESH_ALL and channel[index, PLAN_COLUMN] == 0 and channel[index, PRIO_COUNT] <= units:
            closed = max(closed, planned)  # what was done for its sake is done, and it does not come
            channel[index, PRIO_HEAD] = (channel[index, PRIO_HEAD] + 1) % state.priority.shape[1]
            channel[index, PRIO_COUNT] -= 1
        else:
            _issue(state, index, planned)
        channel[index, DIRTY] = 1
    keep(state, index, closed)
    return closed, due


@subroutine
def keep(state, index, tick):
    """No command of a channel that was taken comes before `tick`, nor at it."""
    _raise_floors(state.channel, index, tick + 1)
    state.channel[index, DIRTY] = 1
    _rekey(state, index)


@subroutine
def give_back(state, index, tick, opens, reads, writes, refresh_at):
    """From `tick` on, a channel whose rows are all closed is its own again.

    opens, reads, writes: ticks before which no row may be opened, nothing be read or written; refresh_at: when its next
    refresh is due.
    """
    channel, rule = state.channel, state.rule
    first = index * rule[BANKS]
    for gb in range(first, first + rule[BANKS]):
        state.bank[gb, OK_ACT] = max(state.bank[gb, OK_ACT], opens)
    groups = rule[UNIT_GROUPS] * (rule[BANKS] // rule[UNIT_BANKS])
    for group in range(index * groups, (index + 1) * groups):
        state.gate[group, READ] = max(state.gate[group, READ], reads)
        state.gate[group, WRITE] = max(state.gate[group, WRITE], writes)
    channel[index, REFRESH_AT] = refresh_at
    _raise_floors(channel, index, tick)
    channel[index, DIRTY] = 1
    _rekey(state, index)


@inlined
def last_gates(state, index):
    """The first ticks at which any bank of a channel may open a row, read, and write."""
    rule = state.rule
    opens, reads, writes = np.int64(0), np.int64(0), np.int64(0)
    first = index * rule[BANKS]
    for gb in range(first, first + rule[BANKS]):
        opens = max(opens, state.bank[gb, OK_ACT])
    units = rule[BANKS] // rule[UNIT_BANKS]
    for at_unit in range(index * units, (index + 1) * units):
        opens = max(opens, state.unit[at_unit, OK_UNIT_ACT])
    groups = rule[UNIT_GROUPS] * units
    for group in range(index * groups, (index + 1) * groups):
        reads, writes = max(reads, state.gate[group, READ]), max(writes, state.gate[group, WRITE])
    return opens, reads, writes


@inlined
def waiting(state, index):
    """Transactions in a channel's queues."""
    return state.channel[index, QUEUED] + state.channel[index, QUEUED + 1]


__all__ = ["give_back", "keep", "last_gates", "take", "waiting"]
