"""What a run leaves: tables and a summary, in memory or as a folder of Parquet and JSON.

A folder holds `requests.parquet` (a row a request), `tiers.parquet` (a row a caching tier and sample), `parts.parquet`
(a row a direction of a device or link and sample), `summary.json` (metric name to value), `manifest.json` (what made
them) and `timing.json` (how long it took, the one file that differs between two runs of the same inputs). It appears
whole or not at all, with whatever was asked for beside them: the command line adds figures.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim import metrics, registry, result_files
from sim.result_files import Coded, Columns, check_place
from sim.saved_result import Beside, SavedResult

if TYPE_CHECKING:
    import pandas

    from sim.simulation import Simulation

__all__ = ["Beside", "Coded", "Columns", "Result", "check_place", "load_result", "save"]

_TIER_COLUMNS = ("used_bytes", "held_blocks", "free_bytes", "largest_free_bytes", "internal_bytes", "lookups", "hits")


@dataclass(frozen=True)
class Result(SavedResult):
    """Those of a run of a hierarchy.

    summary: see `sim.metrics`; requests and tiers: pandas tables, read when first used.
    """

    FORMAT: ClassVar[str] = "memhier result 3"
    TABLES: ClassVar[tuple[str, ...]] = ("requests", "tiers", "parts")

    @classmethod
    def from_simulation(cls, simulation: Simulation, label: str | None = None) -> Result:
        """The results of a run that has ended; label: its scenario's name where none is given."""
        return cls(
            summary=metrics.summarise(simulation),
            manifest=_manifest(simulation, label or simulation.scenario.name),
            timing={"wall_seconds": simulation.wall_seconds},
            columns={
                "requests": _request_columns(simulation),
                "tiers": _tier_columns(simulation),
                "parts": _part_columns(simulation),
            },
        )

    @classmethod
    def manifest_shape(cls) -> type:
        from sim.result_shapes import HierarchyManifest

        return HierarchyManifest

    def required_metrics(self) -> list[str]:
        return metrics.names_of(self.manifest["tiers"], self.manifest["links"])

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

    @functools.cached_property
    def parts(self) -> pandas.DataFrame:
        """A row a direction of a device or link and sample: time_ns, part ('tier.dram.read', 'link.pcie.up'), and so
        far: bytes, wait_ns (of all that queued there), busy_ns (of a device, both directions together).
        """
        return self.table("parts").to_pandas()


def save(result: Result, folder: str | Path, beside: Beside | None = None) -> Result:
    """See `SavedResult.saved`."""
    return result.saved(folder, beside)


def load_result(folder: str | Path) -> Result:
    """See `SavedResult.load`."""
    return Result.load(folder)


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


def _part_columns(simulation: Simulation) -> Columns:
    """Samples of all directions of devices and links, one after the other; what was counted up to each."""
    samples = simulation.samples
    names = tuple(name.removeprefix("bytes.") for name in samples if name.startswith("bytes."))
    rows = len(samples["time_ns"])

    def of_all(what: str) -> np.ndarray:
        return np.concatenate([samples[f"{what}.{name}"] for name in names])

    busy_ns = [samples[f"busy_ns.{name if name.startswith('link.') else name.rpartition('.')[0]}"] for name in names]
    return {
        "part": Coded(np.repeat(np.arange(len(names), dtype=np.int16), rows), names),
        "time_ns": np.tile(samples["time_ns"], len(names)),
        "bytes": of_all("bytes"),
        "wait_ns": of_all("wait_ns"),
        "busy_ns": np.concatenate(busy_ns),
    }


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
        "format": Result.FORMAT,
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
