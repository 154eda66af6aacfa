"""What came out of a study, for a terminal of 80 columns: the front, and what became of the other trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from sim.pareto import AT_MOST, Front
from sim.report.cells import Column, Shown, column_of
from sim.report.sheet import NAME, NUMBER, Heading, Sheet
from sim.result_set import ResultSet, short_names, value_text
from sim.sweep.report import SCALES

if TYPE_CHECKING:
    from sim.result_set import Run

_MOST_ROWS = 40


def report(results: ResultSet, front: Front) -> RenderableType:
    """A row a run of the front, and a sentence about the others."""
    parts: list[RenderableType] = [_table(results, front)] if front.runs else []
    return Group(*parts, *(Text(line) for line in sentences(results, front)))


def _table(results: ResultSet, front: Front) -> Sheet:
    shown = front.runs[:_MOST_ROWS]
    columns = [
        _column(name, results.declaration(name).unit, better, shown) for name, better in front.objectives.items()
    ]
    fields = short_names(results.fields)
    headings = [Heading("run", NAME, "left"), *(Heading(short, NAME, "left") for short in fields.values())]
    made = Sheet([*headings, *(Heading(f"{one.shown.heading}\n{one.unit}", NUMBER) for one in columns)])
    for at, run in enumerate(shown):
        values = [value_text(run.values.get(field)) for field in fields]
        made.add_row(run.name, *values, *(one.texts[at] + ("*" if one.best[at] else " ") for one in columns))
    return made


def _column(name: str, unit: str, better: str, runs: Sequence[Run]) -> Column:
    shown = Shown(name, name, SCALES.get(unit, {unit: 1.0}), name, better)
    return column_of(shown, [run.result.summary[name] for run in runs])


def sentences(results: ResultSet, front: Front) -> list[str]:
    """How many of the trials are what."""
    total = len(results) + len(results.failed)
    parts = [f"{len(front.runs)} of {total} trials are on the front"]
    parts += [f"{len(front.dominated)} are behind it"] if front.dominated else []
    parts += [f"{len(front.infeasible)} break a limit ({_limits(front)})"] if front.infeasible else []
    parts += [f"{len(front.untold)} do not tell a metric"] if front.untold else []
    parts += [f"{len(results.failed)} failed"] if results.failed else []
    lines = [f"{'; '.join(parts)}."]
    if len(front.runs) > _MOST_ROWS:
        lines.append(f"The first {_MOST_ROWS} of the front are shown; --csv has all.")
    return lines


def _limits(front: Front) -> str:
    """'ttft_p99_ns at most 2e+09 ns, ...'"""
    return ", ".join(
        f"{one.metric} at {'most' if one.kind == AT_MOST else 'least'} {one.value:g}" for one in front.limits
    )
