"""GMLake's virtual memory stitching: free pieces of physical memory become one block of a new range of addresses.

After Guo et al., "GMLake" (ASPLOS 2024, arXiv 2401.08156), and its code (intelligent-machine-learning/glake, GMLake).
Up to 1 MiB requests are for the small pool of PyTorch's caching allocator (`sim/allocation/caching.py`). Larger ones
are rounded up to chunks of 2 MiB, which are created one by one. A primitive block (pBlock) has chunks of its own; a
stitched block (sBlock) has addresses of its own for the chunks of several primitive blocks, and outlives its use, so
that the same size is found again. A block can be used while none of its chunks is. A request of a stream is served by
the first of these that there is:

1. a free primitive, else a free stitched block of just its size (of equal ones that of the lowest first chunk, or the
   oldest);
2. the smallest larger free primitive block, split;
3. from `fragment_limit_mb` on: the largest free primitive blocks until they are enough, the last one split, stitched;
4. new chunks, from `fragment_limit_mb` on stitched to all free primitive blocks, which are not enough;
5. where the device has too few: all free primitive blocks of all streams, with the stitched blocks over them, and the
   idle segments of the small pool are given back first, and all chunks are new ones.

Beyond `stitched_limit_gb` of stitched blocks the least recently used ones that are not in use are unmapped. Defaults
are those of GMLake's tutorial (docs/GMLake-tutorial.md): 512 MiB, in MiB, and 1000 GiB. Not modelled: the tutorial's
`reuseLimit` (a stitched block that is larger than the request), `defragment_level`, events of streams, and addresses,
which are taken to be plenty. Splitting costs no call, as in that code; a stitch maps each of its chunks.

Chunks lie anywhere, the lowest free page of the device first. Free bytes are those of chunks and small pieces that are
not in use, wherever they are; any free chunk serves any request, so that all of them are the largest one. Default times
are of vAttention (see `sim/allocation/caching.py`), per chunk: cuMemCreate, cuMemMap with cuMemSetAccess, cuMemUnmap,
cuMemRelease. What a request does grows with its blocks and the stitched blocks over them, as it does in GMLake.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.allocation import _pieces as p
from sim.allocation import _segments as s
from sim.allocation._places import add_run, one_run
from sim.hook_arguments import MAPS, SYSTEM_ALLOCATIONS, SYSTEM_RELEASES, UNMAPS
from sim.kernels.compile import outlined
from sim.kernels.ordered_index import Index, found, insert, make_index, remove_found, seek, seek_before
from sim.kernels.spans import add_span, lowest_span, take_span
from sim.policy import Allocator

_MIB = 1 << 20
_CHUNK = p.PAGE_BYTES
_STREAM_BITS = 40
_FIRST, _CHUNKS, _LINKS, _STREAM, _ACTIVE, _STAMP, _MADE = range(7)  # columns of a block of either sort
_PRIMITIVE, _STITCHED, _NEXT_PRIMITIVE, _NEXT_OVER, _BEFORE_OVER = range(5)  # columns of a link
_SPARE_PRIMITIVE, _SPARE_STITCHED, _SPARE_LINK, _UNUSED_PRIMITIVE, _UNUSED_STITCHED, _UNUSED_LINK, _CLOCK = range(7)
_STITCHED_CHUNKS, _CREATES, _MAPS, _UNMAPS, _DESTROYS = range(5)
_SMALL, _OF_PRIMITIVE, _OF_STITCHED = range(3)
_NONE = p.NONE


class Blocks(NamedTuple):
    """Blocks of chunks. Of a primitive block `_ACTIVE` says whether it is in use, of a stitched one how many of its
    primitive blocks are; `_LINKS` starts the list of stitched blocks over it, or of primitive blocks in it."""

    primitive: np.ndarray  # int64[chunks, 7]
    stitched: np.ndarray  # int64[blocks, 7]; `_FIRST` is whether it is in use itself
    links: np.ndarray  # int64[links, 5]
    following: np.ndarray  # int64[chunks] the next chunk of the same primitive block
    numbers: np.ndarray
    free_primitive: Index  # by stream, chunks and first chunk
    free_stitched: Index  # by stream, chunks and age
    unused: Index  # stitched blocks that are not in use themselves, by the time of their last use
    free_chunks: np.ndarray  # int64[streams] in free primitive blocks
    totals: np.ndarray


class State(NamedTuple):
    pool: p.Pool  # the small pool
    device: s.Device
    limits: p.Limits
    blocks: Blocks
    place: np.ndarray  # int64[blocks, 2]: the sort of place, and its number; -1 where a block is not placed
    asked: np.ndarray
    stream: np.ndarray
    costs_ns: np.ndarray
    streams: int
    pages: int
    stitched_from: int  # chunks
    most_stitched: int  # chunks


def init(
    context,
    *,
    fragment_limit_mb=512,
    stitched_limit_gb=1000,
    malloc_us=402.0,
    free_us=402.0,
    create_us=29.0,
    map_us=40.0,
    unmap_us=34.0,
    destroy_us=23.0,
):
    if fragment_limit_mb < 2:
        raise ValueError(f"fragment_limit_mb is {fragment_limit_mb}; expected at least 2")
    if not 0 <= stitched_limit_gb <= 1 << 20:
        raise ValueError(f"stitched_limit_gb is {stitched_limit_gb}; expected 0 to 2^20")
    costs_ns = p.costs(
        malloc_us=malloc_us,
        free_us=free_us,
        create_us=create_us,
        map_us=map_us,
        unmap_us=unmap_us,
        destroy_us=destroy_us,
    )
    pages = p.device_pages(context.capacity)
    stream, streams = p.dense_streams(context)
    most_stitched = (stitched_limit_gb << 30) // _CHUNK
    return State(
        pool=p.make_pool(context.blocks, pages, 2 * streams),
        device=s.make_device(pages),
        limits=p.Limits(0, p.MOST_BYTES, p.LARGE_SEGMENT_BYTES, -1),
        blocks=_make_blocks(pages, streams, most_stitched),
        place=np.full((context.blocks, 2), _NONE),
        asked=np.zeros(context.blocks, np.int64),
        stream=stream,
        costs_ns=costs_ns,
        streams=streams,
        pages=pages,
        stitched_from=-(-fragment_limit_mb * _MIB // _CHUNK),
        most_stitched=most_stitched,
    )


def _make_blocks(pages: int, streams: int, most_stitched: int) -> Blocks:
    """Room for all links: each is of a chunk or more of a stitched block."""
    links = max(most_stitched, pages) + pages + 2
    return Blocks(
        primitive=np.zeros((pages + 1, 7), np.int64),
        stitched=np.zeros((links, 7), np.int64),
        links=np.zeros((links, 5), np.int64),
        following=np.zeros(pages, np.int64),
        numbers=np.array([_NONE, _NONE, _NONE, 0, 0, 0, 0]),
        free_primitive=make_index(pages + 2),
        free_stitched=make_index(links),
        unused=make_index(links),
        free_chunks=np.zeros(streams, np.int64),
        totals=np.zeros(5, np.int64),
    )


@outlined
def _new_number(rows, numbers, spare, unused):
    number = numbers[spare]
    if number == _NONE:
        number = numbers[unused]
        numbers[unused] += 1
    else:
        numbers[spare] = rows[number, 0]
    return number


@outlined
def _drop_number(rows, numbers, spare, number):
    rows[number, 0] = numbers[spare]  # what is no more is on a list of such
    numbers[spare] = number


@outlined
def _key(stream, chunks):
    return stream << _STREAM_BITS | chunks


# --- primitive blocks


@outlined
def _enter_free(b, block):
    row = b.primitive[block]
    insert(b.free_primitive, _key(row[_STREAM], row[_CHUNKS]), row[_FIRST], block)
    b.free_chunks[row[_STREAM]] += row[_CHUNKS]


@outlined
def _leave_free(b, block):
    row = b.primitive[block]
    seek(b.free_primitive, _key(row[_STREAM], row[_CHUNKS]), row[_FIRST])
    remove_found(b.free_primitive)
    b.free_chunks[row[_STREAM]] -= row[_CHUNKS]


@outlined
def _leave_free_stitched(b, over):
    row = b.stitched[over]
    seek(b.free_stitched, _key(row[_STREAM], row[_CHUNKS]), row[_MADE])
    remove_found(b.free_stitched)


@outlined
def _activate(b, block):
    """Use a free primitive block: no stitched block over it can be used."""
    _leave_free(b, block)
    b.primitive[block, _ACTIVE] = 1
    link = b.primitive[block, _LINKS]
    while link != _NONE:
        over = b.links[link, _STITCHED]
        if b.stitched[over, _ACTIVE] == 0:
            _leave_free_stitched(b, over)
        b.stitched[over, _ACTIVE] += 1
        link = b.links[link, _NEXT_OVER]


@outlined
def _deactivate(b, block):
    _enter_free(b, block)
    b.primitive[block, _ACTIVE] = 0
    link = b.primitive[block, _LINKS]
    while link != _NONE:
        over = b.links[link, _STITCHED]
        b.stitched[over, _ACTIVE] -= 1
        if b.stitched[over, _ACTIVE] == 0:
            row = b.stitched[over]
            insert(b.free_stitched, _key(row[_STREAM], row[_CHUNKS]), row[_MADE], over)
        link = b.links[link, _NEXT_OVER]


@outlined
def _create(state, stream, chunks):
    """A primitive block in use of new chunks, of which the device has enough."""
    b, pool, device = state.blocks, state.pool, state.device
    block = _new_number(b.primitive, b.numbers, _SPARE_PRIMITIVE, _UNUSED_PRIMITIVE)
    row = b.primitive[block]
    row[_CHUNKS], row[_LINKS], row[_STREAM], row[_ACTIVE] = chunks, _NONE, stream, 1
    last = _NONE
    for _ in range(chunks):
        address = lowest_span(device.free, 0, _CHUNK)
        take_span(device.free, address, address + _CHUNK)
        take_span(device.idle, address, address + _CHUNK)
        if last == _NONE:
            row[_FIRST] = address // _CHUNK
        else:
            b.following[last] = address // _CHUNK
        last = address // _CHUNK
    b.following[last] = _NONE
    pool.totals[p.HELD] += chunks * _CHUNK
    b.totals[_CREATES] += chunks
    b.totals[_MAPS] += chunks
    return block


@outlined
def _destroy(state, block):
    """Give the chunks of a free primitive block back, with the stitched blocks over it."""
    b, device = state.blocks, state.device
    row = b.primitive[block]
    while row[_LINKS] != _NONE:
        _unstitch(b, b.links[row[_LINKS], _STITCHED])
    _leave_free(b, block)
    chunk = row[_FIRST]
    while chunk != _NONE:
        add_span(device.free, chunk * _CHUNK, (chunk + 1) * _CHUNK)
        add_span(device.idle, chunk * _CHUNK, (chunk + 1) * _CHUNK)
        chunk = b.following[chunk]
    state.pool.totals[p.HELD] -= row[_CHUNKS] * _CHUNK
    b.totals[_UNMAPS] += row[_CHUNKS]
    b.totals[_DESTROYS] += row[_CHUNKS]
    _drop_number(b.primitive, b.numbers, _SPARE_PRIMITIVE, block)


@outlined
def _split(b, block, chunks):
    """Leave so many chunks to a free primitive block; the others are a new free one, in the same stitched blocks."""
    _leave_free(b, block)
    rest = _new_number(b.primitive, b.numbers, _SPARE_PRIMITIVE, _UNUSED_PRIMITIVE)
    row, upper = b.primitive[block], b.primitive[rest]
    last = row[_FIRST]
    for _ in range(chunks - 1):
        last = b.following[last]
    upper[_FIRST], upper[_CHUNKS], upper[_LINKS] = b.following[last], row[_CHUNKS] - chunks, _NONE
    upper[_STREAM], upper[_ACTIVE] = row[_STREAM], 0
    b.following[last] = _NONE
    row[_CHUNKS] = chunks
    link = row[_LINKS]
    while link != _NONE:
        added = _new_link(b, rest, b.links[link, _STITCHED])
        b.links[added, _NEXT_PRIMITIVE] = b.links[link, _NEXT_PRIMITIVE]
        b.links[link, _NEXT_PRIMITIVE] = added
        link = b.links[link, _NEXT_OVER]
    _enter_free(b, block)
    _enter_free(b, rest)


# --- stitched blocks


@outlined
def _new_link(b, block, over):
    """A link that is on the list of the primitive block, and not on that of the stitched one yet."""
    link = _new_number(b.links, b.numbers, _SPARE_LINK, _UNUSED_LINK)
    row, head = b.links[link], b.primitive[block, _LINKS]
    row[_PRIMITIVE], row[_STITCHED], row[_NEXT_PRIMITIVE] = block, over, _NONE
    row[_NEXT_OVER], row[_BEFORE_OVER] = head, _NONE
    if head != _NONE:
        b.links[head, _BEFORE_OVER] = link
    b.primitive[block, _LINKS] = link
    return link


@outlined
def _drop_link(b, link):
    row = b.links[link]
    before, after = row[_BEFORE_OVER], row[_NEXT_OVER]
    if before == _NONE:
        b.primitive[row[_PRIMITIVE], _LINKS] = after
    else:
        b.links[before, _NEXT_OVER] = after
    if after != _NONE:
        b.links[after, _BEFORE_OVER] = before
    _drop_number(b.links, b.numbers, _SPARE_LINK, link)


@outlined
def _new_stitched(b, stream, chunks):
    """A stitched block in use, of nothing yet."""
    over = _new_number(b.stitched, b.numbers, _SPARE_STITCHED, _UNUSED_STITCHED)
    row = b.stitched[over]
    row[_FIRST], row[_CHUNKS], row[_LINKS], row[_STREAM], row[_ACTIVE] = 1, chunks, _NONE, stream, 0
    b.numbers[_CLOCK] += 1
    row[_MADE] = b.numbers[_CLOCK]
    b.totals[_STITCHED_CHUNKS] += chunks
    b.totals[_MAPS] += chunks
    return over


@outlined
def _append(b, over, last, block):
    """Put a primitive block in use at the end of a stitched one, whose last link is `last`; the new last one."""
    link = _new_link(b, block, over)
    if last == _NONE:
        b.stitched[over, _LINKS] = link
    else:
        b.links[last, _NEXT_PRIMITIVE] = link
    b.stitched[over, _ACTIVE] += 1
    return link


@outlined
def _unstitch(b, over):
    """Unmap a stitched block that is not in use itself."""
    row = b.stitched[over]
    if row[_ACTIVE] == 0:
        _leave_free_stitched(b, over)
    seek(b.unused, row[_STAMP], over)
    remove_found(b.unused)
    link = row[_LINKS]
    while link != _NONE:
        following = b.links[link, _NEXT_PRIMITIVE]
        _drop_link(b, link)
        link = following
    b.totals[_STITCHED_CHUNKS] -= row[_CHUNKS]
    b.totals[_UNMAPS] += row[_CHUNKS]
    _drop_number(b.stitched, b.numbers, _SPARE_STITCHED, over)


@outlined
def _use_stitched(b, over):
    row = b.stitched[over]
    seek(b.unused, row[_STAMP], over)
    remove_found(b.unused)
    row[_FIRST] = 1
    link = row[_LINKS]
    while link != _NONE:
        _activate(b, b.links[link, _PRIMITIVE])
        link = b.links[link, _NEXT_PRIMITIVE]


@outlined
def _release_stitched(b, over):
    row = b.stitched[over]
    link = row[_LINKS]
    while link != _NONE:
        _deactivate(b, b.links[link, _PRIMITIVE])
        link = b.links[link, _NEXT_PRIMITIVE]
    b.numbers[_CLOCK] += 1
    row[_FIRST], row[_STAMP] = 0, b.numbers[_CLOCK]
    insert(b.unused, row[_STAMP], over, over)


@outlined
def _keep_within(b, most_stitched):
    """Unmap what was not used for longest while there is more than the limit."""
    while b.totals[_STITCHED_CHUNKS] > most_stitched and seek(b.unused, 0, 0):
        _unstitch(b, found(b.unused))


@outlined
def _stitch(state, stream, chunks):
    """The largest free primitive blocks of a stream and, where these are not enough, new chunks, as one in use."""
    b = state.blocks
    wanted, last = chunks, np.int64(_NONE)
    over = _new_stitched(b, stream, chunks)
    while wanted > 0 and seek_before(b.free_primitive, _key(stream + 1, 0), 0):
        block = found(b.free_primitive)
        if b.primitive[block, _STREAM] != stream:
            break
        if b.primitive[block, _CHUNKS] > wanted:
            _split(b, block, wanted)
        _activate(b, block)
        last = _append(b, over, last, block)
        wanted -= b.primitive[block, _CHUNKS]
    if wanted > 0:
        _append(b, over, last, _create(state, stream, wanted))
    _keep_within(b, state.most_stitched)
    return over


# --- requests


@outlined
def _free_pages(state):
    return state.pages - state.pool.totals[p.HELD] // _CHUNK


@outlined
def _give_all_back(state):
    b = state.blocks
    while seek(b.free_primitive, 0, 0):
        _destroy(state, found(b.free_primitive))
    s.release_whole(state.pool, state.device)


@outlined
def _put(state, block, sort, number):
    state.place[block, 0], state.place[block, 1] = sort, number
    return True


@outlined
def _place_chunks(state, block, chunks):
    b, stream = state.blocks, state.stream[block]
    if seek(b.free_primitive, _key(stream, chunks), 0):
        fitting = found(b.free_primitive)
        if b.primitive[fitting, _STREAM] == stream and b.primitive[fitting, _CHUNKS] == chunks:
            _activate(b, fitting)
            return _put(state, block, _OF_PRIMITIVE, fitting)
    if seek(b.free_stitched, _key(stream, chunks), 0):
        over = found(b.free_stitched)
        if b.stitched[over, _STREAM] == stream and b.stitched[over, _CHUNKS] == chunks:
            _use_stitched(b, over)
            return _put(state, block, _OF_STITCHED, over)
    if seek(b.free_primitive, _key(stream, chunks), 0):
        larger = found(b.free_primitive)
        if b.primitive[larger, _STREAM] == stream:
            _split(b, larger, chunks)
            _activate(b, larger)
            return _put(state, block, _OF_PRIMITIVE, larger)
    free = b.free_chunks[stream] if chunks >= state.stitched_from else 0
    if free > 0 and chunks - free <= _free_pages(state):
        return _put(state, block, _OF_STITCHED, _stitch(state, stream, chunks))
    if chunks > _free_pages(state):
        _give_all_back(state)
    if chunks > _free_pages(state):
        return False
    return _put(state, block, _OF_PRIMITIVE, _create(state, stream, chunks))


@outlined
def _place_small(state, block, size):
    """In the small pool of PyTorch's allocator, for which free chunks are given back where the device is full."""
    pool, device, group = state.pool, state.device, p.group_of(state.stream[block], size)
    piece = s.place_in_segment(pool, device, state.limits, group, size)
    if piece == _NONE:
        _give_all_back(state)
        piece = s.place_in_segment(pool, device, state.limits, group, size)
    return piece != _NONE and _put(state, block, _SMALL, piece)


