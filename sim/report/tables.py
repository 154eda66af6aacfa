"""Tables of a report: numbers with their units, the best of a column marked, intervals over seeds beside means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim import units
from sim.report import cells, charts
from sim.report.cells import Column, Shown, column_of
from sim.report.sections import Cell, Table

if TYPE_CHECKING:
    import pandas

    from sim.metrics import Metric

_KINDS = (  # by the multiples in which a column is shown
    (cells.TIMES, charts.TIME),
    (cells.SIZES, charts.BYTES),
    (cells.MEMORY, charts.BYTES),
    (cells.SHARE, charts.SHARE),
)


def kind_of(shown: Shown) -> str:
    """What kind of axis shows this column."""
    return next((kind for scales, kind in _KINDS if shown.scales is scales), charts.NUMBER)


_SCALES = {"ns": cells.TIMES, "B": cells.SIZES, "1/s": cells.RATES}


def shown(metric: Metric, name: str | None = None) -> Shown:
    """A column of any metric; name: that of the summary, where the metric is of a family."""
    name = name or metric.name
    words = name.removesuffix("_ns").removesuffix("_bytes").replace("_", " ")
    is_share = metric.unit == "1" and words.endswith(("ratio", "share", "utilisation", "fragmentation"))
    scales = cells.SHARE if is_share else _SCALES.get(metric.unit, {"" if metric.unit == "1" else metric.unit: 1.0})
    return Shown(words, name, scales, words, metric.better)


def columns_of(means: pandas.DataFrame, shown: Sequence[Shown], fewest: str | None = None) -> list[Column]:
    """A column for each of these metrics that all rows of `ResultSet.over_seeds` have. fewest: a metric of which a row
    must have no more than any other to be the best.
    """
    eligible = None if fewest is None else (means[fewest] == means[fewest].min()).tolist()
    told = [one for one in shown if means[one.metric].notna().all()]
    return [column_of(one, means[one.metric].tolist(), eligible) for one in told]


def side_by_side(
    caption: str, heading: str, means: pandas.DataFrame, shown: Sequence[Shown], fewest: str | None = None
) -> Table:
    """A row for each of `ResultSet.over_seeds`, the best of each column marked, half of its interval behind a mean.

    fewest: see `columns_of`.
    """
    made = columns_of(means, shown, fewest)
    told = [column.shown for column in made]
    rows = []
    for at, label in enumerate(means["label"]):
        row = [Cell(str(label))]
        for shown, column in zip(told, made, strict=True):
            mean = means[shown.metric].iloc[at]
            around = _half(means, column, at)
            row.append(Cell(f"{column.texts[at]}{around}", float(mean), column.best[at]))
        rows.append(tuple(row))
    seeds = int(means["runs"].max()) if len(means) else 0
    notes = ["* the best of the column" + ("." if fewest is None else f", among rows with the fewest {fewest}.")]
    if seeds > 1:
        notes.append(f"Means of up to {seeds} seeds; behind \u00b1, half of the 95 % confidence interval.")
    headings = [with_unit(column) for column in made]
    return Table(caption, (heading, *headings), tuple(rows), sortable=True, notes=tuple(notes))


def _half(means: pandas.DataFrame, column: Column, at: int) -> str:
    """Half of the interval, to as many places as its mean."""
    metric, scale = column.shown.metric, column.shown.scales[column.unit]
    half = (means[f"{metric}.high"].iloc[at] - means[f"{metric}.low"].iloc[at]) / 2 / scale
    places = len(column.texts[at].partition(".")[2])
    return f" \u00b1 {half:.{places}f}" if math.isfinite(half) else ""


def with_unit(column: Column) -> str:
    """What a column of a table is headed by."""
    noun, unit = column.shown.noun, column.unit
    noun = noun[0].upper() + noun[1:]
    return f"{noun} ({unit})" if unit and unit != "x" else noun


def of_metrics(caption: str, heading: str, results: Sequence[Any], metrics: Mapping[str, tuple[str, str]]) -> Table:
    """A row a result; metrics: name -> (column title, kind of axis); those that no result has are left out."""
    told = {name: what for name, what in metrics.items() if any(name in result.summary for result in results)}
    rows = [
        (Cell(result.label), *(cell(result.summary.get(name), kind) for name, (_, kind) in told.items()))
        for result in results
    ]
    return Table(caption, (heading, *(title for title, _ in told.values())), tuple(rows), sortable=len(rows) > 1)


def cell(value: float | str | None, kind: str = charts.NUMBER) -> Cell:
    """A value with its unit."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Cell("-", math.nan)
    return Cell(charts.written(value, kind), value)


def facts(caption: str, rows: Sequence[tuple[str, Any]]) -> Table:
    """Two columns: what, and its value as text."""
    made = tuple((Cell(name), Cell(str(value))) for name, value in rows if value not in (None, ""))
    return Table(caption, ("what", "value"), made, facts=True)


def size(count: float) -> str:
    return units.format_bytes(round(count), 4)
