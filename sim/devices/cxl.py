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
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.devices import dram
from sim.errors import InputError
from sim.kernels.compile import inlined, specialised, subroutine
from sim.kernels.event_heap import next_event_ns, push, take
from sim.links.cxl_state import (
    ANSWER,
    BUSY,
    CHANNEL,
    CHANNEL_LINES,
    CHANNEL_SPAN,
    CHANNELS,
    CONTROLLER_NS,
    COUNTS,
    CREDIT,
    CREDIT_WAITS,
    DATA,
    DATA_LEFT,
    DONE,
    ENTER,
    ENTRIES_LEFT,
    EXPANDERS,
    FLIT,
    FLIT_NS,
    FLITS,
    FREE_LINE,
    FREE_REQUEST,
    HEAD,
    HOP,
    HOST,
    HOST_NS,
    HOSTS,
    IS_WRITE,
    KINDS,
    LEFT,
    LENGTH,
    LINKS,
    LOADED,
    NEXT,
    NEXT_LINE,
    NEXT_REQUEST,
    NUMBER,
    OWN_COUNTS,
    PLAIN,
    PORT_NS,
    READ_LINES,
    REQUEST,
    SLOTS,
    SLOTS_LEFT,
    SPAN,
    STAGE,
    SWITCH,
    SWITCH_NS,
    TICKET,
    TURN,
    UNSENT,
    WAITING,
    WRITES,
    CxlState,
    append_to,
    make_state,
    take_first,
)
from sim.links.expander import ExpanderParameters, expander_parameters
from sim.links.flits import DOWN, LINE_SLOTS, UP, pack
from sim.links.protocol import LINE_BYTES
from sim.policy import EventModel

if TYPE_CHECKING:
    from sim.profile import Device

_dram_submit, _dram_advance, _dram_next = map(subroutine, (dram.submit, dram.advance, dram.next_event))

# --- hooks -----------------------------------------------------------------------------------------------------------


def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
    """Take in one request; False where too many are under way. An address beyond the capacity wraps around."""
    request, shared = state.request, state.shared
    place = shared[FREE_REQUEST]
    if place >= request.shape[0]:
        return False
    shared[FREE_REQUEST] = request[place, NEXT_REQUEST]
    first, last = address // LINE_BYTES, (address + max(size_bytes, 1) - 1) // LINE_BYTES
    host = ticket % state.rule[HOSTS]
    request[place, TICKET], request[place, NEXT_LINE], request[place, WRITES] = ticket, first, is_write
    request[place, LEFT] = request[place, UNSENT] = last - first + 1
    request[place, HOST] = host
    append_to(state.waiting, host, 0, request, NEXT_REQUEST, place)
    _send_lines(state, host, arrival_ns)
    return True


def advance(state, until_ns):
    """Simulate all that happens up to until_ns; how many completions there are in done_ticket and done_ns."""
    state.shared[DONE] = 0
    while True:
        memory_ns, own_ns = _dram_next(state.dram), next_event_ns(state.heap)
        at_ns = min(memory_ns, own_ns)
        if at_ns > until_ns or at_ns == np.inf:
            return state.shared[DONE]
        if memory_ns <= own_ns:
            _from_memory(state, at_ns)
            continue
        event = take(state.heap)
        kind, what = event % KINDS, event // KINDS
        if kind == FLIT:
            _send_flit(state, what, at_ns)
        elif kind == HOP:
            _arrive(state, what, at_ns)
        elif kind == ENTER:
            _enter(state, what, at_ns)
        elif kind == ANSWER:
            _finish(state, what, at_ns)
        else:
            state.entries[what, 0] += 1
            _wake(state, 2 * (state.rule[LINKS] - state.rule[EXPANDERS] + what), at_ns)


def next_event(state):
    """When something next happens, ns; infinity while no request is under way."""
    return min(_dram_next(state.dram), next_event_ns(state.heap))


# --- a host ----------------------------------------------------------------------------------------------------------


