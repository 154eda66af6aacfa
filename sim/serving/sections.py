"""What a report says of serving runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sim.report import charts, tables
from sim.report.sections import Cell, Section, Table, Words, each, section
from sim.serving import charts as drawn
from sim.serving.metrics import QUANTILES, TIMES

if TYPE_CHECKING:
    from sim.serving.results import ServingResult

_NOUNS = {"ttft": "to the first token", "tpot": "per output token", "itl": "between tokens", "latency": "end to end"}
_TIER = (
    ("hit_tokens", "tokens found", charts.NUMBER),
    ("hit_token_share", "share of prompt tokens", charts.SHARE),
    ("occupancy_mean", "held, mean", charts.SHARE),
    ("evictions", "evictions", charts.NUMBER),
    ("read_bytes", "read", charts.BYTES),
    ("write_bytes", "written", charts.BYTES),
    ("utilisation", "busy", charts.SHARE),
)
_LINK = (
    ("up_bytes", "up", charts.BYTES),
    ("down_bytes", "down", charts.BYTES),
    ("up_utilisation", "busy up", charts.SHARE),
    ("down_utilisation", "busy down", charts.SHARE),
)
_WASTE = {
    "kv_occupancy_mean": ("in use", charts.SHARE),
    "kv_cached_mean": ("cached", charts.SHARE),
    "kv_waste_internal": ("wasted, internal", charts.SHARE),
    "kv_waste_reserved": ("reserved", charts.SHARE),
    "kv_waste_external": ("external", charts.SHARE),
    "kv_waste_duplicated": ("duplicated", charts.SHARE),
    "preemptions": ("preemptions", charts.NUMBER),
}
_COSTS = {
    "tokens_per_s": ("tokens a second", charts.NUMBER),
    "good_share": ("met the SLO", charts.SHARE),
    "energy_j_per_million_tokens": ("energy, a million tokens (J)", charts.NUMBER),
    "accelerator_usd_per_hour": ("accelerators ($/h)", charts.NUMBER),
    "tier_usd_per_hour": ("tiers below ($/h)", charts.NUMBER),
    "cost_usd_per_million_tokens": ("a million tokens ($)", charts.NUMBER),
}


def facts(result: ServingResult) -> list[tuple[str, Any]]:
    """What the run was of."""
    manifest = result.manifest
    told = manifest["facts"]
    blocks, block_bytes = manifest["capacity_blocks"], manifest["block_bytes"]
    tiers = [f"{tier} {tables.size(blocks[tier] * block_bytes)}" for tier in manifest["tiers"]]
    named = [(name.capitalize(), told.get(name)) for name in ("model", "gpu", "system", "trace")]
    return [
        ("Description", manifest["scenario"].get("description")),
        *named,
        ("Engines", f"{manifest['replicas']:,}"),
        ("KV tiers, each engine", ", ".join(tiers)),
        ("Requests", f"{result.summary['calls']:,}"),
    ]


def sections(compared: Sequence[ServingResult], detailed: Sequence[ServingResult], most_points: int) -> list[Section]:
    """compared: drawn in common figures; detailed: with figures of their own."""
    return [
        *section("latency", "Latency", drawn.ttft_and_latency(compared, most_points), _latencies(compared)),
        *section(
            "time",
            "Where the time goes",
            drawn.mean_parts(compared) if len(compared) > 1 else None,
            drawn.engine_shares(compared),
            *each(detailed, lambda result: (drawn.where_time_goes(result),)),
        ),
        *section("tiers", "Prefix hits and tiers", drawn.tier_hit_tokens(compared), _parts("tier", compared, _TIER)),
        *section("over_time", "Over time", *each(detailed, _over_time)),
        *section("links", "Links", *_links(compared, detailed)),
        *section(
            "fragmentation",
            "Fragmentation of the KV cache",
            tables.of_metrics("Shares of the first tier, mean", "run", compared, _WASTE),
            *each(detailed, lambda result: (drawn.waste_over_time(result),)),
        ),
        *section("cost", "Cost and energy", *_cost(compared)),
    ]


def _latencies(results: Sequence[ServingResult]) -> Table:
    rows = []
    for result in results:
        for name in TIMES:
            metrics = [f"{name}_{which}_ns" for which in ("mean", *QUANTILES)]
            told = [tables.cell(result.summary.get(metric), charts.TIME) for metric in metrics]
            if any(one.text != "-" for one in told):
                rows.append((Cell(result.label), Cell(_NOUNS[name]), *told))
    headings = ("run", "time", "mean", *(which.replace("_", ".") for which in QUANTILES))
    return Table("Latencies", headings, tuple(rows), sortable=len(results) > 1)


def _over_time(result: ServingResult) -> tuple[Any, ...]:
    return (
        drawn.requests_over_time(result),
        drawn.tokens_over_time(result),
        drawn.kv_over_time(result),
        drawn.tiers_over_time(result),
        drawn.bandwidth_over_time(result, "tier"),
    )


def _links(results: Sequence[ServingResult], detailed: Sequence[ServingResult]) -> list[Any]:
    if not any(drawn.links(result) for result in results):
        return [Words(("There are no links: every tier is in the accelerator.",))]
    over_time = each(detailed, lambda result: (drawn.bandwidth_over_time(result, "link"),))
    return [drawn.link_bytes(results), _parts("link", results, _LINK), *over_time]


def _parts(part: str, results: Sequence[ServingResult], columns: Sequence[tuple[str, str, str]]) -> Table:
    rows = []
    for result in results:
        for name in result.tier_names if part == "tier" else drawn.links(result):
            told = [tables.cell(result.summary.get(f"{part}.{name}.{metric}"), kind) for metric, _, kind in columns]
            rows.append((Cell(result.label), Cell(name), *told))
    headings = ("run", part, *(title for _, title, _ in columns))
    return Table(f"{part.capitalize()}s", headings, tuple(rows), sortable=len(rows) > 1)


def _cost(results: Sequence[ServingResult]) -> list[Any]:
    """What it costs, and why what is not told cannot be."""
    reasons: dict[str, list[str]] = {}
    for metric in _COSTS:
        if metric in results[0].manifest["left_out"]:
            reasons.setdefault(results[0].manifest["left_out"][metric], []).append(metric)
    lines = tuple(f"Not told: {', '.join(names)}, because {reason}." for reason, names in reasons.items())
    return [tables.of_metrics("Cost and energy", "run", results, _COSTS), Words(lines)]
