"""What a report says of replays of allocations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sim.fragmentation import charts as drawn
from sim.report import charts, tables
from sim.report.sections import Section, each, section

if TYPE_CHECKING:
    from sim.fragmentation.results import AllocationResult

_MAP_ROWS, _MAP_LOOKS = 64, 96  # cells of a map; each is drawn
_WASTE = {
    "peak_held_bytes": ("held at most", charts.BYTES),
    "internal_fragmentation": ("internal", charts.SHARE),
    "reserved_share": ("reserved", charts.SHARE),
    "metadata_share": ("books", charts.SHARE),
    "free_over_held": ("in holes", charts.SHARE),
    "external_fragmentation": ("external", charts.SHARE),
    "unusable_free_share": ("unusable", charts.SHARE),
    "failures": ("refused", charts.NUMBER),
    "failures_with_free": ("with as much free", charts.NUMBER),
}
_COSTS = {
    "system_allocations": ("taken", charts.NUMBER),
    "system_releases": ("given back", charts.NUMBER),
    "maps": ("mapped", charts.NUMBER),
    "unmaps": ("unmapped", charts.NUMBER),
    "copied_bytes": ("copied", charts.BYTES),
    "waited_ns": ("waited", charts.TIME),
    "runs_per_object": ("pieces an object", charts.NUMBER),
    "transfer_share": ("of the link's bandwidth", charts.SHARE),
}


def facts(result: AllocationResult) -> list[tuple[str, Any]]:
    """What the replay was of."""
    manifest, summary = result.manifest, result.summary
    return [
        ("Description", manifest["scenario"].get("description")),
        ("Stream", manifest["trace"]["name"]),
        ("Operations", f"{summary['operations']:,} on {summary['objects']:,} objects"),
        ("Live at most", tables.size(summary["peak_live_bytes"])),
        ("Capacity", tables.size(manifest["capacity_bytes"])),
        ("Link over which objects may be moved", manifest["link"].get("name")),
    ]


def sections(
    compared: Sequence[AllocationResult], detailed: Sequence[AllocationResult], _most_points: int
) -> list[Section]:
    """compared: drawn in common figures; detailed: with figures of their own."""
    maps = each(detailed, lambda one: (drawn.address_map(one, _MAP_ROWS, _MAP_LOOKS),))
    return [
        *section("held", "Memory held", drawn.losses(compared)),
        *section("over_time", "Over the operations", *each(detailed, lambda one: (drawn.bytes_over_operations(one),))),
        *section(
            "fragmentation",
            "Fragmentation",
            tables.of_metrics("Waste: shares are means", "allocator", compared, _WASTE),
            drawn.fragmentation_over_operations(compared),
            drawn.failures_over_operations(compared),
        ),
        *section("map", "Map of the addresses", *maps),
        *section("cost", "Calls of the system", tables.of_metrics("Calls and copies", "allocator", compared, _COSTS)),
    ]
