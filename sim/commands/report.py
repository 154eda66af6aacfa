"""`report`: one HTML file about results, and its figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sim.commands import output
from sim.written_files import make_folder, write_text

if TYPE_CHECKING:
    from sim.report.whole import Report

_PAGE = "report.html"


def report(
    folders: list[str], out: str | None, title: str | None, figures: str | None, show: bool, form: output.Form
) -> None:
    from sim import __version__
    from sim.report.page import page
    from sim.report.whole import report_of
    from sim.result_set import load_results

    place = _place(folders, out)
    results = load_results(*folders)
    made = report_of(results, title)
    text = page(made, __version__)
    make_folder(place.parent)
    saved = _save_figures(made, Path(figures)) if figures is not None else []
    write_text(place, text)
    notes = [f"report: {place}"] + ([f"figures: {figures}, {len(saved)} files"] if figures is not None else [])
    if show and not _opened(place):
        notes.append("no browser could be started; open the file in one")
    document = {
        "report": str(place),
        "title": made.title,
        "runs": len(results),
        "failed": len(results.failed),
        "missing": results.missing,
        "verdict": list(made.verdict),
        "sections": [{"name": one.name, "title": one.title} for one in made.sections],
        "figures": [str(path) for path in saved],
    }
    output.show(output.Answer(document, results.rows, lambda: "\n".join(made.verdict), notes), form)


def _place(folders: list[str], out: str | None) -> Path:
    """Where the page goes: beside the only results, or where the command was given."""
    if out is not None:
        return Path(out)
    return Path(folders[0]) / _PAGE if len(folders) == 1 else Path(_PAGE)


def _save_figures(made: Report, folder: Path) -> list[Path]:
    from sim.report.save_charts import save_charts
    from sim.report.sections import charts_of

    return save_charts(charts_of(made.sections), make_folder(folder))


def _opened(place: Path) -> bool:
    import webbrowser

    return webbrowser.open(place.absolute().as_uri())
