"""Runs serving scenarios and keeps their results: one, or one for each of several eviction policies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sim.choice import Choice, parse_choice
from sim.profile import load_profile
from sim.serving.scenario import ServingScenario, load_calls, load_serving_scenario, with_eviction

if TYPE_CHECKING:  # the engine and the tables bring numba and pyarrow with them
    from sim.serving.results import Beside, ServingResult
    from sim.trace import Trace

Progress = Callable[[int, int], None]  # calls ended, calls in all


def run(
    scenario: ServingScenario,
    out: str | Path | None = None,
    progress: Progress | None = None,
    beside: Beside | None = None,
) -> ServingResult:
    """Run a serving scenario; where `out` is given, the results are saved there.

    beside: what else is put there, see `sim.serving.results.save`. Raises InputError for bad input.
    """
    from sim.results import check_place

    if out is not None:
        check_place(out)
    return _saved(_result(scenario, load_calls(scenario), scenario.name, progress), out, beside)


def run_serving(
    scenario: str | Path,
    overrides: Mapping[str, object] | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> ServingResult:
    """Run a serving scenario by name or path, with dotted overrides; where `out` is given, the results are saved there.

    Raises InputError for bad input.
    """
    return run(load_serving_scenario(scenario, overrides, seed), out, progress)


def compare(
    scenario: ServingScenario,
    policies: Iterable[str] = (),
    tier: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[str], Progress | None] | None = None,
) -> list[ServingResult]:
    """Run a scenario once for each eviction policy, in the order asked for; by default for those it lists itself.

    tier: change the policy of this tier only, instead of G1's and of all below. progress: makes the callback of one
    policy's run. Where `out` is given, each run is saved in a folder of that, named as the policy.
    """
    from sim.results import check_place

    choices = [parse_choice(text) for text in (tuple(policies) or scenario.compare)]
    variants = [with_eviction(scenario, choice, tier) for choice in choices]
    folders = [None if out is None else Path(out) / _folder_name(choice) for choice in choices]
    for folder in folders if out is not None else ():
        check_place(folder)
    trace, results = load_calls(scenario, variants), []
    for choice, variant, folder in zip(choices, variants, folders, strict=True):
        follow = progress(choice.label) if progress else None
        results.append(_saved(_result(variant, trace, choice.label, follow), folder))
    return results


def _result(scenario: ServingScenario, trace: Trace, label: str, progress: Progress | None) -> ServingResult:
    from sim.cost.calibration import load_gpu
    from sim.serving.metrics import Accelerators
    from sim.serving.results import ServingResult
    from sim.serving.simulation import simulate

    gpu = load_gpu(scenario.gpu)
    began = time.perf_counter()
    ended = simulate(scenario, progress, trace)
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
        wall_seconds=time.perf_counter() - began,
    )


def _saved(result: ServingResult, out: str | Path | None, beside: Beside | None = None) -> ServingResult:
    from sim.serving.results import save

    return result if out is None else save(result, out, beside)


def _folder_name(choice: Choice) -> str:
    return choice.label.replace(":", "_")
