"""Probability graph: what was often accessed soon after an address is fetched when that is accessed again (Griffioen
and Appleton, "Reducing file system latency using a predictive approach", USENIX 1994).

Each access adds 1 to an edge from each of the `lookahead` accesses before it to itself. The chance of an edge is its
count over those of all edges from the same address; edges with a chance of `min_chance` or more are fetched, the
likeliest first, up to `degree`. An edge from an address to itself says nothing and is not kept.

The graph has `table_size` addresses, found by the address modulo that; one that finds another's place takes it over,
edges and all. An address has up to `edges` edges; a new one takes the place of the one with the lowest count. In the
paper files are opened, and the graph has room for all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import subroutine
from sim.policy import PrefetchPolicy

USED, ADDRESS, TOTAL = 0, 1, 2  # columns of nodes: a flag, the address, and the sum over its edges


class State(NamedTuple):
    nodes: np.ndarray  # int64[table_size, 3]
    targets: np.ndarray  # int64[table_size, edges]
    counts: np.ndarray  # int64[table_size, edges]; 0 where there is no edge yet
    recent: np.ndarray  # int64[lookahead]: the addresses accessed last, as a ring
    accesses: np.ndarray  # int64[1]: so far
    degree: int
    min_chance: float


def init(context, *, degree=4, lookahead=4, min_chance=0.1, edges=16, table_size=65536):
    for name, value, most in (("degree", degree, 1024), ("lookahead", lookahead, 1024), ("edges", edges, 1024)):
        if not 1 <= value <= most:
            raise ValueError(f"{name} is {value}; expected 1 to {most}")
    if not 1 <= table_size <= 1 << 24:
        raise ValueError(f"table_size is {table_size}; expected 1 to {1 << 24}")
    if not 0 < min_chance <= 1:
        raise ValueError(f"min_chance is {min_chance}; expected more than 0, to 1")
    return State(
        nodes=np.zeros((table_size, 3), np.int64),
        targets=np.zeros((table_size, edges), np.int64),
        counts=np.zeros((table_size, edges), np.int64),
        recent=np.zeros(lookahead, np.int64),
        accesses=np.zeros(1, np.int64),
        degree=degree,
        min_chance=min_chance,
    )


@subroutine
def _add(node, targets, counts, target):
    """Add 1 to the edge to `target`, which is made where there is none."""
    at = 0
    for i in range(counts.size):
        if counts[i] > 0 and targets[i] == target:
            counts[i] += 1
            node[TOTAL] += 1
            return
        if counts[i] < counts[at]:
            at = i
    node[TOTAL] += 1 - counts[at]
    targets[at], counts[at] = target, 1


@subroutine
def _choose(node, targets, counts, min_chance, most, proposals):
    """Write the targets of the likeliest edges, of equal ones the first; how many."""
    chosen, before, before_at = 0, node[TOTAL] + 1, np.int64(-1)
    while chosen < most:
        best, best_at = np.int64(0), np.int64(-1)
        for i in range(counts.size):
            follows = counts[i] < before or (counts[i] == before and i > before_at)
            if follows and counts[i] > best:
                best, best_at = counts[i], np.int64(i)
        if best_at < 0 or best < min_chance * node[TOTAL]:
            return chosen
        proposals[chosen] = targets[best_at]
        chosen += 1
        before, before_at = best, best_at
    return chosen


@subroutine
def propose(state, request, hit, proposals):
    nodes, targets, counts, recent = state.nodes, state.targets, state.counts, state.recent
    address, rows = request.address, state.nodes.shape[0]
    for k in range(min(state.accesses[0], recent.size)):
        before = recent[k]
        row = before % rows
        if before != address and nodes[row, ADDRESS] == before:
            _add(nodes[row], targets[row], counts[row], address)
    recent[state.accesses[0] % recent.size] = address
    state.accesses[0] += 1
    row = address % rows
    if nodes[row, USED] == 0 or nodes[row, ADDRESS] != address:
        nodes[row, USED], nodes[row, ADDRESS], nodes[row, TOTAL] = 1, address, 0
        counts[row] = 0
        return 0
    return _choose(nodes[row], targets[row], counts[row], state.min_chance, state.degree, proposals)


def degree(parameters):
    return parameters["degree"]


POLICY = PrefetchPolicy(name="pg", init=init, propose=propose, degree=degree, needs=("address",))
