"""Worst fit: the largest free run, the lowest of equal ones (Wilson, Johnstone, Neely and Boles 1995).

The survey is "Dynamic storage allocation: a survey and critical review" (IWMM 1995).

Sizes are rounded up to `alignment_bytes`, 64 by default (a cache line). `header_bytes`: see `sim.allocation._runs`.
"""

from __future__ import annotations

from sim.allocation._runs import HOOKS, make_state
from sim.policy import Allocator


def init(context, *, alignment_bytes=64, header_bytes=0):
    return make_state(context, alignment_bytes, header_bytes, by_size=True, largest_first=True)


ALLOCATOR = Allocator(name="worst_fit", init=init, **HOOKS)
