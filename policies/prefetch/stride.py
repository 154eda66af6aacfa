"""Stride prefetch: where a tenant's addresses keep an equal distance, the next `degree` of them are fetched
(reference prediction table, Baer and Chen 1991).

The table has `table_size` entries, found by tenant modulo that, where the paper uses the load instruction; a tenant
that finds another's entry takes it over. An entry is trusted after two equal strides in a row. One deviation from a
trusted stride makes it prove itself once more without losing the stride, so that a loop's jump back costs little.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import subroutine
from sim.policy import PrefetchPolicy

TENANT, LAST, STRIDE, TRUST = 0, 1, 2, 3  # columns of the table
UNUSED, INITIAL, TRANSIENT, STEADY, NO_PREDICTION = 0, 1, 2, 3, 4  # values of TRUST


class State(NamedTuple):
    table: np.ndarray  # int64[table_size, 4]
    degree: int


def init(context, *, degree=1, table_size=256):
    if not 1 <= degree <= 1024:
        raise ValueError(f"degree is {degree}; expected 1 to 1024")
    if not 1 <= table_size <= 1 << 24:
        raise ValueError(f"table_size is {table_size}; expected 1 to {1 << 24}")
    return State(np.zeros((table_size, 4), np.int64), degree)


@subroutine
def _learn(entry, address):
    """Move the entry on by one access; whether its stride can now be trusted."""
    stride = address - entry[LAST]
    expected = stride == entry[STRIDE]
    trust = entry[TRUST]
    entry[LAST] = address
    if expected:
        entry[TRUST] = TRANSIENT if trust == NO_PREDICTION else STEADY
        return entry[TRUST] == STEADY
    if trust == STEADY:
        entry[TRUST] = INITIAL
        return False
    entry[STRIDE] = stride
    entry[TRUST] = TRANSIENT if trust == INITIAL else NO_PREDICTION
    return False


def propose(state, request, hit, proposals):
    entry = state.table[request.tenant % state.table.shape[0]]
    if entry[TRUST] == UNUSED or entry[TENANT] != request.tenant:
        entry[TENANT], entry[LAST], entry[STRIDE], entry[TRUST] = request.tenant, request.address, 0, INITIAL
        return 0
    if not _learn(entry, request.address) or entry[STRIDE] == 0:
        return 0
    count = 0
    address = request.address + entry[STRIDE]
    while count < state.degree and address >= 0:
        proposals[count] = address
        address += entry[STRIDE]
        count += 1
    return count


def degree(parameters):
    return parameters["degree"]


POLICY = PrefetchPolicy(name="stride", init=init, propose=propose, degree=degree, needs=("address",))
