"""Records the heap allocations of a real program as a trace: time_ns,op,address_id,size_bytes.

The program is Python compiling modules of its own standard library to bytecode (python -m py_compile), with
PYTHONMALLOC=malloc so that every object is a heap block of its own. heap_shim.c, built here and preloaded, logs each
malloc, calloc, realloc, memalign and free. One row is one allocation (op alloc, the bytes asked for) or one free (op
free, the bytes of the object freed); address_id numbers the allocations 1, 2, ... and is never used again, so a free
names exactly one earlier allocation. A realloc that moved the block is an alloc and then a free of the old object;
one that changed its size in place is a free and then an alloc; one that changed nothing is no row. A request of 0
bytes counts as 1. With --skip, events before the window are left out, and with them the objects alive at its start.

Needs: Linux with glibc, gcc. Prints the versions, the file's bytes, and the rows, objects and reallocs by kind.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from _common import RecordingError, find_program, main_of, parser_for, report_written, run, version_of, write_csv_zst

SHIM = Path(__file__).with_name("heap_shim.c")


def build_shim(folder: Path) -> Path:
    """Compiles the shim into `folder`."""
    library = folder / "heap_shim.so"
    options = ["-O2", "-Wall", "-fno-builtin", "-shared", "-fPIC", "-pthread"]
    run([find_program("gcc"), *options, "-o", str(library), str(SHIM)])
    return library


def recorded_events(modules: list[str], folder: Path) -> np.ndarray:
    """The heap calls of the program, one row each: time_ns, block got, block given back, bytes asked for."""
    library, log = build_shim(folder), folder / "heap.log"
    sources = [Path(sysconfig.get_path("stdlib")) / f"{module}.py" for module in modules]
    missing = [source.name for source in sources if not source.is_file()]
    if missing:
        raise RecordingError(f"--modules: not in the standard library: {', '.join(missing)}")
    environment = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": str(folder / "cache")}
    environment["PATH"] = os.environ["PATH"]
    shim = {"LD_PRELOAD": str(library), "MEMHIER_HEAP_LOG": str(log)}
    command = [sys.executable, "-P", "-s", "-S", "-m", "py_compile", *map(str, sources)]
    run(command, env=environment, cwd=folder)  # fills the bytecode cache, so that the start-up is the usual one
    run(command, env=environment | shim, cwd=folder)
    return np.fromfile(log, dtype=np.uint64).reshape(-1, 4)


def rows_of(events: Iterable[list[int]], reallocs: Counter) -> Iterator[tuple[int, str, int, int]]:
    """Turns heap calls into rows; counts the reallocs of objects by kind. Frees of unknown blocks make no row."""
    alive: dict[int, tuple[int, int]] = {}
    count = 0
    for time, got, gave, size in events:
        old = alive.pop(gave, None) if gave else None
        size = max(size, 1)
        if got and old:
            kind = "moved" if got != gave else "unchanged" if old[1] == size else "in place"
            reallocs[kind] += 1
            if kind == "unchanged":
                alive[got] = old
                continue
        freed = [(time, "free", *old)] if old else []
        if not got:
            yield from freed
            continue
        count += 1
        alive[got] = (count, size)
        allocated = [(time, "alloc", count, size)]
        yield from allocated + freed if got != gave else freed + allocated


def record(arguments) -> None:
    """Runs the program under the shim and writes the trace."""
    versions = [f"Python {sys.version.split()[0]}", version_of([find_program("gcc"), "--version"])]
    with tempfile.TemporaryDirectory(prefix="memhier-record-") as name:
        events = recorded_events(arguments.modules, Path(name))
    events = events[arguments.skip :]
    if not len(events):
        raise RecordingError(f"--skip {arguments.skip}: the program made fewer heap calls")
    events[:, 0] -= events[0, 0]
    reallocs: Counter = Counter()
    rows = list(islice(rows_of(events.tolist(), reallocs), arguments.rows))
    size = write_csv_zst(arguments.out, ("time_ns", "op", "address_id", "size_bytes"), rows)
    facts = {"rows": len(rows), "objects": sum(row[1] == "alloc" for row in rows), "reallocs": dict(reallocs)}
    report_written(arguments.out, size, versions="; ".join(versions), heap_calls=len(events), **facts)


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--modules", nargs="+", default=["argparse"], help="modules of the standard library to compile")
    parser.add_argument("--skip", type=int, default=0, help="heap calls before the window")
    parser.add_argument("--rows", type=int, default=sys.maxsize, help="rows at most")
    return main_of(record, parser)


if __name__ == "__main__":
    sys.exit(main())
