"""From a stream of chunks to a trace: ids numbered densely as they stream past, and every row checked.

A reader or generator yields chunks: dicts of equally long arrays under the names of `sim.trace_columns.COLUMNS`, with
`id` (int64, raw) in the place of `block`; beside them it may put `calls` (a `Calls` whose rows count from the chunk's
own first) and `where` (a function from a row of the chunk to the keywords by which an `InputError` says where the row
stood). A `next_access` may be a function that makes the array, called only where somebody wants the column. Chunks of
some 10^4 to 10^5 rows stay in the processor's cache from one step to the next, which is fastest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.trace import Calls, Trace
from sim.trace_columns import COLUMNS, DERIVED, NEVER, READ, SPILL_BYTES, WRITE, ColumnWriter, joined

Chunk = dict[str, Any]
Where = Callable[[int], dict[str, Any]]
Report = Callable[..., InputError]  # InputError with the file filled in: `raise report("bad size", line=3, value=0)`


def build_trace(
    name: str,
    chunks: Iterable[Chunk],
    *,
    needs: Iterable[str] | None = None,
    spill_bytes: int = SPILL_BYTES,
    file: object = None,
) -> Trace:
    """A trace from a stream of chunks (see the top of this module), seen once and checked on the way.

    needs: the columns to keep beside `block` (all that the stream has, by default); file: what errors name. Raises
    InputError for an empty stream, times that go back, sizes below 1, and next accesses that do not agree with the ids.
    """
    from sim.kernels.idindex import IdIndex

    report = functools.partial(InputError, file=file)
    needs = _known_columns(needs)
    index, writer, checks = IdIndex(), ColumnWriter(spill_bytes), _Checks(report)
    first_sizes: list[np.ndarray] = []
    calls = _CallList(report)
    for chunk in chunks:
        ids = _as_ids(chunk["id"], report)
        columns = checks.rows(ids, _columns(chunk, needs), chunk.get("where") or _row_number(checks.n_rows))
        if "calls" in chunk:
            calls.append(chunk["calls"], checks.n_rows - ids.size, ids.size)
        blocks, first_rows = index.densify(ids)
        sizes = columns.get("size_bytes")
        first_sizes.append(np.ones(first_rows.size, np.int64) if sizes is None else sizes[first_rows])
        kept = {key: column for key, column in columns.items() if needs is None or key in needs}
        writer.append({"block": blocks, **kept})
    checks.finish()
    address = index.address.copy()
    del index, chunk, ids, columns, blocks, sizes, kept  # its table and the last chunk, before columns are put together
    return Trace(name, writer.columns(), checks.n_rows, address, joined(first_sizes), calls.joined(), spill_bytes)


def _known_columns(needs: Iterable[str] | None) -> frozenset[str] | None:
    if needs is None:
        return None
    needs = frozenset(needs)
    for name in needs - COLUMNS.keys():
        raise InputError("unknown trace column", value=name, candidates=COLUMNS)
    return needs


def _columns(chunk: Chunk, needs: frozenset[str] | None) -> dict[str, np.ndarray]:
    """The columns of a chunk; of those that follow from the ids only what is given and wanted."""
    columns = {key: chunk[key] for key in COLUMNS if key in chunk and key not in ("block", *DERIVED)}
    if "next_access" in chunk and (needs is None or "next_access" in needs):
        given = chunk["next_access"]
        columns["next_access"] = given() if callable(given) else given
    return {key: np.asarray(column) for key, column in columns.items()}


def _as_ids(ids, report: Report) -> np.ndarray:
    """int64[n]; unsigned ids keep their bits."""
    ids = np.asarray(ids)
    if ids.shape == (0,):  # of whatever type
        return np.empty(0, np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise report("ids are not whole numbers in one dimension", field="id", value=str(ids.dtype))
    return ids.view(np.int64) if ids.dtype == np.uint64 else ids.astype(np.int64, copy=False)


def _row_number(first: int) -> Where:
    return lambda row: {"field": f"row {first + row}"}


class _Checks:
    """What must hold of every row of every trace, whatever read it. Vectorised; keeps what the next chunk needs."""

    def __init__(self, report: Report):
        self.report = report
        self.n_rows = 0
        self.last_arrival_ns = 0.0
        self.furthest_next = -1

    def rows(self, ids: np.ndarray, columns: dict[str, np.ndarray], where: Where) -> dict[str, np.ndarray]:
        """The columns in their types. Raises InputError at the first bad row."""
        for name, column in columns.items():
            if column.shape != ids.shape:
                raise self.report(f"column {name} has {column.shape} values for {ids.size} ids")
            if column.dtype.kind not in "iufb":
                raise self.report(f"column {name} does not hold numbers", value=str(column.dtype))
            if column.dtype.kind == "f" and COLUMNS[name].kind != "f":
                raise self.report(f"column {name} does not hold whole numbers", value=str(column.dtype))
        if "ttl_ns" in columns:  # NaN and infinity both say that an object does not expire; one of them is enough
            columns["ttl_ns"] = np.where(np.isnan(columns["ttl_ns"]), np.inf, columns["ttl_ns"])
        typed = {}
        for name, column in columns.items():
            self._check(name, column, where)
            typed[name] = np.ascontiguousarray(column, COLUMNS[name])
        if "arrival_ns" in typed:
            self._check_order(typed["arrival_ns"], where)
        if "next_access" in typed:
            self._check_next(ids, typed["next_access"], where)
        self.n_rows += ids.size
        return typed

    def finish(self) -> None:
        """Raises InputError where the whole stream held nothing, or an access points beyond its end."""
        if self.n_rows == 0:
            raise self.report("the trace is empty", expected="at least one block access")
        if self.furthest_next >= self.n_rows:
            raise self.report(
                "wrong next access: it points beyond the end of the trace",
                value=self.furthest_next,
                expected=_RECOMPUTE,
            )

    def _check(self, name: str, column: np.ndarray, where: Where) -> None:
        rule = _ROW_RULES.get(name)
        if rule is None or column.size == 0:
            return
        lowest, highest, expected = rule
        # NaN fails both comparisons, so the test is for what is good
        if column.min() >= lowest and column.max() <= highest:
            return
        row = int(np.argmin((column >= lowest) & (column <= highest)))
        raise self._at(row, where, f"bad {name}", column[row].item(), expected)

    def _check_order(self, arrival_ns: np.ndarray, where: Where) -> None:
        if arrival_ns.size == 0:
            return
        row = _first_back(arrival_ns, self.last_arrival_ns)
        if row is not None:
            before = float(arrival_ns[row - 1]) if row else self.last_arrival_ns
            earlier = f"at least {before}, the arrival before it"
            raise self._at(row, where, "not sorted by time: arrival_ns", arrival_ns[row].item(), earlier)
        self.last_arrival_ns = float(arrival_ns[-1])

    def _check_next(self, ids: np.ndarray, next_access: np.ndarray, where: Where) -> None:
        """Next accesses are later rows, and name the same id where they fall within this chunk."""
        rows = np.arange(self.n_rows, self.n_rows + ids.size)
        inside = next_access < self.n_rows + ids.size
        wrong = next_access <= rows
        targets = np.flatnonzero(inside & ~wrong)
        wrong[targets] = ids[next_access[targets] - self.n_rows] != ids[targets]
        if wrong.any():
            row = int(np.argmax(wrong))
            raise self._at(row, where, "wrong next access: row", next_access[row].item(), _RECOMPUTE)
        known = next_access[next_access != NEVER]
        self.furthest_next = max(self.furthest_next, int(known.max()) if known.size else -1)

    def _at(self, row: int, where: Where, problem: str, value, expected: str) -> InputError:
        return self.report(problem, value=value, expected=expected, **where(row))


_RECOMPUTE = "the row of the same id's next access (the option next_access: recompute ignores the stored ones)"
_LARGEST_SIZE = 1 << 50  # 1 PiB; keeps sums of sizes within int64
_LONGEST_NS = 1e20  # three thousand years
_ROW_RULES = {
    "arrival_ns": (0.0, _LONGEST_NS, "a finite time, not negative"),
    "think_ns": (0.0, _LONGEST_NS, "a finite time, not negative"),
    "size_bytes": (1, _LARGEST_SIZE, "a whole number of bytes from 1 to 2^50"),
    "op": (READ, WRITE, "0 (read) or 1 (write)"),
    "tenant": (0, np.iinfo(np.int32).max, "a whole number from 0 to 2^31 - 1"),
    "cost": (0.0, np.finfo(np.float64).max, "a finite number, not negative"),
    "ttl_ns": (0.0, np.inf, "a time, not negative, or infinite for an object that does not expire"),
    "frequency_hint": (0, np.iinfo(np.int64).max, "a whole number, not negative"),
    "priority": (np.iinfo(np.int32).min, np.iinfo(np.int32).max, "a whole number from -2^31 to 2^31 - 1"),
}

_OPTIONAL = {"program": _ROW_RULES["tenant"], "priority": _ROW_RULES["priority"]}  # fields of `Calls`, and their rules


class _CallList:
    """Calls of successive chunks, put together."""

    def __init__(self, report: Report):
        self.report = report
        self.parts: list[Calls] = []

    def append(self, calls: Calls, first_row: int, rows: int) -> None:
        bounds = np.asarray(calls.first_row, np.int64)
        covers = bounds.size == len(calls.arrival_ns) + 1 and bounds[0] == 0 and bounds[-1] == rows
        if not covers or (np.diff(bounds) < 0).any():
            raise self.report("calls do not cover the rows", field="calls.first_row")
        for name in ("input_tokens", "output_tokens"):
            tokens = np.asarray(getattr(calls, name))
            if tokens.size and tokens.min() < 0:
                raise self.report("negative tokens", field=f"calls.{name}", value=int(tokens.min()))
        for name in _OPTIONAL:
            self._check_optional(name, getattr(calls, name), len(calls.arrival_ns))
        self.parts.append(calls._replace(first_row=bounds + first_row))

    def joined(self) -> Calls | None:
        if not self.parts:
            return None
        starts = [part.first_row[:-1] for part in self.parts] + [self.parts[-1].first_row[-1:]]
        return Calls(
            arrival_ns=self._column("arrival_ns", np.float64),
            input_tokens=self._column("input_tokens", np.int64),
            output_tokens=self._column("output_tokens", np.int64),
            first_row=np.concatenate(starts),
            tenant=self._column("tenant", np.int32),
            block_tokens=int(self.parts[0].block_tokens),
            **{name: self._optional(name) for name in _OPTIONAL},
        )

    def _check_optional(self, name: str, values: np.ndarray | None, calls: int) -> None:
        if values is None:
            return
        values, (lowest, highest, expected) = np.asarray(values), _OPTIONAL[name]
        if values.shape != (calls,):
            raise self.report(f"{values.shape} values for {calls} calls", field=f"calls.{name}")
        bad = (values < lowest) | (values > highest)
        if bad.any():
            raise self.report("bad value", field=f"calls.{name}", value=values[bad][0].item(), expected=expected)

    def _optional(self, name: str) -> np.ndarray | None:
        """A field that a trace may have or not; all its chunks alike."""
        given = {getattr(part, name) is not None for part in self.parts}
        if len(given) == 2:
            raise self.report("some calls have it, others do not:", field="calls", value=name)
        return self._column(name, np.int32) if given == {True} else None

    def _column(self, name: str, dtype: type) -> np.ndarray:
        return np.concatenate([np.asarray(getattr(part, name), dtype) for part in self.parts])


class Clock:
    """Turns a file's own times into arrival_ns counted from its first request.

    Whole numbers are subtracted before they become floating point, so that times since 1970 lose nothing.
    """

    def __init__(self, unit_ns: float, report: Report):
        self.unit_ns, self.report = unit_ns, report
        self.first: Any = None
        self.last: Any = None

    def __call__(self, times: np.ndarray, where: Where) -> np.ndarray:
        """float64[n] of `times` (whole or floating). Raises InputError where one is absurd or goes back."""
        if times.size == 0:
            return np.empty(0)
        times = times.astype(np.float64 if times.dtype.kind == "f" else np.int64, copy=False)
        if not -_FURTHEST_TIME < times.min() <= times.max() < _FURTHEST_TIME:  # never true of NaN
            row = int(np.argmin((times > -_FURTHEST_TIME) & (times < _FURTHEST_TIME)))
            raise self.report("bad time", value=times[row].item(), expected="a finite number", **where(row))
        if self.first is None:
            self.first = self.last = times[0]
        row = _first_back(times, self.last)
        if row is not None:
            earlier = (times[row - 1] if row else self.last).item()
            raise self.report(
                "not sorted by time: time",
                value=times[row].item(),
                expected=f"at least {earlier}, the time before it",
                **where(row),
            )
        self.last = times[-1]
        return (times - self.first).astype(np.float64) * self.unit_ns


def _first_back(times: np.ndarray, before: Any) -> int | None:
    """The first row whose time is before that of the row before it, or before `before`; None where none is."""
    if times[0] < before:
        return 0
    back = times[1:] < times[:-1]
    return int(np.argmax(back)) + 1 if back.any() else None


_FURTHEST_TIME = 1 << 62  # differences of times within it fit in int64
