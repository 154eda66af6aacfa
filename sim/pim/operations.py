"""What units are asked for: `gemvNxK` (N outputs of K inputs each) or an element-wise kernel of N elements.

add and mul take two vectors, mad multiplies by and adds a scalar each, relu and mov take one; the result is a vector
of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sim.errors import InputError
from sim.pim.parameters import OPERATIONS

_PATTERN = re.compile(r"([a-z]+)([0-9]+)(?:x([0-9]+))?")
_OPERANDS = {"add": 2, "mul": 2, "mad": 1, "relu": 1, "mov": 1}
_MOST = 1 << 40  # elements of a vector


@dataclass(frozen=True)
class Operation:
    """kind: one of OPERATIONS; outputs: rows of the matrix, or elements; inputs: columns of the matrix, else 0."""

    kind: str
    outputs: int
    inputs: int = 0

    @property
    def operands(self) -> int:
        """Vectors of `outputs` elements that an element-wise kernel reads; 0 for a product."""
        return _OPERANDS.get(self.kind, 0)

    def read_bytes(self, element_bytes: int) -> int:
        """What a host reads to do the same: the matrix and the vector, or the operands."""
        matrix = (self.outputs + 1) * self.inputs
        return (matrix if self.kind == "gemv" else self.operands * self.outputs) * element_bytes

    def write_bytes(self, element_bytes: int) -> int:
        return self.outputs * element_bytes

    def __str__(self) -> str:
        return f"{self.kind}{self.outputs}x{self.inputs}" if self.kind == "gemv" else f"{self.kind}{self.outputs}"


def is_operation(pattern: str) -> bool:
    """Whether a pattern of `probe` is meant as an operation of units."""
    match = _PATTERN.fullmatch(pattern)
    return match is not None and match[1] in OPERATIONS


def parse_operation(text: str) -> Operation:
    """Raises InputError for what is none."""
    match = _PATTERN.fullmatch(text)
    if match is None or match[1] not in OPERATIONS:
        kind = match[1] if match else text
        expected = "gemvNxK or addN, mulN, madN, reluN, movN (N, K numbers)"
        raise InputError("unknown operation", value=kind, expected=expected, candidates=OPERATIONS)
    kind, first, second = match[1], int(match[2]), match[3]
    if (kind == "gemv") != (second is not None):
        expected = "gemvNxK" if kind == "gemv" else f"{kind}N"
        raise InputError("operation", value=text, expected=expected)
    if not 0 < first <= _MOST or (second is not None and not 0 < int(second) <= _MOST):
        raise InputError("operation", value=text, expected=f"sizes from 1 to {_MOST}")
    return Operation(kind, first, int(second or 0))
