"""What a report consists of, before it is a page: sections of sentences, tables and charts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sim.report.charts import Chart


@dataclass(frozen=True)
class Cell:
    """A cell of a table. value: what it is sorted by, the text itself where there is none; best: of its column."""

    text: str
    value: Any = None
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first column names. facts: two columns that need no heads to be seen; notes: below it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sortable: bool = False
    facts: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Words:
    """Paragraphs; `strong` ones are what a reader came for."""

    lines: tuple[str, ...]
    strong: bool = False


@dataclass(frozen=True)
class Fold:
    """Text as it is in a file, folded away under a title."""

    title: str
    text: str


@dataclass(frozen=True)
class Group:
    """Parts under a heading of their own."""

    title: str
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Section:
    """One entry of the contents. name: what links point to."""

    name: str
    title: str
    parts: tuple[Any, ...] = field(default=())


def each(results: Sequence[Any], parts_of: Callable[[Any], Sequence[Any]]) -> tuple[Any, ...]:
    """The parts of each result, under its label where there are several."""
    if len(results) == 1:
        return tuple(parts_of(results[0]))
    return tuple(Group(result.label, tuple(parts_of(result))) for result in results)


def section(name: str, title: str, *parts: Any) -> list[Section]:
    """A section of those parts that show something, a chart of nothing by its sentence; none where none does."""
    shown = _shown(parts)
    return [Section(name, title, shown)] if shown else []


def _shown(parts: Sequence[Any]) -> tuple[Any, ...]:
    made: list[Any] = []
    for part in parts:
        if isinstance(part, Chart):
            made.append(part if part.rows else Words((f"{part.title}: {part.summary}",)))
        elif isinstance(part, Group):
            inner = _shown(part.parts)
            made += [Group(part.title, inner)] if inner else []
        elif part is not None and _says_something(part):
            made.append(part)
    return tuple(made)


def _says_something(part: Table | Words | Fold) -> bool:
    return bool(part.rows if isinstance(part, Table) else part.lines if isinstance(part, Words) else part.text)


def charts_of(sections: Sequence[Section]) -> Iterator[Chart]:
    """All charts, in order."""
    for one in sections:
        yield from _charts_in(one.parts)


def _charts_in(parts: Sequence[Any]) -> Iterator[Chart]:
    for part in parts:
        if isinstance(part, Chart):
            yield part
        elif isinstance(part, Group):
            yield from _charts_in(part.parts)
