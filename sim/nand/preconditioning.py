"""What a drive went through before it is asked for anything: filled, worn in, overwritten, all of it without time."""

from __future__ import annotations

import numpy as np

from sim.errors import InputError
from sim.kernels.compile import inlined, kernel, subroutine
from sim.kernels.random import below, make_rng
from sim.nand.ftl import (
    begin_collection,
    choose_victim,
    close_block,
    free_victim,
    has_room,
    invalidate,
    map_host_page,
    map_translation_page,
    move_page,
    needs_collection,
    plane_of,
    plane_row,
    take_page,
)
from sim.nand.rows import low_bits
from sim.nand.state import (
    BLOCK_ROWS,
    BLOCKS,
    CLOCK,
    COLLECTED,
    FILL,
    FIRST_PAGE,
    FREE_COUNT,
    FREE_RING,
    HOST,
    HOST_PAGES,
    LOGICAL_PAGES,
    NONE,
    OPEN_HOST,
    PAGES,
    PLANE_ROWS,
    PLANES,
    PREFILLED_SECTORS,
    SECTORS,
    THRESHOLD,
    TRANSLATION,
    TRANSLATION_PAGES,
    TRANSLATION_WRITES,
    NandState,
    rows_of,
)


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


# --- writing without time ---------------------------------------------------------------------------------------------


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
