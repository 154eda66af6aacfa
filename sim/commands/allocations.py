"""`alloc`, and `run`, `compare` and `explain` of replays of allocations: their tables and figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sim import registry
from sim.choice import Choice, parse_choice
from sim.commands import output
from sim.commands.options import reader_options
from sim.errors import InputError
from sim.fragmentation.scenario import AllocationScenario, load_allocation_scenario
from sim.scenario_schema import checked_choice

if TYPE_CHECKING:
    from sim.fragmentation.results import AllocationResult


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
    choices = _choices(allocators.split(","))
    scenario = AllocationScenario(
        name=Path(trace).name.split(".")[0] or "trace",
        trace=trace,
        allocator=choices[0],
        source=source,
        options=reader_options(options),
        capacity=capacity,
        link=link,
        looks=looks,
        seed=seed,
        compare=tuple(choice.label for choice in choices),
    )
    folder = Path(out) if out is not None else Path("results") / f"{scenario.name}-alloc"
    _compare(scenario, choices, folder, as_json)


def run(scenario: str, overrides: dict[str, str], seed: int | None, folder: Path, as_json: bool) -> None:
    from sim.report.drawing import Drawing

    resolved = load_allocation_scenario(scenario, overrides, seed)
    with Drawing() as drawing:
        from sim.fragmentation.running import run as run_scenario

        with output.progress(f"run {Path(scenario).stem}") as progress:
            result = run_scenario(resolved, folder, progress, _figures(drawing))
    if as_json:
        output.print_json({"summary": result.summary, "result": str(result.folder)})
        return
    from sim.fragmentation.report import run_report

    output.console().print(run_report(result))
    print(f"tables and figures: {result.folder}")


def compare(
    scenario: str,
    allocators: list[str],
    tier: str | None,
    overrides: dict[str, str],
    seed: int | None,
    folder: Path,
    as_json: bool,
    against: str | None,
) -> None:
    for name, given in (("--tier", tier), ("--against", against)):
        if given is not None:
            raise InputError(f"{name} is of scenarios with eviction policies, not of allocators:", value=given)
    resolved = load_allocation_scenario(scenario, overrides, seed)
    _compare(resolved, _choices(allocators or resolved.compare), folder, as_json)


def _choices(labels: Sequence[str]) -> list[Choice]:
    """Raises InputError for an unknown allocator, a parameter that it does not have, or one twice."""
    choices = [checked_choice(parse_choice(label), registry.ALLOCATOR) for label in labels if label.strip()]
    if not choices:
        raise InputError("no allocator", expected="names such as best_fit,buddy (list policies)")
    twice = next((one.label for at, one in enumerate(choices) if one in choices[:at]), None)
    if twice is not None:
        raise InputError("an allocator twice:", value=twice, expected="each once")
    return choices


def _compare(scenario: AllocationScenario, choices: list[Choice], folder: Path, as_json: bool) -> None:
    from sim.report.drawing import Drawing

    with Drawing() as drawing:
        from sim.fragmentation.figures import needed, save_comparison_figure
        from sim.fragmentation.running import compare as compare_allocators

        with ExitStack() as bars:
            progress = (lambda label: bars.enter_context(output.progress(label))) if sys.stderr.isatty() else None
            results = compare_allocators(scenario, choices, folder, progress, _figures(drawing))
        figure = folder.absolute() / "comparison.png"
        with drawing.drawn(save_comparison_figure, list(map(needed, results)), figure):
            pass
    if as_json:
        output.print_json({"allocators": [{"allocator": result.label, **result.summary} for result in results]})
        return
    from sim.fragmentation.report import comparison_report, run_report

    output.console().print(comparison_report(results) if len(results) > 1 else run_report(results[0]))
    print(f"tables and figures: {folder}")


def _figures(drawing):
    def beside(result: AllocationResult, into: Path) -> AbstractContextManager:
        from sim.fragmentation.figures import needed, save_run_figures

        return drawing.drawn(save_run_figures, needed(result), into.absolute())

    return beside


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
