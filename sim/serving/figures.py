"""Figures of a serving run, drawn on axes that the caller gives, or saved as PNG files that depend on the run alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim.report.figures import (
    COLOURS,
    bar_style,
    cumulative,
    every,
    finished,
    line_style,
    new_figure,
    save_figure,
    time_ticks,
)
from sim.serving.record import PARTS
from sim.serving.report import PART_NAMES
from sim.units import format_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sim.serving.results import ServingResult

GROUPS = ((0, 50), (50, 90), (90, 99), (99, 100))  # percentiles of the latency
_WINDOWS = 60  # of a rate over time
_UNITS = ((3600e9, "h"), (60e9, "min"), (1e9, "s"), (1e6, "ms"), (1e3, "us"))
_LEAST_OF_UNIT = 3  # a duration is shown in the largest unit of which it is so many


def ttft_and_latency(results: Sequence[ServingResult], ax: Axes) -> Axes:
    """Share of the completed requests whose first token, and whose last, came within a time; two curves a run."""
    for nth, result in enumerate(results):
        done = result.completed()
        arrival_ns = result.column("requests", "arrival_ns")[done]
        for at, (name, noun) in enumerate((("first_token_ns", "first token"), ("finish_ns", "last token"))):
            times_ns, share = cumulative(result.column("requests", name)[done] - arrival_ns)
            label = noun if len(results) == 1 else f"{result.label}, {noun}"
            style = line_style(2 * nth + at)
            ax.plot(times_ns, share, label=label, drawstyle="steps-post", **style, markevery=0.13)
    ax.set(xscale="log", xlabel="time since arrival", ylabel="share of requests", ylim=(0, 1.02))
    time_ticks(ax)
    ax.set_title("Time to the first and to the last token")
    return finished(ax, legend="upper left")


def engine_over_time(result: ServingResult, figure: Figure) -> list[Axes]:
    """Running and waiting requests, KV use, and tokens a second, one above the other."""
    scale, unit = _time_unit(result)
    time = _times(result) / scale
    above, middle, below = figure.subplots(3, 1, sharex=True)
    for nth, name in enumerate(("running", "waiting", "loading")):
        values = result.sampled(name).sum(axis=1)
        if name != "loading" or values.any():
            above.plot(time, values, label=name, **_plain(nth))
    above.set(ylabel="requests", ylim=(0, None))
    capacity = _capacity(result, result.tier_names[0])
    used, cached = (result.sampled(name).sum(axis=1) / capacity for name in ("kv_blocks_in_use", "kv_blocks_cached"))
    middle.stackplot(time, used, cached, labels=("in use", "cached"), colors=(COLOURS[0], "#B9D7EA"), linewidth=0)
    middle.set(ylabel="share of G1", ylim=(0, 1.02))
    for nth, (name, noun) in enumerate(
        (("prompt_tokens_computed", "prompt, computed"), ("generated_tokens", "generated"))
    ):
        at, rate = _rate(_times(result), result.sampled(name).sum(axis=1))
        below.plot(at / scale, rate, label=noun, drawstyle="steps-mid", **_plain(nth + 1))
    below.set(ylabel="tokens / s", xlabel=f"simulated time ({unit})", ylim=(0, None))
    for ax in (above, middle, below):
        finished(ax, legend=None)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
        ax.margins(x=0)
    return [above, middle, below]


def where_time_goes(result: ServingResult, ax: Axes) -> Axes:
    """The mean latency, cut into parts, of four groups of requests by their latency."""
    groups = time_by_group(result)
    shown = [at for at in range(len(PARTS)) if any(parts[at] > 0 for parts in groups.values())]
    most_ns = max((float(parts.sum()) for parts in groups.values()), default=0.0)
    scale, unit = next(((s, u) for s, u in _UNITS if most_ns >= _LEAST_OF_UNIT * s), (1.0, "ns"))
    at, left = np.arange(len(groups)), np.zeros(len(groups))
    for part in shown:
        values = np.array([parts[part] for parts in groups.values()]) / scale
        ax.barh(at, values, left=left, height=0.7, label=PART_NAMES[PARTS[part]], **_part_style(part))
        left += values
    for row, parts in enumerate(groups.values()):
        ax.text(left[row], row, f" {format_time(float(parts.sum()), 3)}", va="center", fontsize=8)
    ax.set_yticks(at, [f"p{low} to p{high}" for low, high in groups])
    ax.invert_yaxis()
    ax.set(xlabel=f"mean time of a request ({unit})", xlim=(0, max(1e-9, most_ns / scale) * 1.14))
    ax.set_ylabel("requests by latency")
    ax.set_title("Where the time goes")
    finished(ax, legend=None)
    if shown:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, fontsize=8, frameon=False)
    return ax


def _part_style(part: int) -> dict:
    """The same for a part in every figure; there are more parts than colours for lines."""
    return {**bar_style(part), "color": (*COLOURS, "#F0E442", "#999999")[part]}


def time_by_group(result: ServingResult) -> dict[tuple[int, int], np.ndarray]:
    """float64[len(PARTS)] mean parts of the latency, by group of GROUPS that has any request."""
    done = result.completed()
    parts_ns = result.parts_ns()[done]
    latency_ns = result.column("requests", "finish_ns")[done] - result.column("requests", "arrival_ns")[done]
    ranked = parts_ns[np.argsort(latency_ns, kind="stable")]
    edges = {group: [round(len(ranked) * share / 100) for share in group] for group in GROUPS}
    return {group: ranked[low:high].mean(axis=0) for group, (low, high) in edges.items() if high > low}


def hits_over_time(result: ServingResult, ax: Axes) -> Axes:
    """Share of the prompt tokens that each tier had, by the time at which requests were first scheduled."""
    scale, unit = _time_unit(result)
    done = result.completed()
    at_ns = result.column("requests", "first_scheduled_ns")[done]
    edges_ns = np.linspace(0, max(float(at_ns.max(initial=0.0)), 1.0), _WINDOWS + 1)
    asked = np.histogram(at_ns, edges_ns, weights=result.column("requests", "input_tokens")[done])[0]
    bottom = np.zeros(_WINDOWS)
    for nth, tier in enumerate(result.tier_names):
        found = np.histogram(at_ns, edges_ns, weights=result.column("requests", f"hit_tokens.{tier}")[done])[0]
        share = np.divide(found, asked, out=np.zeros(_WINDOWS), where=asked > 0)
        widths = np.diff(edges_ns) / scale
        style = {**bar_style(nth), "linewidth": 0}
        ax.bar(edges_ns[:-1] / scale, share, widths, bottom=bottom, align="edge", label=tier, **style)
        bottom += share
    ax.set(xlabel=f"simulated time ({unit})", ylabel="share of prompt tokens", ylim=(0, 1.02))
    ax.set_title("Prefix tokens found, by tier")
    finished(ax, legend=None)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=6, fontsize=8, frameon=False)
    return ax


def kv_over_time(result: ServingResult, figure: Figure) -> list[Axes]:
    """How full each tier is, and below it what of G1 is wasted."""
    scale, unit = _time_unit(result)
    time = _times(result) / scale
    above, below = figure.subplots(2, 1, sharex=True)
    for nth, tier in enumerate(result.tier_names):
        share = result.sampled(f"blocks.{tier}").sum(axis=1) / _capacity(result, tier)
        above.plot(time, share, label=tier, **line_style(nth), markevery=every(share))
    above.set(ylabel="share of the tier held", ylim=(0, 1.05))
    tokens = _capacity(result, result.tier_names[0]) * result.manifest["block_tokens"]
    blocks = _capacity(result, result.tier_names[0])
    waste = {
        "internal": result.sampled("kv_waste_internal_tokens").sum(axis=1) / tokens,
        "reserved": result.sampled("kv_waste_reserved_tokens").sum(axis=1) / tokens,
        "external": result.sampled("kv_waste_external_tokens").sum(axis=1) / tokens,
        "duplicated": result.sampled("kv_duplicated_blocks").sum(axis=1) / blocks,
    }
    for nth, (name, share) in enumerate(waste.items()):
        if share.any():
            below.plot(time, 100 * share, label=name, **line_style(nth), markevery=every(share))
    if not any(share.any() for share in waste.values()):
        below.text(0.5, 0.5, "nothing is wasted", ha="center", transform=below.transAxes)
    below.set(ylabel="wasted (% of G1)", xlabel=f"simulated time ({unit})", ylim=(0, None))
    for ax in (above, below):
        finished(ax, legend=None)
        ax.margins(x=0)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    return [above, below]


def save_run_figures(result: ServingResult, folder: str | Path) -> list[Path]:
    """Five PNG files of one run in `folder`, which must be there. Raises InputError where they cannot be written."""
    folder = Path(folder)
    on_axes = {
        "latency_cdf": lambda ax: ttft_and_latency([result], ax),
        "where_time_goes": lambda ax: where_time_goes(result, ax),
        "hit_tokens": lambda ax: hits_over_time(result, ax),
    }
    paths = []
    for name, draw in on_axes.items():
        figure = new_figure(6.8, 4.2, "constrained")
        ax = draw(figure.add_subplot())
        ax.set_title(f"{result.label}: {ax.get_title()}", fontsize=10)
        paths.append(save_figure(figure, folder / f"{name}.png"))
    for name, draw, title, height in (
        ("engine", engine_over_time, "the engine over time", 6.0),
        ("kv_cache", kv_over_time, "KV cache over time", 5.0),
    ):
        figure = new_figure(7.6, height, "constrained")
        draw(result, figure)
        figure.suptitle(f"{result.label}: {title}", fontsize=10)
        paths.append(save_figure(figure, folder / f"{name}.png"))
    return paths


def save_comparison_figure(results: Sequence[ServingResult], path: str | Path) -> Path:
    """Several runs' times to first and last tokens in one figure. Raises InputError where it cannot be written."""
    figure = new_figure(7.6, 4.8, "constrained")
    ttft_and_latency(results, figure.add_subplot())
    return save_figure(figure, Path(path))


