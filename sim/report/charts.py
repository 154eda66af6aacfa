"""Charts as data: what a figure shows, told once, to be drawn by matplotlib or Vega-Lite and written as CSV alike."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sim import units

# What an axis counts.
TIME, BYTES, BANDWIDTH, SHARE, NUMBER, NAMES = "time", "bytes", "bandwidth", "share", "number", "names"
# What stands for a row of the data.
LINES, STEPS, BARS, STACKED_BARS, AREAS, POINTS, HEAT = "lines", "steps", "bars", "stacked", "areas", "points", "heat"

FEW_TEXTS = 8  # numbers beside bars that stand upright
_LONG_NAME = 20  # letters
_LEAST_SHARE = 1e-5  # that is written with its digits
_UNITS = {  # of a linear axis, largest first: (how much one is, its name, the least number of it that is shown so)
    TIME: ((3600e9, "h", 3), (60e9, "min", 3), (1e9, "s", 1), (1e6, "ms", 1), (1e3, "us", 1), (1.0, "ns", 0)),
    BYTES: ((2.0**40, "TiB", 2), (2.0**30, "GiB", 2), (2.0**20, "MiB", 2), (2.0**10, "KiB", 2), (1.0, "B", 0)),
    BANDWIDTH: ((1e12, "TB/s", 1), (1e9, "GB/s", 1), (1e6, "MB/s", 1), (1e3, "KB/s", 1), (1.0, "B/s", 0)),
}


@dataclass(frozen=True)
class Axis:
    """One axis, or the colours of a heat map.

    column: of the chart's data, in base units (ns, bytes, bytes a second, a share of 1); title: without the unit; kind:
    one of those above; low, high: ends, by the data where None; unit: (how much one is, its name) of numbers whose kind
    has no units of its own.
    """

    column: str
    title: str
    kind: str = NUMBER
    log: bool = False
    low: float | None = None
    high: float | None = None
    unit: tuple[float, str] | None = None


@dataclass(frozen=True)
class Chart:
    """One figure.

    name: of its files; summary: what it says, in a sentence; data: equally long columns, a row a point, bar or cell,
    units in the names; series: the column that tells curves apart; legend_title: what it is, where names alone do not
    say it; low, high: columns with the ends of an interval around y (around the value, of bars); text: a column with
    what is written beside a bar or point; also: columns that are told of a point besides; value: of a heat map, its
    colours, x and y being the lower ends of cells that are x_step and y_step large; panels: the column that tells small
    multiples apart; notes: what is left out, or how it is thinned.
    """

    name: str
    title: str
    summary: str
    mark: str
    x: Axis
    y: Axis
    data: Mapping[str, np.ndarray | Sequence[Any]]
    series: str | None = None
    legend_title: str = ""
    low: str | None = None
    high: str | None = None
    text: str | None = None
    also: tuple[str, ...] = ()
    value: Axis | None = None
    x_step: float = 1.0
    y_step: float = 1.0
    panels: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        return len(next(iter(self.data.values()))) if self.data else 0

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (self.x, self.y) if self.value is None else (self.x, self.y, self.value)

    def names(self, column: str) -> list[str]:
        """What stands in a column of names, each once, in order."""
        return list(dict.fromkeys(str(value) for value in self.data[column]))

    @property
    def has_long_names(self) -> bool:
        """Whether names beside its bars need more room than half a page has."""
        named = [axis.column for axis in (self.x, self.y) if axis.kind == NAMES]
        return any(len(name) > _LONG_NAME for column in named for name in self.names(column))

    def curves(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """(name, columns) of each of the series, in order; of a chart without series, all of it, called ''."""
        columns = {name: np.asarray(values) for name, values in self.data.items()}
        if self.series is None:
            yield "", columns
            return
        of = columns[self.series].astype(str)
        for name in self.names(self.series):
            yield name, {key: values[of == name] for key, values in columns.items()}

    def one_each(self) -> list[Chart]:
        """A chart for each of the small multiples, all with the same ends of axes; itself where it has none."""
        if self.panels is None:
            return [self]
        of = np.asarray(self.data[self.panels]).astype(str)
        shared = {which: self._with_ends(getattr(self, which)) for which in ("x", "y")}
        columns = {name: np.asarray(values) for name, values in self.data.items()}
        return [
            replace(
                self,
                name=f"{self.name}_{nth}",
                title=name,
                panels=None,
                data={key: values[of == name] for key, values in columns.items()},
                **shared,
            )
            for nth, name in enumerate(self.names(self.panels))
        ]

    def _with_ends(self, axis: Axis) -> Axis:
        if axis.kind == NAMES:
            return axis
        low, high = ends(self, axis)
        return replace(axis, low=low if axis.low is None else axis.low, high=high if axis.high is None else axis.high)


def ends(chart: Chart, axis: Axis) -> tuple[float, float]:
    """The smallest and the largest finite number on an axis, intervals included; (0, 1) where there is none."""
    columns = [axis.column]
    if axis is valued_axis(chart):
        columns += [name for name in (chart.low, chart.high) if name is not None]
    values = np.concatenate([np.asarray(chart.data[name], float) for name in columns])
    values = values[np.isfinite(values) & ((values > 0) | (not axis.log))]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def valued_axis(chart: Chart) -> Axis:
    """The axis on which values are, not what they are of."""
    return chart.x if chart.mark in (BARS, STACKED_BARS) and chart.y.kind == NAMES else chart.y


def total_end(chart: Chart, axis: Axis) -> float:
    """The far end of an axis, up to which bars or areas that are stacked go."""
    if chart.mark not in (STACKED_BARS, AREAS) or axis is not valued_axis(chart):
        return ends(chart, axis)[1]
    other = chart.y if axis is chart.x else chart.x
    sums: dict[Any, float] = {}
    for at, value in zip(chart.data[other.column], chart.data[axis.column], strict=True):
        sums[at] = sums.get(at, 0.0) + float(value)
    return max(sums.values(), default=1.0)


def unit_of(chart: Chart, axis: Axis) -> tuple[float, str]:
    """How much one of a linear axis is in the data's base unit, and what it is called; (1, '') where it has no unit,
    or its ticks name it.
    """
    if axis.unit is not None:
        return axis.unit
    if axis.log or axis.kind not in _UNITS:
        return 1.0, ""
    most = axis.high if axis.high is not None else total_end(chart, axis)
    return next((scale, unit) for scale, unit, least in _UNITS[axis.kind] if most >= least * scale or scale == 1)


def titled(axis: Axis, unit: str) -> str:
    return f"{axis.title} ({unit})" if unit else axis.title


def written(value: Any, kind: str, digits: int = 4) -> str:
    """A value as a person reads it, with its unit, in about so many digits."""
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return "-"
    if kind == TIME:
        return units.format_time(float(value), digits)
    if kind == BYTES:
        return units.format_bytes(round(float(value)), digits)
    if kind == BANDWIDTH:
        return units.format_bandwidth(float(value) / 1e9, digits)
    if kind == SHARE and 0 < abs(value) < _LEAST_SHARE:
        return f"< {100 * _LEAST_SHARE:g} %"
    if kind == SHARE:
        return f"{100 * value:.{digits}g} %"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 10**digits else f"{value:.{digits}g}"


def thinned(size: int, most: int) -> np.ndarray:
    """int64[<= most] rows that stand for `size` ones, an equal number of them apart, first and last included."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(int)) if size else np.zeros(0, int)


def csv_of(chart: Chart) -> str:
    """The data as RFC 4180, names first; what is not a number is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(chart.data)
    columns = [plain(column) for column in chart.data.values()]
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()


def plain(column: np.ndarray | Sequence[Any], digits: int | None = None) -> list[Any]:
    """A column as numbers and texts of Python's own, None for what is no number, to so many significant digits."""
    values = column.tolist() if isinstance(column, np.ndarray) else list(column)
    return [_rounded(value, digits) for value in values]


def _rounded(value: Any, digits: int | None) -> Any:
    if not isinstance(value, float | np.floating):
        return value.item() if isinstance(value, np.generic) else value
    if not math.isfinite(value):
        return None
    if digits is not None:
        value = float(f"{value:.{digits}g}")
    return int(value) if value.is_integer() and abs(value) < 2**53 else float(value)


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Columns of several tables one after the other."""
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in (parts[0] if parts else ())}
