"""What a run is scored on: each metric declared once, with its unit and which direction is better.

Names with `{tier}` or `{link}` stand for one metric a tier or link. `summarise` gives every metric of a run, in
declared order; `declaration` says what a name of a summary means.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError

if TYPE_CHECKING:
    from sim.simulation import Simulation

HIGHER, LOWER, NEITHER = "higher", "lower", "neither"
_PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9}
_SECOND_NS = 1e9
_HOUR_NS = 3600 * _SECOND_NS
_PJ = 1e-12


@dataclass(frozen=True)
class Metric:
    """One metric, or a family of them. better: which direction, 'higher', 'lower' or 'neither'."""

    name: str
    unit: str
    better: str
    description: str


_WHOLE_RUN = (
    Metric("latency_mean_ns", "ns", LOWER, "mean time from a request's arrival to its completion"),
    *(
        Metric(f"latency_{name}_ns", "ns", LOWER, f"the latency that {q} % of the requests do not exceed")
        for name, q in _PERCENTILES.items()
    ),
    Metric("latency_max_ns", "ns", LOWER, "the longest latency"),
    Metric("queue_mean_ns", "ns", LOWER, "part of the mean latency: queueing for devices and links"),
    Metric("device_mean_ns", "ns", LOWER, "part of the mean latency: devices at work"),
    Metric("link_mean_ns", "ns", LOWER, "part of the mean latency: on links"),
    Metric("wait_mean_ns", "ns", LOWER, "part of the mean latency: delayed hits waiting for another request's fetch"),
    Metric("throughput_requests_per_s", "1/s", HIGHER, "requests completed a second"),
    Metric("throughput_bytes_per_s", "B/s", HIGHER, "bytes asked for by completed requests, a second"),
    Metric("requests", "1", NEITHER, "requests of the workload"),
    Metric("completed", "1", HIGHER, "requests answered"),
    Metric("duration_s", "s", LOWER, "simulated time until the last answer"),
    Metric(
        "hit_ratio",
        "1",
        HIGHER,
        "share of requests served by a caching tier, those that wait for a fetch to it included",
    ),
    Metric(
        "read_hit_ratio", "1", HIGHER, "the same of reads alone, since a write that misses need not wait for a fetch"
    ),
    Metric("delayed_hits", "1", LOWER, "requests that waited for another request's fetch of the same block"),
)

_STANDING = (  # of a comparison against a policy
    Metric("miss_ratio_reduction", "1", HIGHER, "how much lower the miss ratio is than that of the policy compared to"),
    Metric(
        "part_of_the_way_to_belady",
        "1",
        HIGHER,
        "0: as many hits as the policy compared to; 1: as many as Belady's rule in its place",
    ),
)

_TIER = (
    Metric("tier.{tier}.hit_ratio", "1", HIGHER, "share of the tier's lookups that it served"),
    Metric("tier.{tier}.byte_hit_ratio", "1", HIGHER, "share of the bytes looked up in the tier that it served"),
    Metric("tier.{tier}.hits", "1", NEITHER, "requests that the tier served"),
    Metric("tier.{tier}.delayed_hits", "1", LOWER, "of these, requests that waited for a fetch under way"),
    Metric("tier.{tier}.lookups", "1", NEITHER, "requests that reached the tier"),
    Metric("tier.{tier}.utilisation", "1", NEITHER, "share of the time that the device's channels were held"),
    Metric("tier.{tier}.queue_length_mean", "1", LOWER, "accesses queueing for the device, time-weighted mean"),
    Metric("tier.{tier}.read_bytes", "B", LOWER, "bytes read from the device"),
    Metric("tier.{tier}.write_bytes", "B", LOWER, "bytes written to the device"),
)

_CACHING_TIER = (
    Metric("tier.{tier}.insertions", "1", NEITHER, "blocks placed in the tier"),
    Metric("tier.{tier}.evictions", "1", LOWER, "blocks that the eviction policy gave up"),
    Metric("tier.{tier}.promotions", "1", NEITHER, "blocks of the tier brought into the first one by a request"),
    Metric("tier.{tier}.demotions", "1", NEITHER, "victims of tiers above placed in the tier"),
    Metric("tier.{tier}.writebacks", "1", LOWER, "dirty victims of the tier written below"),
    Metric("tier.{tier}.dropped", "1", NEITHER, "clean victims of the tier that no tier below took"),
    Metric("tier.{tier}.bypassed", "1", LOWER, "blocks larger than the tier, passed by"),
    Metric("tier.{tier}.refused", "1", NEITHER, "blocks that the admission or the eviction policy refused"),
    Metric("tier.{tier}.unplaced", "1", LOWER, "blocks that even the empty tier's allocator could not place"),
    Metric("tier.{tier}.fragmentation_evictions", "1", LOWER, "evictions for want of a place though bytes were free"),
    Metric("tier.{tier}.back_invalidations", "1", LOWER, "blocks that left because an inclusive tier below lost them"),
    Metric("tier.{tier}.prefetches", "1", NEITHER, "blocks fetched into the tier before they were asked for"),
    Metric("tier.{tier}.prefetch_hits", "1", HIGHER, "prefetched blocks that were asked for while they were there"),
    Metric("tier.{tier}.occupancy_mean_bytes", "B", NEITHER, "bytes of blocks in the tier, time-weighted mean"),
    Metric("tier.{tier}.occupancy_max_bytes", "B", NEITHER, "bytes of blocks in the tier, most of all samples"),
    Metric(
        "tier.{tier}.internal_fragmentation", "1", LOWER, "share of allocated bytes beyond the blocks' own, time mean"
    ),
    Metric(
        "tier.{tier}.external_fragmentation", "1", LOWER, "1 - largest block that would fit / free bytes, time mean"
    ),
    Metric("tier.{tier}.external_fragmentation_max", "1", LOWER, "the same, most of all samples"),
    Metric("tier.{tier}.waste_mean_bytes", "B", LOWER, "bytes neither holding blocks nor free to hold any, time mean"),
)

_LINK = (
    Metric("link.{link}.up_bytes", "B", LOWER, "bytes towards the compute unit"),
    Metric("link.{link}.down_bytes", "B", LOWER, "bytes away from the compute unit"),
    Metric("link.{link}.up_utilisation", "1", NEITHER, "share of the time that the way up was held"),
    Metric("link.{link}.down_utilisation", "1", NEITHER, "share of the time that the way down was held"),
    Metric("link.{link}.queue_length_mean", "1", LOWER, "transfers queueing for either way, time-weighted mean"),
)

_TOTALS = (
    Metric("bytes_moved", "B", LOWER, "bytes over all links, both ways"),
    Metric("energy_j", "J", LOWER, "energy of all accesses and transfers, and of all parts of the system at rest"),
    Metric("cost_usd_per_hour", "$/h", LOWER, "price of all parts of the system for an hour"),
    Metric("cost_usd_per_million_requests", "$", LOWER, "price of the system for the time of a million requests"),
)

METRICS = (*_WHOLE_RUN, *_TIER, *_CACHING_TIER, *_LINK, *_TOTALS)


def standing(hit_ratio: float, base_line: float, optimum: float) -> dict[str, float]:
    """Where a hit ratio stands between that of a policy to measure against and that of Belady's rule.

    A metric is NaN where it would be a part of nothing: nothing was missed, or the two are the same.
    """
    missed, room = 1 - base_line, optimum - base_line
    return {
        "miss_ratio_reduction": (hit_ratio - base_line) / missed if missed > 0 else math.nan,
        "part_of_the_way_to_belady": (hit_ratio - base_line) / room if room != 0 else math.nan,
    }


def declaration(name: str) -> Metric:
    """What the metric of this name in a summary is. Raises InputError for an unknown name, with the nearest."""
    return declared(name, _by_name())


def declared(name: str, known: Mapping[str, Metric]) -> Metric:
    """One of these declarations, found by the name that its metric has in a summary. Raises InputError for an unknown
    name, with the nearest.
    """
    family = re.sub(r"^(tier|link)\.[^.]+\.", r"\1.{\1}.", name)
    if family not in known:
        raise InputError("unknown metric", value=name, candidates=known)
    return known[family]


@functools.cache
def _by_name() -> dict[str, Metric]:
    return {metric.name: metric for metric in (*METRICS, *_STANDING)}


def best(name: str, values: Mapping[Any, float]) -> list[Any]:
    """The keys whose value is the best of this metric; none where neither direction is better, or all are alike."""
    return best_of(declaration(name), values)


def best_of(metric: Metric, values: Mapping[Any, float]) -> list[Any]:
    """The same of a metric that is declared elsewhere."""
    if metric.better == NEITHER or len(set(values.values())) < 2:
        return []
    wanted = max(values.values()) if metric.better == HIGHER else min(values.values())
    return [key for key, value in values.items() if value == wanted]


# --- what a simulation holds: the only functions that know the engine's layout ----------------------------------------


def _answers(simulation: Simulation):
    """(latency_ns, arrival_ns, parts_ns[n, 4], level, outcome), a row a request."""
    answers = simulation.hierarchy.engine.answers
    return answers.latency_ns, answers.arrival_ns, answers.parts_ns, answers.level, answers.outcome


def _counts(simulation: Simulation) -> list[dict[str, int]]:
    """Counts of residency by level."""
    from sim.engines.residency import COUNTS

    table = simulation.hierarchy.engine.res.counts
    return [dict(zip(COUNTS, (int(count) for count in row), strict=True)) for row in table]


def _request_bytes(simulation: Simulation) -> np.ndarray:
    """int64[n] bytes that each request asked for."""
    columns, res = simulation.hierarchy.engine.work.columns, simulation.hierarchy.engine.res
    return columns.size_bytes if columns.size_bytes.size else res.size_of[columns.block]


def _traffic(simulation: Simulation) -> dict[tuple[str, str, str], tuple[int, float]]:
    """(part, name, direction) -> bytes passed, and ns waited by all that queued (rounding may leave less than none)."""
    traffic = simulation.hierarchy.engine.traffic
    return {
        (column.part, column.name, column.direction): (
            int(traffic.bytes[at].sum()),
            max(0.0, float(traffic.wait_ns[at])),
        )
        for at, column in enumerate(simulation.hierarchy.columns)
    }


def _busy_ns(simulation: Simulation) -> dict[tuple[str, str, str], float]:
    """(part, name, direction) -> ns that the server was held; a tier's device has one server, direction ''."""
    hierarchy = simulation.hierarchy
    tiers = [("tier", name, "") for name in hierarchy.tiers]
    links = [(column.part, column.name, column.direction) for column in hierarchy.columns if column.part == "link"]
    return dict(zip([*tiers, *links], (float(ns) for ns in hierarchy.busy_ns()), strict=True))


