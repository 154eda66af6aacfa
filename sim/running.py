"""Runs scenarios of any kind and keeps their results: one, or one for each of several policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sim.looks import Progress
from sim.result_files import check_place
from sim.saved_result import Beside, SavedResult
from sim.scenario_kind import ScenarioKind, Variant, kind_of


def run(
    scenario: str | Path,
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    beside: Beside | None = None,
) -> SavedResult:
    """Run a scenario by name or path, with dotted overrides; where `out` is given, the results are saved there.

    beside: what else is put there, see `SavedResult.saved`. Raises InputError for bad input.
    """
    kind = kind_of(scenario)
    return run_loaded(kind, kind.load(scenario, overrides, seed), out, progress, beside)


def run_loaded(
    kind: ScenarioKind,
    scenario: Any,
    out: str | Path | None = None,
    progress: Progress | None = None,
    beside: Beside | None = None,
) -> SavedResult:
    """`run` of a scenario that is not of a file."""
    if out is not None:
        check_place(out)
    result = kind.run(scenario, kind.inputs(scenario), scenario.name, progress)
    return result if out is None else result.saved(out, beside)


def compare(
    scenario: str | Path,
    policies: Iterable[str] = (),
    tier: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    progress: Callable[[str], Progress | None] | None = None,
    against: str | None = None,
    beside: Beside | None = None,
) -> list[SavedResult]:
    """Run a scenario once for each policy, in the order asked for; by default for those it lists itself.

    policies: eviction policies, or allocators where the scenario is of allocations. tier: change the policy of this
    caching tier only. progress: makes the progress callback of a policy's run. Where `out` is given, each run is saved
    in a folder of that, named as the policy. against: a policy to measure all others against; it and `belady` are run,
    too, and each summary says where its policy stands between them (`sim.metrics`).
    """
    kind = kind_of(scenario)
    return compare_loaded(
        kind, kind.load(scenario, overrides, seed), tuple(policies), tier, out, progress, against, beside
    )


def compare_loaded(
    kind: ScenarioKind,
    scenario: Any,
    policies: tuple[str, ...] = (),
    tier: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[str], Progress | None] | None = None,
    against: str | None = None,
    beside: Beside | None = None,
) -> list[SavedResult]:
    """`compare` of a scenario that is not of a file."""
    references = kind.references(against) if against is not None else []
    asked = kind.variants(scenario, policies, tier)
    reached = kind.variants(scenario, references, tier) if references else []
    runs = [*asked, *(one for one in reached if one.label not in {variant.label for variant in asked})]
    folders = {one.label: None if out is None else Path(out) / folder_name(one.label) for one in runs}
    for folder in folders.values() if out is not None else ():
        check_place(folder)
    results = _run_all(kind, scenario, runs, folders, progress, beside)
    if not references:
        return list(results.values())
    measures = [results[one.label] for one in reached]
    return [kind.placed(results[one.label], measures, tier) for one in asked]


def _run_all(
    kind: ScenarioKind,
    scenario: Any,
    runs: list[Variant],
    folders: Mapping[str, Path | None],
    progress: Callable[[str], Progress | None] | None,
    beside: Beside | None,
) -> dict[str, SavedResult]:
    """Label -> result, each saved before the next is begun."""
    inputs = kind.inputs(scenario, [one.scenario for one in runs])
    results = {}
    for label, variant in runs:
        result = kind.run(variant, inputs, label, progress(label) if progress else None)
        results[label] = result if folders[label] is None else result.saved(folders[label], beside)
    return results


def folder_name(label: str) -> str:
    """What the folder of a policy's run is called."""
    return label.replace(":", "_")
