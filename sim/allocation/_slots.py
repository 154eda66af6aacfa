"""Pools of buffers of fixed size, of which an object takes one whole: what `equal_slots` and `adaptive_slots` share.

Each pool has slots of one size; objects know theirs beforehand. A slot is cut from untouched memory when its pool has
none free, and belongs to that pool from then on: a pool comes to be as large as what is needed of it at once, as where
someone who knows this has made it at the start. A pool's slot that was given back last is taken first. Nothing else has
use of a free slot, so an object may be refused although more bytes are free than it has.

Slot less object is internal. What the allocator holds are all slots that were cut: pinned memory is not given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sim.allocation._places import one_run
from sim.kernels.bitset import BitSet, add, discard, last_to, make_bitset
from sim.policy import Context

_FREE, _INTERNAL, _CUT, _SLOTS = range(4)
_ASKED, _SLOT = 0, 1
_NEXT, _ADDRESS = 0, 1
_NONE = -1
_NOT_PLACED = 0  # no object is of size 0


class State(NamedTuple):
    pools: np.ndarray  # int64[pools] bytes of a slot, increasing
    spare: np.ndarray  # int64[pools] slot given back last, -1 where none is free
    with_spare: BitSet  # the pools that have a free slot
    pool_of: np.ndarray  # int32[objects]
    objects: np.ndarray  # int64[objects, 2] bytes asked for, slot
    slots: np.ndarray  # int64[objects, 2] of a free slot the next one of its pool; address
    totals: np.ndarray  # free bytes; bytes allocated beyond what was asked for; bytes cut; slots cut
    capacity: int


def make_state(context: Context, slot_bytes: Sequence[int], pool_of: np.ndarray) -> State:
    """slot_bytes: of each pool, increasing. pool_of: of each object, the number of its pool."""
    pools = np.array(slot_bytes, np.int64)
    return State(
        pools=pools,
        spare=np.full(pools.size, _NONE),
        with_spare=make_bitset(pools.size),
        pool_of=np.resize(pool_of.astype(np.int32), context.blocks),
        objects=np.zeros((context.blocks, 2), np.int64),
        slots=np.zeros((context.blocks, 2), np.int64),
        totals=np.array([context.capacity, 0, 0, 0]),
        capacity=context.capacity,
    )


def slot_sizes(context: Context, alignment_bytes: int, power_of_two: bool) -> np.ndarray:
    """int64[objects] bytes of a slot of each object's own.

    Raises ValueError for an alignment below 1, and where nothing is known of the objects.
    """
    if context.objects is None:
        raise ValueError("nothing is known of the objects; expected their final sizes")
    if alignment_bytes < 1:
        raise ValueError(f"alignment_bytes is {alignment_bytes}; expected a positive whole number")
    aligned = -(-context.objects.final_bytes // alignment_bytes) * alignment_bytes
    if not power_of_two:
        return aligned
    return np.array([1 << (int(size) - 1).bit_length() for size in aligned.tolist()], np.int64)


def allocate(state, block, size_bytes):
    if state.objects[block, _ASKED] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    totals, pool = state.totals, state.pool_of[block]
    slot_bytes, slot = state.pools[pool], state.spare[pool]
    if size_bytes > slot_bytes:
        return False
    if slot != _NONE:
        state.spare[pool] = state.slots[slot, _NEXT]
        if state.spare[pool] == _NONE:
            discard(state.with_spare, pool)
    elif totals[_CUT] + slot_bytes <= state.capacity:
        slot = totals[_SLOTS]
        state.slots[slot, _ADDRESS] = totals[_CUT]
        totals[_SLOTS] += 1
        totals[_CUT] += slot_bytes
    else:
        return False
    state.objects[block, _ASKED], state.objects[block, _SLOT] = size_bytes, slot
    totals[_FREE] -= slot_bytes
    totals[_INTERNAL] += slot_bytes - size_bytes
    return True


def release(state, block):
    size_bytes, slot, pool = state.objects[block, _ASKED], state.objects[block, _SLOT], state.pool_of[block]
    if size_bytes == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    state.objects[block, _ASKED] = _NOT_PLACED
    state.slots[slot, _NEXT] = state.spare[pool]
    state.spare[pool] = slot
    add(state.with_spare, pool)
    state.totals[_FREE] += state.pools[pool]
    state.totals[_INTERNAL] -= state.pools[pool] - size_bytes


def resize(state, block, size_bytes):
    if state.objects[block, _ASKED] == _NOT_PLACED:
        raise ValueError("the block to resize is not placed")
    if size_bytes < 1:
        raise ValueError("the block to resize has no bytes")
    if size_bytes > state.pools[state.pool_of[block]]:
        return False
    state.totals[_INTERNAL] += state.objects[block, _ASKED] - size_bytes
    state.objects[block, _ASKED] = size_bytes
    return True


def free_bytes(state):
    return state.totals[_FREE]


def largest_free_bytes(state):
    uncut = np.searchsorted(state.pools, state.capacity - state.totals[_CUT], side="right") - 1
    pool = max(uncut, last_to(state.with_spare, state.pools.size - 1))
    return state.pools[pool] if pool >= 0 else 0


def internal_bytes(state):
    return state.totals[_INTERNAL]


def held_bytes(state):
    return state.totals[_CUT]


def extents(state, block, out):
    return one_run(out, state.slots[state.objects[block, _SLOT], _ADDRESS], state.pools[state.pool_of[block]])


HOOKS = {
    "allocate": allocate,
    "release": release,
    "free_bytes": free_bytes,
    "largest_free_bytes": largest_free_bytes,
    "internal_bytes": internal_bytes,
    "held_bytes": held_bytes,
    "resize": resize,
    "extents": extents,
}