_SAMPLED = (
    *("time_ns", "running", "waiting", "loading", "kv_blocks_in_use", "kv_blocks_cached", "kv_duplicated_blocks"),
    *("prompt_tokens_computed", "generated_tokens"),
    *("kv_waste_internal_tokens", "kv_waste_reserved_tokens", "kv_waste_external_tokens"),
)
_OF_CALLS = ("arrival_ns", "first_scheduled_ns", "first_token_ns", "finish_ns", "input_tokens", "status", *PARTS)


def needed(result: ServingResult) -> ServingResult:
    """The same result with no more of its tables than its figures show."""
    from sim.serving.results import ServingResult

    calls = [*_OF_CALLS, *(f"hit_tokens.{tier}" for tier in result.tier_names)]
    samples = [*_SAMPLED, *(f"blocks.{tier}" for tier in result.tier_names)]
    columns = {
        "requests": {name: result.column("requests", name) for name in calls},
        "samples": {name: result.column("samples", name) for name in samples},
    }
    return ServingResult(result.summary, result.manifest, result.timing, result.folder, columns)


def _times(result: ServingResult) -> np.ndarray:
    return result.sampled("time_ns")[:, 0]


def _capacity(result: ServingResult, tier: str) -> int:
    """Blocks of the tier in all engines."""
    return max(1, result.manifest["capacity_blocks"][tier] * result.manifest["replicas"])


def _time_unit(result: ServingResult) -> tuple[float, str]:
    """Nanoseconds of the largest unit of which the run lasts a few, and its name."""
    duration_ns = result.manifest["duration_ns"]
    return next(((scale, unit) for scale, unit in _UNITS if duration_ns >= _LEAST_OF_UNIT * scale), (1.0, "ns"))


def _rate(time_ns: np.ndarray, so_far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(middles of windows in ns, growth of a count a second in each)."""
    edges_ns = np.linspace(time_ns[0], max(time_ns[-1], time_ns[0] + 1), _WINDOWS + 1)
    grown = np.diff(np.interp(edges_ns, time_ns, so_far))
    return (edges_ns[1:] + edges_ns[:-1]) / 2, grown / (np.diff(edges_ns) / 1e9)


def _plain(nth: int) -> dict:
    """The n-th of a few curves that need no markers."""
    return {key: value for key, value in line_style(nth).items() if not key.startswith("marker")}
