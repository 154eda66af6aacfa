"""Figures of results, drawn on axes that the caller gives, or saved as PNG files that depend on the results alone.

matplotlib is imported when something is drawn, and its global state (pyplot) is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim import metrics
from sim.errors import InputError
from sim.report import hierarchy_charts
from sim.report.charts import TIME, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from sim.results import Result

# Okabe and Ito's colours, which people with any kind of colour vision tell apart; yellow is too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")
_DPI = 120
_COMPRESSION = 3  # of 9: a twentieth larger than the usual 6, in half the time
_TIER_COLUMNS = ("tier", "time_ns", "used_bytes", "internal_fragmentation", "external_fragmentation")


def latency_cdf(results: Sequence[Result], ax: Axes) -> Axes:
    """Share of the requests answered within a time, a curve a result."""
    from sim.report import draw_chart

    return draw_chart.draw(hierarchy_charts.latency_cdf(results), ax, "lower right" if len(results) > 1 else None)


def time_ticks(ax: Axes) -> None:
    """Ticks of a log axis in ns: each decade, and 2 and 5 times it, named too where less than a decade is shown."""
    named_ticks(ax, "x", TIME)


def named_ticks(ax: Axes, which: str, kind: str) -> None:
    """The same of the x or y axis, and of what `sim.report.charts` calls a kind."""
    from matplotlib.ticker import LogLocator

    axis, ends = getattr(ax, f"{which}axis"), getattr(ax, f"get_{which}lim")

    def name(value: float, _) -> str:
        return written(value, kind, 3) if value > 0 else ""

    def name_if_few(value: float, _) -> str:
        first, last = ends()
        return name(value, None) if last < 10 * first else ""

    axis.set_major_formatter(name)
    axis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.set_minor_formatter(name_if_few)


def tier_hit_ratio(results: Sequence[Result], ax: Axes) -> Axes:
    """Hits over lookups of each caching tier, a group of bars a tier, a bar a result."""
    from sim.report import draw_chart

    return draw_chart.draw(hierarchy_charts.tier_hit_ratio(results), ax, "below" if len(results) > 1 else None)


def occupancy_over_time(result: Result, ax: Axes) -> Axes:
    """Share of each caching tier's capacity that holds blocks, over simulated time."""
    from sim.report import draw_chart

    return draw_chart.draw(hierarchy_charts.occupancy(result), ax, "lower right")


def fragmentation_over_time(result: Result, ax: Axes) -> Axes:
    """Internal and external fragmentation of each caching tier over simulated time."""
    scale, unit = _time_unit(result)
    most = 0.0
    shown = ("time_ns", "internal_fragmentation", "external_fragmentation")
    for nth, (tier, rows) in enumerate(hierarchy_charts.by_tier(result, *shown)):
        for kind, dashes in (("internal", "-"), ("external", "--")):
            values = rows[f"{kind}_fragmentation"]
            most = max(most, float(values.max(initial=0.0)))
            style = {**line_style(nth), "linestyle": dashes, "markerfacecolor": "white" if kind == "external" else None}
            time = rows["time_ns"] / scale
            ax.plot(time, values, color=style["color"], linewidth=0.6, alpha=0.3)
            smooth = hierarchy_charts.running_mean(values)
            ax.plot(time, smooth, label=f"{tier}, {kind}", **style, markevery=every(smooth))
    ax.set(xlabel=f"simulated time ({unit})", ylabel="share of bytes", ylim=(0, max(0.1, min(1.02, 1.1 * most))))
    ax.set_title("Fragmentation, running mean over samples (faint)")
    if most == 0.0:
        ax.text(0.5, 0.5, "none: every allocator wastes nothing here", ha="center", transform=ax.transAxes)
    return finished(ax, legend="below")


