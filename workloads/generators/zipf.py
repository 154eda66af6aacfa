"""Independent requests of Zipf popularity."""

from __future__ import annotations

import numpy as np

from workloads.generators._common import ALPHA, OBJECTS, SHUFFLE, Draw, generator, scattered, zipf_draw


def ids(rng: np.random.Generator, requests: int, objects: int, alpha: float, shuffle: bool) -> tuple[int, Draw]:
    id_of = scattered(rng, objects, shuffle)
    rank = zipf_draw(rng, objects, alpha)
    return objects, lambda first, n: id_of[rank(first, n)]


GENERATOR = generator(
    "zipf",
    "independent requests; the k-th most popular object is drawn in proportion to k^-alpha",
    ids,
    {"objects": OBJECTS, "alpha": ALPHA, "shuffle": SHUFFLE},
)
