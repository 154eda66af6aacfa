"""The columns of a trace as compiled engines take them, and the request that a row of them stands for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.kernels.compile import inlined, known_natural
from sim.policy import make_request

if TYPE_CHECKING:
    from sim.trace import Trace


class Columns(NamedTuple):
    """A stretch of a trace. A column other than `block` is empty where the trace lacks it or nobody needs it."""

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
    """These columns, and the others empty."""
    return Columns(block, *(given.get(name, np.zeros(0, dtype)) for name, dtype in _named_dtypes()))


def _named_dtypes() -> Iterable[tuple[str, str]]:
    return list(zip(Columns._fields, _DTYPES, strict=True))[1:]


def columns_of(trace: Trace, leave_out: Iterable[str] = ()) -> Columns:
    """All that a trace has, whole."""
    present = (name for name, _ in _named_dtypes() if name in trace.columns and name not in leave_out)
    position = position_of(trace, 0, trace.n_requests)
    return make_columns(trace.column("block"), position=position, **{name: trace.column(name) for name in present})


def make_hints(blocks: int, columns: Iterable[str]) -> Hints:
    """Nothing is known yet of any block; `columns` are those that the trace has."""
    present = set(columns)
    dtypes = dict(_named_dtypes())
    unknown = _UNKNOWN._asdict()
    return Hints(*(np.full(blocks if name in present else 0, unknown[name], dtypes[name]) for name in HINTS))


def position_of(trace: Trace, start: int, stop: int) -> np.ndarray:
    """int32: which block of its LLM call each of the rows `start` to `stop` is; empty where the trace has no calls."""
    if trace.calls is None:
        return np.zeros(0, np.int32)
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
        address_of[block] if address_of.size else block,
        columns.size_bytes[row] if columns.size_bytes.size else size_bytes,
        arrival_ns,
        columns.op.size != 0 and columns.op[row] == 1,
        columns.tenant[row] if columns.tenant.size else np.int32(0),
        columns.next_access[row] if columns.next_access.size else np.int64(-1),
        columns.position[row] if columns.position.size else np.int32(0),
        columns.cost[row] if columns.cost.size else 1.0,
        columns.ttl_ns[row] if columns.ttl_ns.size else np.inf,
        columns.frequency_hint[row] if columns.frequency_hint.size else np.int64(0),
        columns.prediction[row] if columns.prediction.size else -1.0,
        columns.priority[row] if columns.priority.size else np.int32(0),
    )


@inlined
def remember(hints, request):
    """Keep what this access says of its block."""
    if hints.next_access.size:
        hints.next_access[request.block] = request.next_access
    if hints.cost.size:
        hints.cost[request.block] = request.cost
    if hints.ttl_ns.size:
        hints.ttl_ns[request.block] = request.ttl_ns
    if hints.frequency_hint.size:
        hints.frequency_hint[request.block] = request.frequency_hint
    if hints.prediction.size:
        hints.prediction[request.block] = request.prediction
    if hints.priority.size:
        hints.priority[request.block] = request.priority


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
        hints.next_access[block] if hints.next_access.size else np.int64(-1),
        0,
        hints.cost[block] if hints.cost.size else 1.0,
        hints.ttl_ns[block] if hints.ttl_ns.size else np.inf,
        hints.frequency_hint[block] if hints.frequency_hint.size else np.int64(0),
        hints.prediction[block] if hints.prediction.size else -1.0,
        hints.priority[block] if hints.priority.size else np.int32(0),
    )
