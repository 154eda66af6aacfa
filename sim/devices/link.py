"""A link: PCI Express, NVLink, NVLink-C2C, CXL, UCIe or a bus between dies, by the arithmetic of its packets.

Each direction is a line of its own (half duplex: one line). The transfers that are under way in one share it packet by
packet in turn, so that a small one is not held up by a large one that came before. A transfer first waits for the
software that starts it, and for its request to get across if its data are asked for; what remains of the latency comes
after its last byte. Requests, responses, acknowledgements and credits take room in the other direction.

Packets are not events. Between two changes of who is under way, each gets the same bytes per ns (processor sharing),
kept as one clock for a direction that counts what every transfer has got: a transfer ends when that clock has gone on
by its bytes on the line. This differs from packets in turn by less than one packet of each transfer under way. A window
of credits makes a direction slower throughout, not in bursts, which differs by less than one window.

Parameters: `sim.links.parameters.LinkParameters`, and any field of `sim.links.protocol.LinkProtocol`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sim.errors import InputError
from sim.kernels.compile import inlined, subroutine
from sim.kernels.event_heap import EventHeap, make_heap, next_event_ns, push, take
from sim.links.parameters import DOWN_WAY, UP_WAY, LinkParameters, link_parameters, packets_of, share_rates
from sim.policy import EventModel

if TYPE_CHECKING:
    from sim.profile import Device

COUNTS = ("reads", "writes", "up_bytes", "down_bytes", "up_line_bytes", "down_line_bytes")
_READS, _UP_BYTES, _UP_LINE = 0, 2, 4
# columns of `way`: the arithmetic of a direction's packets
_QUANTUM, _PAYLOAD, _HEADER, _SHARE, _OPPOSITE, _BEFORE, _AFTER = range(7)
# columns of `row`
_TICKET, _WAY, _SIZE, _NEXT = range(4)
# `whole`
_FREE, _SHARING, _ACTIVE = 0, 1, 2  # _SHARING: 1 where both directions have one line; _ACTIVE: two counts
_STARTS, _ENDS = 0, 1  # what may happen to a transfer: it joins the line, its last byte is there


class LinkState(NamedTuple):
    row: np.ndarray  # int64[transfers, 4]
    line_bytes: np.ndarray  # float64[transfers]: that a transfer takes
    way: np.ndarray  # float64[2, 7]
    rate: np.ndarray  # float64[4, 2]: bytes on the line per ns, by who is active
    served: np.ndarray  # float64[2]: bytes that each transfer under way has got since its line was last idle
    changed_ns: np.ndarray  # float64[1]: when that was so
    whole: np.ndarray  # int64[4]
    timed: EventHeap
    up: EventHeap  # by `served`: where each transfer under way ends
    down: EventHeap
    done_ticket: np.ndarray
    done_ns: np.ndarray
    counts: np.ndarray  # int64[6]


def init(parameters: LinkParameters) -> LinkState:
    """An idle link."""
    p, rows = parameters, parameters.transfers
    way = np.zeros((2, 7))
    for one in (UP_WAY, DOWN_WAY):
        packets, latency = packets_of(p, one), p.latency_ns(one)
        request_ns = latency / 2 if p.is_asked_for(one) else 0.0
        sizes = (packets.quantum_bytes, packets.payload_bytes, packets.header_bytes, packets.flit_share)
        way[one] = (*sizes, packets.opposite, p.copy_overhead_ns + request_ns, latency - request_ns)
    row = np.zeros((rows, 4), np.int64)
    row[:, _NEXT] = np.arange(1, rows + 1)
    return LinkState(
        row=row,
        line_bytes=np.zeros(rows),
        way=way,
        rate=np.array(share_rates(p)),
        served=np.zeros(2),
        changed_ns=np.zeros(1),
        whole=np.array((0, p.protocol.half_duplex, 0, 0), np.int64),
        timed=make_heap(rows + 1),
        up=make_heap(rows + 1),
        down=make_heap(rows + 1),
        done_ticket=np.zeros(rows, np.int64),
        done_ns=np.zeros(rows),
        counts=np.zeros(len(COUNTS), np.int64),
    )


def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
    """Take in one transfer; False where too many are under way. The address does not matter to a link."""
    row, whole = state.row, state.whole
    place = whole[_FREE]
    if place >= row.shape[0]:
        return False
    whole[_FREE] = row[place, _NEXT]
    one = 1 if is_write else 0
    row[place, _TICKET], row[place, _WAY], row[place, _SIZE] = ticket, one, size_bytes
    way = state.way
    quanta = np.ceil(size_bytes / way[one, _QUANTUM]) * way[one, _QUANTUM]
    headers = np.ceil(size_bytes / way[one, _PAYLOAD]) * way[one, _HEADER]
    state.line_bytes[place] = (quanta + headers) * way[one, _SHARE]
    push(state.timed, arrival_ns + way[one, _BEFORE], 2 * place + _STARTS)
    return True


def advance(state, until_ns):
    """Simulate all that happens up to until_ns; how many completions there are in done_ticket and done_ns."""
    done = 0
    while True:
        up_ns, down_ns = _end_ns(state, state.up, 0), _end_ns(state, state.down, 1)
        timed_ns = next_event_ns(state.timed)
        at_ns = min(min(up_ns, down_ns), timed_ns)
        if at_ns > until_ns or at_ns == np.inf:
            return done
        if up_ns == at_ns:
            _leave(state, state.up, 0, at_ns)
        elif down_ns == at_ns:
            _leave(state, state.down, 1, at_ns)
        else:
            event = take(state.timed)
            place = event >> 1
            if event & 1 == _STARTS:
                _join(state, place, at_ns)
            else:
                state.done_ticket[done], state.done_ns[done] = state.row[place, _TICKET], at_ns
                done += 1
                state.row[place, _NEXT] = state.whole[_FREE]
                state.whole[_FREE] = place


def next_event(state):
    """When something next happens, ns; infinity while no transfer is under way."""
    ends_ns = min(_end_ns(state, state.up, 0), _end_ns(state, state.down, 1))
    return min(ends_ns, next_event_ns(state.timed))


@inlined
def _active(whole):
    """Which directions have transfers: 1 up, 2 down, 3 both."""
    return (whole[_ACTIVE] > 0) + 2 * (whole[_ACTIVE + 1] > 0)


@subroutine
def _end_ns(state, heap, line):
    """When the first of a line's transfers has got all its bytes; infinity where it has none."""
    count = state.whole[_ACTIVE + line]
    if count == 0:
        return np.inf
    left = next_event_ns(heap) - state.served[line]
    return state.changed_ns[0] + max(left, 0.0) * count / state.rate[_active(state.whole), line]


