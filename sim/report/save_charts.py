"""Charts as files: PNG, SVG and the data as CSV of each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sim.report import charts, figures
from sim.report.charts import Chart
from sim.report.draw_chart import draw_panels
from sim.written_files import write_text

_WIDTH, _HEIGHT, _PER_BAR = 6.8, 4.2, 0.32  # inches


def save_charts(drawn: Iterable[Chart], folder: Path) -> list[Path]:
    """NAME.png, NAME.svg and NAME.csv of each chart in a folder that is there. Raises InputError where one cannot be
    written.
    """
    saved = []
    for chart in drawn:
        panels = len(chart.one_each())
        figure = figures.new_figure(_WIDTH * max(1.0, panels * 0.7), _height(chart), "constrained")
        draw_panels(chart, figure, "above" if chart.mark in (charts.STACKED_BARS, charts.AREAS) else "best")
        saved += [figures.save_figure(figure, folder / f"{chart.name}.{kind}") for kind in ("png", "svg")]
        write_text(folder / f"{chart.name}.csv", charts.csv_of(chart))
        saved.append(folder / f"{chart.name}.csv")
    return saved


def _height(chart: Chart) -> float:
    """Bars that lie need as much as they are many."""
    if chart.y.kind != charts.NAMES:
        return _HEIGHT
    return max(2.2, 1.5 + _PER_BAR * len(chart.names(chart.y.column)))
