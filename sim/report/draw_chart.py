"""Charts drawn by matplotlib on axes that the caller gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.report import charts, figures
from sim.report.charts import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAP_COLOURS = ("#ffffff", "#b5d4ea", "#0072B2")


def draw(chart: Chart, ax: Axes, legend: str | None = "best") -> Axes:
    """The chart on these axes. legend: where it is, as matplotlib says it, or 'below' or 'above' the axes.

    A chart of small multiples is drawn by `draw_panels`.
    """
    if not chart.rows:
        ax.text(0.5, 0.5, "nothing to show", ha="center", va="center", transform=ax.transAxes)
    elif chart.mark == charts.HEAT:
        _heat(chart, ax)
    elif chart.mark in (charts.BARS, charts.STACKED_BARS):
        _bars(chart, ax)
    elif chart.mark == charts.AREAS:
        _areas(chart, ax)
    elif chart.mark == charts.POINTS:
        _points(chart, ax)
    else:
        _lines(chart, ax)
    _dress(chart, ax)
    ax.set_title(chart.title, pad=24 if legend == "above" and chart.series else None)
    return ax if chart.mark == charts.HEAT else figures.finished(ax, legend if chart.series else None)


def draw_panels(chart: Chart, figure: Figure, legend: str | None = "best") -> list[Axes]:
    """Each of the small multiples on axes of its own, one row of them; the chart alone where it has none."""
    panels = chart.one_each()
    drawn = [draw(one, ax, legend) for one, ax in zip(panels, np.ravel(figure.subplots(1, len(panels))), strict=True)]
    if chart.panels is not None:
        figure.suptitle(chart.title)
    return drawn


def _lines(chart: Chart, ax: Axes) -> None:
    (x_scale, _), (y_scale, _) = (charts.unit_of(chart, axis) for axis in (chart.x, chart.y))
    named = chart.x.kind == charts.NAMES
    places = {name: at for at, name in enumerate(chart.names(chart.x.column))} if named else {}
    for nth, (name, columns) in enumerate(chart.curves()):
        x = np.array([places[str(one)] for one in columns[chart.x.column]]) if named else columns[chart.x.column]
        y = columns[chart.y.column] / y_scale
        every = 0.13 if chart.mark == charts.STEPS else figures.every(y)
        steps = "steps-post" if chart.mark == charts.STEPS else "default"
        style = figures.line_style(nth)
        ax.plot(x / x_scale, y, label=name or None, drawstyle=steps, **style, markevery=every)
        if chart.low is not None:
            low, high = columns[chart.low] / y_scale, columns[chart.high] / y_scale
            around = np.vstack([y - low, high - y])
            ax.errorbar(x / x_scale, y, np.nan_to_num(around), fmt="none", ecolor=style["color"], capsize=3, lw=1)
    if named:
        ax.set_xticks(list(places.values()), list(places))


def _areas(chart: Chart, ax: Axes) -> None:
    (x_scale, _), (y_scale, _) = (charts.unit_of(chart, axis) for axis in (chart.x, chart.y))
    curves = list(chart.curves())
    x = curves[0][1][chart.x.column] / x_scale
    stack = [columns[chart.y.column] / y_scale for _, columns in curves]
    colours = [figures.COLOURS[nth % len(figures.COLOURS)] for nth in range(len(curves))]
    ax.stackplot(x, stack, labels=[name for name, _ in curves], colors=colours, lw=0)
    ax.margins(x=0)


def _points(chart: Chart, ax: Axes) -> None:
    (x_scale, _), (y_scale, _) = (charts.unit_of(chart, axis) for axis in (chart.x, chart.y))
    for nth, (name, columns) in enumerate(chart.curves()):
        style = figures.line_style(nth) | {"linestyle": "none", "markersize": 6}
        x, y = columns[chart.x.column] / x_scale, columns[chart.y.column] / y_scale
        ax.plot(x, y, label=name or None, **style)
        for at, text in enumerate(columns[chart.text] if chart.text else ()):
            ax.annotate(str(text), (x[at], y[at]), (4, 4), textcoords="offset points", fontsize=8)


def _bars(chart: Chart, ax: Axes) -> None:
    """Bars lie where the names are on the y axis, the first on top, and stand where they are on the x axis."""
    lying = chart.y.kind == charts.NAMES
    names_axis, values_axis = (chart.y, chart.x) if lying else (chart.x, chart.y)
    scale, _ = charts.unit_of(chart, values_axis)
    names = chart.names(names_axis.column)
    curves = list(chart.curves())
    stacked = chart.mark == charts.STACKED_BARS
    width = 0.7 if stacked or len(curves) == 1 else 0.8 / len(curves)
    draw_bars = ax.barh if lying else ax.bar
    starts = np.zeros(len(names))
    for nth, (name, columns) in enumerate(curves):
        at = np.array([names.index(str(one)) for one in columns[names_axis.column]])
        values = np.nan_to_num(np.asarray(columns[values_axis.column], float)) / scale
        offset = 0.0 if stacked else (nth - (len(curves) - 1) / 2) * width
        style: dict[str, Any] = dict(figures.bar_style(nth))
        if stacked:
            style["left" if lying else "bottom"] = starts[at]
        if chart.low is not None:
            low, high = (columns[one] / scale for one in (chart.low, chart.high))
            style["xerr" if lying else "yerr"] = np.nan_to_num(np.vstack([values - low, high - values]))
        bars = draw_bars(at + offset, values, width * (1 if stacked else 0.92), label=name or None, **style)
        np.add.at(starts, at, values)
        if chart.text is not None and (lying or len(curves) * len(names) <= charts.FEW_TEXTS):
            ax.bar_label(bars, [str(text) for text in columns[chart.text]], padding=2, fontsize=8)
    (ax.set_yticks if lying else ax.set_xticks)(np.arange(len(names)), names)
    if lying:
        ax.invert_yaxis()


def _heat(chart: Chart, ax: Axes) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    (x_scale, _), (y_scale, _) = (charts.unit_of(chart, axis) for axis in (chart.x, chart.y))
    x, y = (np.asarray(chart.data[axis.column], float) for axis in (chart.x, chart.y))
    columns = np.rint((x - x.min()) / chart.x_step).astype(int)
    rows = np.rint((y - y.min()) / chart.y_step).astype(int)
    cells = np.zeros((rows.max() + 1, columns.max() + 1))
    cells[rows, columns] = chart.data[chart.value.column]
    extent = (x.min(), x.max() + chart.x_step, y.min(), y.max() + chart.y_step)
    extent = (extent[0] / x_scale, extent[1] / x_scale, extent[2] / y_scale, extent[3] / y_scale)
    colours = LinearSegmentedColormap.from_list("use", _MAP_COLOURS)
    ends = {"vmin": chart.value.low, "vmax": chart.value.high}
    image = ax.imshow(
        cells, origin="lower", aspect="auto", extent=extent, cmap=colours, interpolation="nearest", **ends
    )
    ax.figure.colorbar(image, ax=ax, label=chart.value.title)


def _dress(chart: Chart, ax: Axes) -> None:
    for axis, which in ((chart.x, "x"), (chart.y, "y")):
        scale, unit = charts.unit_of(chart, axis)
        getattr(ax, f"set_{which}label")(charts.titled(axis, unit))
        if axis.kind == charts.NAMES:
            continue
        if axis.log:
            getattr(ax, f"set_{which}scale")("log")
        if axis.kind == charts.SHARE and not axis.log:
            getattr(ax, f"{which}axis").set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
        if axis.log and axis.kind in (charts.TIME, charts.BYTES):
            figures.named_ticks(ax, which, axis.kind)
        ends = [None if end is None else end / scale for end in (axis.low, axis.high)]
        if any(end is not None for end in ends) and chart.mark != charts.HEAT:
            getattr(ax, f"set_{which}lim")(*ends)
