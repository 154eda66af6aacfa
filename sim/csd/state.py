"""The state of a computational drive: its SSD's, and what its engine is doing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.csd.parameters import Csd
from sim.devices.nand import init as make_ssd
from sim.kernels.event_heap import EventHeap, make_heap
from sim.nand.state import COUNTS as SSD_COUNTS
from sim.nand.state import INTERNAL_NS_PER_BYTE, INTERNAL_PAGE_BYTES, NandState

NONE = -1
# routes of an operation's data: to the engine, to the host's memory, on from there to a GPU, to a GPU directly
ROUTES = ("engine", "host", "host_gpu", "peer")
ENGINE, HOST, HOST_GPU, PEER = range(4)

(
    TICKET,  # of the operation under way, NONE where there is none
    ROUTE,
    FIRST_BYTE,
    SIZE_BYTES,
    ASKED,  # chunks
    DONE,
    CHUNKS,
    SLOTS,  # for chunks, that are free
    CHUNK_BYTES,
    BY_LINK,  # whether the engine reads over the drive's link
    PAGE_BYTES,  # of a page that the engine reads, what reaches it; 0: all
    SSD_PAGE_BYTES,
    WORDS,
) = range(13)
(
    ENGINE_FREE,  # when each is, and how long it has worked so far
    MEMORY_FREE,
    ROUTE_FREE,
    ENGINE_BUSY,
    MEMORY_BUSY,
    ROUTE_BUSY,
    ENGINE_NS_PER_BYTE,  # of the operation under way
    RETURNED_PER_BYTE,
    RETURNED,  # bytes of results so far, whole or not
    LAST_RESULT,  # when the last of them is with the host
    BYTE_NS,  # of the engine
    FLOP_NS,
    MEMORY_NS_PER_BYTE,
    PEER_NS_PER_BYTE,
    HOST_COPY_NS_PER_BYTE,
    REALS,
) = range(16)

OWN_COUNTS = ("operations", "engine_bytes", "memory_bytes", "returned_bytes")
OPERATIONS, ENGINE_BYTES, MEMORY_BYTES, RETURNED_BYTES = range(len(SSD_COUNTS), len(SSD_COUNTS) + len(OWN_COUNTS))
COUNTS = (*SSD_COUNTS, *OWN_COUNTS)


class CsdState(NamedTuple):
    """One device."""

    ssd: NandState
    words: np.ndarray  # int64[WORDS]
    real: np.ndarray  # float64[REALS]
    counts: np.ndarray  # int64[len(COUNTS)]
    done_ticket: np.ndarray  # int64[requests] what the last advance completed
    done_ns: np.ndarray  # float64[requests]
    heap: EventHeap


def make_state(parameters: Csd) -> CsdState:
    """A drive that went through what its parameters say, at time 0, with an idle engine."""
    ssd, engine = make_ssd(parameters.ssd), parameters.engine
    words, real = np.zeros(WORDS, np.int64), np.zeros(REALS)
    words[TICKET] = NONE
    words[SLOTS], words[CHUNK_BYTES] = engine.chunks_ahead, engine.chunk_bytes
    words[BY_LINK], words[PAGE_BYTES] = engine.internal_rate == 0, engine.channel_bytes_per_page
    words[SSD_PAGE_BYTES] = parameters.ssd.nand.page_bytes
    real[BYTE_NS], real[FLOP_NS] = 1 / engine.byte_rate, 1 / engine.flop_rate
    real[MEMORY_NS_PER_BYTE] = engine.dram_accesses / engine.dram_rate
    real[PEER_NS_PER_BYTE], real[HOST_COPY_NS_PER_BYTE] = 1 / engine.peer_rate, 1 / engine.host_copy_rate
    if engine.internal_rate:
        ssd.real[INTERNAL_NS_PER_BYTE] = 1 / engine.internal_rate
    ssd.memory[INTERNAL_PAGE_BYTES] = engine.channel_bytes_per_page
    requests = ssd.done_ticket.size + 1
    return CsdState(
        ssd=ssd,
        words=words,
        real=real,
        counts=np.zeros(len(COUNTS), np.int64),
        done_ticket=np.zeros(requests, np.int64),
        done_ns=np.zeros(requests),
        heap=make_heap(engine.chunks_ahead + 4),
    )
