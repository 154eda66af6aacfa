"""One channel from command to command."""

from __future__ import annotations

from sim.dram.issuing import issue
from sim.dram.planning import plan
from sim.dram.refreshing import refresh_due
from sim.dram.state import DIRTY, PLAN_TICK, REFRESH_AT, raise_floors
from sim.kernels.compile import inlined, subroutine


@inlined
def _run(state, index, until):
    """Issue all commands of a channel up to and including a tick."""
    channel = state.channel
    while True:
        if channel[index, DIRTY]:
            plan(state, index)
        tick, refresh_at = channel[index, PLAN_TICK], channel[index, REFRESH_AT]
        if refresh_at <= tick:
            if refresh_at > until:
                break
            refresh_due(state, index, refresh_at)
        elif tick > until:
            break
        else:
            issue(state, index, tick)
        channel[index, DIRTY] = 1
    raise_floors(channel, index, until + 1)


@subroutine
def run_apart(state, index, until):
    _run(state, index, until)


@subroutine
def plan_apart(state, index):
    plan(state, index)
