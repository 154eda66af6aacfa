"""What a run leaves: tables and a summary, in memory or as a folder of Parquet and JSON.

A folder holds `requests.parquet` (a row a request), `tiers.parquet` (a row a caching tier and sample), `summary.json`
(metric name to value), `manifest.json` (what made them) and `timing.json` (how long it took, the one file that differs
between two runs of the same inputs). It appears whole or not at all, with whatever was asked for beside them: the
command line adds figures.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim import metrics, registry, result_files
from sim.result_files import Coded, Columns, check_place

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from sim.simulation import Simulation

__all__ = ["FORMAT", "Beside", "Coded", "Columns", "Result", "check_place", "load_result", "save"]

FORMAT = "memhier result 2"
_TABLES = ("requests", "tiers")
_TIER_COLUMNS = ("used_bytes", "held_blocks", "free_bytes", "largest_free_bytes", "internal_bytes", "lookups", "hits")


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
        return result_files.arrow(self.columns[name]) if self.columns else result_files.read_parquet(self._file(name))

    def column(self, table: str, name: str) -> np.ndarray | Coded:
        """One column of `requests` or `tiers`, without pandas. Raises InputError where its file cannot be read."""
        if self.columns:
            return self.columns[table][name]
        return result_files.numpy_column(result_files.read_parquet(self._file(table), [name]))

    def _file(self, table: str) -> Path:
        return self.folder / f"{table}.parquet"


Beside = Callable[["Result", Path], AbstractContextManager]


def save(result: Result, folder: str | Path, beside: Beside | None = None) -> Result:
    """Write the results into one folder, which replaces a result that is there; the same result, with its folder.

    beside: given the result and the folder in which it is written at first, a context within which that is done; it
    may add files of its own. Raises InputError where the folder cannot be written or holds anything but a result.
    """
    folder = Path(folder)
    with result_files.written(folder) as unfinished, beside(result, unfinished) if beside else nullcontext():
        _write(result, unfinished)
    return Result(result.summary, result.manifest, result.timing, folder, result.columns)


def load_result(folder: str | Path) -> Result:
    """The results in a folder; its tables are read when first used. Raises InputError where a file is missing."""
    folder = Path(folder)
    summary, manifest, timing = result_files.read_documents(folder, _TABLES, FORMAT)
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
        "versions": result_files.versions(),
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


def _write(result: Result, folder: Path) -> None:
    documents = {name: getattr(result, name) for name in result_files.DOCUMENTS}
    result_files.write_files(folder, {name: result.table(name) for name in _TABLES}, documents)
