"""Runs the points of a sweep that are not there yet, on any executor, with a bounded number of them in flight.

What points share is done once: inputs that several have are put into a folder before the first of them, and of all that
run on the same machine code the first runs alone, so that no two processes compile the same.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

from sim.errors import InputError
from sim.sweep.executors import Workers
from sim.sweep.folder import SHARED
from sim.sweep.planning import Point
from sim.sweep.work import Outcome, Prepared, Task, cannot_write, error_lines, prepare, run_point, write_error

_QUEUED_EACH = 2  # tasks in flight for each that runs, so that none waits for the next
_MOST_DEATHS = 2  # of processes that ran a point, before it is the point's fault

Progress = Callable[[int, int, int], None]  # runs done, of these failed, runs in all


@dataclass(frozen=True)
class _Job:
    """A run, or, where it has a place, the preparation of inputs."""

    task: Task
    place: str = ""


def _submitted(job: _Job, workers: Workers) -> Future:
    """One that has failed already where the executor takes nothing any more."""
    try:
        if job.place:
            return workers.executor.submit(prepare, job.task, job.place)
        return workers.executor.submit(run_point, job.task)
    except BrokenExecutor as error:
        failed: Future = Future()
        failed.set_exception(error)
        return failed


def run_points(
    points: Sequence[Point], folder: Path, workers: Workers, reported: Callable[[Outcome], None] | None = None
) -> None:
    """Run these points into the sweep's folder. reported: called with each that is done, when it is on disk.

    Raises InputError where results cannot be written, or the workers are gone.
    """
    workers.check(folder)
    schedule = _Schedule(points, folder)
    in_flight: dict[Future, _Job] = {}
    deaths: dict[str, int] = {}
    while schedule.ready or in_flight:
        most = 1 if _suspected(in_flight.values(), schedule, deaths) else workers.width * _QUEUED_EACH
        while schedule.ready and len(in_flight) < most:
            job = schedule.ready.popleft()
            in_flight[_submitted(job, workers)] = job
        for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
            job = in_flight.pop(future, None)
            if job is None:  # given up with the executor that it was of
                continue
            outcome = _outcome_of(future, job, folder)
            if outcome is None:
                given_up = [job, *in_flight.values()]
                in_flight.clear()
                outcomes = _after_a_death(given_up, deaths, schedule, workers, folder)
            else:
                outcomes = [(job, outcome)]
            for one, ended in outcomes:
                _settle(one, ended, schedule, folder, reported)


def _settle(
    job: _Job, outcome: Outcome, schedule: _Schedule, folder: Path, reported: Callable[[Outcome], None] | None
) -> None:
    """Take note of a job that has ended."""
    if outcome.stops:
        raise Stopped(outcome.stops)
    ended = [outcome]
    if job.place:
        waited = schedule.prepared(job.task.inputs_key, outcome.prepared)
        ended = [Outcome(task.name, 0.0, outcome.error) for task in waited]
        _record(folder, ended)
    else:
        schedule.ran(job.task, bool(outcome.error))
    for one in ended if reported is not None else ():
        reported(one)


def _record(folder: Path, failed: Iterable[Outcome]) -> None:
    """Errors of points that no worker could record."""
    for one in failed:
        try:
            write_error(folder, one.name, one.error)
        except OSError as error:
            raise Stopped(cannot_write(str(folder), error)) from error


class Stopped(InputError):
    """A sweep that cannot go on, though what is done of it is kept."""


# --- processes that end ----------------------------------------------------------------------------------------------


def _outcome_of(future: Future, job: _Job, folder: Path) -> Outcome | None:
    """None where the process that did it has ended."""
    try:
        return future.result()
    except (BrokenExecutor, CancelledError):
        return None
    except Exception as error:  # the executor's own, as of Dask when a run has ended several workers
        outcome = Outcome(job.task.name, 0.0, error_lines(error)[:1])
        if not job.place:
            _record(folder, [outcome])
        return outcome


def _suspected(in_flight: Iterable[_Job], schedule: _Schedule, deaths: dict[str, int]) -> bool:
    """Whether a point whose process has ended is next: it runs alone, so that it is known whose fault that is."""
    first = [schedule.ready[0]] if schedule.ready else []
    return bool(deaths) and any(deaths.get(job.task.name) for job in [*in_flight, *first])


def _after_a_death(
    given_up: list[_Job], deaths: dict[str, int], schedule: _Schedule, workers: Workers, folder: Path
) -> list[tuple[_Job, Outcome]]:
    """Put what was given up back, with other workers; the outcomes of those that no process survives."""
    if not workers.renew():
        raise Stopped("the executor's processes have ended", file=folder, expected="to go on with --resume")
    alone = len(given_up) == 1
    ended = []
    for job in reversed(given_up):
        deaths[job.task.name] = deaths.get(job.task.name, 0) + 1
        if alone and deaths[job.task.name] >= _MOST_DEATHS:
            lines = ("the process that ran it ended, as one does that takes too much memory",)
            ended.append((job, Outcome(job.task.name, 0.0, lines)))
        else:
            schedule.ready.appendleft(job)
    _record(folder, [outcome for job, outcome in ended if not job.place])
    return ended


# --- what may run when -----------------------------------------------------------------------------------------------


class _Schedule:
    """Jobs that may be started, in order; others come when what they wait for is there."""

    def __init__(self, points: Sequence[Point], folder: Path):
        self.ready: deque[_Job] = deque()
        self._for_inputs: dict[str, list[Task]] = {}
        self._for_code: dict[str, list[Task]] = {}
        self._compiled: set[str] = set()
        self._code_of: dict[str, str] = {}
        session = f"{os.getpid()}-{time.time_ns()}"
        keyed = [(point.kind.inputs_key(point.scenario), point) for point in points]
        shared = _shared(keyed)
        order = {key: at for at, key in reversed(list(enumerate(key for key, _ in keyed)))}
        for key, point in sorted(keyed, key=lambda one: order[one[0]]):  # those with the same inputs follow each other
            task = Task(str(folder.absolute()), session, point.name, point.kind.name, point.scenario, point.label, key)
            self._code_of[point.name] = point.kind.code_key(point.scenario)
            if key not in shared:
                self.ready.extend(self._allowed([task]))
                continue
            if key not in self._for_inputs:
                digest = hashlib.sha256(key.encode()).hexdigest()[:16]
                self.ready.append(_Job(task, str(folder.absolute() / SHARED / f"{digest}.dense")))
            self._for_inputs.setdefault(key, []).append(task)

    def prepared(self, key: str, found: Prepared | None) -> list[Task]:
        """The inputs are there: those that waited for them may go on. Where they could not be had, who waited."""
        waiting = self._for_inputs.pop(key)
        if found is None:
            return waiting
        self.ready.extendleft(reversed(self._allowed(replace(task, prepared=found) for task in waiting)))
        return []

    def ran(self, task: Task, failed: bool) -> None:
        """A run has ended: its machine code is there, or, if it failed, another must see to that."""
        code = self._code_of[task.name]
        if code in self._compiled:
            return
        waiting = self._for_code.pop(code, [])
        if not failed:
            self._compiled.add(code)
        self.ready.extendleft(reversed(self._allowed(waiting)))

    def _allowed(self, tasks: Iterable[Task]) -> list[_Job]:
        """Those of them that may run now; the others wait for their machine code."""
        jobs = []
        for task in tasks:
            code = self._code_of[task.name]
            if code in self._for_code:
                self._for_code[code].append(task)
                continue
            if code not in self._compiled:
                self._for_code[code] = []
            jobs.append(_Job(task))
        return jobs


def _shared(keyed: Sequence[tuple[str, Point]]) -> set[str]:
    """Keys of inputs that several points have and that can be put into a folder."""
    seen: set[str] = set()
    twice: set[str] = set()
    for key, point in keyed:
        if point.kind.inputs_are_traces:
            (twice if key in seen else seen).add(key)
    return twice
