"""The picture of a run of a hierarchy: requests by serving tier, samples of tiers and, simulated again, what moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.timeline.picture import Counter, Events, Group, Picture, Told, Window, in_window, shares, whole_ns

if TYPE_CHECKING:
    from sim.hierarchy import Hierarchy
    from sim.results import Result
    from sim.timeline.recording import Recording

_SECOND_NS = 1e9
_PARTS = ("queue_ns", "device_ns", "link_ns", "wait_ns")
_OF_STRETCH = ("hit_ratio",)  # columns of `tiers` that tell of the time since the sample before
_UNITS = (("_bytes", "bytes"), ("_ns", "ns"), ("_blocks", "blocks"), ("_ratio", "share"), ("fragmentation", "share"))


def picture_of(result: Result, window: Window, recording: Recording | None) -> Picture:
    """All that touches the window. recording: what the tables do not hold, where it is wanted."""
    requests, latency_ns = _requests(result, window)
    samples, parts = _samples(result, window), _parts(result, window)
    moved = _Moved(recording) if recording is not None else None
    evictions = moved.evictions() if moved else {}
    groups = [Group("requests", events=tuple(requests))]
    if moved:
        groups.append(Group("transfers", events=tuple(moved.transfers())))
    for tier in result.tier_names:
        counters = (*samples.get(tier, ()), *parts.get(f"tier.{tier}", ()))
        events = (*evictions.get(tier, ()), *(moved.servers("tier", tier) if moved else ()))
        groups.append(Group(f"tier {tier}", counters, events))
    for link in result.manifest["links"]:
        events = tuple(moved.servers("link", link)) if moved else ()
        groups.append(Group(f"link {link}", tuple(parts.get(f"link.{link}", ())), events))
    ranked = {"request": latency_ns}
    every = {"transfer": recording.every, "eviction": recording.evictions_every} if recording else {}
    return Picture(tuple(groups), ranked, every, tuple(_notes(recording)))


def last_ns(result: Result) -> float:
    """When the last request is answered."""
    return float(np.nanmax(_ends_ns(result), initial=0.0))


def _ends_ns(result: Result) -> np.ndarray:
    return result.column("requests", "arrival_ns") + result.column("requests", "latency_ns")


def _notes(recording: Recording | None) -> list[str]:
    if recording is None:
        return ["drawn from the tables of the results alone: without transfers and evictions"]
    return []


# --- from the tables -------------------------------------------------------------------------------------------------


def _requests(result: Result, window: Window) -> tuple[list[Events], np.ndarray]:
    """Slices by serving tier, and the latency of each request that has any."""
    arrival_ns, latency_ns = result.column("requests", "arrival_ns"), result.column("requests", "latency_ns")
    served_by, outcome = result.column("requests", "served_by"), result.column("requests", "outcome")
    parts = {name: result.column("requests", name) for name in _PARTS}
    ends_ns = arrival_ns + latency_ns
    shown = np.flatnonzero(~np.isnan(latency_ns) & window.touches(arrival_ns, ends_ns))
    shown = shown[np.argsort(arrival_ns[shown], kind="stable")]
    start_ns, end_ns = whole_ns(arrival_ns[shown]), whole_ns(ends_ns[shown])
    tier_of = served_by.codes[shown]

    def events_of(code: int, tier: str) -> Events:
        places = np.flatnonzero(tier_of == code)
        rows = shown[places]

        def told(at: int) -> Told:
            row = int(rows[at])
            args = {"request": row, "latency_ns": float(latency_ns[row])}
            args |= {name: float(parts[name][row]) for name in _PARTS}
            return Told(outcome.names[outcome.codes[row]], args)

        return Events("request", f"served by {tier}", start_ns[places], end_ns[places], places, told)

    by_tier = [events_of(code, served_by.names[code]) for code in np.unique(tier_of).tolist()]
    order = {tier: at for at, tier in enumerate(result.tier_names)}
    by_tier.sort(key=lambda one: order.get(one.name.removeprefix("served by "), len(order)))
    return by_tier, latency_ns[shown]


def _samples(result: Result, window: Window) -> dict[str, list[Counter]]:
    """Every number of the table `tiers`, by tier."""
    table = result.table("tiers")
    tier = result.column("tiers", "tier")
    names = [name for name in table.column_names if name not in ("tier", "time_ns")]
    all_times_ns = result.column("tiers", "time_ns")
    columns = {name: table.column(name).to_numpy() for name in names}
    found: dict[str, list[Counter]] = {}
    for code, of_tier in enumerate(tier.names):
        own = tier.codes == code
        counters = []
        for name in names:
            time_ns, values = all_times_ns[own], columns[name][own].astype(float)
            if name in _OF_STRETCH:  # each tells of the time from the sample before on
                time_ns, values = time_ns[:-1], values[1:]
            counters.append(in_window(Counter(name, unit_of(name), time_ns, values), window))
        found[of_tier] = [one for one in counters if one.values.size]
    return found


def _parts(result: Result, window: Window) -> dict[str, list[Counter]]:
    """By device and link, of each direction between samples: its bytes a second, the time that it will be held by what
    reached it, a time (of a device, both directions together), and the time that this will have waited, a time.

    All three count from when a transfer reaches the server, so that more may come than can be done by the next sample.
    """
    part = result.column("parts", "part")
    columns = {name: result.column("parts", name) for name in ("time_ns", "bytes", "wait_ns", "busy_ns")}
    found: dict[str, list[Counter]] = {}
    for code, name in enumerate(part.names):
        own = part.codes == code
        of_part, _, way = name.rpartition(".")
        counters = found.setdefault(of_part, [])
        time_ns, so_far = columns["time_ns"][own], {what: column[own] for what, column in columns.items()}
        when, bytes_per_ns = shares(time_ns, so_far["bytes"])
        counters.append(Counter(f"{way} bytes a second", "bytes/s", when, bytes_per_ns * _SECOND_NS))
        counters.append(Counter(f"{way} waiting taken on", "time/time", *shares(time_ns, so_far["wait_ns"])))
        work = "work taken on" if of_part.startswith("tier.") else f"{way} work taken on"
        if work not in [one.name for one in counters]:
            counters.append(Counter(work, "time/time", *shares(time_ns, so_far["busy_ns"])))
    clipped = {name: [in_window(one, window) for one in counters] for name, counters in found.items()}
    return {name: [one for one in counters if one.values.size] for name, counters in clipped.items()}


def unit_of(name: str) -> str:
    """The unit that a column's name ends with."""
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), "count")


