"""What a timeline shows, before any of it is left out: groups of counters, slices and instants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from sim.errors import InputError


@dataclass(frozen=True)
class Window:
    """The time to draw, both ends included."""

    from_ns: float = 0.0
    to_ns: float = float("inf")

    def touches(self, start_ns: np.ndarray, end_ns: np.ndarray) -> np.ndarray:
        """bool[n] which of these lie in it, in part at least."""
        return (end_ns >= self.from_ns) & (start_ns <= self.to_ns)


class Inner(NamedTuple):
    """A part of a slice, drawn within it."""

    name: str
    start_ns: int
    end_ns: int


class Told(NamedTuple):
    """What is said of one slice or instant."""

    name: str
    args: Mapping[str, Any]
    inner: Sequence[Inner] = ()


@dataclass(frozen=True)
class Counter:
    """Values over time: each holds from its time until the next."""

    name: str
    unit: str
    time_ns: np.ndarray  # float64[n], ascending
    values: np.ndarray  # float64[n]; NaN: not known


@dataclass(frozen=True)
class Events:
    """n things of one kind, on tracks of their own: slices, or instants where they end as they start.

    number: int64[n] of each among all of its kind in the picture, from 0, in order of time; what is kept is chosen by
    it, so that all that belongs together has one number. told: what is said of the one at a place.
    most_events: that one makes.
    """

    kind: str
    name: str
    start_ns: np.ndarray  # int64[n]
    end_ns: np.ndarray  # int64[n]
    number: np.ndarray
    told: Callable[[int], Told]
    most_events: int = 1
    instants: bool = False


@dataclass(frozen=True)
class Group:
    """Tracks that belong together; Perfetto calls it a process."""

    name: str
    counters: tuple[Counter, ...] = ()
    events: tuple[Events, ...] = ()


@dataclass(frozen=True)
class Picture:
    """All there is to draw. ranked: by kind, float64[numbers], of which the largest are never left out; every: by kind,
    of how many in the run one is here, where not all are; notes: what a person should know of it.
    """

    groups: tuple[Group, ...]
    ranked: Mapping[str, np.ndarray] = field(default_factory=dict)
    every: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def whole_ns(times: np.ndarray) -> np.ndarray:
    """int64[n], to the nearest nanosecond; the order of times stays."""
    return np.rint(times).astype(np.int64)


def in_window(counter: Counter, window: Window) -> Counter:
    """The values within, and the one that holds when it begins, from then on; without those that are not known."""
    known = np.isfinite(counter.values)
    time_ns, values = counter.time_ns[known], counter.values[known]
    first = max(0, int(np.searchsorted(time_ns, window.from_ns, side="right")) - 1)
    last = int(np.searchsorted(time_ns, window.to_ns, side="right"))
    times = np.maximum(time_ns[first:last], window.from_ns)
    return Counter(counter.name, counter.unit, times, values[first:last])


def shares(time_ns: np.ndarray, so_far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(when, values) of how fast a cumulative column grows between samples, each from the earlier sample on."""
    if time_ns.size < 2:
        return time_ns[:0], so_far[:0].astype(float)
    widths_ns = np.diff(time_ns)
    growth = np.diff(so_far.astype(float))
    rate = np.divide(growth, widths_ns, out=np.full(growth.size, np.nan), where=widths_ns > 0)
    return np.concatenate([time_ns[:-1], time_ns[-1:]]), np.concatenate([rate, [0.0]])


def require_something(picture: Picture, window: Window, last_ns: float) -> None:
    """Raises InputError where nothing happens in the window."""
    from sim.units import format_time

    if window.from_ns > last_ns or (
        not any(one.start_ns.size for group in picture.groups for one in group.events)
        and not any(counter.time_ns.size for group in picture.groups for counter in group.counters)
    ):
        raise InputError(
            "nothing happens in this window: --from",
            value=format_time(window.from_ns, 6),
            expected=f"a time before {format_time(last_ns, 6)}, when the run ends",
        )
