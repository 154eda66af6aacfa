"""`probe` of an operation on a computational drive: what the engine beside the flash gains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sim import units
from sim.commands import output
from sim.commands.output import Answer
from sim.errors import InputError

if TYPE_CHECKING:
    from sim.csd.running import Comparison, Run

_ROUTES = {
    "engine": "engine beside the flash",
    "host": "host's memory, over the link",
    "host_gpu": "GPU, through the host's memory",
    "peer": "GPU, peer to peer",
}


def operate(
    device: str,
    pattern: str,
    outstanding: str | None,
    size: str | None,
    read_ratio: float,
    seed: int,
    changes: Mapping[str, Any],
) -> Answer:
    """An operation by every route. outstanding: how many requests the host keeps under way meanwhile, if any.

    Raises InputError for what is no operation, or no computational drive.
    """
    from sim.csd.running import Background, compare_routes

    if outstanding is not None and not outstanding.isdigit():
        expected = "one whole number: how many requests the host keeps under way beside the operation"
        raise InputError("--outstanding", value=outstanding, expected=expected)
    size_bytes = units.parse_bytes(size) if size is not None else Background.size_bytes
    background = Background(int(outstanding or 0), size_bytes, read_ratio, seed)
    comparison = compare_routes(device, pattern, changes, background)
    found = document(device, pattern, comparison)
    columns = ["data goes to", "time", "read from flash", "engine is", "limited by", "busy", "host's own requests"]
    runs = list(comparison.runs.values())
    routes = [{"route": name, **told} for name, told in found["routes"].items()]
    return Answer(found, routes, lambda: output.table(columns, _rows(comparison, runs)))


def document(device: str, pattern: str, comparison: Comparison) -> dict[str, Any]:
    """What is printed as JSON."""
    operation = comparison.operation
    return {
        "device": device,
        "pattern": pattern,
        "operation": operation.kind,
        "size_bytes": operation.size_bytes,
        "flops_per_byte": operation.flops_per_byte,
        "returned_bytes": operation.returned_bytes,
        "routes": {
            name: {
                "elapsed_ns": run.elapsed_ns,
                "bandwidth_GBps": operation.size_bytes / run.elapsed_ns,
                "engine_speed_up": comparison.speed_up(name),
                "bottleneck": run.bottleneck,
                "busy": run.busy,
                "host_requests": run.host_requests,
                "host_mean_ns": run.host_mean_ns if run.host_requests else None,
                "energy_pj": run.energy_pj,
                "counts": run.counts,
            }
            for name, run in comparison.runs.items()
        },
    }


def _rows(comparison: Comparison, runs: list[Run]) -> list[list[str]]:
    """A row a route, the shortest time marked."""
    from sim.report.cells import marked

    times = marked([units.format_time(run.elapsed_ns, 4) for run in runs], [run.elapsed_ns for run in runs])
    return [_row(comparison, run, time) for run, time in zip(runs, times, strict=True)]


def _row(comparison: Comparison, run: Run, time: str) -> list[str]:
    busiest = sorted(run.busy.items(), key=lambda item: -item[1])[:3]
    faster = "" if run.route == "engine" else f"{comparison.speed_up(run.route):.2f} x as fast"
    host = f"{run.host_requests:,}, {units.format_time(run.host_mean_ns, 3)}" if run.host_requests else ""
    return [
        _ROUTES[run.route],
        time,
        units.format_bandwidth(comparison.operation.size_bytes / run.elapsed_ns, 3),
        faster,
        run.bottleneck,
        ", ".join(f"{part} {share:.0%}" for part, share in busiest),
        host,
    ]