@outlined
def _taken(state, block):
    sort, number = state.place[block, 0], state.place[block, 1]
    if sort == _SMALL:
        return state.pool.rows[number, p.BYTES]
    blocks = state.blocks.primitive if sort == _OF_PRIMITIVE else state.blocks.stitched
    return blocks[number, _CHUNKS] * _CHUNK


@outlined
def allocate(state, block, size_bytes):
    if state.place[block, 0] != _NONE:
        raise ValueError("the block to allocate is placed already")
    if size_bytes < 1:
        raise ValueError("the block to allocate has no bytes")
    if size_bytes <= p.SMALL_BYTES:
        placed = _place_small(state, block, p.rounded(size_bytes, 0))
    else:
        placed = _place_chunks(state, block, (min(size_bytes, p.MOST_BYTES) + _CHUNK - 1) // _CHUNK)
    if not placed:
        return False
    taken, totals = _taken(state, block), state.pool.totals
    totals[p.ALLOCATED] += taken
    totals[p.INTERNAL] += taken - size_bytes
    state.asked[block] = size_bytes
    return True


@outlined
def release(state, block):
    sort, number = state.place[block, 0], state.place[block, 1]
    if sort == _NONE:
        raise ValueError("the block to release is not placed")
    taken, totals = _taken(state, block), state.pool.totals
    totals[p.ALLOCATED] -= taken
    totals[p.INTERNAL] -= taken - state.asked[block]
    state.place[block, 0] = _NONE
    if sort == _SMALL:
        s.free_piece(state.pool, state.device, number)
    elif sort == _OF_PRIMITIVE:
        _deactivate(state.blocks, number)
    else:
        _release_stitched(state.blocks, number)
        _keep_within(state.blocks, state.most_stitched)


def free_bytes(state):
    return state.pages * _CHUNK - state.pool.totals[p.ALLOCATED]


@outlined
def largest_free_bytes(state):
    pages = _free_pages(state) + state.pool.totals[p.IDLE_FRAMES]
    largest = np.int64(0)
    for stream in range(state.streams):
        pages += state.blocks.free_chunks[stream]
        largest = max(largest, s.largest_small(state.pool, state.limits, stream))
    return max(largest, pages * _CHUNK)


def internal_bytes(state):
    return state.pool.totals[p.INTERNAL]


def held_bytes(state):
    return state.pool.totals[p.HELD]


@outlined
def _runs_of(b, block, runs, out):
    chunk = b.primitive[block, _FIRST]
    while chunk != _NONE:
        runs = add_run(out, runs, chunk * _CHUNK, _CHUNK)
        chunk = b.following[chunk]
    return runs


@outlined
def extents(state, block, out):
    sort, number, b = state.place[block, 0], state.place[block, 1], state.blocks
    if sort == _SMALL:
        return one_run(out, state.pool.rows[number, p.ADDRESS], state.pool.rows[number, p.BYTES])
    if sort == _OF_PRIMITIVE:
        return _runs_of(b, number, 0, out)
    runs, link = 0, b.stitched[number, _LINKS]
    while link != _NONE:
        runs = _runs_of(b, b.links[link, _PRIMITIVE], runs, out)
        link = b.links[link, _NEXT_PRIMITIVE]
    return runs


def calls_made(state, which):
    small, chunks = state.pool.totals, state.blocks.totals
    if which == SYSTEM_ALLOCATIONS:
        return small[p.MALLOCS] + chunks[_CREATES]
    if which == SYSTEM_RELEASES:
        return small[p.FREES] + chunks[_DESTROYS]
    if which == MAPS:
        return chunks[_MAPS]
    return chunks[_UNMAPS] if which == UNMAPS else 0


def waited_ns(state):
    small, chunks, costs = state.pool.totals, state.blocks.totals, state.costs_ns
    segments = small[p.MALLOCS] * costs[0] + small[p.FREES] * costs[1]
    mapped = chunks[_CREATES] * costs[2] + chunks[_MAPS] * costs[3]
    return segments + mapped + chunks[_UNMAPS] * costs[4] + chunks[_DESTROYS] * costs[5]


ALLOCATOR = Allocator(
    name="stitching",
    init=init,
    allocate=allocate,
    release=release,
    free_bytes=free_bytes,
    largest_free_bytes=largest_free_bytes,
    internal_bytes=internal_bytes,
    held_bytes=held_bytes,
    extents=extents,
    calls_made=calls_made,
    waited_ns=waited_ns,
)
