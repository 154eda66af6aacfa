"""What a report says of runs of hierarchies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sim.report import charts, tables
from sim.report import hierarchy_charts as drawn
from sim.report.sections import Cell, Section, Table, Words, each, section

if TYPE_CHECKING:
    from sim.results import Result

_LATENCIES = {
    "latency_mean_ns": ("mean", charts.TIME),
    "latency_p50_ns": ("p50", charts.TIME),
    "latency_p90_ns": ("p90", charts.TIME),
    "latency_p99_ns": ("p99", charts.TIME),
    "latency_p99_9_ns": ("p99.9", charts.TIME),
    "latency_max_ns": ("max", charts.TIME),
}
_COSTS = {
    "energy_j": ("energy (J)", charts.NUMBER),
    "cost_usd_per_hour": ("price of the system ($/h)", charts.NUMBER),
    "cost_usd_per_million_requests": ("a million requests ($)", charts.NUMBER),
    "duration_s": ("simulated time (s)", charts.NUMBER),
    "throughput_requests_per_s": ("requests a second", charts.NUMBER),
}
_TIER = (
    ("lookups", "lookups", charts.NUMBER),
    ("hit_ratio", "hit ratio", charts.SHARE),
    ("evictions", "evictions", charts.NUMBER),
    ("read_bytes", "read", charts.BYTES),
    ("write_bytes", "written", charts.BYTES),
    ("utilisation", "busy", charts.SHARE),
    ("queue_length_mean", "queue, mean", charts.NUMBER),
)
_LINK = (
    ("up_bytes", "up", charts.BYTES),
    ("down_bytes", "down", charts.BYTES),
    ("up_utilisation", "busy up", charts.SHARE),
    ("down_utilisation", "busy down", charts.SHARE),
    ("queue_length_mean", "queue, mean", charts.NUMBER),
)
_FRAGMENTATION = (
    ("occupancy_mean_bytes", "held, mean", charts.BYTES),
    ("internal_fragmentation", "internal", charts.SHARE),
    ("external_fragmentation", "external", charts.SHARE),
    ("external_fragmentation_max", "external, most", charts.SHARE),
    ("waste_mean_bytes", "wasted, mean", charts.BYTES),
)


def facts(result: Result) -> list[tuple[str, Any]]:
    """What the run was of."""
    manifest, scenario = result.manifest, result.manifest["scenario"]
    capacities = manifest["capacity_bytes"]
    tiers = [f"{tier} {tables.size(capacities[tier])}" if tier in capacities else tier for tier in manifest["tiers"]]
    detailed = [f"{name} by {model}" for name, model in manifest["timing_models"].items() if model != "fixed"]
    return [
        ("Description", scenario.get("description")),
        ("System", manifest["profile"]["name"]),
        ("Tiers", ", ".join(tiers)),
        ("Links", ", ".join(manifest["links"])),
        ("Workload", f"{manifest['trace']['name']}, {result.summary['requests']:,} requests"),
        ("Simulated in detail", ", ".join(detailed) or "nothing: every part by its latency and bandwidth"),
    ]


def sections(compared: Sequence[Result], detailed: Sequence[Result], most_points: int) -> list[Section]:
    """compared: drawn in common figures; detailed: with figures of their own."""
    return [
        *section(
            "latency",
            "Latency and where the time goes",
            drawn.latency_cdf(compared, most_points),
            drawn.latency_parts(compared),
            tables.of_metrics("Latencies of requests", "run", compared, _LATENCIES),
        ),
        *section("tiers", "Tiers", drawn.tier_hit_ratio(compared), _parts_table("tier", compared, _TIER)),
        *section("over_time", "Over time", *each(detailed, _over_time)),
        *section("links", "Links", *_links(compared, detailed)),
        *section(
            "fragmentation",
            "Fragmentation",
            _parts_table("tier", compared, _FRAGMENTATION, "Occupancy and fragmentation"),
            *each(detailed, lambda result: (drawn.fragmentation_over_time(result),)),
            Words(("Addresses are not recorded by runs of hierarchies; `alloc` draws a map of them.",)),
        ),
        *section("cost", "Cost and energy", tables.of_metrics("Cost and energy", "run", compared, _COSTS)),
    ]


def _over_time(result: Result) -> tuple[Any, ...]:
    rates = (drawn.over_time(result, what, "tier") for what in ("bandwidth", "busy", "queue"))
    return (drawn.occupancy(result), drawn.hit_ratio_over_time(result), *rates)


def _links(compared: Sequence[Result], detailed: Sequence[Result]) -> list[Any]:
    if not any(result.manifest["links"] for result in compared):
        return [Words(("There are no links: all tiers are at the compute unit.",))]
    whats = ("bandwidth", "busy", "queue")
    over_time = each(detailed, lambda result: [drawn.over_time(result, what, "link") for what in whats])
    return [drawn.link_bytes(compared), _parts_table("link", compared, _LINK), *over_time]


def _parts_table(
    part: str, results: Sequence[Result], columns: Sequence[tuple[str, str, str]], caption: str = ""
) -> Table:
    """A row a run and tier or link; what the last tier has not is left open."""
    rows = []
    for result in results:
        for name in result.manifest["tiers"] if part == "tier" else result.manifest["links"]:
            told = [tables.cell(result.summary.get(f"{part}.{name}.{metric}"), kind) for metric, _, kind in columns]
            if any(one.text != "-" for one in told):
                rows.append((Cell(result.label), Cell(name), *told))
    headings = ("run", part, *(title for _, title, _ in columns))
    return Table(caption or f"{part.capitalize()}s", headings, tuple(rows), sortable=len(rows) > 1)
