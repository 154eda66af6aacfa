"""What a trace is like: popularity, reuse, sizes, working sets, scans, tenants; in one pass and bounded memory.

- One-hit wonders are objects accessed once.
- Zipf's alpha is the slope of log accesses over log rank, by least squares at ranks evenly spaced in logarithm, over
  the objects with at least 10 accesses (all, where fewer than 10 objects have so many): the tail of a sample flattens
  for want of accesses, whatever it was drawn from. `zipf_r2` is the share of the variance that the line explains,
  `zipf_first` the accesses that it gives the first rank.
- A reuse distance is a stack distance: distinct other objects since the object's last access (`sim.kernels.
  stack_distance`). A reuse time is the requests, or the time, from the last access to this one.
- A scan is a run of 8 or more requests of which each begins where the one before ended: at its address plus 1 (ids that
  are numbers of blocks), plus its size (offsets in bytes), or plus its size over 512 (numbers of disk sectors). The
  scan share is that of requests in scans.
- A window is a two-hundredth of the requests; its working set, the distinct objects accessed in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sim.trace import Trace
from sim.trace_columns import WRITE

SHORTEST_SCAN = 8
_FITTED_ACCESSES = 10
_FITTED_RANKS = 200
_PERCENTILES = (1, 10, 25, 50, 75, 90, 99)
_RANKS_A_DECADE = 50

Progress = Callable[[int, int], None]  # (requests so far, requests in all)
Table = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Statistics:
    """summary: name to number, units in the names; tables: name to columns of equal length, as they go into files."""

    name: str
    summary: dict[str, float | int]
    tables: dict[str, Table]


def trace_statistics(trace: Trace, progress: Progress | None = None) -> Statistics:
    """The statistics of a trace. What needs a column that the trace does not have is left out."""
    from sim.kernels.stack_distance import StackDistances
    from sim.kernels.stack_distance import tally as tally_distances
    from sim.kernels.trace_tally import IN_RUNS, WINDOWS, make_tally, tally_rows

    optional = [name for name in ("arrival_ns", "size_bytes", "op", "tenant") if name in trace.columns]
    tally = make_tally(trace.n_blocks, "arrival_ns" in optional)
    window_rows = -(-trace.n_requests // WINDOWS)
    distances, distance_count = StackDistances(trace.n_blocks), np.zeros(trace.n_blocks, np.int64)
    totals = _Totals()
    nothing = {"arrival_ns": np.zeros(0), "size_bytes": np.zeros(0, np.int64)}
    first = 0
    for blocks, *rest in trace.chunks("block", *optional):
        columns = dict(zip(optional, rest, strict=True))
        timed, sized = (columns.get(name, nothing[name]) for name in ("arrival_ns", "size_bytes"))
        tally_rows(tally, first, window_rows, SHORTEST_SCAN, blocks, timed, sized, trace.address, trace.block_bytes)
        tally_distances(distances(blocks), distance_count)
        totals.add(blocks.size, columns)
        first += blocks.size
        if progress is not None:
            progress(first, trace.n_requests)
    ranked = np.sort(tally.accesses)[::-1]
    windows = -(-trace.n_requests // window_rows)
    starts = np.arange(windows) * window_rows
    summary = {
        **_basics(trace, totals),
        **_popularity(ranked),
        "scan_share": float(tally.run[IN_RUNS]) / trace.n_requests,
        **_percentiles("reuse_distance", np.arange(trace.n_blocks), distance_count),
        **_sizes(trace),
        "working_set_objects_mean": float(tally.window_blocks[:windows].mean()),
        "working_set_bytes_mean": float(tally.window_bytes[:windows].mean()),
    }
    tables = {
        "popularity": _popularity_table(ranked),
        "reuse_distance": _distance_table(distance_count, trace.n_requests),
        "reuse_time": _reuse_time_table(tally, timed="arrival_ns" in optional),
        "sizes": _size_table(trace, tally.accesses),
        "working_set": {
            "first_request": starts,
            "objects": tally.window_blocks[:windows],
            "bytes": tally.window_bytes[:windows],
            "objects_so_far": _known_after(trace, np.minimum(starts + window_rows, trace.n_requests)),
        },
    }
    if totals.tenants:
        tables["tenants"] = totals.tenant_table()
        summary["tenants"] = len(totals.tenants)
    return Statistics(trace.name, summary, tables)


class _Totals:
    """Sums over requests."""

    def __init__(self) -> None:
        self.requested_bytes = self.writes = self.written_bytes = 0
        self.has_op = False
        self.first_ns: float | None = None
        self.last_ns = 0.0
        self.tenants: dict[int, list[int]] = {}  # requests, bytes

    def add(self, rows: int, columns: Mapping[str, np.ndarray]) -> None:
        sizes = columns.get("size_bytes")
        self.requested_bytes += rows if sizes is None else int(sizes.sum())
        if "op" in columns:
            self.has_op = True
            writes = columns["op"] == WRITE
            self.writes += int(np.count_nonzero(writes))
            self.written_bytes += int(np.count_nonzero(writes) if sizes is None else sizes[writes].sum())
        if "arrival_ns" in columns and rows:
            self.first_ns = float(columns["arrival_ns"][0]) if self.first_ns is None else self.first_ns
            self.last_ns = float(columns["arrival_ns"][-1])
        if "tenant" in columns:
            found, which, counts = np.unique(columns["tenant"], return_inverse=True, return_counts=True)
            moved = counts if sizes is None else np.bincount(which, weights=sizes, minlength=found.size)
            for tenant, requests, size in zip(found.tolist(), counts.tolist(), moved.tolist(), strict=True):
                sums = self.tenants.setdefault(tenant, [0, 0])
                sums[0] += requests
                sums[1] += int(size)

    def tenant_table(self) -> Table:
        """Tenants with the most requests first."""
        ordered = sorted(self.tenants.items(), key=lambda item: (-item[1][0], item[0]))
        return {
            "tenant": np.array([tenant for tenant, _ in ordered]),
            "requests": np.array([sums[0] for _, sums in ordered]),
            "bytes": np.array([sums[1] for _, sums in ordered]),
        }


def _basics(trace: Trace, totals: _Totals) -> dict[str, float | int]:
    summary: dict[str, float | int] = {"requests": trace.n_requests, "objects": trace.n_blocks}
    if "size_bytes" in trace.columns:
        summary |= {"requested_bytes": totals.requested_bytes, "footprint_bytes": int(trace.block_bytes.sum())}
    if totals.first_ns is not None:
        duration_s = (totals.last_ns - totals.first_ns) / 1e9
        summary["duration_s"] = duration_s
        if duration_s > 0:
            summary["requests_per_s"] = trace.n_requests / duration_s
    if totals.has_op:
        summary["write_share"] = totals.writes / trace.n_requests
        summary["write_byte_share"] = totals.written_bytes / totals.requested_bytes
    return summary


def _popularity(ranked: np.ndarray) -> dict[str, float | int]:
    once = int(np.count_nonzero(ranked == 1))
    most = max(1, ranked.size // 100)
    summary = {
        "one_hit_wonders": once,
        "one_hit_wonder_share": once / ranked.size,
        "requests_to_top_1_percent_share": float(ranked[:most].sum() / ranked.sum()),
    }
    fitted = fit_zipf(ranked)
    return summary if fitted is None else {**summary, **fitted}


def fit_zipf(ranked: np.ndarray) -> dict[str, float] | None:
    """The line through accesses by rank (int64[n], most first); None where fewer than three ranks are left to fit."""
    enough = int(np.count_nonzero(ranked >= _FITTED_ACCESSES))
    objects = enough if enough >= _FITTED_ACCESSES else ranked.size
    ranks = np.unique(np.geomspace(1, objects, _FITTED_RANKS).round().astype(np.int64))
    if ranks.size < 3:
        return None
    log_rank, log_accesses = np.log(ranks), np.log(ranked[ranks - 1])
    x, y = log_rank - log_rank.mean(), log_accesses - log_accesses.mean()
    slope = float(x @ y / (x @ x))
    variance, left = float(y @ y), float(((y - slope * x) ** 2).sum())
    return {
        "zipf_alpha": 0.0 - slope,
        "zipf_r2": 1.0 - left / variance if variance > 0 else 1.0,
        "zipf_first": float(np.exp(log_accesses.mean() - slope * log_rank.mean())),
    }


def _sizes(trace: Trace) -> dict[str, float | int]:
    if "size_bytes" not in trace.columns:
        return {}
    size = trace.block_bytes
    found = {f"object_bytes_p{p}": int(v) for p, v in zip(_PERCENTILES, np.percentile(size, _PERCENTILES), strict=True)}
    return {"object_bytes_min": int(size.min()), **found, "object_bytes_max": int(size.max())}


def _percentiles(name: str, values: np.ndarray, counts: np.ndarray) -> dict[str, int]:
    """Percentiles of values by how often each occurs; nothing where none does."""
    ends = np.cumsum(counts)
    if ends[-1] == 0:
        return {}
    at = np.searchsorted(ends, np.array(_PERCENTILES) / 100 * ends[-1])
    return {f"{name}_p{p}": int(values[i]) for p, i in zip(_PERCENTILES, at, strict=True)}


def _known_after(trace: Trace, rows: np.ndarray) -> np.ndarray:
    """int64[n] distinct blocks among the first rows[i] rows; blocks are numbered in order of first appearance."""
    known, found, first = 0, [], 0
    remaining = rows.tolist()
    for (blocks,) in trace.chunks("block"):
        highest = np.maximum.accumulate(blocks)
        while remaining and remaining[0] <= first + blocks.size:
            found.append(max(known, int(highest[remaining.pop(0) - first - 1]) + 1))
        known = max(known, int(highest[-1]) + 1)
        first += blocks.size
    return np.array(found, np.int64)


# --------------------------------------------------------------------------------------------------------------- tables


def _popularity_table(ranked: np.ndarray) -> Table:
    """Accesses at ranks evenly spaced in logarithm."""
    points = max(2, math.ceil(_RANKS_A_DECADE * math.log10(max(ranked.size, 2))))
    ranks = np.unique(np.geomspace(1, ranked.size, points).round().astype(np.int64))
    return {"rank": ranks, "accesses": ranked[ranks - 1]}


def _distance_table(counts: np.ndarray, requests: int) -> Table:
    """Requests at stack distances up to and including each of some; the share is of all requests, first ones too."""
    points = max(2, math.ceil(_RANKS_A_DECADE * math.log10(max(counts.size, 2))))
    ends = np.unique(np.concatenate([[0], np.geomspace(1, counts.size, points).round().astype(np.int64) - 1]))
    below = np.cumsum(counts)[ends]
    return {"distance": ends, "requests": below, "share": below / requests}


def _reuse_time_table(tally, timed: bool) -> Table:
    """Reuses within each time, in requests and, where the trace has times, in ns."""
    from sim.kernels.trace_tally import bin_ends

    used = np.flatnonzero(tally.reuse_rows + tally.reuse_ns)
    bins = slice(0, int(used[-1]) + 1 if used.size else 1)
    table = {"up_to": bin_ends()[bins], "reuses_within_requests": np.cumsum(tally.reuse_rows)[bins]}
    return {**table, "reuses_within_ns": np.cumsum(tally.reuse_ns)[bins]} if timed else table


def _size_table(trace: Trace, accesses: np.ndarray) -> Table:
    """Objects, and requests for them, by size at first appearance: up to each power of two's quarter."""
    size = trace.block_bytes
    bins = np.ceil(np.log2(size) * 4 - 1e-9).astype(np.int64)
    lowest, highest = int(bins.min()), int(bins.max())
    objects = np.bincount(bins - lowest, minlength=highest - lowest + 1)
    requests = np.bincount(bins - lowest, weights=accesses, minlength=highest - lowest + 1).astype(np.int64)
    return {
        "up_to_bytes": np.floor(2.0 ** (np.arange(lowest, highest + 1) / 4) + 1e-6).astype(np.int64),
        "objects": objects,
        "requests": requests,
    }
