"""Runs a sweep from its file to its results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from sim.remembering import files_stay
from sim.result_set import ResultSet, load_results, value_text
from sim.sweep.executors import GivenWorkers, LocalWorkers, Workers, cores
from sim.sweep.folder import SweepFolder
from sim.sweep.planning import Plan, plan_of
from sim.sweep.running import Progress, run_points
from sim.sweep.spec import load_sweep
from sim.sweep.work import Outcome
from sim.written_files import write_text

SUMMARY = "summary.csv"


def run_sweep(
    sweep: str | Path,
    overrides: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    *,
    jobs: int | None = None,
    resume: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> ResultSet:
    """Run a sweep by name or path; its results, which are also saved in `out` (by default results/NAME).

    overrides: of every point, by dotted names. jobs: how many runs at a time, by default one a processor. resume: take
    up what is there. executor: where to run instead of processes of this machine; what it runs must see the same files.
    progress: called with (runs done, of these failed, runs in all). Points that fail are in the set's `failed`. Raises
    InputError for bad input, before anything is run, and where results cannot be written.
    """
    plan = plan_of(load_sweep(sweep, overrides))
    width = jobs or cores()
    workers = LocalWorkers(width) if executor is None else GivenWorkers(executor, width)
    folder = Path(out) if out is not None else Path("results") / plan.sweep.name
    return run_plan(plan, folder, workers, resume, progress)


def run_plan(
    plan: Plan,
    folder: Path,
    workers: Workers,
    resume: bool = False,
    progress: Progress | None = None,
    begun: Callable[[int], None] | None = None,
) -> ResultSet:
    """`run_sweep` of a plan. begun: called with how many runs are left to do, before the first of them."""
    kept = SweepFolder(folder, manifest_of(plan))
    with workers, kept.opened(resume):  # a cluster that is not there leaves no folder
        whole, failed = kept.done([point.name for point in plan.points])
        left = [point for point in plan.points if point.name not in whole | failed]
        if begun is not None:
            begun(len(left))
        if left:
            counted = _counted(progress, len(whole | failed), len(failed), len(plan.points))
            run_points(left, folder, workers, counted)
        kept.remove_shared()
        results = load_results(folder)
        write_text(folder / SUMMARY, summary_csv(results))
    return results


def manifest_of(plan: Plan) -> dict[str, Any]:
    """What a sweep's folder says of it: what was asked for, what it is made of, and the points."""
    from sim.result_files import versions

    digests: dict[str, str] = {}
    with files_stay():
        for point in {json.dumps(one.plain()["values"], default=str): one for one in plan.points}.values():
            digests |= point.kind.digests(point.scenario)
    return {
        "name": plan.sweep.name,
        "sweep": plan.sweep.resolved(),
        "inputs": {**dict(sorted(digests.items())), **{f"version.{name}": one for name, one in versions().items()}},
        "points": [point.plain() for point in plan.points],
    }


def _counted(progress: Progress | None, done: int, failed: int, total: int) -> Callable[[Outcome], None] | None:
    """Calls `progress` with how many are done."""
    if progress is None:
        return None
    counts = [done, failed]

    def reported(outcome: Outcome) -> None:
        counts[0] += 1
        counts[1] += bool(outcome.error)
        progress(counts[0], counts[1], total)

    return reported


def summary_csv(results: ResultSet) -> str:
    """A row a run, names first; a mapping as it is shown, and what a run has not is empty."""
    text = io.StringIO()
    if results.rows:
        writer = csv.DictWriter(text, list(results.rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in results.rows:
            writer.writerow({key: value_text(one) if isinstance(one, dict | list) else one for key, one in row.items()})
    return text.getvalue()
