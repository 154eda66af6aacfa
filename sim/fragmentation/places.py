"""What the runs of addresses of live objects look like: holes between them, how scattered objects are, a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ADDRESS, BYTES, OBJECT = range(3)  # columns of runs, as `Player.runs` gives them


@dataclass(frozen=True)
class Holes:
    """Bytes between runs, lowest first: int64[h] each. below, above: the object that ends there, that begins there; -1
    at the ends of the memory.
    """

    address: np.ndarray
    size_bytes: np.ndarray
    below: np.ndarray
    above: np.ndarray


def in_order(runs: np.ndarray) -> np.ndarray:
    """The runs by address."""
    return runs[np.argsort(runs[:, ADDRESS], kind="stable")]


def holes_of(ordered: np.ndarray, capacity_bytes: int) -> Holes:
    """Between runs that are in order, before the first, and behind the last up to the capacity."""
    ends = ordered[:, ADDRESS] + ordered[:, BYTES]
    starts = np.concatenate([[0], ends])
    stops = np.concatenate([ordered[:, ADDRESS], [capacity_bytes]])
    owner = ordered[:, OBJECT]
    below, above = np.concatenate([[-1], owner]), np.concatenate([owner, [-1]])
    real = stops > starts
    return Holes(starts[real], (stops - starts)[real], below[real], above[real])


def unusable_share(holes: Holes, request_bytes: int) -> float:
    """Share of the free bytes that lie in holes smaller than a request of that size; 0 where nothing is free.

    Gorman and Whitcroft, "The what, the why and the where to of anti-fragmentation" (OLS 2006): unusable free space.
    """
    total = int(holes.size_bytes.sum())
    small = int(holes.size_bytes[holes.size_bytes < request_bytes].sum())
    return small / total if total else 0.0


def transfer_share(runs: np.ndarray, bandwidth_bytes_per_ns: float, per_copy_ns: float) -> float:
    """Of a link's bandwidth, the share that is reached when every object is moved run by run, each copy costing so much
    beside its bytes' time; 1 where there is nothing to move.
    """
    moving_ns = runs[:, BYTES].sum() / bandwidth_bytes_per_ns
    spent_ns = moving_ns + per_copy_ns * runs.shape[0]
    return float(moving_ns / spent_ns) if spent_ns > 0 else 1.0


class AddressMap:
    """Which share of each of `rows` equal pieces of the addresses is in use, a column a look.

    The pieces begin small and are doubled, two into one, as higher addresses come into use: nobody knows beforehand how
    far they will go.
    """

    def __init__(self, rows: int, smallest_bytes: int):
        self.rows, self.row_bytes = rows, smallest_bytes
        self._columns: list[np.ndarray] = []

    def add(self, ordered: np.ndarray) -> None:
        """A look; runs in order of addresses."""
        top = int(ordered[-1, ADDRESS] + ordered[-1, BYTES]) if ordered.shape[0] else 0
        while top > self.rows * self.row_bytes:
            self._double()
        edges = np.arange(self.rows + 1, dtype=np.float64) * self.row_bytes
        self._columns.append(np.diff(_used_below(ordered, edges)) / self.row_bytes)

    def shares(self) -> np.ndarray:
        """float32[rows in use, looks], lowest addresses first."""
        if not self._columns:
            return np.zeros((0, 0), np.float32)
        table = np.stack(self._columns, axis=1).astype(np.float32)
        used = np.flatnonzero(table.any(axis=1))
        return table[: used[-1] + 1 if used.size else 0]

    def _double(self) -> None:
        self.row_bytes *= 2
        half = self.rows // 2
        for column in self._columns:
            column[:half] = (column[0::2] + column[1::2]) / 2
            column[half:] = 0


def _used_below(ordered: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """float64[edges] bytes of runs below each edge."""
    if ordered.shape[0] == 0:
        return np.zeros(edges.size)
    starts, sizes = ordered[:, ADDRESS], ordered[:, BYTES]
    before = np.concatenate([[0], np.cumsum(sizes)])
    at = np.searchsorted(starts, edges, side="right")  # runs that begin at or below the edge
    last = np.maximum(at - 1, 0)
    within = np.clip(edges - starts[last], 0, sizes[last])
    return np.where(at > 0, before[last] + within, 0.0)
