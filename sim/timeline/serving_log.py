"""Simulates a serving run again and reads the logs of its engines: iterations, copies and preemptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.errors import InputError
from sim.looks import Progress
from sim.plain_data import on_trace
from sim.timeline.picture import Window

if TYPE_CHECKING:
    from sim.serving.results import ServingResult

_KINDS = ("iteration", "copy", "preemption")


@dataclass(frozen=True)
class ServingLog:
    """Records that touch the window, by kind, in order of when they were noted. records: float64[n, 1 + log.COLUMNS],
    the engine's number first; every: by kind, each k-th of the run was kept.
    """

    records: dict[str, np.ndarray]
    every: dict[str, int]


def logged(
    result: ServingResult,
    window: Window,
    most: int,
    scenario: str | None = None,
    trace: str | None = None,
    progress: Progress | None = None,
) -> ServingLog:
    """The run of a result again. most: records of each kind to keep; scenario, trace: files of the run.

    Raises InputError where the run cannot be had again, or is not the same.
    """
    from sim.serving.rebuilding import scenario_of, with_places
    from sim.serving.scenario import load_serving_scenario
    from sim.serving.simulation import simulate

    plain = result.manifest["scenario"]
    rebuilt = scenario_of(plain if scenario is None else with_places(plain, load_serving_scenario(scenario)))
    rebuilt = rebuilt if trace is None else on_trace(rebuilt, trace, result.folder)
    reader = _Reader(window, most)
    run = simulate(rebuilt, progress, log=reader.take)
    finish_ns = result.column("requests", "finish_ns")
    if not np.array_equal(run.calls["finish_ns"], finish_ns, equal_nan=True):
        raise InputError(
            "the run simulated again is not the one of these results: calls end at other times",
            file=result.folder,
            expected="results of this version and these inputs, or --recorded, to draw what the results hold alone",
        )
    return reader.log()


class _Reader:
    """Keeps what touches the window; of more than there is room for every second, and so on."""

    def __init__(self, window: Window, most: int):
        self._window, self._most = window, most
        self._seen = dict.fromkeys(_KINDS, 0)
        self._every = dict.fromkeys(_KINDS, 1)
        self._kept: dict[str, list[np.ndarray]] = {kind: [] for kind in _KINDS}  # columns: number, engine, the record's

    def take(self, engine: int, records: np.ndarray) -> None:
        from sim.serving.log import KIND

        for code, kind in enumerate(_KINDS):
            self._add(kind, engine, records[records[:, KIND] == code])

    def _add(self, kind: str, engine: int, records: np.ndarray) -> None:
        from sim.serving.log import END_NS, START_NS

        numbers = self._seen[kind] + np.arange(len(records))
        self._seen[kind] += len(records)
        touching = self._window.touches(records[:, START_NS], records[:, END_NS])
        kept = touching & (numbers % self._every[kind] == 0)
        self._kept[kind].append(np.column_stack([numbers[kept], np.full(kept.sum(), engine), records[kept]]))
        while sum(map(len, self._kept[kind])) > self._most:
            self._every[kind] *= 2
            whole = np.concatenate(self._kept[kind])
            self._kept[kind] = [whole[whole[:, 0] % self._every[kind] == 0]]

    def log(self) -> ServingLog:
        from sim.serving.log import COLUMNS

        nothing = np.zeros((0, 2 + COLUMNS))
        records = {kind: np.concatenate([*kept, nothing])[:, 1:] for kind, kept in self._kept.items()}
        return ServingLog(records, dict(self._every))
