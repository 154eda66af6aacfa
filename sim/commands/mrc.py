"""`mrc`: miss-ratio curves, as a table, a figure and CSV."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sim.commands import output
from sim.commands.output import Answer
from sim.written_files import make_folder, write_text

if TYPE_CHECKING:
    from sim.curves import Point


def mrc(
    trace: str,
    policies: str,
    sizes: str | None,
    points: int,
    method: str,
    rate: float,
    check: bool,
    ignore_object_size: bool,
    reader: str | None,
    seed: int,
    out: str | None,
    writes: bool,
) -> Answer:
    """Miss-ratio curves. writes: they are kept as files even where nobody says in which folder.

    Raises InputError for what cannot be replayed so, or a folder that cannot be written.
    """
    from sim.curves import errors_against, miss_ratio_curves

    names = [name.strip() for name in policies.split(",") if name.strip()]
    asked = [size.strip() for size in (sizes or "").split(",") if size.strip()]
    folder = Path(out) if out is not None else Path("results") / f"{Path(trace).stem}-mrc" if writes else None
    if folder is not None:
        make_folder(folder)
    settings = {"ignore_object_size": ignore_object_size, "reader": reader, "seed": seed}
    with output.progress(f"mrc {trace}", "replays") as progress:
        curves = miss_ratio_curves(
            trace, names, asked, points, method, rate, **settings, workers=None, progress=progress
        )
        exact = miss_ratio_curves(trace, names, asked, points, progress=progress, **settings) if check else []
    errors = errors_against(exact, curves) if check else {}
    if folder is not None:
        _save(curves, exact, folder)
    found = [asdict(point) for point in curves]
    unit = "objects" if ignore_object_size else "bytes"
    notes = [
        f"{policy}: mean absolute error against exact {mean:.4f}, largest {largest:.4f}"
        for policy, (mean, largest) in errors.items()
    ]
    notes += [] if folder is None else [f"curve and figure: {folder}"]
    return Answer(
        {"method": method, "rate": rate, "points": found, "errors": errors},
        [{**point, "capacity_unit": unit} for point in found],
        lambda: _table(curves, unit),
        notes,
    )


def _table(curves: list[Point], unit: str):
    """A row a capacity, a column a policy, the least of each row marked."""
    from sim.report.cells import marked

    points: dict[int, list[Point]] = {}
    for point in curves:
        points.setdefault(point.capacity, []).append(point)
    rows = [
        [
            f"{capacity:,} {unit} ({row[0].share:.2%})",
            *marked([f"{one.miss_ratio:.4f}" for one in row], [one.miss_ratio for one in row]),
        ]
        for capacity, row in points.items()
    ]
    return output.table(["capacity", *dict.fromkeys(point.policy for point in curves)], rows)


def _save(curves: list[Point], exact: list[Point], folder: Path) -> None:
    from sim.report.curve_figures import save_curves

    header = "policy,capacity,share,miss_ratio,byte_miss_ratio"
    for name, points in (("mrc", curves), ("mrc_exact", exact)):
        if points:
            lines = [header, *(",".join(map(str, asdict(point).values())) for point in points)]
            write_text(folder / f"{name}.csv", "\n".join(lines) + "\n")
    save_curves(curves, exact, folder / "mrc.png")
