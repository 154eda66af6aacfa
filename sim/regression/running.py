"""Does the runs of baselines, in this process or in several."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from sim.comparing import configuration
from sim.errors import InputError
from sim.regression.baseline import Task

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Measured:
    """What one run gave: its summary, what it was of, why metrics are left out; or the lines that say why it failed."""

    summary: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    error: tuple[str, ...] = ()


def measured(task: Task) -> Measured:
    """Do one run. What is wrong with it is told in what is returned."""
    from sim.scenario_kind import kind_of

    try:
        kind = kind_of(task.scenario)
        scenario, label = kind.load(task.scenario, task.set, task.seed), task.policy
        if label is not None:
            label, scenario = kind.variants(scenario, [label], task.tier)[0]
        result = kind.run(scenario, kind.inputs(scenario), label or scenario.name)
    except InputError as error:
        return Measured(error=tuple(error.lines))
    told = {name: value for name, value in result.summary.items() if math.isfinite(value)}
    return Measured(told, configuration(result), result.manifest.get("left_out", {}))


def run_all(tasks: Sequence[Task], jobs: int, progress: Progress | None = None) -> list[Measured]:
    """What each task gave, in their order. jobs: how many processes work on them; with 1 it is this one."""
    found: list[Measured | None] = [None] * len(tasks)
    for done, (at, one) in enumerate(_one_by_one(tasks) if jobs == 1 else _in_processes(tasks, jobs), 1):
        found[at] = one
        if progress is not None:
            progress(done, len(tasks))
    return [one for one in found if one is not None]


def _one_by_one(tasks: Sequence[Task]) -> Iterator[tuple[int, Measured]]:
    for at, task in enumerate(tasks):
        yield at, measured(task)


def _in_processes(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[int, Measured]]:
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("spawn"))
    try:
        places = {pool.submit(measured, task): at for at, task in enumerate(tasks)}
        for future in as_completed(places):
            yield places[future], _outcome(future)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _outcome(future: Future) -> Measured:
    try:
        return future.result()
    except BrokenProcessPool:
        return Measured(error=("the process that ran it was killed, perhaps because memory ran out",))
