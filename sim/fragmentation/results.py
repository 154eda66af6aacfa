"""What a replay of allocations leaves: tables and a summary, in memory or as a folder of Parquet and JSON.

A folder holds `looks.parquet` (a row a look), `map.parquet` (which share of each piece of the addresses was in use, a
row a look and piece), `summary.json` (metric name to value), `manifest.json` and `timing.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sim import registry, result_files
from sim.fragmentation import metrics
from sim.result_files import Columns
from sim.saved_result import SavedResult

if TYPE_CHECKING:
    import pandas

    from sim.fragmentation.replay import Player
    from sim.fragmentation.running import Followed
    from sim.fragmentation.scenario import AllocationScenario


@dataclass(frozen=True)
class AllocationResult(SavedResult):
    """Those of one allocator on one stream; summary: see `sim.fragmentation.metrics`."""

    FORMAT: ClassVar[str] = "memhier allocation 1"
    TABLES: ClassVar[tuple[str, ...]] = ("looks", "map")

    @classmethod
    def of(
        cls,
        player: Player,
        followed: Followed,
        scenario: AllocationScenario,
        capacity_bytes: int,
        label: str,
        wall_seconds: float,
    ) -> AllocationResult:
        operations, board = player.operations, player.board
        summary = metrics.summarise(board.totals, board.sums, board.size.size, followed.looks)
        manifest = {
            "format": cls.FORMAT,
            "label": label,
            "scenario": scenario.resolved(),
            "trace": {"name": operations.name, "digest": operations.digest},
            "capacity_bytes": capacity_bytes,
            "grows_by_moving": player.moves,
            "names_places": player.allocator.names_places,
            "link": scenario.link_of().plain(),
            "map": {"rows": int(followed.map.shape[0]), "row_bytes": int(followed.map_row_bytes)},
            "policies": {f"{registry.ALLOCATOR.name}.{player.allocator.name}": player.allocator.digest},
            "seed": scenario.seed,
            "versions": result_files.versions(),
        }
        columns = {"looks": followed.looks, "map": _map_columns(followed.map)}
        return cls(summary, manifest, {"wall_seconds": wall_seconds}, columns=columns)

    @classmethod
    def manifest_shape(cls) -> type:
        from sim.result_shapes import AllocationManifest

        return AllocationManifest

    def required_metrics(self) -> list[str]:
        return list(metrics.ALWAYS)

    @property
    def looks(self) -> pandas.DataFrame:
        """A row a look, in order of operations."""
        return self.table("looks").to_pandas()

    def map(self) -> np.ndarray:
        """float32[rows, looks] which share of each piece of the addresses was in use, lowest addresses first."""
        rows = self.manifest["map"]["rows"]
        return self.column("map", "share").reshape(-1, rows).T if rows else np.zeros((0, 0), np.float32)


def _map_columns(shares: np.ndarray) -> Columns:
    rows, looks = shares.shape
    return {
        "look": np.repeat(np.arange(looks, dtype=np.int32), rows),
        "row": np.tile(np.arange(rows, dtype=np.int32), looks),
        "share": np.ascontiguousarray(shares.T).reshape(-1),
    }
