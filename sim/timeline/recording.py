"""Simulates the run of a hierarchy again and reads its engine's log: each transfer, server by server, and eviction.

What is read fills a bounded place: of a run with more transfers than that has room for, every second is forgotten, and
then every second of those, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sim import result_files
from sim.errors import InputError
from sim.looks import Progress
from sim.plain_data import on_trace
from sim.timeline.picture import Window

if TYPE_CHECKING:
    from sim.hierarchy import Hierarchy
    from sim.results import Result
    from sim.simulation import Simulation

_ROUNDS = 64  # in which what began in the window may end after it
_SEGMENT = 1 << 40  # more than there are transfers


@dataclass(frozen=True)
class Recording:
    """What was read. Numbers of transfers and evictions count all of the run up to the end of the window, in order of
    time; every: each k-th was kept.

    stages: by name, a value a server that a transfer passed: number (of the transfer), stage, reached_ns, start_ns,
        end_ns, size_bytes, purpose, block, request (or, of a move, -1 - its cause). evictions: number, level, time_ns,
        size_bytes, target (a level, or less than 0), block, dirty.
    """

    simulation: Simulation
    stages: Mapping[str, np.ndarray]
    evictions: Mapping[str, np.ndarray]
    every: int
    evictions_every: int

    @property
    def hierarchy(self) -> Hierarchy:
        return self.simulation.hierarchy


def recorded(
    result: Result,
    window: Window,
    most: int,
    scenario: str | None = None,
    trace: str | None = None,
    progress: Progress | None = None,
) -> Recording:
    """The run of a result again, as far as the window goes. most: records to keep; scenario, trace: files of the run.

    Raises InputError where the run cannot be had again, or is not the same.
    """
    from sim.rebuilding import scenario_of, with_places
    from sim.scenario import load_scenario
    from sim.simulation import simulate

    plain = result.manifest["scenario"]
    rebuilt = scenario_of(plain if scenario is None else with_places(plain, load_scenario(scenario)))
    rebuilt = rebuilt if trace is None else on_trace(rebuilt, trace, result.folder)
    reader = Reader(window, most)
    simulation = simulate(rebuilt, progress=progress, log=reader)
    _check_same(result, simulation)
    return reader.recording(simulation)


def _check_same(result: Result, simulation: Simulation) -> None:
    """Raises InputError where requests were not answered when the results say."""
    answers = simulation.hierarchy.engine.answers
    latency_ns = result.column("requests", "latency_ns")
    differs = np.zeros(0, np.int64)
    if latency_ns.size == answers.latency_ns.size:
        differs = np.flatnonzero(~np.isnan(answers.latency_ns) & (answers.latency_ns != latency_ns))
    if latency_ns.size != answers.latency_ns.size or differs.size:
        at = f"request {int(differs[0])} takes another time" if differs.size else "it has another number of requests"
        raise InputError(
            f"the run simulated again is not the one of these results: {at}{_changed(result, simulation)}",
            file=result.folder,
            expected="results of this version and these inputs, or --recorded, to draw what the results hold alone",
        )


def _changed(result: Result, simulation: Simulation) -> str:
    """What of the inputs is another, as far as digests tell."""
    manifest = result.manifest
    changed = [
        name
        for name, was, now in (
            ("the profile", manifest["profile"]["digest"], simulation.profile.digest),
            ("the trace", manifest["trace"]["digest"], simulation.trace_digest),
            ("versions", manifest["versions"], result_files.versions()),
        )
        if was != now
    ]
    return f" ({', '.join(changed)} changed)" if changed else ""


class Reader:
    """Sorts the records of a log by the transfers that they are of (`sim.simulation.LogReader`)."""

    def __init__(self, window: Window, most: int):
        self._window, self._most = window, most

    def begin(self, hierarchy: Hierarchy) -> None:
        engine = hierarchy.engine
        self._first_stage = engine.first_stage
        self._driven = len(engine.devices.states) > 0
        self._transfers, self._evicted = 0, 0  # so far
        self._current = np.zeros(len(engine.times), np.int64)  # by slot: the transfer that has it
        self._wholes: dict[int, tuple[float, int]] = {}  # by slot of what was cut: when it began, and its number
        self._stages: list[np.ndarray] = []
        self._evictions: list[np.ndarray] = []
        self._every, self._evictions_every, self._rounds = 1, 1, 0

    def until_ns(self, now_ns: float) -> float:
        """To the end of the window, and on until what began in it has ended."""
        if self._window.to_ns == np.inf or self._driven or self._rounds >= _ROUNDS:
            return np.inf
        if now_ns < self._window.to_ns:
            return float(np.nextafter(self._window.to_ns, np.inf))
        if self._under_way_in_window() == 0:
            return now_ns
        self._rounds += 1
        return now_ns + (self._window.to_ns - self._window.from_ns) * 0.1 * self._rounds

    def take(self, records: np.ndarray) -> None:
        from sim.engines import block_cache as bc

        evicted = records[:, bc.LOG_SLOT] == bc.EVICTED
        self._take_evictions(records[evicted])
        self._take_stages(records[~evicted])

    def _take_evictions(self, records: np.ndarray) -> None:
        from sim.engines import block_cache as bc

        numbers = self._evicted + np.arange(len(records))
        self._evicted += len(records)
        time_ns = records[:, bc.LOG_START_NS]
        kept = (numbers % self._evictions_every == 0) & self._window.touches(time_ns, time_ns)
        self._evictions.append(np.column_stack([numbers[kept], records[kept]]))
        while sum(map(len, self._evictions)) > self._most:
            self._evictions_every *= 2
            whole = np.concatenate(self._evictions)
            self._evictions = [whole[whole[:, 0] % self._evictions_every == 0]]

    def _take_stages(self, records: np.ndarray) -> None:
        numbers = self._numbers_of(records)
        kept = numbers % self._every == 0
        self._stages.append(np.column_stack([numbers[kept], records[kept]]))
        if sum(map(len, self._stages)) > self._most:
            self._forget()

    def _numbers_of(self, records: np.ndarray) -> np.ndarray:
        """int64[n] the transfer of each record: a new one where a slot is at the first stage of a route."""
        from sim.engines import block_cache as bc

        slots = records[:, bc.LOG_SLOT].astype(np.int64)
        begins = np.isin(records[:, bc.LOG_STAGE].astype(np.int64), self._first_stage[:-1])
        new = self._new_numbers(records, begins)
        if slots.size and slots.max() >= self._current.size:
            self._current = np.concatenate([self._current, np.zeros(int(slots.max()) + 1, np.int64)])
        # of each slot's records in order, the latest beginning so far; of those before any, what had the slot before
        order = np.argsort(slots, kind="stable")
        segment = np.cumsum(np.diff(slots[order], prepend=-3) != 0)
        latest = np.where(begins[order], np.arange(order.size), -1) + segment * _SEGMENT
        latest = np.maximum.accumulate(latest) - segment * _SEGMENT if order.size else latest
        numbers = np.empty(slots.size, np.int64)
        fresh = latest >= 0
        numbers[order[fresh]] = new[order[latest[fresh]]]
        numbers[order[~fresh]] = self._current[slots[order[~fresh]]]
        self._current[slots[slots >= 0]] = numbers[slots >= 0]
        return numbers

    def _new_numbers(self, records: np.ndarray, begins: np.ndarray) -> np.ndarray:
        """int64[n] numbers for what begins; chunks of one whole have one."""
        from sim.engines import block_cache as bc

        new = np.full(len(records), -1, np.int64)
        whole = records[:, bc.LOG_WHOLE]
        counted = begins & (whole < 0)
        chunks = np.flatnonzero(begins & (whole >= 0))
        for at in chunks.tolist():  # all chunks of a whole set out at one time
            slot, reached_ns = int(whole[at]), float(records[at, bc.LOG_REACHED_NS])
            if self._wholes.get(slot, (-1.0, 0))[0] != reached_ns:
                self._wholes[slot] = (reached_ns, -1)
                counted[at] = True
        numbers = self._transfers + np.cumsum(counted) - 1
        self._transfers += int(counted.sum())
        new[counted] = numbers[counted]
        for at in chunks.tolist():
            slot = int(whole[at])
            reached_ns, known = self._wholes[slot]
            if counted[at]:
                self._wholes[slot] = (reached_ns, int(new[at]))
            else:
                new[at] = known
        return new

    def _forget(self) -> None:
        """What ended before the window, and then every second transfer, until half the room is free."""
        whole = np.concatenate(self._stages)
        self._stages = [whole]
        if not self._driven:
            whole = whole[~np.isin(whole[:, 0], self._ended_before_window(whole))]
        while len(whole) > self._most // 2:
            self._every *= 2
            whole = whole[whole[:, 0] % self._every == 0]
        self._stages = [whole]

    def _ended_before_window(self, whole: np.ndarray) -> np.ndarray:
        from sim.engines import block_cache as bc

        last = self._is_last(whole) & (whole[:, 1 + bc.LOG_END_NS] < self._window.from_ns)
        return whole[last, 0]

    def _is_last(self, whole: np.ndarray) -> np.ndarray:
        from sim.engines import block_cache as bc

        return np.isin(whole[:, 1 + bc.LOG_STAGE].astype(np.int64) + 1, self._first_stage)

    def _under_way_in_window(self) -> int:
        """How many transfers that began by the end of the window have not passed their last server."""
        from sim.engines import block_cache as bc

        whole = np.concatenate([*self._stages, np.zeros((0, 1 + bc.LOG_COLUMNS))])
        self._stages = [whole]
        began = whole[whole[:, 1 + bc.LOG_REACHED_NS] <= self._window.to_ns, 0]
        return np.setdiff1d(began, whole[self._is_last(whole), 0]).size

    def recording(self, simulation: Simulation) -> Recording:
        """What was read, of transfers and evictions that touch the window alone."""
        from sim.engines import block_cache as bc

        whole = np.concatenate([*self._stages, np.zeros((0, 1 + bc.LOG_COLUMNS))])
        ids, inverse = np.unique(whole[:, 0], return_inverse=True)
        first_ns, last_ns = np.full(ids.size, np.inf), np.full(ids.size, -np.inf)
        np.minimum.at(first_ns, inverse, whole[:, 1 + bc.LOG_REACHED_NS])
        np.maximum.at(last_ns, inverse, whole[:, 1 + bc.LOG_END_NS])
        whole = whole[self._window.touches(first_ns, last_ns)[inverse]]
        gone = np.concatenate([*self._evictions, np.zeros((0, 1 + bc.LOG_COLUMNS))])
        return Recording(
            simulation=simulation,
            stages=_columns(
                whole,
                number=-1,
                stage=bc.LOG_STAGE,
                reached_ns=bc.LOG_REACHED_NS,
                start_ns=bc.LOG_START_NS,
                end_ns=bc.LOG_END_NS,
                size_bytes=bc.LOG_SIZE,
                purpose=bc.LOG_PURPOSE,
                block=bc.LOG_BLOCK,
                request=bc.LOG_ROW,
            ),
            evictions=_columns(
                gone,
                number=-1,
                level=bc.LOG_STAGE,
                time_ns=bc.LOG_START_NS,
                size_bytes=bc.LOG_SIZE,
                target=bc.LOG_PURPOSE,
                block=bc.LOG_BLOCK,
                dirty=bc.LOG_ROW,
            ),
            every=self._every,
            evictions_every=self._evictions_every,
        )


def _columns(table: np.ndarray, **places: int) -> dict[str, Any]:
    """By name; times as float64, all else as int64. A place counts from the second column on."""
    return {
        name: table[:, 1 + at] if name.endswith("_ns") else table[:, 1 + at].astype(np.int64)
        for name, at in places.items()
    }
