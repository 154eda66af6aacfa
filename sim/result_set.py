"""Results of many runs together: a run's folder, the runs of a comparison, or a whole sweep, as tidy tables.

A sweep's folder (written by `sim.sweep`, as a study's is by the search) holds

    manifest.json        format, name, what was asked for ("sweep"), and "points": a list with one
                         {"name", "values": {dotted field: value}, "seed", "scenario": kind} a run, in order
    runs/NAME/           the results of a run, whole, as `SavedResult.saved` writes them
    runs/NAME.error.json {"error": [line, ...]} of a run that failed
    summary.csv          a row a run, when all are done
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim import result_files, scenario_kind
from sim.errors import InputError

if TYPE_CHECKING:
    import pandas

    from sim.metrics import Metric
    from sim.saved_result import SavedResult
    from sim.scenario_kind import ScenarioKind

POINTS_FORMATS = ("memhier sweep 1", "memhier study 1")
RUNS, ERROR_SUFFIX = "runs", ".error.json"


@dataclass(frozen=True)
class Run:
    """One run of a set. name: its own in the set; values: of the fields that were varied, by their dotted names."""

    name: str
    result: SavedResult
    values: Mapping[str, Any]
    seed: int

    @property
    def kind(self) -> ScenarioKind:
        return scenario_kind.kind_of_format(self.result.manifest["format"])


@dataclass(frozen=True)
class Failed:
    """A run that ended with an error: what it was of, and the lines that say why."""

    name: str
    values: Mapping[str, Any]
    seed: int
    error: tuple[str, ...]


@dataclass(frozen=True)
class ResultSet:
    """Runs in order, those that failed, and how many of a sweep are not there yet.

    manifests: of the sweeps and studies among what was loaded.
    """

    runs: tuple[Run, ...]
    failed: tuple[Failed, ...] = ()
    missing: int = 0
    manifests: tuple[Mapping[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    @property
    def fields(self) -> tuple[str, ...]:
        """Dotted names of all fields that were varied, in order of first appearance."""
        return tuple(dict.fromkeys(field for run in self.runs for field in run.values))

    def of_kind(self, name: str) -> ResultSet:
        """The runs of one kind of scenario."""
        return ResultSet(tuple(run for run in self.runs if run.kind.name == name), self.failed, 0, self.manifests)

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One a run: run, label, kind, scenario, seed, the varied fields, and every metric, its unit in its name; all
        with the same keys, None where a run has no such metric.
        """
        metrics = dict.fromkeys(name for run in self.runs for name in run.result.summary)
        return [
            {
                "run": run.name,
                "label": run.result.label,
                "kind": run.kind.name,
                "scenario": run.result.manifest["scenario"]["name"],
                "seed": run.seed,
                **{field: run.values.get(field) for field in self.fields},
                **{name: run.result.summary.get(name) for name in metrics},
            }
            for run in self.runs
        ]

    @functools.cached_property
    def summary(self) -> pandas.DataFrame:
        """`rows` as a table."""
        import pandas

        return pandas.DataFrame(self.rows)

    @functools.cached_property
    def metrics(self) -> pandas.DataFrame:
        """A row a run and metric: run, label, metric, value, unit, better ('higher', 'lower' or 'neither')."""
        import pandas

        rows = []
        for run in self.runs:
            for name, value in run.result.summary.items():
                declared = run.kind.declaration(name)
                told = (run.name, run.result.label, name, value, declared.unit, declared.better)
                rows.append(told)
        return pandas.DataFrame(rows, columns=["run", "label", "metric", "value", "unit", "better"])

    def table(self, name: str) -> pandas.DataFrame:
        """One table of all runs, a column `run` first. Raises InputError where a run has no such table."""
        import pandas

        tables = []
        for run in self.runs:
            if name not in run.result.TABLES:
                raise InputError(f"no such table of run {run.name}", value=name, candidates=run.result.TABLES)
            tables.append(run.result.table(name).to_pandas().assign(run=run.name))
        whole = pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame({"run": []})
        return whole[["run", *(column for column in whole.columns if column != "run")]]

    def combinations(self, metrics: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """A row for each combination of label and varied fields, over all its seeds.

        Keys: label, the varied fields, runs, and for each metric METRIC (the mean), METRIC.low and METRIC.high, its
        confidence interval (`sim.estimates`), NaN where there is one run.
        """
        from sim.estimates import estimate

        wanted = list(metrics or dict.fromkeys(name for run in self.runs for name in run.result.summary))
        rows = []
        for runs in self.groups():
            first = runs[0]
            row = {"label": shared_label(runs), **{field: first.values.get(field) for field in self.fields}}
            row["runs"] = len(runs)
            for name in wanted:
                told = estimate([run.result.summary.get(name, float("nan")) for run in runs])
                row |= {name: told.mean, f"{name}.low": told.low, f"{name}.high": told.high}
            rows.append(row)
        return rows

    def over_seeds(self, metrics: Sequence[str] | None = None) -> pandas.DataFrame:
        """`combinations` as a table."""
        import pandas

        return pandas.DataFrame(self.combinations(metrics))

    def groups(self) -> list[tuple[Run, ...]]:
        """Runs that differ in their seed alone, together."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(_group_of(run), []).append(run)
        return [tuple(runs) for runs in found.values()]

    def declaration(self, metric: str) -> Metric:
        """What a metric of these runs means. Raises InputError where none of them has it, with the nearest."""
        for run in self.runs:
            if metric in run.result.summary:
                return run.kind.declaration(metric)
        known = dict.fromkeys(name for run in self.runs for name in run.result.summary)
        raise InputError("unknown metric", value=metric, candidates=known)


def _group_of(run: Run) -> str:
    """What runs that differ in their seed alone have in common."""
    told = dict(run.values) or run.result.label
    return json.dumps([run.kind.name, run.result.manifest["scenario"]["name"], told], sort_keys=True, default=str)


def shared_label(runs: Sequence[Run]) -> str:
    """What to call runs that differ in their seed alone."""
    first = runs[0]
    return label_of(first.values, short_names(first.values)) or first.result.label


def short_names(fields: Iterable[str]) -> dict[str, str]:
    """Dotted names by as few of their last parts as tell them apart."""
    parts = {field: field.split(".") for field in fields}

    def shared(field: str, count: int) -> bool:
        return any(parts[other][-count:] == parts[field][-count:] for other in parts if other != field)

    counts = {
        field: next(n for n in range(1, len(parts[field]) + 1) if n == len(parts[field]) or not shared(field, n))
        for field in parts
    }
    return {field: ".".join(parts[field][-counts[field] :]) for field in parts}


def label_of(values: Mapping[str, Any], short: Mapping[str, str]) -> str:
    """What to call a run with these values: 'capacity 5%, eviction lru'; '' where nothing varies."""
    return ", ".join(f"{short[field]} {value_text(value)}" for field, value in values.items())


def value_text(value: object) -> str:
    """A value of a field in a few characters: a policy in a mapping as on a command line, a list with commas."""
    if isinstance(value, Mapping):
        named = [f"{key}={one}" for key, one in value.items() if key != "policy"]
        return ":".join([str(value["policy"]), *named]) if "policy" in value else ",".join(named)
    return ",".join(map(value_text, value)) if isinstance(value, list | tuple) else str(value)


def load_result(folder: str | Path) -> SavedResult:
    """The results of one run, of whatever kind. Raises InputError where the folder holds none, or incomplete ones."""
    folder = Path(folder)
    kind = scenario_kind.kind_of_format(result_files.format_of(folder))
    if kind is not None:
        return kind.result_class().load(folder)
    if not folder.is_dir():
        raise InputError("no such folder of results", value=str(folder))
    raise InputError("not results of a run:", value=str(folder), expected="a folder that `run` or `compare` wrote")


def load_results(*folders: str | Path) -> ResultSet:
    """All results in folders: of runs, of comparisons (a folder of those), of sweeps and studies.

    Raises InputError where a folder holds none, or one of them is incomplete, of another version or not readable.
    """
    parts = [_set_of(Path(folder)) for folder in folders]
    if not parts:
        raise InputError("no folder of results", expected="at least one")
    runs = _told_apart([run for part in parts for run in part.runs])
    failed = tuple(one for part in parts for one in part.failed)
    manifests = tuple(manifest for part in parts for manifest in part.manifests)
    return ResultSet(runs, failed, sum(part.missing for part in parts), manifests)


def _set_of(folder: Path) -> ResultSet:
    found = result_files.format_of(folder)
    if found.startswith(("memhier sweep", "memhier study")):
        return _points_of(folder, found)
    if found:
        return ResultSet((_run_of(load_result(folder), folder.name),))
    inner = sorted(path for path in folder.iterdir() if result_files.format_of(path)) if folder.is_dir() else []
    if not inner:
        load_result(folder)  # says what is wrong
        raise InputError("no results in", value=str(folder), expected="a folder that run, compare or sweep wrote")
    return ResultSet(tuple(_run_of(load_result(path), path.name) for path in inner))


def _run_of(result: SavedResult, name: str) -> Run:
    return Run(name, result, {}, int(result.manifest["scenario"].get("seed", 0)))


def _points_of(folder: Path, found: str) -> ResultSet:
    """The runs of a sweep's folder, those that failed, and how many are missing."""
    if found not in POINTS_FORMATS:
        raise InputError(
            "not results of this version",
            file=folder / "manifest.json",
            value=found,
            expected=f"one of {', '.join(POINTS_FORMATS)}",
        )
    manifest = result_files.read_json(folder / "manifest.json")
    runs, failed, missing = [], [], 0
    for point in manifest["points"]:
        name, values, seed = point["name"], point["values"], point["seed"]
        place = folder / RUNS / name
        error = place.with_name(name + ERROR_SUFFIX)
        if place.is_dir():
            runs.append(Run(name, load_result(place), values, seed))
        elif error.is_file():
            failed.append(Failed(name, values, seed, tuple(result_files.read_json(error)["error"])))
        else:
            missing += 1
    return ResultSet(tuple(runs), tuple(failed), missing, (manifest,))


def _told_apart(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The same runs; of those with one name, all but the first with a number behind it."""
    seen: dict[str, int] = {}
    told = []
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
        name = run.name if seen[run.name] == 1 else f"{run.name} ({seen[run.name]})"
        told.append(Run(name, run.result, run.values, run.seed))
    return tuple(told)
