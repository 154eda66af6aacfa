"""The capacity of a cache, as a person writes it."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np

from sim.errors import InputError
from sim.trace import Trace

_CAPACITY = 'a share such as "10%", a whole number, or bytes such as "4 GiB"'


def parse_capacity(text: str | int, trace: Trace, ignore_size: bool) -> int:
    """A cache's capacity: in objects with `ignore_size`, else in bytes.

    "10%" is a share of the distinct objects, or of the sum of their sizes, rounded down; a whole number is objects or
    bytes; "4 GiB" is bytes. Raises InputError for anything else, and for what can hold no object of the trace.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | np.integer):
        raise InputError("bad capacity", value=text, expected=_CAPACITY)
    capacity = _capacity(str(text).strip(), trace, ignore_size)
    smallest = 1 if ignore_size else int(trace.block_bytes.min())
    footprint = trace.n_blocks if ignore_size else int(trace.block_bytes.sum())
    if capacity > footprint:
        expected = f"at most {footprint} {'objects' if ignore_size else 'bytes'}, all of trace {trace.name!r}"
        raise InputError("capacity above the trace's footprint:", value=text, expected=expected)
    if capacity < smallest:
        unit = "object" if ignore_size else f"{smallest} bytes, the smallest object of trace {trace.name!r}"
        expected = f"at least 1 {unit}" if ignore_size else f"at least {unit}"
        raise InputError("capacity below one object:", value=text, expected=expected)
    return capacity


def _capacity(text: str, trace: Trace, ignore_size: bool) -> int:
    if re.fullmatch(r"\d+", text, re.ASCII):
        return int(text) if len(text) < 19 else _too_much(text)
    if text.endswith("%"):
        return _share(text, trace.n_blocks if ignore_size else int(trace.block_bytes.sum()))
    if re.fullmatch(r"[-+]?[\d.]*", text, re.ASCII):
        raise InputError("bad capacity", value=text, expected=_CAPACITY)
    from sim.units import parse_bytes

    capacity = parse_bytes(text)
    if ignore_size:
        raise InputError("a capacity in bytes cannot ignore object sizes:", value=text, expected="objects or a share")
    return capacity


def _share(text: str, whole: int) -> int:
    number = text[:-1].strip()
    if not re.fullmatch(r"\d{1,18}(\.\d{0,18})?|\.\d{1,18}", number, re.ASCII):
        raise InputError("bad capacity", value=text, expected=_CAPACITY)
    share = Fraction(number.rstrip(".")) / 100
    if share > 1:
        raise InputError("bad capacity", value=text, expected="at most 100%")
    return math.floor(share * whole)


def _too_much(text: str) -> int:
    raise InputError("bad capacity", value=text, expected="less than 10^18")
