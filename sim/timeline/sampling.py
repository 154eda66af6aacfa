"""Leaves out what a timeline has no room for: of each kind every k-th stays, and the slowest; of counters the peaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sim.errors import InputError
from sim.timeline.picture import Counter, Picture

_SLOWEST = 0.01  # of a kind, all kept as far as half its room goes
_COUNTERS = 0.2  # of all room, for counters
_FEWEST_VALUES = 8  # of a counter that has more


@dataclass(frozen=True)
class Sample:
    """What is kept of one kind. every: each k-th by number; kept: bool[numbers]; slowest: how many beside those."""

    every: int
    kept: np.ndarray
    slowest: int

    def phrase(self, every_before: int) -> str:
        """For the name of a track: ' (every 4th and the slowest)', or '' where all are kept. every_before: of how many
        one was there to choose from.
        """
        every = self.every * every_before
        return "" if every == 1 else f" (every {ordinal(every)}{' and the slowest' if self.slowest else ''})"


@dataclass(frozen=True)
class Room:
    """How all of a picture fits: values of each counter, and a sample of each kind of event."""

    values: int
    samples: Mapping[str, Sample]


def ordinal(number: int) -> str:
    """'2nd', '11th'."""
    last = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{last}"


def room_of(picture: Picture, most: int) -> Room:
    """A choice with at most `most` events. Raises InputError where not even a few values of each counter fit."""
    sizes = [counter.values.size for group in picture.groups for counter in group.counters]
    per_number = _events_by_number(picture)
    in_all = sum(sizes) + sum(int(events.sum()) for events in per_number.values())
    if in_all <= most:
        every = {kind: Sample(1, np.ones(events.size, bool), 0) for kind, events in per_number.items()}
        return Room(max(sizes, default=0), every)
    values = _values_each(sizes, int(_COUNTERS * most))
    left = most - sum(min(size, values) for size in sizes)
    if left <= 0:
        fewest = sum(min(size, _FEWEST_VALUES) for size in sizes)
        expected = f"at least {fewest + _FEWEST_VALUES:,}, as there are {len(sizes)} counters"
        raise InputError("too few events: --most", value=most, expected=expected)
    return Room(values, _samples(per_number, picture.ranked, left))


def _events_by_number(picture: Picture) -> dict[str, np.ndarray]:
    """Kind -> int64[numbers] how many events each would make."""
    found: dict[str, np.ndarray] = {}
    for group in picture.groups:
        for events in group.events:
            counts = np.bincount(events.number) * events.most_events
            before = found.get(events.kind, np.zeros(0, np.int64))
            both = np.zeros(max(before.size, counts.size), np.int64)
            both[: before.size] += before
            both[: counts.size] += counts
            found[events.kind] = both
    return found


def _values_each(sizes: Iterable[int], room: int) -> int:
    """The most values a counter may have so that all together have at most `room`, or _FEWEST_VALUES."""
    left, sizes = room, sorted(sizes)
    for at, size in enumerate(sizes):
        each = left // (len(sizes) - at)
        if size > each:
            return max(_FEWEST_VALUES, each)
        left -= size
    return max(sizes, default=0)


def _samples(per_number: Mapping[str, np.ndarray], ranked: Mapping[str, np.ndarray], room: int) -> dict[str, Sample]:
    """Kinds that need least get all they need first; the others share what is left."""
    samples = {}
    kinds = sorted(per_number, key=lambda kind: int(per_number[kind].sum()))
    for at, kind in enumerate(kinds):
        events = per_number[kind]
        share = room // (len(kinds) - at)
        samples[kind] = _sample(events, ranked.get(kind), share)
        room -= int(events[samples[kind].kept].sum())
    return {kind: samples[kind] for kind in per_number}


def _sample(events: np.ndarray, rank: np.ndarray | None, room: int) -> Sample:
    if int(events.sum()) <= room:
        return Sample(1, np.ones(events.size, bool), 0)
    slow = np.zeros(events.size, bool)
    if rank is not None:
        order = np.argsort(-rank, kind="stable")[: int(np.ceil(_SLOWEST * events.size))]
        slow[order[np.cumsum(events[order]) <= room // 2]] = True
    spent = int(events[slow].sum())
    every = max(2, int(np.ceil(int(events.sum()) / max(1, room - spent))))
    while True:
        kept = slow.copy()
        kept[::every] = True
        if int(events[kept].sum()) <= room or every > events.size:
            return Sample(every, kept & (events > 0), int(slow.sum()))
        every += max(1, every // 64)


def thinned(counter: Counter, most: int) -> Counter:
    """The same counter with at most so many values: of each stretch the least and the largest, so that peaks stay."""
    size = counter.values.size
    if size <= most:
        return counter
    edges = np.linspace(0, size, max(1, most // 2) + 1).astype(int)
    kept = set()
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = counter.values[first:last]
        kept |= {first + int(part.argmin()), first + int(part.argmax())}
    places = np.array(sorted(kept))
    return Counter(counter.name, counter.unit, counter.time_ns[places], counter.values[places])
