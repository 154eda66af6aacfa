"""Pages of one size, any of which any object may hold: which are free, which is taken next, and who holds which.

Pages are numbered from 0. Those that were never used are taken in the order of their numbers, so what lies beyond the
first of them needs no memory. A page has one link, 4 bytes: in an object, to the page before it; in the list of free
pages, to the one that is taken after it. An object's pages linked from its last to its first are thus a piece of that
list as they are: releasing an object puts it there whole, however many pages it has.

order: of the free pages, `fifo` takes the one that was released first, and those never used before any; `lifo` the one
that was released last, `lowest` the one with the lowest number. An object's last page is released first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.bitset import BitSet, add, discard, first_from, make_bitset
from sim.kernels.compile import inlined, subroutine

FREE_PAGES, _UNUSED, _NEXT, _NEWEST = range(4)
_ORDERS = ("fifo", "lifo", "lowest")
_FIFO, _LIFO, _LOWEST = range(3)
_MOST_PAGES = 1 << 30  # 4 GiB of links
_LOW = (1 << 32) - 1


class Pages(NamedTuple):
    links: np.ndarray  # uint32[pages], see above
    freed: BitSet  # where the lowest is taken: the free pages that were used
    totals: np.ndarray  # int64: free pages; first page never used; of the list, the page to take and the newest one;
    # where the lowest is taken, a page that none of the freed ones is below
    order: int


def make_pages(pages: int, order: str, page_bytes: int, capacity: int) -> Pages:
    """All free. Raises ValueError for an unknown order, or where there are too many to name."""
    if order not in _ORDERS:
        raise ValueError(f"order is {order!r}; expected {', '.join(map(repr, _ORDERS))}")
    if pages > _MOST_PAGES:
        enough = -(-capacity // _MOST_PAGES)
        raise ValueError(
            f"page_bytes is {page_bytes}; expected at least {enough} for the pages of {capacity} bytes to be named"
        )
    which = _ORDERS.index(order)
    return Pages(
        links=np.zeros(pages, np.uint32),  # mapped only where it is touched
        freed=make_bitset(pages if which == _LOWEST else 0),
        totals=np.array([pages, 0, 0, 0]),
        order=which,
    )


@inlined
def ends(first, last):
    """What an object's row keeps of its pages: its first and its last one in one number."""
    return (np.int64(first) << 32) | np.int64(last)


@inlined
def first_of(both):
    return both >> 32


@inlined
def last_of(both):
    return both & _LOW


@inlined
def _take(links, freed, totals, order):
    """The next free page, of which there is one."""
    unused = totals[_UNUSED]
    listed = totals[FREE_PAGES] - (links.shape[0] - unused)
    totals[FREE_PAGES] -= 1
    if listed == 0 or (order == _FIFO and unused < links.shape[0]):
        totals[_UNUSED] = unused + 1
        return unused
    if order == _LOWEST:
        page = first_from(freed, totals[_NEXT])
        discard(freed, page)
        totals[_NEXT] = page + 1
        return page
    page = totals[_NEXT]
    totals[_NEXT] = links[page]
    return page


@subroutine
def take_pages(pages, count):
    """So many free pages, of which there are enough, for an object that has none; its ends."""
    links, freed, totals, order = pages.links, pages.freed, pages.totals, pages.order
    first = _take(links, freed, totals, order)
    last = first
    for _ in range(count - 1):
        page = _take(links, freed, totals, order)
        links[page] = last
        last = page
    return ends(first, last)


@subroutine
def add_pages(pages, both, count):
    """So many more, of which there are enough, for an object with these ends; its new ends."""
    links, freed, totals, order = pages.links, pages.freed, pages.totals, pages.order
    last = last_of(both)
    for _ in range(count):
        page = _take(links, freed, totals, order)
        links[page] = last
        last = page
    return ends(first_of(both), last)


@subroutine
def give_pages(pages, both, count):
    """Release all `count` pages of an object with these ends."""
    _give(pages, last_of(both), first_of(both), count)


@subroutine
def drop_pages(pages, both, count):
    """Release the last `count` pages, not all, of an object with these ends; its new ends."""
    links = pages.links
    last = last_of(both)
    piece = last
    for _ in range(count - 1):
        piece = np.int64(links[piece])
    kept = np.int64(links[piece])
    _give(pages, last, piece, count)
    return ends(first_of(both), kept)


@inlined
def _give(pages, newest, oldest, count):
    """Put a chain of pages, linked from the newest to the oldest, to the free ones."""
    links, totals = pages.links, pages.totals
    listed = totals[FREE_PAGES] - (links.shape[0] - totals[_UNUSED])
    totals[FREE_PAGES] += count
    if pages.order == _LOWEST:
        page = newest
        for _ in range(count):
            add(pages.freed, page)
            totals[_NEXT] = min(totals[_NEXT], page)
            page = np.int64(links[page])
    elif listed == 0:
        totals[_NEXT], totals[_NEWEST] = newest, oldest
    elif pages.order == _LIFO:
        links[oldest] = totals[_NEXT]
        totals[_NEXT] = newest
    else:
        links[totals[_NEWEST]] = newest
        totals[_NEWEST] = oldest


@subroutine
def count_runs(pages, both):
    """How many runs of neighbouring pages, in the order of the object's bytes, one with these ends has."""
    first, page, runs = first_of(both), last_of(both), 1
    while page != first:
        before = np.int64(pages.links[page])
        runs += before + 1 != page
        page = before
    return runs


@subroutine
def write_runs(pages, both, page_bytes, out):
    """The answer of `extents` of an object with these ends."""
    runs = count_runs(pages, both)
    first, page = first_of(both), last_of(both)
    at, length = runs - 1, 1
    while page != first:
        before = np.int64(pages.links[page])
        if before + 1 == page:
            length += 1
        else:
            _write(out, at, page * page_bytes, length * page_bytes)
            at, length = at - 1, 1
        page = before
    _write(out, at, page * page_bytes, length * page_bytes)
    return runs


@inlined
def _write(out, at, address, size_bytes):
    if at < out.shape[0]:
        out[at, 0], out[at, 1] = address, size_bytes
