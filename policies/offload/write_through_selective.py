"""A block is written here once the tier above has been asked for it `threshold` times: write-through for what has
proved itself (HiCache's `write_through_selective`, SGLang 2025).

Accesses are counted for ever, whether they hit or not; eviction does not reset the count. threshold = 1 is write-
through.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.policy import OffloadPolicy


class State(NamedTuple):
    touches: np.ndarray  # uint32[blocks]
    threshold: int


def init(context, *, threshold=2):
    if threshold < 1:
        raise ValueError(f"threshold is {threshold}; expected at least 1")
    return State(np.zeros(context.blocks, np.uint32), threshold)


def on_access(state, request):
    state.touches[request.block] += 1


def copy_on_insert(state, request):
    return state.touches[request.block] >= state.threshold


def copy_on_hit(state, request):
    return state.touches[request.block] >= state.threshold


def copy_on_evict(state, block):
    return False


def keep_on_promote(state, block):
    return True


POLICY = OffloadPolicy(
    name="write_through_selective",
    init=init,
    on_access=on_access,
    copy_on_insert=copy_on_insert,
    copy_on_hit=copy_on_hit,
    copy_on_evict=copy_on_evict,
    keep_on_promote=keep_on_promote,
)
