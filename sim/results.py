"""What a run leaves: tables and a summary, in memory or as a folder of Parquet and JSON.

A folder holds `requests.parquet` (a row a request), `tiers.parquet` (a row a caching tier and sample), `summary.json`
(metric name to value), `manifest.json` (what made them) and `timing.json` (how long it took, the one file that differs
between two runs of the same inputs). It appears whole or not at all, with whatever was asked for beside them: the
command line adds figures.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sim import metrics, registry
from sim.errors import InputError

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from sim.simulation import Simulation

FORMAT = "memhier result 2"
_FILES = ("requests.parquet", "tiers.parquet", "summary.json", "manifest.json", "timing.json")
_LIBRARIES = ("numpy", "numba", "simpy", "pandas", "pyarrow")
_TIER_COLUMNS = ("used_bytes", "held_blocks", "free_bytes", "largest_free_bytes", "internal_bytes", "lookups", "hits")


class Coded(NamedTuple):
    """A column of names, each as a number into a list of them."""

    codes: np.ndarray
    names: tuple[str, ...]


Columns = Mapping[str, "np.ndarray | Coded"]


@dataclass(frozen=True)
class Result:
    """One run's results, the same whether just computed or read from its folder.

    summary: metric name to value (see `sim.metrics`); requests and tiers: pandas tables, read when first used;
    manifest: what made them; folder: where they are saved, or None; label: what to call the run beside others.
    """

    summary: dict[str, float | int]
    manifest: dict[str, Any]
    timing: dict[str, float]
    folder: Path | None = None
    columns: Mapping[str, Columns] = field(
        default_factory=dict, repr=False
    )  # "requests", "tiers"; empty: in the folder

    @classmethod
    def from_simulation(cls, simulation: Simulation, label: str | None = None) -> Result:
        """The results of a run that has ended; label: its scenario's name where none is given."""
        return cls(
            summary=metrics.summarise(simulation),
            manifest=_manifest(simulation, label or simulation.scenario.name),
            timing={"wall_seconds": simulation.wall_seconds},
            columns={"requests": _request_columns(simulation), "tiers": _tier_columns(simulation)},
        )

    @property
    def label(self) -> str:
        return self.manifest["label"]

    @property
    def tier_names(self) -> tuple[str, ...]:
        """Caching tiers, fastest first, and the last one."""
        return tuple(self.manifest["tiers"])

    @functools.cached_property
    def requests(self) -> pandas.DataFrame:
        """A row a request: arrival_ns, latency_ns and its parts, `served_by` (a tier), outcome."""
        return self.table("requests").to_pandas()

    @functools.cached_property
    def tiers(self) -> pandas.DataFrame:
        """A row a caching tier and sample: time_ns, tier, its state then, hit_ratio since the sample before."""
        return self.table("tiers").to_pandas()

    def table(self, name: str) -> pyarrow.Table:
        """`requests` or `tiers` as an Arrow table. Raises InputError where its file cannot be read."""
        return _arrow(self.columns[name]) if self.columns else _read_parquet(self._file(name))

    def column(self, table: str, name: str) -> np.ndarray | Coded:
        """One column of `requests` or `tiers`, without pandas. Raises InputError where its file cannot be read."""
        if self.columns:
            return self.columns[table][name]
        return _numpy(_read_parquet(self._file(table), [name]))

    def _file(self, table: str) -> Path:
        return self.folder / f"{table}.parquet"


Beside = Callable[["Result", Path], AbstractContextManager]


def save(result: Result, folder: str | Path, beside: Beside | None = None) -> Result:
    """Write the results into one folder, which replaces a result that is there; the same result, with its folder.

    beside: given the result and the folder in which it is written at first, a context within which that is done; it
    may add files of its own. Raises InputError where the folder cannot be written or holds anything but a result.
    """
    folder = Path(folder)
    _check_replaceable(folder)
    try:
        with _appearing(folder) as unfinished, beside(result, unfinished) if beside else nullcontext():
            _write(result, unfinished)
    except OSError as error:
        raise InputError(f"cannot write the results: {error.strerror or error}", file=folder) from error
    return Result(result.summary, result.manifest, result.timing, folder, result.columns)


