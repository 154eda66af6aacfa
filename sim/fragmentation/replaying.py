"""Gives a stream of allocations to an allocator, call by call, and counts what comes of it; compiled.

An object that the allocator cannot place is never there: later calls for it are counted and passed by. One that grows
under an allocator that cannot resize is placed anew under a second number, copied, and released under the first; so an
object's place is known to the allocator by its number or by that plus the number of objects.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.fragmentation.operations import ALLOCATE, RELEASE, RESIZE, Operations
from sim.kernels.compile import kernel, subroutine

NOT_LIVE, FAILED = 0, -1  # sizes of objects that are not there
(
    LIVE_BYTES,  # of objects now
    LIVE_OBJECTS,
    PEAK_LIVE_BYTES,
    HELD_AT_PEAK_LIVE,
    PEAK_HELD_BYTES,
    LIVE_AT_PEAK_HELD,
    TOUCHED,  # pages on which an object ever was, where the allocator says where objects are
    ALLOCATIONS,
    RESIZES,
    RELEASES,
    FAILURES,  # of the allocations and resizes, those refused
    FAILED_WITH_FREE,  # of these, with at least that many bytes free
    FIRST_FAILURE,  # number of the operation, -1
    PASSED_BY,  # of these, on objects that were refused when they were allocated
    MOVES,
    MOVED_BYTES,
    TOTALS,
) = range(17)
HELD_SUM, LIVE_SUM = 0, 1
_PAGE_BYTES = 4096  # what an operating system gives a program at a time
_MOST_PAGES = 1 << 16  # of a large memory; its pages are larger, so that marking them stays cheap
_RUNS = 256
_OBJECTS_MORE = (1, 0, -1)  # by operation


class Board(NamedTuple):
    """What the replay itself knows."""

    size: np.ndarray  # int64[objects] bytes now, NOT_LIVE or FAILED
    place: np.ndarray  # int64[objects] the number under which the allocator knows it
    totals: np.ndarray  # int64[TOTALS]
    sums: np.ndarray  # float64[2] of bytes held and live, after each operation
    clock_ns: np.ndarray  # float64[1]
    buffer: np.ndarray  # int64[n, 2] of the runs of an object
    touched: np.ndarray  # uint8[pages] whether an object ever was on it
    page_bytes: int


def make_board(operations: Operations, capacity_bytes: int) -> Board:
    objects = operations.objects.born.size
    page_bytes = max(_PAGE_BYTES, -(-capacity_bytes // _MOST_PAGES))
    totals = np.zeros(TOTALS, np.int64)
    totals[FIRST_FAILURE] = -1
    return Board(
        size=np.zeros(objects, np.int64),
        place=np.arange(objects),
        totals=totals,
        sums=np.zeros(2),
        clock_ns=np.full(1, -1.0),
        buffer=np.zeros((_RUNS, 2), np.int64),
        touched=np.zeros(capacity_bytes // page_bytes + 1, np.uint8),
        page_bytes=page_bytes,
    )


@subroutine
def _held(allocator, state, board, empty_bytes):
    """What the allocator says that it holds, else the pages ever touched, else what is not free."""
    held = allocator.held_bytes(state)
    if held >= 0:
        return held
    if board.totals[TOUCHED] > 0:
        return board.totals[TOUCHED] * board.page_bytes
    return empty_bytes - allocator.free_bytes(state)


@subroutine
def _touch(allocator, state, board, number):
    """Note the pages that an object lies on: its program uses all of it, and nobody gives these pages back."""
    touched, page_bytes = board.touched, board.page_bytes
    runs = min(allocator.extents(state, number, board.buffer), board.buffer.shape[0])
    for at in range(runs):
        first = board.buffer[at, 0] // page_bytes
        last = (board.buffer[at, 0] + board.buffer[at, 1] - 1) // page_bytes
        for page in range(first, last + 1):
            board.totals[TOUCHED] += touched[page] == 0
            touched[page] = 1


@subroutine
def _note_refusal(allocator, state, totals, row, more_bytes):
    totals[FAILURES] += 1
    totals[FAILED_WITH_FREE] += allocator.free_bytes(state) >= more_bytes
    if totals[FIRST_FAILURE] < 0:
        totals[FIRST_FAILURE] = row


@subroutine
def _one(allocator, state, board, row, op, number, size, moves):
    """One operation; whether something may have been placed.

    Each hook is called at one place: a second one would be a second copy of all its code.
    """
    totals, had, objects = board.totals, board.size[number], board.size.shape[0]
    totals[ALLOCATIONS + op] += 1
    if op != ALLOCATE and had == FAILED:
        totals[PASSED_BY] += 1
        return False
    if op == RESIZE and size == had:
        return False
    place = board.place[number]
    elsewhere = place + objects if place < objects else place - objects
    moved = op == RESIZE and moves
    if op == RESIZE and not moves:
        done = allocator.resize(state, place, size)
    elif op != RELEASE:
        done = allocator.allocate(state, elsewhere if moved else place, size)
    else:
        done = True
    if not done:
        _note_refusal(allocator, state, totals, row, size if moves else size - had)
        if op == ALLOCATE:
            board.size[number] = FAILED
        return False
    if op == RELEASE or moved:
        allocator.release(state, place)
    if moved:
        board.place[number] = elsewhere
        totals[MOVES] += 1
        totals[MOVED_BYTES] += min(size, had)
    left = np.int64(0) if op == RELEASE else size
    totals[LIVE_OBJECTS] += _OBJECTS_MORE[op]
    totals[LIVE_BYTES] += left - had
    board.size[number] = left
    return op != RELEASE


@kernel
def play(allocator, state, board, time_ns, op, number, size_bytes, start, stop, moves, touches, empty, until_failure):
    """Do the operations from `start` up to `stop`; the row after the last one done.

    moves: the allocator cannot resize. touches: it holds the pages on which objects ever were. empty: bytes free before
    the first operation. until_failure: stop after the first.
    """
    totals = board.totals
    held_sum, live_sum = 0.0, 0.0
    row = start
    while row < stop:
        if time_ns[row] > board.clock_ns[0]:
            board.clock_ns[0] = time_ns[row]
            allocator.tick(state, time_ns[row])
        failures = totals[FAILURES]
        placed = _one(allocator, state, board, row, op[row], number[row], size_bytes[row], moves)
        if placed and touches:
            _touch(allocator, state, board, board.place[number[row]])
        held = _held(allocator, state, board, empty)
        live = totals[LIVE_BYTES]
        if held > totals[PEAK_HELD_BYTES]:
            totals[PEAK_HELD_BYTES], totals[LIVE_AT_PEAK_HELD] = held, live
        if live > totals[PEAK_LIVE_BYTES]:
            totals[PEAK_LIVE_BYTES], totals[HELD_AT_PEAK_LIVE] = live, held
        held_sum += held
        live_sum += live
        row += 1
        if until_failure and totals[FAILURES] > failures:
            break
    board.sums[HELD_SUM] += held_sum
    board.sums[LIVE_SUM] += live_sum
    return row


LOOKED = (
    "free_bytes",
    "largest_free_bytes",
    "internal_bytes",
    "reserved_bytes",
    "metadata_bytes",
    "outside_bytes",
    "held_bytes",
)


@kernel
def look(allocator, state, board, empty_bytes, out, calls):
    """What the allocator says of its memory now: out int64[len(LOOKED)], calls int64[len(SYSTEM_CALLS)]; waited ns."""
    out[0] = allocator.free_bytes(state)
    out[1] = allocator.largest_free_bytes(state)
    out[2] = allocator.internal_bytes(state)
    out[3] = allocator.reserved_bytes(state)
    out[4] = allocator.metadata_bytes(state)
    out[5] = allocator.outside_bytes(state)
    out[6] = _held(allocator, state, board, empty_bytes)
    for which in range(calls.shape[0]):
        calls[which] = allocator.calls_made(state, which)
    return np.float64(allocator.waited_ns(state))


@kernel
def gather(allocator, state, board, objects, room, out):
    """Runs of addresses of all live objects: out int64[n, 3] of (address, bytes, object), as many as fit; how many.

    room: int64[m, 2] for the runs of one object. An object with more runs than that has its last ones left out: -1.
    """
    many = np.int64(0)
    for number in range(objects):
        if board.size[number] <= 0:
            continue
        runs = allocator.extents(state, board.place[number], room)
        if runs > room.shape[0]:
            return np.int64(-1) - runs
        for at in range(runs):
            if many < out.shape[0]:
                out[many, 0], out[many, 1], out[many, 2] = room[at, 0], room[at, 1], number
            many += 1
    return many
