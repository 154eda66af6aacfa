"""`sweep`: a scenario at many points."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sim.commands import output
from sim.commands.output import Answer, Form

if TYPE_CHECKING:
    from sim.result_set import ResultSet
    from sim.sweep.planning import Plan
    from sim.sweep.running import Progress

_MOST_FAULTS = 5
_INTERRUPTED = 130


def sweep(
    name_or_path: str,
    overrides: Mapping[str, str],
    out: str | None,
    jobs: int | None,
    resume: bool,
    executor: str,
    scheduler: str | None,
    form: Form,
) -> None:
    """Exit code 1 where points failed. Raises InputError for bad input, or results that cannot be written."""
    from sim.sweep.executors import workers_of
    from sim.sweep.planning import plan_of
    from sim.sweep.running import Stopped
    from sim.sweep.spec import load_sweep
    from sim.sweep.sweeping import run_plan

    workers = workers_of(executor, jobs, scheduler)
    workers.begin()
    plan = plan_of(load_sweep(name_or_path, overrides))
    folder = Path(out) if out is not None else Path("results") / plan.sweep.name
    try:
        with sweep_progress(plan.sweep.name) as progress:
            results = run_plan(plan, folder, workers, resume, progress, lambda left: _announce(plan, folder, left))
    except KeyboardInterrupt:
        raise interrupted(folder) from None
    except Stopped:
        interrupted(folder)
        raise
    output.show(answer(plan, folder, results), form)
    if results.failed:
        raise typer.Exit(1)


def answer(plan: Plan, folder: Path, results: ResultSet) -> Answer:
    """What came out."""
    metrics = plan.sweep.metrics or plan.kind.headline
    metrics = [metric for metric in metrics if any(metric in run.result.summary for run in results)]
    rows = results.combinations(metrics) if metrics else []
    failed = [
        {"run": one.name, "values": dict(one.values), "seed": one.seed, "error": one.error} for one in results.failed
    ]
    document = {"sweep": plan.sweep.name, "result": str(folder), "runs": len(results)}
    document |= {"combinations": rows, "failed": failed, "removed": plan.removed}
    notes = [*failures(folder, results), f"all runs and summary.csv: {folder}"]
    return Answer(document, rows, lambda: _text(results, metrics), notes)


def _text(results: ResultSet, metrics: Sequence[str]) -> Any:
    from rich.text import Text

    from sim.sweep.report import report

    return report(results, metrics) if metrics else Text("No run has come to its end.")


def failures(folder: Path, results: ResultSet) -> list[str]:
    """Lines about runs that failed."""
    notes = []
    if results.failed:
        notes.append(f"{len(results.failed)} of {len(results.failed) + len(results)} runs failed:")
        faults: dict[str, list[str]] = {}
        for one in results.failed:
            faults.setdefault(one.error[0], []).append(one.name)
        for fault, names in list(faults.items())[:_MOST_FAULTS]:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            notes.append(f"  {names[0]}{more}: {fault}")
        if len(faults) > _MOST_FAULTS:
            notes.append(f"  and {len(faults) - _MOST_FAULTS} other errors, in {folder / 'runs'}")
    return notes


# --- on stderr -------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


def interrupted(folder: Path) -> typer.Exit:
    """Say how to go on; what to raise where a person stopped it."""
    say(f"what is done is kept in {folder}; to go on: {_resuming(folder)}")
    return typer.Exit(_INTERRUPTED)


def _announce(plan: Plan, folder: Path, left: int) -> None:
    fields, seeds = len(plan.sweep.fields), plan.seeds
    parts = [f"{plan.combinations} combinations of {fields} field{'s' * (fields != 1)}"] if fields else []
    parts += [f"{seeds} seeds{' each' * bool(fields)}"] if seeds > 1 else []
    said = f"{plan.sweep.name}: {_runs(len(plan.points))} ({', '.join(parts)})"
    said += f"; constraints removed {plan.removed} more" if plan.removed else ""
    if left < len(plan.points):
        said += f"; {_runs(left)} left to do" if left else "; all are there"
    say(f"{said}; into {folder}")


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _resuming(folder: Path) -> str:
    """The command line that goes on, as it was given."""
    given = [one for one in sys.argv[1:] if one != "--resume"]
    return shlex.join([os.path.basename(sys.argv[0]) or "memhier", *given, "--resume"])


@contextmanager
def sweep_progress(name: str) -> Iterator[Progress | None]:
    """Draws runs done, failed, and the time left, on stderr; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]}"))
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    task = bar.add_task(name, total=None, failed="")

    def update(done: int, failed: int, total: int) -> None:
        if not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=total, failed=f"{failed} failed" if failed else "")

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()
