"""The state of a banked SRAM: servers with the time from which each is free, lines under way, copies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.event_heap import EventHeap, make_heap
from sim.kernels.random import make_rng
from sim.sram.parameters import SramParameters
from sim.sram.places import (
    BANKS,
    HASHED,
    LINE,
    LINES,
    ONE_SIDED,
    PARTITIONS,
    QUEUE,
    SLICES,
    UNIT_LINES,
    home_of,
)

# places of `time_ns`
BANK_NS, PORT_NS_PER_BYTE, LINK_NS, CROSS_NS, LATENCY_NS = range(5)
# columns of `job`, a line under way; NEXT is that of a list of the free ones
NUMBER, OF_REQUEST, STAGE, NEAR, SIZE, WRITE, NEXT = range(7)
# columns of `request`
TICKET, LEFT, NEXT_FREE = range(3)
# places of `shared`: the first free job and request, and the request whose lines do not all fit: its row, the next and
# the last address, whether it writes
FREE_JOB, FREE_REQUEST, FRONT, FRONT_ADDRESS, FRONT_END, FRONT_WRITE = range(6)
# `counts`
READS, WRITES, BANK_CONFLICTS, PORT_WAITS, NEAR_HITS, FAR_ACCESSES, READ_BYTES, WRITTEN_BYTES = range(8)
COUNTS = (
    *("reads", "writes", "bank_conflicts", "port_waits", "near_hits", "far_accesses", "read_bytes"),
    "written_bytes",
)


class State(NamedTuple):
    rule: np.ndarray  # int64[9]
    time_ns: np.ndarray  # float64[5]
    bank_free_ns: np.ndarray  # float64[slices x banks]
    port_free_ns: np.ndarray  # float64[slices]
    link_free_ns: np.ndarray  # float64[2]: of the link into each partition
    queued: np.ndarray  # int64[slices]: lines in the queue of each
    job: np.ndarray  # int64[lines under way, 7]
    request: np.ndarray  # int64[lines under way, 3]
    events: EventHeap  # of jobs
    copy_at: np.ndarray  # int32[lines; 1 of one partition]: place of the line's copy in `copies`, or -1
    copies: np.ndarray  # int32[2, places; 1]: lines that each partition has beside its own
    copy_room: np.ndarray  # int64[2, 2]: how many copies each partition has, and may have
    rng: np.ndarray  # uint64[1]
    shared: np.ndarray  # int64[6]
    done_ticket: np.ndarray  # int64[lines under way]
    done_ns: np.ndarray  # float64[lines under way]
    counts: np.ndarray  # int64[8]


def make_state(p: SramParameters) -> State:
    """At rest, all of the footprint in the cache, and as many copies as fit beside it."""
    jobs = p.lines_under_way
    rule = np.zeros(9, np.int64)
    rule[SLICES], rule[BANKS], rule[LINE], rule[QUEUE] = p.slices, p.banks_per_slice, p.line_bytes, p.queue
    rule[LINES], rule[UNIT_LINES] = p.capacity_bytes // p.line_bytes, p.interleave_bytes // p.line_bytes
    rule[HASHED], rule[PARTITIONS], rule[ONE_SIDED] = p.hashed, p.partitions, p.one_sided
    cycle = p.clock_ns
    times = [p.bank_cycles * cycle, p.port_ns(1), p.line_link_ns, p.link_cycles * cycle, p.latency_ns]
    job = np.zeros((jobs, 7), np.int64)
    request = np.zeros((jobs, 3), np.int64)
    job[:, NEXT] = request[:, NEXT_FREE] = np.append(np.arange(1, jobs), -1)
    copy_at, copies, copy_room = _copies(p, rule)
    return State(
        rule=rule,
        time_ns=np.array(times),
        bank_free_ns=np.zeros(p.slices * p.banks_per_slice),
        port_free_ns=np.zeros(p.slices),
        link_free_ns=np.zeros(2),
        queued=np.zeros(p.slices, np.int64),
        job=job,
        request=request,
        events=make_heap(jobs + 1),
        copy_at=copy_at,
        copies=copies,
        copy_room=copy_room,
        rng=make_rng(1),
        shared=np.array([0, 0, -1, 0, 0, 0], np.int64),
        done_ticket=np.zeros(jobs, np.int64),
        done_ns=np.zeros(jobs),
        counts=np.zeros(len(COUNTS), np.int64),
    )


def _copies(p: SramParameters, rule: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the lines at home in the other partition, as many as there is room for, drawn at random.

    That is what random replacement comes to when all lines are asked for alike.
    """
    if p.partitions == 1:
        return np.full(1, -1, np.int32), np.zeros((2, 1), np.int32), np.zeros((2, 2), np.int64)
    lines = np.arange(rule[LINES])
    side = home_of(rule, lines)[0] // (p.slices // 2)
    places = p.slices // 2 * p.slice_bytes // p.line_bytes
    copy_at = np.full(lines.size, -1, np.int32)
    copies, room = np.zeros((2, places), np.int32), np.zeros((2, 2), np.int64)
    rng = np.random.default_rng(1)
    for partition in range(2):
        far = rng.permutation(lines[side != partition])
        may = places - (lines.size - far.size)
        far = far[:may]
        copies[partition, : far.size] = far
        copy_at[far] = np.arange(far.size)
        room[partition] = far.size, may
    return copy_at, copies, room
