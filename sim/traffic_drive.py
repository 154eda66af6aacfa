"""Hands the requests of one requester or several to a device model, event by event, and notes what becomes of them.

See `sim.traffic`, which makes the requests and reads the results.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, kernel

# columns of `desk`, a row a requester
SIZE, OUTSTANDING, WARMUP, LAST, FIRST, TOTAL, RESULTS, BORN, SENT, DONE, REFUSED, WAS_REFUSED = range(12)
# columns of `clock`, likewise: how long until its arrivals come again; the refusal under way, and all before; marks
PERIOD_NS, REFUSED_AT_NS, REFUSED_NS, BEGIN_NS, END_NS, BEGIN_REFUSED_NS, END_REFUSED_NS = range(7)
# places of `common`
TURN, COLD, UNFINISHED, READ_BYTES, WRITTEN_BYTES = range(5)


class Requesters(NamedTuple):
    """Who asks for what; `desk` and `clock` say which of the rings' and results' places are whose."""

    desk: np.ndarray  # int64[requesters, 12]
    clock: np.ndarray  # float64[requesters, 7]
    common: np.ndarray  # int64[5]
    now_ns: np.ndarray  # float64[1]
    address: np.ndarray  # int64[places]: rings, one a requester
    is_write: np.ndarray  # bool[places]
    born_ns: np.ndarray  # float64[places]: filled in as they come, in a closed loop
    sent_ns: np.ndarray  # float64[places]
    device_ns: np.ndarray  # float64[results]: of measured requests, in order of completion
    total_ns: np.ndarray  # float64[results]
    wrote: np.ndarray  # bool[results]
    marks: np.ndarray  # float64[2]: when the time that is measured for all began and ended
    moved: np.ndarray  # int64[2, 2]: bytes read and written until then
    counts: np.ndarray  # int64[2, counts of the model]: then


@kernel
def drive(model, state, source, clock_ns, steps):
    """Hand over requests, advance, and note what is done, until all are measured or so many steps are taken.

    False where nothing can happen any more. A ticket is the requester's row and the number of its request.
    """
    desk, common, now_ns = source.desk, source.common, source.now_ns
    rows = desk.shape[0]
    while common[UNFINISHED] > 0 and steps > 0:
        steps -= 1
        row, at_ns = _first_waiting(source, clock_ns)
        if row >= 0 and at_ns <= now_ns[0]:
            place = desk[row, FIRST] + _lap(desk[row, SENT], desk[row, TOTAL])[1]
            ticket = desk[row, SENT] * rows + row
            address, is_write = source.address[place], source.is_write[place]
            taken = model.submit(state, ticket, now_ns[0], address, desk[row, SIZE], is_write)
            _note_offer(source, row, place, taken)
            continue
        now_ns[0] = min(at_ns, model.next_event(state))
        if now_ns[0] == np.inf:
            return False
        count = model.advance(state, now_ns[0])
        for row in range(rows):
            desk[row, REFUSED] = 0
        for i in range(count):
            _note_done(state, source, state.done_ticket[i], state.done_ns[i])
    return True


@inlined
def _first_waiting(source, clock_ns):
    """(row, ns) of the request that is handed over next, and when; of several that wait, that of the next in turn."""
    desk = source.desk
    rows, now_ns = desk.shape[0], source.now_ns[0]
    best, best_ns = np.int64(-1), np.inf
    row = source.common[TURN]
    for _ in range(rows):
        sent, total = desk[row, SENT], desk[row, TOTAL]
        if not desk[row, REFUSED] and sent < desk[row, BORN] and sent - desk[row, DONE] < total:
            lap, at = _lap(sent, total)
            at_ns = source.born_ns[desk[row, FIRST] + at] + lap * source.clock[row, PERIOD_NS]
            if clock_ns > 0.0:
                at_ns = np.ceil(at_ns / clock_ns - 1e-6) * clock_ns
            at_ns = max(at_ns, now_ns)
            if at_ns < best_ns:
                best, best_ns = row, at_ns
        row = row + 1 if row + 1 < rows else 0
    return best, best_ns


@inlined
def _lap(number, total):
    """Quotient and remainder; most numbers are of the first lap, and a division takes as long as all the rest."""
    if number < total:
        return np.int64(0), number
    return number // total, number % total


@inlined
def _note_offer(source, row, place, taken):
    """Whether the device took the first request of a requester."""
    desk, clock, now_ns = source.desk, source.clock, source.now_ns[0]
    if taken:
        source.sent_ns[place] = now_ns
        desk[row, SENT] += 1
        source.common[TURN] = row + 1 if row + 1 < desk.shape[0] else 0
        if desk[row, WAS_REFUSED]:
            clock[row, REFUSED_NS] += now_ns - clock[row, REFUSED_AT_NS]
            desk[row, WAS_REFUSED] = 0
        return
    desk[row, REFUSED] = 1
    if not desk[row, WAS_REFUSED]:
        desk[row, WAS_REFUSED] = 1
        clock[row, REFUSED_AT_NS] = now_ns


@inlined
def _note_done(state, source, ticket, done_ns):
    """A request was done; in a closed loop, the next comes."""
    desk, clock, common, now_ns = source.desk, source.clock, source.common, source.now_ns[0]
    rows = desk.shape[0]
    number, row = _lap(ticket, rows) if rows > 1 else (ticket, np.int64(0))
    first, total, done = desk[row, FIRST], desk[row, TOTAL], desk[row, DONE]
    lap, place = _lap(number, total)
    place += first
    if desk[row, WARMUP] <= done < desk[row, LAST]:
        at = desk[row, RESULTS] + done - desk[row, WARMUP]
        source.device_ns[at] = done_ns - source.sent_ns[place]
        source.total_ns[at] = done_ns - (source.born_ns[place] + lap * clock[row, PERIOD_NS])
        source.wrote[at] = source.is_write[place]
    common[WRITTEN_BYTES if source.is_write[place] else READ_BYTES] += desk[row, SIZE]
    done += 1
    desk[row, DONE] = done
    if desk[row, OUTSTANDING] and (rows > 1 or desk[row, BORN] < total):
        source.born_ns[first + _lap(desk[row, BORN], total)[1]] = now_ns
        desk[row, BORN] += 1
    if done == desk[row, WARMUP]:
        clock[row, BEGIN_NS], clock[row, BEGIN_REFUSED_NS] = now_ns, _refused_ns(source, row)
        common[COLD] -= 1
        if common[COLD] == 0:
            _mark(state, source, 0)
    if done == desk[row, LAST]:
        clock[row, END_NS], clock[row, END_REFUSED_NS] = now_ns, _refused_ns(source, row)
        common[UNFINISHED] -= 1
        if common[UNFINISHED] == 0:
            _mark(state, source, 1)


@inlined
def _refused_ns(source, row):
    """How long, up to now, the device took none of a requester's requests though one waited."""
    clock = source.clock
    under_way = source.now_ns[0] - clock[row, REFUSED_AT_NS] if source.desk[row, WAS_REFUSED] else 0.0
    return clock[row, REFUSED_NS] + under_way


@inlined
def _mark(state, source, at):
    """Keep what has been counted so far, as the time measured for all begins (0) or ends (1)."""
    source.marks[at] = source.now_ns[0]
    source.moved[at, 0], source.moved[at, 1] = source.common[READ_BYTES], source.common[WRITTEN_BYTES]
    for i in range(state.counts.size):
        source.counts[at, i] = state.counts[i]
