"""FIFO queues over blocks, as rings: several share one state, each block is on at most one of them.

What lies on a queue lies in order, so that a hand passes over it without waiting for memory at each step, as it must
for a linked list; and what a policy knows of a block beyond that is one byte. A block that is taken from the middle
leaves a hole. A ring begins small and is widened as blocks come, so that the memory in use is that of what was on the
queue at once.

Positions on a queue are counted up for ever; a block's place is a number that is its queue's, or what else the policy
means by it from 0 to 15.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, known_natural, subroutine
from sim.kernels.optional_array import set_value, value_at

HEAD, TAIL, WINDOW, HAND, BYTES = range(5)  # columns of `ends`
START = -1  # a hand that has passed the newest block: it goes on with the oldest
_HOLE = np.uint32(0xFFFFFFFF)
_FIRST_WINDOW = 64
_LOW = 0xFFFFFFFF


class Rings(NamedTuple):
    """The queues and what is known of blocks. An entry is in use at positions HEAD to TAIL, modulo WINDOW."""

    ring: np.ndarray  # uint32[queues, entries] block, or a hole
    ends: np.ndarray  # int64[queues, 5] HEAD, TAIL, WINDOW, HAND (a position, or START), BYTES (of what is on it)
    where: np.ndarray  # uint32[blocks] low bits of the position of a block that is on a queue
    info: np.ndarray  # uint8[blocks] place (low 4 bits), counter (high 4 bits)
    sizes: np.ndarray | None  # int64[blocks]; None where every block counts 1


def make_rings(context, queues: int, place: int = 0, by_size: bool = True, capacity: int = 0) -> Rings:
    """`queues` empty queues over the context's blocks, all at `place` with a counter of 0.

    by_size: whether BYTES are counted at all; where they are not, it is blocks. capacity: of the largest queue, where
    it may hold more than the cache.
    """
    blocks = context.blocks
    most = min(max(capacity, context.capacity), blocks)
    entries = max(1 << (2 * most - 1).bit_length(), _FIRST_WINDOW)
    ends = np.zeros((queues, 5), np.int64)
    ends[:, WINDOW], ends[:, HAND] = _FIRST_WINDOW, START
    return Rings(
        ring=np.empty((queues, entries), np.uint32),  # pages that are never written take no memory
        ends=ends,
        where=np.zeros(blocks, np.uint32),
        info=np.full(blocks, place, np.uint8),
        sizes=np.zeros(blocks, np.int64) if by_size and not context.unit_sizes else None,
    )


# --------------------------------------------------------------------------------------------- what is known of a block


@inlined
def place_of(rings, block):
    return np.int64(rings.info[block]) & 15


@inlined
def counter_of(rings, block):
    return np.int64(rings.info[block]) >> 4


@inlined
def set_info(rings, block, place, counter):
    rings.info[block] = place | (counter << 4)


@inlined
def set_place(rings, block, place):
    rings.info[block] = (np.int64(rings.info[block]) & 0xF0) | place


@inlined
def set_counter(rings, block, counter):
    rings.info[block] = (np.int64(rings.info[block]) & 15) | (counter << 4)


@inlined
def size_of(rings, block):
    return value_at(rings.sizes, block, 1)


@inlined
def set_size(rings, block, size_bytes):
    set_value(rings.sizes, block, size_bytes)


# --------------------------------------------------------------------------------------------------------------- queues


@inlined
def bytes_on(rings, queue):
    """Bytes of the blocks on a queue; 0 where it is empty."""
    return rings.ends[queue, BYTES]


@inlined
def push(rings, queue, block):
    """Put a block that is on no queue at the newest end of one; its place and counter are the caller's to set."""
    ends = rings.ends
    if ends[queue, TAIL] - ends[queue, HEAD] == ends[queue, WINDOW]:
        _make_room(rings, queue)
    tail = ends[queue, TAIL]
    rings.ring[queue, known_natural(tail & (ends[queue, WINDOW] - 1))] = block
    rings.where[block] = tail & _LOW
    ends[queue, TAIL] = tail + 1
    ends[queue, BYTES] += size_of(rings, block)