@subroutine
def _send_lines(state, host, now_ns):
    """Send lines of a host's requests, in order, while it has entries for them."""
    rule, request, line, waiting, shared = state.rule, state.request, state.line, state.waiting, state.shared
    while waiting[host, ENTRIES_LEFT] > 0 and waiting[host, LENGTH] > 0:
        asked = waiting[host, HEAD]
        number = request[asked, NEXT_LINE]
        request[asked, NEXT_LINE] = number + 1
        request[asked, UNSENT] -= 1
        if request[asked, UNSENT] == 0:
            take_first(waiting, host, 0, request, NEXT_REQUEST)
        waiting[host, ENTRIES_LEFT] -= 1
        place = shared[FREE_LINE]
        shared[FREE_LINE] = line[place, NEXT]
        span, within = rule[SPAN], rule[CHANNEL_SPAN]
        expander = (number // span) % rule[EXPANDERS]
        inner = number // (span * rule[EXPANDERS]) * span + number % span
        channel = (inner // within) % rule[CHANNELS]
        local = inner // (within * rule[CHANNELS]) * within + inner % within
        line[place, REQUEST], line[place, IS_WRITE] = asked, request[asked, WRITES]
        line[place, CHANNEL] = expander * rule[CHANNELS] + channel
        line[place, NUMBER] = local % rule[CHANNEL_LINES]
        state.counts[READ_LINES + request[asked, WRITES]] += 1
        if rule[LINKS] == 0:
            push(state.heap, now_ns + state.delay_ns[CONTROLLER_NS], place * KINDS + ENTER)
        elif rule[SWITCH]:
            line[place, STAGE] = 0
            _queue_up(state, 2 * host, place, now_ns)
        else:
            line[place, STAGE] = 1
            _queue_up(state, 2 * expander, place, now_ns)


@subroutine
def _finish(state, place, now_ns):
    """A line's answer is at its host's core."""
    request, line, shared = state.request, state.line, state.shared
    asked = line[place, REQUEST]
    line[place, NEXT] = shared[FREE_LINE]
    shared[FREE_LINE] = place
    host = request[asked, HOST]
    state.waiting[host, ENTRIES_LEFT] += 1
    request[asked, LEFT] -= 1
    if request[asked, LEFT] == 0:
        done = shared[DONE]
        state.done_ticket[done], state.done_ns[done] = request[asked, TICKET], now_ns
        shared[DONE] = done + 1
        request[asked, NEXT_REQUEST] = shared[FREE_REQUEST]
        shared[FREE_REQUEST] = asked
    _send_lines(state, host, now_ns)


# --- links -----------------------------------------------------------------------------------------------------------


@inlined
def _queue_up(state, port, place, now_ns):
    """A line's message waits for a place in a flit of this port: odd ones go up."""
    has_data = (port & 1) != state.line[place, IS_WRITE]  # data of reads go up, of writes down
    append_to(state.port, port, LOADED if has_data else PLAIN, state.line, NEXT, place)
    _wake(state, port, now_ns)


@inlined
def _wake(state, port, now_ns):
    """See to it that a flit is made when the line is free."""
    if state.port[port, BUSY] == 0:
        state.port[port, BUSY] = 1
        push(state.heap, max(now_ns, state.free_ns[port]), port * KINDS + FLIT)


@subroutine
def _send_flit(state, port, now_ns):
    """Fill a flit with what waits, and send it."""
    rule, ports, line, counts = state.rule, state.port, state.line, state.counts
    way, link = port & 1, port >> 1
    plain, loaded = ports[port, PLAIN + LENGTH], ports[port, LOADED + LENGTH]
    expander = link - (rule[LINKS] - rule[EXPANDERS])
    credited = way == 0 and expander >= 0
    if credited:
        room = state.entries[expander, 0]
        counts[CREDIT_WAITS] += plain + loaded > room
        loaded = min(loaded, room)
        plain = min(plain, room - loaded if ports[port, TURN] else room)
        loaded = min(loaded, room - plain)
    left = ports[port, DATA_LEFT]
    if plain + loaded + left == 0:
        ports[port, BUSY] = 0
        return
    taken, begun, sent, turn = pack(state.packing, UP if way else DOWN, plain, loaded, left, ports[port, TURN])
    ports[port, TURN] = turn
    end_ns = now_ns + state.delay_ns[FLIT_NS + link]
    there_ns = end_ns + state.delay_ns[PORT_NS]
    if rule[SWITCH] and (way == 0) == (expander < 0):  # the switch is at the other end
        there_ns += state.delay_ns[SWITCH_NS]
    for _ in range(taken):
        push(state.heap, there_ns, take_first(ports, port, PLAIN, line, NEXT) * KINDS + HOP)
    for _ in range(begun):
        place = take_first(ports, port, LOADED, line, NEXT)
        line[place, SLOTS_LEFT] = state.packing[LINE_SLOTS]
        append_to(ports, port, DATA, line, NEXT, place)
    ports[port, DATA_LEFT] = left + begun * state.packing[LINE_SLOTS] - sent
    if credited:
        state.entries[expander, 0] -= taken + begun
    counts[FLITS + way] += 1
    counts[SLOTS + way] += sent
    while sent > 0:
        place = ports[port, DATA + HEAD]
        slots = min(sent, line[place, SLOTS_LEFT])
        sent -= slots
        line[place, SLOTS_LEFT] -= slots
        if line[place, SLOTS_LEFT] == 0:
            take_first(ports, port, DATA, line, NEXT)
            push(state.heap, there_ns, place * KINDS + HOP)
            if way == 1 and expander >= 0:
                state.entries[expander, 1] += 1
                _feed(state, expander, now_ns)
    state.free_ns[port] = end_ns
    push(state.heap, end_ns, port * KINDS + FLIT)


@subroutine
def _arrive(state, place, now_ns):
    """A message has crossed a link."""
    rule, line, delay = state.rule, state.line, state.delay_ns
    stage = line[place, STAGE]
    expander = line[place, CHANNEL] // rule[CHANNELS]
    if stage == 0:  # down, at the switch
        line[place, STAGE] = 1
        _queue_up(state, 2 * (rule[HOSTS] + expander), place, now_ns)
    elif stage == 1:  # down, at the expander
        push(state.heap, now_ns + delay[CONTROLLER_NS], place * KINDS + ENTER)
    elif stage == 2 and rule[SWITCH]:  # up, at the switch
        line[place, STAGE] = 3
        _queue_up(state, 2 * state.request[line[place, REQUEST], HOST] + 1, place, now_ns)
    else:
        push(state.heap, now_ns + delay[HOST_NS], place * KINDS + ANSWER)


# --- an expander -----------------------------------------------------------------------------------------------------


@inlined
def _enter(state, place, now_ns):
    """A message has passed the controller: its line waits for its DRAM channel."""
    line = state.line
    queue = 2 * line[place, CHANNEL] + line[place, IS_WRITE]
    append_to(state.queue, queue, 0, line, NEXT, place)
    state.shared[WAITING] += 1
    _drain(state, queue, now_ns)


@subroutine
def _drain(state, queue, now_ns):
    """Give a channel what waits for it, reads or writes, in order, as far as there is room."""
    rule, line, lists, entries = state.rule, state.line, state.queue, state.entries
    channel, is_write = queue >> 1, queue & 1
    expander = channel // rule[CHANNELS]
    channels = rule[CHANNELS] * rule[EXPANDERS]
    while lists[queue, LENGTH] > 0:
        place = lists[queue, HEAD]
        if not is_write and entries[expander, 1] == 0:
            break
        address = (line[place, NUMBER] * channels + channel) * LINE_BYTES
        ticket = -1 if is_write else place
        if not _dram_submit(state.dram, ticket, now_ns, address, LINE_BYTES, is_write == 1):
            break
        take_first(lists, queue, 0, line, NEXT)
        state.shared[WAITING] -= 1
        if rule[LINKS] > 0:
            push(state.heap, now_ns + state.delay_ns[PORT_NS], expander * KINDS + CREDIT)
        if is_write:
            _answer(state, place, expander, now_ns)
        else:
            entries[expander, 1] -= 1


@inlined
def _answer(state, place, expander, now_ns):
    """Send a line's answer on its way up."""
    rule = state.rule
    if rule[LINKS] == 0:
        if state.line[place, IS_WRITE] == 0:
            state.entries[expander, 1] += 1
        push(state.heap, now_ns + state.delay_ns[HOST_NS], place * KINDS + ANSWER)
        return
    state.line[place, STAGE] = 2
    _queue_up(state, 2 * (rule[LINKS] - rule[EXPANDERS] + expander) + 1, place, now_ns)


@inlined
def _feed(state, expander, now_ns):
    """The response queue has room again: for reads that wait at the controller."""
    channels = state.rule[CHANNELS]
    if state.shared[WAITING] > 0:
        for channel in range(expander * channels, (expander + 1) * channels):
            if state.queue[2 * channel, LENGTH] > 0:
                _drain(state, 2 * channel, now_ns)


@subroutine
def _from_memory(state, now_ns):
    """The DRAM goes on: what it has read goes up, and it takes what waited for room."""
    done = _dram_advance(state.dram, now_ns)
    for i in range(done):
        place = state.dram.done_ticket[i]
        if place >= 0:
            _answer(state, place, state.line[place, CHANNEL] // state.rule[CHANNELS], now_ns)
    if state.shared[WAITING] > 0:
        for queue in range(state.queue.shape[0]):
            if state.queue[queue, LENGTH] > 0:
                _drain(state, queue, now_ns)


# --- what it is, and what it took ------------------------------------------------------------------------------------


def init(parameters: ExpanderParameters) -> CxlState:
    """All at rest.

    The DRAM's hooks are compiled here, where they are not yet: within the compilation of what calls them they would
    take several times as long.
    """
    state = make_state(parameters)
    number = np.int64(0)
    specialised(_dram_submit, state.dram, number, 0.0, number, number, True)
    specialised(_dram_advance, state.dram, 0.0)
    specialised(_dram_next, state.dram)
    return state


def energy_pj(parameters: ExpanderParameters, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    """Picojoules of the DRAM by cause, and of the controllers and links being on."""
    memory = dram.energy_pj(parameters.dram, counts[len(OWN_COUNTS) :], elapsed_ns)
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
