"""`run` and `compare`: scenarios of every kind, their tables and figures."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.commands import output
from sim.commands.output import Answer
from sim.report.drawing import Drawing

if TYPE_CHECKING:
    from sim.saved_result import Beside, SavedResult
    from sim.scenario_kind import ScenarioKind


def run(scenario: str, overrides: dict[str, str], seed: int | None, out: str | None) -> Answer:
    """Run it and keep tables and figures. Raises InputError for bad input."""
    folder = _folder(scenario, out)
    with Drawing() as drawing:  # first of all, as its process takes longer to start than anything here
        from sim.running import run as run_scenario
        from sim.scenario_kind import kind_of

        kind = kind_of(scenario)

        with output.live() as view:
            progress = view.begin(f"run {Path(scenario).stem}") if view else None
            result = run_scenario(scenario, overrides, seed, folder, progress, _figures(kind, drawing))
    document = {"summary": result.summary, "result": str(result.folder)}
    notes = [f"tables and figures: {result.folder}"]
    return Answer(document, _scores(kind, result), lambda: kind.run_report(result), notes)


def _scores(kind: ScenarioKind, result: SavedResult) -> list[dict[str, Any]]:
    declared = {name: kind.declaration(name) for name in result.summary}
    return [
        {"metric": name, "value": value, "unit": declared[name].unit, "better": declared[name].better}
        for name, value in result.summary.items()
    ]


def compare(
    scenario: str,
    policies: str | None,
    tier: str | None,
    overrides: dict[str, str],
    seed: int | None,
    out: str | None,
    against: str | None = None,
) -> Answer:
    """Run it once for each policy. Raises InputError for bad input."""
    from sim.scenario_kind import kind_of

    kind = kind_of(scenario)
    loaded = kind.load(scenario, overrides, seed)
    names = tuple(name.strip() for name in (policies or "").split(",") if name.strip())
    return compare_loaded(kind, loaded, names, _folder(scenario, out, "-compare"), tier, against)


def compare_loaded(
    kind: ScenarioKind,
    scenario: Any,
    policies: tuple[str, ...],
    folder: Path,
    tier: str | None = None,
    against: str | None = None,
) -> Answer:
    """Compare and draw."""
    with Drawing() as drawing:
        from sim import running

        with output.live() as view:
            results = running.compare_loaded(
                kind,
                scenario,
                policies,
                tier,
                folder,
                view.begin if view else None,
                against,
                _figures(kind, drawing) if kind.draws_compared else None,
            )
        shown = [kind.needed(result) for result in results]
        with drawing.drawn(kind.save_comparison_figure, shown, folder.absolute() / "comparison.png"):
            pass
    rows = [{kind.compared: result.label, **result.summary} for result in results]
    return Answer(
        {kind.plural: rows},
        output.aligned(rows),
        lambda: _comparison(kind, results, against),
        [f"tables and figures: {folder}"],
    )


def _comparison(kind: ScenarioKind, results: list[SavedResult], against: str | None):
    from rich.console import Group

    if not against:
        return kind.comparison_report(results)
    headings = ["policy", "hit ratio", f"fewer misses than {against}", "part of the way to belady"]
    return Group(kind.comparison_report(results), output.table(headings, _standing(results)))


def _figures(kind: ScenarioKind, drawing: Drawing) -> Beside:
    """Draws a run's figures while its tables are written."""

    def beside(result: SavedResult, into: Path) -> AbstractContextManager:
        return drawing.drawn(kind.save_run_figures, kind.needed(result), into.absolute())

    return beside


def _standing(results: list[SavedResult]) -> list[list[str]]:
    """Where each policy stands between the one compared to and Belady's rule, the best marked."""
    from sim.metrics import HIGHER
    from sim.report.cells import marked

    columns = []
    for name in ("hit_ratio", "miss_ratio_reduction", "part_of_the_way_to_belady"):
        values = [result.summary[name] for result in results]
        texts = [f"{value:.2%}" if math.isfinite(value) else "-" for value in values]
        columns.append(marked(texts, values, HIGHER))
    return [list(row) for row in zip([result.label for result in results], *columns, strict=True)]


def _folder(scenario: str, out: str | None, suffix: str = "") -> Path:
    return Path(out) if out is not None else Path("results") / (Path(scenario).stem + suffix)
