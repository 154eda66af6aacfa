"""`run` and `compare`: scenarios of every kind, their tables and figures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.commands import output

if TYPE_CHECKING:
    from sim.report.drawing import Drawing
    from sim.saved_result import Beside, SavedResult
    from sim.scenario_kind import Progress, ScenarioKind

_MakeProgress = Callable[[str], "Progress | None"]


def run(scenario: str, overrides: dict[str, str], seed: int | None, out: str | None, as_json: bool) -> None:
    folder = _folder(scenario, out)
    from sim.report.drawing import Drawing
    from sim.scenario_kind import kind_of

    kind = kind_of(scenario)
    with Drawing() as drawing:
        from sim.running import run as run_scenario

        with output.progress(f"run {Path(scenario).stem}") as progress:
            result = run_scenario(scenario, overrides, seed, folder, progress, _figures(kind, drawing))
    if as_json:
        output.print_json({"summary": result.summary, "result": str(result.folder)})
        return
    output.console().print(kind.run_report(result))
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
    from sim.scenario_kind import kind_of

    kind = kind_of(scenario)
    loaded = kind.load(scenario, overrides, seed)
    names = tuple(name.strip() for name in (policies or "").split(",") if name.strip())
    compare_loaded(kind, loaded, names, _folder(scenario, out, "-compare"), as_json, tier, against)


def compare_loaded(
    kind: ScenarioKind,
    scenario: Any,
    policies: tuple[str, ...],
    folder: Path,
    as_json: bool,
    tier: str | None = None,
    against: str | None = None,
) -> None:
    """Compare, print and draw."""
    from sim.report.drawing import Drawing

    with Drawing() as drawing:
        from sim import running

        with ExitStack() as bars:
            progress: _MakeProgress = lambda label: bars.enter_context(output.progress(label))  # noqa: E731
            results = running.compare_loaded(
                kind,
                scenario,
                policies,
                tier,
                folder,
                progress if sys.stderr.isatty() else None,
                against,
                _figures(kind, drawing) if kind.draws_compared else None,
            )
        shown = [kind.needed(result) for result in results]
        with drawing.drawn(kind.save_comparison_figure, shown, folder.absolute() / "comparison.png"):
            pass
    if as_json:
        output.print_json({kind.plural: [{kind.compared: result.label, **result.summary} for result in results]})
        return
    output.console().print(kind.comparison_report(results))
    if against:
        headings = ["policy", "hit ratio", f"fewer misses than {against}", "part of the way to belady"]
        output.console().print(output.table(headings, _standing(results)))
    print(f"tables and figures: {folder}")


def _figures(kind: ScenarioKind, drawing: Drawing) -> Beside:
    """Draws a run's figures while its tables are written."""

    def beside(result: SavedResult, into: Path) -> AbstractContextManager:
        return drawing.drawn(kind.save_run_figures, kind.needed(result), into.absolute())

    return beside


def _standing(results: list[SavedResult]) -> list[list[str]]:
    """Where each policy stands between the one compared to and Belady's rule."""
    shown = ("hit_ratio", "miss_ratio_reduction", "part_of_the_way_to_belady")
    return [[result.label, *(f"{result.summary[name]:.2%}" for name in shown)] for result in results]


def _folder(scenario: str, out: str | None, suffix: str = "") -> Path:
    return Path(out) if out is not None else Path("results") / (Path(scenario).stem + suffix)
