"""Where pages are, in time: the mapping cache, translation pages, writes to new places, garbage collection.

The cache holds single entries (Gupta et al., DFTL, ASPLOS 2009). A miss reads the translation page from flash, and all
that ask for entries of that page meanwhile wait for the same read. A dirty entry that is evicted takes all dirty
entries of its page with it, in one read (of what stays) and one program, until whose end they are still at hand.
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.nand.ftl import (
    begin_collection,
    choose_victim,
    free_victim,
    has_room,
    map_host_page,
    map_translation_page,
    move_page,
    needs_collection,
    plane_of,
    plane_row,
    translation_row,
)
from sim.nand.index import find, put, remove
from sim.nand.parameters import SECTOR_BYTES
from sim.nand.rows import append, count_bits, give_row, pop
from sim.nand.state import (
    ARRIVING,
    BITMAP,
    BYTES,
    CACHED_ENTRIES,
    COLLECTED,
    COLLECTING,
    DEPARTING,
    DIRTY,
    ENTRIES,
    ENTRIES_CACHED,
    ENTRY_PAGE,
    ENTRY_ROWS,
    ENTRY_WORDS,
    ERASE,
    FIRST_PAGE,
    FLASH_PAGE,
    FREE_TRANSACTION,
    FROM_COLLECTION,
    FROM_HOST,
    FROM_MAPPING,
    HEAD,
    HOST,
    IS_DIRTY,
    IS_SHORT,
    MAPPING_HITS,
    MAPPING_MISSES,
    NEWER,
    NEXT_DIRTY,
    NEXT_SHORT,
    NONE,
    OLDER,
    OP,
    PAGE_OWNER,
    PAGES,
    PLANE,
    PREFILLED_SECTORS,
    PROGRAM,
    READ,
    READY,
    SECTORS,
    SHORT_PLANES,
    SOURCE,
    STALLED,
    STORED_AT,
    THEN,
    TO_MOVE,
    TRANSLATION,
    TRANSLATION_PAGES,
    TRANSLATION_READ_BYTES,
    WRITES_STALLED,
)
from sim.nand.transactions import enqueue, new_transaction, place

# --- mapping cache ---------------------------------------------------------------------------------------------------


@subroutine
def look_up(memory, one):
    """The transaction is ready once the mapping of its page is at hand; if it is not, that is read first."""
    if memory[TRANSLATION_PAGES] == 0:
        append(memory, one, READY)
        return
    logical = memory[one + PAGE_OWNER]
    entry = find(memory, logical)
    if entry != NONE:
        _unlink(memory, entry)
        _push_newest(memory, entry)
        memory[MAPPING_HITS] += 1
        append(memory, one, READY)
        return
    memory[MAPPING_MISSES] += 1
    number = logical // memory[ENTRIES]
    row = translation_row(memory, number)
    if memory[row + ARRIVING + HEAD] == NONE:
        if memory[row + STORED_AT] == NONE or memory[row + DEPARTING]:  # there is none yet, or it is still in DRAM
            _cache_entry(memory, logical)
            append(memory, one, READY)
            return
        read = new_transaction(memory, FROM_MAPPING, READ, NONE, number, memory[TRANSLATION_READ_BYTES])
        place(memory, read, memory[row + STORED_AT])
        enqueue(memory, read)
    append(memory, one, row + ARRIVING)


@inlined
def _sentinel(memory):
    return memory[ENTRY_ROWS] + memory[CACHED_ENTRIES] * ENTRY_WORDS


@inlined
def _unlink(memory, entry):
    newer, older = memory[entry + NEWER], memory[entry + OLDER]
    memory[newer + OLDER] = older
    memory[older + NEWER] = newer


@inlined
def _push_newest(memory, entry):
    end = _sentinel(memory)
    newest = memory[end + OLDER]
    memory[entry + NEWER] = end
    memory[entry + OLDER] = newest
    memory[newest + NEWER] = entry
    memory[end + OLDER] = entry


@subroutine
def _cache_entry(memory, logical):
    """Hold the mapping of a page in the cache, where it is not; return its entry."""
    if memory[ENTRIES_CACHED] < memory[CACHED_ENTRIES]:
        entry = memory[ENTRY_ROWS] + memory[ENTRIES_CACHED] * ENTRY_WORDS
        memory[ENTRIES_CACHED] += 1
    else:
        entry = memory[_sentinel(memory) + NEWER]
        evicted = memory[entry + ENTRY_PAGE]
        if memory[entry + IS_DIRTY]:
            _write_back(memory, evicted // memory[ENTRIES])
        _unlink(memory, entry)
        remove(memory, evicted)
    memory[entry + ENTRY_PAGE], memory[entry + IS_DIRTY] = logical, 0
    _push_newest(memory, entry)
    put(memory, logical, entry)
    return entry


@inlined
def _write_back(memory, number):
    """Program a translation page anew with all its dirty entries."""
    row = translation_row(memory, number)
    entry = memory[row + DIRTY]
    while entry != NONE:
        memory[entry + IS_DIRTY] = 0
        entry = memory[entry + NEXT_DIRTY]
    memory[row + DIRTY] = NONE
    memory[row + DEPARTING] += 1
    one = new_transaction(memory, FROM_MAPPING, PROGRAM, NONE, number, memory[SECTORS] * SECTOR_BYTES)
    append(memory, one, READY)


@subroutine
def _write_translation(state, one):
    """Give a translation page its new flash page, or let it wait for a free block; what stays of it is read first."""
    memory = state.memory
    number = memory[one + PAGE_OWNER]
    plane = plane_of(memory, number)
    if not has_room(memory, plane, TRANSLATION):
        append(memory, one, plane + STALLED)
        _check_short(memory, plane)
        return
    old = memory[translation_row(memory, number) + STORED_AT]
    place(memory, one, map_translation_page(memory, state.owner, number, plane))
    if old == NONE:
        enqueue(memory, one)
    else:
        _read_first(memory, one, old, FROM_MAPPING, memory[SECTORS] * SECTOR_BYTES)
    _check_short(memory, plane)


@inlined
def _read_first(memory, one, page, source, size_bytes):
    """Read a flash page, with whose data the transaction will be queued."""
    read = new_transaction(memory, source, READ, NONE, NONE, size_bytes)
    memory[read + THEN] = one
    place(memory, read, page)
    enqueue(memory, read)


@subroutine
def _mark_dirty(memory, logical):
    """The mapping of a page has changed: its entry, made where there is none, has to be written some time."""
    if memory[TRANSLATION_PAGES] == 0:
        return
    entry = find(memory, logical)
    if entry == NONE:
        entry = _cache_entry(memory, logical)
    if memory[entry + IS_DIRTY] == 0:
        row = translation_row(memory, logical // memory[ENTRIES])
        memory[entry + IS_DIRTY], memory[entry + NEXT_DIRTY] = 1, memory[row + DIRTY]
        memory[row + DIRTY] = entry


@subroutine
def mapping_arrived(memory, number):
    """Entries of a translation page that was read go into the cache, and what waited for them is ready."""
    row = translation_row(memory, number)
    while memory[row + ARRIVING + HEAD] != NONE:
        one = pop(memory, row + ARRIVING)
        if find(memory, memory[one + PAGE_OWNER]) == NONE:
            _cache_entry(memory, memory[one + PAGE_OWNER])
        append(memory, one, READY)


# --- flash pages for what is ready -----------------------------------------------------------------------------------


@subroutine
def dispatch(state, one):
    """Send a transaction whose mapping is at hand to its unit; whether it is a read that needs no flash."""
    memory = state.memory
    if memory[one + SOURCE] == FROM_MAPPING:
        _write_translation(state, one)
        return False
    if memory[one + OP] == READ:
        page = np.int64(state.location[memory[one + PAGE_OWNER]])
        if page == 0:  # a page that was never written reads as zeros
            return True
        place(memory, one, page - 1)
        enqueue(memory, one)
        return False
    plane = plane_of(memory, memory[one + PAGE_OWNER])
    if memory[plane + STALLED + HEAD] != NONE or not has_room(memory, plane, HOST):
        memory[WRITES_STALLED] += 1
        append(memory, one, plane + STALLED)
        _check_short(memory, plane)
    else:
        _write_page(state, one, plane)
    return False


@subroutine
def _write_page(state, one, plane):
    """Give a write its flash page; where the old one has sectors that it leaves alone, they are read first."""
    memory = state.memory
    logical, bitmap = memory[one + PAGE_OWNER], memory[one + BITMAP]
    old, kept = np.int64(state.location[logical]), np.int64(0)
    if old:
        kept = np.int64(state.sectors[logical])
        if kept == 0:
            kept = memory[PREFILLED_SECTORS]
    state.sectors[logical] = kept | bitmap
    place(memory, one, map_host_page(memory, state.location, state.owner, logical, plane))
    if kept & ~bitmap:
        memory[one + BYTES] = count_bits(kept | bitmap) * SECTOR_BYTES
        _read_first(memory, one, old - 1, FROM_HOST, count_bits(kept) * SECTOR_BYTES)
    else:
        enqueue(memory, one)
    _mark_dirty(memory, logical)
    _check_short(memory, plane)


# --- garbage collection ----------------------------------------------------------------------------------------------


@inlined
def _check_short(memory, plane):
    """Let garbage collection look at the plane when all else that happens now is done, if it has few free blocks."""
    if needs_collection(memory, plane) and memory[plane + IS_SHORT] == 0:
        memory[plane + IS_SHORT], memory[plane + NEXT_SHORT] = 1, memory[SHORT_PLANES]
        memory[SHORT_PLANES] = plane


@subroutine
def collect(state):
    """Start to collect a block of a plane that is short of free ones: its valid pages are read."""
    memory = state.memory
    plane = memory[SHORT_PLANES]
    memory[SHORT_PLANES], memory[plane + IS_SHORT] = memory[plane + NEXT_SHORT], 0
    if not needs_collection(memory, plane):
        return
    victim = choose_victim(memory, plane)
    if victim == NONE:
        return
    begin_collection(memory, plane, victim)
    first, moves = memory[victim + FIRST_PAGE], 0
    for page in range(first, first + memory[PAGES]):
        if state.owner[page]:
            one = new_transaction(memory, FROM_COLLECTION, READ, NONE, NONE, memory[SECTORS] * SECTOR_BYTES)
            place(memory, one, page)
            enqueue(memory, one)
            moves += 1
    memory[plane + TO_MOVE] = moves
    if moves == 0:
        _erase(memory, plane)


@subroutine
def _erase(memory, plane):
    one = new_transaction(memory, FROM_COLLECTION, ERASE, NONE, NONE, 0)
    place(memory, one, memory[memory[plane + COLLECTING] + FIRST_PAGE])
    enqueue(memory, one)


@inlined
def _moved(memory, plane):
    """One more page of the block that the plane collects is elsewhere, or not needed any more."""
    memory[plane + TO_MOVE] -= 1
    if memory[plane + TO_MOVE] == 0:
        _erase(memory, plane)


@subroutine
def collection_step(state, one):
    """A read, program or erase of garbage collection is complete: what follows."""
    memory = state.memory
    plane, op = plane_row(memory, memory[one + PLANE]), memory[one + OP]
    if op == READ and _move_on(state, one, plane):
        return
    give_row(memory, FREE_TRANSACTION, one)
    if op == ERASE:
        _erased(memory, plane)
    else:
        _moved(memory, plane)


@inlined
def _move_on(state, one, plane):
    """Program a page that was read elsewhere, unless the host has written it anew meanwhile; whether it is."""
    memory = state.memory
    page = memory[one + FLASH_PAGE]
    owner = np.int64(state.owner[page])
    if owner == 0 or not has_room(memory, plane, COLLECTED):
        return False
    place(memory, one, move_page(memory, state.location, state.owner, page, plane))
    memory[one + OP] = PROGRAM
    enqueue(memory, one)
    if owner > 0:
        _mark_dirty(memory, owner - 1)
    return True


@inlined
def _erased(memory, plane):
    """The block is free: writes that waited for one may go on, in their order."""
    free_victim(memory, plane)
    while memory[plane + STALLED + HEAD] != NONE:
        append(memory, pop(memory, plane + STALLED), READY)
    _check_short(memory, plane)
