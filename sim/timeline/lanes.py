"""Puts slices that overlap side by side, on as few lanes as that takes."""

from __future__ import annotations

import heapq

import numpy as np


def lanes_of(start_ns: np.ndarray, end_ns: np.ndarray) -> np.ndarray:
    """int64[n] for each slice its lane, from 0: the lowest that is free when it starts. start_ns ascends.

    As many lanes are used as slices overlap at most, which is the fewest (interval partitioning).
    """
    lanes = np.zeros(start_ns.size, np.int64)
    busy: list[tuple[int, int]] = []  # until when, lane
    free: list[int] = []
    used = 0
    for at, (start, end) in enumerate(zip(start_ns.tolist(), end_ns.tolist(), strict=True)):
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, used = used, used + 1
        lanes[at] = lane
        heapq.heappush(busy, (end, lane))
    return lanes
