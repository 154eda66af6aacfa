"""`optimize`: the search for the best values of a scenario's fields."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sim.commands import output
from sim.commands.output import Answer, Form
from sim.commands.sweep import failures, interrupted, say, sweep_progress

if TYPE_CHECKING:
    from sim.result_set import ResultSet, Run
    from sim.study.spec import Study


def optimize(
    name_or_path: str, overrides: Mapping[str, str], out: str | None, jobs: int | None, resume: bool, form: Form
) -> None:
    """Exit code 1 where no trial keeps to the limits. Raises InputError for bad input, or a bad folder."""
    from sim.study.asking import check_installed
    from sim.study.spec import load_study
    from sim.study.studying import run_study
    from sim.sweep.executors import LocalWorkers, cores
    from sim.sweep.running import Stopped

    check_installed()
    study = load_study(name_or_path, overrides)
    folder = Path(out) if out is not None else Path("results") / study.name
    workers = LocalWorkers(min(jobs or cores(), study.batch))
    try:
        with sweep_progress(study.name) as progress:
            results = run_study(study, folder, workers, resume, progress, lambda left: _announce(study, folder, left))
    except KeyboardInterrupt:
        raise interrupted(folder) from None
    except Stopped:
        interrupted(folder)
        raise
    made = answer(study, folder, results)
    output.show(made, form)
    if not made.rows:
        raise typer.Exit(1)


def answer(study: Study, folder: Path, results: ResultSet) -> Answer:
    """What came out."""
    from sim.pareto import pareto_front
    from sim.study.report import report

    front = pareto_front(results)
    rows = [_row(study, run) for run in front.runs]
    document: dict[str, Any] = {"study": study.name, "result": str(folder), "objectives": dict(front.objectives)}
    document |= {"limits": [limit.plain() for limit in front.limits], "trials": len(results) + len(results.failed)}
    document |= {"front": rows, "dominated": len(front.dominated), "infeasible": len(front.infeasible)}
    document["failed"] = [{"run": one.name, "values": dict(one.values), "error": one.error} for one in results.failed]
    short = study.trials - len(results) - len(results.failed)
    notes = [f"{short} trials fewer than asked for: hardly any other values are left to try"] if short > 0 else []
    notes += [*failures(folder, results), f"all runs and summary.csv: {folder}"]
    return Answer(document, rows, lambda: report(results, front), notes)


def _row(study: Study, run: Run) -> dict[str, Any]:
    metrics = dict.fromkeys([*study.objectives, *(limit.metric for limit in study.limits)])
    return {"run": run.name, **run.values, **{name: run.result.summary[name] for name in metrics}}


def _announce(study: Study, folder: Path, left: int) -> None:
    objectives = ", ".join(study.objectives)
    said = f"{study.name}: {study.trials} trials of {len(study.fields)} fields for {objectives}"
    say(said + (f"; {left} left to do" if left < study.trials else "") + f"; into {folder}")
