"""The steps of a page-level flash translation layer, without time, and how to precondition a device with them.

`sim.nand.mapping` puts reads, programs and erases between these steps; `overwrite_untimed` runs them on their
own. Logical pages belong to planes for good (static allocation, in an order such as CWDP); within its plane a page goes
wherever the plane is writing. Each plane writes three blocks at a time: data of the host, data that garbage collection
moves, and translation pages. Freed blocks are used again in the order in which they were erased, unless wear is
levelled: then the least worn one is next.
"""

from __future__ import annotations

import numpy as np

from sim.errors import InputError
from sim.kernels.compile import inlined, kernel, subroutine
from sim.kernels.random import below, make_rng
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
    LOGICAL_PAGES,
    MOST_ERASES,
    MOVED_PAGES,
    NONE,
    OPEN,
    OPEN_HOST,
    PAGES,
    PLANE_ROWS,
    PLANES,
    POLICY,
    PREFILLED_SECTORS,
    SECTORS,
    STATE,
    STATIC,
    STORED_AT,
    STRIDE,
    THRESHOLD,
    TRANSLATION,
    TRANSLATION_PAGES,
    TRANSLATION_ROWS,
    TRANSLATION_WORDS,
    TRANSLATION_WRITES,
    VALID,
    VICTIM,
    WEAR_GAP,
    WEAR_LEVELLING,
    NandState,
    low_bits,
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


@subroutine
def _collect_untimed(memory, location, owners, plane):
    """Collect until the plane has enough free blocks, or nothing is left to gain."""
    while needs_collection(memory, plane):
        victim = choose_victim(memory, plane)
        if victim == NONE:
            break
        begin_collection(memory, plane, victim)
        first = memory[victim + FIRST_PAGE]
        for page in range(first, first + memory[PAGES]):
            if owners[page] and has_room(memory, plane, COLLECTED):
                move_page(memory, location, owners, page, plane)
        free_victim(memory, plane)


@kernel
def _overwrite(memory, location, owners, pages, hot, to_hot, writes, rng):
    for _ in range(writes):
        if hot == pages:
            logical = below(rng, pages)
        elif below(rng, 1 << 30) < to_hot:
            logical = below(rng, hot)
        else:
            logical = hot + below(rng, pages - hot)
        plane = plane_of(memory, logical)
        _collect_untimed(memory, location, owners, plane)
        if has_room(memory, plane, HOST):
            map_host_page(memory, location, owners, logical, plane)


def overwrite_untimed(
    state: NandState, writes: int, occupancy: float = 1.0, seed: int = 0, hot: float = 1.0, to_hot: float = 1.0
) -> None:
    """Write whole pages drawn from the first `occupancy` of the logical ones, collecting garbage at once.

    Uniformly, or the share `to_hot` of the writes from the first `hot` of those pages and the others from the rest.
    """
    pages = round(occupancy * int(state.memory[LOGICAL_PAGES]))
    drawn = round(hot * pages), round(to_hot * (1 << 30))
    _overwrite(state.memory, state.location, state.owner, pages, *drawn, writes, make_rng(seed))


# --- preconditioning -------------------------------------------------------------------------------------------------


def fill(state: NandState, occupancy: float = 1.0, sectors: int | None = None) -> None:
    """Write the first `occupancy` of the logical pages once, in order, and store the whole translation table.

    sectors: how many sectors of each page are written, from its first on (all); a later write of others has to read
    them first. Raises InputError where the share is not one, or the device is not brand-new.
    """
    _check_fill(state, occupancy, sectors)
    logical = round(occupancy * int(state.memory[LOGICAL_PAGES]))
    _fill_in_order(state.memory, state.location, state.owner, logical)
    _forget_past(state)


