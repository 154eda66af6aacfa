"""The same scan again and again: what a cache of the wrong policy never hits unless all of it fits."""

from __future__ import annotations

import numpy as np

from workloads.generators._common import OBJECTS, Draw, generator


def ids(rng: np.random.Generator, requests: int, objects: int) -> tuple[int, Draw]:
    return objects, lambda first, n: np.arange(first, first + n) % objects


GENERATOR = generator("looping", "scans all objects in order, again and again", ids, {"objects": OBJECTS})
