"""TLSF, two-level segregated fit: free blocks in lists by size, found by two bitmaps in constant time.

Masmano, Ripoll, Crespo and Real 2004 ("TLSF: a new dynamic memory allocator for real-time systems", ECRTS). The first
level divides sizes by powers of two, the second each of these into 2 to the `second_level_bits` equal parts. A request
is rounded up to the next list, so that any block of a list that is not empty will do, and takes the block put there
last from the first such list (good fit): one that is just large enough, but in the list below, is passed by. What is
left over becomes a free block, unless it is below `smallest_bytes`. A released block is merged with free neighbours at
once, by boundary tags. Sizes of fewer than 2 to the `second_level_bits` alignments have a list each, as in the authors'
later versions and Conte's.

Defaults are those of Conte's implementation on 64-bit machines (github.com/mattconte/tlsf): 32 lists a level, 8 bytes
of alignment, 8 of header in front of each object (its length and two flags; the pointer to the block below lies in
that block's unused end), and no block below 32, which a free block's header and links need. Headers are metadata. The
array of lists and the bitmaps lie outside of the managed memory: 8 bytes a list, 4 a bitmap.

Allocating and releasing take O(1). The capacity is rounded down to the alignment; allocated + free + tail = capacity.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation._places import one_run
from sim.kernels.bits import highest_bit, lowest_bit
from sim.kernels.compile import subroutine
from sim.policy import Allocator

_ADDRESS, _BYTES, _LOWER, _UPPER, _NEWER, _OLDER = range(6)
_ASKED = 4  # of an object, where a free block has its link to the newer one of its list
_FREE, _INTERNAL, _PLACED, _SPARE, _UNUSED = range(5)
_NONE = -1
_NOT_PLACED = 0
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE, _ZERO = np.uint64(1), np.uint64(0)
_POINTER_BYTES, _BITMAP_BYTES = 8, 4


class State(NamedTuple):
    nodes: np.ndarray  # int64[nodes, 6]: objects by number, then the node that closes the list, then free blocks
    heads: np.ndarray  # int64[lists]: the free block put there last
    maps: np.ndarray  # uint64[levels + 1]: which lists of each level are not empty; then which levels are not
    totals: np.ndarray  # see below
    end: int  # number of the node that closes the list
    second_level_bits: int
    alignment_bytes: int
    header_bytes: int
    smallest_bytes: int

    @property
    def address(self) -> np.ndarray:
        """Where the bytes of each object are, -1 where it is not placed."""
        objects = self.nodes[: self.end]
        return np.where(objects[:, _ASKED] == _NOT_PLACED, -1, objects[:, _ADDRESS] + self.header_bytes)


# `totals`: free bytes; bytes allocated beyond headers and what was asked for; objects placed; number of the free block
# that was merged away last, and of the first one never used.


def init(context, *, second_level_bits=5, alignment_bytes=8, header_bytes=8, smallest_bytes=32):
    if not 1 <= second_level_bits <= 6:
        raise ValueError(f"second_level_bits is {second_level_bits}; expected 1 to 6")
    if alignment_bytes < 1:
        raise ValueError(f"alignment_bytes is {alignment_bytes}; expected a positive whole number")
    if header_bytes < 0:
        raise ValueError(f"header_bytes is {header_bytes}; expected a whole number from 0 on")
    if smallest_bytes < 1 or smallest_bytes % alignment_bytes:
        raise ValueError(f"smallest_bytes is {smallest_bytes}; expected a multiple of {alignment_bytes}")
    units = context.capacity // alignment_bytes
    levels = max(1, units.bit_length() - second_level_bits + 1)
    free = min(context.blocks, context.capacity // smallest_bytes) + 1  # between two free blocks lies an object
    end = context.blocks
    state = State(
        nodes=np.zeros((end + 1 + free, 6), np.int64),
        heads=np.full(levels << second_level_bits, _NONE),
        maps=np.zeros(levels + 1, np.uint64),
        totals=np.array([0, 0, 0, _NONE, end + 1]),
        end=end,
        second_level_bits=second_level_bits,
        alignment_bytes=alignment_bytes,
        header_bytes=header_bytes,
        smallest_bytes=smallest_bytes,
    )
    state.nodes[end] = (context.capacity, 0, end, end, 0, 0)
    if units * alignment_bytes >= smallest_bytes:
        state.totals[_FREE] = units * alignment_bytes
        _add_free(state, 0, units * alignment_bytes, end, end)
    return state


@subroutine
def _list_of(state, size_bytes):
    """Number of the list of blocks of that size, level after level."""
    units, bits = size_bytes // state.alignment_bytes, state.second_level_bits
    shift = max(0, highest_bit(np.uint64(units | 1)) - bits)
    return (shift << bits) + (units >> shift)


@subroutine
def _first_list(state, size_bytes):
    """The first list that is not empty and all of whose blocks hold so many bytes, _NONE where there is none."""
    units, bits = size_bytes // state.alignment_bytes, state.second_level_bits
    shift = max(0, highest_bit(np.uint64(units | 1)) - bits)
    number = _list_of(state, (units + (1 << shift) - 1) * state.alignment_bytes)
    level, levels = number >> bits, state.maps.size - 1
    if level >= levels:
        return _NONE
    lists = state.maps[level] & (_ALL << np.uint64(number & ((1 << bits) - 1)))
    if lists == _ZERO:
        above = state.maps[levels] & (_ALL << np.uint64(level)) & ~(_ONE << np.uint64(level))
        if above == _ZERO:
            return _NONE
        level = lowest_bit(above)
        lists = state.maps[level]
    return (level << bits) + lowest_bit(lists)


@subroutine
def _push(state, free):
    """Put a free block at the head of its list."""
    nodes, number = state.nodes, _list_of(state, state.nodes[free, _BYTES])
    older = state.heads[number]
    nodes[free, _NEWER], nodes[free, _OLDER] = _NONE, older
    if older != _NONE:
        nodes[older, _NEWER] = free
    state.heads[number] = free
    level = number >> state.second_level_bits
    state.maps[level] |= _ONE << np.uint64(number & ((1 << state.second_level_bits) - 1))
    state.maps[state.maps.size - 1] |= _ONE << np.uint64(level)


@subroutine
def _pull(state, free):
    """Take a free block off its list."""
    nodes, newer, older = state.nodes, state.nodes[free, _NEWER], state.nodes[free, _OLDER]
    if older != _NONE:
        nodes[older, _NEWER] = newer
    if newer != _NONE:
        nodes[newer, _OLDER] = older
        return
    number = _list_of(state, nodes[free, _BYTES])
    state.heads[number] = older
    if older != _NONE:
        return
    level = number >> state.second_level_bits
    state.maps[level] &= ~(_ONE << np.uint64(number & ((1 << state.second_level_bits) - 1)))
    if state.maps[level] == _ZERO:
        state.maps[state.maps.size - 1] &= ~(_ONE << np.uint64(level))


@subroutine
def _relink(nodes, node, lower, upper):
    nodes[node, _LOWER], nodes[node, _UPPER] = lower, upper
    nodes[lower, _UPPER] = node
    nodes[upper, _LOWER] = node


@subroutine
def _add_free(state, address, size_bytes, lower, upper):
    nodes, totals = state.nodes, state.totals
    free = totals[_SPARE]
    if free == _NONE:
        free = totals[_UNUSED]
        totals[_UNUSED] += 1
    else:
        totals[_SPARE] = nodes[free, _OLDER]
    nodes[free, _ADDRESS], nodes[free, _BYTES] = address, size_bytes
    _relink(nodes, free, lower, upper)
    _push(state, free)


@subroutine
def _drop_free(state, free):
    """A free block whose bytes are another's now; its number is on a list of such."""
    _pull(state, free)
    state.nodes[free, _OLDER] = state.totals[_SPARE]
    state.totals[_SPARE] = free


