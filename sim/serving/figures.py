"""Figures of a serving run, drawn on axes that the caller gives, or saved as PNG files that depend on the run alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim.report.charts import unit_of
from sim.report.draw_chart import draw
from sim.report.figures import COLOURS, bar_style, every, finished, line_style, new_figure, save_figure
from sim.serving import charts
from sim.serving.charts import WINDOWS, capacity_blocks, rate, time_by_group, times
from sim.serving.record import PARTS
from sim.units import format_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sim.serving.results import ServingResult

_UNITS = ((3600e9, "h"), (60e9, "min"), (1e9, "s"), (1e6, "ms"), (1e3, "us"))
_LEAST_OF_UNIT = 3  # a duration is shown in the largest unit of which it is so many


def ttft_and_latency(results: Sequence[ServingResult], ax: Axes) -> Axes:
    """Share of the completed requests whose first token, and whose last, came within a time; two curves a run."""
    return draw(charts.ttft_and_latency(results), ax, "upper left")


def engine_over_time(result: ServingResult, figure: Figure) -> list[Axes]:
    """Running and waiting requests, KV use, and tokens a second, one above the other."""
    scale, unit = _time_unit(result)
    time = times(result) / scale
    above, middle, below = figure.subplots(3, 1, sharex=True)
    for nth, name in enumerate(("running", "waiting", "loading")):
        values = result.sampled(name).sum(axis=1)
        if name != "loading" or values.any():
            above.plot(time, values, label=name, **_plain(nth))
    above.set(ylabel="requests", ylim=(0, None))
    capacity = capacity_blocks(result, result.tier_names[0])
    used, cached = (result.sampled(name).sum(axis=1) / capacity for name in ("kv_blocks_in_use", "kv_blocks_cached"))
    middle.stackplot(time, used, cached, labels=("in use", "cached"), colors=(COLOURS[0], "#B9D7EA"), linewidth=0)
    middle.set(ylabel="share of G1", ylim=(0, 1.02))
    for nth, (name, noun) in enumerate(
        (("prompt_tokens_computed", "prompt, computed"), ("generated_tokens", "generated"))
    ):
        at, per_s = rate(times(result), result.sampled(name).sum(axis=1))
        below.plot(at / scale, per_s, label=noun, drawstyle="steps-mid", **_plain(nth + 1))
    below.set(ylabel="tokens / s", xlabel=f"simulated time ({unit})", ylim=(0, None))
    for ax in (above, middle, below):
        finished(ax, legend=None)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
        ax.margins(x=0)
    return [above, middle, below]


def where_time_goes(result: ServingResult, ax: Axes) -> Axes:
    """The mean latency, cut into parts, of four groups of requests by their latency."""
    chart = charts.where_time_goes(result)
    draw(chart, ax, None)
    scale, _ = unit_of(chart, chart.x)
    most_ns = 0.0
    for row, parts in enumerate(time_by_group(result).values()):
        whole_ns = float(parts.sum())
        most_ns = max(most_ns, whole_ns)
        ax.text(whole_ns / scale, row, f" {format_time(whole_ns, 3)}", va="center", fontsize=8)
    ax.set_xlim(0, max(1e-9, most_ns / scale) * 1.14)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, fontsize=8, frameon=False)
    return ax


def hits_over_time(result: ServingResult, ax: Axes) -> Axes:
    """Share of the prompt tokens that each tier had, by the time at which requests were first scheduled."""
    scale, unit = _time_unit(result)
    done = result.completed()
    at_ns = result.column("requests", "first_scheduled_ns")[done]
    edges_ns = np.linspace(0, max(float(at_ns.max(initial=0.0)), 1.0), WINDOWS + 1)
    asked = np.histogram(at_ns, edges_ns, weights=result.column("requests", "input_tokens")[done])[0]
    bottom = np.zeros(WINDOWS)
    for nth, tier in enumerate(result.tier_names):
        found = np.histogram(at_ns, edges_ns, weights=result.column("requests", f"hit_tokens.{tier}")[done])[0]
        share = np.divide(found, asked, out=np.zeros(WINDOWS), where=asked > 0)
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
    time = times(result) / scale
    above, below = figure.subplots(2, 1, sharex=True)
    for nth, tier in enumerate(result.tier_names):
        share = result.sampled(f"blocks.{tier}").sum(axis=1) / capacity_blocks(result, tier)
        above.plot(time, share, label=tier, **line_style(nth), markevery=every(share))
    above.set(ylabel="share of the tier held", ylim=(0, 1.05))
    tokens = capacity_blocks(result, result.tier_names[0]) * result.manifest["block_tokens"]
    blocks = capacity_blocks(result, result.tier_names[0])
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
    for name, drawn in on_axes.items():
        figure = new_figure(6.8, 4.2, "constrained")
        ax = drawn(figure.add_subplot())
        ax.set_title(f"{result.label}: {ax.get_title()}", fontsize=10)
        paths.append(save_figure(figure, folder / f"{name}.png"))
    for name, drawn, title, height in (
        ("engine", engine_over_time, "the engine over time", 6.0),
        ("kv_cache", kv_over_time, "KV cache over time", 5.0),
    ):
        figure = new_figure(7.6, height, "constrained")
        drawn(result, figure)
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


def _time_unit(result: ServingResult) -> tuple[float, str]:
    """Nanoseconds of the largest unit of which the run lasts a few, and its name."""
    duration_ns = result.manifest["duration_ns"]
    return next(((scale, unit) for scale, unit in _UNITS if duration_ns >= _LEAST_OF_UNIT * scale), (1.0, "ns"))


def _plain(nth: int) -> dict:
    """The n-th of a few curves that need no markers."""
    return {key: value for key, value in line_style(nth).items() if not key.startswith("marker")}
