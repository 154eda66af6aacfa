"""Tables for a terminal of 80 columns: one run in detail, several side by side, and why the best of them is best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sim import metrics, units

if TYPE_CHECKING:
    import pandas

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
        f"{_rate(summary['throughput_requests_per_s'])}, hit ratio {_percent(summary['hit_ratio'])}, "
        f"{summary['delayed_hits']:,} delayed hits"
    )


def _timing(result: Result) -> str:
    """Which parts were simulated in detail, and by what."""
    detailed = {name: model for name, model in result.manifest["timing_models"].items() if model != "fixed"}
    if not detailed:
        return "every device timed by its fixed latency and bandwidth"
    return "simulated in detail: " + ", ".join(f"{name} by {model}" for name, model in detailed.items())


def _plain_table(*columns: str, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at else "left", min_width=5 if at else 8, overflow="fold")
    return table


def _latency_table(summary: Mapping[str, float]) -> Table:
    table = _plain_table("mean", "p50", "p90", "p99", "p99.9", "max", title="Latency")
    names = ("mean", "p50", "p90", "p99", "p99_9", "max")
    table.columns[0].justify = "right"
    table.add_row(*(units.format_time(summary[f"latency_{name}_ns"], 4) for name in names))
    return table


def _tier_table(result: Result) -> Table:
    table = _plain_table(
        "tier", "lookups", "hits", "hit %", "evicted", "demoted", "read", "written", "busy %", "queue", title="Tiers"
    )
    for tier in result.tier_names:
        own = _family(result.summary, "tier", tier)
        table.add_row(
            tier,
            _count(own["lookups"]),
            _count(own["hits"]),
            f"{100 * own['hit_ratio']:.2f}",
            _count(own.get("evictions")),
            _count(own.get("demotions")),
            units.format_bytes(own["read_bytes"], 3),
            units.format_bytes(own["write_bytes"], 3),
            f"{100 * own['utilisation']:.3g}",
            f"{own['queue_length_mean']:.2f}",
        )
    return table


def _allocation_table(result: Result) -> Table:
    table = _plain_table(
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
        own = _family(result.summary, "tier", tier)
        table.add_row(
            tier,
            units.format_bytes(result.manifest["capacity_bytes"][tier], 4),
            units.format_bytes(round(own["occupancy_mean_bytes"]), 4),
            _percent(own["internal_fragmentation"]),
            _percent(own["external_fragmentation"]),
            _percent(own["external_fragmentation_max"]),
            units.format_bytes(round(own["waste_mean_bytes"]), 3),
        )
    return table


def _link_table(result: Result) -> RenderableType:
    links = result.manifest["links"]
    if not links:
        return Text("No links: all tiers are at the compute unit.")
    table = _plain_table("link", "up", "down", "busy up", "busy down", "queue", title="Links")
    for link in links:
        own = _family(result.summary, "link", link)
        table.add_row(
            link,
            units.format_bytes(own["up_bytes"], 4),
            units.format_bytes(own["down_bytes"], 4),
            _percent(own["up_utilisation"]),
            _percent(own["down_utilisation"]),
            f"{own['queue_length_mean']:.2g}",
        )
    return table


def _totals(summary: Mapping[str, float]) -> str:
    return (
        f"{units.format_bytes(summary['bytes_moved'], 4)} over links; {summary['energy_j']:.4g} J; "
        f"{summary['cost_usd_per_hour']:.4g} $/h, {summary['cost_usd_per_million_requests']:.3g} $ a million requests"
    )


def _family(summary: Mapping[str, float], part: str, name: str) -> dict[str, float]:
    start = f"{part}.{name}."
    return {key.removeprefix(start): value for key, value in summary.items() if key.startswith(start)}


def _count(value: float | None) -> str:
    """A count of at most six characters; a dash where there is none."""
    if value is None:
        return "-"
    if value < 1e5:
        return f"{value:,}"
    scale, sign = next((scale, sign) for scale, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= scale)
    return f"{value / scale:.4g}{sign}"


def _rate(per_s: float) -> str:
    scale, sign = next(((s, p) for s, p in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if per_s >= s), (1, ""))
    return f"{per_s / scale:.4g}{sign} requests/s"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


# --- several runs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """One column of the comparison: heading, metric, the multiples of it that may be shown, and what to call it."""

    heading: str
    metric: str
    scales: Mapping[str, float]
    noun: str


_TIMES = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
_RATES = {"1/s": 1.0, "k/s": 1e3, "M/s": 1e6, "G/s": 1e9}
_SIZES = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_SHARE = {"%": 0.01}
_DOLLARS = {"n$/M": 1e-9, "u$/M": 1e-6, "m$/M": 1e-3, "$/M": 1.0}
_COLUMNS = (
    _Shown("hits", "hit_ratio", _SHARE, "hit ratio"),
    _Shown("mean", "latency_mean_ns", _TIMES, "mean latency"),
    _Shown("p50", "latency_p50_ns", _TIMES, "median latency"),
    _Shown("p99", "latency_p99_ns", _TIMES, "p99 latency"),
    _Shown("rate", "throughput_requests_per_s", _RATES, "throughput"),
    _Shown("int.", "internal_fragmentation", _SHARE, "internal fragmentation"),
    _Shown("ext.", "external_fragmentation", _SHARE, "external fragmentation"),
    _Shown("moved", "bytes_moved", _SIZES, "bytes moved"),
    _Shown("cost", "cost_usd_per_million_requests", _DOLLARS, "cost"),
)


def comparison_report(results: Sequence[Result]) -> RenderableType:
    """A row a run, the best of each column marked, and sentences that say which is best on what, and why."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("policy", overflow="fold", min_width=8)
    cells = []
    for shown in _COLUMNS:
        unit, texts, best = _column(shown, [_value(result, shown.metric) for result in results])
        table.add_column(f"{shown.heading}\n{unit}", justify="right", no_wrap=True)
        cells.append([_marked(text, good) for text, good in zip(texts, best, strict=True)])
    for row, result in enumerate(results):
        table.add_row(result.label, *(column[row] for column in cells))
    key = "* best of the column; int., ext.: fragmentation, mean of all caching tiers; moved: over all links"
    return Group(table, Text(key, style="dim"), *(Text(line) for line in explain(results)))


