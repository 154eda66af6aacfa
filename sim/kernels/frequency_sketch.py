"""How often blocks were accessed of late, roughly: a count-min sketch with counters of 4 bits that is halved every so
many accesses, and a doorkeeper for blocks seen once (Einziger, Friedman and Manes, "TinyLFU", ACM TOS 2017).

A block has a counter in each of four rows; its estimate is the smallest of them, which is never too low. The four lie
in eight words side by side, one cache line, two words a row. A counter stays at 15. The doorkeeper is a Bloom filter of
two bits a block: the first access since the last halving sets its bits and adds to no counter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine

MOST = 15  # a counter's largest value
ROWS = 4
_LINE = 8  # words that hold the counters of a block
_COUNTERS = 16  # of a word
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_HALVED = np.uint64(0x7777777777777777)  # the bits of a word that a shift brought from the same counter
_ONE, _FOUR, _FIFTEEN, _S32 = np.uint64(1), np.uint64(4), np.uint64(15), np.uint64(32)


class Sketch(NamedTuple):
    words: np.ndarray  # uint64[lines * 8]
    door: np.ndarray  # uint64: the doorkeeper's bits; empty where there is none
    added: np.ndarray  # int64[1]: accesses counted since the last halving, and half of those before


def make_sketch(counters: int, doorkeeper: bool) -> Sketch:
    """An empty sketch with at least `counters` counters a row."""
    per_line = _LINE // ROWS * _COUNTERS
    lines = 1 << max(-(-counters // per_line) - 1, 0).bit_length()
    bits = lines * per_line * 8 if doorkeeper else 0
    return Sketch(np.zeros(lines * _LINE, np.uint64), np.zeros(bits // 64, np.uint64), np.zeros(1, np.int64))


@inlined
def _hash(block):
    spread = np.uint64(block + 1) * _MULTIPLIER
    return (spread ^ (spread >> _S32)) * _MIX


@inlined
def _line_of(sketch, spread):
    return np.int64(spread >> _S32) & (sketch.words.size // _LINE - 1)


@inlined
def _word_and_shift(line, spread, row):
    """Where a block's counter of a row is: 5 bits of the hash a row choose one of two words and of 16 counters."""
    choice = np.int64(spread >> np.uint64(5 * row)) & 31
    return line * _LINE + 2 * row + (choice & 1), np.uint64((choice >> 1) * 4)


@inlined
def _door_bits(sketch, spread):
    """The block's two bits in the doorkeeper; they lie in one word."""
    word = np.int64(spread >> np.uint64(20)) & (sketch.door.size - 1)
    return word, (_ONE << (spread & np.uint64(63))) | (_ONE << ((spread >> np.uint64(6)) & np.uint64(63)))


@inlined
def estimate(sketch, block):
    """How often the block was accessed of late, at most 15, or 16 with a doorkeeper."""
    spread = _hash(block)
    line = _line_of(sketch, spread)
    least = MOST
    for row in range(ROWS):
        word, shift = _word_and_shift(line, spread, row)
        least = min(least, np.int64((sketch.words[word] >> shift) & _FIFTEEN))
    if sketch.door.size:
        word, bits = _door_bits(sketch, spread)
        least += 1 if sketch.door[word] & bits == bits else 0
    return least


@inlined
def count_access(sketch, block, period):
    """Note an access; after `period` of them all counters are halved and the doorkeeper is emptied."""
    spread = _hash(block)
    known = True
    if sketch.door.size:
        word, bits = _door_bits(sketch, spread)
        known = sketch.door[word] & bits == bits
        sketch.door[word] |= bits
    if known:
        line = _line_of(sketch, spread)
        for row in range(ROWS):
            word, shift = _word_and_shift(line, spread, row)
            full = (sketch.words[word] >> shift) & _FIFTEEN == _FIFTEEN
            sketch.words[word] += np.uint64(0) if full else _ONE << shift
    sketch.added[0] += 1
    if sketch.added[0] >= period:
        _halve(sketch.words, sketch.door, sketch.added)


@subroutine
def _halve(words, door, added):
    for word in range(words.size):
        words[word] = (words[word] >> _ONE) & _HALVED
    for word in range(door.size):
        door[word] = np.uint64(0)
    added[0] >>= 1
