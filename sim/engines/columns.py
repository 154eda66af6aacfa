"""The columns of a trace as compiled engines take them, and the request that a row of them stands for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.kernels.compile import inlined, known_natural
from sim.kernels.optional_array import set_value, value_at
from sim.policy import make_request

if TYPE_CHECKING:
    from sim.trace import Trace


class Columns(NamedTuple):
    """A stretch of a trace.

    A column other than `block` that the trace lacks, or nobody needs, is None where kernels are compiled for just the
    columns that there are (which is fast), and empty where they are compiled once for all (which saves compilations).
    """

    block: np.ndarray  # int32[n]
    arrival_ns: np.ndarray  # float64[n]
    size_bytes: np.ndarray  # int64[n]
    op: np.ndarray  # uint8[n] 1 is a write
    tenant: np.ndarray  # int32[n]
    next_access: np.ndarray  # int64[n]
    position: np.ndarray  # int32[n] of the block within its LLM call
    cost: np.ndarray  # float64[n]
    ttl_ns: np.ndarray  # float64[n]
    frequency_hint: np.ndarray  # int64[n]
    prediction: np.ndarray  # float64[n]
    priority: np.ndarray  # int32[n]


_DTYPES = Columns("i4", "f8", "i8", "u1", "i4", "i8", "i4", "f8", "f8", "i8", "f8", "i4")


class Hints(NamedTuple):
    """What the last access to each block said of it, for when the block moves without being asked for."""

    next_access: np.ndarray  # [blocks] each, of the dtype of the column; empty where the trace lacks it
    cost: np.ndarray
    ttl_ns: np.ndarray
    frequency_hint: np.ndarray
    prediction: np.ndarray
    priority: np.ndarray


HINTS = Hints._fields
_UNKNOWN = Hints(-1, 1.0, np.inf, 0, -1.0, 0)


def make_columns(block: np.ndarray, **given: np.ndarray) -> Columns:
    """These columns, and the others None."""
    return Columns(block, *(given.get(name) for name, _ in _named_dtypes()))


def _named_dtypes() -> Iterable[tuple[str, str]]:
    return list(zip(Columns._fields, _DTYPES, strict=True))[1:]


def columns_of(trace: Trace, leave_out: Iterable[str] = ()) -> Columns:
    """All that a trace has, whole, and the others empty."""
    present = {*trace.columns} - {*leave_out}
    columns = {name: trace.column(name) if name in present else np.zeros(0, dtype) for name, dtype in _named_dtypes()}
    if trace.calls is not None:
        columns["position"] = position_of(trace, 0, trace.n_requests)
    return make_columns(trace.column("block"), **columns)


def make_hints(blocks: int, columns: Iterable[str]) -> Hints:
    """Nothing is known yet of any block; `columns` are those that the trace has."""
    present = set(columns)
    dtypes = dict(_named_dtypes())
    unknown = _UNKNOWN._asdict()
    return Hints(*(np.full(blocks if name in present else 0, unknown[name], dtypes[name]) for name in HINTS))


def position_of(trace: Trace, start: int, stop: int) -> np.ndarray | None:
    """int32: which block of its LLM call each of the rows `start` to `stop` is; None where the trace has no calls."""
    if trace.calls is None:
        return None
    rows = np.arange(start, stop)
    first_row = trace.calls.first_row
    call = np.searchsorted(first_row, rows, side="right") - 1
    return (rows - first_row[call]).astype(np.int32)


@inlined
def request_at(columns, row, index, address_of, size_bytes, arrival_ns):
    """The request of a row; size_bytes where the trace does not say it, address_of by block, or empty."""
    block = known_natural(columns.block[row])
    return make_request(
        index,
        block,
        value_at(address_of, block, block),
        value_at(columns.size_bytes, row, size_bytes),
        arrival_ns,
        value_at(columns.op, row, 0) == 1,
        value_at(columns.tenant, row, 0),
        value_at(columns.next_access, row, -1),
        value_at(columns.position, row, 0),
        value_at(columns.cost, row, 1.0),
        value_at(columns.ttl_ns, row, np.inf),
        value_at(columns.frequency_hint, row, 0),
        value_at(columns.prediction, row, -1.0),
        value_at(columns.priority, row, 0),
    )


@inlined
def remember(hints, request):
    """Keep what this access says of its block."""
    set_value(hints.next_access, request.block, request.next_access)
    set_value(hints.cost, request.block, request.cost)
    set_value(hints.ttl_ns, request.block, request.ttl_ns)
    set_value(hints.frequency_hint, request.block, request.frequency_hint)
    set_value(hints.prediction, request.block, request.prediction)
    set_value(hints.priority, request.block, request.priority)


@inlined
def request_for_block(hints, address_of, size_of, block, asked):
    """A request for another block than the one asked for, on the same occasion."""
    return make_request(
        asked.index,
        block,
        address_of[block],
        size_of[block],
        asked.arrival_ns,
        False,
        asked.tenant,
        value_at(hints.next_access, block, -1),
        0,
        value_at(hints.cost, block, 1.0),
        value_at(hints.ttl_ns, block, np.inf),
        value_at(hints.frequency_hint, block, 0),
        value_at(hints.prediction, block, -1.0),
        value_at(hints.priority, block, 0),
    )
