"""A general heap with size classes, whose books lie out of band: nothing of them is beside an object or in its pages.

SJMalloc (Bauroth 2024, "SJMalloc: the security-conscious, fast, thread-safe and memory-efficient heap allocator",
arXiv 2410.17928) keeps its metadata away from the application's data, so that no overflow of an object reaches it.
jemalloc does likewise, and the numbers are its own (Evans 2006, "A scalable concurrent malloc(3) implementation for
FreeBSD"; jemalloc 5.3, jemalloc(3), include/jemalloc/internal/sc.h and edata.h):

- classes: half of the quantum, multiples of `quantum_bytes` (16), and from there on `classes_per_doubling` (4) evenly
  spaced ones between powers of two, below that many pages;
- a slab of a class is the fewest pages of `page_bytes` (4096) that its chunks fill without a rest;
- a larger object has a run of pages of its own, the lowest that holds it;
- books: `slab_metadata_bytes` (128: the descriptor, which has the bits of a slab's chunks in it) for each slab and each
  run, `page_metadata_bytes` (8: an entry of the tree from addresses to descriptors) for each page in use, and
  `object_metadata_bits` (0) for each chunk of a slab, all of it `outside_bytes`; there are no `metadata_bytes`.

What is modelled is placement and the bytes of the books, by one arena and one thread: no caches of threads, no delayed
return of pages, no guard pages or random placement, and no classes for runs of pages, which jemalloc rounds up as well.
The rest of SJMalloc's design is not modelled either. Placement and accounting are those of `sim.allocation._chunks`;
within a class jemalloc takes the oldest slab with a free chunk, and here it is the slab with the lowest number.
"""

from __future__ import annotations

import math

from sim.allocation._chunks import HOOKS, Books, make_state
from sim.policy import Allocator


def init(
    context,
    *,
    quantum_bytes=16,
    classes_per_doubling=4,
    page_bytes=4096,
    slab_metadata_bytes=128,
    page_metadata_bytes=8,
    object_metadata_bits=0,
):
    powers = {"quantum_bytes": quantum_bytes, "classes_per_doubling": classes_per_doubling, "page_bytes": page_bytes}
    for name, value in powers.items():
        if value < 1 or value & (value - 1):
            raise ValueError(f"{name} is {value}; expected a power of two")
    if page_bytes < quantum_bytes:
        raise ValueError(f"page_bytes is {page_bytes}; expected at least {quantum_bytes} quantum_bytes")
    books = {
        "slab_metadata_bytes": slab_metadata_bytes,
        "page_metadata_bytes": page_metadata_bytes,
        "object_metadata_bits": object_metadata_bits,
    }
    for name, value in books.items():
        if value < 0:
            raise ValueError(f"{name} is {value}; expected a whole number from 0 on")
    sizes = _chunk_sizes(quantum_bytes, classes_per_doubling, page_bytes * classes_per_doubling)
    classes = [(size, math.lcm(size, page_bytes)) for size in sizes]
    return make_state(context, page_bytes, classes, Books(0, *books.values()))


def _chunk_sizes(quantum, per_doubling, end):
    sizes, step = [quantum // 2] if quantum > 1 else [], quantum
    size = step
    while size < end:
        sizes.append(size)
        if size == 2 * step * per_doubling:
            step *= 2
        size += step
    return sizes


ALLOCATOR = Allocator(name="size_classes", init=init, **HOOKS)
