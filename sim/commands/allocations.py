"""`alloc`, and `explain` of replays of allocations."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from sim.choice import parse_choice
from sim.commands import output
from sim.commands.options import reader_options
from sim.commands.scenarios import compare_loaded
from sim.errors import InputError
from sim.fragmentation.kind import AllocationKind
from sim.fragmentation.scenario import AllocationScenario


def alloc(
    trace: str,
    allocators: str,
    capacity: str,
    source: str | None,
    options: list[str] | None,
    link: str,
    looks: int,
    seed: int,
    out: str | None,
    as_json: bool,
) -> None:
    labels = tuple(label.strip() for label in allocators.split(",") if label.strip())
    if not labels:
        raise InputError("no allocator", expected="names such as best_fit,buddy (list policies)")
    scenario = AllocationScenario(
        name=Path(trace).name.split(".")[0] or "trace",
        trace=trace,
        allocator=parse_choice(labels[0]),
        source=source,
        options=reader_options(options),
        capacity=capacity,
        link=link,
        looks=looks,
        seed=seed,
        compare=labels,
    )
    folder = Path(out) if out is not None else Path("results") / f"{scenario.name}-alloc"
    compare_loaded(AllocationKind(), scenario, labels, folder, as_json)


def explain(folder: str, trace: str | None, as_json: bool) -> None:
    """Print why the first refused operation of a replay was refused, and what would have avoided it.

    Raises InputError where there is no such result, or its stream is not here.
    """
    from sim.fragmentation import explain as why
    from sim.fragmentation.results import AllocationResult

    scenario, operations = why.rebuilt(AllocationResult.load(folder), trace)
    moment = why.moment(scenario, operations)
    ways = why.ways_out(scenario, operations) if moment.refused else []
    least = why.least_capacity_bytes(scenario, operations) if moment.refused else None
    if as_json:
        told = {"moment": asdict(moment), "ways_out": [asdict(way) for way in ways], "least_capacity_bytes": least}
        output.print_json(told)
        return
    from sim.fragmentation.report import moment_report

    output.console().print(moment_report(scenario, moment, ways, least))
