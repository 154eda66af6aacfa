"""`alloc`, and `explain` of replays of allocations."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sim.choice import parse_choice
from sim.commands.options import reader_options
from sim.commands.output import Answer
from sim.commands.scenarios import compare_loaded
from sim.errors import InputError
from sim.fragmentation.kind import AllocationKind
from sim.fragmentation.scenario import AllocationScenario

if TYPE_CHECKING:
    from sim.fragmentation.explain import Moment

_LISTED_APART = ("holes", "pins")  # of a moment


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
) -> Answer:
    """Replay the stream on each allocator. Raises InputError for bad input."""
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
    return compare_loaded(AllocationKind(), scenario, labels, folder)


def explain(folder: str, trace: str | None) -> Answer:
    """Why the first refused operation of a replay was refused, and what would have avoided it.

    Raises InputError where there is no such result, or its stream is not here.
    """
    from sim.fragmentation import explain as why
    from sim.fragmentation.report import moment_report
    from sim.fragmentation.results import AllocationResult

    scenario, operations = why.rebuilt(AllocationResult.load(folder), trace)
    moment = why.moment(scenario, operations)
    ways = why.ways_out(scenario, operations) if moment.refused else []
    least = why.least_capacity_bytes(scenario, operations) if moment.refused else None
    told = {"moment": asdict(moment), "ways_out": [asdict(way) for way in ways], "least_capacity_bytes": least}
    return Answer(told, [_row(moment, least)], lambda: moment_report(scenario, moment, ways, least))


def _row(moment: Moment, least_bytes: int | None) -> dict[str, object]:
    alone = {name: value for name, value in asdict(moment).items() if name not in _LISTED_APART}
    return {**alone, "least_capacity_bytes": least_bytes}
