"""Runs an allocator on a stream of allocations and keeps what comes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from sim import registry
from sim.choice import Choice
from sim.fragmentation import places
from sim.fragmentation import replaying as r
from sim.fragmentation.operations import ALLOCATE, RELEASE, Operations
from sim.fragmentation.replay import Player, make_player
from sim.fragmentation.results import AllocationResult
from sim.fragmentation.scenario import AllocationScenario, Link
from sim.hook_arguments import SYSTEM_CALLS
from sim.looks import Look, Progress, compiles
from sim.units import format_bytes

_MOST_RUNS_LOOKED_AT = 30_000_000  # in all looks together, which takes some seconds
_FEWEST_LOOKS = 24
_MAP_ROWS = 512


def replayed(
    scenario: AllocationScenario, operations: Operations, label: str, progress: Progress | None = None
) -> AllocationResult:
    """The scenario's stream on its allocator. Raises InputError where that does not take its parameters."""
    began = time.perf_counter()
    capacity_bytes = scenario.capacity_bytes(operations)
    compiles(progress, operations.count, "operations")
    player = player_of(scenario, operations, scenario.allocator)
    followed = follow(player, scenario.link_of(), scenario.looks, progress)
    return AllocationResult.of(player, followed, scenario, capacity_bytes, label, time.perf_counter() - began)


def player_of(scenario: AllocationScenario, operations: Operations, choice: Choice) -> Player:
    """An allocator before the first operation of the scenario's stream."""
    allocator = registry.load(registry.ALLOCATOR, choice.name)
    capacity_bytes = scenario.capacity_bytes(operations)
    return make_player(operations, allocator, choice.parameters, capacity_bytes, scenario.seed)


@dataclass(frozen=True)
class Followed:
    """Looks at a replay: columns of a table, a row a look; and the map of addresses, float32[rows, looks]."""

    looks: dict[str, np.ndarray]
    map: np.ndarray
    map_row_bytes: int


def follow(player: Player, link: Link, looks: int, progress: Progress | None = None) -> Followed:
    """Do all operations, looking so many times, an equal number of operations apart; fewer times where objects are so
    many that looking would take longer than the replay.
    """
    operations = player.operations
    largest = int(operations.objects.final_bytes.max(initial=1))
    address_map = places.AddressMap(_MAP_ROWS, max(1, player.capacity_bytes >> 20))
    rows, at = [], 0
    for stop in _stops(operations, looks):
        at = player.advance(at, stop)
        rows.append(_look(player, at, link, largest, address_map))
        if progress is not None:
            progress(partial(_so_far, rows[-1], operations.count))
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}
    return Followed(columns, address_map.shares(), address_map.row_bytes)


def _so_far(look: Mapping[str, float], total: int) -> Look:
    live, held = look["live_bytes"], look["held_bytes"]
    figures = {"live": format_bytes(live, 3), **({"held/live": f"{held / live:.3f}"} if live else {})}
    return Look(int(look["operation"]), total, "operations", look["time_ns"] or None, figures)


def _stops(operations: Operations, looks: int) -> Iterator[int]:
    change = np.where(operations.op == ALLOCATE, 1, np.where(operations.op == RELEASE, -1, 0))
    most_live = int(np.cumsum(change).max(initial=1))
    looks = min(looks, operations.count, max(_FEWEST_LOOKS, _MOST_RUNS_LOOKED_AT // max(1, most_live)))
    yield from np.unique(np.linspace(0, operations.count, looks + 1).astype(int)[1:]).tolist()


def _look(player: Player, row: int, link: Link, largest: int, address_map: places.AddressMap) -> dict[str, float]:
    told, calls, waited_ns = player.look()
    totals = player.board.totals
    parts = sum(told[f"{part}_bytes"] for part in ("internal", "reserved", "metadata"))
    return {
        "operation": row,
        "time_ns": float(player.operations.time_ns[row - 1]),
        "live_bytes": int(totals[r.LIVE_BYTES]),
        "live_objects": int(totals[r.LIVE_OBJECTS]),
        "allocated_bytes": int(totals[r.LIVE_BYTES]) + parts,
        **told,
        **_placed(player, told["largest_free_bytes"], link, largest, address_map),
        "failures": int(totals[r.FAILURES]),
        **{name: calls[name] for name in SYSTEM_CALLS},
        "waited_ns": waited_ns,
    }


def _placed(player: Player, fits: int, link: Link, largest: int, address_map: places.AddressMap) -> dict[str, float]:
    """Of where objects are; -1 and NaN where the allocator names no places."""
    if not player.allocator.names_places:
        nothing = float("nan")
        return {"runs": -1, "run_bytes": -1, "holes": -1, "unusable_free_share": nothing, "transfer_share": nothing}
    runs = player.runs()
    ordered = places.in_order(runs)
    address_map.add(ordered)
    holes = places.holes_of(ordered, player.capacity_bytes)
    scatters = fits > holes.size_bytes.max(initial=0)  # it needs no hole as large as the object
    return {
        "runs": runs.shape[0],
        "run_bytes": int(runs[:, places.BYTES].sum()),
        "holes": holes.size_bytes.size,
        "unusable_free_share": 0.0 if scatters else places.unusable_share(holes, largest),
        "transfer_share": places.transfer_share(runs, link.bandwidth_bytes_per_ns, link.per_copy_ns),
    }
