"""Cells and columns that tables of results share: numbers in few characters, and which of a column is the best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from sim import metrics
from sim.report.sheet import NAME, Heading, Sheet


def plain_table(*columns: str, title: str | None = None, names: int = 1) -> Sheet:
    """An empty table, its first columns of names, the others of numbers."""
    first = [Heading(column, NAME, "left") for column in columns[:names]]
    return Sheet([*first, *map(Heading, columns[names:])], title, least=5)


def family(summary: Mapping[str, float], part: str, name: str) -> dict[str, float]:
    """The metrics of one tier or link, without its name before theirs."""
    start = f"{part}.{name}."
    return {key.removeprefix(start): value for key, value in summary.items() if key.startswith(start)}


def count(value: float | None) -> str:
    """A count of at most six characters; a dash where there is none."""
    if value is None:
        return "-"
    if value < 1e5:
        return f"{value:,}"
    scale, sign = next((scale, sign) for scale, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= scale)
    return f"{value / scale:.4g}{sign}"


def rate(per_s: float) -> str:
    """Requests a second, with a prefix."""
    scale, sign = next(((s, p) for s, p in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if per_s >= s), (1, ""))
    return f"{per_s / scale:.4g}{sign} requests/s"


def percent(share: float) -> str:
    """A share, of three significant digits."""
    return f"{100 * share:.3g} %"


@dataclass(frozen=True)
class Shown:
    """A column of a comparison: heading, metric, the multiples of it that may be shown, what to call it, and which
    direction is better.
    """

    heading: str
    metric: str
    scales: Mapping[str, float]
    noun: str
    better: str = metrics.LOWER


@dataclass(frozen=True)
class Column:
    """One column of a comparison as it is printed: a text a run, and which of them are the best."""

    shown: Shown
    unit: str
    texts: list[str]
    best: list[bool]


_MOST_SHOWN_WHOLE = 1e9

TIMES = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
RATES = {"1/s": 1.0, "k/s": 1e3, "M/s": 1e6, "G/s": 1e9}
SIZES = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
MEMORY = {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40}
COUNTS = {"": 1.0, "M": 1e6, "G": 1e9}
TIMES_AS_MUCH = {"x": 1.0}
SHARE = {"%": 0.01}
DOLLARS = {"n$/M": 1e-9, "u$/M": 1e-6, "m$/M": 1e-3, "$/M": 1.0}


def column_of(shown: Shown, values: Sequence[float], eligible: Sequence[bool] | None = None) -> Column:
    """The values in the largest unit in which one of them is 1 and more; texts that look alike are equally good.

    eligible: which of them may be the best; all where nobody says. What is not a number is a dash, and never the best.
    """
    known = [math.isfinite(value) for value in values]
    numbers = [value for value, is_known in zip(values, known, strict=True) if is_known] or [0.0]
    most = max(numbers)
    fitting = [unit for unit, scale in shown.scales.items() if most >= scale]
    unit = fitting[-1] if fitting else next(iter(shown.scales))
    scale = shown.scales[unit]
    places = _places(numbers, scale, shown.scales is SHARE)
    texts = [_number(value / scale, places) if math.isfinite(value) else "-" for value in values]
    may = [can and is_known for can, is_known in zip(eligible or known, known, strict=True)]
    if not any(may):
        return Column(shown, unit, texts, may)
    wanted = max if shown.better == metrics.HIGHER else min
    best_value = wanted(value for value, can in zip(values, may, strict=True) if can)
    best_text = next(text for text, value, can in zip(texts, values, may, strict=True) if can and value == best_value)
    differ = len(set(texts)) > 1
    return Column(
        shown, unit, texts, [can and text == best_text and differ for text, can in zip(texts, may, strict=True)]
    )


def _number(value: float, places: int) -> str:
    """With so many digits behind the point; with an exponent where they would all be 0, or too many stand before it."""
    if (value != 0 and abs(value) < 0.5 * 10**-places) or abs(value) >= _MOST_SHOWN_WHOLE:
        return f"{value:.1e}"
    return f"{value:.{places}f}"


def _places(values: Sequence[float], scale: float, is_share: bool) -> int:
    """Digits behind the point: two of a share, none of counts, and else as many as make four in all, at most three."""
    most = max(values)
    if is_share:
        return 2
    if most <= 0 or (scale == 1 and all(isinstance(value, int) for value in values)):
        return 0
    return min(3, max(0, 3 - math.floor(math.log10(most / scale))))


def marked(texts: Sequence[str], values: Sequence[float | None], better: str = metrics.LOWER) -> list[str]:
    """The texts, a star behind those of the best value; behind none where there is nothing to choose from."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(set(known)) < 2:
        return list(texts)
    best = (max if better == metrics.HIGHER else min)(known)
    best_text = texts[list(values).index(best)]
    return [f"{text}*" if text == best_text else text for text in texts]


def side_by_side(heading: str, labels: Sequence[str], columns: Sequence[Column]) -> Sheet:
    """A row a run, the best of each column marked."""
    table = Sheet([Heading(heading, NAME, "left"), *(Heading(f"{one.shown.heading} \n{one.unit} ") for one in columns)])
    for row, label in enumerate(labels):
        table.add_row(label, *(_marked(one.texts[row], one.best[row]) for one in columns))
    return table


def _marked(text: str, best: bool) -> Text:
    return Text(f"{text}*", style="bold") if best else Text(f"{text} ")


def best_on_what(labels: Sequence[str], columns: Iterable[Column]) -> str:
    """A sentence: who leads alone in which column; columns in which leaders look alike are left out."""
    leads: dict[str, list[str]] = {}
    for column in columns:
        if sum(column.best) == 1:
            leads.setdefault(labels[column.best.index(True)], []).append(column.shown.noun)
    if not leads:
        return "None is alone the best on anything."
    parts = [f"{label} on {listed(nouns)}" for label, nouns in sorted(leads.items(), key=lambda kv: -len(kv[1]))]
    return f"Best: {'; '.join(parts)}."


def listed(words: Sequence[str]) -> str:
    """'a, b and c'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
