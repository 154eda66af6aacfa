"""Tables of serving runs for a terminal of 80 columns: one run on a page, and several side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from sim import units
from sim.metrics import HIGHER
from sim.report.cells import (
    DOLLARS,
    RATES,
    SHARE,
    TIMES,
    Column,
    Shown,
    best_on_what,
    column_of,
    count,
    family,
    listed,
    percent,
    plain_table,
    side_by_side,
)
from sim.report.sheet import Sheet
from sim.serving.metrics import QUANTILES
from sim.serving.record import ENGINE_PARTS, PARTS

if TYPE_CHECKING:
    from sim.serving.results import ServingResult

PART_NAMES = {
    "queue_ns": "queue",
    "block_wait_ns": "no free KV blocks",
    "prefetch_wait_ns": "waiting for a prefetch",
    "load_ns": "loading",
    "prefill_ns": "prefill",
    "decode_ns": "decode",
    "stall_ns": "stalled by copies",
    "preempted_ns": "preempted",
    "transfer_ns": "handed over",
}
_DASH = "-"


def run_report(result: ServingResult) -> RenderableType:
    """One run's summary: what became of its calls, latencies, throughput, where time goes, tiers, KV cache, cost."""
    summary = result.summary
    parts = [
        Text(_heading(result), style="bold"),
        Text(accounting(result)),
        _latency_table(summary),
        Text(_throughput(summary)),
        _time_table(summary),
        Text(_engines(result)),
        _tier_table(result),
        _link_table(result),
        Text(_kv(summary)),
        Text(_totals(result)),
    ]
    return Group(*parts)


def _heading(result: ServingResult) -> str:
    facts, replicas = result.manifest["facts"], result.manifest["replicas"]
    on = f"{replicas} engines" if replicas > 1 else "one engine"
    names = [str(facts[name]) for name in ("model", "gpu", "system", "trace") if name in facts]
    made_of = f" ({', '.join(names)})" if names else ""
    return f"{result.label}: {on}{made_of}"


def accounting(result: ServingResult) -> str:
    """'12,031 requests: 12,000 completed, 31 rejected (longer_than_model 31)'."""
    reason = result.column("requests", "reason")
    why = Counter(reason.codes.tolist())
    told = ", ".join(
        f"{reason.names[code]} {times:,}" for code, times in sorted(why.items()) if reason.names[code] != "none"
    )
    summary = result.summary
    rejected = f"{summary['rejected']:,} rejected" + (f" ({told})" if told else "")
    return f"{summary['calls']:,} requests: {summary['completed']:,} completed, {rejected}"


def _latency_table(summary: Mapping[str, float]) -> Sheet:
    table = plain_table("", "mean", *(name.replace("_", ".") for name in QUANTILES), title="Latency")
    names = {
        "ttft": "to the first token",
        "tpot": "per output token",
        "itl": "between tokens",
        "latency": "end to end",
    }
    for name, noun in names.items():
        values = [summary.get(f"{name}_{which}_ns") for which in ("mean", *QUANTILES)]
        table.add_row(noun, *(_DASH if value is None else units.format_time(value, 4) for value in values))
    return table


def _throughput(summary: Mapping[str, float]) -> str:
    text = (
        f"{summary['calls_per_s']:.4g} requests/s; {summary['prompt_tokens_per_s']:,.0f} prompt and "
        f"{summary['generated_tokens_per_s']:,.0f} generated tokens/s over "
        f"{units.format_time(summary['makespan_s'] * 1e9, 4)}"
    )
    if "good_share" not in summary:
        return text
    return f"{text}; {percent(summary['good_share'])} met the SLO, {summary['good_calls_per_s']:.4g} requests/s"


def _time_table(summary: Mapping[str, float]) -> Sheet:
    """The mean latency by parts; parts that never took any time are left out."""
    table = plain_table("part", "mean", "share", title="Where the time of a request goes")
    means = {name: summary.get(name.replace("_ns", "_mean_ns"), 0.0) for name in PARTS}
    whole = sum(means.values())
    for name, mean in means.items():
        if mean > 0:
            table.add_row(PART_NAMES[name], units.format_time(mean, 4), percent(mean / whole))
    return table


def _engines(result: ServingResult) -> str:
    summary = result.summary
    shares = {name: summary[f"engine.{name.removesuffix('_ns')}_share"] for name in ENGINE_PARTS}
    shown = {
        "linear": shares["linear_ns"],
        "attention": shares["prefill_attention_ns"] + shares["decode_attention_ns"],
        "head": shares["head_ns"],
        "host": shares["overhead_ns"],
        "stalls": shares["load_stall_ns"] + shares["store_stall_ns"],
        "idle": summary["engine.idle_share"],
    }
    told = ", ".join(f"{name} {percent(share)}" for name, share in shown.items() if share >= 0.0005)
    return (
        f"engine time: {told}; {count(summary['iterations'])} iterations of {summary['tokens_per_iteration']:.4g} "
        f"tokens; {summary['running_mean']:.3g} running, {summary['waiting_mean']:.3g} waiting; "
        f"{count(summary['preemptions'])} preemptions, {count(summary['recomputed_tokens'])} tokens recomputed"
    )


