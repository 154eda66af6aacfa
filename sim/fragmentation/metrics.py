"""The scores of an allocator on a stream of allocations, each declared once, and their values for a replay.

Means are over operations: the looks stand an equal number of them apart. What is said of footprints follows Johnstone
and Wilson, "The memory fragmentation problem: solved?" (ISMM 1998), who compare what is held to what is live in four
ways; internal and external are Randell's words (CACM 1969); reserved is Kwon et al.'s (SOSP 2023).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sim.fragmentation import replaying as r
from sim.hook_arguments import SYSTEM_CALLS
from sim.metrics import HIGHER, LOWER, NEITHER, Metric, declared

METRICS = (
    Metric("operations", "1", NEITHER, "calls of the stream: allocations, resizes, releases"),
    Metric("objects", "1", NEITHER, "objects that were asked for"),
    Metric("peak_live_bytes", "B", HIGHER, "the most bytes that objects had at a time"),
    Metric("peak_live_objects", "1", NEITHER, "the most objects at a time, of those looked at"),
    Metric(
        "peak_held_bytes",
        "B",
        LOWER,
        "the most that the allocator held: its segments or pages, or all pages ever touched",
    ),
    Metric("held_over_live_peak", "1", LOWER, "peak held over peak live bytes (Johnstone and Wilson 1998, 4)"),
    Metric("held_over_live_mean", "1", LOWER, "mean held over mean live bytes (their 1)"),
    Metric("held_over_live_at_peak_live", "1", LOWER, "held over live bytes when most were live (their 2)"),
    Metric("held_over_live_at_peak_held", "1", LOWER, "held over live bytes when most were held (their 3)"),
    Metric("internal_fragmentation", "1", LOWER, "share of the allocated bytes that no object will use, mean"),
    Metric("reserved_share", "1", LOWER, "share of the allocated bytes that are for later, mean"),
    Metric("metadata_share", "1", LOWER, "share of the allocated bytes that the allocator's own books take, mean"),
    Metric("outside_bytes", "B", LOWER, "what the allocator's books take in other memory, mean"),
    Metric("live_over_held", "1", HIGHER, "share of the held bytes that objects use, mean"),
    Metric("free_over_held", "1", LOWER, "share of the held bytes that is in no allocation: external waste, mean"),
    Metric("external_fragmentation", "1", LOWER, "1 - largest allocation that would succeed / free bytes, mean"),
    Metric(
        "unusable_free_share",
        "1",
        LOWER,
        "share of the free bytes in holes smaller than the largest object, mean (Gorman and Whitcroft 2006)",
    ),
    Metric("holes", "1", NEITHER, "runs of free addresses, mean"),
    Metric("least_largest_free_bytes", "B", HIGHER, "the largest allocation that would succeed, at its smallest"),
    Metric("failures", "1", LOWER, "allocations and resizes that were refused"),
    Metric("failures_with_free", "1", LOWER, "of these, with at least as many bytes free"),
    Metric("first_failure_operation", "1", HIGHER, "number of the first operation that was refused, -1 where none was"),
    Metric("runs_per_object", "1", LOWER, "pieces that an object lies in, so copies to move it, mean"),
    Metric("mean_run_bytes", "B", HIGHER, "length of such a piece, mean"),
    Metric("transfer_share", "1", HIGHER, "share of the link's bandwidth reached when objects are moved, mean"),
    Metric("system_allocations", "1", LOWER, "calls that take memory from the system (cudaMalloc, mmap)"),
    Metric("system_releases", "1", LOWER, "calls that give it back"),
    Metric("maps", "1", LOWER, "calls that map physical memory"),
    Metric("unmaps", "1", LOWER, "calls that unmap it"),
    Metric("copies", "1", LOWER, "objects or pages copied to another place"),
    Metric("copied_bytes", "B", LOWER, "bytes copied to another place"),
    Metric("waited_ns", "ns", LOWER, "modelled time that callers waited for such calls"),
)

_NOT_ALWAYS = {  # of which some runs have nothing to tell
    *("held_over_live_peak", "held_over_live_mean", "held_over_live_at_peak_live", "held_over_live_at_peak_held"),
    *("internal_fragmentation", "reserved_share", "metadata_share", "live_over_held", "free_over_held"),
    *("external_fragmentation", "unusable_free_share", "holes", "runs_per_object", "mean_run_bytes", "transfer_share"),
}
ALWAYS = tuple(metric.name for metric in METRICS if metric.name not in _NOT_ALWAYS)

Looks = Mapping[str, np.ndarray]


def declaration(name: str) -> Metric:
    """What the metric of this name in a summary is. Raises InputError for an unknown name, with the nearest."""
    return declared(name, {metric.name: metric for metric in METRICS})


def summarise(totals: np.ndarray, sums: np.ndarray, objects: int, looks: Looks) -> dict[str, float | int]:
    """Every metric by name; one that has no meaning here (no place is named, nothing was held) is left out.

    totals, sums: of the replay's board; looks: columns of a table with a row a look.
    """
    done = int(totals[[r.ALLOCATIONS, r.RESIZES, r.RELEASES]].sum())
    peak_live, peak_held = int(totals[r.PEAK_LIVE_BYTES]), int(totals[r.PEAK_HELD_BYTES])
    allocated = looks["allocated_bytes"]
    named = looks["runs"] >= 0
    unreachable = looks["free_bytes"] - looks["largest_free_bytes"]  # below 0 where what is reserved can be taken back
    values = {
        "operations": done,
        "objects": objects,
        "peak_live_bytes": peak_live,
        "peak_live_objects": int(looks["live_objects"].max()),
        "peak_held_bytes": peak_held,
        "held_over_live_peak": _over(peak_held, peak_live),
        "held_over_live_mean": _over(sums[r.HELD_SUM], sums[r.LIVE_SUM]),
        "held_over_live_at_peak_live": _over(int(totals[r.HELD_AT_PEAK_LIVE]), peak_live),
        "held_over_live_at_peak_held": _over(peak_held, int(totals[r.LIVE_AT_PEAK_HELD])),
        "internal_fragmentation": _mean_share(looks["internal_bytes"], allocated),
        "reserved_share": _mean_share(looks["reserved_bytes"], allocated),
        "metadata_share": _mean_share(looks["metadata_bytes"], allocated),
        "outside_bytes": float(looks["outside_bytes"].mean()),
        "live_over_held": _mean_share(looks["live_bytes"], looks["held_bytes"]),
        "free_over_held": _mean_share(looks["held_bytes"] - allocated, looks["held_bytes"]),
        "external_fragmentation": _mean_share(np.maximum(unreachable, 0), looks["free_bytes"]),
        "unusable_free_share": _mean(looks["unusable_free_share"][named]),
        "holes": _mean(looks["holes"][named]),
        "least_largest_free_bytes": int(looks["largest_free_bytes"].min()),
        "failures": int(totals[r.FAILURES]),
        "failures_with_free": int(totals[r.FAILED_WITH_FREE]),
        "first_failure_operation": int(totals[r.FIRST_FAILURE]),
        "runs_per_object": _over(looks["runs"][named].sum(), looks["live_objects"][named].sum()),
        "mean_run_bytes": _over(looks["run_bytes"][named].sum(), looks["runs"][named].sum()),
        "transfer_share": _mean(looks["transfer_share"][named]),
        **{name: int(looks[name][-1]) for name in SYSTEM_CALLS},
        "waited_ns": float(looks["waited_ns"][-1]),
    }
    return {metric.name: values[metric.name] for metric in METRICS if values[metric.name] is not None}


def _over(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _mean_share(part: np.ndarray, whole: np.ndarray) -> float | None:
    """Mean of a share over the looks at which there is something to have a share of."""
    some = whole > 0
    return float((part[some] / whole[some]).mean()) if some.any() else None
