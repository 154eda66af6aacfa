"""Where a line lies: its slice and its bank. Works on one number in compiled code, and on an array of them."""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined
from sim.kernels.random import following, unit_of

# places of `sim.sram.state.State.rule`, in lines where not in bytes (LINE) or a number of things
SLICES, BANKS, LINE, LINES, UNIT_LINES, HASHED, PARTITIONS, QUEUE, ONE_SIDED = range(9)


@inlined
def home_of(rule, line):
    """The slice of a line, and its bank within that.

    Units of neighbouring lines go to the slices in turn, lines of a slice to its banks in turn. Hashed, each round over
    the slices (each round over the banks) begins at a place of its own: no stride keeps to a few of them, and a round
    still has each exactly once.
    """
    slices, banks, unit_lines = rule[SLICES], rule[BANKS], rule[UNIT_LINES]
    unit = line // unit_lines
    turn = unit // slices
    at = unit % slices
    local = turn * unit_lines + line % unit_lines
    bank = local % banks
    if rule[HASHED]:
        at = (at + _mixed(turn, slices)) % slices
        bank = (bank + _mixed(local // banks, banks)) % banks
    return at, bank


@inlined
def side_of(ticket):
    """Which partition the sender of a request is attached to: one or the other by a hash of the request's number."""
    return _mixed(ticket, 2)


@inlined
def _mixed(number, below):
    """A number from 0 to below - 1 that looks drawn at random."""
    return np.int64(unit_of(following(np.uint64(number) * np.uint64(0xD1342543DE82EF95))) * below)
