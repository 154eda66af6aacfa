"""Scenarios of a stream of allocations on an allocator, as one kind of several (`sim.scenario_kind`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.errors import InputError
from sim.looks import Progress
from sim.scenario_kind import ScenarioKind, Variant

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sim.fragmentation.operations import Operations
    from sim.fragmentation.results import AllocationResult
    from sim.fragmentation.scenario import AllocationScenario
    from sim.metrics import Metric
    from sim.report.cells import Shown
    from sim.report.sections import Section


class AllocationKind(ScenarioKind):
    """Allocations, resizes and releases replayed on an allocator."""

    name = "allocation"
    results = "memhier allocation"
    fewest = "failures"  # who refuses more has less to place
    trade = ("held_over_live_peak", "waited_ns")
    compared, plural = "allocator", "allocators"
    draws_compared = True
    headline = ("held_over_live_peak", "live_over_held", "external_fragmentation", "failures")
    inputs_are_traces = False

    def load(
        self, name_or_path: str | Path, overrides: Mapping[str, object] | None = None, seed: int | None = None
    ) -> AllocationScenario:
        from sim.fragmentation.scenario import load_allocation_scenario

        return load_allocation_scenario(name_or_path, overrides, seed)

    def variants(self, scenario: AllocationScenario, labels: Sequence[str], tier: str | None = None) -> list[Variant]:
        from sim import registry
        from sim.choice import parse_choice
        from sim.scenario_schema import checked_choice

        if tier is not None:
            raise InputError("--tier is of scenarios with eviction policies, not of allocators:", value=tier)
        wanted = [label for label in (labels or scenario.compare) if label.strip()]
        choices = [checked_choice(parse_choice(label), registry.ALLOCATOR) for label in wanted]
        if not choices:
            raise InputError("no allocator", expected="names such as best_fit,buddy (list policies)")
        twice = next((one.label for at, one in enumerate(choices) if one in choices[:at]), None)
        if twice is not None:
            raise InputError("an allocator twice:", value=twice, expected="each once")
        return [Variant(choice.label, replace(scenario, allocator=choice)) for choice in choices]

    def inputs_key(self, scenario: AllocationScenario) -> str:
        return json.dumps([scenario.trace, scenario.source, dict(scenario.options)], sort_keys=True, default=str)

    def inputs(self, scenario: AllocationScenario, variants: Iterable[AllocationScenario] = ()) -> Operations:
        from sim.fragmentation.scenario import load_scenario_operations

        return load_scenario_operations(scenario)

    def code_key(self, scenario: AllocationScenario) -> str:
        return json.dumps([scenario.allocator.name, scenario.trace, scenario.source])

    def digests(self, scenario: AllocationScenario) -> dict[str, str]:
        from sim import registry
        from sim.fragmentation.loading import source_digests
        from sim.input_digests import of_content, of_plugins

        allocator = registry.load(registry.ALLOCATOR, scenario.allocator.name)
        return {
            **of_plugins([allocator]),
            **of_content("link", scenario.link_of()),
            **source_digests(scenario.trace, scenario.source),
        }

    def run(
        self, scenario: AllocationScenario, inputs: Operations, label: str, progress: Progress | None = None
    ) -> AllocationResult:
        from sim.fragmentation.running import replayed

        return replayed(scenario, inputs, label, progress)

    def references(self, against: str) -> list[str]:
        raise InputError("--against is of scenarios with eviction policies, not of allocators:", value=against)

    def result_class(self) -> type[AllocationResult]:
        from sim.fragmentation.results import AllocationResult

        return AllocationResult

    def declaration(self, metric: str) -> Metric:
        from sim.fragmentation.metrics import declaration

        return declaration(metric)

    def run_report(self, result: AllocationResult) -> RenderableType:
        from sim.fragmentation.report import run_report

        return run_report(result)

    def comparison_report(self, results: Sequence[AllocationResult]) -> RenderableType:
        from sim.fragmentation.report import comparison_report, run_report

        return comparison_report(results) if len(results) > 1 else run_report(results[0])

    def columns(self) -> tuple[Shown, ...]:
        from sim.fragmentation.report import COLUMNS

        return COLUMNS

    def verdict(self, results: Sequence[AllocationResult]) -> list[str]:
        from sim.fragmentation.report import verdict

        return verdict(results)

    def facts(self, result: AllocationResult) -> list[tuple[str, Any]]:
        from sim.fragmentation.sections import facts

        return facts(result)

    def report_sections(
        self, compared: Sequence[AllocationResult], detailed: Sequence[AllocationResult], most_points: int
    ) -> list[Section]:
        from sim.fragmentation.sections import sections

        return sections(compared, detailed, most_points)

    def needed(self, result: AllocationResult) -> AllocationResult:
        from sim.fragmentation.figures import needed

        return needed(result)

    def save_run_figures(self, result: AllocationResult, folder: Path) -> list[Path]:
        from sim.fragmentation.figures import save_run_figures

        return save_run_figures(result, folder)

    def save_comparison_figure(self, results: Sequence[AllocationResult], path: Path) -> Path:
        from sim.fragmentation.figures import save_comparison_figure

        return save_comparison_figure(results, path)
