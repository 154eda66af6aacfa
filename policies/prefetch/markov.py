"""Markov prefetch: what followed a miss before is fetched when it is missed again (Joseph and Grunwald, "Prefetching
using Markov predictors", ISCA 1997).

The table has `table_size` entries, found by the address modulo that; an address that finds another's entry takes it
over. An entry has the last `degree` addresses that were missed next after its own, all of which are fetched, the latest
first. on: "miss" learns from and answers to misses, as in the paper, where the predictor sits behind a cache; "always"
every access.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import subroutine
from sim.policy import PrefetchPolicy

USED, ADDRESS, COUNT, SUCCESSORS = 0, 1, 2, 3  # columns of the table: a flag, its address, and how many successors


class State(NamedTuple):
    table: np.ndarray  # int64[table_size, 3 + degree]
    last: np.ndarray  # int64[2]: a flag, and the miss before
    misses_only: bool


def init(context, *, degree=4, table_size=65536, on="miss"):
    if not 1 <= degree <= 64:
        raise ValueError(f"degree is {degree}; expected 1 to 64")
    if not 1 <= table_size <= 1 << 24:
        raise ValueError(f"table_size is {table_size}; expected 1 to {1 << 24}")
    if on not in ("always", "miss"):
        raise ValueError(f"on is {on!r}; expected 'always' or 'miss'")
    return State(np.zeros((table_size, SUCCESSORS + degree), np.int64), np.zeros(2, np.int64), on == "miss")


@subroutine
def _learn(entry, address, successor):
    """Put the successor before the others of an address; the one that followed longest ago makes room."""
    if not entry[USED] or entry[ADDRESS] != address:
        entry[USED], entry[ADDRESS], entry[COUNT] = 1, address, 0
    end = SUCCESSORS + entry[COUNT]
    at = SUCCESSORS
    while at < end and entry[at] != successor:
        at += 1
    if at == end and end < entry.size:
        entry[COUNT] += 1
    at = min(at, entry.size - 1)
    while at > SUCCESSORS:
        entry[at] = entry[at - 1]
        at -= 1
    entry[SUCCESSORS] = successor


def propose(state, request, hit, proposals):
    if hit and state.misses_only:
        return 0
    table, last, address = state.table, state.last, request.address
    if last[0] == 1:
        _learn(table[last[1] % table.shape[0]], last[1], address)
    last[0], last[1] = 1, address
    entry = table[address % table.shape[0]]
    if entry[USED] == 0 or entry[ADDRESS] != address:
        return 0
    for i in range(entry[COUNT]):
        proposals[i] = entry[SUCCESSORS + i]
    return entry[COUNT]


def degree(parameters):
    return parameters["degree"]


POLICY = PrefetchPolicy(name="markov", init=init, propose=propose, degree=degree, needs=("address",))
