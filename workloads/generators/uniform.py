"""Independent requests, all objects alike."""

from __future__ import annotations

import numpy as np

from workloads.generators._common import OBJECTS, Draw, generator


def ids(rng: np.random.Generator, requests: int, objects: int) -> tuple[int, Draw]:
    return objects, lambda _first, n: rng.integers(0, objects, n)


GENERATOR = generator("uniform", "independent requests, all objects alike", ids, {"objects": OBJECTS})
