"""`timeline`: what happened when in a run, as a trace that Perfetto opens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.commands import output

if TYPE_CHECKING:
    from sim.timeline.running import Timeline


def timeline(
    folder: str,
    out: str | None,
    from_: str | None,
    to: str | None,
    most: int,
    recorded: bool,
    scenario: str | None,
    trace: str | None,
    form: output.Form,
) -> None:
    """Write it and say what is in it. Raises InputError where that cannot be."""
    from sim.result_set import load_result
    from sim.timeline.picture import Window
    from sim.timeline.running import make_timeline
    from sim.units import parse_time

    window = Window(parse_time(from_) if from_ else 0.0, parse_time(to) if to else float("inf"))
    result = load_result(folder)
    path = Path(out) if out else Path(folder) / "timeline.json.gz"
    with output.live() as view:
        progress = view.begin("simulating it again") if view else None
        made = make_timeline(result, path, window, most, recorded, scenario, trace, progress)
    output.show(_answer(made), form)


def _answer(made: Timeline) -> output.Answer:
    rows = [{"kind": kind, **told} for kind, told in made.drawn.kinds.items()]
    document: dict[str, Any] = {
        "timeline": str(made.path),
        "of": made.kind,
        "bytes": made.path.stat().st_size,
        "events": made.drawn.events,
        "kinds": made.drawn.kinds,
        "notes": list(made.notes),
    }
    notes = [*made.notes, f"{made.drawn.events:,} events: {made.path} (open it at ui.perfetto.dev)"]
    return output.Answer(document, rows, lambda: _table(rows), notes)


def _table(rows: list[dict[str, Any]]):
    from sim.timeline.sampling import ordinal

    def which(row: dict[str, Any]) -> str:
        if row["every"] == 1:
            return "all"
        slowest = f" and the slowest {row['slowest']:,}" if row["slowest"] else ""
        return f"every {ordinal(row['every'])}{slowest}"

    def in_window(row: dict[str, Any]) -> str:
        about = "about " if row["read_every"] > 1 else ""
        return f"{about}{row['in_picture'] * row['read_every']:,}"

    told = [[row["kind"], in_window(row), f"{row['drawn']:,}", which(row)] for row in rows]
    return output.table(["", "in the window", "drawn", "which"], told)
