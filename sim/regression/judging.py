"""What scores mean beside recorded ones: as they were, worse, better, or not to be told."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sim import estimates
from sim.comparing import Change, changes, relative
from sim.errors import InputError, InputErrors
from sim.metrics import LOWER, NEITHER
from sim.regression.baseline import ABSOLUTE, RELATIVE, Baseline, Guard, Tolerance, Watched
from sim.regression.recorded import Record, Records
from sim.regression.running import Key, Measured, inputs_of

WITHIN, REGRESSION, IMPROVEMENT, ERROR = "within", "regression", "improvement", "error"
Runs = Mapping[Key, Measured]
STATUSES = (ERROR, REGRESSION, IMPROVEMENT, WITHIN)  # the worst first


@dataclass(frozen=True)
class Finding:
    """One metric of one run beside what was recorded of it. was, now: means over the seeds, NaN where there is none;
    allowed: how far it may move either way; changes: of what the run is of; problem: '' where was and now say it.
    """

    baseline: str
    scenario: str
    label: str
    metric: str
    unit: str
    better: str
    status: str
    was: float
    now: float
    allowed: float
    tolerance: str
    problem: str = ""
    changes: tuple[Change, ...] = ()

    @property
    def change(self) -> float:
        return self.now - self.was

    @property
    def relative(self) -> float:
        return relative(self.change, self.was)


def judged(baseline: Baseline, records: Records, runs: Runs) -> list[Finding]:
    """Every watched metric of every run, and those that were recorded and are watched no longer.

    Raises InputError where a file that a run is made of cannot be read.
    """
    found: list[Finding] = []
    for guard in baseline.guards:
        recorded = records.get(guard.name, {})
        for label in guard.runs:
            found += _of_label(baseline, guard, label, recorded.get(label), _of_seeds(baseline, guard, label, runs))
        for label in sorted(recorded.keys() - guard.runs.keys()):
            found.append(_gone(baseline, guard.name, label, "", "the run is no longer in the baseline"))
    for name in sorted(records.keys() - {guard.name for guard in baseline.guards}):
        found.append(_gone(baseline, name, "", "", "the scenario is no longer in the baseline"))
    return found


def recording(baseline: Baseline, runs: Runs) -> Records:
    """What is to be recorded of the runs. Raises InputErrors where some failed, or do not tell a watched metric."""
    errors = [
        InputError(f"{guard.name}, {label}: {problem}", file=baseline.file)
        for guard in baseline.guards
        for label in guard.runs
        for problem in _why_unrecorded(guard, _of_seeds(baseline, guard, label, runs))
    ]
    if errors:
        raise InputErrors(errors)
    return {
        guard.name: {label: _record(guard, label, _of_seeds(baseline, guard, label, runs)) for label in guard.runs}
        for guard in baseline.guards
    }


def _of_seeds(baseline: Baseline, guard: Guard, label: str, runs: Runs) -> dict[int, Measured]:
    return {seed: runs[baseline.name, guard.name, label, seed] for seed in guard.runs[label]}


def _why_unrecorded(guard: Guard, runs: Mapping[int, Measured]) -> list[str]:
    failed = _failed(runs)
    return [failed] if failed else [problem for one in guard.watched if (problem := _untold(one, runs))]


def _record(guard: Guard, label: str, runs: Mapping[int, Measured]) -> Record:
    return Record(
        inputs_of(guard, label),
        {seed: run.trace for seed, run in runs.items()},
        {one.name: {seed: run.summary[one.name] for seed, run in runs.items()} for one in guard.watched},
    )


# --- one label --------------------------------------------------------------------------------------------------------


def _of_label(
    baseline: Baseline, guard: Guard, label: str, record: Record | None, runs: Mapping[int, Measured]
) -> Iterator[Finding]:
    error = _why_not(record, runs)
    moved = () if error else _changes(guard, label, record, runs)
    for one in guard.watched:
        values = {} if record is None else record.metrics.get(one.name, {})
        yield _finding(baseline, guard, label, one, values, runs, error, moved)
    if record is not None and not error:
        for name in sorted(record.metrics.keys() - {one.name for one in guard.watched}):
            yield _gone(baseline, guard.name, label, name, "it is no longer watched")


def _why_not(record: Record | None, runs: Mapping[int, Measured]) -> str:
    """Why the runs cannot be judged; '' where they can."""
    failed = _failed(runs)
    if failed:
        return failed
    if record is None:
        return "no recorded values; --update records them"
    if sorted(record.seeds) != sorted(runs):
        return f"recorded of seeds {_listed(record.seeds)}, not of {_listed(runs)}; --update records these"
    return ""


def _failed(runs: Mapping[int, Measured]) -> str:
    """What became of the first run that failed; '' where none did."""
    found = next(((seed, run) for seed, run in runs.items() if run.error), None)
    return "" if found is None else f"seed {found[0]}: {'; '.join(found[1].error)}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def _changes(guard: Guard, label: str, record: Record, runs: Mapping[int, Measured]) -> tuple[Change, ...]:
    """What changed of the inputs; of requests that did, those of the first seed."""
    traces = [
        Change("trace.digest", record.traces[seed], run.trace)
        for seed, run in runs.items()
        if record.traces[seed] != run.trace
    ]
    return (*changes(record.inputs, inputs_of(guard, label)), *traces[:1])


def _finding(
    baseline: Baseline,
    guard: Guard,
    label: str,
    watched: Watched,
    recorded: Mapping[int, float],
    runs: Mapping[int, Measured],
    error: str,
    moved: tuple[Change, ...],
) -> Finding:
    was = list(recorded.values())
    now = [run.summary[watched.name] for run in runs.values() if watched.name in run.summary]
    status, problem, allowed = ERROR, error, math.nan
    if not error:
        status, problem, allowed = _status(watched, was, now, runs)
    return Finding(
        baseline.name,
        guard.name,
        label,
        watched.name,
        watched.metric.unit,
        watched.better,
        status,
        _mean(was),
        _mean(now) if len(now) == len(runs) else math.nan,
        allowed,
        tolerance_text(watched.tolerance, watched.metric.unit),
        problem,
        moved,
    )


def _status(
    watched: Watched, was: list[float], now: list[float], runs: Mapping[int, Measured]
) -> tuple[str, str, float]:
    """(status, problem, how far it may move)"""
    untold = _untold(watched, runs)
    if untold:
        return (REGRESSION, f"vanished: {untold}", math.nan) if was else (ERROR, untold, math.nan)
    if not was:
        return REGRESSION, "appeared: no recorded value; --update records it", math.nan
    allowed = _allowed(watched.tolerance, was, len(now))
    change = _mean(now) - _mean(was)
    if abs(change) <= allowed:
        return WITHIN, "", allowed
    is_better = watched.better != NEITHER and (change < 0) == (watched.better == LOWER)
    return (IMPROVEMENT, "better; --update would record it", allowed) if is_better else (REGRESSION, "", allowed)


def _untold(watched: Watched, runs: Mapping[int, Measured]) -> str:
    """Why the runs do not tell this metric; '' where they do."""
    without = next((run for run in runs.values() if watched.name not in run.summary), None)
    if without is None:
        return ""
    if watched.name in without.left_out:
        return f"the run does not tell it: {without.left_out[watched.name]}"
    return str(InputError("no such metric of the run:", value=watched.name, candidates=without.summary))


def _allowed(tolerance: Tolerance, was: list[float], count: int) -> float:
    """How far the mean of so many values may be from that of the recorded ones."""
    if tolerance.form == ABSOLUTE:
        return tolerance.amount
    if tolerance.form == RELATIVE:
        return tolerance.amount * abs(_mean(was))
    told = estimates.prediction(was, count, tolerance.amount)
    return told.high - told.mean


def tolerance_text(tolerance: Tolerance, unit: str) -> str:
    """As a person would say it."""
    if tolerance.form == ABSOLUTE:
        return f"{tolerance.amount:g}{'' if unit == '1' else f' {unit}'}"
    if tolerance.form == RELATIVE:
        return f"{100 * tolerance.amount:g} %"
    return f"{100 * tolerance.amount:g} % of seeds"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _gone(baseline: Baseline, scenario: str, label: str, metric: str, why: str) -> Finding:
    """What was recorded and is not asked for any more."""
    problem = f"vanished: {why}; --update forgets it"
    nan = math.nan
    return Finding(baseline.name, scenario, label, metric, "", NEITHER, REGRESSION, nan, nan, nan, "", problem)
