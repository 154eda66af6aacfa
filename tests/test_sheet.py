"""Tables for a terminal: nothing is cut, however narrow it is and whatever stands in them."""

from __future__ import annotations

import math
import re

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sim import metrics
from sim.report.cells import SHARE, SIZES, TIMES, Shown, column_of, side_by_side
from sim.report.sheet import NAME, NUMBER, PROSE, Heading, Sheet

WORDS = st.text("abcdefgh_:=.", min_size=1, max_size=60)
NUMBERS = st.from_regex(r"[1-9][0-9]{0,15}\.[0-9]{0,4} [a-z]{1,3}", fullmatch=True)
SENTENCES = st.lists(st.text("abcdefgh", min_size=1, max_size=12), min_size=1, max_size=12).map(" ".join)
_HEADINGS = st.lists(st.text("ijklm", min_size=1, max_size=12), min_size=1, max_size=3).map(" ".join)
_CELLS = {NUMBER: NUMBERS, NAME: WORDS, PROSE: SENTENCES}


def lines_of(renderable, width: int = 80) -> list[str]:
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get().splitlines()


@st.composite
def sheets(draw):
    kinds = draw(st.lists(st.sampled_from([NUMBER, NAME, PROSE]), min_size=1, max_size=10))
    headings = [Heading(draw(_HEADINGS), kind) for kind in kinds]
    sheet = Sheet(headings, draw(st.sampled_from([None, "a title"])), gap=draw(st.integers(1, 2)))
    for _ in range(draw(st.integers(0, 2))):
        sheet.add_row(*(draw(_CELLS[kind]) for kind in kinds))
    return sheet


@given(sheets(), st.integers(60, 120))
def test_everything_is_there_and_within_the_width(sheet, width):
    lines = lines_of(sheet, width)
    assert max(map(len, lines), default=0) <= width
    text = "\n".join(lines)
    letters = sorted(re.sub(r"[\s─]", "", text))
    for at, heading in enumerate(sheet.headings):
        for row in sheet.rows:
            cell = row[at].plain
            if heading.kind == NUMBER:
                assert cell in text
        for letter in set("".join(row[at].plain for row in sheet.rows)) - {" "}:
            assert sum(row[at].plain.count(letter) for row in sheet.rows) <= letters.count(letter)


@given(sheets())
def test_a_wide_terminal_has_one_table(sheet):
    assert sum("─" in line for line in lines_of(sheet, 10_000)) == 1


def test_columns_that_do_not_fit_stand_below_with_the_names_again():
    sheet = Sheet([Heading("policy", NAME, "left"), *(Heading(f"number {n}") for n in range(12))])
    sheet.add_row("s3fifo:small_ratio=0.2", *(f"{n}23456.789" for n in range(12)))
    lines = lines_of(sheet)
    assert sum("─" in line for line in lines) == 3 and sum("s3fifo" in line for line in lines) == 3


# --- columns of comparisons ------------------------------------------------------------------------------------------

VALUES = st.lists(
    st.floats(0, 1e25, allow_subnormal=False)
    | st.floats(0, 1e-6, allow_subnormal=False)
    | st.sampled_from([math.nan, math.inf, 0.0]),
    min_size=1,
    max_size=6,
)


@given(VALUES, st.sampled_from([TIMES, SHARE, SIZES]), st.sampled_from([metrics.HIGHER, metrics.LOWER]))
def test_a_column_takes_any_numbers(values, scales, better):
    column = column_of(Shown("x", "x", scales, "x", better), values)
    assert all(len(text) <= 16 for text in column.texts)
    for value, text, best in zip(values, column.texts, column.best, strict=True):
        assert (text == "-") == (not math.isfinite(value))
        assert math.isfinite(value) or not best
        assert value == 0 or not math.isfinite(value) or float(text) != 0
    found = [value for value, best in zip(values, column.best, strict=True) if best]
    if found:
        known = [value for value in values if math.isfinite(value)]
        assert (max if better == metrics.HIGHER else min)(known) in found


def test_the_best_is_marked_by_a_star_where_there_is_no_colour():
    column = column_of(Shown("mean", "mean_ns", TIMES, "mean"), [2e6, 1e6])
    lines = lines_of(side_by_side("policy", ["lru", "s3fifo"], [column]))
    assert [line.rstrip() for line in lines if "lru" in line or "s3fifo" in line] == [
        " lru     2.000",
        " s3fifo 1.000*",
    ]
