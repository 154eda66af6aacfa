"""Contiguous memory for all that an object may come to, taken when it is allocated, as KV caches were before paging.

The forms are those in which Kwon et al. ("Efficient Memory Management for Large Language Model Serving with
PagedAttention", SOSP 2023, sections 3.1 and 6.1) rebuilt Orca (Yu et al., OSDI 2022) to compare with. `max`: as much as
any object may come to (the model's context). `pow2`: what it begins with, and of what it grows by as many units as the
next power of two has, 32 for a true 25, but no more than `max`. `exact` ("Oracle"): what it will come to. `placement`
says where that goes: `buddy`, as they assumed of Orca, `first_fit` or `best_fit`; `smallest_bytes`, the unit of all
three, should be what an object grows by, since buddies round up to a power of two of it (default: the buddies' own).

An object that is resized stays where it is, up to the end of its place, and is refused beyond. What is lost has the
parts of their figure 2. Reserved: its object will use it, but does not yet. Internal: its object never will; that is
what was reserved beyond its final size, and rounding, which their figure counts with what is free and of no use
(external: "Oracle" has no internal fragmentation there, though buddies round its reservations up). To tell the first
two apart the state has to look ahead whatever the form, which changes no decision. An object that shrinks is taken to
grow again to its final size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation import _runs, buddy
from sim.allocation._places import one_run
from sim.hook_arguments import Objects
from sim.kernels.compile import subroutine
from sim.policy import Allocator, Context

_FORMS = ("max", "pow2", "exact")
_PLACEMENTS = ("buddy", "first_fit", "best_fit")
_RESERVED, _INTERNAL = 0, 1
_ASKED, _PLACE, _RESERVATION, _FINAL = range(4)

_allocate_buddy, _release_buddy = subroutine(buddy.allocate), subroutine(buddy.release)
_free_buddy, _largest_buddy = subroutine(buddy.free_bytes), subroutine(buddy.largest_free_bytes)
_extents_buddy = subroutine(buddy.extents)
_allocate_run, _release_run = subroutine(_runs.allocate), subroutine(_runs.release)
_free_run, _largest_run = subroutine(_runs.free_bytes), subroutine(_runs.largest_free_bytes)
_extents_run = subroutine(_runs.extents)


class State(NamedTuple):
    """One of `buddies` and `runs` places; the other has no memory."""

    blocks: np.ndarray  # int64[blocks, 4] bytes asked for, 0 where not placed; of its place; to reserve; it comes to
    totals: np.ndarray  # int64[2] reserved and internal bytes
    buddies: buddy.State
    runs: _runs.State
    room: np.ndarray  # int64[1, 2] of a place
    by_buddies: bool


def init(context, *, form="exact", placement="buddy", smallest_bytes=4096):
    _check("form", form, _FORMS)
    _check("placement", placement, _PLACEMENTS)
    if smallest_bytes < 1:
        raise ValueError(f"smallest_bytes is {smallest_bytes}; expected a positive whole number")
    blocks = np.zeros((context.blocks, 4), np.int64)
    known = _known(context.objects, form)
    to_reserve = _reservations(known, form)
    blocks[: to_reserve.size, _RESERVATION] = to_reserve
    blocks[: to_reserve.size, _FINAL] = known.final_bytes
    by_buddies = placement == "buddy"
    nothing = Context(capacity=0, blocks=1)
    runs = {"alignment_bytes": smallest_bytes, "header_bytes": 0, "by_size": placement == "best_fit"}
    return State(
        blocks=blocks,
        totals=np.zeros(2, np.int64),
        buddies=buddy.init(context if by_buddies else nothing, smallest_bytes=smallest_bytes),
        runs=_runs.make_state(nothing if by_buddies else context, **runs),
        room=np.zeros((1, 2), np.int64),
        by_buddies=by_buddies,
    )


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected {', '.join(known[:-1])} or {known[-1]}")


def _known(objects: Objects | None, form: str) -> Objects:
    """Raises ValueError where nobody says what the form has to know."""
    needed = {"max": ("final_bytes", "most_bytes"), "pow2": ("first_bytes", "final_bytes", "unit_bytes")}
    for name in needed.get(form, ("final_bytes",)):
        if objects is None or getattr(objects, name).size == 0:
            raise ValueError(f"form is {form!r}; expected objects of which {name} is known")
    return objects


def _reservations(objects: Objects, form: str) -> np.ndarray:
    """int64[objects] bytes that each is to have."""
    if form == "max":
        return objects.most_bytes
    if form == "exact":
        return objects.final_bytes
    units = -(-(objects.final_bytes - objects.first_bytes) // objects.unit_bytes)
    doubled = np.where(units > 0, 1 << np.ceil(np.log2(np.maximum(units, 1))).astype(np.int64), 0)
    reserved = objects.first_bytes + doubled * objects.unit_bytes
    return np.minimum(reserved, objects.most_bytes) if objects.most_bytes.size else reserved


@subroutine
def _place(state, block, size_bytes):
    """Place a block by the rule that was chosen; False where it finds no place."""
    if state.by_buddies:
        return _allocate_buddy(state.buddies, block, size_bytes)
    return _allocate_run(state.runs, block, size_bytes)


@subroutine
def _place_bytes(state, block):
    """How large the place of a block is; `room` then has its address."""
    if state.by_buddies:
        _extents_buddy(state.buddies, block, state.room)
    else:
        _extents_run(state.runs, block, state.room)
    return state.room[0, 1]


@subroutine
def _count(blocks, totals, block, sign):
    """Add what is lost in the place of a block to the totals, or take it away."""
    asked, final = blocks[block, _ASKED], max(blocks[block, _ASKED], blocks[block, _FINAL])
    used = min(final, blocks[block, _PLACE])  # of objects that come to more than their reservation
    totals[_RESERVED] += sign * (used - asked)
    totals[_INTERNAL] += sign * (blocks[block, _PLACE] - used)


def allocate(state, block, size_bytes):
    blocks = state.blocks
    if blocks[block, _ASKED] > 0:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    if not _place(state, block, max(size_bytes, blocks[block, _RESERVATION])):
        return False
    blocks[block, _ASKED], blocks[block, _PLACE] = size_bytes, _place_bytes(state, block)
    _count(blocks, state.totals, block, 1)
    return True


def resize(state, block, size_bytes):
    blocks = state.blocks
    if blocks[block, _ASKED] == 0:
        raise ValueError("the block to resize is not placed")
    if size_bytes < 1:
        raise ValueError("the block to resize has no bytes")
    if size_bytes > blocks[block, _PLACE]:
        return False
    _count(blocks, state.totals, block, -1)
    blocks[block, _ASKED] = size_bytes
    _count(blocks, state.totals, block, 1)
    return True


def release(state, block):
    blocks = state.blocks
    if blocks[block, _ASKED] == 0:
        raise ValueError("the block to release is not placed")
    if state.by_buddies:
        _release_buddy(state.buddies, block)
    else:
        _release_run(state.runs, block)
    _count(blocks, state.totals, block, -1)
    blocks[block, _ASKED] = 0


def free_bytes(state):
    if state.by_buddies:
        return _free_buddy(state.buddies)
    return _free_run(state.runs)


def largest_free_bytes(state):
    if state.by_buddies:
        return _largest_buddy(state.buddies)
    return _largest_run(state.runs)


def internal_bytes(state):
    return state.totals[_INTERNAL]


def reserved_bytes(state):
    return state.totals[_RESERVED]


def extents(state, block, out):
    size_bytes = _place_bytes(state, block)
    return one_run(out, state.room[0, 0], size_bytes)


ALLOCATOR = Allocator(
    name="reservation",
    needs=("final_bytes",),
    uses=("first_bytes", "most_bytes", "unit_bytes"),
    init=init,
    allocate=allocate,
    resize=resize,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    reserved_bytes=reserved_bytes,
    extents=extents,
)
