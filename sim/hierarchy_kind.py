"""Scenarios of a memory hierarchy, as one kind of several (`sim.scenario_kind`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.errors import InputError
from sim.looks import Progress
from sim.scenario_kind import ScenarioKind, Variant

if TYPE_CHECKING:
    import numpy as np
    from rich.console import RenderableType

    from sim.metrics import Metric
    from sim.report.cells import Shown
    from sim.report.sections import Section
    from sim.results import Result
    from sim.scenario import Scenario
    from sim.trace import Trace

_PARTS = ("latency", "queue", "device", "link", "wait")  # of a request's time, and the whole


class HierarchyKind(ScenarioKind):
    """Block accesses served by tiers with eviction, admission, offload and prefetch policies."""

    name = "hierarchy"
    results = "memhier result"
    headline = ("latency_mean_ns", "latency_p99_ns", "hit_ratio", "throughput_requests_per_s")
    trade = ("latency_mean_ns", "cost_usd_per_million_requests")

    def load(
        self, name_or_path: str | Path, overrides: Mapping[str, object] | None = None, seed: int | None = None
    ) -> Scenario:
        from sim.scenario import load_scenario

        return load_scenario(name_or_path, overrides, seed)

    def variants(self, scenario: Scenario, labels: Sequence[str], tier: str | None = None) -> list[Variant]:
        from sim.choice import parse_choice
        from sim.scenario import with_eviction

        choices = [parse_choice(text) for text in (labels or scenario.compare)]
        if not choices:
            raise InputError("no policies to compare", file=scenario.file, field="compare", expected="at least one")
        return [Variant(choice.label, with_eviction(scenario, choice, tier)) for choice in choices]

    def inputs_key(self, scenario: Scenario) -> str:
        needs = {need for plugin in scenario.plugins() for need in plugin.needs}
        workload = scenario.workload
        seed = None if workload.generator is None else scenario.seed if workload.seed is None else workload.seed
        return json.dumps([asdict(workload), seed, sorted(needs)], sort_keys=True, default=str)

    def inputs(self, scenario: Scenario, variants: Iterable[Scenario] = ()) -> Trace:
        from sim.scenario import load_workload

        return load_workload(scenario, variants)

    def code_key(self, scenario: Scenario) -> str:
        tiers = {
            name: [tier.eviction.name, tier.admission.name, tier.offload.name, tier.allocator.name]
            for name, tier in scenario.tiers.items()
        }
        workload = [scenario.workload.generator, scenario.workload.trace, scenario.workload.clients is None]
        return json.dumps([scenario.system, dict(scenario.profile_overrides), tiers, scenario.prefetch.name, workload])

    def digests(self, scenario: Scenario) -> dict[str, str]:
        from sim.input_digests import of_plugins, of_profile, of_workload
        from sim.profile import load_profile

        profile = load_profile(scenario.system, scenario.profile_overrides)
        return {**of_profile(profile), **of_plugins(scenario.plugins()), **of_workload(scenario.workload)}

    def run(self, scenario: Scenario, inputs: Trace, label: str, progress: Progress | None = None) -> Result:
        from sim.results import Result
        from sim.simulation import simulate

        return Result.from_simulation(simulate(scenario, trace=inputs, progress=progress), label)

    def references(self, against: str) -> list[str]:
        return [against, "belady"]

    def placed(self, result: Result, references: Sequence[Result], tier: str | None) -> Result:
        from sim.metrics import standing

        name = f"tier.{tier}.hit_ratio" if tier else "hit_ratio"
        hit_ratio, base_line, optimum = (one.summary[name] for one in (result, *references))
        return replace(result, summary={**result.summary, **standing(hit_ratio, base_line, optimum)})

    def request_means(self, result: Result) -> dict[str, np.ndarray]:
        import numpy as np

        parts = {f"{part}_mean_ns": result.column("requests", f"{part}_ns").astype(float) for part in _PARTS}
        served_by = result.column("requests", "served_by")
        by_cache = np.array([name != result.tier_names[-1] for name in served_by.names], float)
        return parts | {"hit_ratio": by_cache[served_by.codes]}

    def result_class(self) -> type[Result]:
        from sim.results import Result

        return Result

    def declaration(self, metric: str) -> Metric:
        from sim.metrics import declaration

        return declaration(metric)

    def run_report(self, result: Result) -> RenderableType:
        from sim.report.table import run_report

        return run_report(result)

    def comparison_report(self, results: Sequence[Result]) -> RenderableType:
        from sim.report.table import comparison_report

        return comparison_report(results)

    def columns(self) -> tuple[Shown, ...]:
        from sim.report.table import COLUMNS

        return COLUMNS

    def verdict(self, results: Sequence[Result]) -> list[str]:
        from sim.report.table import explain

        return explain(results)

    def facts(self, result: Result) -> list[tuple[str, Any]]:
        from sim.report.hierarchy_sections import facts

        return facts(result)

    def report_sections(
        self, compared: Sequence[Result], detailed: Sequence[Result], most_points: int
    ) -> list[Section]:
        from sim.report.hierarchy_sections import sections

        return sections(compared, detailed, most_points)

    def needed(self, result: Any) -> Result:
        from sim.report.figures import needed

        return needed(result)

    def save_run_figures(self, result: Result, folder: Path) -> list[Path]:
        from sim.report.figures import save_run_figures

        return save_run_figures(result, folder)

    def save_comparison_figure(self, results: Sequence[Result], path: Path) -> Path:
        from sim.report.figures import save_comparison_figure

        return save_comparison_figure(results, path)
