"""Charts of serving runs, made of what their results hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim import units
from sim.report import charts
from sim.report.cells import percent
from sim.report.charts import Axis, Chart, joined
from sim.report.hierarchy_charts import MOST_POINTS, cumulative
from sim.serving.record import PARTS
from sim.serving.report import PART_NAMES

if TYPE_CHECKING:
    from sim.serving.results import ServingResult

GROUPS = ((0, 50), (50, 90), (90, 99), (99, 100))  # percentiles of the latency
WINDOWS = 60  # of a rate over time
_TOKENS = (("first_token_ns", "first token"), ("finish_ns", "last token"))
_WASTE = {  # metric and column -> noun, in what it is counted
    "kv_waste_internal_tokens": ("internal", "tokens"),
    "kv_waste_reserved_tokens": ("reserved", "tokens"),
    "kv_waste_external_tokens": ("external", "tokens"),
    "kv_duplicated_blocks": ("duplicated", "blocks"),
}
_ENGINE_NOUNS = {
    "linear_ns": "linear layers",
    "prefill_attention_ns": "attention of prefill",
    "decode_attention_ns": "attention of decoding",
    "head_ns": "head and sampling",
    "overhead_ns": "host program",
    "load_stall_ns": "waiting for loads",
    "store_stall_ns": "waiting for stores",
}


def ttft_and_latency(results: Sequence[ServingResult], most_points: int = MOST_POINTS) -> Chart:
    """Share of the completed requests whose first token, and whose last, came within a time; two curves a run."""
    parts = []
    for result in results:
        done = result.completed()
        arrival_ns = result.column("requests", "arrival_ns")[done]
        for name, noun in _TOKENS:
            times_ns, share = cumulative(result.column("requests", name)[done] - arrival_ns, most_points)
            label = noun if len(results) == 1 else f"{result.label}, {noun}"
            parts.append({"of": np.repeat(label, times_ns.size), "time_ns": times_ns, "share": share})
    told = [
        f"{result.label}: the first token after {_time(result, 'ttft_p50_ns')} (median) and "
        f"{_time(result, 'ttft_p99_ns')} (p99)"
        for result in results[:2]
        if "ttft_p50_ns" in result.summary
    ]
    return Chart(
        name="ttft_and_latency",
        title="Time to the first and to the last token",
        summary=f"{'; '.join(told)}." if told else "No request was completed.",
        mark=charts.STEPS,
        x=Axis("time_ns", "time since arrival", charts.TIME, log=True),
        y=Axis("share", "share of requests", charts.SHARE, low=0, high=1.02),
        data=joined(parts),
        series="of",
        notes=(f"Curves are drawn of at most {most_points:,} points each.",) if most_points < MOST_POINTS else (),
    )


def _time(result: ServingResult, metric: str) -> str:
    return units.format_time(result.summary[metric], 3)


def where_time_goes(result: ServingResult) -> Chart:
    """The mean latency, cut into parts, of four groups of requests by their latency."""
    groups = time_by_group(result)
    rows = [
        (f"p{low} to p{high}", PART_NAMES[part], float(parts_ns[at]))
        for at, part in enumerate(PARTS)
        if any(parts_ns[at] > 0 for parts_ns in groups.values())
        for (low, high), parts_ns in groups.items()
    ]
    slowest = list(groups.values())[-1] if groups else np.zeros(len(PARTS))
    most = int(np.argmax(slowest))
    share = percent(slowest[most] / slowest.sum()) if slowest.sum() > 0 else "none"
    return Chart(
        name="where_time_goes",
        title="Where the time goes",
        summary=f"Of the time of the slowest requests, {share} is {PART_NAMES[PARTS[most]]}.",
        mark=charts.STACKED_BARS,
        x=Axis("time_ns", "mean time of a request", charts.TIME, low=0),
        y=Axis("requests", "requests by latency", charts.NAMES),
        data={name: np.array([row[at] for row in rows]) for at, name in enumerate(("requests", "part", "time_ns"))},
        series="part",
    )


def time_by_group(result: ServingResult) -> dict[tuple[int, int], np.ndarray]:
    """float64[len(PARTS)] mean parts of the latency, by group of GROUPS that has any request."""
    done = result.completed()
    parts_ns = result.parts_ns()[done]
    latency_ns = result.column("requests", "finish_ns")[done] - result.column("requests", "arrival_ns")[done]
    ranked = parts_ns[np.argsort(latency_ns, kind="stable")]
    edges = {group: [round(len(ranked) * share / 100) for share in group] for group in GROUPS}
    return {group: ranked[low:high].mean(axis=0) for group, (low, high) in edges.items() if high > low}


def mean_parts(results: Sequence[ServingResult]) -> Chart:
    """The mean latency of each run, cut into its parts."""
    means = {name: [result.summary.get(name.replace("_ns", "_mean_ns"), 0.0) for result in results] for name in PARTS}
    rows = [
        (result.label, PART_NAMES[name], float(values[at]))
        for name, values in means.items()
        if any(values)
        for at, result in enumerate(results)
    ]
    first = min(results, key=lambda result: result.summary.get("latency_mean_ns", np.inf))
    told = _time(first, "latency_mean_ns") if "latency_mean_ns" in first.summary else "none"
    return Chart(
        name="mean_parts",
        title="Where the time of a request goes",
        summary=f"{first.label} has the lowest mean latency, {told}.",
        mark=charts.STACKED_BARS,
        x=Axis("time_ns", "mean time of a request", charts.TIME, low=0),
        y=Axis("run", "", charts.NAMES),
        data={name: np.array([row[at] for row in rows]) for at, name in enumerate(("run", "part", "time_ns"))},
        series="part",
    )


def engine_shares(results: Sequence[ServingResult]) -> Chart:
    """Where the time of the engines goes."""
    nouns = {name.removesuffix("_ns"): noun for name, noun in _ENGINE_NOUNS.items()} | {"idle": "idle"}
    rows = [
        (result.label, noun, float(result.summary[f"engine.{name}_share"]))
        for name, noun in nouns.items()
        if any(result.summary[f"engine.{name}_share"] > 0 for result in results)
        for result in results
    ]
    idle = percent(results[0].summary["engine.idle_share"])
    return Chart(
        name="engine_shares",
        title="Where the time of the engines goes",
        summary=f"The engines of {results[0].label} are idle for {idle} of the time.",
        mark=charts.STACKED_BARS,
        x=Axis("share", "share of the engines' time", charts.SHARE, low=0, high=1),
        y=Axis("run", "", charts.NAMES),
        data={name: np.array([row[at] for row in rows]) for at, name in enumerate(("run", "part", "share"))},
        series="part",
    )


def tier_hit_tokens(results: Sequence[ServingResult]) -> Chart:
    """Share of the prompt tokens that each tier had, stacked, a bar a run."""
    tiers = list(dict.fromkeys(tier for result in results for tier in result.tier_names))
    rows = [
        (result.label, tier, float(result.summary.get(f"tier.{tier}.hit_token_share", 0.0)))
        for tier in tiers
        for result in results
    ]
    first = results[0]
    return Chart(
        name="tier_hit_tokens",
        title="Prefix tokens found, by tier",
        summary=f"{first.label} finds {percent(first.summary['hit_token_share'])} of all prompt tokens in a tier; "
        "the rest is computed.",
        mark=charts.STACKED_BARS,
        x=Axis("share", "share of prompt tokens", charts.SHARE, low=0),
        y=Axis("run", "", charts.NAMES),
        data={name: np.array([row[at] for row in rows]) for at, name in enumerate(("run", "tier", "share"))},
        series="tier",
    )


def requests_over_time(result: ServingResult) -> Chart:
    """Running, waiting and loading requests of all engines."""
    names = [name for name in ("running", "waiting", "loading") if result.sampled(name).any()]
    waiting = result.summary["waiting_max"]
    return _sampled(
        result,
        "requests_over_time",
        "Requests in the engines",
        f"On average {result.summary['running_mean']:.3g} requests run; at most {waiting:,.0f} wait.",
        Axis("requests", "requests", low=0),
        {name: result.sampled(name).sum(axis=1) for name in names},
        "state",
    )


def tokens_over_time(result: ServingResult) -> Chart:
    """Prompt tokens computed and tokens generated, a second."""
    nouns = {"prompt_tokens_computed": "prompt, computed", "generated_tokens": "generated"}
    time_ns = times(result)
    parts = []
    for name, noun in nouns.items():
        at, per_s = rate(time_ns, result.sampled(name).sum(axis=1))
        parts.append({"tokens": np.repeat(noun, at.size), "time_ns": at, "tokens_per_s": per_s})
    return Chart(
        name="tokens_over_time",
        title="Tokens",
        summary=f"{result.summary['tokens_per_s']:,.0f} tokens a second in all, those of prompts that were found "
        "included; drawn are those computed.",
        mark=charts.LINES,
        x=Axis("time_ns", "simulated time", charts.TIME),
        y=Axis("tokens_per_s", "tokens / s", low=0),
        data=joined(parts),
        series="tokens",
    )


def kv_over_time(result: ServingResult) -> Chart:
    """What of G1 is in calls' use, and what is cached."""
    capacity = capacity_blocks(result, result.tier_names[0])
    nouns = {"kv_blocks_in_use": "in use", "kv_blocks_cached": "cached"}
    summary = result.summary
    chart = _sampled(
        result,
        "kv_over_time",
        f"KV cache in {result.tier_names[0]}",
        f"On average {percent(summary['kv_occupancy_mean'])} is in use, at most "
        f"{percent(summary['kv_occupancy_max'])}, and {percent(summary['kv_cached_mean'])} cached.",
        Axis("share", "share of its blocks", charts.SHARE, low=0, high=1.02),
        {noun: result.sampled(name).sum(axis=1) / capacity for name, noun in nouns.items()},
        "blocks",
        charts.AREAS,
    )
    return chart


