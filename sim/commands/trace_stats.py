"""`trace-stats`: what a trace is like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sim.commands import output
from sim.commands.options import reader_options
from sim.commands.output import Answer
from sim.written_files import make_folder, write_text

if TYPE_CHECKING:
    from sim.trace_statistics import Statistics


def trace_stats(trace: str, reader: str | None, options: list[str] | None, out: str | None) -> Answer:
    """Raises InputError for a trace that cannot be read, or a folder that cannot be written."""
    from sim.trace_loading import load_trace
    from sim.trace_statistics import trace_statistics

    folder = None if out is None else make_folder(Path(out))
    needs = {"arrival_ns", "size_bytes", "op", "tenant"}
    chosen = reader_options(options)
    with load_trace(trace, reader, chosen, needs) as loaded, output.progress(f"trace-stats {trace}") as progress:
        statistics = trace_statistics(loaded, progress)
    if folder is not None:
        _save(statistics, folder)
    rows = [{"statistic": name, "value": value} for name, value in statistics.summary.items()]
    notes = [] if folder is None else [f"tables and figures: {folder}"]
    return Answer(statistics.summary, rows, lambda: _table(statistics), notes)


def _table(statistics: Statistics):
    rows = [[name.replace("_", " "), _text(name, value)] for name, value in statistics.summary.items()]
    return output.table(["", statistics.name], rows)


def _save(statistics, folder: Path) -> None:
    from sim.report.trace_figures import save_trace_figures

    for name, table in statistics.tables.items():
        lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*map(list, table.values()), strict=True))]
        write_text(folder / f"{name}.csv", "\n".join(lines) + "\n")
    write_text(folder / "summary.json", json.dumps(statistics.summary, indent=2) + "\n")
    save_trace_figures(statistics, folder)


def _text(name: str, value: float) -> str:
    from sim.units import format_bytes

    if name.endswith("_share"):
        return f"{100 * value:.2f} %"
    if "bytes" in name:
        return format_bytes(round(value), 4)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
