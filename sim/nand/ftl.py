"""The steps of a page-level flash translation layer, without time.

`sim.nand.mapping` puts reads, programs and erases between these steps; `sim.nand.preconditioning` runs them on their
own. Logical pages belong to planes for good (static allocation, in an order such as CWDP); within its plane a page goes
wherever the plane is writing. Each plane writes three blocks at a time: data of the host, data that garbage collection
moves, and translation pages. Freed blocks are used again in the order in which they were erased, unless wear is
levelled: then the least worn one is next.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.nand.state import (
    BLOCK_ROWS,
    BLOCK_WORDS,
    BLOCKS,
    CLOCK,
    CLOSED_AT,
    COLLECTED,
    COLLECTING,
    COLLECTIONS,
    ERASE_COUNT,
    ERASES,
    FILL,
    FIRST_PAGE,
    FREE,
    FREE_COUNT,
    FREE_HEAD,
    FREE_RING,
    FULL,
    GREEDY,
    HOST,
    HOST_PAGES,
    MOST_ERASES,
    MOVED_PAGES,
    NONE,
    OPEN,
    OPEN_HOST,
    PAGES,
    PLANE_ROWS,
    PLANES,
    POLICY,
    STATE,
    STATIC,
    STORED_AT,
    STRIDE,
    THRESHOLD,
    TRANSLATION,
    TRANSLATION_ROWS,
    TRANSLATION_WORDS,
    TRANSLATION_WRITES,
    VALID,
    VICTIM,
    WEAR_GAP,
    WEAR_LEVELLING,
    NandState,
    rows_of,
)


def write_amplification(state: NandState) -> float:
    """Flash pages programmed for each that the host wrote, since the device was made or preconditioned."""
    memory = state.memory
    programmed = memory[HOST_PAGES] + memory[MOVED_PAGES] + memory[TRANSLATION_WRITES]
    return float(programmed / max(1, memory[HOST_PAGES]))


def erase_counts(state: NandState) -> np.ndarray:
    """int64[planes, blocks of a plane] how often each block was erased."""
    memory = state.memory
    return rows_of(state, BLOCK_ROWS)[:, ERASE_COUNT].reshape(memory[PLANES], memory[BLOCKS])


# --- steps -----------------------------------------------------------------------------------------------------------


@inlined
def plane_of(memory, page):
    """The plane, as a row, of a logical or translation page."""
    plane = 0
    for at in range(STRIDE, STRIDE + 12, 3):
        plane += page // memory[at] % memory[at + 1] * memory[at + 2]
    return plane_row(memory, plane)


@inlined
def plane_row(memory, number):
    return memory[PLANE_ROWS] + number * (FREE_RING + memory[BLOCKS])


@inlined
def block_of(memory, page):
    """The block, as a row, of a flash page."""
    return memory[BLOCK_ROWS] + page // memory[PAGES] * BLOCK_WORDS


@subroutine
def open_block(memory, plane, stream):
    """Give the plane a free block to write to, if it may have one: the last is kept for garbage collection."""
    kept = 0 if stream == COLLECTED else 1
    if memory[plane + FREE_COUNT] <= kept:
        memory[plane + OPEN_HOST + stream] = NONE
        return
    head = memory[plane + FREE_HEAD]
    if memory[WEAR_LEVELLING]:
        _bring_forward(memory, plane, memory[WEAR_LEVELLING] == STATIC and stream == COLLECTED)
    block = memory[plane + FREE_RING + head]
    memory[plane + FREE_HEAD] = head + 1 if head + 1 < memory[BLOCKS] else 0
    memory[plane + FREE_COUNT] -= 1
    memory[plane + OPEN_HOST + stream] = block
    memory[block + STATE] = OPEN


@inlined
def _bring_forward(memory, plane, most_worn):
    """Let the free block with the most, or the fewest, erases be the next one, of equal ones the first."""
    ring, blocks = plane + FREE_RING, memory[BLOCKS]
    head = memory[plane + FREE_HEAD]
    best = head
    for i in range(1, memory[plane + FREE_COUNT]):
        at = (head + i) % blocks
        more = memory[memory[ring + at] + ERASE_COUNT] - memory[memory[ring + best] + ERASE_COUNT]
        if (more if most_worn else -more) > 0:
            best = at
    memory[ring + head], memory[ring + best] = memory[ring + best], memory[ring + head]


@inlined
def has_room(memory, plane, stream):
    """Whether the plane has an erased page to write to."""
    if memory[plane + OPEN_HOST + stream] == NONE:
        open_block(memory, plane, stream)
    return memory[plane + OPEN_HOST + stream] != NONE


@inlined
def take_page(memory, owners, plane, stream, owner):
    """The next erased page of the plane, which has room, now valid data of `owner`."""
    block = memory[plane + OPEN_HOST + stream]
    page = memory[block + FIRST_PAGE] + memory[block + FILL]
    owners[page] = owner
    memory[block + VALID] += 1
    memory[block + FILL] += 1
    if memory[block + FILL] == memory[PAGES]:
        close_block(memory, plane, stream)
    return page


@inlined
def close_block(memory, plane, stream):
    block = memory[plane + OPEN_HOST + stream]
    memory[CLOCK] += 1
    memory[block + STATE] = FULL
    memory[block + CLOSED_AT] = memory[CLOCK]
    open_block(memory, plane, stream)


@inlined
def invalidate(memory, owners, page):
    owners[page] = 0
    memory[block_of(memory, page) + VALID] -= 1


@subroutine
def map_host_page(memory, location, owners, logical, plane):
    """A new flash page for a logical page that is written; the old one becomes invalid."""
    old = np.int64(location[logical])
    if old:
        invalidate(memory, owners, old - 1)
    page = take_page(memory, owners, plane, HOST, logical + 1)
    location[logical] = page + 1
    memory[HOST_PAGES] += 1
    return page


@subroutine
def map_translation_page(memory, owners, number, plane):
    """Likewise for a translation page."""
    row = translation_row(memory, number)
    if memory[row + STORED_AT] != NONE:
        invalidate(memory, owners, memory[row + STORED_AT])
    page = take_page(memory, owners, plane, TRANSLATION, -(number + 1))
    memory[row + STORED_AT] = page
    memory[TRANSLATION_WRITES] += 1
    return page


@inlined
def translation_row(memory, number):
    return memory[TRANSLATION_ROWS] + number * TRANSLATION_WORDS


@subroutine
def move_page(memory, location, owners, page, plane):
    """A new place in the plane for a valid page; its tables follow."""
    owner = np.int64(owners[page])
    invalidate(memory, owners, page)
    new = take_page(memory, owners, plane, COLLECTED, owner)
    if owner > 0:
        location[owner - 1] = new + 1
    else:
        memory[translation_row(memory, -owner - 1) + STORED_AT] = new
    memory[MOVED_PAGES] += 1
    return new


@inlined
def needs_collection(memory, plane):
    return memory[plane + FREE_COUNT] < memory[THRESHOLD] and memory[plane + COLLECTING] == NONE


@subroutine
def choose_victim(memory, plane):
    """The full block to collect, as a row, NONE where every page of every one is valid.

    With static wear levelling, one that was erased far less often than the plane's most worn block goes first.
    Greedy: with the fewest valid pages. Cost-benefit: with the largest age (1 - u) / 2u, where u is the share of valid
    pages and age is counted in blocks filled since (Kawaguchi et al., A Flash-Memory Based File System, USENIX 1995).
    """
    pages = memory[PAGES]
    low = (
        memory[BLOCK_ROWS] + (plane - memory[PLANE_ROWS]) // (FREE_RING + memory[BLOCKS]) * memory[BLOCKS] * BLOCK_WORDS
    )
    if memory[WEAR_LEVELLING] == STATIC:
        least_worn = _least_worn(memory, low)
        if least_worn != NONE and memory[plane + MOST_ERASES] - memory[least_worn + ERASE_COUNT] > memory[WEAR_GAP]:
            return least_worn
    best, fewest, most = np.int64(NONE), pages, 0.0
    for block in range(low, low + memory[BLOCKS] * BLOCK_WORDS, BLOCK_WORDS):
        valid = memory[block + VALID]
        if memory[block + STATE] != FULL or valid == pages:
            continue
        if memory[POLICY] == GREEDY:
            if valid < fewest:
                best, fewest = block, valid
        else:
            age = memory[CLOCK] - memory[block + CLOSED_AT] + 1
            benefit = age * np.float64(pages - valid) / (2 * valid) if valid else np.inf
            if benefit > most:
                best, most = block, benefit
    return best


@inlined
def _least_worn(memory, low):
    """The full block with the fewest erases of the plane whose blocks begin at `low`."""
    best = np.int64(NONE)
    for block in range(low, low + memory[BLOCKS] * BLOCK_WORDS, BLOCK_WORDS):
        if memory[block + STATE] == FULL and (best == NONE or memory[block + ERASE_COUNT] < memory[best + ERASE_COUNT]):
            best = np.int64(block)
    return best


@inlined
def begin_collection(memory, plane, block):
    memory[block + STATE] = VICTIM
    memory[plane + COLLECTING] = block
    memory[COLLECTIONS] += 1


@subroutine
def free_victim(memory, plane):
    """The block that the plane collects, of which no page is valid any more, has been erased."""
    block = memory[plane + COLLECTING]
    memory[block + FILL] = 0
    memory[block + STATE] = FREE
    memory[block + ERASE_COUNT] += 1
    memory[plane + MOST_ERASES] = max(memory[plane + MOST_ERASES], memory[block + ERASE_COUNT])
    tail = (memory[plane + FREE_HEAD] + memory[plane + FREE_COUNT]) % memory[BLOCKS]
    memory[plane + FREE_RING + tail] = block
    memory[plane + FREE_COUNT] += 1
    memory[plane + COLLECTING] = NONE
    memory[ERASES] += 1