def check_place(folder: str | Path) -> None:
    """Find out before a long run whether its results can be written there. Raises InputError where they cannot."""
    folder = Path(folder)
    _check_replaceable(folder)
    place = folder.absolute()
    try:
        made = _make_parents(place.parent)
        trial = place.with_name(f".{place.name}.{os.getpid()}.trial")
        trial.mkdir()
        for path in (trial, *made):
            _remove_if_empty(path)
    except OSError as error:
        raise InputError(f"cannot write the results: {error.strerror or error}", file=folder) from error


def load_result(folder: str | Path) -> Result:
    """The results in a folder; its tables are read when first used. Raises InputError where a file is missing."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("no such folder of results", value=str(folder))
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(f"incomplete results: {', '.join(missing)} missing", file=folder)
    summary, manifest, timing = (_read_json(folder / f"{name}.json") for name in ("summary", "manifest", "timing"))
    if manifest.get("format") != FORMAT:
        raise InputError("not results of this version", file=folder / "manifest.json", expected=f"format {FORMAT!r}")
    return Result(summary, manifest, timing, folder)


# --- what is recorded ------------------------------------------------------------------------------------------------


def _request_columns(simulation: Simulation) -> Columns:
    columns = metrics.request_columns(simulation)
    tiers, outcomes = metrics.names(simulation)
    served_by, outcome = Coded(columns.pop("level"), tiers), Coded(columns.pop("outcome"), outcomes)
    return {**columns, "served_by": served_by, "outcome": outcome}


def _tier_columns(simulation: Simulation) -> Columns:
    """Samples of all caching tiers, one tier after the other."""
    samples = simulation.samples
    tiers = tuple(plan.name for plan in simulation.hierarchy.plans)
    per_tier = [_samples_of(samples, tier) for tier in tiers]
    names = list(per_tier[0]) if per_tier else []
    columns: dict[str, Any] = {name: np.concatenate([one[name] for one in per_tier]) for name in names}
    rows = len(samples["time_ns"])
    return {"tier": Coded(np.repeat(np.arange(len(tiers), dtype=np.int8), rows), tiers), **columns}


def _samples_of(samples: Mapping[str, np.ndarray], tier: str) -> dict[str, np.ndarray]:
    own = {name: samples[f"tier.{tier}.{name}"] for name in _TIER_COLUMNS}
    internal, external = metrics.fragmentation(samples, tier)
    return {
        "time_ns": samples["time_ns"],
        **own,
        "hit_ratio": _windowed(own["hits"], own["lookups"]),
        "internal_fragmentation": internal,
        "external_fragmentation": external,
    }


def _windowed(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """float64[n] growth of `part` over that of `whole` since the sample before; NaN where that did not grow."""
    parts, wholes = (np.diff(column.astype(float), prepend=0.0) for column in (part, whole))
    return np.divide(parts, wholes, out=np.full(parts.size, np.nan), where=wholes > 0)


def _manifest(simulation: Simulation, label: str) -> dict[str, Any]:
    scenario, profile = simulation.scenario, simulation.profile
    return {
        "format": FORMAT,
        "label": label,
        "scenario": scenario.resolved(),
        "profile": {"name": profile.name, "digest": profile.digest},
        "trace": {"name": simulation.trace_name, "digest": simulation.trace_digest},
        "tiers": list(simulation.hierarchy.tiers),
        "capacity_bytes": {plan.name: plan.capacity_bytes for plan in simulation.hierarchy.plans},
        "links": list(profile.links),
        "timing_models": _timing_models(simulation),
        "policies": _digests(simulation),
        "seed": scenario.seed,
        "versions": _versions(),
    }


def _timing_models(simulation: Simulation) -> dict[str, str]:
    """The model that times each tier and link."""
    columns = simulation.hierarchy.columns
    return {f"{column.part}.{column.name}": column.device.model for column in columns}


def _digests(simulation: Simulation) -> dict[str, str]:
    """The digest of the source of each plugin that took part, by kind and name."""
    used = {(registry.PREFETCH, simulation.scenario.prefetch.name)}
    used |= {(registry.DEVICE_MODEL, column.device.model) for column in simulation.hierarchy.columns}
    for plan in simulation.hierarchy.plans:
        used |= {
            (registry.EVICTION, plan.eviction.name),
            (registry.ADMISSION, plan.admission.name),
            (registry.OFFLOAD, plan.offload.name),
            (registry.ALLOCATOR, plan.allocator.name),
        }
    return dict(sorted((f"{kind.name}.{name}", registry.load(kind, name).digest) for kind, name in used))


@functools.cache
def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from sim import __version__

    return {"memhier": __version__, "python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


# --- files -----------------------------------------------------------------------------------------------------------


def _arrow(columns: Columns) -> pyarrow.Table:
    """The columns' own memory as a table. `pyarrow.array` would import pandas, to see whether it was given some."""
    import pyarrow

    def numbers(column: np.ndarray) -> pyarrow.Array:
        values = np.ascontiguousarray(column)
        kind = pyarrow.from_numpy_dtype(values.dtype)
        return pyarrow.Array.from_buffers(kind, values.size, [None, pyarrow.py_buffer(values)])

    def words(names: tuple[str, ...]) -> pyarrow.Array:
        encoded = [name.encode() for name in names]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
        return pyarrow.StringArray.from_buffers(
            len(names), pyarrow.py_buffer(ends), pyarrow.py_buffer(b"".join(encoded))
        )

    def array(column: np.ndarray | Coded) -> pyarrow.Array:
        if isinstance(column, Coded):
            return pyarrow.DictionaryArray.from_arrays(numbers(column.codes), words(column.names))
        return numbers(column)

    return pyarrow.table({name: array(column) for name, column in columns.items()})


