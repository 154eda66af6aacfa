"""Values of fields as numbers that can be compared and stepped through, and back as a person writes them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from sim import units
from sim.choice import as_value
from sim.errors import InputError

_SHARE = re.compile(r"([+-]?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15}))\s*%", re.ASCII)
_LOOKS_MEASURED = re.compile(r"\s*[$.]?\s*\d")
_DIGITS = 4  # of a number between two that a person wrote; a thousandth is as near as a design needs
PLAIN = ""


@dataclass(frozen=True)
class Amount:
    """A number of one kind: `noun` of a quantity ('a size', in bytes), or PLAIN for counts, factors and shares."""

    number: int | float
    noun: str = PLAIN


def amount_of(value: object) -> Amount | None:
    """A number, '64 GiB' or '5%' as an amount; None of anything else: a name, true, a mapping."""
    value = as_value(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if not isinstance(value, str):
        return Amount(value) if math.isfinite(value) else None
    share = _SHARE.fullmatch(value.strip())
    if share is not None:
        return Amount(float(Fraction(share[1]) / 100))
    if not _LOOKS_MEASURED.match(value):
        return None
    try:
        measured = units.parse_measured(value)
    except InputError:  # a name that begins with a digit
        return None
    return Amount(measured.value, measured.quantity.noun)


def spelled_like(number: int | float, example: object) -> object:
    """A plain number as a value in the manner of `example`: a whole number, a share, a quantity in the same unit.

    It is rounded to what a person would write: to four digits, of bytes to a thousandth.
    """
    example = as_value(example)
    if isinstance(example, int):
        return round(number)
    if isinstance(example, float):
        return float(f"{number:.{_DIGITS}g}")
    if _SHARE.fullmatch(example.strip()):
        return f"{number * 100:.{_DIGITS}g}%"
    _, unit, quantity = units.parse_measured(example)
    if quantity is units.BYTES:
        return units.format_bytes(_round_bytes(number, 2 if "i" in unit or unit == "B" else 10))
    return f"{number / float(quantity.units[unit]):.{_DIGITS}g} {unit}"


def _round_bytes(number: float, base: int) -> int:
    """To a multiple of the largest power of the base that is at most a thousandth of it."""
    grain = base ** max(0, math.floor(math.log(max(number, 1) / 1000, base)))
    return round(number / grain) * grain
