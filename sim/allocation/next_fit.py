"""Next fit: the first free run that is large enough from where the last object was placed (Knuth, TAOCP, vol. 1, 2.5).

The search goes on at the end of the object that was placed last, or, once what is free there has been merged with a run
below, at the start of that run, as with the roving pointer of Knuth's exercise 6; beyond the last run it goes on with
the lowest one.

Sizes are rounded up to `alignment_bytes`, 64 by default (a cache line). `header_bytes`: see `sim.allocation._runs`.
"""

from __future__ import annotations

from sim.allocation._runs import HOOKS, make_state
from sim.policy import Allocator


def init(context, *, alignment_bytes=64, header_bytes=0):
    return make_state(context, alignment_bytes, header_bytes, by_size=False, roving=True)


ALLOCATOR = Allocator(name="next_fit", init=init, **HOOKS)