@inlined
def oldest(rings, queue):
    """The block at the oldest end of a queue that is not empty."""
    ends = rings.ends
    head, mask = ends[queue, HEAD], ends[queue, WINDOW] - 1
    block = rings.ring[queue, known_natural(head & mask)]
    if block == _HOLE:
        while block == _HOLE:
            head += 1
            block = rings.ring[queue, known_natural(head & mask)]
        ends[queue, HEAD] = head
    return known_natural(block)


@inlined
def oldest_or_none(rings, queue):
    """The block at the oldest end of a queue, -1 where it is empty."""
    return oldest(rings, queue) if bytes_on(rings, queue) > 0 else np.int64(-1)


@inlined
def take_oldest(rings, queue):
    """Take the oldest block off a queue that is not empty."""
    block = oldest(rings, queue)
    rings.ends[queue, HEAD] += 1
    rings.ends[queue, BYTES] -= size_of(rings, block)
    return block


@inlined
def take(rings, queue, block):
    """Take a block off the queue that it is on."""
    at = np.int64(rings.where[block]) & (rings.ends[queue, WINDOW] - 1)
    rings.ring[queue, known_natural(at)] = _HOLE
    rings.ends[queue, BYTES] -= size_of(rings, block)


@inlined
def move_to_newest(rings, queue, block):
    """Take a block off a queue and put it at its newest end."""
    take(rings, queue, block)
    push(rings, queue, block)


@subroutine
def _make_room(rings, queue):
    """Widen a full ring that is half in use, or close the holes of one that is less."""
    ring, ends = rings.ring, rings.ends
    head, tail, window = ends[queue, HEAD], ends[queue, TAIL], ends[queue, WINDOW]
    held = 0
    for at in range(window):
        held += ring[queue, at] != _HOLE
    if held == ring.shape[1]:
        raise ValueError("more blocks on a queue than its ring was made for")
    if 2 * held > window and window < ring.shape[1]:
        for at in range(head, tail):
            ring[queue, at & (2 * window - 1)] = ring[queue, at & (window - 1)]
        ends[queue, WINDOW] = 2 * window
        return
    to, hand = head, ends[queue, HAND]
    for at in range(head, tail):
        if at == hand:
            ends[queue, HAND] = to  # of this block, or of the next one where it is a hole
        block = ring[queue, at & (window - 1)]
        if block != _HOLE:
            ring[queue, to & (window - 1)] = block
            rings.where[block] = to & _LOW
            to += 1
    ends[queue, TAIL] = to


# ----------------------------------------------------------------------------------------------------------------- hand


@inlined
def hand_at(rings, queue):
    """The position of a hand on a queue that is not empty, at a block."""
    hand = rings.ends[queue, HAND]
    return next_at(rings, queue, rings.ends[queue, HEAD] if hand == START else hand)


@inlined
def next_at(rings, queue, position):
    """The position of the first block from `position` on, going on with the oldest after the newest."""
    ends = rings.ends
    mask = ends[queue, WINDOW] - 1
    if position == ends[queue, TAIL]:
        position = ends[queue, HEAD]
    while rings.ring[queue, known_natural(position & mask)] == _HOLE:
        position += 1
        if position == ends[queue, TAIL]:
            position = ends[queue, HEAD]
    return position


@inlined
def block_at(rings, queue, position):
    return known_natural(rings.ring[queue, known_natural(position & (rings.ends[queue, WINDOW] - 1))])


@inlined
def set_hand_after(rings, queue, position):
    """Let the hand point to the next newer block than the one at `position`; past the newest, it starts over."""
    ends, mask = rings.ends, rings.ends[queue, WINDOW] - 1
    position += 1
    while position < ends[queue, TAIL] and rings.ring[queue, known_natural(position & mask)] == _HOLE:
        position += 1
    ends[queue, HAND] = position if position < ends[queue, TAIL] else START


@inlined
def hand_is_at(rings, queue, block):
    """Whether the hand points to this block of the queue."""
    hand = rings.ends[queue, HAND]
    return hand != START and (hand & _LOW) == np.int64(rings.where[block])
