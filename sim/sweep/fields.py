"""The values that a field takes: a list, or a range with steps between two ends."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sim.choice import as_value
from sim.errors import InputError
from sim.sweep.amounts import Amount, amount_of, spelled_like

LINEAR, LOG = "linear", "log"
_RANGE_KEYS = ("from", "to", "steps", "scale")
_MOST_VALUES = 100_000
_EXPECTED = "a list of values, or a range such as {from: 1 GiB, to: 64 GiB, steps: 7, scale: log}"


class Field(Protocol):
    """What a field may be."""

    def levels(self) -> tuple[Any, ...]:
        """Its values, each once. Raises InputError where it has no steps."""

    def at(self, share: float) -> Any:
        """The value that so large a share of all lies below, 0 <= share < 1."""

    def plain(self) -> Any:
        """The same as a file says it."""


@dataclass(frozen=True)
class Values:
    """A list of values, of any kind."""

    values: tuple[Any, ...]

    def levels(self) -> tuple[Any, ...]:
        return self.values

    def at(self, share: float) -> Any:
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def plain(self) -> list[Any]:
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """Numbers or quantities between two ends, which are as they were written. steps: how many, None: all there are."""

    low: Any
    high: Any
    steps: int | None = None
    log: bool = False

    @property
    def ends(self) -> tuple[Amount, Amount]:
        return amount_of(self.low), amount_of(self.high)

    @property
    def whole(self) -> bool:
        """Whether it is of whole numbers."""
        return isinstance(self.low, int)

    def between(self, part: float) -> Any:
        """The value at this part of the way from one end to the other, 0 <= part <= 1."""
        if part in (0.0, 1.0):
            return self.high if part else self.low
        low, high = (end.number for end in self.ends)
        number = low * (high / low) ** part if self.log else low + (high - low) * part
        return spelled_like(number, self.low)

    def levels(self) -> tuple[Any, ...]:
        if self.steps is None:
            problem = "a range without steps"
            raise InputError(problem, value=self.plain(), expected="steps, how many values it stands for")
        values = tuple(self.between(at / (self.steps - 1)) for at in range(self.steps))
        if len(set(values)) < self.steps:
            expected = f"at most {len(set(values))}, so many different values it comes to"
            raise InputError("too many steps:", value=self.steps, expected=expected)
        return values

    def at(self, share: float) -> Any:
        if self.steps is not None:
            return Values(self.levels()).at(share)
        if not self.whole:
            return self.between(share)
        low, high = (end.number for end in self.ends)  # each whole number gets an equal part, its own of a log scale
        if self.log:
            return min(high, int(low * ((high + 1) / low) ** share))
        return min(high, low + int(share * (high - low + 1)))

    def plain(self) -> dict[str, Any]:
        steps = {} if self.steps is None else {"steps": self.steps}
        return {"from": self.low, "to": self.high, **steps, "scale": LOG if self.log else LINEAR}


def parse_field(value: object) -> Field:
    """A list of values, or a mapping that says a range. Raises InputError for anything else."""
    if isinstance(value, list | tuple):
        return _values(value)
    if not isinstance(value, Mapping):
        raise InputError("wrong shape", value=value, expected=_EXPECTED)
    return _range(value)


def _values(given: list | tuple) -> Values:
    if not given:
        raise InputError("empty list", expected="at least one value")
    if len(given) > _MOST_VALUES:
        raise InputError("too many values:", value=len(given), expected=f"at most {_MOST_VALUES}")
    told = [json.dumps(as_value(value), sort_keys=True, default=str) for value in given]
    twice = next((value for at, value in enumerate(given) if told[at] in told[:at]), None)
    if len(set(told)) < len(told):
        raise InputError("a value twice:", value=twice, expected="each value once")
    return Values(tuple(given))


def _range(given: Mapping[str, Any]) -> Range:
    unknown = next((key for key in given if key not in _RANGE_KEYS), None)
    if unknown is not None:
        raise InputError("unknown key of a range:", value=unknown, candidates=_RANGE_KEYS)
    missing = next((key for key in ("from", "to") if key not in given), None)
    if missing is not None:
        raise InputError(f"a range without {missing!r}", value=dict(given), expected=_EXPECTED)
    steps, scale = given.get("steps"), given.get("scale", LINEAR)
    if scale not in (LINEAR, LOG):
        raise InputError("unknown scale", value=scale, candidates=(LINEAR, LOG))
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or not 2 <= steps <= _MOST_VALUES):
        raise InputError("not a count of steps:", value=steps, expected=f"a whole number from 2 to {_MOST_VALUES}")
    low, high = _alike(as_value(given["from"]), as_value(given["to"]))
    found = _checked(Range(low, high, steps, scale == LOG))
    if steps is not None:
        found.levels()
    return found


def _alike(low: Any, high: Any) -> tuple[Any, Any]:
    """Both ends whole numbers, or neither."""
    if isinstance(low, float) != isinstance(high, float) and not isinstance(low, str) and not isinstance(high, str):
        return float(low), float(high)
    return low, high


def _checked(found: Range) -> Range:
    low, high = found.ends
    for value, amount in ((found.low, low), (found.high, high)):
        if amount is None:
            raise InputError("not a number or quantity:", value=value, expected="such as 8, 0.5, 5% or 64 GiB")
    if low.noun != high.noun or str(found.low).endswith("%") != str(found.high).endswith("%"):
        raise InputError("ends that are not alike:", value=[found.low, found.high], expected="two of one kind")
    if not low.number < high.number:
        raise InputError("an empty range: from", value=found.low, expected=f"less than {found.high!r}")
    if found.log and not (low.number > 0 and math.isfinite(high.number / low.number)):
        raise InputError("a log scale from", value=found.low, expected="a number above zero")
    return found
