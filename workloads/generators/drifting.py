"""A working set that drifts over the objects: what is new is popular, then it ages and is asked for no more."""

from __future__ import annotations

import numpy as np

from sim.trace_options import Option
from workloads.generators._common import ALPHA, Draw, generator, zipf_draw


def ids(
    rng: np.random.Generator, requests: int, objects: int, working_set: int, alpha: float, drift: float
) -> tuple[int, Draw]:
    """Request i falls into the `working_set` objects that end at object working_set + i * drift, round and round.

    The newest object has rank 0, so that an object enters as the most popular and cools.
    """
    working_set = min(working_set, objects)
    rank = zipf_draw(rng, working_set, alpha)

    def draw(first: int, n: int) -> np.ndarray:
        newest = working_set - 1 + np.floor(np.arange(first, first + n) * drift).astype(np.int64)
        return (newest - rank(first, n)) % objects

    return objects, draw


GENERATOR = generator(
    "drifting",
    "Zipf requests over a working set that drifts: objects enter as the most popular, cool and leave",
    ids,
    {
        "objects": Option(100_000, "distinct objects, passed through round and round", at_least=1, at_most=1 << 30),
        "working_set": Option(1000, "objects asked for at any one time", at_least=1, at_most=1 << 30),
        "alpha": ALPHA,
        "drift": Option(0.01, "objects that enter (and leave) the working set a request", at_least=0.0, at_most=1e6),
    },
)
