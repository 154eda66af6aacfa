"""Calls for objects that were allocated before a recording began."""

from __future__ import annotations

import numpy as np

from sim.fragmentation.operations import ALLOCATE
from sim.trace_options import Option

UNSEEN = Option(
    "refuse",
    "a free or resize of what was never allocated in the file: an error, or left out",
    choices=("refuse", "skip"),
)


def drop_unseen(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the rows that name an id which no row before them allocates; of other bad rows none is dropped."""
    op, ids = columns["op"], columns["id"]
    order = np.argsort(ids, kind="stable")
    begins = np.concatenate([[True], ids[order][1:] != ids[order][:-1]])[: ids.size]
    seen = np.cumsum(op[order] == ALLOCATE)
    before = seen[begins] - (op[order][begins] == ALLOCATE)  # allocations of smaller ids
    known = np.empty(ids.size, bool)
    known[order] = seen > before[np.cumsum(begins) - 1]
    return {name: column[known] for name, column in columns.items()}
