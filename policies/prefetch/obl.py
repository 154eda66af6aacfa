"""Tagged one block lookahead: an address that is missed, or used for the first time after it was fetched ahead, brings
in the next (Smith, "Cache Memories", 1982; Gindele 1977).

So a run of addresses costs one miss however long it is, and a block that is hit again and again fetches nothing. The
tags are a table of `table_size` addresses that were fetched ahead and not used yet, found by the address modulo that; a
later one takes the place of an earlier. `next_n` with n = 1 has the forms that fetch always, or on misses alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.policy import PrefetchPolicy

TAGGED, ADDRESS = 0, 1  # columns of tags


class State(NamedTuple):
    tags: np.ndarray  # int64[table_size, 2]


def init(context, *, table_size=65536):
    if not 1 <= table_size <= 1 << 24:
        raise ValueError(f"table_size is {table_size}; expected 1 to {1 << 24}")
    return State(np.zeros((table_size, 2), np.int64))


def propose(state, request, hit, proposals):
    tag = state.tags[request.address % state.tags.shape[0]]
    fetched_ahead = tag[TAGGED] == 1 and tag[ADDRESS] == request.address
    if fetched_ahead:
        tag[TAGGED] = 0
    if hit and not fetched_ahead:
        return 0
    following = state.tags[(request.address + 1) % state.tags.shape[0]]
    following[TAGGED], following[ADDRESS] = 1, request.address + 1
    proposals[0] = request.address + 1
    return 1


def degree(parameters):
    return 1


POLICY = PrefetchPolicy(name="obl", init=init, propose=propose, degree=degree, needs=("address",))
