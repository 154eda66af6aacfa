"""A disk with one arm: of what waits, the request nearest to the arm is served next (SSTF, Denning 1967).

An example of a device model from outside of memhier: everything that it needs is in `sim`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import sim

TICKET, ADDRESS, BYTES, WRITES = range(4)  # columns of `waiting`
COUNT, SERVED, ARM = range(3)  # places of `shared`
NONE = -1
COUNTS = ("requests", "moved_bytes")


@dataclass(frozen=True)
class Disk:
    capacity_bytes: int
    settle_ns: float = 1e6
    seek_ns_per_gib: float = 1e4
    bytes_per_ns: float = 0.25
    queue: int = 32
    transaction_bytes: int = 4096
    clock_ns: float = 0.0  # requests come at any time


class State(NamedTuple):
    waiting: np.ndarray  # int64[queue, 4]
    shared: np.ndarray  # int64[3]: how many wait, the ticket that is served, where the arm is
    end_ns: np.ndarray  # float64[1]: when what is served is done; infinite where nothing is
    settle_ns: float
    seek_ns_per_byte: float
    bytes_per_ns: float
    done_ticket: np.ndarray
    done_ns: np.ndarray
    counts: np.ndarray


def init(disk):
    return State(
        waiting=np.zeros((disk.queue, 4), np.int64),
        shared=np.array([0, NONE, 0]),
        end_ns=np.array([np.inf]),
        settle_ns=disk.settle_ns,
        seek_ns_per_byte=disk.seek_ns_per_gib / 2**30,
        bytes_per_ns=disk.bytes_per_ns,
        done_ticket=np.zeros(disk.queue + 1, np.int64),
        done_ns=np.zeros(disk.queue + 1),
        counts=np.zeros(2, np.int64),
    )


def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
    waiting, count = state.waiting, state.shared[COUNT]
    if count == waiting.shape[0]:
        return False
    waiting[count, TICKET], waiting[count, ADDRESS] = ticket, address
    waiting[count, BYTES], waiting[count, WRITES] = size_bytes, is_write
    state.shared[COUNT] = count + 1
    if state.shared[SERVED] == NONE:
        serve_nearest(state, arrival_ns)
    return True


@sim.subroutine
def serve_nearest(state, now_ns):
    waiting, shared = state.waiting, state.shared
    best = 0
    for i in range(1, shared[COUNT]):
        if abs(waiting[i, ADDRESS] - shared[ARM]) < abs(waiting[best, ADDRESS] - shared[ARM]):
            best = i
    way, size = abs(waiting[best, ADDRESS] - shared[ARM]), waiting[best, BYTES]
    state.end_ns[0] = now_ns + state.settle_ns + way * state.seek_ns_per_byte + size / state.bytes_per_ns
    shared[SERVED], shared[ARM] = waiting[best, TICKET], waiting[best, ADDRESS] + size
    state.counts[0] += 1
    state.counts[1] += size
    last = shared[COUNT] - 1
    for column in range(4):
        waiting[best, column] = waiting[last, column]
    shared[COUNT] = last


def advance(state, until_ns):
    done = 0
    while state.end_ns[0] <= until_ns and state.shared[SERVED] != NONE:
        at_ns = state.end_ns[0]
        state.done_ticket[done], state.done_ns[done] = state.shared[SERVED], at_ns
        done += 1
        state.shared[SERVED], state.end_ns[0] = NONE, np.inf
        if state.shared[COUNT] > 0:
            serve_nearest(state, at_ns)
    return done


def next_event(state):
    return state.end_ns[0]


def of_device(device, changes):
    given = {**device.parameters, **changes}
    for name in given:
        if name not in Disk.__dataclass_fields__:
            raise sim.InputError("unknown parameter of a disk", value=name, candidates=Disk.__dataclass_fields__)
    return Disk(device.capacity_bytes, **given)


def energy_pj(disk, counts, elapsed_ns):
    """Nothing: `probe` then takes what the device's file says, pJ/bit and watts."""
    return {}


MODEL = sim.EventModel(
    name="nearest_first",
    init=init,
    submit=submit,
    advance=advance,
    next_event=next_event,
    of_device=of_device,
    energy_pj=energy_pj,
    count_names=COUNTS,
)
