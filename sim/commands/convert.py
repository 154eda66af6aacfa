"""`convert`: a trace from one format into another."""

from __future__ import annotations

import time
from pathlib import Path

from sim.commands import output
from sim.commands.options import reader_options
from sim.commands.output import Answer


def convert(source: str, target: str, reader: str | None, options: list[str] | None, format_name: str | None) -> Answer:
    """Raises InputError for what cannot be read or written; the target is then as it was before."""
    from sim.trace_columns import DERIVED
    from sim.trace_loading import load_trace
    from sim.trace_writing import format_of

    path = Path(target)
    chosen = format_of(path, format_name)
    started = time.perf_counter()
    with load_trace(source, reader=reader, options=reader_options(options)) as trace:
        chosen.write(trace, path, Path(source).name)
        document = {
            "target": str(path),
            "format": chosen.name,
            "requests": trace.n_requests,
            "objects": trace.n_blocks,
            "columns": sorted((trace.columns & chosen.keeps) - DERIVED),
            "not_kept": chosen.loses(trace),
            "bytes": _bytes(path),
            "seconds": time.perf_counter() - started,
        }
    rows = [[name.replace("_", " "), _text(value)] for name, value in document.items() if name != "target"]
    return Answer(document, [document], lambda: output.table(["", str(path)], rows))


def _bytes(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _text(value) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
