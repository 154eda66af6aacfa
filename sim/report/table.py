"""Tables for a terminal of 80 columns: one run in detail, several side by side, and why the best of them is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from sim import metrics, units
from sim.report.cells import (
    DOLLARS,
    RATES,
    SHARE,
    SIZES,
    TIMES,
    Column,
    Shown,
    best_on_what,
    column_of,
    count,
    family,
    percent,
    plain_table,
    rate,
    side_by_side,
)
from sim.report.sheet import Sheet

if TYPE_CHECKING:
    from sim.results import Result

_ALIKE = 0.005  # a relative difference that is not worth a word


# --- one run ---------------------------------------------------------------------------------------------------------


def run_report(result: Result) -> RenderableType:
    """One run's summary: latency, tiers, fragmentation, links, and what it cost."""
    summary = result.summary
    return Group(
        Text(_heading(result), style="bold"),
        Text(_timing(result)),
        _latency_table(summary),
        _tier_table(result),
        _allocation_table(result),
        _link_table(result),
        Text(_totals(summary)),
        Text(_where_time_goes(result)),
    )


def _heading(result: Result) -> str:
    manifest, summary = result.manifest, result.summary
    return (
        f"{result.label}: {summary['completed']:,} of {summary['requests']:,} requests of {manifest['trace']['name']} "
        f"on {manifest['profile']['name']} in {units.format_time(summary['duration_s'] * 1e9, 4)}, "
        f"{rate(summary['throughput_requests_per_s'])}, hit ratio {percent(summary['hit_ratio'])}, "
        f"{summary['delayed_hits']:,} delayed hits"
    )


def _timing(result: Result) -> str:
    """Which parts were simulated in detail, and by what."""
    detailed = {name: model for name, model in result.manifest["timing_models"].items() if model != "fixed"}
    if not detailed:
        return "every device timed by its fixed latency and bandwidth"
    return "simulated in detail: " + ", ".join(f"{name} by {model}" for name, model in detailed.items())


def _latency_table(summary: Mapping[str, float]) -> Sheet:
    table = plain_table("mean", "p50", "p90", "p99", "p99.9", "max", title="Latency", names=0)
    names = ("mean", "p50", "p90", "p99", "p99_9", "max")
    table.add_row(*(units.format_time(summary[f"latency_{name}_ns"], 4) for name in names))
    return table


def _tier_table(result: Result) -> Sheet:
    table = plain_table(
        "tier", "lookups", "hits", "hit %", "evicted", "demoted", "read", "written", "busy %", "queue", title="Tiers"
    )
    for tier in result.tier_names:
        own = family(result.summary, "tier", tier)
        table.add_row(
            tier,
            count(own["lookups"]),
            count(own["hits"]),
            f"{100 * own['hit_ratio']:.2f}",
            count(own.get("evictions")),
            count(own.get("demotions")),
            units.format_bytes(own["read_bytes"], 3),
            units.format_bytes(own["write_bytes"], 3),
            f"{100 * own['utilisation']:.3g}",
            f"{own['queue_length_mean']:.2f}",
        )
    return table


def _allocation_table(result: Result) -> Sheet:
    table = plain_table(
        "tier",
        "capacity",
        "mean held",
        "internal",
        "external",
        "its max",
        "wasted",
        title="Occupancy and fragmentation",
    )
    for tier in result.tier_names[:-1]:
        own = family(result.summary, "tier", tier)
        table.add_row(
            tier,
            units.format_bytes(result.manifest["capacity_bytes"][tier], 4),
            units.format_bytes(round(own["occupancy_mean_bytes"]), 4),
            percent(own["internal_fragmentation"]),
            percent(own["external_fragmentation"]),
            percent(own["external_fragmentation_max"]),
            units.format_bytes(round(own["waste_mean_bytes"]), 3),
        )
    return table


