"""The picture of a replay of allocations: what was live, held and free, and when operations were refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.timeline.picture import Counter, Events, Group, Picture, Told, Window, in_window, whole_ns

if TYPE_CHECKING:
    from sim.fragmentation.results import AllocationResult

_OPERATION_NS = 1000.0  # what stands for an operation, in a stream without times
_WITHOUT_TIMES = "the stream has no times: a microsecond stands for an operation"


def has_times(result: AllocationResult) -> bool:
    """Whether time passes in the stream."""
    time_ns = result.column("looks", "time_ns")
    return bool(time_ns.size) and time_ns[-1] > time_ns[0]


def picture_of(result: AllocationResult, window: Window) -> Picture:
    """All that touches the window."""
    time_ns = _time_ns(result)
    names = [name for name in result.table("looks").column_names if name != "time_ns"]
    counters = [
        in_window(Counter(name, _unit_of(name), time_ns, result.column("looks", name).astype(float)), window)
        for name in names
    ]
    group = Group(
        f"allocator {result.label}",
        tuple(one for one in counters if one.values.size),
        tuple(_refusals(result, time_ns, window)),
    )
    return Picture((group,), notes=() if has_times(result) else (_WITHOUT_TIMES,))


def last_ns(result: AllocationResult) -> float:
    """When the last look was."""
    return float(_time_ns(result).max(initial=0.0))


def _time_ns(result: AllocationResult) -> np.ndarray:
    if has_times(result):
        time_ns = result.column("looks", "time_ns")
        return time_ns - min(0.0, float(time_ns[0]))
    return result.column("looks", "operation").astype(float) * _OPERATION_NS


def _refusals(result: AllocationResult, time_ns: np.ndarray, window: Window) -> list[Events]:
    """An instant at each look since whose predecessor operations were refused: which ones, the looks do not say."""
    failures = result.column("looks", "failures")
    new = np.diff(failures, prepend=0)
    rows = np.flatnonzero((new > 0) & window.touches(time_ns, time_ns))
    if not rows.size:
        return []

    def told(at: int) -> Told:
        row = int(rows[at])
        return Told("refused since the look before", {"operations": int(new[row]), "in_all": int(failures[row])})

    at_ns = whole_ns(time_ns[rows])
    return [Events("refusal", "refused", at_ns, at_ns, np.arange(rows.size), told, instants=True)]


def _unit_of(name: str) -> str:
    return "bytes" if name.endswith("_bytes") else "share" if name.endswith("_share") else "count"
