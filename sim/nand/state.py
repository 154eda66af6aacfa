"""The state of one NAND SSD: one block of memory for everything that is small, tables of pages beside it.

`memory` is int64 and `real` the same memory as float64. Its first words are configuration, counts and times, each at
the index of its name here; after them come rows of requests, transactions, units, channels, planes, blocks, translation
pages and mapping entries. A row is named by the address of its first word, so `memory[unit + DOING]` is a field, and
lists thread addresses. A NamedTuple of as many arrays as there are kinds would be passed to every compiled function as
hundreds of arguments, which takes longer to compile and to call than what they do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.event_heap import EventHeap, make_heap
from sim.nand.parameters import SECTOR_BYTES, NandParameters

NONE = -1
PAGES_PER_REQUEST = 17  # that a full queue of requests may have on average: 128 KiB, not aligned, in pages of 8 KiB
MOST_PLANES = 16  # of one multi-plane command
_MOST_CHAINS = 256  # of a unit

HEADER = (
    # counts of the configuration
    CHANNELS,
    UNITS_PER_CHANNEL,
    PLANES,
    PLANES_PER_UNIT,
    PLANES_PER_DIE,
    BLOCKS,  # of a plane
    PAGES,  # of a block
    PAGES_PER_PLANE,
    LOGICAL_PAGES,
    SECTORS,  # of a page
    ENTRIES,  # of a translation page
    TRANSLATION_PAGES,
    CACHED_ENTRIES,
    KINDS_OF_PAGE,
    THRESHOLD,  # free blocks of a plane below which garbage collection starts
    HARD_THRESHOLD,
    POLICY,
    PREFILLED_SECTORS,  # bitmap of what preconditioning wrote of a page
    WRITE_CACHE,
    BUFFER_SECTORS,
    QUEUE_DEPTH,
    FETCH_LIMIT,
    SUSPEND_PROGRAM,
    SUSPEND_ERASE,
    SUSPEND_FOR_WRITES,
    MOST_SUSPENDS,
    WEAR_LEVELLING,
    WEAR_GAP,
    TRANSLATION_READ_BYTES,
    LINK_LANES,
    TLP_PAYLOAD,
    TLP_OVERHEAD,
    DRAM_ROW,
    CHAIN_MASK,  # of the number of a page in its block: which of its unit's chains it is in
    STRIDE,  # of channel, chip, die and plane: divisor and modulus of a page number, planes below it
) = tuple(range(35))
_AFTER_STRIDE = STRIDE + 12
(
    # addresses of the first rows
    REQUEST_ROWS,
    TRANSACTION_ROWS,
    UNIT_ROWS,
    CHAIN_ROWS,
    CHANNEL_ROWS,
    PLANE_ROWS,
    BLOCK_ROWS,
    TRANSLATION_ROWS,
    ENTRY_ROWS,
    INDEX_ROWS,
    INDEX_MASK,
    # what is going on
    DONE,
    FREE_REQUEST,
    FREE_TRANSACTION,
    PAGES_IN_FLIGHT,
    ARRIVALS,  # head and tail of a list, as all plural names here
    _1,
    FETCHED,
    UNFETCHED,
    _2,
    UNBUFFERED,
    _3,
    BUFFERED_SECTORS,
    BUFFER_HAS_ROOM,  # maybe, for what is unbuffered
    INTERNAL_PAGE_BYTES,  # of a page that an engine reads, what crosses the channel; 0: what was asked for
    CONTINUED,  # the request that is larger than the queue and has room to go on, NONE where there is none
    READY,  # transactions that only wait for their flash page
    _8,
    SHORT_PLANES,  # a stack of planes that may have to collect garbage
    ENTRIES_CACHED,
    TOUCHED,
    CLOCK,  # blocks filled
    # counts of what was done
    READ_REQUESTS,
    WRITE_REQUESTS,
    READ_BYTES,
    WRITE_BYTES,
    INTERNAL_BYTES,
    MAPPING_HITS,
    MAPPING_MISSES,
    BUFFER_HITS,
    HOST_PAGES,  # pages given to data of the host, to data that was moved, to translation pages
    MOVED_PAGES,
    TRANSLATION_WRITES,
    COLLECTIONS,
    ERASES,
    WRITES_STALLED,
    READ_COMMANDS,  # by operation, then pages of each
    PROGRAM_COMMANDS,
    ERASE_COMMANDS,
    PAGES_READ,
    PAGES_PROGRAMMED,
    BLOCKS_ERASED,
    MULTI_PLANE_COMMANDS,
    SUSPENSIONS,
    CHANNEL_BYTES,
    READ_OF_KIND,  # pages read, by kind of page, then pages programmed
    _10,
    _11,
    PROGRAMMED_OF_KIND,
    _12,
    _13,
    # times, in `real`
    NOW,
    UP_FREE,
    DOWN_FREE,
    DRAM_FREE,
    INTERNAL_FREE,
    UP_BUSY,  # how long each has worked so far: the link both ways, the path to the engine, all channels, all units
    DOWN_BUSY,
    INTERNAL_BUSY,
    CHANNELS_BUSY,
    ARRAYS_BUSY,
    INTERNAL_NS_PER_BYTE,
    CHANNEL_NS_PER_BYTE,
    LINK_NS_PER_CYCLE,
    DRAM_NS_PER_BYTE,
    DRAM_LATENCY_NS,
    DRAM_ROW_NS,
    SUSPEND_COMMAND_NS,
    SUSPEND_NS,  # by operation, as the next
    _4,
    _5,
    LEAST_LEFT_NS,
    _6,
    _7,
    ARRAY_NS,  # by operation, of three kinds of page
) = tuple(range(_AFTER_STRIDE, _AFTER_STRIDE + 85))
COUNTS = (
    *("read_requests", "write_requests", "read_bytes", "write_bytes", "internal_bytes"),
    *("mapping_hits", "mapping_misses", "buffer_hits"),
    *("host_pages", "moved_pages", "translation_writes", "collections", "erases", "writes_stalled"),
    *("read_commands", "program_commands", "erase_commands", "pages_read", "pages_programmed", "blocks_erased"),
    *("multi_plane_commands", "suspensions", "channel_bytes", "pages_read_0", "pages_read_1", "pages_read_2"),
    *("pages_programmed_0", "pages_programmed_1", "pages_programmed_2"),
)  # names of READ_REQUESTS and what follows; the last of each kind of page, as a block's pages repeat them
COMMAND_NS = ARRAY_NS + 9  # by operation, of commands of one plane and more
_HEADER_WORDS = COMMAND_NS + 3 * MOST_PLANES

HEAD, TAIL = range(2)  # of a list
# rows
NEXT, SOURCE, OP, OF_REQUEST, PAGE_OWNER, FLASH_PAGE, PLANE, BYTES, BITMAP, THEN = range(10)
BEFORE, CHAIN_NEXT, CHAIN_BEFORE, TRANSACTION_WORDS = range(10, 14)  # of what waits at a unit: in its queue, its chain
_NEXT, TICKET, FIRST_SECTOR, SECTOR_COUNT, IS_WRITE, LEFT, ACCEPTED, ARRIVAL, PATH, REQUEST_WORDS = range(10)
CHANNEL, DOING, OPERATION, ACTIVE, TO_SEND, SUSPENDED, SUSPENDED_OPERATION, TIMES_SUSPENDED = range(8)
FINISH, REMAINING, FIRST_PLANE, QUEUES = range(8, 12)
UNIT_WORDS = QUEUES + 2 * 9  # a list for each operation and source
BUSY, TURN, MOVING, QUEUED, IS_TOUCHED, FIRST_UNIT, OUT = range(7)
CHANNEL_WORDS = OUT + 2 * 3  # a list for each source
FREE_HEAD, FREE_COUNT, OPEN_HOST, OPEN_COLLECTED, OPEN_TRANSLATION, COLLECTING, TO_MOVE, STALLED = range(8)
NEXT_SHORT, IS_SHORT, MOST_ERASES = STALLED + 2, STALLED + 3, STALLED + 4
FREE_RING = STALLED + 5  # as many words as blocks
VALID, FILL, STATE, ERASE_COUNT, CLOSED_AT, FIRST_PAGE, BLOCK_WORDS = range(7)
STORED_AT, ARRIVING, _9, DEPARTING, DIRTY, TRANSLATION_WORDS = range(
    6
)  # STORED_AT: flash page, NONE where there is none
NEWER, OLDER, ENTRY_PAGE, NEXT_DIRTY, IS_DIRTY, ENTRY_WORDS = range(6)

FROM_MAPPING, FROM_HOST, FROM_COLLECTION = range(3)  # where a transaction is from
FROM_LINK, INTERNAL, INTERNAL_BY_LINK = range(3)  # how a request comes and where its data goes: PATH
READ, PROGRAM, ERASE = range(3)  # what it does
HOST, COLLECTED, TRANSLATION = range(3)  # what an open block holds
FREE, OPEN, FULL, VICTIM = range(4)  # what a block is
GREEDY, COST_BENEFIT = range(2)
DYNAMIC, STATIC = range(1, 3)  # wear levelling


class NandState(NamedTuple):
    """One device. A flash page is valid as long as `owner` says whose it is, so the two tables check each other:
    location[l] = p + 1 if and only if owner[p] = l + 1.
    """

    memory: np.ndarray  # int64[words]
    real: np.ndarray  # float64[words] the same memory
    location: np.ndarray  # int32[logical pages] flash page + 1, 0 where never written
    owner: np.ndarray  # int32[flash pages] logical page + 1, -(translation page + 1), 0 where free or invalid
    sectors: np.ndarray  # int[logical pages] bitmap of the sectors that were written, 0 where the page is as prefilled
    counts: np.ndarray  # int64[len(COUNTS)] of what was done, a part of memory
    done_ticket: np.ndarray  # int64[queue depth] what the last advance completed
    done_ns: np.ndarray  # float64[queue depth]
    heap: EventHeap


def make_state(parameters: NandParameters) -> NandState:
    """A brand-new device at time 0: every block is erased, no page is mapped."""
    p = parameters
    dies = p.channels * p.chips_per_channel * p.dies_per_chip
    units = dies if p.die_interleaving else p.channels * p.chips_per_channel
    host_pages = p.queue_depth * PAGES_PER_REQUEST
    buffered = p.write_buffer_bytes // SECTOR_BYTES if p.write_cache else 0
    # a page of the host: itself, a read of what it leaves, of its mapping, a read and a program of an evicted one's;
    # of each plane, a block that is collected, and as much for the mapping of its pages
    transactions = 5 * (host_pages + buffered) + p.planes * (3 * p.pages_per_block + 1)
    entries = p.cached_entries if p.stored_translation_pages else 0
    index_slots = 1 << max(4, int(2 * (entries + buffered) + 1).bit_length())
    rows = (
        (REQUEST_ROWS, p.queue_depth, REQUEST_WORDS),
        (TRANSACTION_ROWS, transactions, TRANSACTION_WORDS),
        (UNIT_ROWS, units, UNIT_WORDS),
        (CHAIN_ROWS, units * _chains(p), 2),
        (CHANNEL_ROWS, p.channels, CHANNEL_WORDS),
        (PLANE_ROWS, p.planes, FREE_RING + p.blocks_per_plane),
        (BLOCK_ROWS, p.planes * p.blocks_per_plane, BLOCK_WORDS),
        (TRANSLATION_ROWS, p.stored_translation_pages, TRANSLATION_WORDS),
        (ENTRY_ROWS, entries + 1, ENTRY_WORDS),  # the last is the sentinel of the list in order of use
        (INDEX_ROWS, index_slots, 2),
    )
    memory = np.zeros(_HEADER_WORDS + sum(count * words for _, count, words in rows), np.int64)
    first, table = _HEADER_WORDS, {}
    for base, count, words in rows:
        memory[base] = first
        table[base] = memory[first : first + count * words].reshape(count, words)
        first += count * words
    memory[INDEX_MASK] = index_slots - 1
    _configure(memory, p, units)
    _set_times(memory.view(np.float64), p)
    _set_rows(memory, table, p)
    bits = next(bits for bits in (8, 16, 32, 64) if p.sectors_per_page <= bits)
    return NandState(
        memory=memory,
        real=memory.view(np.float64),
        location=np.zeros(p.logical_pages, np.int32),
        owner=np.zeros(p.physical_pages, np.int32),
        sectors=np.zeros(p.logical_pages, "int64" if bits == 64 else f"uint{bits}"),
        counts=memory[READ_REQUESTS : READ_REQUESTS + len(COUNTS)],
        done_ticket=np.zeros(p.queue_depth, np.int64),
        done_ns=np.zeros(p.queue_depth),
        # one for each request on the link, for each part of one in DRAM, those of units and channels, and those of
        # suspended operations that will not happen
        heap=make_heap(2 * p.queue_depth + host_pages + p.channels + (2 + p.most_suspends) * units + 16),
    )


def _chains(p: NandParameters) -> int:
    """Lists, a power of two, that each unit keeps by page number of what waits, for multi-plane commands."""
    return min(_MOST_CHAINS, 1 << (p.pages_per_block - 1).bit_length())


def _configure(memory: np.ndarray, p: NandParameters, units: int) -> None:
    values = {
        CHANNELS: p.channels,
        UNITS_PER_CHANNEL: units // p.channels,
        PLANES: p.planes,
        PLANES_PER_UNIT: p.planes // units,
        PLANES_PER_DIE: p.planes_per_die,
        BLOCKS: p.blocks_per_plane,
        PAGES: p.pages_per_block,
        PAGES_PER_PLANE: p.blocks_per_plane * p.pages_per_block,
        LOGICAL_PAGES: p.logical_pages,
        SECTORS: p.sectors_per_page,
        ENTRIES: p.entries_per_translation_page,
        TRANSLATION_PAGES: p.stored_translation_pages,
        CACHED_ENTRIES: p.cached_entries,
        KINDS_OF_PAGE: len(p.page_times_ns),
        THRESHOLD: p.gc_threshold_blocks,
        HARD_THRESHOLD: max(1, int(p.gc_hard_threshold * p.blocks_per_plane)),
        POLICY: {"greedy": GREEDY, "cost_benefit": COST_BENEFIT}[p.gc_policy],
        WRITE_CACHE: p.write_cache,
        BUFFER_SECTORS: p.write_buffer_bytes // SECTOR_BYTES,
        QUEUE_DEPTH: p.queue_depth,
        FETCH_LIMIT: p.fetch_limit,
        SUSPEND_PROGRAM: p.suspend_program,
        SUSPEND_ERASE: p.suspend_erase,
        SUSPEND_FOR_WRITES: p.suspend_erase_for_writes,
        MOST_SUSPENDS: p.most_suspends,
        WEAR_LEVELLING: {"none": 0, "dynamic": DYNAMIC, "static": STATIC}[p.wear_levelling],
        WEAR_GAP: p.static_wear_gap,
        TRANSLATION_READ_BYTES: p.translation_read_bytes,
        LINK_LANES: p.link_lanes,
        TLP_PAYLOAD: p.tlp_payload_bytes,
        TLP_OVERHEAD: p.tlp_overhead_bytes,
        DRAM_ROW: p.dram_row_bytes,
        CHAIN_MASK: _chains(p) - 1,
    }
    for at, value in values.items():
        memory[at] = value
    for at in (ARRIVALS, UNFETCHED, UNBUFFERED, READY):
        memory[at : at + 2] = NONE
    memory[[SHORT_PLANES, CONTINUED]] = NONE
    counts = {"C": p.channels, "W": p.chips_per_channel, "D": p.dies_per_chip, "P": p.planes_per_die}
    divisors, divisor = {}, 1
    for letter in p.allocation:
        divisors[letter] = divisor
        divisor *= counts[letter]
    planes_below = p.planes
    for place, letter in enumerate("CWDP"):
        planes_below //= counts[letter]
        memory[STRIDE + 3 * place : STRIDE + 3 * place + 3] = divisors[letter], counts[letter], planes_below


def _set_times(real: np.ndarray, p: NandParameters) -> None:
    real[CHANNEL_NS_PER_BYTE] = p.channel_ns_per_byte
    real[LINK_NS_PER_CYCLE] = 1 / p.link_lane_rate
    real[DRAM_NS_PER_BYTE], real[DRAM_LATENCY_NS], real[DRAM_ROW_NS] = 1 / p.dram_rate, p.dram_latency_ns, p.dram_row_ns
    real[SUSPEND_COMMAND_NS] = p.suspend_command_ns
    real[SUSPEND_NS + PROGRAM], real[SUSPEND_NS + ERASE] = p.suspend_program_ns, p.suspend_erase_ns
    real[LEAST_LEFT_NS + PROGRAM], real[LEAST_LEFT_NS + ERASE] = p.least_program_left_ns, p.least_erase_left_ns
    for kind, (read_ns, program_ns) in enumerate(p.page_times_ns):
        real[ARRAY_NS + 3 * READ + kind], real[ARRAY_NS + 3 * PROGRAM + kind] = read_ns, program_ns
    real[ARRAY_NS + 3 * ERASE : ARRAY_NS + 3 * ERASE + 3] = p.erase_ns
    for op, command_ns in enumerate((p.read_command_ns, p.program_command_ns, p.erase_command_ns)):
        for planes in range(1, MOST_PLANES + 1):
            real[COMMAND_NS + op * MOST_PLANES + planes - 1] = command_ns(planes)


def _set_rows(memory: np.ndarray, table: dict[int, np.ndarray], p: NandParameters) -> None:
    for base, free in ((REQUEST_ROWS, FREE_REQUEST), (TRANSACTION_ROWS, FREE_TRANSACTION)):
        rows = table[base]
        rows[:, NEXT] = memory[base] + rows.shape[1] * np.arange(1, len(rows) + 1)
        rows[-1, NEXT] = NONE
        memory[free] = memory[base]
    units, channels, planes, blocks = (table[base] for base in (UNIT_ROWS, CHANNEL_ROWS, PLANE_ROWS, BLOCK_ROWS))
    number = np.arange(len(units))
    units[:, CHANNEL] = memory[CHANNEL_ROWS] + number // memory[UNITS_PER_CHANNEL] * CHANNEL_WORDS
    units[:, FIRST_PLANE] = memory[PLANE_ROWS] + number * memory[PLANES_PER_UNIT] * planes.shape[1]
    units[:, [ACTIVE, SUSPENDED]] = NONE
    units[:, QUEUES:] = NONE
    channels[:, FIRST_UNIT] = memory[UNIT_ROWS] + np.arange(len(channels)) * memory[UNITS_PER_CHANNEL] * UNIT_WORDS
    channels[:, OUT:] = NONE
    table[CHAIN_ROWS][:] = NONE
    blocks[:, FIRST_PAGE] = np.arange(len(blocks)) * p.pages_per_block
    addresses = memory[BLOCK_ROWS] + np.arange(len(blocks)) * BLOCK_WORDS
    planes[:, FREE_RING:] = addresses.reshape(len(planes), p.blocks_per_plane)
    planes[:, FREE_COUNT] = p.blocks_per_plane
    planes[:, [OPEN_HOST, OPEN_COLLECTED, OPEN_TRANSLATION, COLLECTING, STALLED, STALLED + 1]] = NONE
    table[TRANSLATION_ROWS][:, [STORED_AT, ARRIVING, ARRIVING + 1, DIRTY]] = NONE
    sentinel = memory[ENTRY_ROWS] + (len(table[ENTRY_ROWS]) - 1) * ENTRY_WORDS
    table[ENTRY_ROWS][-1, [NEWER, OLDER]] = sentinel


def rows_of(state: NandState, base: int) -> np.ndarray:
    """A view of the rows that begin at `memory[base]`: BLOCK_ROWS or PLANE_ROWS, int64[rows, words]."""
    memory = state.memory
    planes = int(memory[PLANES])
    count, words = {
        BLOCK_ROWS: (planes * int(memory[BLOCKS]), BLOCK_WORDS),
        PLANE_ROWS: (planes, FREE_RING + int(memory[BLOCKS])),
        TRANSLATION_ROWS: (int(memory[TRANSLATION_PAGES]), TRANSLATION_WORDS),
    }[base]
    first = int(memory[base])
    return memory[first : first + count * words].reshape(count, words)
