"""Rows of an SSD's memory in lists and on stacks, and bitmaps of sectors."""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined
from sim.nand.state import HEAD, NEXT, NONE, TAIL


@inlined
def append(memory, row, ends):
    """Put a row at the end of the list whose head and tail are at `ends`."""
    memory[row + NEXT] = NONE
    last = memory[ends + TAIL]
    if last == NONE:
        memory[ends + HEAD] = row
    else:
        memory[last + NEXT] = row
    memory[ends + TAIL] = row


@inlined
def pop(memory, ends):
    """Take the first row off a list that is not empty."""
    row = memory[ends + HEAD]
    memory[ends + HEAD] = memory[row + NEXT]
    if memory[ends + HEAD] == NONE:
        memory[ends + TAIL] = NONE
    memory[row + NEXT] = NONE
    return row


@inlined
def take_row(memory, free):
    """A row off a stack of free ones."""
    row = memory[free]
    memory[free] = memory[row + NEXT]
    return row


@inlined
def give_row(memory, free, row):
    memory[row + NEXT] = memory[free]
    memory[free] = row


@inlined
def low_bits(number):
    """A bitmap of so many ones."""
    return (np.int64(1) << number) - 1 if number < 64 else np.int64(-1)


@inlined
def count_bits(bitmap):
    number = 0
    while bitmap != 0:
        bitmap &= bitmap - 1
        number += 1
    return number