def fill_steady(state: NandState, occupancy: float = 1.0, seed: int = 0, sectors: int | None = None) -> None:
    """The state after uniform random writes to the first `occupancy` of the logical pages have gone on for long.

    Blocks then are of all ages, and a page written when its block was filled is still valid with the probability that
    it was not drawn since: the k-th oldest of n blocks has a share exp(-(n - k) (1 - v) / (rho n)) of valid pages,
    where rho is the share of the pages of those blocks that hold data and v = exp(-(1 - v) / rho), that of the oldest,
    is what collection will find (Desnoyers, Analytic Modeling of SSD Write Performance, SYSTOR 2012). Which pages those
    are is drawn; collection starts with the next block. Raises InputError as `fill`.
    """
    _check_fill(state, occupancy, sectors)
    memory = state.memory
    logical = round(occupancy * int(memory[LOGICAL_PAGES]))
    planes = int(memory[PLANES])
    of_plane, count = np.zeros((planes, -(-logical // planes)), np.int32), np.zeros(planes, np.int64)
    _fill_aged(memory, state.location, state.owner, logical, make_rng(seed), of_plane, count)
    _forget_past(state)


def _check_fill(state: NandState, occupancy: float, sectors: int | None) -> None:
    memory = state.memory
    most = int(memory[SECTORS])
    if not 0 < occupancy <= 1:
        raise InputError("occupancy of", value=occupancy, expected="a share above 0 and up to 1")
    if sectors is not None and not 1 <= sectors <= most:
        raise InputError("sectors of", value=sectors, expected=f"1 to {most}")
    if memory[CLOCK] or rows_of(state, BLOCK_ROWS)[:, FILL].any():
        raise InputError("the device is not brand-new: it cannot be preconditioned")
    memory[PREFILLED_SECTORS] = low_bits(sectors or most)


def _forget_past(state: NandState) -> None:
    state.memory[[HOST_PAGES, TRANSLATION_WRITES]] = 0


@inlined
def _store_translation(memory, owners):
    for number in range(memory[TRANSLATION_PAGES]):
        plane = plane_of(memory, number)
        if has_room(memory, plane, TRANSLATION):
            map_translation_page(memory, owners, number, plane)


@kernel
def _fill_in_order(memory, location, owners, logical):
    _store_translation(memory, owners)
    for page in range(logical):
        plane = plane_of(memory, page)
        if has_room(memory, plane, HOST):
            map_host_page(memory, location, owners, page, plane)
    for number in range(memory[PLANES]):  # what is left of the last blocks stays unused: writing goes on in erased ones
        plane = plane_row(memory, number)
        block = memory[plane + OPEN_HOST]
        if block != NONE and memory[block + FILL] > 0:
            memory[block + FILL] = memory[PAGES]
            close_block(memory, plane, HOST)


@kernel
def _fill_aged(memory, location, owners, logical, rng, of_plane, count):
    _store_translation(memory, owners)
    words = FREE_RING + memory[BLOCKS]
    for page in range(logical):
        number = (plane_of(memory, page) - memory[PLANE_ROWS]) // words
        of_plane[number, count[number]] = page
        count[number] += 1
    pages = memory[PAGES]
    for number in range(memory[PLANES]):
        plane = plane_row(memory, number)
        for i in range(count[number] - 1, 0, -1):
            other = below(rng, i + 1)
            of_plane[number, i], of_plane[number, other] = of_plane[number, other], of_plane[number, i]
        has_room(memory, plane, HOST)
        blocks = memory[plane + FREE_COUNT] - memory[THRESHOLD] + 1
        rho = np.float64(count[number]) / (blocks * pages)
        share = 0.0
        for _ in range(200):
            share = np.exp(-(1 - share) / rho)
        placed, wanted = np.int64(0), 0.0
        for k in range(blocks):
            wanted += pages * np.exp(-(blocks - k) * (1 - share) / (rho * blocks))
            left, room_after = count[number] - placed, (blocks - 1 - k) * pages
            valid = min(left, pages, max(left - room_after, np.int64(wanted + 0.5) - placed))
            _fill_block(memory, location, owners, plane, valid, of_plane[number], placed, rng)
            placed += valid


@inlined
def _fill_block(memory, location, owners, plane, valid, logical, first, rng):
    """Fill the open block: `valid` pages, drawn from all of its pages, hold logical[first:], the others are invalid."""
    pages, left = memory[PAGES], valid
    for place in range(pages):
        page = take_page(memory, owners, plane, HOST, 1)
        if below(rng, pages - place) < left:
            owner = np.int64(logical[first + valid - left])
            owners[page] = owner + 1
            location[owner] = page + 1
            left -= 1
        else:
            invalidate(memory, owners, page)