def every(values) -> int:
    """How far apart markers stand, for some eight of them on a curve."""
    return max(1, len(values) // 8)


_SIDE_BY_SIDE = (
    ("hit_ratio", 0.01, "hit ratio (%)"),
    ("latency_mean_ns", 1e3, "mean latency (us)"),
    ("latency_p99_ns", 1e3, "p99 latency (us)"),
    ("bytes_moved", 1e9, "moved over links (GB)"),
)


def policies_side_by_side(results: Sequence[Result], figure: Figure) -> list[Axes]:
    """Four metrics as bars, a bar a result, the best coloured; below, where the latency goes, and its distribution."""
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 1.15))
    above, below = grid[0].subgridspec(1, 4), grid[1].subgridspec(1, 2)
    top = [figure.add_subplot(above[column]) for column in range(4)]
    for ax, (metric, scale, label) in zip(top, _SIDE_BY_SIDE, strict=True):
        _bars_of(results, ax, metric, scale, label, names=ax is top[0])
    parts, cdf = figure.add_subplot(below[0]), figure.add_subplot(below[1])
    _latency_parts(results, parts)
    latency_cdf(results, cdf)
    return [*top, parts, cdf]


def _bars_of(results: Sequence[Result], ax: Axes, metric: str, scale: float, label: str, names: bool) -> None:
    """Horizontal bars, the first result on top."""
    values = {result.label: result.summary[metric] / scale for result in results}
    leaders = metrics.best(metric, values)
    at = np.arange(len(values))
    colours = [COLOURS[0] if name in leaders else "#B0B7BF" for name in values]
    bars = ax.barh(at, list(values.values()), color=colours, height=0.7)
    ax.bar_label(bars, [_short(v) + (" *" if n in leaders else "") for n, v in values.items()], padding=3, fontsize=8)
    ax.set_yticks(at, list(values) if names else [""] * len(at))
    ax.set_xlim(0, max([*values.values(), 1e-12]) * 1.45)
    ax.set_title(label, fontsize=10)
    ax.invert_yaxis()
    ax.xaxis.set_visible(False)
    ax.spines[["top", "right", "bottom"]].set_visible(False)


def _latency_parts(results: Sequence[Result], ax: Axes) -> None:
    """The mean latency of each result, cut into its parts."""
    from sim.report import draw_chart

    draw_chart.draw(hierarchy_charts.latency_parts(results), ax, None)
    ax.set_ylim(len(results) - 0.5, -0.5 - 0.22 * len(results))  # room for the legend above the first bar
    ax.legend(loc="upper center", ncols=4, fontsize=8, frameon=False, columnspacing=1.0, handlelength=1.5)


def save_run_figures(result: Result, folder: str | Path) -> list[Path]:
    """Four PNG files of one run in `folder`, which must be there. Raises InputError where they cannot be written."""
    folder = Path(folder)
    drawn = {
        "latency_cdf": lambda ax: latency_cdf([result], ax),
        "tier_hit_ratio": lambda ax: tier_hit_ratio([result], ax),
        "occupancy": lambda ax: occupancy_over_time(result, ax),
        "fragmentation": lambda ax: fragmentation_over_time(result, ax),
    }
    below = {"fragmentation"}  # where the legend is
    return [
        _save_one(draw, folder / f"{name}.png", result.label, legend_below=name in below)
        for name, draw in drawn.items()
    ]


def needed(result: Result) -> Result:
    """The same result with no more of its tables than its figures show."""
    from sim.results import Result

    columns = {
        "requests": {"latency_ns": result.column("requests", "latency_ns")},
        "tiers": {name: result.column("tiers", name) for name in _TIER_COLUMNS},
    }
    return Result(result.summary, result.manifest, result.timing, result.folder, columns)


def warm_up() -> None:
    """Import what drawing needs, and draw a little, so that the first figure takes no longer than the others."""
    figure = new_figure(1, 1)
    figure.add_subplot().plot([0, 1], [0, 1], **line_style(0), label="x")
    _canvas(figure).draw()


def save_comparison_figure(results: Sequence[Result], path: str | Path) -> Path:
    """All results side by side as one PNG file. Raises InputError where it cannot be written."""
    figure = new_figure(12, 3.2 + 0.42 * len(results) + 1.6, "constrained")
    policies_side_by_side(results, figure)
    scenario = results[0].manifest["scenario"]
    figure.suptitle(f"{scenario['name']}: eviction policies side by side (* best)", fontsize=12)
    return save_figure(figure, Path(path))


def _save_one(draw: Callable[[Axes], Axes], path: Path, title: str, legend_below: bool) -> Path:
    figure = new_figure(*_SIZE)
    ax = draw(figure.add_subplot())
    _place(ax, f"{title}: {ax.get_title()}", legend_below)
    return save_figure(figure, path)