def _marked(text: str, best: bool) -> Text:
    return Text(f"{text}*", style="bold") if best else Text(f"{text} ")


def _value(result: Result, metric: str) -> float:
    """A metric of the run; fragmentation is the mean of the caching tiers'."""
    if metric in result.summary:
        return result.summary[metric]
    tiers = result.tier_names[:-1]
    return sum(result.summary[f"tier.{tier}.{metric}"] for tier in tiers) / len(tiers) if tiers else 0.0


def _column(shown: _Shown, values: Sequence[float]) -> tuple[str, list[str], list[bool]]:
    """(unit, texts, which of them are the best); texts that look alike are equally good."""
    most = max(values)
    fitting = [unit for unit, scale in shown.scales.items() if most >= scale]
    unit = fitting[-1] if fitting else next(iter(shown.scales))
    scale = shown.scales[unit]
    places = 2 if shown.scales is _SHARE else max(0, 3 - math.floor(math.log10(most / scale))) if most > 0 else 0
    texts = [f"{value / scale:.{min(places, 3)}f}" for value in values]
    wanted = max if _declared(shown.metric).better == metrics.HIGHER else min
    best_text = texts[values.index(wanted(values))]
    return unit, texts, [text == best_text and len(set(texts)) > 1 for text in texts]


def _declared(metric: str) -> metrics.Metric:
    return metrics.declaration(f"tier.any.{metric}" if metric.endswith("_fragmentation") else metric)


# --- why -------------------------------------------------------------------------------------------------------------


