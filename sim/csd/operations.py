"""Operations on data of a computational drive, as they are asked for.

An operation is written as its kind and the bytes that it reads from flash, `scan1GiB`; what else there is to it follows
after a colon: `gemv4GiB:flops_per_byte=2,returned=64KiB`. Kinds, with what they are unless it is said otherwise:

- `scan`: a filter that computes nothing to speak of and returns 1 % of what it reads;
- `gemv`: a square matrix of 2-byte weights times a vector: 1 FLOP a byte, the vector of results returned;
- `attention`: of one query over keys and values of 2 bytes: 1 FLOP a byte, 16 KiB returned. Queries that share keys and
  values multiply the FLOPs.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from sim import units
from sim.errors import InputError

KINDS = ("scan", "gemv", "attention")
_FORM = re.compile(rf"({'|'.join(KINDS)})(\d[^:]*)(?::(.*))?")
_SELECTED = 0.01  # of what a scan reads
_ATTENTION_BYTES = 16_384


@dataclass(frozen=True)
class Operation:
    """What is read from flash, what is computed of each byte, what is returned to the host."""

    kind: str
    size_bytes: int
    flops_per_byte: float
    returned_bytes: int

    def __post_init__(self):
        if self.size_bytes < 1:
            raise InputError(f"{self.kind} of", value=self.size_bytes, expected="bytes from 1")
        if not (math.isfinite(self.flops_per_byte) and self.flops_per_byte >= 0):
            raise InputError("flops_per_byte of", value=self.flops_per_byte, expected="a number from 0")
        if not 0 <= self.returned_bytes <= self.size_bytes:
            expected = f"from 0 to the {self.size_bytes} bytes that are read"
            raise InputError("returned bytes are", value=self.returned_bytes, expected=expected)


def is_operation(text: str) -> bool:
    """Whether this is meant as an operation, rightly written or not."""
    return text.startswith(KINDS)


def parse_operation(text: str) -> Operation:
    """`scan1GiB`, `gemv4GiB:flops_per_byte=2,returned=64KiB`. Raises InputError."""
    match = _FORM.fullmatch(text)
    if match is None:
        expected = f"one of {', '.join(KINDS)} and a size, such as scan1GiB"
        raise InputError("unknown operation", value=text, expected=expected, candidates=KINDS)
    kind, size_bytes = match[1], units.parse_bytes(match[2])
    returned = {
        "scan": round(_SELECTED * size_bytes),
        "gemv": 2 * math.isqrt(size_bytes // 2),
        "attention": min(_ATTENTION_BYTES, size_bytes),
    }[kind]
    usual = {"flops_per_byte": float(kind != "scan"), "returned_bytes": returned}
    return Operation(kind, size_bytes, **(usual | _rest(text, match[3])))


def _rest(text: str, rest: str | None) -> dict[str, Any]:
    read = {"flops_per_byte": float, "returned": units.parse_bytes}
    found = {}
    for part in rest.split(",") if rest else ():
        name, _, value = part.partition("=")
        if name not in read:
            raise InputError(f"operation {text!r}: unknown part", value=name, candidates=read)
        try:
            found["returned_bytes" if name == "returned" else name] = read[name](value)
        except ValueError:
            raise InputError(f"operation {text!r}: {name} is", value=value, expected="a number") from None
    return found
