"""Values of metrics as a person writes them: '2 ms' of a time, '1.5 GiB' of a size, '5%' of a share, or a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sim import units
from sim.errors import InputError

if TYPE_CHECKING:
    from sim.metrics import Metric

_NS_PER_S = 1e9
_SHARE = re.compile(r"([+-]?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(?:[eE][+-]?\d{1,2})?)\s*%", re.ASCII)
_BY_UNIT: Mapping[str, tuple[Callable[[str], float], str]] = {  # unit -> what reads such a quantity, and an example
    "ns": (units.parse_time, "'2 ms'"),
    "s": (lambda text: units.parse_time(text) / _NS_PER_S, "'2 s'"),
    "B": (units.parse_bytes, "'64 MiB'"),
    "B/s": (lambda text: units.parse_bandwidth(text) * _NS_PER_S, "'12 GB/s'"),
    "$": (units.parse_money, "'0.5 $'"),
    "$/h": (units.parse_hourly_cost, "'2 $/h'"),
    "1": (lambda text: parse_share(text), "'5%'"),
}


def parse_value(metric: Metric, value: object) -> float:
    """A value of this metric in its own unit: a number, or text with a unit of the same kind. Raises InputError."""
    from sim.scenario_schema import is_number

    if is_number(value):
        return float(value)
    reader, example = _BY_UNIT.get(metric.unit, (None, ""))
    if isinstance(value, str) and reader is not None:
        return float(reader(value))
    expected = f"a number of {metric.unit}" if metric.unit != "1" else "a number"
    raise InputError(
        "not a value of this metric:", value=value, expected=f"{expected} or {example}" if reader else expected
    )


def parse_share(value: object) -> float:
    """'5%' or 0.05 -> 0.05. Raises InputError."""
    from sim.scenario_schema import is_number

    if is_number(value):
        return float(value)
    match = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise InputError("not a share:", value=value, expected="a number such as 0.05, or '5%'")
    return float(match[1]) / 100
