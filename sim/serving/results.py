"""What a serving run leaves: tables and a summary, in memory or as a folder of Parquet and JSON.

A folder holds `requests.parquet` (a row a call), `samples.parquet` (a row a sample and engine), `gaps.parquet` (the
histogram of gaps between tokens), `summary.json` (metric name to value), `manifest.json` (what made them, and why a
metric is not told) and `timing.json` (how long it took, the one file that differs between two runs of the same inputs).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim import result_files
from sim.result_files import Coded, Columns
from sim.saved_result import Beside, SavedResult
from sim.serving import metrics
from sim.serving.metrics import Accelerators
from sim.serving.options import Slo
from sim.serving.record import ENGINE_PARTS, PARTS, REASONS, SAMPLED, STATUSES, Histogram, ServingRun

if TYPE_CHECKING:
    import pandas

    from sim.profile import Profile

_CALL_TIMES = ("arrival_ns", "first_scheduled_ns", "first_token_ns", "finish_ns")
_CALL_COUNTS = (
    *("input_tokens", "output_tokens", "generated_tokens", "computed_tokens", "recomputed_tokens", "preemptions"),
    "replica",
)


@dataclass(frozen=True)
class ServingResult(SavedResult):
    """Those of a serving run; summary: see `sim.serving.metrics`."""

    FORMAT: ClassVar[str] = "memhier serving 1"
    TABLES: ClassVar[tuple[str, ...]] = ("requests", "samples", "gaps")

    @classmethod
    def from_run(
        cls,
        run: ServingRun,
        scenario: Mapping[str, Any],
        *,
        label: str,
        slo: Slo | None = None,
        accelerators: Accelerators | None = None,
        profile: Profile | None = None,
        shared: tuple[str, ...] = (),
        policies: Mapping[str, str] | None = None,
        wall_seconds: float = 0.0,
    ) -> ServingResult:
        """The results of a run that has ended. scenario: as plain data, what `ServingScenario.resolved()` gives;
        policies: the digest of the source of each, by kind and name.

        The other arguments are those of `sim.serving.metrics.summarise`.
        """
        summary = metrics.summarise(run, slo, accelerators, profile, shared)
        manifest = _manifest(run, scenario, label, policies or {})
        manifest |= {"bandwidth_bytes_per_ns": _bandwidths(run, profile)}
        manifest |= {"left_out": metrics.left_out(run, summary, accelerators, profile)}
        columns = {"requests": _requests(run), "samples": _samples(run), "gaps": _gaps(run.gaps)}
        return cls(summary, manifest, {"wall_seconds": wall_seconds}, columns=columns)

    @classmethod
    def manifest_shape(cls) -> type:
        from sim.result_shapes import ServingManifest

        return ServingManifest

    def required_metrics(self) -> list[str]:
        return [name for name in metrics.ALWAYS if name not in self.manifest["left_out"]]

    @property
    def tier_names(self) -> tuple[str, ...]:
        """G1 first."""
        return tuple(self.manifest["tiers"])

    @functools.cached_property
    def requests(self) -> pandas.DataFrame:
        """A row a call, in order of the trace."""
        return self.table("requests").to_pandas()

    @functools.cached_property
    def samples(self) -> pandas.DataFrame:
        """A row a sample and engine, in order of time."""
        return self.table("samples").to_pandas()

    @functools.cached_property
    def gaps(self) -> Histogram:
        """Gaps between tokens."""
        told = self.manifest["gaps"]
        return Histogram(told["low_ns"], told["ratio"], self.column("gaps", "count"), told["total_ns"])

    def parts_ns(self) -> np.ndarray:
        """float64[n, len(PARTS)] where the time of each call went."""
        return np.column_stack([self.column("requests", name) for name in PARTS])

    def completed(self) -> np.ndarray:
        """bool[n] which calls were; a file without rows has no names."""
        status = self.column("requests", "status")
        return status.codes == (status.names.index("completed") if "completed" in status.names else -1)

    def sampled(self, name: str) -> np.ndarray:
        """float64[s, R] a column of the samples, a row a sample, a column an engine."""
        return self.column("samples", name).reshape(-1, self.manifest["replicas"])


def save(result: ServingResult, folder: str | Path, beside: Beside | None = None) -> ServingResult:
    """See `SavedResult.saved`."""
    return result.saved(folder, beside)


def load_serving_result(folder: str | Path) -> ServingResult:
    """See `SavedResult.load`."""
    return ServingResult.load(folder)


# --- what is recorded ------------------------------------------------------------------------------------------------


def _requests(run: ServingRun) -> Columns:
    calls = run.calls
    return {
        **{name: calls[name] for name in (*_CALL_TIMES, *_CALL_COUNTS)},
        "status": Coded(calls["status"], STATUSES),
        "reason": Coded(calls["reason"], REASONS),
        **{f"hit_tokens.{tier}": calls["hit_tokens"][:, at] for at, tier in enumerate(run.tiers)},
        **{name: calls["parts_ns"][:, at] for at, name in enumerate(PARTS)},
    }


def _samples(run: ServingRun) -> Columns:
    """Engines of one sample stand one after the other; what was counted up to it is cumulative."""
    samples, replicas = run.samples, run.replicas
    looks = len(samples["time_ns"])
    links = _link_columns(run)
    return {
        "time_ns": np.repeat(samples["time_ns"], replicas),
        "replica": np.tile(np.arange(replicas, dtype=np.int16), looks),
        **{name: samples[name].reshape(-1) for name in SAMPLED},
        **{f"blocks.{tier}": samples["tier_blocks"][:, :, at].reshape(-1) for at, tier in enumerate(run.tiers)},
        **{f"engine.{name}": samples["engine_parts_ns"][:, :, at].reshape(-1) for at, name in enumerate(ENGINE_PARTS)},
        **{f"bytes.{name}": np.repeat(samples["link_bytes"][:, at], replicas) for at, name in enumerate(links)},
    }


def _link_columns(run: ServingRun) -> list[str]:
    """What the columns of `link_bytes` are: the parts of the system, in the order of `traffic_bytes`."""
    columns = run.samples["link_bytes"].shape[1]
    if columns not in (0, len(run.traffic_bytes)):
        raise ValueError(f"samples of {columns} parts' bytes, and traffic of {len(run.traffic_bytes)}")
    return list(run.traffic_bytes) if columns else []


def _gaps(gaps: Histogram) -> Columns:
    at = np.arange(len(gaps.counts))
    return {"from_ns": gaps.low_ns * gaps.ratio**at, "count": gaps.counts.astype(np.int64)}


def _bandwidths(run: ServingRun, profile: Profile | None) -> dict[str, float]:
    """What each part that moved bytes could move, by its name in `traffic_bytes`; nothing without a profile."""
    if profile is None:
        return {}
    found = {}
    for name in run.traffic_bytes:
        kind, part, way = name.split(".")
        device = profile.tier(part).device if kind == "tier" else profile.links[part]
        found[name] = device.access(way in ("write", "down")).bandwidth_bytes_per_ns
    return found


def _manifest(run: ServingRun, scenario: Mapping[str, Any], label: str, policies: Mapping[str, str]) -> dict[str, Any]:
    gaps, facts = run.gaps, run.facts or {}
    return {
        "format": ServingResult.FORMAT,
        "label": label,
        "scenario": dict(scenario),
        "profile": {"name": facts.get("system"), "digest": facts.get("profile_digest")},
        "trace": {"name": facts.get("trace"), "digest": facts.get("trace_digest")},
        "policies": dict(policies),
        "facts": dict(facts),
        "tiers": list(run.tiers),
        "capacity_blocks": dict(zip(run.tiers, map(int, run.tier_capacity_blocks), strict=True)),
        "block_bytes": int(run.block_bytes),
        "block_tokens": int(run.block_tokens),
        "replicas": int(run.replicas),
        "duration_ns": float(run.duration_ns),
        "loads": {name: float(value) for name, value in run.loads.items() if np.isfinite(value)},
        "gaps": {"low_ns": float(gaps.low_ns), "ratio": float(gaps.ratio), "total_ns": float(gaps.total_ns)},
        "versions": result_files.versions(),
    }
