"""What flash is asked for, page by page: transactions, and how they wait at a unit.

A unit is a die, or a chip whose dies take turns. It keeps a queue for each operation and source, and chains of all that
waits there by the number of the page in its block, from which multi-plane commands are made.
"""

from __future__ import annotations

from sim.kernels.compile import inlined, subroutine
from sim.nand.rows import append, take_row
from sim.nand.state import (
    BEFORE,
    BITMAP,
    BYTES,
    CHAIN_BEFORE,
    CHAIN_MASK,
    CHAIN_NEXT,
    CHAIN_ROWS,
    CHANNEL,
    FLASH_PAGE,
    FREE_TRANSACTION,
    HEAD,
    IS_TOUCHED,
    NEXT,
    NONE,
    OF_REQUEST,
    OP,
    PAGE_OWNER,
    PAGES,
    PAGES_PER_PLANE,
    PLANE,
    PLANES_PER_UNIT,
    QUEUED,
    QUEUES,
    SOURCE,
    TAIL,
    THEN,
    TOUCHED,
    UNIT_ROWS,
    UNIT_WORDS,
)


@inlined
def new_transaction(memory, source, op, request, owner, size_bytes):
    one = take_row(memory, FREE_TRANSACTION)
    memory[one + SOURCE], memory[one + OP], memory[one + OF_REQUEST] = source, op, request
    memory[one + PAGE_OWNER], memory[one + FLASH_PAGE], memory[one + BYTES] = owner, NONE, size_bytes
    memory[one + BITMAP], memory[one + THEN] = 0, NONE
    return one


@inlined
def place(memory, one, page):
    memory[one + FLASH_PAGE] = page
    memory[one + PLANE] = page // memory[PAGES_PER_PLANE]


@subroutine
def enqueue(memory, one):
    """Let a transaction that has its flash page wait for its unit, in a queue and in the chain of its page number."""
    unit = memory[UNIT_ROWS] + memory[one + PLANE] // memory[PLANES_PER_UNIT] * UNIT_WORDS
    ends = unit + QUEUES + 2 * (3 * memory[one + OP] + memory[one + SOURCE])
    memory[one + BEFORE] = memory[ends + TAIL]
    append(memory, one, ends)
    chain = chain_of(memory, one)
    last = memory[chain + TAIL]
    memory[one + CHAIN_BEFORE], memory[one + CHAIN_NEXT] = last, NONE
    memory[chain + HEAD if last == NONE else last + CHAIN_NEXT] = one
    memory[chain + TAIL] = one
    memory[memory[unit + CHANNEL] + QUEUED] += 1
    touch(memory, memory[unit + CHANNEL])


@inlined
def chain_of(memory, one):
    """The chain, of its unit, of what has the same page number or one that is equal to it modulo their count."""
    unit, mask = memory[one + PLANE] // memory[PLANES_PER_UNIT], memory[CHAIN_MASK]
    return memory[CHAIN_ROWS] + 2 * (unit * (mask + 1) + (memory[one + FLASH_PAGE] % memory[PAGES] & mask))


@inlined
def take_out(memory, one, ends, chain):
    """Remove what waits from its queue and from its chain, wherever it stands in them."""
    before, following = memory[one + BEFORE], memory[one + NEXT]
    memory[ends + HEAD if before == NONE else before + NEXT] = following
    memory[ends + TAIL if following == NONE else following + BEFORE] = before
    before, after = memory[one + CHAIN_BEFORE], memory[one + CHAIN_NEXT]
    memory[chain + HEAD if before == NONE else before + CHAIN_NEXT] = after
    memory[chain + TAIL if after == NONE else after + CHAIN_BEFORE] = before
    memory[one + NEXT] = NONE


@inlined
def touch(memory, channel):
    """The channel may have something to do: it is looked at when all else that happens now is done."""
    if memory[channel + IS_TOUCHED] == 0:
        memory[channel + IS_TOUCHED] = 1
        memory[TOUCHED] += 1
