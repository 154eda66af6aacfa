"""A DRAM device with its controllers, from command to command: DDR, LPDDR, GDDR and HBM by one set of rules.

Each channel has a controller with a read and a write queue of transactions. What may be issued, oldest first among what
the timing rules allow at the same tick (FR-FCFS, Rixner et al., ISCA 2000): the column access of a request for which a
row was opened; refreshing, for which everything else waits, or one bank (`sim.dram.refreshing`); then accesses,
activations and precharges for the queue at hand, reads or writes. Writes wait until they are many or no read is left,
and are then drained (two watermarks). A write is done when it is issued, a read when its last data is there, both later
by the latency of a path between the requester and the controller, where there is one; a read of what is waiting to be
written is answered from the queue, and a second write to the same place is taken into the first.

Time is kept in ticks (cycles, or half cycles where there are commands of half a cycle), and jumps from one command to
the next. A request is seen from the tick after its arrival on. Calls come in order of time, `advance` up to a request's
arrival before its `submit`; how often `advance` is called between changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.dram.arriving import enqueue, feed
from sim.dram.completing import rekey, release, sort_done, winner
from sim.dram.running import plan_apart, run_apart
from sim.dram.state import (
    ACTIVATES,
    BANK_REFRESHES,
    CHANNELS,
    COUNTS,
    DIRTY,
    DONE_HEAD,
    DONE_NEXT,
    DONE_TICK,
    FREE_SLOT,
    FRONT_ADDRESS,
    FRONT_END,
    FRONT_SLOT,
    FRONT_WRITE,
    LEFT,
    NEVER,
    READS,
    REFRESHES,
    TICK_NOW,
    TICKET,
    TRANSACTION,
    WRITES,
    State,
    init,
    tick_of,
)
from sim.dram.timing import ORGANISATION, DramParameters, dram_parameters, timing_sets
from sim.errors import InputError
from sim.policy import EventModel

if TYPE_CHECKING:
    from sim.profile import Device

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
    tick = tick_of(arrival_ns, state.tick_ns)
    transaction = state.rule[TRANSACTION]
    first = address // transaction
    last = (address + max(size_bytes, 1) - 1) // transaction
    place = shared[FREE_SLOT]
    following = slot[place, DONE_NEXT]
    slot[place, TICKET], slot[place, LEFT], slot[place, DONE_TICK] = ticket, last - first + 1, 0
    if not enqueue(state, tick, first, place, is_write):
        return False
    shared[FREE_SLOT] = following
    first += 1
    while first <= last and enqueue(state, tick, first, place, is_write):
        first += 1
    if first <= last:
        front = state.front
        front[FRONT_SLOT], front[FRONT_ADDRESS], front[FRONT_END], front[FRONT_WRITE] = place, first, last, is_write
    return True


def advance(state, until_ns):
    """Simulate all that happens up to until_ns; how many completions there are in done_ticket and done_ns."""
    limit = tick_of(until_ns, state.tick_ns)
    state.shared[TICK_NOW] = limit
    channel, tree = state.channel, state.tree
    done = 0
    while tree[1] <= limit:
        index = winner(tree)
        # A request that waits in front of the queues ties the channels together: one tick of one channel at a time.
        stop = limit if state.front[FRONT_SLOT] < 0 else tree[1]
        run_apart(state, index, stop)
        if state.front[FRONT_SLOT] >= 0:
            feed(state, stop)
        head = channel[index, DONE_HEAD]
        while head >= 0 and state.slot[head, DONE_TICK] <= stop:
            state.done_ticket[done] = state.slot[head, TICKET]
            state.done_ns[done] = state.slot[head, DONE_TICK] * state.tick_ns
            done += 1
            following = state.slot[head, DONE_NEXT]
            release(state, index, head, following)
            head = following
        rekey(state, index)
    if done > 1:
        sort_done(state.done_ns, state.done_ticket, done)
    return done


def next_event(state):
    """When something next happens, ns; infinity while no request is under way (refreshing goes on all the same)."""
    tree, channel = state.tree, state.channel
    while True:
        tick = tree[1]
        if tick >= NEVER:
            return np.inf
        index = winner(tree)
        if not channel[index, DIRTY]:
            return tick * state.tick_ns
        plan_apart(state, index)
        rekey(state, index)


# --- what it took ----------------------------------------------------------------------------------------------------


def energy_pj(parameters: DramParameters, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    """Picojoules by cause, of the commands counted in that time; bank by bank, all refreshing takes the same."""
    e = parameters.energy
    share = parameters.bank_interval / parameters.nREFI
    return {
        "activate": counts[ACTIVATES] * e.activate_pj,
        "read": counts[READS] * e.read_pj,
        "write": counts[WRITES] * e.write_pj,
        "refresh": (counts[REFRESHES] + counts[BANK_REFRESHES] * share) * e.refresh_pj,
        "background": elapsed_ns * e.background_w * 1000 * parameters.channels,
    }


def settle(state: State, until_ns: float) -> None:
    """Bring the refreshing of idle channels up to this time, too, for who wants to count it."""
    for index in range(state.rule[CHANNELS]):
        if state.tree[index + state.tree.size // 2] >= NEVER:
            run_apart(state, index, tick_of(until_ns, state.tick_ns))


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
