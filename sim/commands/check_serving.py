"""`check-serving`: a measured run of a real engine, replayed, with the error of each figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sim.commands import output
from sim.commands.output import Answer
from sim.written_files import make_folder

if TYPE_CHECKING:
    from sim.serving.checking import Check


def check(
    folder: str,
    system: str,
    model: str | None,
    kernels: str | None,
    arrivals: str | None,
    figure: str | None,
) -> Answer:
    """Replay, and draw where asked. Raises InputError for bad input."""
    from sim.serving.checking import check_serving, known_model
    from sim.serving.measured import load_measured

    if figure is not None:
        make_folder(Path(figure).absolute().parent)
    name = known_model(load_measured(folder).model) if model is None else model
    with output.live() as view:
        progress = view.begin(f"check-serving {Path(folder).name}") if view else None
        found = check_serving(folder, system, name, kernels, arrivals, progress)
    if figure is not None:
        _save(found, Path(figure))
    rows = [
        {"figure": one.name, "ours": one.ours, "measured": one.measured, "error": one.error} for one in found.figures
    ]
    notes = [*_notes(found), *([] if figure is None else [f"figure: {figure}"])]
    return Answer(_document(found), rows, lambda: _table(found), notes)


def _save(found: Check, path: Path) -> None:
    from matplotlib.figure import Figure

    from sim.serving.checking import draw

    drawing = Figure(figsize=(8, 7), layout="constrained")
    draw(found, drawing)
    trial = path.with_name(f".{path.name}.unfinished.png")
    drawing.savefig(trial, dpi=120)
    trial.rename(path)


def _document(found: Check) -> dict:
    figures = {one.name: {"ours": one.ours, "measured": one.measured, "error": one.error} for one in found.figures}
    series = {one.name: {"mean_difference": one.mean_difference, "ours": one.ours.tolist()} for one in found.series}
    named = {key: getattr(found, key) for key in ("folder", "system", "model", "kernels", "arrivals")}
    return {**named, "figures": figures, "series": series, "notes": list(found.notes)}


def _table(found: Check):
    from sim.units import format_time

    rows = [
        [one.name.removesuffix("_ns"), format_time(one.ours, 4), format_time(one.measured, 4), f"{one.error:+.2%}"]
        for one in found.figures
    ]
    return output.table(["figure", "ours", "measured", "error"], rows)


def _notes(found: Check) -> list[str]:
    told = []
    for one in found.series:
        unit = " of all blocks" if one.name == "kv_use" else ""
        scale = 100.0 if one.name == "kv_use" else 1.0
        kind = "%" if one.name == "kv_use" else ""
        told.append(
            f"{one.name}: {scale * one.mean_difference:.3g}{kind}{unit} apart on average, each {one.t_s.size} looks"
        )
    told.append(f"{found.model} on {found.system}, kernels of {found.kernels}; arrivals: {found.arrivals}")
    return told + [f"note: {note}" for note in found.notes]
