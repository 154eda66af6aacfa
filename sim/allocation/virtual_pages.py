"""Contiguous virtual memory whose pages are mapped as objects grow: vAttention (Prabhu et al., ASPLOS 2025).

An object has one of `slots` ranges of virtual addresses in each of `tensors` tensors (of a call's KV cache, K and V of
each layer) and grows in all of them alike, so that memory goes to it in groups of one physical page (`page_bytes`) a
tensor. The bytes of an object fill one group after the other; the last one is partly wasted (internal). All physical
pages are made at the start, as vAttention makes them: what a call of the system costs at run time is to map or unmap.

Deferred reclamation (`deferred`): the pages of a released object stay mapped in its slot, which goes to the next object
that it suits: the slot with the fewest groups of those that have enough, or else the one with the most. They are
unmapped only where pages are lacking, from the slot with the most groups first. Without it, a release unmaps them and
the caller waits for that.

Mapping in the background (`background`): between two moments of `tick` a thread maps what objects will need within
`ahead_units` more units of their growth, one group after the other, as many as there is time for; then, until a slot
without an object has `eager_groups` groups, for the next object that comes. What an object needs at once, and is not
mapped, its caller waits for (`waited_ns`), less what the thread had done of it. Groups mapped ahead stay with their
object and are reserved; groups that a slot has beyond that can be taken back by any other, and are free.

Times of calls are those of the paper's table 3, on an A100, as recalled, not re-read: 2 MiB by CUDA's own calls
(cuMemMap 2 us and cuMemSetAccess 38 us; cuMemUnmap 34 us), smaller pages by vAttention's extension of the driver, whose
vMemMap sets access, too, and whose vMemRelease unmaps. `map_ns` and `unmap_ns`, of one page, replace them. By default
`ahead_units` is that of vAttention's code (github.com/microsoft/vattention, vattention.cu: fewer than 10 tokens). Not
modelled: that a caller waits for all that the thread is at, whoever it is for, and that the thread maps no more than
two groups ahead in an iteration. Physical pages of a group are taken to lie side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation._places import add_run
from sim.hook_arguments import MAPS, UNMAPS
from sim.kernels.bitset import BitSet, add, discard, first_from, make_bitset
from sim.kernels.compile import inlined, subroutine
from sim.kernels.ordered_index import Index, found, highest_key, insert, make_index, remove_found, seek
from sim.policy import Allocator

_KIB, _US = 1024, 1000.0
_FIRST, _LAST, _MAPPED, _BLOCK, _AHEAD, _QUEUED = range(6)
_BEFORE, _AFTER = 0, 1
_SIZE, _SLOT, _UNIT = range(3)
_UNUSED, _UNMAPPED, _ASKED, _NEEDED, _KEPT_AHEAD, _MAP_CALLS, _UNMAP_CALLS, _QUEUE_START, _QUEUE_LENGTH = range(9)
_NOW, _STARTED, _WAITED = range(3)
_NONE = -1
_NOT_PLACED = 0  # no block is of size 0


class State(NamedTuple):
    """A group is a page in each tensor; groups are numbered by where they lie."""

    blocks: np.ndarray  # int64[blocks, 3] bytes asked for, slot, what it grows by
    slots: np.ndarray  # int64[slots, 6] first and last group, how many, block, groups mapped ahead for it, in the queue
    groups: np.ndarray  # int64[groups, 2] group before and after it in its slot; of an unmapped one, the next such
    idle: Index  # slots without a block by (groups, slot)
    spare: BitSet  # slots with a block that have groups which it will not need soon
    queue: np.ndarray  # int64[slots] ring of slots whose next group is to be mapped ahead
    totals: np.ndarray  # int64: first unmapped group; how many; bytes asked for; groups needed, ahead; calls; the ring
    times: np.ndarray  # float64: now; when the thread began what is first in the queue; ns waited for
    group_bytes: int
    tensors: int
    ahead_units: int
    eager_groups: int
    map_ns: float  # of a group
    unmap_ns: float
    deferred: bool


def init(
    context,
    *,
    page_bytes=64 * _KIB,
    tensors=1,
    slots=256,
    deferred=True,
    background=True,
    ahead_units=9,
    eager_groups=0,
    map_ns=-1.0,
    unmap_ns=-1.0,
):
    for name, value, least in (
        ("page_bytes", page_bytes, 1),
        ("tensors", tensors, 1),
        ("slots", slots, 1),
        ("ahead_units", ahead_units, 0),
        ("eager_groups", eager_groups, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; expected a whole number of at least {least}")
    group_bytes = page_bytes * tensors
    groups, slots = context.capacity // group_bytes, min(slots, context.blocks)
    each_map_ns, each_unmap_ns = _call_times(page_bytes, map_ns, unmap_ns)
    blocks = np.zeros((context.blocks, 3), np.int64)
    if context.objects is not None and background:
        blocks[: context.objects.unit_bytes.size, _UNIT] = context.objects.unit_bytes
    links = np.full((groups + 1, 2), _NONE)
    links[:, _AFTER] = np.arange(1, groups + 2)
    idle = make_index(slots)
    for slot in range(slots):
        insert(idle, 0, slot, slot)
    return State(
        blocks=blocks,
        slots=np.tile(np.array([_NONE, _NONE, 0, _NONE, 0, 0]), (slots, 1)),
        groups=links,
        idle=idle,
        spare=make_bitset(slots),
        queue=np.zeros(slots, np.int64),
        totals=np.array([0, groups, 0, 0, 0, 0, 0, 0, 0]),
        times=np.zeros(3),
        group_bytes=group_bytes,
        tensors=tensors,
        ahead_units=ahead_units,
        eager_groups=eager_groups if background else 0,
        map_ns=tensors * each_map_ns,
        unmap_ns=tensors * each_unmap_ns,
        deferred=deferred,
    )


def _call_times(page_bytes: int, map_ns: float, unmap_ns: float) -> tuple[float, float]:
    """ns to map and to unmap a page: as given, or else as measured of pages of this size."""
    measured = {
        64 * _KIB: (8 * _US, 2 * _US),
        128 * _KIB: (8.5 * _US, 3 * _US),
        256 * _KIB: (9 * _US, 4 * _US),
        2048 * _KIB: (40 * _US, 34 * _US),
    }
    for name, value in (("map_ns", map_ns), ("unmap_ns", unmap_ns)):
        if value < 0 and page_bytes not in measured:
            sizes = ", ".join(str(size) for size in measured)
            raise ValueError(f"{name} is {value:g}; expected a time, since only pages of {sizes} bytes were measured")
    of_map_ns, of_unmap_ns = measured.get(page_bytes, (map_ns, unmap_ns))
    return (map_ns if map_ns >= 0 else of_map_ns), (unmap_ns if unmap_ns >= 0 else of_unmap_ns)


@inlined
def _groups_of(group_bytes, size_bytes):
    return (size_bytes + group_bytes - 1) // group_bytes


@subroutine
def _wanted(state, slot):
    """Groups that the block in a slot needs now or will soon."""
    row = state.blocks[state.slots[slot, _BLOCK]]
    return _groups_of(state.group_bytes, row[_SIZE] + state.ahead_units * row[_UNIT])


@inlined
def _available(state):
    """Groups that no block needs, and that are not kept for one."""
    totals = state.totals
    return state.groups.shape[0] - 1 - totals[_NEEDED] - totals[_KEPT_AHEAD]


@subroutine
def _pop(state, slot):
    """Unmap the last group of a slot."""
    slots, groups, totals = state.slots, state.groups, state.totals
    group = slots[slot, _LAST]
    before = groups[group, _BEFORE]
    slots[slot, _LAST] = before
    if before == _NONE:
        slots[slot, _FIRST] = _NONE
    slots[slot, _MAPPED] -= 1
    groups[group, _AFTER] = totals[_UNUSED]
    totals[_UNUSED] = group
    totals[_UNMAPPED] += 1
    totals[_UNMAP_CALLS] += state.tensors


@subroutine
def _reclaim(state):
    """Unmap a group that nobody needs: of an idle slot, or else of one that has more than its block wants."""
    most = highest_key(state.idle)
    if most > 0:
        seek(state.idle, most, 0)
        slot = found(state.idle)
        remove_found(state.idle)
        _pop(state, slot)
        insert(state.idle, most - 1, slot, slot)
        return
    slot = first_from(state.spare, 0)
    _pop(state, slot)
    if state.slots[slot, _MAPPED] <= _wanted(state, slot):
        discard(state.spare, slot)


@inlined
def _group_ns(state):
    """How long mapping a group takes now: a page may have to be unmapped first."""
    return state.map_ns + (state.unmap_ns if state.totals[_UNMAPPED] == 0 else 0.0)


@subroutine
def _push(state, slot):
    """Map one more group at the end of a slot; there is one."""
    slots, groups, totals = state.slots, state.groups, state.totals
    if totals[_UNMAPPED] == 0:
        _reclaim(state)
    group = totals[_UNUSED]
    totals[_UNUSED] = groups[group, _AFTER]
    totals[_UNMAPPED] -= 1
    totals[_MAP_CALLS] += state.tensors
    last = slots[slot, _LAST]
    groups[group, _BEFORE] = last
    if last == _NONE:
        slots[slot, _FIRST] = group
    else:
        groups[last, _AFTER] = group
    slots[slot, _LAST] = group
    slots[slot, _MAPPED] += 1


@subroutine
def _settle(state, slot):
    """Bring in line what is said of a slot whose block or groups have changed; queue it where it lacks groups."""
    slots, totals = state.slots, state.totals
    needed = _groups_of(state.group_bytes, state.blocks[slots[slot, _BLOCK], _SIZE])
    wanted, mapped = _wanted(state, slot), slots[slot, _MAPPED]
    ahead = min(mapped, wanted) - needed
    totals[_KEPT_AHEAD] += ahead - slots[slot, _AHEAD]
    slots[slot, _AHEAD] = ahead
    if mapped > wanted:
        add(state.spare, slot)
    else:
        discard(state.spare, slot)
    if mapped < wanted and slots[slot, _QUEUED] == 0:
        slots[slot, _QUEUED] = 1
        if totals[_QUEUE_LENGTH] == 0:
            state.times[_STARTED] = max(state.times[_STARTED], state.times[_NOW])  # whatever the thread was at
        state.queue[(totals[_QUEUE_START] + totals[_QUEUE_LENGTH]) % state.queue.size] = slot
        totals[_QUEUE_LENGTH] += 1


@subroutine
def _map_now(state, slot, groups):
    """Map so many more groups while the caller waits."""
    times, totals = state.times, state.totals
    for _ in range(groups):
        took_ns = _group_ns(state)
        if totals[_QUEUE_LENGTH] > 0 and state.queue[totals[_QUEUE_START]] == slot:
            took_ns = max(0.0, took_ns - (times[_NOW] - times[_STARTED]))
            times[_STARTED] = times[_NOW]
        times[_WAITED] += took_ns
        _push(state, slot)


def allocate(state, block, size_bytes):
    blocks, slots, totals = state.blocks, state.slots, state.totals
    if blocks[block, _SIZE] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    needed = _groups_of(state.group_bytes, size_bytes)
    if needed > _available(state):
        return False
    if not seek(state.idle, needed, 0) and not seek(state.idle, highest_key(state.idle), 0):
        return False
    slot = found(state.idle)
    remove_found(state.idle)
    slots[slot, _BLOCK] = block
    blocks[block, _SIZE], blocks[block, _SLOT] = size_bytes, slot
    totals[_ASKED] += size_bytes
    totals[_NEEDED] += needed
    _map_now(state, slot, needed - slots[slot, _MAPPED])
    _settle(state, slot)
    return True


def resize(state, block, size_bytes):
    blocks, slots, totals = state.blocks, state.slots, state.totals
    if blocks[block, _SIZE] == _NOT_PLACED:
        raise ValueError("the block to resize is not placed")
    if size_bytes < 1:
        raise ValueError("the block to resize has no bytes")
    slot = blocks[block, _SLOT]
    had = _groups_of(state.group_bytes, blocks[block, _SIZE])
    needed = _groups_of(state.group_bytes, size_bytes)
    mapped = slots[slot, _MAPPED]
    own_spare = mapped - had - slots[slot, _AHEAD]
    if needed > mapped and needed - mapped > _available(state) - own_spare:
        return False
    totals[_ASKED] += size_bytes - blocks[block, _SIZE]
    totals[_NEEDED] += needed - had
    blocks[block, _SIZE] = size_bytes
    if needed > mapped:
        discard(state.spare, slot)
        _map_now(state, slot, needed - mapped)
    _settle(state, slot)
    return True


def release(state, block):
    blocks, slots, totals = state.blocks, state.slots, state.totals
    if blocks[block, _SIZE] == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    slot = blocks[block, _SLOT]
    totals[_ASKED] -= blocks[block, _SIZE]
    totals[_NEEDED] -= _groups_of(state.group_bytes, blocks[block, _SIZE])
    totals[_KEPT_AHEAD] -= slots[slot, _AHEAD]
    blocks[block, _SIZE] = _NOT_PLACED
    slots[slot, _BLOCK], slots[slot, _AHEAD] = _NONE, 0
    discard(state.spare, slot)
    while not state.deferred and slots[slot, _MAPPED] > 0:
        _pop(state, slot)
        state.times[_WAITED] += state.unmap_ns
    insert(state.idle, slots[slot, _MAPPED], slot, slot)


@subroutine
def _leave_queue(state):
    """Take the first slot out of the queue."""
    totals = state.totals
    slot = state.queue[totals[_QUEUE_START]]
    state.slots[slot, _QUEUED] = 0
    totals[_QUEUE_START] = (totals[_QUEUE_START] + 1) % state.queue.size
    totals[_QUEUE_LENGTH] -= 1


@subroutine
def _map_ahead(state, now_ns):
    """Map what blocks will need soon, as far as time allows."""
    slots, times = state.slots, state.times
    while state.totals[_QUEUE_LENGTH] > 0:
        slot = state.queue[state.totals[_QUEUE_START]]
        has_block = slots[slot, _BLOCK] != _NONE
        if not has_block or slots[slot, _MAPPED] >= _wanted(state, slot) or _available(state) == 0:
            _leave_queue(state)
            continue
        took_ns = _group_ns(state)
        if times[_STARTED] + took_ns > now_ns:
            return
        times[_STARTED] += took_ns
        _leave_queue(state)
        _push(state, slot)
        _settle(state, slot)


@subroutine
def _seek_eager(state):
    """Go to the idle slot that has the most groups; False where it is to get no more."""
    most = highest_key(state.idle)
    return most < state.eager_groups and state.totals[_UNMAPPED] > 0 and seek(state.idle, most, 0)


@subroutine
def _map_eagerly(state, now_ns):
    """Map groups of the idle slot that has the most already, as far as time allows."""
    times = state.times
    while _seek_eager(state) and times[_STARTED] + state.map_ns <= now_ns:
        most = highest_key(state.idle)
        slot = found(state.idle)
        remove_found(state.idle)
        times[_STARTED] += state.map_ns
        _push(state, slot)
        insert(state.idle, most + 1, slot, slot)


def tick(state, now_ns):
    _map_ahead(state, now_ns)
    if state.totals[_QUEUE_LENGTH] == 0:
        _map_eagerly(state, now_ns)
        if not _seek_eager(state):
            state.times[_STARTED] = now_ns  # it rests
    state.times[_NOW] = now_ns


def free_bytes(state):
    return _available(state) * state.group_bytes


def largest_free_bytes(state):
    return _available(state) * state.group_bytes if seek(state.idle, 0, 0) else 0


def internal_bytes(state):
    return state.totals[_NEEDED] * state.group_bytes - state.totals[_ASKED]


def reserved_bytes(state):
    return state.totals[_KEPT_AHEAD] * state.group_bytes


def held_bytes(state):
    return (state.groups.shape[0] - 1 - state.totals[_UNMAPPED]) * state.group_bytes


def extents(state, block, out):
    group, runs = state.slots[state.blocks[block, _SLOT], _FIRST], 0
    for _ in range(_groups_of(state.group_bytes, state.blocks[block, _SIZE])):
        runs = add_run(out, runs, group * state.group_bytes, state.group_bytes)
        group = state.groups[group, _AFTER]
    return runs


def calls_made(state, which):
    if which == MAPS:
        return state.totals[_MAP_CALLS]
    return state.totals[_UNMAP_CALLS] if which == UNMAPS else np.int64(0)


def waited_ns(state):
    return state.times[_WAITED]


ALLOCATOR = Allocator(
    name="virtual_pages",
    uses=("unit_bytes",),
    init=init,
    allocate=allocate,
    resize=resize,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    reserved_bytes=reserved_bytes,
    held_bytes=held_bytes,
    extents=extents,
    tick=tick,
    calls_made=calls_made,
    waited_ns=waited_ns,
)