# --- from the run simulated again ------------------------------------------------------------------------------------


class _Way(NamedTuple):
    """What a transfer is called, by its purpose and route."""

    track: str
    name: str


class _Moved:
    """Transfers, what servers did for them, and evictions."""

    def __init__(self, recording: Recording):
        self._recording, self._hierarchy = recording, recording.hierarchy
        stages = recording.stages
        order = np.lexsort((stages["start_ns"], stages["reached_ns"], stages["number"]))
        self._stages = {name: column[order] for name, column in stages.items()}
        engine = self._hierarchy.engine
        first = np.asarray(engine.first_stage)
        self._route = np.searchsorted(first, self._stages["stage"], side="right") - 1
        self._column = np.asarray(engine.stages)[self._stages["stage"], 2].astype(np.int64)
        self._is_first = self._stages["stage"] == first[self._route]
        numbers = np.unique(self._stages["number"], return_index=True, return_inverse=True)
        self._number, self._begins, self._rank = numbers
        self._address = engine.res.address_of

    def transfers(self) -> list[Events]:
        """Slices from the first server reached until the last byte has passed the last one, by purpose and way."""
        stages = self._stages
        number, begins, at = self._number, self._begins, self._rank
        end_ns = np.full(number.size, -np.inf)
        np.maximum.at(end_ns, at, stages["end_ns"])
        size = np.zeros(number.size, np.int64)
        np.add.at(size, at[self._is_first], stages["size_bytes"][self._is_first])
        start_ns = stages["reached_ns"][begins]
        ways = [self._way(int(row)) for row in begins]
        tracks = dict.fromkeys(way.track for way in ways)
        track_of = np.array([list(tracks).index(way.track) for way in ways], np.int64)

        def events_of(track: int, name: str) -> Events:
            own = np.flatnonzero(track_of == track)

            def told(place: int) -> Told:
                row = int(begins[own[place]])
                args = {"transfer": int(number[own[place]]), "bytes": int(size[own[place]])}
                return Told(ways[own[place]].name, args | self._whose(row))

            return Events("transfer", name, whole_ns(start_ns[own]), whole_ns(end_ns[own]), own, told)

        return [events_of(track, name) for track, name in enumerate(tracks)]

    def _whose(self, row: int) -> dict[str, int]:
        stages = self._stages
        block, request = int(stages["block"][row]), int(stages["request"][row])
        return {"block": int(self._address[block]), **({"request": request} if request >= 0 else {})}

    def _way(self, row: int) -> _Way:
        from sim.engines import block_cache as bc
        from sim.engines.residency import CAUSES

        tiers, levels = self._hierarchy.tiers, len(self._hierarchy.tiers)
        kind, ends = divmod(int(self._route[row]), levels * levels)
        source, target = divmod(ends, levels)
        purpose = bc.PURPOSES[self._stages["purpose"][row]]
        if kind == bc.FROM_LEVEL:
            return _Way(f"read from {tiers[source]}", "read")
        if kind == bc.TO_LEVEL:
            return _Way(f"write to {tiers[source]}", "write")
        if purpose == "move":
            purpose = CAUSES[-1 - int(self._stages["request"][row])]
        return _Way(f"{purpose} {tiers[source]} to {tiers[target]}", purpose)

    def servers(self, part: str, name: str) -> list[Events]:
        """Slices by direction of a device or link: from when it begins with a transfer until that has passed."""
        found = []
        for number, column in enumerate(self._hierarchy.columns):
            if (column.part, column.name) == (part, name) and (self._column == number).any():
                found.append(self._server(number, column.direction))
        return found

    def _server(self, column: int, direction: str) -> Events:
        stages = self._stages
        rows = np.flatnonzero(self._column == column)
        rows = rows[np.argsort(stages["start_ns"][rows], kind="stable")]

        def told(at: int) -> Told:
            row = int(rows[at])
            queued_ns = float(stages["start_ns"][row] - stages["reached_ns"][row])
            args = {"transfer": int(stages["number"][row]), "bytes": int(stages["size_bytes"][row])}
            return Told(self._way(row).name, {**args, "queued_ns": queued_ns, **self._whose(row)})

        start_ns, end_ns = whole_ns(stages["start_ns"][rows]), whole_ns(stages["end_ns"][rows])
        return Events("transfer", direction, start_ns, end_ns, self._rank[rows], told)

    def evictions(self) -> dict[str, list[Events]]:
        """Instants, by tier."""
        gone, tiers = self._recording.evictions, self._hierarchy.tiers
        found = {}
        for level, tier in enumerate(tiers):
            rows = np.flatnonzero(gone["level"] == level)
            if rows.size:
                found[tier] = [_evictions_of(gone, rows, self._hierarchy)]
        return found


def _evictions_of(gone: dict[str, np.ndarray], rows: np.ndarray, hierarchy: Hierarchy) -> Events:
    tiers, addresses = hierarchy.tiers, hierarchy.engine.res.address_of

    def told(at: int) -> Told:
        row = int(rows[at])
        target = int(gone["target"][row])
        args = {"block": int(addresses[gone["block"][row]]), "bytes": int(gone["size_bytes"][row])}
        args |= {"written": bool(gone["dirty"][row]), "to": tiers[target] if target >= 0 else "nowhere"}
        return Told("eviction", args)

    time_ns = whole_ns(gone["time_ns"][rows])
    return Events("eviction", "evictions", time_ns, time_ns, rows, told, instants=True)