def _link_table(result: Result) -> RenderableType:
    links = result.manifest["links"]
    if not links:
        return Text("No links: all tiers are at the compute unit.")
    table = plain_table("link", "up", "down", "busy up", "busy down", "queue", title="Links")
    for link in links:
        own = family(result.summary, "link", link)
        table.add_row(
            link,
            units.format_bytes(own["up_bytes"], 4),
            units.format_bytes(own["down_bytes"], 4),
            percent(own["up_utilisation"]),
            percent(own["down_utilisation"]),
            f"{own['queue_length_mean']:.2g}",
        )
    return table


def _totals(summary: Mapping[str, float]) -> str:
    return (
        f"{units.format_bytes(summary['bytes_moved'], 4)} over links; {summary['energy_j']:.4g} J; "
        f"{summary['cost_usd_per_hour']:.4g} $/h, {summary['cost_usd_per_million_requests']:.3g} $ a million requests"
    )


# --- several runs ----------------------------------------------------------------------------------------------------


COLUMNS = (
    Shown("hits", "hit_ratio", SHARE, "hit ratio", metrics.HIGHER),
    Shown("mean", "latency_mean_ns", TIMES, "mean latency"),
    Shown("p50", "latency_p50_ns", TIMES, "median latency"),
    Shown("p99", "latency_p99_ns", TIMES, "p99 latency"),
    Shown("rate", "throughput_requests_per_s", RATES, "throughput", metrics.HIGHER),
    Shown("int.", "internal_fragmentation", SHARE, "internal fragmentation"),
    Shown("ext.", "external_fragmentation", SHARE, "external fragmentation"),
    Shown("moved", "bytes_moved", SIZES, "bytes moved"),
    Shown("cost", "cost_usd_per_million_requests", DOLLARS, "cost"),
)


def comparison_report(results: Sequence[Result]) -> RenderableType:
    """A row a run, the best of each column marked, and sentences that say which is best on what, and why."""
    table = side_by_side("policy", [result.label for result in results], _columns(results))
    key = "* best of the column; int., ext.: fragmentation, mean of all caching tiers; moved: over all links"
    return Group(table, Text(key, style="dim"), *(Text(line) for line in explain(results)))


def _columns(results: Sequence[Result]) -> list[Column]:
    return [column_of(shown, [_value(result, shown.metric) for result in results]) for shown in COLUMNS]


def _value(result: Result, metric: str) -> float:
    """A metric of the run; fragmentation is the mean of the caching tiers'."""
    if metric in result.summary:
        return result.summary[metric]
    tiers = result.tier_names[:-1]
    return sum(result.summary[f"tier.{tier}.{metric}"] for tier in tiers) / len(tiers) if tiers else 0.0


# --- why -------------------------------------------------------------------------------------------------------------


def explain(results: Sequence[Result]) -> list[str]:
    """One sentence that says which run is best on what, and one or two that say why, from their metrics."""
    if len(results) < 2:
        return [_where_time_goes(result) for result in results]
    first, *others = sorted(results, key=lambda result: result.summary["latency_mean_ns"])
    lru = [result for result in others if result.label == "lru"]
    other = lru[0] if lru else max(others, key=lambda result: result.summary["latency_mean_ns"])
    return [
        best_on_what([result.label for result in results], _columns(results)),
        _why(first, other),
        _where_time_goes(first),
    ]


def _why(best: Result, other: Result) -> str:
    """What makes the one faster than the other: the source of answers that contributes most to the difference."""
    ours, theirs = best.summary["latency_mean_ns"], other.summary["latency_mean_ns"]
    if theirs <= 0 or 1 - ours / theirs < _ALIKE:
        return f"{best.label} and {other.label} have the same mean latency, within {percent(_ALIKE)}."
    lead = f"{best.label}: {percent(1 - ours / theirs)} lower mean latency than {other.label}"
    mine, its = _contributions(best), _contributions(other)
    gains = {
        source: row["latency_ns"] - (mine[source]["latency_ns"] if source in mine else 0) for source, row in its.items()
    }
    source = max(gains, key=gains.__getitem__)
    return f"{lead}, because {_cause(source, mine.get(source), its[source])}{_aside(best, other)}."