def _tier_table(result: ServingResult) -> Sheet:
    table = plain_table(
        "tier", "capacity", "held", "hit tokens", "share", "evicted", "read", "written", "busy", title="KV tiers"
    )
    blocks, block_bytes = result.manifest["capacity_blocks"], result.manifest["block_bytes"]
    for tier in result.tier_names:
        own = family(result.summary, "tier", tier)
        table.add_row(
            tier,
            units.format_bytes(blocks[tier] * block_bytes, 3),
            percent(own["occupancy_mean"]),
            count(own["hit_tokens"]),
            percent(own["hit_token_share"]),
            count(own.get("evictions")),
            units.format_bytes(own["read_bytes"], 3),
            units.format_bytes(own["write_bytes"], 3),
            percent(own["utilisation"]),
        )
    return table


def _link_table(result: ServingResult) -> Sheet | Text:
    links = list(dict.fromkeys(name.split(".")[1] for name in result.summary if name.startswith("link.")))
    if not links:
        return Text("no link was used")
    table = plain_table("link", "up", "down", "busy up", "busy down", title="Links")
    for link in links:
        own = family(result.summary, "link", link)
        moved = [units.format_bytes(own[f"{way}_bytes"], 3) for way in ("up", "down")]
        table.add_row(link, *moved, *(percent(own[f"{way}_utilisation"]) for way in ("up", "down")))
    return table


def _kv(summary: Mapping[str, float]) -> str:
    waste = {name: summary[f"kv_waste_{name}"] for name in ("internal", "reserved", "external", "duplicated")}
    told = ", ".join(f"{name} {percent(share)}" for name, share in waste.items() if share > 0) or "none"
    used, most, cached = (percent(summary[f"kv_{name}"]) for name in ("occupancy_mean", "occupancy_max", "cached_mean"))
    found = percent(summary["hit_token_share"])
    return f"prefix: {found} of prompt tokens found; G1: {used} in use (most {most}), {cached} cached; wasted: {told}"


def _totals(result: ServingResult) -> str:
    """Energy and price; of what cannot be told, why."""
    summary, left_out = result.summary, result.manifest["left_out"]
    told, missing = [f"{units.format_bytes(summary['bytes_moved'], 4)} over links"], {}
    for metric, unit, noun in (
        ("energy_j_per_million_tokens", "J", "energy"),
        ("cost_usd_per_million_tokens", "$", "price"),
    ):
        if metric in summary:
            told.append(f"{_plain(summary[metric])} {unit} a million tokens")
        else:
            missing.setdefault(left_out[metric], []).append(noun)
    years = {tier: summary.get(f"tier.{tier}.endurance_years") for tier in result.tier_names}
    told += [f"{tier} lasts {value:.3g} years of such writes" for tier, value in years.items() if value is not None]
    return "; ".join([*told, *(f"no {listed(nouns)}: {reason}" for reason, nouns in missing.items())])


def _plain(value: float) -> str:
    """Four significant digits, and no exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


# --- several runs ----------------------------------------------------------------------------------------------------

COLUMNS = (
    Shown("TTFT", "ttft_mean_ns", TIMES, "mean time to the first token"),
    Shown("p99", "ttft_p99_ns", TIMES, "p99 time to the first token"),
    Shown("TPOT", "tpot_mean_ns", TIMES, "mean time per token"),
    Shown("latency", "latency_mean_ns", TIMES, "mean latency"),
    Shown("p99", "latency_p99_ns", TIMES, "p99 latency"),
    Shown("tokens", "tokens_per_s", RATES, "throughput", HIGHER),
    Shown("good", "good_share", SHARE, "goodput", HIGHER),
    Shown("found", "hit_token_share", SHARE, "prefix hits", HIGHER),
    Shown("cost", "cost_usd_per_million_tokens", DOLLARS, "cost"),
)


def comparison_report(results: Sequence[ServingResult]) -> RenderableType:
    """A row a run, the best of each column marked, and who leads on what. What one run cannot tell is no column."""
    labels = [result.label for result in results]
    columns = _columns(results)
    key = "* best of the column; found: share of prompt tokens; good: share that met the SLO; cost: a million tokens"
    lines = [Text(key, style="dim")]
    lines += [Text(f"{result.label}: {accounting(result)}") for result in results if result.summary["rejected"]]
    lines += [Text(line) for line in verdict(results)] if len(results) > 1 else []
    return Group(side_by_side("run", labels, columns), *lines)


def _columns(results: Sequence[ServingResult]) -> list[Column]:
    told = [shown for shown in COLUMNS if all(shown.metric in result.summary for result in results)]
    return [column_of(shown, [result.summary[shown.metric] for result in results]) for shown in told]


def verdict(results: Sequence[ServingResult]) -> list[str]:
    """One sentence that says which run is best on what; of one run, where most of the time of its requests goes."""
    if len(results) > 1:
        return [best_on_what([result.label for result in results], _columns(results))]
    summary = results[0].summary
    means = {name: summary.get(name.replace("_ns", "_mean_ns"), 0.0) for name in PARTS}
    most, whole = max(means, key=means.__getitem__), sum(means.values())
    if whole <= 0:
        return [f"{results[0].label}: no request took any time."]
    first = units.format_time(summary["ttft_mean_ns"], 3)
    return [
        f"{results[0].label}: the first token comes after {first} on average; {percent(means[most] / whole)} of the "
        f"time of all requests is {PART_NAMES[most]}.",
        _throughput(summary),
    ]