def tiers_over_time(result: ServingResult) -> Chart:
    """How full each tier is."""
    told = [f"{tier} {percent(result.summary[f'tier.{tier}.occupancy_mean'])}" for tier in result.tier_names]
    return _sampled(
        result,
        "tiers_over_time",
        "Tiers",
        f"Mean share of blocks that hold something: {', '.join(told)}.",
        Axis("share", "share of the tier held", charts.SHARE, low=0, high=1.05),
        {
            tier: result.sampled(f"blocks.{tier}").sum(axis=1) / capacity_blocks(result, tier)
            for tier in result.tier_names
        },
        "tier",
    )


def waste_over_time(result: ServingResult) -> Chart:
    """What of G1 is wasted, and how."""
    blocks = capacity_blocks(result, result.tier_names[0])
    whole = {"tokens": blocks * result.manifest["block_tokens"], "blocks": blocks}
    shares = {noun: result.sampled(name).sum(axis=1) / whole[of] for name, (noun, of) in _WASTE.items()}
    wasted = {noun: share for noun, share in shares.items() if share.any()}
    told = [f"{noun} {percent(float(share.max()))}" for noun, share in wasted.items()]
    return _sampled(
        result,
        "waste_over_time",
        "Fragmentation of the KV cache",
        f"Most of G1 wasted at any sample: {', '.join(told)}." if told else "Nothing of G1 is wasted.",
        Axis("share", "share of G1 wasted", charts.SHARE, low=0),
        wasted,
        "waste",
    )