_SIZE = (6.4, 4.2)  # inches, as all lengths here
_MARGINS = {"left": 0.74, "right": 0.25, "top": 0.24, "bottom": 0.48}
_LABELS_END = 0.2  # from the edge of the figure
_LEGEND_COLUMNS, _LEGEND_ROW, _LEGEND_PADDING = 4, 0.17, 0.12


def _place(ax: Axes, title: str, legend_below: bool) -> None:
    """Lay out the only axes of a figure of `_SIZE`.

    What stands beside them is known; matplotlib's own layout would draw the figure twice to find it out.
    """
    width, height = _SIZE
    below = 0.0
    if legend_below:
        rows = math.ceil(len(ax.get_legend().get_texts()) / _LEGEND_COLUMNS)
        below = _LEGEND_PADDING + rows * _LEGEND_ROW
    left, bottom = _MARGINS["left"], _MARGINS["bottom"] + below
    right, top = width - _MARGINS["right"], height - _MARGINS["top"]
    ax.set_position((left / width, bottom / height, (right - left) / width, (top - bottom) / height))
    figure = ax.get_figure()
    middle_x, middle_y = (left + right) / 2 / width, (bottom + top) / 2 / height
    ax.yaxis.set_label_coords(_LABELS_END / width, middle_y, figure.transFigure)
    ax.xaxis.set_label_coords(middle_x, (below + _LABELS_END) / height, figure.transFigure)
    ax.set_title(title, fontsize=10, y=1.0)


def new_figure(width: float, height: float, layout: str | None = None) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout=layout)


def _canvas(figure: Figure) -> FigureCanvasAgg:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    return FigureCanvasAgg(figure)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure, as PNG or SVG by the path's suffix, under another name and rename it, so that no half of a file
    stays. Raises InputError where it cannot be written.
    """
    _canvas(figure)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        _write(figure, unfinished, path.suffix.removeprefix("."))
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"cannot write the figure: {error.strerror or error}", file=path) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _write(figure: Figure, path: Path, kind: str) -> None:
    """The same bytes each time: no version, no date, and names of parts that depend on the figure alone."""
    from matplotlib import rc_context

    if kind == "svg":
        with rc_context({"svg.hashsalt": "memhier", "svg.fonttype": "none"}):
            figure.savefig(path, format=kind, metadata={"Date": None, "Creator": None})
        return
    figure.savefig(path, format=kind, metadata={"Software": None}, pil_kwargs={"compress_level": _COMPRESSION})


def line_style(nth: int) -> dict[str, Any]:
    """How the n-th curve looks: colour, dashes and a marker, so that none of them is needed to tell it from others."""
    return {
        "color": COLOURS[nth % len(COLOURS)],
        "linestyle": DASHES[nth % len(DASHES)],
        "marker": MARKERS[nth % len(MARKERS)],
        "markersize": 4.5,
        "linewidth": 1.5,
    }


def bar_style(nth: int) -> dict[str, Any]:
    return {
        "color": COLOURS[nth % len(COLOURS)],
        "hatch": _HATCHES[(nth + nth // len(COLOURS)) % len(_HATCHES)],
        "edgecolor": "white",
        "linewidth": 0.5,
    }


def _short(value: float) -> str:
    """A number in about four characters, without an exponent where it can be read without one."""
    return f"{value:.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"


def finished(ax: Axes, legend: str | None) -> Axes:
    ax.grid(True, alpha=0.25)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if not ax.get_legend_handles_labels()[0]:  # nothing that would need one
        return ax
    if legend == "below":
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=_LEGEND_COLUMNS, fontsize=8, frameon=False)
    elif legend == "above":
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=_LEGEND_COLUMNS, fontsize=8, frameon=False)
    elif legend is not None:
        ax.legend(loc=legend, fontsize=8, framealpha=0.9)
    return ax


def _time_unit(result: Result) -> tuple[float, str]:
    """Nanoseconds of the unit in which the run's duration is a number from 1 on, and its name."""
    duration_ns = result.summary["duration_s"] * 1e9
    units = ((1e9, "s"), (1e6, "ms"), (1e3, "us"))
    return next(((scale, unit) for scale, unit in units if duration_ns >= scale), (1.0, "ns"))
