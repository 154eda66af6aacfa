"""Offline planning: all sizes and lifetimes are known beforehand, and so are all addresses; a bound for the others.

`method` and what it rests on: `sim.fragmentation.planning`. At run time addresses are only looked up. An object has
room for the most bytes that it will come to, from the first moment; what it does not use of that is reserved, be it
that it has not grown yet or that it has shrunk. Sizes are rounded up to `alignment_bytes`, 64 by default (a cache
line). An object that is planned beyond the capacity is refused whenever it comes, though others might have made room
for it; `largest_free_bytes` is the longest run of free bytes, of which the plan makes what use it makes.

most_objects, time_limit_s: exact plans (methods exact and memo) are tried for no more objects, and take no longer each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation._places import one_run
from sim.fragmentation.planning import plan
from sim.kernels.compile import subroutine
from sim.kernels.uncovered import Line, longest, make_line, mark
from sim.policy import Allocator

_FREE, _ROUNDING, _RESERVED = range(3)
_NOT_PLACED = 0  # no object has 0 bytes


class State(NamedTuple):
    address: np.ndarray  # planned, of each object
    most: np.ndarray  # bytes that each will come to
    cells: np.ndarray  # int64[objects, 2] which cells of the line it takes, up to the second; none: beyond the capacity
    asked: np.ndarray  # bytes of each placed object
    line: Line  # the capacity, cut wherever a planned object begins or ends
    totals: np.ndarray  # free bytes, bytes beyond what objects will use, bytes that they do not use now
    alignment_bytes: int


def init(context, *, method="best_fit_decreasing", alignment_bytes=64, most_objects=64, time_limit_s=60.0):
    if alignment_bytes < 1:
        raise ValueError(f"alignment_bytes is {alignment_bytes}; expected a positive whole number")
    if most_objects < 0:
        raise ValueError(f"most_objects is {most_objects}; expected a whole number, 0 or more")
    if not time_limit_s > 0:
        raise ValueError(f"time_limit_s is {time_limit_s}; expected a positive number")
    if context.objects is None:
        raise ValueError("nothing is known of the objects; expected a stream of allocations, which says it beforehand")
    limits = {"most_objects": most_objects, "time_limit_s": time_limit_s}
    planned = plan(context.objects, method, alignment_bytes=alignment_bytes, **limits)
    most = context.objects.final_bytes
    usable = context.capacity // alignment_bytes * alignment_bytes
    ends = planned.addresses + -(-most // alignment_bytes) * alignment_bytes
    fits = ends <= usable
    cuts = np.unique(np.concatenate([[0, usable], planned.addresses[fits], ends[fits]]))
    cells = np.searchsorted(cuts, np.stack([planned.addresses, ends], axis=1))
    cells[~fits] = 0
    return State(
        address=planned.addresses,
        most=most.copy(),
        cells=cells,
        asked=np.zeros(most.size, np.int64),
        line=make_line(np.diff(cuts)),
        totals=np.array([usable, 0, 0]),
        alignment_bytes=alignment_bytes,
    )


@subroutine
def _rounded(state, block):
    return (state.most[block] + state.alignment_bytes - 1) // state.alignment_bytes * state.alignment_bytes


@subroutine
def _count(state, block, size_bytes, placed):
    """placed: 1 where the object comes, -1 where it goes."""
    taken = _rounded(state, block)
    state.totals[_FREE] -= placed * taken
    state.totals[_ROUNDING] += placed * (taken - state.most[block])
    state.totals[_RESERVED] += placed * (state.most[block] - size_bytes)


def allocate(state, block, size_bytes):
    if state.asked[block] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    first, end = state.cells[block, 0], state.cells[block, 1]
    if first == end or size_bytes > state.most[block]:
        return False
    mark(state.line, first, end, True)
    state.asked[block] = size_bytes
    _count(state, block, size_bytes, 1)
    return True


def release(state, block):
    if state.asked[block] == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    mark(state.line, state.cells[block, 0], state.cells[block, 1], False)
    _count(state, block, state.asked[block], -1)
    state.asked[block] = _NOT_PLACED


def resize(state, block, size_bytes):
    if state.asked[block] == _NOT_PLACED:
        raise ValueError("the block to resize is not placed")
    if size_bytes < 1:
        raise ValueError("the block to resize has no bytes")
    if size_bytes > state.most[block]:
        return False
    state.totals[_RESERVED] += state.asked[block] - size_bytes
    state.asked[block] = size_bytes
    return True


def free_bytes(state):
    return state.totals[_FREE]


def largest_free_bytes(state):
    return longest(state.line)


def internal_bytes(state):
    return state.totals[_ROUNDING]


def reserved_bytes(state):
    return state.totals[_RESERVED]


def extents(state, block, out):
    return one_run(out, state.address[block], _rounded(state, block))


ALLOCATOR = Allocator(
    name="offline",
    init=init,
    needs=("final_bytes", "born", "dies"),
    allocate=allocate,
    release=release,
    resize=resize,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    reserved_bytes=reserved_bytes,
    extents=extents,
)
