"""Random requests for an allocator beside its oracle: strategies of hypothesis, and what carries them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import strategies as st

BLOCKS = 12
_sizes = st.one_of(st.integers(1, 40), st.integers(1, 400))
operations = st.lists(st.tuples(st.integers(0, BLOCKS - 2), _sizes), max_size=60)


def play(pair: Any, steps: Iterable[tuple[int, int]], after: Callable[[], None]) -> None:
    """Each step releases the block it names where that is placed, and allocates it where it is not.

    pair: an allocator and its `oracle`, which are told of the same by `allocate` and `release`.
    """
    for block, size in steps:
        if block in pair.oracle.asked:
            pair.release(block)
        else:
            pair.allocate(block, size)
        after()
