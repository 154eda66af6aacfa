"""Scenarios of language models served, as one kind of several (`sim.scenario_kind`)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.looks import Progress
from sim.scenario_kind import ScenarioKind, Variant

if TYPE_CHECKING:
    import numpy as np
    from rich.console import RenderableType

    from sim.metrics import Metric
    from sim.report.cells import Shown
    from sim.report.sections import Section
    from sim.serving.results import ServingResult
    from sim.serving.scenario import ServingScenario
    from sim.trace import Trace


class ServingKind(ScenarioKind):
    """Calls of a language model served by engines with a tiered KV cache."""

    name = "serving"
    results = "memhier serving"
    headline = ("ttft_p99_ns", "tpot_p99_ns", "good_calls_per_s", "cost_usd_per_million_tokens")
    trade = ("ttft_mean_ns", "cost_usd_per_million_tokens")

    def load(
        self, name_or_path: str | Path, overrides: Mapping[str, object] | None = None, seed: int | None = None
    ) -> ServingScenario:
        from sim.serving.scenario import load_serving_scenario

        return load_serving_scenario(name_or_path, overrides, seed)

    def variants(self, scenario: ServingScenario, labels: Sequence[str], tier: str | None = None) -> list[Variant]:
        from sim.choice import parse_choice
        from sim.serving.scenario import with_eviction

        choices = [parse_choice(text) for text in (labels or scenario.compare)]
        return [Variant(choice.label, with_eviction(scenario, choice, tier)) for choice in choices]

    def inputs_key(self, scenario: ServingScenario) -> str:
        needs = {need for plugin in scenario.plugins() for need in plugin.needs}
        workload = scenario.workload
        seed = None if workload.generator is None else scenario.seed if workload.seed is None else workload.seed
        return json.dumps([asdict(workload), seed, sorted(needs)], sort_keys=True, default=str)

    def inputs(self, scenario: ServingScenario, variants: Iterable[ServingScenario] = ()) -> Trace:
        from sim.serving.scenario import load_calls

        return load_calls(scenario, variants)

    def code_key(self, scenario: ServingScenario) -> str:
        options = scenario.options
        tiers = [[tier.name, tier.eviction.name, tier.admission.name, tier.offload.name] for tier in options.tiers]
        engine = [options.scheduling.name, options.allocator.name, options.reservation]
        return json.dumps([scenario.system, dict(scenario.profile_overrides), tiers, engine], default=str)

    def digests(self, scenario: ServingScenario) -> dict[str, str]:
        from sim.cost.calibration import load_calibration, load_gpu
        from sim.input_digests import of_content, of_profile, of_workload
        from sim.llm.models import load_model
        from sim.profile import load_profile

        return {
            **of_profile(load_profile(scenario.system, scenario.profile_overrides)),
            **scenario.policy_digests(),
            **of_workload(scenario.workload),
            **of_content("model", load_model(scenario.model)),
            **of_content("gpu", load_gpu(scenario.gpu)),
            **of_content("kernels", load_calibration(scenario.kernels)),
        }

    def run(
        self, scenario: ServingScenario, inputs: Trace, label: str, progress: Progress | None = None
    ) -> ServingResult:
        from sim.cost.calibration import load_gpu
        from sim.profile import load_profile
        from sim.serving.metrics import Accelerators
        from sim.serving.results import ServingResult
        from sim.serving.simulation import simulate

        gpu = load_gpu(scenario.gpu)
        began = time.perf_counter()
        ended = simulate(scenario, progress, inputs)
        return ServingResult.from_run(
            ended,
            scenario.resolved(),
            label=label,
            slo=scenario.slo,
            accelerators=Accelerators(
                per_engine=scenario.options.tensor_parallel,
                power_w=gpu.power.value if gpu.power else None,
                usd_per_hour=gpu.price.value if gpu.price else None,
            ),
            profile=load_profile(scenario.system, scenario.profile_overrides),
            shared=scenario.cluster.shared,
            policies=scenario.policy_digests(),
            wall_seconds=time.perf_counter() - began,
        )

    def request_means(self, result: ServingResult) -> dict[str, np.ndarray]:
        import numpy as np

        from sim.serving import metrics
        from sim.serving.record import PARTS

        done = result.completed()
        columns = ("arrival_ns", "first_token_ns", "finish_ns", "generated_tokens", *PARTS)
        calls = {name: result.column("requests", name) for name in columns}
        told = {name.replace("_ns", "_mean_ns"): calls[name] for name in PARTS}
        told |= {
            "ttft_mean_ns": metrics.ttft_ns(calls),
            "tpot_mean_ns": metrics.tpot_ns(calls),
            "latency_mean_ns": metrics.latency_ns(calls),
        }
        return {name: np.where(done, values, np.nan) for name, values in told.items() if name in result.summary}

    def result_class(self) -> type[ServingResult]:
        from sim.serving.results import ServingResult

        return ServingResult

    def declaration(self, metric: str) -> Metric:
        from sim.serving.metrics import declaration

        return declaration(metric)

    def run_report(self, result: ServingResult) -> RenderableType:
        from sim.serving.report import run_report

        return run_report(result)

    def comparison_report(self, results: Sequence[ServingResult]) -> RenderableType:
        from sim.serving.report import comparison_report

        return comparison_report(results)

    def columns(self) -> tuple[Shown, ...]:
        from sim.serving.report import COLUMNS

        return COLUMNS

    def verdict(self, results: Sequence[ServingResult]) -> list[str]:
        from sim.serving.report import verdict

        return verdict(results)

    def facts(self, result: ServingResult) -> list[tuple[str, Any]]:
        from sim.serving.sections import facts

        return facts(result)

    def report_sections(
        self, compared: Sequence[ServingResult], detailed: Sequence[ServingResult], most_points: int
    ) -> list[Section]:
        from sim.serving.sections import sections

        return sections(compared, detailed, most_points)

    def needed(self, result: ServingResult) -> ServingResult:
        from sim.serving.figures import needed

        return needed(result)

    def save_run_figures(self, result: ServingResult, folder: Path) -> list[Path]:
        from sim.serving.figures import save_run_figures

        return save_run_figures(result, folder)

    def save_comparison_figure(self, results: Sequence[ServingResult], path: Path) -> Path:
        from sim.serving.figures import save_comparison_figure

        return save_comparison_figure(results, path)