def allocate(state, block, size_bytes):
    nodes, totals, alignment = state.nodes, state.totals, state.alignment_bytes
    if nodes[block, _ASKED] != _NOT_PLACED:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    taken = max(state.smallest_bytes, (size_bytes + state.header_bytes + alignment - 1) // alignment * alignment)
    number = _first_list(state, taken)
    if number == _NONE:
        return False
    free = state.heads[number]
    address, had, lower, upper = nodes[free, _ADDRESS], nodes[free, _BYTES], nodes[free, _LOWER], nodes[free, _UPPER]
    _drop_free(state, free)
    _relink(nodes, block, lower, upper)
    if had - taken >= state.smallest_bytes:
        _add_free(state, address + taken, had - taken, block, upper)
    else:
        taken = had
    nodes[block, _ADDRESS], nodes[block, _BYTES], nodes[block, _ASKED] = address, taken, size_bytes
    totals[_FREE] -= taken
    totals[_INTERNAL] += taken - state.header_bytes - size_bytes
    totals[_PLACED] += 1
    return True


def release(state, block):
    nodes, totals, end = state.nodes, state.totals, state.end
    if nodes[block, _ASKED] == _NOT_PLACED:
        raise ValueError("the block to release is not placed")
    address, size_bytes = nodes[block, _ADDRESS], nodes[block, _BYTES]
    totals[_FREE] += size_bytes
    totals[_INTERNAL] -= size_bytes - state.header_bytes - nodes[block, _ASKED]
    totals[_PLACED] -= 1
    nodes[block, _ASKED] = _NOT_PLACED
    lower, upper = nodes[block, _LOWER], nodes[block, _UPPER]
    if lower > end:
        address = nodes[lower, _ADDRESS]
        size_bytes += nodes[lower, _BYTES]
        _drop_free(state, lower)
        lower = nodes[lower, _LOWER]
    if upper > end:
        size_bytes += nodes[upper, _BYTES]
        _drop_free(state, upper)
        upper = nodes[upper, _UPPER]
    _add_free(state, address, size_bytes, lower, upper)


def free_bytes(state):
    return state.totals[_FREE]


def largest_free_bytes(state):
    bits, levels = state.second_level_bits, state.maps.size - 1
    if state.maps[levels] == _ZERO:
        return 0
    level = highest_bit(state.maps[levels])
    within = highest_bit(state.maps[level])
    units = within if level == 0 else ((1 << bits) + within) << (level - 1)  # the smallest block of that list
    return max(0, units * state.alignment_bytes - state.header_bytes)


def internal_bytes(state):
    return state.totals[_INTERNAL]


def metadata_bytes(state):
    return state.totals[_PLACED] * state.header_bytes


def outside_bytes(state):
    return state.heads.size * _POINTER_BYTES + state.maps.size * _BITMAP_BYTES


def extents(state, block, out):
    header = state.header_bytes
    return one_run(out, state.nodes[block, _ADDRESS] + header, state.nodes[block, _BYTES] - header)


ALLOCATOR = Allocator(
    name="tlsf",
    init=init,
    allocate=allocate,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    metadata_bytes=metadata_bytes,
    outside_bytes=outside_bytes,
    extents=extents,
)