def _aside(best: Result, other: Result) -> str:
    """What reconciles being faster with hitting less, where it is that the reads alone hit more."""
    (all_ours, ours), (all_theirs, theirs) = (
        (result.summary["hit_ratio"], result.summary["read_hit_ratio"]) for result in (best, other)
    )
    if all_ours >= all_theirs or ours <= theirs:
        return ""
    return f"; it hits less in all, but more on reads, {percent(ours)} against {percent(theirs)}"


def _contributions(result: Result) -> dict[str, dict[str, float]]:
    """Source of answers (see `_sources`), by name -> `count`, sums of latency_ns and of its parts."""
    sources, names = _sources(result)
    asked = sources >= 0
    weights = {name: result.column("requests", name)[asked] for name in ("latency_ns", *_PARTS)}
    counts = np.bincount(sources[asked], minlength=len(names))
    sums = {name: np.bincount(sources[asked], np.nan_to_num(own), len(names)) for name, own in weights.items()}
    rows = {
        name: {"count": int(counts[at]), **{key: float(own[at]) for key, own in sums.items()}}
        for at, name in enumerate(names)
    }
    return {name: rows[name] for name in sorted(rows) if rows[name]["count"]}


def _sources(result: Result) -> tuple[np.ndarray, list[str]]:
    """What answered each request, as numbers into a list of names: the tier that it was read from, a fetch that another
    had begun, or its being written; -1 of one that nothing answered.

    A write goes to the fastest tier that takes the block, wherever the block was found.
    """
    outcome, tier = result.column("requests", "outcome"), result.column("requests", "served_by")
    is_outcome = {name: outcome.codes == code for code, name in enumerate(outcome.names)}
    names = [*tier.names, _WAITING, _WRITES]
    nobody = np.zeros(tier.codes.size, bool)
    sources = np.where(is_outcome.get("delayed_hit", nobody), names.index(_WAITING), tier.codes)
    return np.where(is_outcome.get("write", nobody), names.index(_WRITES), sources), names


_WAITING, _WRITES = "fetches that other requests had begun", "writes"


def _cause(source: str, mine: Mapping[str, float] | None, its: Mapping[str, float]) -> str:
    """Whether fewer requests went to the source, or those that did took less time, and then which part of it."""
    what = {_WAITING: f"had to wait for {_WAITING}", _WRITES: "were writes"}.get(
        source, f"had to be read from {source}"
    )
    fewer = 1 - (mine["count"] if mine is not None else 0) / its["count"]
    if mine is None or its["latency_ns"] <= 0:
        return f"{percent(fewer)} fewer requests {what}"
    my_mean, its_mean = ({name: value / one["count"] for name, value in one.items()} for one in (mine, its))
    faster = 1 - my_mean["latency_ns"] / its_mean["latency_ns"]
    if fewer >= faster:
        return f"{percent(fewer)} fewer requests {what}"
    if source == _WAITING:
        return f"waiting for {_WAITING} took {percent(faster)} less"
    part = max(_PARTS, key=lambda name: its_mean[name] - my_mean[name])
    times = f"{units.format_time(my_mean[part], 3)} instead of {units.format_time(its_mean[part], 3)}"
    subject = "a write" if source == _WRITES else f"a read from {source}"
    return f"{subject} took {percent(faster)} less, with {times} of {_PARTS[part][1]}"


_PARTS = {
    "queue_ns": ("queueing on the way of", "queueing"),
    "device_ns": ("device time of", "device time"),
    "link_ns": ("link time of", "link time"),
}


def _where_time_goes(result: Result) -> str:
    """The largest part of the latency, by source and kind."""
    total = float(np.nansum(result.column("requests", "latency_ns")))
    if total <= 0:
        return f"{result.label}: no request took any time."
    shares = {}
    for source, row in _contributions(result).items():
        if source == _WAITING:
            shares[f"waiting for {_WAITING}"] = row["latency_ns"] / total
            continue
        what = source if source == _WRITES else f"reads from {source}"
        shares |= {f"{words} {what}": row[part] / total for part, (words, _) in _PARTS.items()}
    largest = max(shares, key=shares.__getitem__)
    return f"{result.label}: {percent(shares[largest])} of all latency is {largest}."
