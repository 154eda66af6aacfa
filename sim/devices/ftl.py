"""A page-level flash translation layer: where each logical page is, which blocks are free, what to collect.

Nothing here takes time: `sim.devices.nand_flash` puts reads, programs and erases between these steps, and
`write_untimed` runs the same steps on their own. Logical pages belong to planes for good (static allocation, in an order
such as CWDP); within its plane a page goes wherever the plane is writing. Each plane writes three blocks at a time: data of the
host, data that garbage collection moves, and translation pages (hot, cold and mapping data apart). Freed blocks are
used again in the order in which they were erased, which wears them evenly within a plane.

A flash page is valid as long as `owner` says whose it is, so the two tables check each other:
location[l] = p + 1 if and only if owner[p] = l + 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.devices.nand_parameters import NandParameters
from sim.errors import InputError
from sim.kernels.compile import inlined, kernel, subroutine
from sim.kernels.random import below, make_rng

HOST, COLLECTED, TRANSLATION = range(3)  # what an open block holds
FREE, OPEN, FULL, VICTIM = range(4)  # what a block is
GREEDY, COST_BENEFIT = range(2)
NONE = -1

# shape
(
    PLANES,
    BLOCKS,
    PAGES,
    LOGICAL_PAGES,
    SECTORS,
    ENTRIES,
    TRANSLATION_PAGES,
    THRESHOLD,
    HARD_THRESHOLD,
    POLICY,
    PREFILLED_SECTORS,
    _SHAPE,
) = range(12)
# tally
HOST_PAGES, MOVED_PAGES, TRANSLATION_WRITES, ERASES, COLLECTIONS, CLOCK, _TALLY = range(7)
# plane
FREE_HEAD, FREE_COUNT, OPEN_HOST, OPEN_COLLECTED, OPEN_TRANSLATION, COLLECTING, TO_MOVE, _PLANE = range(8)
# block
VALID, FILL, STATE, ERASE_COUNT, CLOSED_AT, _BLOCK = range(6)


class Ftl(NamedTuple):
    """Tables of one device. Pages of a plane are numbered consecutively, block by block."""

    shape: np.ndarray  # int64[_SHAPE]
    stride: np.ndarray  # int64[4, 3] of channel, chip, die, plane: (divisor, modulus) of a page number, planes below it
    location: np.ndarray  # int32[logical pages] flash page + 1, 0 where never written
    owner: np.ndarray  # int32[flash pages] logical page + 1, -(translation page + 1), 0 where free or invalid
    sectors: np.ndarray  # int[logical pages] bitmap of the sectors that were written, 0 where the page is as prefilled
    translation: np.ndarray  # int32[translation pages] flash page + 1, 0 where never written
    block: np.ndarray  # int32[blocks, _BLOCK]
    plane: np.ndarray  # int32[planes, _PLANE]
    free: np.ndarray  # int32[planes, blocks of a plane] a ring: its free blocks, the one freed first at FREE_HEAD
    tally: np.ndarray  # int64[_TALLY]


def make_ftl(parameters: NandParameters) -> Ftl:
    """Tables of a brand-new device: every block is erased, no page is mapped."""
    p = parameters
    shape = np.zeros(_SHAPE, np.int64)
    shape[PLANES], shape[BLOCKS], shape[PAGES] = p.planes, p.blocks_per_plane, p.pages_per_block
    shape[LOGICAL_PAGES], shape[SECTORS] = p.logical_pages, p.sectors_per_page
    shape[ENTRIES] = p.entries_per_translation_page
    shape[TRANSLATION_PAGES] = 0 if p.mapping_cache_bytes is None else p.translation_pages  # 0: all in DRAM
    shape[THRESHOLD] = p.gc_threshold_blocks
    shape[HARD_THRESHOLD] = max(1, int(p.gc_hard_threshold * p.blocks_per_plane))
    shape[POLICY] = {"greedy": GREEDY, "cost_benefit": COST_BENEFIT}[p.gc_policy]
    plane = np.full((p.planes, _PLANE), NONE, np.int32)
    plane[:, [FREE_HEAD, TO_MOVE]] = 0
    plane[:, FREE_COUNT] = p.blocks_per_plane
    bits = next(bits for bits in (8, 16, 32, 64) if p.sectors_per_page <= bits)
    ftl = Ftl(
        shape=shape,
        stride=_strides(p),
        location=np.zeros(p.logical_pages, np.int32),
        owner=np.zeros(p.physical_pages, np.int32),
        sectors=np.zeros(p.logical_pages, f"int{bits}" if bits == 64 else f"uint{bits}"),
        translation=np.zeros(p.translation_pages, np.int32),
        block=np.zeros((p.planes * p.blocks_per_plane, _BLOCK), np.int32),
        plane=plane,
        free=np.tile(np.arange(p.blocks_per_plane, dtype=np.int32), (p.planes, 1)),
        tally=np.zeros(_TALLY, np.int64),
    )
    _open_first(ftl)
    return ftl


def _strides(p: NandParameters) -> np.ndarray:
    counts = {"C": p.channels, "W": p.chips_per_channel, "D": p.dies_per_chip, "P": p.planes_per_die}
    divisor, divisors = 1, {}
    for letter in p.allocation:
        divisors[letter] = divisor
        divisor *= counts[letter]
    below_it = {"P": 1, "D": p.planes_per_die, "W": p.planes_per_die * p.dies_per_chip}
    below_it["C"] = below_it["W"] * p.chips_per_channel
    return np.array([(divisors[letter], counts[letter], below_it[letter]) for letter in "CWDP"], np.int64)


def write_amplification(ftl: Ftl) -> float:
    """Flash pages programmed for each that the host wrote, since the device was made or preconditioned."""
    tally = ftl.tally
    programmed = tally[HOST_PAGES] + tally[MOVED_PAGES] + tally[TRANSLATION_WRITES]
    return float(programmed / max(1, tally[HOST_PAGES]))


def erase_counts(ftl: Ftl) -> np.ndarray:
    """int32[planes, blocks of a plane] how often each block was erased."""
    return ftl.block[:, ERASE_COUNT].reshape(ftl.shape[PLANES], ftl.shape[BLOCKS])


# --- steps -----------------------------------------------------------------------------------------------------------


@inlined
def plane_of(ftl, page):
    """The plane of a logical or translation page."""
    plane = 0
    for unit in range(4):
        plane += page // ftl.stride[unit, 0] % ftl.stride[unit, 1] * ftl.stride[unit, 2]
    return plane


@subroutine
def open_block(ftl, plane, stream):
    """Give the plane a free block to write to, if it may have one: the last is kept for garbage collection."""
    row = ftl.plane[plane]
    kept = 0 if stream == COLLECTED else 1
    if row[FREE_COUNT] <= kept:
        row[OPEN_HOST + stream] = NONE
        return
    head = row[FREE_HEAD]
    block = ftl.free[plane, head]
    row[FREE_HEAD] = head + 1 if head + 1 < ftl.shape[BLOCKS] else 0
    row[FREE_COUNT] -= 1
    row[OPEN_HOST + stream] = block
    ftl.block[plane * ftl.shape[BLOCKS] + block, STATE] = OPEN


@inlined
def has_room(ftl, plane, stream):
    """Whether the plane has an erased page to write to."""
    if ftl.plane[plane, OPEN_HOST + stream] == NONE:
        open_block(ftl, plane, stream)
    return ftl.plane[plane, OPEN_HOST + stream] != NONE


@subroutine
def take_page(ftl, plane, stream, owner):
    """The next erased page of the plane, which has room, now valid data of `owner`."""
    block = plane * ftl.shape[BLOCKS] + ftl.plane[plane, OPEN_HOST + stream]
    page = block * ftl.shape[PAGES] + ftl.block[block, FILL]
    ftl.owner[page] = owner
    ftl.block[block, VALID] += 1
    ftl.block[block, FILL] += 1
    if ftl.block[block, FILL] == ftl.shape[PAGES]:
        ftl.block[block, STATE] = FULL
        ftl.tally[CLOCK] += 1
        ftl.block[block, CLOSED_AT] = ftl.tally[CLOCK]
        open_block(ftl, plane, stream)
    return page


@inlined
def invalidate(ftl, page):
    ftl.owner[page] = 0
    ftl.block[page // ftl.shape[PAGES], VALID] -= 1


@inlined
def map_host_page(ftl, logical, plane):
    """A new flash page for a logical page that is written; the old one becomes invalid."""
    old = ftl.location[logical]
    if old:
        invalidate(ftl, old - 1)
    page = take_page(ftl, plane, HOST, logical + 1)
    ftl.location[logical] = page + 1
    ftl.tally[HOST_PAGES] += 1
    return page


@inlined
def map_translation_page(ftl, number, plane):
    """Likewise for a translation page."""
    old = ftl.translation[number]
    if old:
        invalidate(ftl, old - 1)
    page = take_page(ftl, plane, TRANSLATION, -(number + 1))
    ftl.translation[number] = page + 1
    ftl.tally[TRANSLATION_WRITES] += 1
    return page


@inlined
def move_page(ftl, page, plane):
    """A new place in the plane for a valid page; its tables follow."""
    owner = ftl.owner[page]
    invalidate(ftl, page)
    new = take_page(ftl, plane, COLLECTED, owner)
    if owner > 0:
        ftl.location[owner - 1] = new + 1
    else:
        ftl.translation[-owner - 1] = new + 1
    ftl.tally[MOVED_PAGES] += 1
    return new


@inlined
def needs_collection(ftl, plane):
    return ftl.plane[plane, FREE_COUNT] < ftl.shape[THRESHOLD] and ftl.plane[plane, COLLECTING] == NONE


@subroutine
def choose_victim(ftl, plane):
    """The full block to collect, NONE where every page of every one is valid.

    Greedy: with the fewest valid pages. Cost-benefit: with the largest age (1 - u) / 2u, where u is the share of valid
    pages and age is counted in blocks filled since (Kawaguchi et al., A Flash-Memory Based File System, USENIX 1995).
    """
    pages = ftl.shape[PAGES]
    low = plane * ftl.shape[BLOCKS]
    best, fewest, most = NONE, pages, 0.0
    for block in range(low, low + ftl.shape[BLOCKS]):
        valid = ftl.block[block, VALID]
        if ftl.block[block, STATE] != FULL or valid == pages:
            continue
        if ftl.shape[POLICY] == GREEDY:
            if valid < fewest:
                best, fewest = block, valid
        else:
            age = ftl.tally[CLOCK] - ftl.block[block, CLOSED_AT] + 1
            benefit = age * np.float64(pages - valid) / (2 * valid) if valid else np.inf
            if benefit > most:
                best, most = block, benefit
    return best


@inlined
def begin_collection(ftl, plane, block):
    ftl.block[block, STATE] = VICTIM
    ftl.plane[plane, COLLECTING] = block - plane * ftl.shape[BLOCKS]
    ftl.tally[COLLECTIONS] += 1


@subroutine
def free_victim(ftl, plane):
    """The block that the plane collects, of which no page is valid any more, has been erased."""
    row = ftl.plane[plane]
    block = plane * ftl.shape[BLOCKS] + row[COLLECTING]
    ftl.block[block, FILL] = 0
    ftl.block[block, STATE] = FREE
    ftl.block[block, ERASE_COUNT] += 1
    tail = (row[FREE_HEAD] + row[FREE_COUNT]) % ftl.shape[BLOCKS]
    ftl.free[plane, tail] = row[COLLECTING]
    row[FREE_COUNT] += 1
    row[COLLECTING] = NONE
    ftl.tally[ERASES] += 1


@subroutine
def collect_untimed(ftl, plane):
    """Collect until the plane has enough free blocks, or nothing is left to gain."""
    while needs_collection(ftl, plane):
        victim = choose_victim(ftl, plane)
        if victim == NONE:
            break
        begin_collection(ftl, plane, victim)
        for page in range(victim * ftl.shape[PAGES], (victim + 1) * ftl.shape[PAGES]):
            if ftl.owner[page] and has_room(ftl, plane, COLLECTED):
                move_page(ftl, page, plane)
        free_victim(ftl, plane)


@subroutine
def write_untimed(ftl, logical):
    """Write a whole logical page, collecting garbage first where the plane is short of free blocks."""
    plane = plane_of(ftl, logical)
    collect_untimed(ftl, plane)
    if has_room(ftl, plane, HOST):
        map_host_page(ftl, logical, plane)


@kernel
def overwrite_untimed(ftl, pages, writes, rng):
    """`writes` writes to logical pages drawn uniformly from the first `pages`."""
    for _ in range(writes):
        write_untimed(ftl, below(rng, pages))


@kernel
def _open_first(ftl):
    for plane in range(ftl.shape[PLANES]):
        for stream in range(3):
            open_block(ftl, plane, stream)


# --- preconditioning -------------------------------------------------------------------------------------------------


def fill(ftl: Ftl, occupancy: float = 1.0, sectors: int | None = None) -> None:
    """Write the first `occupancy` of the logical pages once, in order, and store the whole translation table.

    sectors: how many sectors of each page are written, from its first on (all); a later write of others has to read
    them first.
    Raises InputError where the share is not one, or the device is not brand-new.
    """
    _check_fill(ftl, occupancy, sectors)
    _store_translation(ftl)
    _fill_in_order(ftl, round(occupancy * ftl.shape[LOGICAL_PAGES]))
    _forget_past(ftl)


def fill_steady(ftl: Ftl, occupancy: float = 1.0, seed: int = 0, sectors: int | None = None) -> None:
    """The state after uniform random writes to the first `occupancy` of the logical pages have gone on for long.

    Blocks then are of all ages, and a page written when its block was filled is still valid with the probability that
    it was not drawn since: the k-th oldest of n blocks has a share exp(-(n - k) (1 - v) / (rho n)) of valid pages,
    where rho is the share of the pages of those blocks that hold data and v = exp(-(1 - v) / rho), that of the oldest,
    is what collection will find (Desnoyers, Analytic Modeling of SSD Write Performance, SYSTOR 2012). Which pages those
    are is drawn; collection starts with the next block.
    Raises InputError as `fill`.
    """
    _check_fill(ftl, occupancy, sectors)
    _store_translation(ftl)
    logical = round(occupancy * ftl.shape[LOGICAL_PAGES])
    most = int(-(-logical // ftl.shape[PLANES]))
    _fill_aged(
        ftl,
        logical,
        make_rng(seed),
        np.zeros((ftl.shape[PLANES], most), np.int32),
        np.zeros(ftl.shape[PLANES], np.int64),
    )
    _forget_past(ftl)


def _check_fill(ftl: Ftl, occupancy: float, sectors: int | None) -> None:
    if not 0 < occupancy <= 1:
        raise InputError("occupancy of", value=occupancy, expected="a share above 0 and up to 1")
    if sectors is not None and not 1 <= sectors <= ftl.shape[SECTORS]:
        raise InputError("sectors of", value=sectors, expected=f"1 to {ftl.shape[SECTORS]}")
    if ftl.tally[CLOCK] or ftl.block[:, FILL].any():
        raise InputError("the device is not brand-new: it cannot be preconditioned")
    ftl.shape[PREFILLED_SECTORS] = _first_bits(sectors or int(ftl.shape[SECTORS]))


def _first_bits(count: int) -> int:
    """A bitmap of so many ones, as a signed 64-bit integer."""
    return (1 << count) - 1 if count < 64 else -1


def _forget_past(ftl: Ftl) -> None:
    clock = ftl.tally[CLOCK]
    ftl.tally[:] = 0
    ftl.tally[CLOCK] = clock


@kernel
def _store_translation(ftl):
    for number in range(ftl.shape[TRANSLATION_PAGES]):
        plane = plane_of(ftl, number)
        if has_room(ftl, plane, TRANSLATION):
            map_translation_page(ftl, number, plane)


@kernel
def _fill_in_order(ftl, logical):
    for page in range(logical):
        plane = plane_of(ftl, page)
        if has_room(ftl, plane, HOST):
            map_host_page(ftl, page, plane)
    for plane in range(ftl.shape[PLANES]):
        _close(ftl, plane)


@inlined
def _close(ftl, plane):
    """Leave the rest of the block that is being written invalid, so that writing goes on in an erased one."""
    block = plane * ftl.shape[BLOCKS] + ftl.plane[plane, OPEN_HOST]
    if ftl.plane[plane, OPEN_HOST] != NONE and ftl.block[block, FILL] > 0:
        ftl.block[block, FILL] = ftl.shape[PAGES]
        ftl.block[block, STATE] = FULL
        open_block(ftl, plane, HOST)


@kernel
def _fill_aged(ftl, logical, rng, of_plane, count):
    for page in range(logical):
        plane = plane_of(ftl, page)
        of_plane[plane, count[plane]] = page
        count[plane] += 1
    pages = ftl.shape[PAGES]
    for plane in range(ftl.shape[PLANES]):
        for i in range(count[plane] - 1, 0, -1):
            other = below(rng, i + 1)
            of_plane[plane, i], of_plane[plane, other] = of_plane[plane, other], of_plane[plane, i]
        blocks = ftl.plane[plane, FREE_COUNT] - ftl.shape[THRESHOLD]
        rho = np.float64(count[plane]) / (blocks * pages)
        share = 0.0
        for _ in range(200):
            share = np.exp(-(1 - share) / rho)
        placed, wanted = 0, 0.0
        for k in range(blocks):
            wanted += pages * np.exp(-(blocks - k) * (1 - share) / (rho * blocks))
            left = count[plane] - placed
            rest = (blocks - 1 - k) * pages
            valid = (
                max(left - rest, min(left, pages, np.int64(wanted) - placed)) if k < blocks - 1 else min(left, pages)
            )
            _fill_block(ftl, plane, valid, of_plane[plane], placed, rng)
            placed += max(0, valid)
        while placed < count[plane]:  # rounding left some over
            _fill_block(ftl, plane, min(pages, count[plane] - placed), of_plane[plane], placed, rng)
            placed += min(pages, count[plane] - placed)


@subroutine
def _fill_block(ftl, plane, valid, logical, first, rng):
    """Fill the open block: `valid` pages, drawn from all of its pages, hold logical[first:], the others are invalid."""
    pages = ftl.shape[PAGES]
    left = valid
    for place in range(pages):
        page = take_page(ftl, plane, HOST, 1)
        if below(rng, pages - place) < left:
            owner = logical[first + valid - left]
            ftl.owner[page] = owner + 1
            ftl.location[owner] = page + 1
            left -= 1
        else:
            invalidate(ftl, page)
