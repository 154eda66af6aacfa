"""Does the runs of baselines, as the points of a sweep whose folder nobody keeps."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.comparing import resolved_fields
from sim.regression.baseline import Baseline, Guard
from sim.remembering import files_stay
from sim.result_files import read_json, versions
from sim.result_set import ERROR_SUFFIX, RUNS, load_result
from sim.sweep.executors import LocalWorkers
from sim.sweep.planning import Point
from sim.sweep.running import run_points

Key = tuple[str, str, str, int]  # baseline, scenario, label, seed
_DIGITS = 5


@dataclass(frozen=True)
class Measured:
    """What one run gave: its summary, why metrics are left out, the digest of its requests; or why it failed."""

    summary: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    trace: str | None = None
    error: tuple[str, ...] = ()


def run_all(
    baselines: Sequence[Baseline], jobs: int, progress: Callable[[int, int], None] | None = None
) -> dict[Key, Measured]:
    """What each run of each baseline gave. jobs: how many processes work on them; progress: (done, in all)."""
    keys = [
        (baseline.name, guard.name, label, seed, guard.kind, scenario)
        for baseline in baselines
        for guard in baseline.guards
        for label, of_seeds in guard.runs.items()
        for seed, scenario in of_seeds.items()
    ]
    points = [
        Point(f"{at:0{_DIGITS}}", {}, seed, kind, scenario, label)
        for at, (_, _, label, seed, kind, scenario) in enumerate(keys)
    ]
    with tempfile.TemporaryDirectory(prefix="memhier-") as place:
        folder = Path(place)
        (folder / RUNS).mkdir()
        done = []

        def reported(outcome: object) -> None:
            done.append(outcome)
            if progress is not None:
                progress(len(done), len(points))

        with LocalWorkers(min(jobs, len(points))) as workers:
            run_points(points, folder, workers, reported)
        return {key[:4]: _measured(folder / RUNS / point.name) for key, point in zip(keys, points, strict=True)}


def _measured(place: Path) -> Measured:
    if not place.is_dir():
        return Measured(error=tuple(read_json(place.with_name(place.name + ERROR_SUFFIX))["error"]))
    result = load_result(place)
    told = {name: value for name, value in result.summary.items() if math.isfinite(value)}
    trace = (result.manifest.get("trace") or {}).get("digest")
    return Measured(told, result.manifest.get("left_out", {}), trace)


def inputs_of(guard: Guard, label: str) -> dict[str, Any]:
    """What the runs of a label are of but for their seeds, by dotted name: fields of the scenario, digests, versions.

    Raises InputError where a file cannot be read.
    """
    scenario = next(iter(guard.runs[label].values()))
    with files_stay():
        digests = guard.kind.digests(scenario)
    fields = {name: value for name, value in resolved_fields(scenario.resolved()).items() if name != "seed"}
    return {**fields, **digests, **{f"version.{name}": one for name, one in versions().items()}}