def request_columns(simulation: Simulation) -> dict[str, np.ndarray]:
    """Columns with a row a request: arrival_ns, latency_ns, its parts, `level` and `outcome` (numbers into `names`)."""
    from sim.engines.block_cache import PARTS

    latency_ns, arrival_ns, parts_ns, level, outcome = _answers(simulation)
    parts = {name: parts_ns[:, at] for at, name in enumerate(PARTS)}
    return {"arrival_ns": arrival_ns, "latency_ns": latency_ns, **parts, "level": level, "outcome": outcome}


def names(simulation: Simulation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the numbers of the columns `level` and `outcome` stand for."""
    from sim.engines.block_cache import OUTCOMES

    return tuple(simulation.hierarchy.tiers), tuple(OUTCOMES)


# --- summary ---------------------------------------------------------------------------------------------------------


def summarise(simulation: Simulation) -> dict[str, float | int]:
    """Every metric of the run by name, in declared order. A ratio of nothing to nothing is 0."""
    hierarchy = simulation.hierarchy
    values = {**_whole_run(simulation), **_totals(simulation)}
    ordered = {metric.name: values[metric.name] for metric in _WHOLE_RUN}
    tier_values = _tiers(simulation)
    for level, tier in enumerate(hierarchy.tiers):
        families = _TIER if level == len(hierarchy.tiers) - 1 else (*_TIER, *_CACHING_TIER)
        ordered |= {name: tier_values[name] for name in _named(families, tier=tier)}
    link_values = _links(simulation)
    for link in hierarchy.profile.links:
        ordered |= {name: link_values[name] for name in _named(_LINK, link=link)}
    return ordered | {metric.name: values[metric.name] for metric in _TOTALS}


def names_of(tiers: Sequence[str], links: Sequence[str]) -> list[str]:
    """Every metric of a run on these tiers, the last of which holds everything, and links."""
    names = [metric.name for metric in (*_WHOLE_RUN, *_TOTALS)]
    for level, tier in enumerate(tiers):
        names += _named(_TIER if level == len(tiers) - 1 else (*_TIER, *_CACHING_TIER), tier=tier)
    return names + [name for link in links for name in _named(_LINK, link=link)]


def _named(families: tuple[Metric, ...], **name: str) -> Iterator[str]:
    return (metric.name.format(**name) for metric in families)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _whole_run(simulation: Simulation) -> dict[str, float | int]:
    latency_ns, _, parts_ns, level, outcome = _answers(simulation)
    done = ~np.isnan(latency_ns)
    finished = latency_ns[done]
    level_of_reads = level[done & (outcome != _outcomes().WRITE)]
    completed, duration_ns = int(finished.size), simulation.duration_ns
    counts = _counts(simulation)
    lookups, last_hits = counts[0]["lookups"], counts[-1]["hits"]
    return {
        **_latencies(finished),
        **_parts(parts_ns[done]),
        "throughput_requests_per_s": ratio(completed, duration_ns) * _SECOND_NS,
        "throughput_bytes_per_s": ratio(int(_request_bytes(simulation)[done].sum()), duration_ns) * _SECOND_NS,
        "requests": int(latency_ns.size),
        "completed": completed,
        "duration_s": duration_ns / _SECOND_NS,
        "hit_ratio": ratio(lookups - last_hits, lookups),
        "read_hit_ratio": ratio(int(np.count_nonzero(level_of_reads < len(counts) - 1)), level_of_reads.size),
        "delayed_hits": int(np.count_nonzero(outcome[done] == _outcomes().DELAYED_HIT)),
    }


def _outcomes():
    """The module whose DELAYED_HIT, WRITE and others number the outcomes of requests; it brings numba with it."""
    from sim.engines import block_cache

    return block_cache


def _latencies(latency_ns: np.ndarray) -> dict[str, float]:
    """Mean, percentiles and maximum. A percentile is the latency of a request, not a mean of two."""
    if latency_ns.size == 0:
        latency_ns = np.zeros(1)
    ranked = np.percentile(latency_ns, list(_PERCENTILES.values()), method="inverted_cdf")
    return {
        "latency_mean_ns": float(latency_ns.mean()),
        **{f"latency_{name}_ns": float(value) for name, value in zip(_PERCENTILES, ranked, strict=True)},
        "latency_max_ns": float(latency_ns.max()),
    }


def _parts(parts_ns: np.ndarray) -> dict[str, float]:
    from sim.engines.block_cache import PARTS

    means = parts_ns.mean(axis=0, dtype=np.float64) if len(parts_ns) else np.zeros(len(PARTS))
    return {name.replace("_ns", "_mean_ns"): float(mean) for name, mean in zip(PARTS, means, strict=True)}


def _tiers(simulation: Simulation) -> dict[str, float | int]:
    latency_ns, _, _, level_of, outcome = _answers(simulation)
    delayed = level_of[(outcome == _outcomes().DELAYED_HIT) & ~np.isnan(latency_ns)]
    traffic, busy_ns, duration_ns = _traffic(simulation), _busy_ns(simulation), simulation.duration_ns
    values: dict[str, float | int] = {}
    for level, (tier, counts) in enumerate(zip(simulation.hierarchy.tiers, _counts(simulation), strict=True)):
        (read_bytes, read_wait_ns), (write_bytes, write_wait_ns) = (
            traffic["tier", tier, way] for way in ("read", "write")
        )
        own = {
            **counts,
            "hit_ratio": ratio(counts["hits"], counts["lookups"]),
            "byte_hit_ratio": ratio(counts["hit_bytes"], counts["lookup_bytes"]),
            "delayed_hits": int(np.count_nonzero(delayed == level)),
            "utilisation": ratio(busy_ns["tier", tier, ""], duration_ns),
            "queue_length_mean": ratio(read_wait_ns + write_wait_ns, duration_ns),
            "read_bytes": read_bytes,
            "write_bytes": write_bytes,
        }
        if level < len(simulation.hierarchy.plans):
            own |= _occupancy(simulation, tier, simulation.hierarchy.plans[level].capacity_bytes)
        values |= {f"tier.{tier}.{name}": value for name, value in own.items()}
    return values


def fragmentation(samples: Mapping[str, np.ndarray], tier: str) -> tuple[np.ndarray, np.ndarray]:
    """(internal, external) of a tier at each sample.

    internal: share of the allocated bytes beyond what the blocks need; external: 1 - largest block that fits / free.
    """
    used, free = (samples[f"tier.{tier}.{name}"].astype(float) for name in ("used_bytes", "free_bytes"))
    wasted, largest = (
        samples[f"tier.{tier}.{name}"].astype(float) for name in ("internal_bytes", "largest_free_bytes")
    )
    internal = np.divide(wasted, used + wasted, out=np.zeros_like(wasted), where=used + wasted > 0)
    largest = np.minimum(largest, free)  # which may count what can be taken back from others
    external = 1 - np.divide(largest, free, out=np.ones_like(free), where=free > 0)
    return internal, external


def _occupancy(simulation: Simulation, tier: str, capacity_bytes: int) -> dict[str, float | int]:
    samples = simulation.samples
    time_ns, used = samples["time_ns"], samples[f"tier.{tier}.used_bytes"]
    internal, external = fragmentation(samples, tier)
    waste = capacity_bytes - used - samples[f"tier.{tier}.free_bytes"]
    return {
        "occupancy_mean_bytes": time_mean(time_ns, used),
        "occupancy_max_bytes": int(used.max(initial=0)),
        "internal_fragmentation": time_mean(time_ns, internal),
        "external_fragmentation": time_mean(time_ns, external),
        "external_fragmentation_max": float(external.max(initial=0.0)),
        "waste_mean_bytes": time_mean(time_ns, waste),
    }


def time_mean(time_ns: np.ndarray, values: np.ndarray) -> float:
    """Mean over time of what was sampled, a straight line between two samples."""
    if values.size == 0:
        return 0.0
    span_ns = time_ns[-1] - time_ns[0]
    return float(np.trapezoid(values, time_ns) / span_ns) if span_ns > 0 else float(values.mean())


def _links(simulation: Simulation) -> dict[str, float | int]:
    traffic, busy_ns, duration_ns = _traffic(simulation), _busy_ns(simulation), simulation.duration_ns
    values: dict[str, float | int] = {}
    for link in simulation.hierarchy.profile.links:
        waited_ns = 0.0
        for way in ("up", "down"):
            moved, wait_ns = traffic["link", link, way]
            waited_ns += wait_ns
            values[f"link.{link}.{way}_bytes"] = moved
            values[f"link.{link}.{way}_utilisation"] = ratio(busy_ns["link", link, way], duration_ns)
        values[f"link.{link}.queue_length_mean"] = ratio(waited_ns, duration_ns)
    return values


def _totals(simulation: Simulation) -> dict[str, float | int]:
    profile, duration_ns = simulation.profile, simulation.duration_ns
    parts = [*(tier.device for tier in profile.tiers), *profile.links.values()]
    traffic = _traffic(simulation)
    dynamic_pj = sum(
        traffic[column.part, column.name, column.direction][0] * 8 * _pj_per_bit(column)
        for column in simulation.hierarchy.columns
    )
    static_j = sum(part.static_w for part in parts) * duration_ns / _SECOND_NS
    usd_per_hour = sum(part.usd_per_hour for part in parts)
    completed = int(np.count_nonzero(~np.isnan(_answers(simulation)[0])))
    return {
        "bytes_moved": sum(moved for (part, _, _), (moved, _) in traffic.items() if part == "link"),
        "energy_j": float(dynamic_pj * _PJ + static_j),
        "cost_usd_per_hour": float(usd_per_hour),
        "cost_usd_per_million_requests": ratio(usd_per_hour * duration_ns / _HOUR_NS * 1e6, completed),
    }


def _pj_per_bit(column) -> float:
    device = column.device
    return device.write_pj_per_bit if column.direction in ("write", "down") else device.read_pj_per_bit
