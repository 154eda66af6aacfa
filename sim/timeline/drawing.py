"""Writes a picture as a trace: what there is room for, slices that overlap on lanes beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sim.timeline.lanes import lanes_of
from sim.timeline.picture import Events, Picture
from sim.timeline.sampling import Sample, room_of, thinned
from sim.timeline.trace_file import TraceFile, written


class Drawn(NamedTuple):
    """What was written. kinds: by kind, how many were to choose from (in_picture), of how many in the window one of
    these is (read_every), how many are drawn, and of how many in the window one of those is, but for the slowest.
    """

    events: int
    kinds: dict[str, dict[str, Any]]


def draw(picture: Picture, path: Path, most: int, facts: Mapping[str, Any]) -> Drawn:
    """Write the file. Raises InputError where it cannot be written, or `most` is too few."""
    room = room_of(picture, most)
    kinds = {kind: _told_of(picture, kind, sample) for kind, sample in room.samples.items()}
    whole = {**facts, "notes": list(picture.notes), "kinds": kinds, "values_a_counter_at_most": room.values}
    with written(path, whole) as trace:
        for group in picture.groups:
            process = trace.process(group.name)
            for counter in group.counters:
                few = thinned(counter, room.values)
                times_ns = np.rint(few.time_ns).astype(np.int64).tolist()
                for time_ns, value in zip(times_ns, few.values.tolist(), strict=True):
                    trace.counter(process, time_ns, few.name, few.unit, value)
            for events in group.events:
                phrase = room.samples[events.kind].phrase(picture.every.get(events.kind, 1))
                _draw_events(trace, process, events, room.samples[events.kind], phrase)
        return Drawn(trace.events, kinds)


def _told_of(picture: Picture, kind: str, sample: Sample) -> dict[str, Any]:
    numbers = [one.number for group in picture.groups for one in group.events if one.kind == kind]
    there = np.zeros(sample.kept.size, bool)
    for one in numbers:
        there[one] = True
    drawn = int(np.count_nonzero(there & sample.kept))
    read_every = picture.every.get(kind, 1)
    every = sample.every * read_every
    read = {"in_picture": int(there.sum()), "read_every": read_every}
    return {**read, "drawn": drawn, "every": every, "slowest": sample.slowest}


def _draw_events(trace: TraceFile, process: int, events: Events, sample: Sample, phrase: str) -> None:
    places = np.flatnonzero(sample.kept[events.number])
    places = places[np.argsort(events.start_ns[places], kind="stable")]
    start_ns, end_ns = events.start_ns[places], events.end_ns[places]
    lanes = np.zeros(places.size, np.int64) if events.instants else lanes_of(start_ns, end_ns)
    count = int(lanes.max(initial=-1)) + 1
    names = [f"{events.name}{phrase}" + (f" #{lane + 1}" if count > 1 else "") for lane in range(count)]
    tracks = [trace.track(process, name) for name in names]
    rows = zip(places.tolist(), start_ns.tolist(), end_ns.tolist(), lanes.tolist(), strict=True)
    for place, start, end, lane in rows:
        name, args, inner = events.told(place)
        if events.instants:
            trace.instant(process, tracks[lane], start, name, events.kind, args)
            continue
        trace.slice(process, tracks[lane], start, end, name, events.kind, args)
        for part in inner:
            if part.end_ns > part.start_ns:
                trace.slice(process, tracks[lane], part.start_ns, part.end_ns, part.name, events.kind, {})