def _numpy(table: pyarrow.Table) -> np.ndarray | Coded:
    """The only column of a table."""
    column = table.unify_dictionaries().column(0).combine_chunks()
    if hasattr(column, "dictionary"):
        return Coded(column.indices.to_numpy(zero_copy_only=False), tuple(column.dictionary.to_pylist()))
    return column.to_numpy(zero_copy_only=False)


def _write(result: Result, folder: Path) -> None:
    import pyarrow.parquet

    for name in ("requests", "tiers"):
        pyarrow.parquet.write_table(result.table(name), folder / f"{name}.parquet", compression="zstd")
    for name, content in (("summary", result.summary), ("manifest", result.manifest), ("timing", result.timing)):
        text = json.dumps(content, indent=1, allow_nan=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _read_parquet(path: Path, columns: list[str] | None = None) -> pyarrow.Table:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path, columns=columns)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"not a readable table: {' '.join(str(error).split())[:120]}", file=path) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"not readable: {error}", file=path) from error
    if not isinstance(content, dict):
        raise InputError("not a JSON object", file=path)
    return content


def _check_replaceable(folder: Path) -> None:
    """Raises InputError where something stands at this place that is not a result."""
    try:
        if not folder.exists() and not folder.is_symlink():
            return
        if folder.is_symlink() or not folder.is_dir():
            raise InputError("not a folder", value=str(folder), expected="a new folder, or one of results to replace")
        empty = not any(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot write the results: {error.strerror or error}", file=folder) from error
    if not empty and not _is_result(folder):
        problem = "the folder holds something else than results of memhier"
        raise InputError(problem, file=folder, expected="a new folder, or one of results to replace")


def _is_result(folder: Path) -> bool:
    try:
        return str(_read_json(folder / "manifest.json").get("format", "")).startswith("memhier result")
    except InputError:
        return False


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` at the end; where that is not reached, nothing stays."""
    place = folder.absolute()
    made = _make_parents(place.parent)
    unfinished = place.with_name(f".{place.name}.{os.getpid()}.unfinished")
    try:
        unfinished.mkdir()
        yield unfinished
        _take_place(unfinished, place)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        for parent in made:
            _remove_if_empty(parent)
        raise


def _make_parents(parent: Path) -> list[Path]:
    """Make the folder and those above it; the ones that were not there, innermost first."""
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return


def _take_place(new: Path, place: Path) -> None:
    """Put `new` where `place` is; what was there is removed afterwards, or put back if the move fails."""
    if not place.exists():
        new.rename(place)
        return
    old = new.with_suffix(".replaced")
    place.rename(old)
    try:
        new.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)