@inlined
def _serve(state, at_ns):
    """Give both lines' transfers what they have got until now."""
    whole, active = state.whole, _active(state.whole)
    for line in range(2):
        if whole[_ACTIVE + line] > 0:
            got = (at_ns - state.changed_ns[0]) * state.rate[active, line]
            state.served[line] += got / whole[_ACTIVE + line]
    state.changed_ns[0] = at_ns


@subroutine
def _join(state, place, at_ns):
    """A transfer begins to share its line."""
    _serve(state, at_ns)
    way = state.row[place, _WAY]
    line = 0 if state.whole[_SHARING] else way
    if line == 0:
        push(state.up, state.served[line] + state.line_bytes[place], place)
    else:
        push(state.down, state.served[line] + state.line_bytes[place], place)
    state.whole[_ACTIVE + line] += 1


@subroutine
def _leave(state, heap, line, at_ns):
    """The transfer of a line that has got all its bytes leaves it."""
    whole, counts = state.whole, state.counts
    end = next_event_ns(heap)
    place = take(heap)
    _serve(state, at_ns)
    state.served[line] = end  # what dividing and multiplying lost
    whole[_ACTIVE + line] -= 1
    if whole[_ACTIVE + line] == 0:
        state.served[line] = 0.0
    way = state.row[place, _WAY]
    push(state.timed, at_ns + state.way[way, _AFTER], 2 * place + _ENDS)
    own = state.line_bytes[place]
    counts[_READS + way] += 1
    counts[_UP_BYTES + way] += state.row[place, _SIZE]
    counts[_UP_LINE + way] += np.int64(np.rint(own))
    counts[_UP_LINE + 1 - way] += np.int64(np.rint(own * state.way[way, _OPPOSITE]))


def energy_pj(parameters: LinkParameters, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    """Picojoules of the data that were carried, and of the link being on."""
    bits = 8 * float(counts[_UP_BYTES] + counts[_UP_BYTES + 1])
    return {"transfer": bits * parameters.transfer_pj_per_bit, "static": elapsed_ns * parameters.static_w * 1000}


def of_device(device: Device, changes: Mapping[str, Any]) -> LinkParameters:
    """The parameters of a device file, with `changes` over them: latencies and energy are the file's own.

    Raises InputError.
    """
    if not device.is_link:
        raise InputError(f"device {device.name!r} is no link, but", value=device.kind, expected="a kind of link")
    own = {
        "up_latency_ns": device.read.latency_ns,
        "down_latency_ns": device.write.latency_ns,
        "transfer_pj_per_bit": device.read_pj_per_bit,
        "static_w": device.static_w,
    }
    return link_parameters({**own, **device.parameters, **changes})


def _side_by_side(p: LinkParameters, count: int) -> LinkParameters:
    return p.model_copy(update={"links": p.links * count, "static_w": p.static_w * count})


MODEL = EventModel(
    name="link",
    init=init,
    submit=submit,
    advance=advance,
    next_event=next_event,
    of_device=of_device,
    energy_pj=energy_pj,
    count_names=COUNTS,
    chunk_bytes=1 << 62,  # it shares itself among transfers, each of which pays once for being started
    times=_side_by_side,
)
