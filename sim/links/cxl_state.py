"""The state of CXL memory: requests, their lines, the ports of links, queues, credits, and the DRAM behind it all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.devices import dram
from sim.kernels.compile import inlined
from sim.kernels.event_heap import EventHeap, make_heap
from sim.links.expander import ExpanderParameters
from sim.links.flits import RULES, flit_rules
from sim.links.protocol import LINE_BYTES

OWN_COUNTS = ("read_lines", "write_lines", "down_flits", "up_flits", "down_slots", "up_slots", "credit_waits")
COUNTS = (*OWN_COUNTS, *dram.COUNTS)
READ_LINES, FLITS, SLOTS, CREDIT_WAITS = 0, 2, 4, 6
# columns of `request`
TICKET, LEFT, NEXT_LINE, UNSENT, WRITES, HOST, NEXT_REQUEST = range(7)
# columns of `line`
REQUEST, CHANNEL, NUMBER, IS_WRITE, STAGE, SLOTS_LEFT, NEXT = range(7)
# lists: head and tail, of lines (of a port: plain, loaded and data; of a channel: reads and writes) or of requests
HEAD, TAIL, LENGTH = range(3)
# columns of `port`: a direction of a link
PLAIN, LOADED, DATA, DATA_LEFT, TURN, BUSY = 0, 3, 6, 9, 10, 11
# what may happen, and to what
FLIT, HOP, ENTER, ANSWER, CREDIT, KINDS = *range(5), 8
# `rule`
(
    HOSTS,
    SWITCH,
    LINKS,
    EXPANDERS,
    CHANNELS,
    SPAN,  # lines of an expander, then of a channel, before the next one's turn
    CHANNEL_SPAN,
    CHANNEL_LINES,
    HOST_ENTRIES,
    REQUEST_ENTRIES,
    RESPONSE_ENTRIES,
) = range(11)
# `delay_ns`
HOST_NS, PORT_NS, SWITCH_NS, CONTROLLER_NS, FLIT_NS = range(5)
ENTRIES_LEFT = 3  # of `waiting`, after its list
# `shared`
FREE_REQUEST, FREE_LINE, DONE, WAITING = range(4)


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


def make_state(parameters: ExpanderParameters) -> CxlState:
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
    request[:, NEXT_REQUEST], line[:, NEXT] = np.arange(1, p.requests + 1), np.arange(1, lines + 1)
    port = np.zeros((2 * p.links, 12), np.int64)
    port[:, [PLAIN, PLAIN + 1, LOADED, LOADED + 1, DATA, DATA + 1]] = -1
    waiting = np.full((p.hosts, 4), -1, np.int64)
    waiting[:, LENGTH], waiting[:, ENTRIES_LEFT] = 0, p.host_entries
    queue = np.full((2 * channels, 3), -1, np.int64)
    queue[:, LENGTH] = 0
    counts = np.zeros(len(COUNTS), np.int64)
    host_ns = p.host_ns if p.links else 0.0
    delays = [host_ns, p.port_ns + p.retimers * p.retimer_ns, p.switch_ns, p.controller_ns]
    return CxlState(
        rule=rule,
        packing=packing,
        delay_ns=np.array(delays + flit_ns),
        request=request,
        line=line,
        port=port,
        free_ns=np.zeros(2 * p.links),
        queue=queue,
        waiting=waiting,
        entries=np.tile(np.array((p.request_entries, p.response_entries), np.int64), (p.expanders, 1)),
        shared=np.zeros(4, np.int64),
        heap=make_heap(3 * lines + 4 * p.links + 8),
        dram=dram.init(p.dram)._replace(counts=counts[len(OWN_COUNTS) :]),
        done_ticket=np.zeros(p.requests, np.int64),
        done_ns=np.zeros(p.requests),
        counts=counts,
    )


@inlined
def append_to(lists, row, at, things, following, place):
    """Put a thing at the end of the list in columns `at` and after of a row."""
    things[place, following] = -1
    if lists[row, at + LENGTH] > 0:
        things[lists[row, at + TAIL], following] = place
    else:
        lists[row, at + HEAD] = place
    lists[row, at + TAIL] = place
    lists[row, at + LENGTH] += 1


@inlined
def take_first(lists, row, at, things, following):
    """Take the first thing of a list that is not empty."""
    place = lists[row, at + HEAD]
    lists[row, at + HEAD] = things[place, following]
    lists[row, at + LENGTH] -= 1
    return place
