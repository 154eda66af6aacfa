"""Segregated slabs: equal chunks cut from slabs, one size class a slab (Bonwick 1994; classes grow as memcached's).

A class is `factor` times the one below, from `smallest_bytes` up to half of a slab, rounded up to 8 bytes. A larger
request takes whole slabs side by side, so that a single block can fill the memory. Placement and accounting are those
of `sim.allocation._chunks`, with slabs for pages: a class takes the lowest free one.

`slab_bytes` is cut to the capacity where that is less, and the capacity to whole slabs. The tail beyond is neither free
nor allocated: allocated + metadata + free + tail = capacity.

Each slab that is cut into chunks has `header_bytes` of books at its end, as Bonwick's slabs of small objects do ("The
slab allocator: an object-caching kernel memory allocator", USENIX Summer 1994, 3.2.2), which are metadata; memcached
and Bonwick's slabs of large objects have theirs elsewhere, hence none by default. The map of free chunks, one bit each,
lies outside of the memory.
"""

from __future__ import annotations

from sim.allocation._chunks import HOOKS, Books, make_state
from sim.policy import Allocator

_ALIGNMENT = 8


def init(context, *, smallest_bytes=64, factor=1.25, slab_bytes=1 << 20, header_bytes=0):
    for name, value in (("smallest_bytes", smallest_bytes), ("slab_bytes", slab_bytes)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected a positive whole number")
    if not 1 < factor < float("inf"):
        raise ValueError(f"factor is {factor}; expected a number above 1")
    if header_bytes < 0:
        raise ValueError(f"header_bytes is {header_bytes}; expected a whole number from 0 on")
    slab_bytes = max(1, min(slab_bytes, context.capacity))
    sizes = _chunk_sizes(smallest_bytes, factor, (slab_bytes - header_bytes) // 2)
    books = Books(header_bytes=header_bytes, chunk_bits=1)
    return make_state(context, slab_bytes, [(size, slab_bytes) for size in sizes], books)


def _chunk_sizes(smallest, factor, largest):
    sizes, size = [], smallest
    while (chunk := -(-int(size) // _ALIGNMENT) * _ALIGNMENT) <= largest:
        sizes.append(chunk)
        size = max(chunk * factor, chunk + 1)
    return sizes


ALLOCATOR = Allocator(name="slab", init=init, **HOOKS)
