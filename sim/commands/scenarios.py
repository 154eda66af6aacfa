"""`run` and `compare`: scenarios, their tables and figures. Those of other kinds are handed on."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sim.commands import output

if TYPE_CHECKING:
    from sim.results import Result


def run(scenario: str, overrides: dict[str, str], seed: int | None, out: str | None, as_json: bool) -> None:
    folder = _folder(scenario, out)
    other = _other_kind(scenario)
    if other:
        other.run(scenario, overrides, seed, folder, as_json)
        return
    from sim.report.drawing import Drawing

    with Drawing() as drawing:
        from sim.report.figures import needed, save_run_figures
        from sim.simulation import run as run_scenario

        def beside(result: Result, into: Path) -> AbstractContextManager:
            return drawing.drawn(save_run_figures, needed(result), into.absolute())

        with output.progress(f"run {Path(scenario).stem}") as progress:
            result = run_scenario(scenario, overrides, seed, folder, progress, beside)
    if as_json:
        output.print_json({"summary": result.summary, "result": str(result.folder)})
        return
    from sim.report.table import run_report

    output.console().print(run_report(result))
    print(f"tables and figures: {result.folder}")


def compare(
    scenario: str,
    policies: str | None,
    tier: str | None,
    overrides: dict[str, str],
    seed: int | None,
    out: str | None,
    as_json: bool,
    against: str | None = None,
) -> None:
    names = [name.strip() for name in (policies or "").split(",") if name.strip()]
    folder = _folder(scenario, out, "-compare")
    other = _other_kind(scenario)
    if other:
        other.compare(scenario, names, tier, overrides, seed, folder, as_json, against)
        return
    from sim.report.drawing import Drawing

    with Drawing() as drawing:
        from sim.report.figures import needed, save_comparison_figure
        from sim.simulation import compare as compare_policies

        with ExitStack() as bars:
            progress = (lambda label: bars.enter_context(output.progress(label))) if sys.stderr.isatty() else None
            results = compare_policies(scenario, names, tier, overrides, seed, folder, progress, against)
        shown, figure = [needed(result) for result in results], folder.absolute() / "comparison.png"
        with drawing.drawn(save_comparison_figure, shown, figure):
            pass
    if as_json:
        output.print_json({"policies": [{"policy": r.label, **r.summary} for r in results]})
        return
    from sim.report.table import comparison_report

    output.console().print(comparison_report(results))
    if against:
        headings = ["policy", "hit ratio", f"fewer misses than {against}", "part of the way to belady"]
        output.console().print(output.table(headings, _standing(results)))
    print(f"tables and figures: {folder}")


def _standing(results: list[Result]) -> list[list[str]]:
    """Where each policy stands between the one compared to and Belady's rule."""
    shown = ("hit_ratio", "miss_ratio_reduction", "part_of_the_way_to_belady")
    return [[result.label, *(f"{result.summary[name]:.2%}" for name in shown)] for result in results]


def _other_kind(scenario: str) -> ModuleType | None:
    """The commands of a scenario that is none of a hierarchy's."""
    from sim.scenario_files import kind_of

    kind = kind_of(scenario)
    if kind == "serving":
        from sim.commands import serving

        return serving
    if kind == "allocation":
        from sim.commands import allocations

        return allocations
    return None


def _folder(scenario: str, out: str | None, suffix: str = "") -> Path:
    return Path(out) if out is not None else Path("results") / (Path(scenario).stem + suffix)
