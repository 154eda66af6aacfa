"""A device model that times one access after the other (`serve`) as one that is simulated by events (`advance`).

So `probe` drives any device alone. Requests are served first come, first served, in the order in which they are handed
over; a link is two servers, one a direction: reads come up, writes go down. What is done waits in a heap until
`advance` reaches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sim.errors import InputError
from sim.kernels.event_heap import EventHeap, make_heap, next_event_ns, push, take
from sim.policy import DeviceModel, EventModel

if TYPE_CHECKING:
    from sim.profile import Device

_LINK_WINDOW_BYTES = 1 << 30  # a link has no capacity: as many addresses as this are asked for
_PAGE_BYTES, _LINE_BYTES = 4096, 64
_PS_PER_NS = 1000
COUNTS = ("read_bytes", "written_bytes", "busy_ps")
READ_BYTES, WRITTEN_BYTES, BUSY_PS = range(3)
# columns of `request`
TICKET, BYTES, IS_WRITE, HELD_PS, NEXT_FREE = range(5)
FREE = 0  # place of `shared`


@dataclass(frozen=True)
class Served:
    """A device, or the two directions of a link, with its model; in_flight: how many requests it takes in at most."""

    model: DeviceModel
    parts: tuple[Device, ...]
    capacity_bytes: int
    transaction_bytes: int
    in_flight: int = 1 << 16
    clock_ns: float = 0.0  # requests come at any time


class State(NamedTuple):
    model: DeviceModel
    served: Any  # the model's own state
    rows: int
    heap: EventHeap  # of requests by when they are done
    request: np.ndarray  # int64[in_flight, 5]
    shared: np.ndarray  # int64[1]
    done_ticket: np.ndarray  # int64[in_flight]
    done_ns: np.ndarray  # float64[in_flight]
    counts: np.ndarray  # int64[3], of requests that are done; busy: averaged over channels (and directions of a link)


def init(parameters: Served) -> State:
    places = parameters.in_flight
    request = np.zeros((places, 5), np.int64)
    request[:, NEXT_FREE] = np.arange(1, places + 1)
    return State(
        model=parameters.model,
        served=parameters.model.init(parameters.parts),
        rows=len(parameters.parts),
        heap=make_heap(places),
        request=request,
        shared=np.zeros(1, np.int64),
        done_ticket=np.zeros(places, np.int64),
        done_ns=np.zeros(places),
        counts=np.zeros(len(COUNTS), np.int64),
    )


def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
    request, shared = state.request, state.shared
    place = shared[FREE]
    if place >= request.shape[0]:
        return False
    shared[FREE] = request[place, NEXT_FREE]
    row = state.rows - 1 if is_write else 0
    before_ns = state.served.busy_ns[row]
    _, _, end_ns, _ = state.model.serve(state.served, row, arrival_ns, size_bytes, is_write)
    held_ns = (state.served.busy_ns[row] - before_ns) / state.rows
    request[place, TICKET], request[place, BYTES], request[place, IS_WRITE] = ticket, size_bytes, is_write
    request[place, HELD_PS] = np.int64(held_ns * _PS_PER_NS + 0.5)
    push(state.heap, end_ns, place)
    return True


def advance(state, until_ns):
    request, shared, counts = state.request, state.shared, state.counts
    done = 0
    while True:
        at_ns = next_event_ns(state.heap)
        if at_ns > until_ns or at_ns == np.inf:
            return done
        place = take(state.heap)
        state.done_ticket[done], state.done_ns[done] = request[place, TICKET], at_ns
        done += 1
        counts[WRITTEN_BYTES if request[place, IS_WRITE] else READ_BYTES] += request[place, BYTES]
        counts[BUSY_PS] += request[place, HELD_PS]
        request[place, NEXT_FREE] = shared[FREE]
        shared[FREE] = place


def next_event(state):
    return next_event_ns(state.heap)


def _nothing(parameters: Served, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    """The model tells no energy; the device's file does."""
    return {}


@cache
def by_events(model: DeviceModel) -> EventModel:
    """This model as one that is simulated by events."""

    def of_device(device: Device, changes: Mapping[str, Any]) -> Served:
        return served(model, device, changes)

    return EventModel(
        name=model.name,
        init=init,
        submit=submit,
        advance=advance,
        next_event=next_event,
        of_device=of_device,
        energy_pj=_nothing,
        count_names=COUNTS,
        doc=model.doc,
    )


def served(model: DeviceModel, device: Device, changes: Mapping[str, Any]) -> Served:
    """A device as its file has it. Raises InputError for a change of anything but `in_flight`."""
    for name in changes:
        if name != "in_flight":
            problem = f"model {model.name!r} of device {device.name!r} has no parameter"
            raise InputError(problem, value=name, candidates=("in_flight",))
    in_flight = changes.get("in_flight", Served.in_flight)
    if isinstance(in_flight, bool) or not isinstance(in_flight, int) or not 1 <= in_flight <= 1 << 24:
        raise InputError("in_flight is", value=in_flight, expected="a whole number from 1 to 2^24")
    parts = (device, device) if device.is_link else (device,)
    capacity = _LINK_WINDOW_BYTES if device.capacity_bytes is None else device.capacity_bytes
    return Served(model, parts, capacity, min(transaction_bytes(device), capacity), in_flight)


def transaction_bytes(device: Device) -> int:
    """What a device is asked for at least: a page of a drive, a line of a memory or link."""
    return _PAGE_BYTES if device.kind in ("ssd", "csd") else _LINE_BYTES
