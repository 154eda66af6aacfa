"""One scan: every object once, in order."""

from __future__ import annotations

import numpy as np

from workloads.generators._common import Draw, generator


def ids(rng: np.random.Generator, requests: int) -> tuple[int, Draw]:
    return requests, lambda first, n: np.arange(first, first + n)


GENERATOR = generator("sequential", "one scan: every object once, in order", ids, {})
