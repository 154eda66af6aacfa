"""Host and units share a device: the host's requests and an operation of the units, from event to event.

Units take a channel: the rows that the host's requests had opened are closed, the mode is changed, and commands of the
operation follow (`sim.pim.engine`), refreshes among them; the host's requests wait in the queues. After a slice of the
operation, at the end of a tile, the host has the channel back for a while if one of its requests waits there
(`interleave`), or only at the end (`wait`). Each way costs a change of the mode. An operation is started at a time
(`start`), and then goes on in each channel by itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.devices import _holding as holding
from sim.devices import dram
from sim.dram.timing import READ, WRITE
from sim.kernels.compile import inlined, kernel, subroutine
from sim.pim import engine as engines
from sim.pim import state as lanes
from sim.pim.parameters import POLICIES, PimParameters
from sim.pim.program import BODY, CUT, ENTER, LEAVE, START, STEP_COLUMNS, STOP, Program

NEVER = 1 << 62
# columns of `turn`: what a channel's units do next, when, how far the operation is, and when its last data was there
NEXT_TICK, OWNER, PROGRESS, FINISHED = range(4)
_HOST, _UNITS = range(2)
# `plan`: begins of the program's parts, then how the device is shared
_INTERLEAVES, _SLICE_TILES, _HOST_SLICE = range(LEAVE + 2, LEAVE + 5)
SWITCHES = 0
OWN_COUNTS = ("pim_switches",)


class State(NamedTuple):
    memory: object  # the model `dram`: compiled code is that of this very version of it
    dram: dram.State
    units: lanes.Engine
    turn: np.ndarray  # int64[channels, 4]
    plan: np.ndarray  # int64[9]
    done_ticket: np.ndarray  # int64[requests]: of the last `advance`
    done_ns: np.ndarray  # float64[requests]
    counts: np.ndarray  # int64: of the DRAM, of the units, and changes of the mode to the units
    own: np.ndarray  # int64[1], the last of `counts`
    tick_ns: float


def init(parameters: PimParameters, program: Program | None = None, log_commands: int = 0) -> State:
    """At rest; `program` is what `start` starts. log_commands: of host and of units, kept for a checker."""
    p = parameters
    memory = dram.init(p.dram, log_commands)
    counts = np.zeros(memory.counts.size + len(lanes.COUNTS) + 1, np.int64)
    steps = np.zeros((0, STEP_COLUMNS), np.int64) if program is None else program.steps
    split = memory.counts.size
    units = lanes.make_engine(p, steps, p.dram.channels, counts[split:-1], log_commands)
    turn = np.zeros((p.dram.channels, 4), np.int64)
    turn[:, NEXT_TICK] = NEVER
    plan = np.zeros(9, np.int64)
    plan[: LEAVE + 2] = 0 if program is None else program.begins
    plan[_INTERLEAVES], plan[_SLICE_TILES] = POLICIES.index(p.host_policy), p.slice_tiles
    plan[_HOST_SLICE] = max(1, round(p.host_slice_ns / p.dram.tick_ns))
    return State(
        memory=dram.MODEL,
        dram=memory._replace(counts=counts[:split]),
        units=units,
        turn=turn,
        plan=plan,
        done_ticket=np.zeros_like(memory.done_ticket),
        done_ns=np.zeros_like(memory.done_ns),
        counts=counts,
        own=counts[-1:],
        tick_ns=p.dram.tick_ns,
    )


# --- hooks -----------------------------------------------------------------------------------------------------------


def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
    """As `dram.submit`: a request of the host waits in its queue while units have its channel."""
    return state.memory.submit(state.dram, ticket, arrival_ns, address, size_bytes, is_write)


def advance(state, until_ns):
    """Simulate all up to until_ns, of the host's requests and of the operation; how many completions there are."""
    done = 0
    while True:
        index = _first(state.turn)
        tick = state.turn[index, NEXT_TICK]
        at_ns = min(until_ns, tick * state.tick_ns)
        count = state.memory.advance(state.dram, at_ns)
        for i in range(count):
            state.done_ticket[done], state.done_ns[done] = state.dram.done_ticket[i], state.dram.done_ns[i]
            done += 1
        if tick * state.tick_ns > until_ns:
            return done
        _take_turn(state, index, tick)


def next_event(state):
    """When something next happens, ns: of the host's requests or of the operation; infinity when both are done."""
    tick = state.turn[_first(state.turn), NEXT_TICK]
    units_ns = np.inf if tick >= NEVER else tick * state.tick_ns
    return min(units_ns, state.memory.next_event(state.dram))


