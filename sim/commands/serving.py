"""`run` and `compare` of serving scenarios: their tables and figures."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from sim.commands import output
from sim.errors import InputError
from sim.serving.scenario import load_serving_scenario

if TYPE_CHECKING:
    from sim.serving.results import ServingResult


def run(scenario: str, overrides: dict[str, str], seed: int | None, folder: Path, as_json: bool) -> None:
    from sim.report.drawing import Drawing

    resolved = load_serving_scenario(scenario, overrides, seed)
    with Drawing() as drawing:
        from sim.serving.figures import needed, save_run_figures
        from sim.serving.running import run as run_scenario

        def beside(result: ServingResult, into: Path) -> AbstractContextManager:
            return drawing.drawn(save_run_figures, needed(result), into.absolute())

        with output.progress(f"run {Path(scenario).stem}") as progress:
            result = run_scenario(resolved, folder, progress, beside)
    if as_json:
        output.print_json({"summary": result.summary, "result": str(result.folder)})
        return
    from sim.serving.report import run_report

    output.console().print(run_report(result))
    print(f"tables and figures: {result.folder}")


def compare(
    scenario: str,
    policies: list[str],
    tier: str | None,
    overrides: dict[str, str],
    seed: int | None,
    folder: Path,
    as_json: bool,
    against: str | None,
) -> None:
    if against is not None:
        problem = "--against measures hit ratios against Belady's rule, which needs one order of accesses:"
        raise InputError(problem, value=against, expected="a scenario without 'serving'")
    from sim.report.drawing import Drawing

    resolved = load_serving_scenario(scenario, overrides, seed)
    with Drawing() as drawing:
        from sim.serving.figures import needed, save_comparison_figure
        from sim.serving.running import compare as compare_policies

        with ExitStack() as bars:
            progress = (lambda label: bars.enter_context(output.progress(label))) if sys.stderr.isatty() else None
            results = compare_policies(resolved, policies, tier, folder, progress)
        with drawing.drawn(save_comparison_figure, list(map(needed, results)), folder.absolute() / "comparison.png"):
            pass
    if as_json:
        output.print_json({"policies": [{"policy": result.label, **result.summary} for result in results]})
        return
    from sim.serving.report import comparison_report

    output.console().print(comparison_report(results))
    print(f"tables and figures: {folder}")