def bandwidth_over_time(result: ServingResult, part: str) -> Chart:
    """Bytes of KV blocks a second to and from each tier ('tier') or over each link; none where none were sampled."""
    noun = {"tier": "tiers", "link": "links"}[part]
    start = f"bytes.{part}."
    time_ns, parts = times(result), []
    for name in result.column_names("samples"):
        if name.startswith(start):
            at, per_s = rate(time_ns, result.sampled(name)[:, 0])
            if per_s.any():
                of = name.removeprefix(start).replace(".", " ")
                parts.append({"part": np.repeat(of, at.size), "time_ns": at, "bytes_per_s": per_s})
    peak = max(((float(one["bytes_per_s"].max()), one["part"][0]) for one in parts), default=(0.0, ""))
    most = f"; the most is {charts.written(peak[0], charts.BANDWIDTH)}, of {peak[1]}" if parts else ": none"
    return Chart(
        name=f"bandwidth_of_{noun}",
        title=f"Bandwidth of {noun}",
        summary=f"KV blocks that passed each of the {noun}{most}.",
        mark=charts.LINES,
        x=Axis("time_ns", "simulated time", charts.TIME),
        y=Axis("bytes_per_s", "bytes a second", charts.BANDWIDTH, low=0),
        data=joined(parts),
        series="part",
    )


def link_bytes(results: Sequence[ServingResult]) -> Chart:
    """Bytes over each link, up and down, of each run."""
    rows = [
        (f"{result.label}, {link}" if len(results) > 1 else link, way, int(result.summary[f"link.{link}.{way}_bytes"]))
        for way in ("up", "down")
        for result in results
        for link in links(result)
    ]
    moved = units.format_bytes(results[0].summary.get("bytes_moved", 0), 4)
    return Chart(
        name="link_bytes",
        title="Bytes over links",
        summary=f"{moved} of KV blocks went over the links of {results[0].label}; up is towards the accelerator.",
        mark=charts.STACKED_BARS,
        x=Axis("bytes", "bytes moved", charts.BYTES, low=0),
        y=Axis("link", "", charts.NAMES),
        data={name: np.array([row[at] for row in rows]) for at, name in enumerate(("link", "direction", "bytes"))},
        series="direction",
    )


def links(result: ServingResult) -> list[str]:
    """Names of the links that the run tells of."""
    names = [name.split(".")[1] for name in result.summary if name.startswith("link.")]
    return list(dict.fromkeys(names))


def _sampled(
    result: ServingResult,
    name: str,
    title: str,
    summary: str,
    y: Axis,
    curves: dict[str, np.ndarray],
    what: str,
    mark: str = charts.LINES,
) -> Chart:
    """Curves over the samples of a run."""
    time_ns = times(result)
    rows = time_ns.size
    parts = [{what: np.repeat(noun, rows), "time_ns": time_ns, y.column: values} for noun, values in curves.items()]
    x = Axis("time_ns", "simulated time", charts.TIME)
    return Chart(name, title, summary, mark, x, y, joined(parts), series=what)


def times(result: ServingResult) -> np.ndarray:
    """float64[s] when samples were taken, in ns."""
    return result.sampled("time_ns")[:, 0]


def capacity_blocks(result: ServingResult, tier: str) -> int:
    """Blocks of the tier in all engines."""
    return max(1, result.manifest["capacity_blocks"][tier] * result.manifest["replicas"])


def rate(time_ns: np.ndarray, so_far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(middles of windows in ns, growth of a count a second in each)."""
    edges_ns = np.linspace(time_ns[0], max(time_ns[-1], time_ns[0] + 1), WINDOWS + 1)
    grown = np.diff(np.interp(edges_ns, time_ns, so_far))
    return (edges_ns[1:] + edges_ns[:-1]) / 2, grown / (np.diff(edges_ns) / 1e9)