@kernel
def start(state, at_ns):
    """Start the program that the state was made with, in every channel; no sooner than the time advanced to."""
    for index in range(state.turn.shape[0]):
        state.turn[index, NEXT_TICK] = np.int64(np.ceil(at_ns / state.tick_ns - 1e-6))
        state.turn[index, OWNER], state.turn[index, PROGRESS], state.turn[index, FINISHED] = _HOST, 0, 0


def finished_ns(state: State) -> float:
    """When the operation was done in every channel; infinity before that."""
    if (state.turn[:, FINISHED] == 0).any():
        return float("inf")
    return float(state.turn[:, FINISHED].max()) * state.tick_ns


# --- turns -----------------------------------------------------------------------------------------------------------


@inlined
def _first(turn):
    """The channel whose units are the first to do something."""
    first = np.int64(0)
    for index in range(1, turn.shape[0]):
        if turn[index, NEXT_TICK] < turn[first, NEXT_TICK]:
            first = np.int64(index)
    return first


@subroutine
def _take_turn(state, index, tick):
    """Units take a channel, or go on, or give it back."""
    turn, plan = state.turn, state.plan
    at = plan[BODY] + turn[index, PROGRESS]
    is_over = at >= plan[STOP]
    if turn[index, OWNER] == _HOST:
        _enter(state, index, tick)
    elif is_over or holding.waiting(state.dram, index) > 0:
        _leave(state, index, is_over)
        return
    last = _end_of_slice(state, at)
    engines.run_steps(state.units, index, at, last)
    turn[index, PROGRESS] = last - plan[BODY]
    _go_on_after(state, index)


@inlined
def _end_of_slice(state, at):
    """The step after so many tiles, or the end of the operation."""
    plan, step = state.plan, state.units.step
    tiles = plan[_SLICE_TILES]
    while at < plan[STOP]:
        at += 1
        if plan[_INTERLEAVES] and step[at - 1, CUT]:
            tiles -= 1
            if tiles == 0:
                break
    return at


@inlined
def _go_on_after(state, index):
    """The next turn comes with the tick after the last command, until which the host's requests wait."""
    lane = state.units.lane
    tick = max(lane[index, lanes.FLOOR_COLUMN], lane[index, lanes.FLOOR_ROW])
    holding.keep(state.dram, index, tick)
    state.turn[index, NEXT_TICK], state.turn[index, OWNER] = tick, _UNITS


@subroutine
def _enter(state, index, tick):
    units, plan = state.units, state.plan
    closed, due = holding.take(state.dram, index, tick)
    opens, reads, writes = holding.last_gates(state.dram, index)
    lane, gate, bank = units.lane, units.gate, units.bank
    lane[index, lanes.FLOOR_COLUMN] = lane[index, lanes.FLOOR_ROW] = closed
    lane[index, lanes.OK_LOAD] = max(reads, writes)
    lane[index, lanes.OK_ANY_ACT] = max(lane[index, lanes.OK_ANY_ACT], opens)
    lane[index, lanes.REFRESH_AT] = due
    for group in range(gate.shape[1]):
        gate[index, group, READ] = max(gate[index, group, READ], reads)
        gate[index, group, WRITE] = max(gate[index, group, WRITE], writes)
    for which in range(bank.shape[1]):
        bank[index, which, lanes.OK_ACT] = max(bank[index, which, lanes.OK_ACT], opens)
    state.own[SWITCHES] += 1
    engines.run_steps(units, index, plan[ENTER], plan[START])
    if state.turn[index, PROGRESS] > 0:
        engines.run_steps(units, index, plan[START], plan[BODY])


@subroutine
def _leave(state, index, is_over):
    """Out of PIM and all-bank mode, all rows closed; the channel is the host's."""
    units, plan, turn = state.units, state.plan, state.turn
    if not is_over:
        engines.run_steps(units, index, plan[STOP], plan[LEAVE])
    engines.run_steps(units, index, plan[LEAVE], plan[LEAVE + 1])
    engines.close_all(units, index)
    lane, bank, gate = units.lane, units.bank, units.gate
    tick = max(lane[index, lanes.FLOOR_COLUMN], lane[index, lanes.FLOOR_ROW])
    opens, reads, writes = lane[index, lanes.OK_ANY_ACT], np.int64(0), np.int64(0)
    for which in range(bank.shape[1]):
        opens = max(opens, bank[index, which, lanes.OK_ACT])
    for group in range(gate.shape[1]):
        reads, writes = max(reads, gate[index, group, READ]), max(writes, gate[index, group, WRITE])
    holding.give_back(state.dram, index, tick, opens, reads, writes, lane[index, lanes.REFRESH_AT])
    turn[index, OWNER] = _HOST
    if is_over:
        turn[index, NEXT_TICK], turn[index, FINISHED] = NEVER, max(tick, lane[index, lanes.LAST])
    else:
        turn[index, NEXT_TICK] = tick + plan[_HOST_SLICE]
