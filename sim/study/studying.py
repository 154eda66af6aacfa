"""Runs a study from its file to its results.

Its folder is as a sweep's (`sim.result_set`), with the points that were chosen so far: a batch of them stands in the
manifest before the first of it is run, so that a study that is killed loses what is under way and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sim import result_files, scenario_kind
from sim.errors import InputError
from sim.remembering import files_stay
from sim.result_set import ERROR_SUFFIX, POINTS_FORMATS, RUNS, ResultSet, label_of, load_results, short_names
from sim.study.asking import Scored, Trial, check_installed, chosen
from sim.study.spec import Study
from sim.sweep.executors import Workers
from sim.sweep.folder import SweepFolder
from sim.sweep.planning import Point
from sim.sweep.running import Progress, run_points
from sim.sweep.sweeping import SUMMARY, summary_csv
from sim.sweep.work import Outcome, cannot_write, error_lines, write_error
from sim.written_files import write_text

STUDY_FORMAT = POINTS_FORMATS[1]
_DIGITS = 4


def run_study(
    study: Study,
    folder: Path,
    workers: Workers,
    resume: bool = False,
    progress: Progress | None = None,
    begun: Callable[[int], None] | None = None,
) -> ResultSet:
    """Run a study to its end; its results, which are also in the folder. Fewer trials than asked for are there where
    nearly all that the constraints allow were tried.

    progress: called with (runs done, of these failed, runs in all); begun: with how many are left, before the first.
    Raises InputError for a folder that cannot be resumed or written, and where Optuna is not installed.
    """
    check_installed()
    points = _points_in(folder) if resume else []
    kept = SweepFolder(folder, {**_manifest(study), "points": points}, STUDY_FORMAT)
    with kept.opened(resume):
        scored: list[Scored] = []
        if begun is not None:
            begun(max(study.trials, len(points)) - sum(_is_done(folder, point) for point in points))
        with workers:
            while True:
                _run(study, points, folder, workers, _counted(progress, len(scored), scored, study.trials))
                scored += [_scored(study, point, folder) for point in points[len(scored) :]]
                wanted = min(study.batch, study.trials - len(points))
                found = chosen(study, scored, wanted) if wanted > 0 else []
                if not found:
                    break
                points = [*points, *(_plain(study, len(points) + at, one) for at, one in enumerate(found))]
                kept.now_of(points)
        kept.remove_shared()
        results = load_results(folder)
        write_text(folder / SUMMARY, summary_csv(results))
    return results


def _points_in(folder: Path) -> list[dict[str, Any]]:
    """Those that are in the folder of a study already."""
    if result_files.format_of(folder) != STUDY_FORMAT:
        return []
    points = result_files.read_json(folder / "manifest.json").get("points")
    if not isinstance(points, list) or not all(isinstance(one, dict) and "params" in one for one in points):
        raise InputError("damaged: its points cannot be read", file=folder / "manifest.json")
    return points


def _manifest(study: Study) -> dict[str, Any]:
    scenario = study.kind.load(study.scenario, study.set)
    with files_stay():
        digests = study.kind.digests(scenario)
    versions = {f"version.{name}": one for name, one in result_files.versions().items()}
    return {"name": study.name, "study": study.resolved(), "inputs": {**dict(sorted(digests.items())), **versions}}


def _plain(study: Study, number: int, trial: Trial) -> dict[str, Any]:
    """A point as the manifest lists it."""
    return {
        "name": f"{number:0{_DIGITS}}",
        "values": dict(trial.values),
        "seed": study.kind.load(study.scenario, study.set).seed,
        "scenario": study.kind.name,
        "params": dict(trial.params),
        "attributes": dict(trial.attributes),
    }


# --- running ----------------------------------------------------------------------------------------------------------


def _run(
    study: Study,
    points: list[dict[str, Any]],
    folder: Path,
    workers: Workers,
    reported: Callable[[Outcome], None],
) -> None:
    """Run those that are not done; of one whose values the scenario refuses that is its error."""
    left = []
    for point in points:
        if _is_done(folder, point):
            continue
        try:
            left.append(_loaded(study, point))
        except InputError as error:
            lines = error_lines(error)
            _keep_error(folder, point["name"], lines)
            reported(Outcome(point["name"], 0.0, lines))
    if left:
        run_points(left, folder, workers, reported)


def _keep_error(folder: Path, name: str, lines: tuple[str, ...]) -> None:
    try:
        write_error(folder, name, lines)
    except OSError as error:
        raise InputError(cannot_write(str(folder), error)) from error


def _is_done(folder: Path, point: Mapping[str, Any]) -> bool:
    place = folder / RUNS / point["name"]
    return place.is_dir() or place.with_name(point["name"] + ERROR_SUFFIX).is_file()


def _loaded(study: Study, point: Mapping[str, Any]) -> Point:
    scenario = study.kind.load(study.scenario, {**study.set, **point["values"]})
    scenario = scenario_kind.with_seed(scenario, point["seed"])
    label = label_of(point["values"], short_names(study.fields))
    return Point(point["name"], point["values"], point["seed"], study.kind, scenario, label)


def _scored(study: Study, point: Mapping[str, Any], folder: Path) -> Scored:
    """What became of a point that is done; one that does not tell an objective or a limit counts as failed."""
    trial = Trial(point["params"], point["values"], point["attributes"])
    place = folder / RUNS / point["name"]
    if not place.is_dir():
        return Scored(trial, None, None)
    summary = result_files.read_json(place / "summary.json")
    objectives = tuple(float(summary.get(name, math.nan)) for name in study.objectives)
    excesses = tuple(limit.excess(summary.get(limit.metric, math.nan)) for limit in study.limits)
    if not all(map(math.isfinite, (*objectives, *excesses))):
        return Scored(trial, None, None)
    return Scored(trial, objectives, excesses)


def _counted(progress: Progress | None, done: int, scored: list[Scored], total: int) -> Callable[[Outcome], None]:
    """Calls `progress` with how many are done."""
    counts = [done, sum(one.objectives is None for one in scored)]

    def reported(outcome: Outcome) -> None:
        counts[0] += 1
        counts[1] += bool(outcome.error)
        if progress is not None:
            progress(counts[0], counts[1], total)

    return reported
