"""Best fit: the smallest free run that is large enough, the lowest of equal ones (Knuth, TAOCP, vol. 1, 2.5).

Sizes are rounded up to `alignment_bytes`, 64 by default (a cache line). `header_bytes`: see `sim.allocation._runs`.
"""

from __future__ import annotations

from sim.allocation._runs import HOOKS, make_state
from sim.policy import Allocator


def init(context, *, alignment_bytes=64, header_bytes=0):
    return make_state(context, alignment_bytes, header_bytes, by_size=True)


ALLOCATOR = Allocator(name="best_fit", init=init, **HOOKS)
