"""How commands print: tables for a person, a JSON document or CSV rows for a program, and progress."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from sim.errors import InputError

if TYPE_CHECKING:
    from sim.commands.live import View

_WIDTH = 160  # of tables in a file or a pipe
_WORDS_OF_A_NUMBER, _WIDEST_NUMBER = 4, 24  # with its unit and a share behind it: 1.234 ms (12.3 %)


class Form(Enum):
    """In which form a command answers."""

    TEXT, JSON, CSV = "text", "json", "csv"

    @property
    def is_for_a_person(self) -> bool:
        return self is Form.TEXT


def form_of(as_json: bool, as_csv: bool) -> Form:
    """What --json and --csv ask for. Raises InputError where both are given."""
    if as_json and as_csv:
        raise InputError("both --json and --csv", expected="one of them")
    return Form.JSON if as_json else Form.CSV if as_csv else Form.TEXT


@dataclass(frozen=True)
class Answer:
    """What a command has found out. document: all of it; rows: its main table, all rows with the same keys in the same
    order, units in their names; text: makes what a person sees, called if that is wanted; None where the notes, lines
    below it, say everything.
    """

    document: Any
    rows: Sequence[Mapping[str, Any]]
    text: Callable[[], Any] | None = None
    notes: Sequence[str] = ()


def show(answer: Answer, form: Form) -> None:
    """Print the answer on stdout."""
    if form is Form.JSON:
        print_json(answer.document)
    elif form is Form.CSV:
        print_csv(answer.rows)
    else:
        _print_text(answer)


def _print_text(answer: Answer) -> None:
    shown = console()
    if answer.text is not None:
        shown.print(answer.text())
    for note in answer.notes:
        for line in _wrapped(note, shown.width) if _is_width_known() else [note]:
            print(line)


def _wrapped(note: str, width: int) -> list[str]:
    """Lines that fit, but for paths, which nobody could use in pieces."""
    import textwrap

    return textwrap.wrap(note, width, break_long_words=False, break_on_hyphens=False)


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of RFC 4180 on stdout, names first; NaN, infinity and None are empty cells, lists and mappings JSON."""
    if not rows:
        return
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})


def _cell(value: Any) -> Any:
    plain = _plain(value)
    if isinstance(plain, bool | dict | list):
        return json.dumps(plain, ensure_ascii=False)
    return plain


def print_json(document: Any) -> None:
    """One JSON document on stdout; what is not a number there (NaN, infinity) is null."""
    sys.stdout.write(json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "dtype") and value.ndim == 0:  # a number of numpy's, which takes long to import
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def aligned(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same rows, each with the keys of all; None for what one does not have."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def console():
    """Where tables go: as wide as the terminal, or as COLUMNS says."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, width=None if _is_width_known() else _WIDTH)


def _is_width_known() -> bool:
    return sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None):
    """A table of text: its first column and numbers are kept whole, names fold, and sentences break between words."""
    from sim.report.sheet import NAME, NUMBER, PROSE, Heading, Sheet

    rows = [[str(cell) for cell in row] for row in rows]

    def kind(at: int) -> str:
        cells = [row[at] for row in rows]
        if any(len(cell.split()) > _WORDS_OF_A_NUMBER for cell in cells):
            return PROSE
        return NAME if any(len(cell) > _WIDEST_NUMBER for cell in cells) else NUMBER

    made = Sheet([Heading(column, kind(at), "left") for at, column in enumerate(columns)], title, gap=2)
    for row in rows:
        made.add_row(*row)
    return made


@contextmanager
def live() -> Iterator[View | None]:
    """A view of what will take long, on stderr; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    from sim.commands.live import View

    with View(Console(stderr=True, highlight=False)) as view:
        yield view


@contextmanager
def progress(what: str, parts: str = "requests") -> Iterator[Callable[[int, int], None] | None]:
    """A callback `(done, total)` of one thing that will take long; None where nobody would see it."""
    from sim.looks import Look

    with live() as view:
        if view is None:
            yield None
            return
        take = view.begin(what)
        yield lambda done, total: take(lambda: Look(done, total, parts))
