"""Says what is wrong with a Chrome trace, by the Trace Event Format and by what Perfetto's reader of it asks for.

Rules of the format: Duca and Sinclair, "Trace Event Format", 2016. Of Perfetto's reader (its sources,
`trace_processor/importers/json`): the whole number of nanoseconds of `ts` is cut from its digits, that of `dur` from
the floating-point number times 1000; a thread is found by its number alone; slices of a thread that overlap without
lying within each other are dropped; the value of a counter must be a number.

Only what `sim.timeline` writes is known: complete events (X), instants (i), counters (C) and metadata (M).
"""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

_NAMING = {
    "process_name": "name",
    "process_sort_index": "sort_index",
    "thread_name": "name",
    "thread_sort_index": "sort_index",
}
_LARGEST_NUMBER = 2**32 - 1


def read(path: Path) -> dict[str, Any]:
    """A trace, read as strictly as JSON can be: no NaN, no key twice."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)


def _refuse(name: str):
    raise ValueError(f"{name} is not JSON")


def _unique(pairs):
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError(f"a key twice in {pairs}")
    return made


def start_ns(event: dict[str, Any]) -> int:
    return round(event["ts"] * 1000)


def end_ns(event: dict[str, Any]) -> int:
    """Of an instant, its time."""
    return start_ns(event) + int(event.get("dur", 0.0) * 1000.0)


def problems(document: Any) -> list[str]:
    """One sentence each; none where nothing is wrong."""
    if not isinstance(document, dict) or not isinstance(document.get("traceEvents"), list):
        return ["no list of traceEvents"]
    found = [] if document.get("displayTimeUnit") in ("ns", "ms") else ["displayTimeUnit is neither ns nor ms"]
    events = document["traceEvents"]
    for number, event in enumerate(events):
        found += [f"event {number}: {problem}" for problem in _of_event(event)]
    return found or [*_of_names(events), *_of_slices(events), *_of_counters(events)]


def _of_event(event: Any) -> list[str]:
    if not isinstance(event, dict):
        return ["not an object"]
    phase = event.get("ph")
    if phase not in ("X", "i", "C", "M"):
        return [f"unknown phase {phase!r}"]
    found = [] if isinstance(event.get("name"), str) and event["name"] else ["no name"]
    found += [] if _is_number_of_track(event.get("pid")) else ["no pid"]
    on_thread = phase in ("X", "i") or event.get("name", "").startswith("thread_")
    found += [] if not on_thread or _is_number_of_track(event.get("tid")) else ["no tid"]
    found += [] if phase == "M" or _is_time(event.get("ts")) else ["no time"]
    found += [] if isinstance(event.get("args", {}), dict) else ["args are not an object"]
    if phase == "X" and not _is_time(event.get("dur")):
        found.append("no duration")
    if phase == "i" and event.get("s", "t") not in ("g", "p", "t"):
        found.append("unknown scope")
    if phase == "C" and not (event.get("args") and all(map(_is_finite, event["args"].values()))):
        found.append("a counter without a number")
    if phase == "M":
        found += _of_metadata(event)
    return found


def _of_metadata(event: dict[str, Any]) -> list[str]:
    key = _NAMING.get(event.get("name"))
    if key is None:
        return ["unknown metadata"]
    value = event.get("args", {}).get(key)
    right = isinstance(value, str) and value if key == "name" else isinstance(value, int)
    return [] if right else [f"metadata without {key}"]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_time(value: Any) -> bool:
    return _is_finite(value) and value >= 0


def _is_number_of_track(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_NUMBER


def _of_names(events: list[dict[str, Any]]) -> list[str]:
    """Every process and thread has one name, and a thread one process."""
    found, processes, threads = [], {}, {}
    for event in events:
        if event["name"] == "process_name" and event["ph"] == "M":
            if event["pid"] in processes:
                found.append(f"process {event['pid']} is named twice")
            processes[event["pid"]] = event["args"]["name"]
        if event["name"] == "thread_name" and event["ph"] == "M":
            if event["tid"] in threads:
                found.append(f"thread {event['tid']} is named twice")
            threads[event["tid"]] = event["pid"]
    for event in events:
        if event["pid"] not in processes:
            found.append(f"process {event['pid']} has no name")
        if event["ph"] in ("X", "i") and threads.get(event["tid"]) != event["pid"]:
            found.append(f"thread {event['tid']} of process {event['pid']} has no name")
    found += [f"thread {tid} has the number of a process" for tid in threads if tid in processes]
    return list(dict.fromkeys(found))


def _of_slices(events: list[dict[str, Any]]) -> list[str]:
    """On each thread, slices follow each other or lie within each other."""
    by_thread: dict[int, list[tuple[int, int, int]]] = {}
    for number, event in enumerate(events):
        if event["ph"] == "X":
            by_thread.setdefault(event["tid"], []).append((start_ns(event), -end_ns(event), number))
    found = []
    for slices in by_thread.values():
        around: list[int] = []  # ends of the slices that the one at hand may lie in
        for start, minus_end, number in sorted(slices):
            while around and around[-1] <= start:
                around.pop()
            if around and -minus_end > around[-1]:
                found.append(f"event {number}: overlaps a slice of its thread")
            around.append(-minus_end)
    return found


def _of_counters(events: list[dict[str, Any]]) -> list[str]:
    found, latest = [], {}
    for number, event in enumerate(events):
        if event["ph"] == "C":
            key = (event["pid"], event["name"], tuple(event["args"]))
            if event["ts"] < latest.get(key, 0.0):
                found.append(f"event {number}: the counter goes back in time")
            latest[key] = event["ts"]
    return found
