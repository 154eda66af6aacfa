"""The formulas of `sim.cost.kernels` over tables of kernels: float64[rows, columns of `timings.COLUMNS`] -> ns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sim.cost.kernels import (
    WORK,
    Factors,
    Heads,
    Machine,
    add_chunk,
    all_reduce_ns,
    decode_ns,
    decode_sizes,
    elementwise_ns,
    factor,
    mixed_ns,
    mixed_sizes,
    prefill_ns,
    prefill_sizes,
    product_ns,
    product_sizes,
)
from sim.kernels.compile import kernel, subroutine

_BYTES = 2.0  # of a number, in 16-bit types
_NO_WINDOW = 1e12


def predict(
    family: str, machine: Machine, constants: NamedTuple, values: np.ndarray, beside=None, table: Factors | None = None
) -> np.ndarray:
    """float64[rows] ns of samples of a family.

    beside: the constants of prefill, for `mixed`; bytes per ns of the link, for `all_reduce`; otherwise None.
    table: a correction, if any.
    """
    out, sizes = _told(family, machine, constants, values, beside)
    if table is not None:
        _correct(table, sizes, out)
    return out


def sizes_of(family: str, machine: Machine, constants: NamedTuple, values: np.ndarray, beside=None) -> np.ndarray:
    """float64[rows, 2]: the sizes that the family is corrected by."""
    return _told(family, machine, constants, values, beside)[1]


def _told(family: str, machine: Machine, constants: NamedTuple, values: np.ndarray, beside) -> tuple:
    out, sizes, work = np.empty(len(values)), np.ones((len(values), 2)), np.zeros(WORK)
    if family == "mixed":
        _mixed(machine, beside, constants, values, work, out, sizes)
    elif family == "prefill":
        _prefill(machine, constants, values, work, out, sizes)
    elif family == "all_reduce":
        _all_reduce(constants, beside, values, out, sizes)
    else:
        _PLAIN[family](machine, constants, values, out, sizes)
    return out, sizes


@kernel
def _correct(table, sizes, out):
    for row in range(len(out)):
        out[row] *= factor(table, sizes[row, 0], sizes[row, 1])


@kernel
def _linear(machine, constants, values, out, sizes):
    for row in range(len(out)):
        tokens, k, n = values[row, 0], values[row, 1], values[row, 2]
        out[row] = product_ns(machine, constants, tokens, k, n, 1.0, _BYTES, _BYTES)
        sizes[row, 0], sizes[row, 1] = product_sizes(tokens, k, n, 1.0)


@kernel
def _elementwise(machine, constants, values, out, sizes):
    for row in range(len(out)):
        out[row] = elementwise_ns(machine, constants, values[row, 0])
        sizes[row, 0] = values[row, 0]


@kernel
def _decode(machine, constants, values, out, sizes):
    for row in range(len(out)):
        heads, sequences = _heads(values, row, 2), values[row, 0]
        tokens = sequences * values[row, 1]
        out[row] = decode_ns(machine, constants, heads, sequences, tokens)
        sizes[row, 0], sizes[row, 1] = decode_sizes(heads, sequences, tokens)


@kernel
def _prefill(machine, constants, values, work, out, sizes):
    for row in range(len(out)):
        heads = _heads(values, row, 2)
        work[:] = 0.0
        add_chunk(work, heads.heads, values[row, 0], values[row, 1], _NO_WINDOW)
        out[row] = prefill_ns(machine, constants, heads, work)
        sizes[row, 0], sizes[row, 1] = prefill_sizes(work)


@kernel
def _mixed(machine, prefill, constants, values, work, out, sizes):
    for row in range(len(out)):
        heads, sequences = _heads(values, row, 4), values[row, 2]
        work[:] = 0.0
        add_chunk(work, heads.heads, values[row, 0], values[row, 1], _NO_WINDOW)
        tokens = sequences * values[row, 3]
        out[row] = mixed_ns(machine, constants, prefill, heads, work, sequences, tokens)
        sizes[row, 0], sizes[row, 1] = mixed_sizes(heads, sequences, tokens)


@kernel
def _all_reduce(constants, link_bytes_per_ns, values, out, sizes):
    for row in range(len(out)):
        out[row] = all_reduce_ns(constants, link_bytes_per_ns, values[row, 0], values[row, 1])
        sizes[row, 0], sizes[row, 1] = values[row, 1], values[row, 0]


@subroutine
def _heads(values, row, at):
    heads, kv_heads, head_dim = values[row, at], values[row, at + 1], values[row, at + 2]
    return Heads(heads, kv_heads, 2.0 * head_dim, 2.0 * head_dim, 2.0 * head_dim * _BYTES)


_PLAIN: dict[str, Callable] = {"linear": _linear, "elementwise": _elementwise, "decode": _decode}
