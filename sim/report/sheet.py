"""A table for a terminal of any width that cuts nothing: names fold, and columns without room stand further below.

Rich shortens what does not fit, numbers too. A sheet gives each number the room that it needs; if that is more than
there is, it is printed as several tables, one below the other, each with the first column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

NUMBER, NAME, PROSE = "number", "name", "prose"  # kept whole; folded anywhere if need be; broken between words
_EDGES = 2  # columns that a table leaves empty, left and right of it
_LEAST = {NAME: 14, PROSE: 24}  # columns of a terminal that one is made no narrower than, unless nothing else helps


@dataclass(frozen=True)
class Heading:
    """Of one column: text, what stands below it, and on which side."""

    text: str
    kind: str = NUMBER
    justify: str = "right"


class Sheet:
    """Rows of texts below headings. gap: spaces between columns; least: columns that one of numbers has at least."""

    def __init__(self, headings: Iterable[Heading], title: str | None = None, gap: int = 1, least: int = 0):
        self.headings, self.title, self.gap, self.least = list(headings), title, gap, least
        self.rows: list[tuple[Text, ...]] = []

    def add_row(self, *cells: str | Text) -> None:
        """A row, a cell a column."""
        if len(cells) != len(self.headings):
            raise ValueError(f"{len(cells)} cells below {len(self.headings)} headings")
        self.rows.append(tuple(cell if isinstance(cell, Text) else Text(cell) for cell in cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title, width = self.title, options.max_width - _EDGES
        for columns in self._blocks(width):
            yield self._table(columns, width, title)
            title = None

    # --- which columns stand side by side

    def _blocks(self, width: int) -> Iterator[list[int]]:
        """Columns of each table: as many as fit, the first in each of them."""
        first, *others = range(len(self.headings))
        block, used = [first], self._needed(first)
        for at in others:
            needed = self.gap + self._needed(at)
            if used + needed > width and len(block) > 1:
                yield block
                block, used = [first], self._needed(first)
            block.append(at)
            used += needed
        yield block

    def _needed(self, at: int) -> int:
        """The fewest columns of a terminal in which a column can stand."""
        heading, cells = self.headings[at], self._widest_cell(at)
        if heading.kind == NUMBER:
            return max(cells, self._widest_word(at), self.least)
        return min(max(cells, self._widest_word(at)), _LEAST[heading.kind])

    def _widest_cell(self, at: int) -> int:
        return max((_widest_line(row[at].plain) for row in self.rows), default=0)

    def _widest_word(self, at: int) -> int:
        return max((cell_len(word) for word in self.headings[at].text.split()), default=0)

    # --- one table

    def _table(self, columns: Sequence[int], width: int, title: str | None) -> Table:
        widths = self._widths(columns, width)
        made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, self.gap - 1, 0, 0))
        made.pad_edge = False
        for at in columns:
            heading = self.headings[at]
            made.add_column(
                Text("\n".join(_lines(heading.text, widths[at]))),
                justify=heading.justify,
                width=widths[at],
                no_wrap=heading.kind == NUMBER,
                overflow="fold",
            )
        for row in self.rows:
            made.add_row(*(row[at] for at in columns))
        return made

    def _widths(self, columns: Sequence[int], width: int) -> dict[int, int]:
        """Of each column: what it needs, and as much of what is left as it can use, those of prose last."""
        widths = {at: self._needed(at) for at in columns}
        wanted = {at: max(self._widest_cell(at), _widest_line(self.headings[at].text), self.least) for at in columns}
        left = width - sum(widths.values()) - self.gap * (len(columns) - 1)
        for is_prose in (False, True):
            hungry = [at for at in columns if (self.headings[at].kind == PROSE) == is_prose]
            hungry.sort(key=lambda at: wanted[at] - widths[at])
            for place, at in enumerate(hungry):
                more = max(0, min(wanted[at] - widths[at], left // (len(hungry) - place)))
                widths[at] += more
                left -= more
        if left < 0:  # one column beside the names is wider than what is left: the names give way, then nothing helps
            widths[columns[0]] = max(1, widths[columns[0]] + left)
        return widths


def _widest_line(text: str) -> int:
    return max((cell_len(line) for line in text.split("\n")), default=0)


def _lines(heading: str, width: int) -> list[str]:
    return [line for part in heading.split("\n") for line in (wrap(part, max(1, width)) or [""])]
