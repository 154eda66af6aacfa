"""Free spans of addresses, merged as soon as they touch: the lowest that is long enough, and the longest, in O(log n).

Unlike `sim.kernels.regions` nothing is known of what lies between the spans, and any part of one can be taken out. In
the index a span is (end, weight, start); its weight, by which it is sought, is its length unless somebody says
otherwise.
"""

from __future__ import annotations

from sim.kernels.compile import subroutine
from sim.kernels.ordered_index import (
    Index,
    found,
    found_key,
    insert,
    make_index,
    remove_found,
    replace_found,
    seek,
    seek_peak_from,
)


def make_spans(most: int) -> Index:
    """No spans, of which there will be at most `most`."""
    return make_index(most)


@subroutine
def add_span(spans, start, end):
    """Add what is in no span, merged with the spans beside it."""
    if seek(spans, start, 0) and found_key(spans) == start:
        start = found(spans)
        remove_found(spans)
    if seek(spans, end + 1, 0) and found(spans) == end:
        end = found_key(spans)
        remove_found(spans)
    insert(spans, end, end - start, start)


@subroutine
def take_span(spans, start, end):
    """Take out a part of one span."""
    seek(spans, start + 1, 0)
    had_start, had_end = found(spans), found_key(spans)
    remove_found(spans)
    if had_start < start:
        insert(spans, start, start - had_start, had_start)
    if end < had_end:
        insert(spans, had_end, had_end - end, end)


@subroutine
def span_start(spans, address):
    """Where the span that `address` lies in starts; -1 where it lies in none."""
    if seek(spans, address + 1, 0) and found(spans) <= address:
        return found(spans)
    return -1


@subroutine
def weigh_span(spans, address, weight):
    """Give another weight to the span that `address` lies in."""
    seek(spans, address + 1, 0)
    replace_found(spans, found_key(spans), weight)


@subroutine
def lowest_span(spans, address, least):
    """Where the lowest span that ends beyond `address`, of a weight of at least `least`, starts; -1 where none does."""
    if seek_peak_from(spans, address + 1, least):
        return found(spans)
    return -1
