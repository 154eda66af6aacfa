"""The picture of a serving run: calls by engine, what was sampled of engines, tiers and links, and, simulated again,
iterations, copies and preemptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sim.timeline.picture import Counter, Events, Group, Inner, Picture, Told, Window, in_window, shares, whole_ns

if TYPE_CHECKING:
    from sim.serving.results import ServingResult
    from sim.timeline.serving_log import ServingLog

_TIMES = ("arrival_ns", "first_scheduled_ns", "first_token_ns", "finish_ns")
_STRETCHES = ("until first scheduled", "until first token", "until finished")
_ARGS = ("input_tokens", "generated_tokens", "computed_tokens", "recomputed_tokens", "preemptions")
_TABLES_ALONE = "drawn from the tables of the results alone: without single iterations, copies and preemptions"
_NO_EVICTIONS = "evictions are not drawn one by one: those that move a block down are copies (store, lower)"


def picture_of(result: ServingResult, window: Window, log: ServingLog | None) -> Picture:
    """All that touches the window. log: what the tables do not hold, where it is wanted."""
    requests, latency_ns = _requests(result, window)
    time_ns = result.sampled("time_ns")[:, 0]
    groups = [Group("requests", events=tuple(requests))]
    for engine in range(result.manifest["replicas"]):
        counters = [in_window(one, window) for one in _of_engine(result, time_ns, engine)]
        events = tuple(_doings(log, engine)) if log else ()
        groups.append(Group(f"engine {engine}", tuple(one for one in counters if one.values.size), events))
    if log:
        groups.append(Group("copies", events=tuple(_copies(result, log))))
    parts = [in_window(one, window) for one in _of_parts(result, time_ns)]
    if parts:
        groups.append(Group("devices and links", tuple(one for one in parts if one.values.size)))
    every, note = (log.every, _NO_EVICTIONS) if log else ({}, _TABLES_ALONE)
    return Picture(tuple(groups), {"request": latency_ns}, every, (note,))


def last_ns(result: ServingResult) -> float:
    """When the last call ends."""
    return float(np.nanmax(_ends_ns(result), initial=0.0))


def _ends_ns(result: ServingResult) -> np.ndarray:
    """float64[n] when each call ended; one that was refused, when it arrived where nothing else is known."""
    finish_ns = result.column("requests", "finish_ns")
    return np.where(np.isfinite(finish_ns), finish_ns, result.column("requests", "arrival_ns"))


def _requests(result: ServingResult, window: Window) -> tuple[list[Events], np.ndarray]:
    """Slices by engine and instants of what was rejected, and how long each took."""
    times_ns = {name: result.column("requests", name) for name in _TIMES}
    ends_ns, done = _ends_ns(result), result.completed()
    shown = np.flatnonzero(window.touches(times_ns["arrival_ns"], ends_ns))
    shown = shown[np.argsort(times_ns["arrival_ns"][shown], kind="stable")]
    replica = result.column("requests", "replica")
    served = np.flatnonzero(done[shown])
    found = []
    for engine in np.unique(replica[shown[served]]).tolist():
        places = served[replica[shown[served]] == engine]
        found.append(_served(result, times_ns, shown, places, f"served by engine {engine}"))
    rejected = np.flatnonzero(~done[shown])
    if rejected.size:
        found.append(_rejected(result, times_ns["arrival_ns"], shown, rejected))
    return found, ends_ns[shown] - times_ns["arrival_ns"][shown]


def _served(
    result: ServingResult, times_ns: dict[str, np.ndarray], shown: np.ndarray, places: np.ndarray, name: str
) -> Events:
    from sim.serving.record import PARTS

    rows = shown[places]
    stops = np.column_stack([whole_ns(times_ns[one][rows]) for one in _TIMES])
    args = {one: result.column("requests", one)[rows] for one in _ARGS}
    args |= {f"hit_tokens.{tier}": result.column("requests", f"hit_tokens.{tier}")[rows] for tier in result.tier_names}
    parts = {one: result.column("requests", one)[rows] for one in PARTS}
    latency_ns = times_ns["finish_ns"][rows] - times_ns["arrival_ns"][rows]

    def told(at: int) -> Told:
        said = {"request": int(rows[at]), "latency_ns": float(latency_ns[at])}
        said |= {one: column[at].item() for one, column in {**args, **parts}.items()}
        ends = stops[at].tolist()
        inner = [Inner(what, ends[nth], ends[nth + 1]) for nth, what in enumerate(_STRETCHES)]
        return Told(f"request {rows[at]}", said, inner)

    return Events("request", name, stops[:, 0], stops[:, -1], places, told, 1 + len(_STRETCHES))


def _rejected(result: ServingResult, arrival_ns: np.ndarray, shown: np.ndarray, places: np.ndarray) -> Events:
    rows, reason = shown[places], result.column("requests", "reason")

    def told(at: int) -> Told:
        row = int(rows[at])
        return Told("rejected", {"request": row, "reason": reason.names[reason.codes[row]]})

    time_ns = whole_ns(arrival_ns[rows])
    return Events("request", "rejected", time_ns, time_ns, places, told, instants=True)


def _of_engine(result: ServingResult, time_ns: np.ndarray, engine: int) -> list[Counter]:
    """Everything sampled of it; where its time went, as shares of it."""
    from sim.serving.record import ENGINE_PARTS, SAMPLED

    counters = [Counter(name, _unit_of(name), time_ns, result.sampled(name)[:, engine]) for name in SAMPLED]
    for tier in result.tier_names:
        counters.append(Counter(f"blocks in {tier}", "blocks", time_ns, result.sampled(f"blocks.{tier}")[:, engine]))
    for part in ENGINE_PARTS:
        so_far = result.sampled(f"engine.{part}")[:, engine]
        counters.append(Counter(f"time in {part.removesuffix('_ns')}", "share", *shares(time_ns, so_far)))
    return counters


def _of_parts(result: ServingResult, time_ns: np.ndarray) -> list[Counter]:
    """What devices and links moved, a second, and as a share of what they could."""
    counters = []
    bandwidths = result.manifest["bandwidth_bytes_per_ns"]
    for column in result.table("samples").column_names:
        part = column.removeprefix("bytes.")
        if part == column:
            continue
        when, rate = shares(time_ns, result.sampled(column)[:, 0])
        counters.append(Counter(f"{part} bytes a second", "bytes/s", when, rate * 1e9))
        if part in bandwidths:
            counters.append(Counter(f"{part} in use", "share", when, rate / bandwidths[part]))
    return counters


# --- from the run simulated again ------------------------------------------------------------------------------------


def _doings(log: ServingLog, engine: int) -> Iterator[Events]:
    """Iterations and preemptions of one engine."""
    from sim.serving.log import BLOCKS, CALL, END_NS, PREFILLS, SEQUENCES, START_NS, TOKENS

    records = log.records["iteration"]
    rows = np.flatnonzero(records[:, 0] == engine)
    own = records[rows, 1:]

    def iteration(at: int) -> Told:
        tokens, sequences, prefills = (int(own[at, column]) for column in (TOKENS, SEQUENCES, PREFILLS))
        name = "decode" if prefills == 0 else "prefill" if prefills == sequences else "prefill and decode"
        return Told(name, {"tokens": tokens, "sequences": sequences, "prefills": prefills})

    if rows.size:
        start_ns, end_ns = whole_ns(own[:, START_NS]), whole_ns(own[:, END_NS])
        yield Events("iteration", "iterations", start_ns, end_ns, rows, iteration)
    preempted = log.records["preemption"]
    places = np.flatnonzero(preempted[:, 0] == engine)
    theirs = preempted[places, 1:]
    if places.size:
        time_ns = whole_ns(theirs[:, START_NS])
        yield Events(
            "preemption",
            "preemptions",
            time_ns,
            time_ns,
            places,
            lambda at: Told("preemption", {"request": int(theirs[at, CALL]), "blocks": int(theirs[at, BLOCKS])}),
            instants=True,
        )


def _copies(result: ServingResult, log: ServingLog) -> list[Events]:
    """Slices from when a copy was asked for until its last block had come, by purpose and way."""
    from sim.serving.log import BLOCKS, CALL, END_NS, PURPOSE, SOURCE, START_NS, TARGET
    from sim.serving.network import PURPOSES

    records = log.records["copy"][:, 1:]
    ends = (*result.tier_names, "another engine")
    ways = [tuple(row) for row in records[:, [PURPOSE, SOURCE, TARGET]].astype(int).tolist()]

    def events_of(way: tuple[int, ...]) -> Events:
        purpose, source, target = way
        rows = np.flatnonzero([one == way for one in ways])
        name = f"{PURPOSES[purpose]} {ends[source]} to {ends[target]}"
        start_ns, end_ns = whole_ns(records[rows, START_NS]), whole_ns(records[rows, END_NS])

        def told(at: int) -> Told:
            blocks, call = int(records[rows[at], BLOCKS]), int(records[rows[at], CALL])
            args = {"engine": int(log.records["copy"][rows[at], 0]), "blocks": blocks}
            args["bytes"] = blocks * result.manifest["block_bytes"]
            return Told(PURPOSES[purpose], args | ({"request": call} if call >= 0 else {}))

        return Events("copy", name, start_ns, end_ns, rows, told)

    return [events_of(way) for way in sorted(set(ways))]


def _unit_of(name: str) -> str:
    return "blocks" if "blocks" in name else "tokens" if "tokens" in name else "count"
