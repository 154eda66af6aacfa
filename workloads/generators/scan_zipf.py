"""Zipf requests interrupted by sequential scans, which tempt a cache to give up what is popular."""

from __future__ import annotations

import numpy as np

from sim.trace_options import Option
from workloads.generators._common import ALPHA, OBJECTS, SHUFFLE, Draw, generator, scattered, zipf_draw


def ids(
    rng: np.random.Generator,
    requests: int,
    objects: int,
    alpha: float,
    shuffle: bool,
    scan_objects: int,
    scan_length: int,
    scan_share: float,
) -> tuple[int, Draw]:
    """Ids below `objects` are of Zipf popularity; the `scan_objects` after them are only scanned, round and round."""
    id_of = scattered(rng, objects, shuffle)
    rank = zipf_draw(rng, objects, alpha)
    scans = _Scans(np.random.Generator(np.random.PCG64(rng.integers(1 << 62))), scan_length, scan_share)

    def draw(first: int, n: int) -> np.ndarray:
        drawn = id_of[rank(first, n)]
        scanned, position = scans(first, n)
        drawn[scanned] = objects + position % scan_objects
        return drawn

    return objects + scan_objects, draw


class _Scans:
    """Which requests are of a scan. The trace is cut into stretches of one scan's length, each a scan by chance."""

    def __init__(self, rng: np.random.Generator, length: int, share: float):
        self.rng, self.length, self.share = rng, length, share
        self.begun = 0  # stretches that are settled
        self.current = False  # whether the last of them is a scan
        self.position = 0  # objects scanned so far

    def __call__(self, first: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(bool[n] whether it is of a scan, int64[scanned] how manieth scanned object each is)."""
        stretch = np.arange(first, first + n) // self.length
        settled = self.begun - 1
        new = int(stretch[-1]) - settled
        is_scan = np.concatenate([[self.current], self.rng.random(new) < self.share])
        scanned = is_scan[stretch - settled]
        self.begun += new
        self.current = bool(is_scan[-1])
        position = self.position + np.arange(np.count_nonzero(scanned))
        self.position += position.size
        return scanned, position


GENERATOR = generator(
    "scan_zipf",
    "Zipf requests interrupted by sequential scans over other objects",
    ids,
    {
        "objects": OBJECTS,
        "alpha": ALPHA,
        "shuffle": SHUFFLE,
        "scan_objects": Option(100_000, "objects that are scanned, round and round", at_least=1, at_most=1 << 30),
        "scan_length": Option(1000, "requests in one scan", at_least=1, at_most=1 << 30),
        "scan_share": Option(0.2, "share of requests that are of a scan", at_least=0.0, at_most=1.0),
    },
)