def explain(results: Sequence[Result]) -> list[str]:
    """One sentence that says which run is best on what, and one or two that say why, from their metrics."""
    if len(results) < 2:
        return [_where_time_goes(result) for result in results]
    first, *others = sorted(results, key=lambda result: result.summary["latency_mean_ns"])
    lru = [result for result in others if result.label == "lru"]
    other = lru[0] if lru else max(others, key=lambda result: result.summary["latency_mean_ns"])
    return [_best_on_what(results), _why(first, other), _where_time_goes(first)]


def _best_on_what(results: Sequence[Result]) -> str:
    """Who leads alone in which column; columns in which leaders look alike are left out."""
    leads: dict[str, list[str]] = {}
    for shown in _COLUMNS:
        _, _, best = _column(shown, [_value(result, shown.metric) for result in results])
        if sum(best) == 1:
            leads.setdefault(results[best.index(True)].label, []).append(shown.noun)
    if not leads:
        return "None is alone the best on anything."
    parts = [f"{label} on {_listed(nouns)}" for label, nouns in sorted(leads.items(), key=lambda kv: -len(kv[1]))]
    return f"Best: {'; '.join(parts)}."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _why(best: Result, other: Result) -> str:
    """What makes the one faster than the other: the source of answers that contributes most to the difference."""
    ours, theirs = best.summary["latency_mean_ns"], other.summary["latency_mean_ns"]
    if theirs <= 0 or 1 - ours / theirs < _ALIKE:
        return f"{best.label} and {other.label} have the same mean latency, within {_percent(_ALIKE)}."
    lead = f"{best.label}: {_percent(1 - ours / theirs)} lower mean latency than {other.label}"
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
    return f"; it hits less in all, but more on reads, {_percent(ours)} against {_percent(theirs)}"


def _contributions(result: Result) -> dict[str, pandas.Series]:
    """Source of answers (see `_sources`) -> `count`, sums of latency_ns and of its parts."""
    grouped = result.requests.groupby(_sources(result))
    table = grouped[["latency_ns", *_PARTS]].sum().assign(count=grouped.size())
    return {str(name): row for name, row in table.iterrows()}


def _sources(result: Result) -> pandas.Series:
    """What answered each request: the tier that it was read from, a fetch that another had begun, or its being written.

    A write goes to the fastest tier that takes the block, wherever the block was found.
    """
    outcome, tier = result.requests["outcome"], result.requests["served_by"].astype(str)
    return tier.mask(outcome == "delayed_hit", _WAITING).mask(outcome == "write", _WRITES)


_WAITING, _WRITES = "fetches that other requests had begun", "writes"


def _cause(source: str, mine: pandas.Series | None, its: pandas.Series) -> str:
    """Whether fewer requests went to the source, or those that did took less time, and then which part of it."""
    what = {_WAITING: f"had to wait for {_WAITING}", _WRITES: "were writes"}.get(
        source, f"had to be read from {source}"
    )
    fewer = 1 - (mine["count"] if mine is not None else 0) / its["count"]
    if mine is None or its["latency_ns"] <= 0:
        return f"{_percent(fewer)} fewer requests {what}"
    my_mean, its_mean = mine / mine["count"], its / its["count"]
    faster = 1 - my_mean["latency_ns"] / its_mean["latency_ns"]
    if fewer >= faster:
        return f"{_percent(fewer)} fewer requests {what}"
    if source == _WAITING:
        return f"waiting for {_WAITING} took {_percent(faster)} less"
    part = max(_PARTS, key=lambda name: its_mean[name] - my_mean[name])
    times = f"{units.format_time(my_mean[part], 3)} instead of {units.format_time(its_mean[part], 3)}"
    subject = "a write" if source == _WRITES else f"a read from {source}"
    return f"{subject} took {_percent(faster)} less, with {times} of {_PARTS[part][1]}"


_PARTS = {
    "queue_ns": ("queueing on the way of", "queueing"),
    "device_ns": ("device time of", "device time"),
    "link_ns": ("link time of", "link time"),
}


def _where_time_goes(result: Result) -> str:
    """The largest part of the latency, by source and kind."""
    total = float(result.requests["latency_ns"].sum())
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
    return f"{result.label}: {_percent(shares[largest])} of all latency is {largest}."
