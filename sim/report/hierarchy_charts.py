"""Charts of runs of hierarchies, made of what their results hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim import units
from sim.report import charts
from sim.report.cells import percent
from sim.report.charts import Axis, Chart, joined

if TYPE_CHECKING:
    from sim.results import Result

MOST_POINTS = 2000  # of a curve; more cannot be seen
_PARTS = {
    "queue_mean_ns": "queueing",
    "device_mean_ns": "devices",
    "link_mean_ns": "links",
    "wait_mean_ns": "waiting for another's fetch",
}


def latency_cdf(results: Sequence[Result], most_points: int = MOST_POINTS) -> Chart:
    """Share of the requests answered within a time, a curve a result."""
    parts = []
    for result in results:
        latency_ns, share = cumulative(result.column("requests", "latency_ns"), most_points)
        parts.append({"run": np.repeat(result.label, latency_ns.size), "latency_ns": latency_ns, "share": share})
    told = [
        f"{result.label} answers half of the requests within {_time(result, 'latency_p50_ns')} and 99 % within "
        f"{_time(result, 'latency_p99_ns')}"
        for result in results[:2]
    ]
    return Chart(
        name="latency_cdf",
        title="Latency",
        summary=f"{'; '.join(told)}.",
        mark=charts.STEPS,
        x=Axis("latency_ns", "latency", charts.TIME, log=True),
        y=Axis("share", "share of requests answered", charts.SHARE, low=0, high=1.02),
        data=joined(parts),
        series="run",
        notes=(f"Curves are drawn of at most {most_points:,} points each.",) if most_points < MOST_POINTS else (),
    )


def _time(result: Result, metric: str) -> str:
    return units.format_time(result.summary[metric], 3)


def cumulative(latency_ns: np.ndarray, most_points: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Latencies and the share of requests that they cover; a log axis starts at 1 ns at the least.

    Of more than `most_points`, as many stand for all: half an equal number of requests apart, half ever closer to the
    longest, where there are few.
    """
    ranked = np.sort(latency_ns[~np.isnan(latency_ns)])
    if ranked.size == 0:
        return np.ones(1), np.zeros(1)
    last = ranked.size - 1
    at = np.arange(ranked.size)
    if ranked.size > most_points:
        tail = last - np.geomspace(1, last, most_points // 2).astype(int)
        at = np.unique(np.concatenate([np.linspace(0, last, most_points - most_points // 2).astype(int), tail]))
    return np.maximum(ranked[at], 1.0), (at + 1) / ranked.size


def tier_hit_ratio(results: Sequence[Result]) -> Chart:
    """Hits over lookups of each caching tier, a group of bars a tier, a bar a result."""
    tiers = caching_tiers(results)
    rows = [
        (tier, result.label, float(result.summary.get(f"tier.{tier}.hit_ratio", 0.0)))
        for result in results
        for tier in tiers
    ]
    first = results[0]
    told = " and ".join(f"{percent(first.summary.get(f'tier.{t}.hit_ratio', 0.0))} of those of {t}" for t in tiers)
    return Chart(
        name="tier_hit_ratio",
        title="Hit ratio per tier",
        summary=f"{first.label} serves {told} by that tier; the last tier holds everything.",
        mark=charts.BARS,
        x=Axis("tier", "", charts.NAMES),
        y=Axis("hit_ratio", "hits / lookups of the tier", charts.SHARE, low=0, high=1),
        data=_columns(("tier", "run", "hit_ratio"), rows) | {"label": np.array([f"{row[2]:.2f}" for row in rows])},
        series="run",
        text="label",
    )


def latency_parts(results: Sequence[Result]) -> Chart:
    """The mean latency of each result, cut into its parts."""
    rows = [
        (result.label, noun, float(result.summary[metric])) for metric, noun in _PARTS.items() for result in results
    ]
    first = min(results, key=lambda result: result.summary["latency_mean_ns"])
    most = max(_PARTS, key=lambda metric: first.summary[metric])
    share = first.summary[most] / first.summary["latency_mean_ns"] if first.summary["latency_mean_ns"] > 0 else 0.0
    return Chart(
        name="latency_parts",
        title="Where the time goes",
        summary=f"Of the mean latency of {first.label}, {_time(first, 'latency_mean_ns')}, {percent(share)} is "
        f"{_PARTS[most]}.",
        mark=charts.STACKED_BARS,
        x=Axis("time_ns", "mean latency", charts.TIME, low=0),
        y=Axis("run", "", charts.NAMES),
        data=_columns(("run", "part", "time_ns"), rows),
        series="part",
    )


def occupancy(result: Result) -> Chart:
    """Share of each caching tier's capacity that holds blocks, over simulated time."""
    capacities = result.manifest["capacity_bytes"]
    parts = [
        {"tier": np.repeat(tier, rows["time_ns"].size), **rows, "occupied_share": rows["used_bytes"] / capacities[tier]}
        for tier, rows in by_tier(result, "time_ns", "used_bytes")
    ]
    told = [f"{part['tier'][0]} {percent(part['occupied_share'][-1])}" for part in parts if part["time_ns"].size]
    return Chart(
        name="occupancy",
        title="Occupancy",
        summary=f"At the end blocks fill of {', of '.join(told)}." if told else "There is no caching tier.",
        mark=charts.LINES,
        x=Axis("time_ns", "simulated time", charts.TIME),
        y=Axis("occupied_share", "bytes of blocks / capacity", charts.SHARE, low=0, high=1.05),
        data=joined(parts),
        series="tier",
    )


def hit_ratio_over_time(result: Result) -> Chart:
    """Hits over lookups of each caching tier, in windows of a sixtieth of the run."""
    parts = []
    for tier, rows in by_tier(result, "time_ns", "hits", "lookups"):
        (at, hits), (_, lookups) = (growth(rows["time_ns"], rows[name]) for name in ("hits", "lookups"))
        some = lookups > 0
        named = np.repeat(tier, some.sum())
        parts.append({"tier": named, "time_ns": at[some], "hit_ratio": hits[some] / lookups[some]})
    whole = percent(result.summary["hit_ratio"])
    return Chart(
        name="hit_ratio_over_time",
        title="Hit ratio",
        summary=f"Hits over lookups in windows of the run; in all, {whole} of the requests hit a caching tier.",
        mark=charts.LINES,
        x=Axis("time_ns", "simulated time", charts.TIME),
        y=Axis("hit_ratio", "hits / lookups of the tier", charts.SHARE, low=0, high=1.02),
        data=joined(parts),
        series="tier",
    )


def fragmentation_over_time(result: Result) -> Chart:
    """Internal and external fragmentation of each caching tier, a running mean over a twentieth of the samples."""
    parts = []
    for tier, rows in by_tier(result, "time_ns", "internal_fragmentation", "external_fragmentation"):
        for kind in ("internal", "external"):
            share = running_mean(rows[f"{kind}_fragmentation"])
            named = np.repeat(f"{tier}, {kind}", share.size)
            parts.append({"of": named, "time_ns": rows["time_ns"], "fragmentation": share})
    most = max((float(part["fragmentation"].max(initial=0.0)) for part in parts), default=0.0)
    summary = result.summary
    told = [
        f"{tier} {percent(summary[f'tier.{tier}.internal_fragmentation'])} internal and "
        f"{percent(summary[f'tier.{tier}.external_fragmentation'])} external"
        for tier in result.tier_names[:-1]
    ]
    return Chart(
        name="fragmentation",
        title="Fragmentation",
        summary=f"Mean over the run: {'; '.join(told)}." if most else "None: the allocators waste nothing here.",
        mark=charts.LINES,
        x=Axis("time_ns", "simulated time", charts.TIME),
        y=Axis("fragmentation", "share of bytes", charts.SHARE, low=0, high=max(0.1, min(1.02, 1.1 * most))),
        data=joined(parts) if most else {},
        series="of",
        notes=("A running mean over a twentieth of the samples.",),
    )


def running_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the samples around each, a twentieth of all of them; fewer at the ends."""
    window = np.ones(max(1, values.size // 20))
    return np.convolve(values, window, "same") / np.convolve(np.ones(values.size), window, "same")


_RATES = {  # (title, of what it is the growth, axis title, kind, what it says)
    "bandwidth": ("Bandwidth of", "bytes", "bytes a second", charts.BANDWIDTH, "What passed"),
    "busy": ("Busy time of", "busy_ns", "share of the time", charts.SHARE, "How much of the time accesses held"),
    "queue": ("Queues of", "wait_ns", "waiting, mean", charts.NUMBER, "How many accesses waited for"),
}
_NOUNS = {"tier": "devices", "link": "links"}
_WINDOWS = 60
_COUNTED_AT_ONCE = "What an access holds counts when it begins, so that a window may show more than 100 %."


def over_time(result: Result, what: str, part: str) -> Chart:
    """'bandwidth', 'busy' or 'queue' of each direction of the devices ('tier') or links, in windows of the run."""
    title, column, axis, kind, says = _RATES[what]
    told: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, rows in by_part(result, part):
        of = name.rpartition(".")[0] if column == "busy_ns" and part == "tier" else name
        told.setdefault(of.replace(".", " "), growth(rows["time_ns"], rows[column]))
    per = 1e9 if kind == charts.BANDWIDTH else 1.0
    moving = {name: (at, rate * per) for name, (at, rate) in told.items() if rate.any()}
    parts = [{"part": np.repeat(name, at.size), "time_ns": at, what: rate} for name, (at, rate) in moving.items()]
    still = [name for name in told if name not in moving]
    peaks = {name: float(rate.max()) for name, (_, rate) in moving.items()}
    most = max(peaks, key=peaks.__getitem__) if peaks else None
    peak = f"; the most is {charts.written(peaks[most], kind)}, of {most}" if most else ": nothing at any time"
    notes = [f"Nothing all the time, and not drawn: {', '.join(still)}."] if still and moving else []
    notes += [_COUNTED_AT_ONCE] if what == "busy" and most and peaks[most] > 1 else []
    return Chart(
        name=f"{what}_of_{_NOUNS[part]}",
        title=f"{title} {_NOUNS[part]}",
        summary=f"{says} each of the {_NOUNS[part]}{peak}.",
        mark=charts.LINES,
        x=Axis("time_ns", "simulated time", charts.TIME),
        y=Axis(what, axis, kind, low=0),
        data=joined(parts),
        series="part",
        notes=tuple(notes),
    )


def growth(time_ns: np.ndarray, so_far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(middles of windows in ns, growth of a count a nanosecond in each)."""
    if time_ns.size < 2 or time_ns[-1] <= time_ns[0]:
        return np.zeros(0), np.zeros(0)
    edges_ns = np.linspace(time_ns[0], time_ns[-1], min(_WINDOWS, time_ns.size - 1) + 1)
    grown = np.diff(np.interp(edges_ns, time_ns, so_far.astype(float)))
    return (edges_ns[1:] + edges_ns[:-1]) / 2, grown / np.diff(edges_ns)


def link_bytes(results: Sequence[Result]) -> Chart:
    """Bytes over each link, up and down, of each run."""
    rows = [
        (f"{result.label}, {link}" if len(results) > 1 else link, way, int(result.summary[f"link.{link}.{way}_bytes"]))
        for way in ("up", "down")
        for result in results
        for link in result.manifest["links"]
        if result.summary[f"link.{link}.up_bytes"] or result.summary[f"link.{link}.down_bytes"]
    ]
    least = min(results, key=lambda result: result.summary["bytes_moved"])
    moved = units.format_bytes(least.summary["bytes_moved"], 4)
    return Chart(
        name="link_bytes",
        title="Bytes over links",
        summary=f"{least.label} moves the fewest bytes over links, {moved}."
        if len(results) > 1
        else f"{moved} went over links; up is towards the compute unit.",
        mark=charts.STACKED_BARS,
        x=Axis("bytes", "bytes moved", charts.BYTES, low=0),
        y=Axis("link", "", charts.NAMES),
        data=_columns(("link", "direction", "bytes"), rows),
        series="direction",
    )


def caching_tiers(results: Sequence[Result]) -> list[str]:
    """Caching tiers of all results, each once, in order of first appearance."""
    return list(dict.fromkeys(tier for result in results for tier in result.tier_names[:-1]))


def by_tier(result: Result, *names: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(tier, these columns of its samples in order of time), fastest tier first."""
    tier, columns = result.column("tiers", "tier"), {name: result.column("tiers", name) for name in names}
    for name in result.tier_names[:-1]:
        rows = tier.codes == tier.names.index(name)
        yield name, {column: values[rows] for column, values in columns.items()}


def by_part(result: Result, part: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(direction of a device or link, without the word, its samples in order of time); part: 'tier' or 'link'."""
    of = result.column("parts", "part")
    columns = {name: result.column("parts", name) for name in ("time_ns", "bytes", "wait_ns", "busy_ns")}
    for code, name in enumerate(of.names):
        if name.startswith(f"{part}."):
            told = {column: values[of.codes == code] for column, values in columns.items()}
            yield name.removeprefix(f"{part}."), told


def _columns(names: Sequence[str], rows: Sequence[tuple]) -> dict[str, np.ndarray]:
    return {name: np.array([row[at] for row in rows]) for at, name in enumerate(names)}
