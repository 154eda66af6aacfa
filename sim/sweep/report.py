"""What came out of a sweep, for a terminal of 80 columns: combinations side by side, and what matters most."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sim import metrics as m
from sim.metrics import Metric
from sim.report.cells import DOLLARS, MEMORY, RATES, TIMES, Column, Shown, best_on_what, listed
from sim.result_set import ResultSet, short_names, value_text
from sim.sweep.effects import SEEDS, effects

_WIDTH = 80
_MOST_ROWS = 40
_MOST_VALUE = 24  # characters of a field's value
SCALES: Mapping[str, Mapping[str, float]] = {
    "ns": TIMES,
    "B": MEMORY,
    "1/s": RATES,
    "$": DOLLARS,
    "1": {"": 1.0},
}
_SHORT_HEADING = 12
_BETWEEN = 3  # characters between columns
_LEAST_TOLD = 0.005  # of a share of the differences


def report(results: ResultSet, metrics: Sequence[str]) -> RenderableType:
    """A table of all combinations, or the best of many; who is best on what; which field matters most."""
    rows = results.combinations(metrics)
    declared = [replace(results.declaration(metric), name=metric) for metric in metrics]  # not its family's name
    shown, note = _shown(rows, declared[0])
    columns = [_column(metric, rows) for metric in declared]
    kept = _that_fit(results, rows, columns)
    parts: list[RenderableType] = [_table(results, rows, shown, kept)]
    seeds = max(row["runs"] for row in rows)
    notes = [note] if note else []
    if len(kept) < len(columns):
        notes.append(f"Not shown: {listed([column.shown.metric for column in columns[len(kept) :]])}.")
    if len(rows) > 1:
        notes.append(best_on_what([row["label"] for row in rows], kept))
    if seeds > 1:
        notes.append(f"Means of {seeds} seeds, with the half width of their 95 % confidence interval.")
    matters = _matters(results, declared[0])
    return Group(*parts, *(Text(line) for line in [*notes, *([matters] if matters else [])]))


# --- columns ---------------------------------------------------------------------------------------------------------


def _column(metric: Metric, rows: Sequence[Mapping[str, Any]]) -> Column:
    """The metric's means in the largest unit in which one of them is 1 and more, each with its half interval."""
    values = [row[metric.name] for row in rows]
    finite = [abs(value) for value in values if math.isfinite(value)]
    scales = SCALES.get(metric.unit, {metric.unit: 1.0})
    fitting = [unit for unit, scale in scales.items() if finite and max(finite) >= scale]
    unit = fitting[-1] if fitting else next(iter(scales))
    scale = scales[unit]
    places = _places(max(finite, default=0) / scale)
    texts = [_cell(row, metric.name, scale, places) for row in rows]
    best = m.best_of(metric, {at: round(value / scale, places) for at, value in enumerate(values) if _known(value)})
    shown = Shown(metric.name, metric.name, scales, metric.name, metric.better)
    return Column(shown, unit, texts, [at in best for at in range(len(rows))])


def _known(value: float) -> bool:
    return math.isfinite(value)


def _cell(row: Mapping[str, Any], name: str, scale: float, places: int) -> str:
    if not _known(row[name]):
        return "-"
    half = (row[f"{name}.high"] - row[f"{name}.low"]) / 2
    told = f" ±{half / scale:.{places}f}" if _known(half) else ""
    return f"{row[name] / scale:.{places}f}{told}"


def _places(most: float) -> int:
    """As many digits behind the point as make four in all."""
    return 0 if most <= 0 else min(6, max(0, 3 - math.floor(math.log10(most))))


# --- the table -------------------------------------------------------------------------------------------------------


def _shown(rows: Sequence[Mapping[str, Any]], first: Metric) -> tuple[list[int], str]:
    """Which rows are shown, and a note where these are not all."""
    if len(rows) <= _MOST_ROWS:
        return list(range(len(rows))), ""
    sign = -1 if first.better == m.HIGHER else 1
    order = sorted(range(len(rows)), key=lambda at: (not _known(rows[at][first.name]), sign * rows[at][first.name]))
    end = {m.HIGHER: "highest", m.LOWER: "lowest"}.get(first.better, "lowest")
    return order[:_MOST_ROWS], f"The {_MOST_ROWS} of {len(rows)} combinations with the {end} {first.name}."


def _that_fit(results: ResultSet, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> list[Column]:
    """As many columns as there is room for beside the fields, one at least."""
    short = short_names(results.fields)
    cells = [[*_lines(short[field]), *(_value(row, field) for row in rows)] for field in results.fields]
    taken = sum(_wide(texts) for texts in cells or [[row["label"] for row in rows]])
    kept: list[Column] = []
    for column in columns:
        taken += _wide([*_heading(column), *(f"{text}*" for text in column.texts)])
        if kept and taken > _WIDTH:
            break
        kept.append(column)
    return kept


def _wide(texts: Iterable[str]) -> int:
    return max(len(text) for text in texts) + _BETWEEN


def _heading(column: Column) -> list[str]:
    """Its name without the unit that it ends with, which is the last line."""
    name = column.shown.metric
    for unit in ("_ns", "_bytes", "_per_s"):
        name = name.removesuffix(unit)
    return [*_lines(name), column.unit]


def _lines(name: str) -> list[str]:
    """A name in two lines, where it is long and has parts."""
    parts = re.split(r"(?<=[_.])", name)
    if len(name) <= _SHORT_HEADING or len(parts) == 1:
        return [name]
    cut = min(range(1, len(parts)), key=lambda at: abs(2 * len("".join(parts[:at])) - len(name)))
    return ["".join(parts[:cut]), "".join(parts[cut:])]


def _value(row: Mapping[str, Any], field: str) -> str:
    text = value_text(row[field])
    return text if len(text) <= _MOST_VALUE else text[: _MOST_VALUE - 3] + "..."


def _table(
    results: ResultSet, rows: Sequence[Mapping[str, Any]], shown: Iterable[int], columns: Sequence[Column]
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    short = short_names(results.fields)
    for field in results.fields:
        table.add_column(Text("\n".join(_lines(short[field]))), overflow="fold")
    if not results.fields:
        table.add_column("scenario", overflow="fold")
    for column in columns:
        table.add_column(Text("\n".join(line for line in _heading(column) if line)), justify="right", no_wrap=True)
    for at in shown:
        own = [Text(_value(rows[at], field)) for field in results.fields] or [Text(rows[at]["label"])]
        told = [_marked(column.texts[at], column.best[at]) for column in columns]
        table.add_row(*own, *told)
    return table


def _marked(text: str, best: bool) -> Text:
    return Text(f"{text}*", style="bold") if best else Text(f"{text} ")


# --- what matters ----------------------------------------------------------------------------------------------------


def _matters(results: ResultSet, metric: Metric) -> str:
    """Which field explains how much of the differences in a metric; '' where that cannot be said."""
    shares = effects(results, metric.name)
    if not shares:
        return ""
    short = short_names(results.fields)
    told = [
        f"{'seeds' if name == SEEDS else short[name]} {100 * share:.0f} %"
        for name, share in sorted(shares.items(), key=lambda one: -one[1])
        if share >= _LEAST_TOLD
    ]
    rest = 1 - sum(shares.values())
    rest_told = f"; {100 * rest:.0f} % are of fields together" if rest >= _LEAST_TOLD else ""
    return f"Of the differences in {metric.name}, these explain: {listed(told)}{rest_told}." if told else ""
