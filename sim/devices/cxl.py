"""CXL memory: hosts, links flit by flit, a switch, expanders with their queues, and DRAM behind each controller.

A request is cut into lines of 64 B. A line's message (a read's request; a write with its data) waits at its link for a
place in a flit, crosses the link, a switch and another link if there is one, and the controller; its DRAM channel takes
it when it has room. The answer (the data read; a write's completion, once its channel took it) goes back likewise. A
flit leaves with what waits when the line is free (`sim.links.flits`): so that reads, writes and a mix of them differ.

A message takes a credit of its expander's request queue when it is put into a flit; the credit is back, after a link's
crossing, when the DRAM has taken it. A read goes to the DRAM only if the response queue has an entry left, which is
free again when its data are on the line. Behind a switch, each host has a port of its own (the request with ticket t is
of host t % hosts), and hosts share the expanders' links, first come, first served.

Parameters: `sim.links.expander.ExpanderParameters`, fields of the protocol, and `dram.NAME` of the DRAM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sim.devices import dram
from sim.errors import InputError
from sim.kernels.compile import inlined, subroutine
from sim.kernels.event_heap import EventHeap, make_heap, next_event_ns, push, take
from sim.links.expander import ExpanderParameters, expander_parameters
from sim.links.flits import DOWN, LINE_SLOTS, RULES, UP, flit_rules, pack
from sim.links.protocol import LINE_BYTES
from sim.policy import EventModel

if TYPE_CHECKING:
    from sim.profile import Device

_dram_submit, _dram_advance, _dram_next = map(subroutine, (dram.submit, dram.advance, dram.next_event))

_OWN_COUNTS = ("read_lines", "write_lines", "down_flits", "up_flits", "down_slots", "up_slots", "credit_waits")
COUNTS = (*_OWN_COUNTS, *dram.COUNTS)
_READ_LINES, _FLITS, _SLOTS, _CREDIT_WAITS = 0, 2, 4, 6
# columns of `request`
_TICKET, _LEFT, _NEXT_LINE, _UNSENT, _WRITES, _HOST, _NEXT_REQUEST = range(7)
# columns of `line`
_REQUEST, _CHANNEL, _NUMBER, _IS_WRITE, _STAGE, _SLOTS_LEFT, _NEXT = range(7)
# lists: head and tail, of lines (of a port: plain, loaded and data; of a channel: reads and writes) or of requests
_HEAD, _TAIL, _LENGTH = range(3)
# columns of `port`: a direction of a link
_PLAIN, _LOADED, _DATA, _DATA_LEFT, _TURN, _BUSY = 0, 3, 6, 9, 10, 11
# what may happen, and to what
_FLIT, _HOP, _ENTER, _ANSWER, _CREDIT, _KINDS = *range(5), 8
# `rule`
(
    _HOSTS,
    _SWITCH,
    _LINKS,
    _EXPANDERS,
    _CHANNELS,
    _SPAN,  # lines of an expander, then of a channel, before the next one's turn
    _CHANNEL_SPAN,
    _CHANNEL_LINES,
    _HOST_ENTRIES,
    _REQUEST_ENTRIES,
    _RESPONSE_ENTRIES,
) = range(11)
# `delay_ns`
_HOST_NS, _PORT_NS, _SWITCH_NS, _CONTROLLER_NS, _FLIT_NS = range(5)
# `shared`
_FREE_REQUEST, _FREE_LINE, _DONE, _WAITING = range(4)


class CxlState(NamedTuple):
    rule: np.ndarray  # int64[11]: how it is made
    packing: np.ndarray  # int64[11]: how messages are packed into flits
    delay_ns: np.ndarray  # float64: the parts' delays, then each link's time for a flit
    request: np.ndarray  # int64[requests, 7]
    line: np.ndarray  # int64[lines, 7]
    port: np.ndarray  # int64[2 x links, 12]: down and up of each link
    free_ns: np.ndarray  # float64[2 x links]: when a line is free
    queue: np.ndarray  # int64[2 x channels, 3]: lists of lines at the controllers, reads and writes of each channel
    waiting: np.ndarray  # int64[hosts, 4]: list of requests with lines to send, and entries left
    entries: np.ndarray  # int64[expanders, 2]: left of the request and of the response queue
    shared: np.ndarray  # int64[4]
    heap: EventHeap
    dram: dram.State
    done_ticket: np.ndarray
    done_ns: np.ndarray
    counts: np.ndarray


def init(parameters: ExpanderParameters) -> CxlState:
    """All at rest."""
    p = parameters
    lines, channels = p.hosts * p.host_entries, p.expanders * p.channels
    spans = (p.interleave_bytes // LINE_BYTES, p.channel_interleave_bytes // LINE_BYTES, p.channel_bytes // LINE_BYTES)
    made = (p.hosts, p.switch, p.links, p.expanders, p.channels, *spans)
    rule = np.array((*made, p.host_entries, p.request_entries, p.response_entries), np.int64)
    packing, flit_ns = np.zeros(RULES, np.int64), []
    if p.protocol is not None:
        packing = flit_rules(p.protocol)
        flit_ns = [p.protocol.flit_bytes / p.link_bytes_per_ns(link) for link in range(p.links)]
    request, line = np.zeros((p.requests, 7), np.int64), np.zeros((lines, 7), np.int64)
    request[:, _NEXT_REQUEST], line[:, _NEXT] = np.arange(1, p.requests + 1), np.arange(1, lines + 1)
    port = np.zeros((2 * p.links, 12), np.int64)
    port[:, [_PLAIN, _PLAIN + 1, _LOADED, _LOADED + 1, _DATA, _DATA + 1]] = -1
    waiting = np.full((p.hosts, 4), -1, np.int64)
    waiting[:, _LENGTH], waiting[:, 3] = 0, p.host_entries
    queue = np.full((2 * channels, 3), -1, np.int64)
    queue[:, _LENGTH] = 0
    counts = np.zeros(len(COUNTS), np.int64)
    return CxlState(
        rule=rule,
        packing=packing,
        delay_ns=np.array([p.host_ns, p.port_ns + p.retimers * p.retimer_ns, p.switch_ns, p.controller_ns, *flit_ns]),
        request=request,
        line=line,
        port=port,
        free_ns=np.zeros(2 * p.links),
        queue=queue,
        waiting=waiting,
        entries=np.tile(np.array((p.request_entries, p.response_entries), np.int64), (p.expanders, 1)),
        shared=np.zeros(4, np.int64),
        heap=make_heap(3 * lines + 4 * p.links + 8),
        dram=dram.init(p.dram)._replace(counts=counts[len(_OWN_COUNTS) :]),
        done_ticket=np.zeros(p.requests, np.int64),
        done_ns=np.zeros(p.requests),
        counts=counts,
    )


# --- hooks -----------------------------------------------------------------------------------------------------------


def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
    """Take in one request; False where too many are under way. An address beyond the capacity wraps around."""
    request, shared = state.request, state.shared
    place = shared[_FREE_REQUEST]
    if place >= request.shape[0]:
        return False
    shared[_FREE_REQUEST] = request[place, _NEXT_REQUEST]
    first, last = address // LINE_BYTES, (address + max(size_bytes, 1) - 1) // LINE_BYTES
    host = ticket % state.rule[_HOSTS]
    request[place, _TICKET], request[place, _NEXT_LINE], request[place, _WRITES] = ticket, first, is_write
    request[place, _LEFT] = request[place, _UNSENT] = last - first + 1
    request[place, _HOST] = host
    _append(state.waiting, host, 0, request, _NEXT_REQUEST, place)
    _send_lines(state, host, arrival_ns)
    return True


def advance(state, until_ns):
    """Simulate all that happens up to until_ns; how many completions there are in done_ticket and done_ns."""
    state.shared[_DONE] = 0
    while True:
        memory_ns, own_ns = _dram_next(state.dram), next_event_ns(state.heap)
        at_ns = min(memory_ns, own_ns)
        if at_ns > until_ns or at_ns == np.inf:
            return state.shared[_DONE]
        if memory_ns <= own_ns:
            _from_memory(state, at_ns)
            continue
        event = take(state.heap)
        kind, what = event % _KINDS, event // _KINDS
        if kind == _FLIT:
            _send_flit(state, what, at_ns)
        elif kind == _HOP:
            _arrive(state, what, at_ns)
        elif kind == _ENTER:
            _enter(state, what, at_ns)
        elif kind == _ANSWER:
            _finish(state, what, at_ns)
        else:
            state.entries[what, 0] += 1
            _wake(state, 2 * (state.rule[_LINKS] - state.rule[_EXPANDERS] + what), at_ns)


def next_event(state):
    """When something next happens, ns; infinity while no request is under way."""
    return min(_dram_next(state.dram), next_event_ns(state.heap))


# --- lists -----------------------------------------------------------------------------------------------------------


@inlined
def _append(lists, row, at, things, following, place):
    """Put a thing at the end of the list in columns `at` and after of a row."""
    things[place, following] = -1
    if lists[row, at + _LENGTH] > 0:
        things[lists[row, at + _TAIL], following] = place
    else:
        lists[row, at + _HEAD] = place
    lists[row, at + _TAIL] = place
    lists[row, at + _LENGTH] += 1


@inlined
def _take_first(lists, row, at, things, following):
    """Take the first thing of a list that is not empty."""
    place = lists[row, at + _HEAD]
    lists[row, at + _HEAD] = things[place, following]
    lists[row, at + _LENGTH] -= 1
    return place


# --- a host ----------------------------------------------------------------------------------------------------------


@subroutine
def _send_lines(state, host, now_ns):
    """Send lines of a host's requests, in order, while it has entries for them."""
    rule, request, line, waiting, shared = state.rule, state.request, state.line, state.waiting, state.shared
    while waiting[host, 3] > 0 and waiting[host, _LENGTH] > 0:
        asked = waiting[host, _HEAD]
        number = request[asked, _NEXT_LINE]
        request[asked, _NEXT_LINE] = number + 1
        request[asked, _UNSENT] -= 1
        if request[asked, _UNSENT] == 0:
            _take_first(waiting, host, 0, request, _NEXT_REQUEST)
        waiting[host, 3] -= 1
        place = shared[_FREE_LINE]
        shared[_FREE_LINE] = line[place, _NEXT]
        span, within = rule[_SPAN], rule[_CHANNEL_SPAN]
        expander = (number // span) % rule[_EXPANDERS]
        inner = number // (span * rule[_EXPANDERS]) * span + number % span
        channel = (inner // within) % rule[_CHANNELS]
        local = inner // (within * rule[_CHANNELS]) * within + inner % within
        line[place, _REQUEST], line[place, _IS_WRITE] = asked, request[asked, _WRITES]
        line[place, _CHANNEL] = expander * rule[_CHANNELS] + channel
        line[place, _NUMBER] = local % rule[_CHANNEL_LINES]
        state.counts[_READ_LINES + request[asked, _WRITES]] += 1
        if rule[_LINKS] == 0:
            push(state.heap, now_ns + state.delay_ns[_CONTROLLER_NS], place * _KINDS + _ENTER)
        elif rule[_SWITCH]:
            line[place, _STAGE] = 0
            _queue_up(state, 2 * host, place, now_ns)
        else:
            line[place, _STAGE] = 1
            _queue_up(state, 2 * expander, place, now_ns)


@subroutine
def _finish(state, place, now_ns):
    """A line's answer is at its host's core."""
    request, line, shared = state.request, state.line, state.shared
    asked = line[place, _REQUEST]
    line[place, _NEXT] = shared[_FREE_LINE]
    shared[_FREE_LINE] = place
    host = request[asked, _HOST]
    state.waiting[host, 3] += 1
    request[asked, _LEFT] -= 1
    if request[asked, _LEFT] == 0:
        done = shared[_DONE]
        state.done_ticket[done], state.done_ns[done] = request[asked, _TICKET], now_ns
        shared[_DONE] = done + 1
        request[asked, _NEXT_REQUEST] = shared[_FREE_REQUEST]
        shared[_FREE_REQUEST] = asked
    _send_lines(state, host, now_ns)


# --- links -----------------------------------------------------------------------------------------------------------


@inlined
def _queue_up(state, port, place, now_ns):
    """A line's message waits for a place in a flit of this port: odd ones go up."""
    has_data = (port & 1) != state.line[place, _IS_WRITE]  # data of reads go up, of writes down
    _append(state.port, port, _LOADED if has_data else _PLAIN, state.line, _NEXT, place)
    _wake(state, port, now_ns)


@inlined
def _wake(state, port, now_ns):
    """See to it that a flit is made when the line is free."""
    if state.port[port, _BUSY] == 0:
        state.port[port, _BUSY] = 1
        push(state.heap, max(now_ns, state.free_ns[port]), port * _KINDS + _FLIT)


@subroutine
def _send_flit(state, port, now_ns):
    """Fill a flit with what waits, and send it."""
    rule, ports, line, counts = state.rule, state.port, state.line, state.counts
    way, link = port & 1, port >> 1
    plain, loaded = ports[port, _PLAIN + _LENGTH], ports[port, _LOADED + _LENGTH]
    expander = link - (rule[_LINKS] - rule[_EXPANDERS])
    credited = way == 0 and expander >= 0
    if credited:
        room = state.entries[expander, 0]
        counts[_CREDIT_WAITS] += plain + loaded > room
        loaded = min(loaded, room)
        plain = min(plain, room - loaded if ports[port, _TURN] else room)
        loaded = min(loaded, room - plain)
    left = ports[port, _DATA_LEFT]
    if plain + loaded + left == 0:
        ports[port, _BUSY] = 0
        return
    taken, begun, sent, turn = pack(state.packing, UP if way else DOWN, plain, loaded, left, ports[port, _TURN])
    ports[port, _TURN] = turn
    end_ns = now_ns + state.delay_ns[_FLIT_NS + link]
    there_ns = end_ns + state.delay_ns[_PORT_NS]
    if rule[_SWITCH] and (way == 0) == (expander < 0):  # the switch is at the other end
        there_ns += state.delay_ns[_SWITCH_NS]
    for _ in range(taken):
        push(state.heap, there_ns, _take_first(ports, port, _PLAIN, line, _NEXT) * _KINDS + _HOP)
    for _ in range(begun):
        place = _take_first(ports, port, _LOADED, line, _NEXT)
        line[place, _SLOTS_LEFT] = state.packing[LINE_SLOTS]
        _append(ports, port, _DATA, line, _NEXT, place)
    ports[port, _DATA_LEFT] = left + begun * state.packing[LINE_SLOTS] - sent
    if credited:
        state.entries[expander, 0] -= taken + begun
    counts[_FLITS + way] += 1
    counts[_SLOTS + way] += sent
    while sent > 0:
        place = ports[port, _DATA + _HEAD]
        slots = min(sent, line[place, _SLOTS_LEFT])
        sent -= slots
        line[place, _SLOTS_LEFT] -= slots
        if line[place, _SLOTS_LEFT] == 0:
            _take_first(ports, port, _DATA, line, _NEXT)
            push(state.heap, there_ns, place * _KINDS + _HOP)
            if way == 1 and expander >= 0:
                state.entries[expander, 1] += 1
                _feed(state, expander, now_ns)
    state.free_ns[port] = end_ns
    push(state.heap, end_ns, port * _KINDS + _FLIT)


@subroutine
def _arrive(state, place, now_ns):
    """A message has crossed a link."""
    rule, line, delay = state.rule, state.line, state.delay_ns
    stage = line[place, _STAGE]
    expander = line[place, _CHANNEL] // rule[_CHANNELS]
    if stage == 0:  # down, at the switch
        line[place, _STAGE] = 1
        _queue_up(state, 2 * (rule[_HOSTS] + expander), place, now_ns)
    elif stage == 1:  # down, at the expander
        push(state.heap, now_ns + delay[_CONTROLLER_NS], place * _KINDS + _ENTER)
    elif stage == 2 and rule[_SWITCH]:  # up, at the switch
        line[place, _STAGE] = 3
        _queue_up(state, 2 * state.request[line[place, _REQUEST], _HOST] + 1, place, now_ns)
    else:
        push(state.heap, now_ns + delay[_HOST_NS], place * _KINDS + _ANSWER)


# --- an expander -----------------------------------------------------------------------------------------------------


@inlined
def _enter(state, place, now_ns):
    """A message has passed the controller: its line waits for its DRAM channel."""
    line = state.line
    queue = 2 * line[place, _CHANNEL] + line[place, _IS_WRITE]
    _append(state.queue, queue, 0, line, _NEXT, place)
    state.shared[_WAITING] += 1
    _drain(state, queue, now_ns)


@subroutine
def _drain(state, queue, now_ns):
    """Give a channel what waits for it, reads or writes, in order, as far as there is room."""
    rule, line, lists, entries = state.rule, state.line, state.queue, state.entries
    channel, is_write = queue >> 1, queue & 1
    expander = channel // rule[_CHANNELS]
    channels = rule[_CHANNELS] * rule[_EXPANDERS]
    while lists[queue, _LENGTH] > 0:
        place = lists[queue, _HEAD]
        if not is_write and entries[expander, 1] == 0:
            break
        address = (line[place, _NUMBER] * channels + channel) * LINE_BYTES
        ticket = -1 if is_write else place
        if not _dram_submit(state.dram, ticket, now_ns, address, LINE_BYTES, is_write == 1):
            break
        _take_first(lists, queue, 0, line, _NEXT)
        state.shared[_WAITING] -= 1
        if rule[_LINKS] > 0:
            push(state.heap, now_ns + state.delay_ns[_PORT_NS], expander * _KINDS + _CREDIT)
        if is_write:
            _answer(state, place, expander, now_ns)
        else:
            entries[expander, 1] -= 1


@inlined
def _answer(state, place, expander, now_ns):
    """Send a line's answer on its way up."""
    rule = state.rule
    if rule[_LINKS] == 0:
        if state.line[place, _IS_WRITE] == 0:
            state.entries[expander, 1] += 1
        push(state.heap, now_ns + state.delay_ns[_HOST_NS], place * _KINDS + _ANSWER)
        return
    state.line[place, _STAGE] = 2
    _queue_up(state, 2 * (rule[_LINKS] - rule[_EXPANDERS] + expander) + 1, place, now_ns)


@inlined
def _feed(state, expander, now_ns):
    """The response queue has room again: for reads that wait at the controller."""
    channels = state.rule[_CHANNELS]
    if state.shared[_WAITING] > 0:
        for channel in range(expander * channels, (expander + 1) * channels):
            if state.queue[2 * channel, _LENGTH] > 0:
                _drain(state, 2 * channel, now_ns)


@subroutine
def _from_memory(state, now_ns):
    """The DRAM goes on: what it has read goes up, and it takes what waited for room."""
    done = _dram_advance(state.dram, now_ns)
    for i in range(done):
        place = state.dram.done_ticket[i]
        if place >= 0:
            _answer(state, place, state.line[place, _CHANNEL] // state.rule[_CHANNELS], now_ns)
    if state.shared[_WAITING] > 0:
        for queue in range(state.queue.shape[0]):
            if state.queue[queue, _LENGTH] > 0:
                _drain(state, queue, now_ns)


# --- what it took ----------------------------------------------------------------------------------------------------


def energy_pj(parameters: ExpanderParameters, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    """Picojoules of the DRAM by cause, and of the controllers and links being on."""
    memory = dram.energy_pj(parameters.dram, counts[len(_OWN_COUNTS) :], elapsed_ns)
    return {**memory, "static": elapsed_ns * parameters.static_w * 1000}


def of_device(device: Device, changes: Mapping[str, Any]) -> ExpanderParameters:
    """The parameters of a device file, with `changes` over them. Raises InputError."""
    if device.is_link:
        raise InputError(f"device {device.name!r} is no memory, but", value=device.kind, expected="kind cxl")
    return expander_parameters({"channels": device.channels, **device.parameters, **changes})


MODEL = EventModel(
    name="cxl",
    init=init,
    submit=submit,
    advance=advance,
    next_event=next_event,
    of_device=of_device,
    energy_pj=energy_pj,
    count_names=COUNTS,
)
