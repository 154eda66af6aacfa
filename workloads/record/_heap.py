"""What recordings of heap calls share: the shim that logs them, and turning its log into rows.

A request of 0 bytes counts as 1; a realloc that changes nothing is no row; frees of blocks from before the window are
left out.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from _common import RecordingError, find_program, report_written, run, version_of, write_csv_zst

SHIM = Path(__file__).with_name("heap_shim.c")


def build_shim(folder: Path) -> Path:
    """Compiles the shim into `folder`."""
    library = folder / "heap_shim.so"
    options = ["-O2", "-Wall", "-fno-builtin", "-shared", "-fPIC", "-pthread"]
    run([find_program("gcc"), *options, "-o", str(library), str(SHIM)])
    return library


def shim_environment(library: Path, log: Path) -> dict[str, str]:
    """What a program's environment says for the shim to log its heap calls to the file `log`, which must not exist."""
    return {"LD_PRELOAD": str(library), "MEMHIER_HEAP_LOG": str(log)}


def logged_events(log: Path) -> np.ndarray:
    """The heap calls of a program, one row each: time_ns, block got, block given back, bytes asked for."""
    return np.fromfile(log, dtype=np.uint64).reshape(-1, 4)


def rows_of(
    events: Iterable[list[int]], reallocs: Counter, resizes: bool = False
) -> Iterator[tuple[int, str, int, int]]:
    """Turns heap calls into rows; counts the reallocs of objects by kind. Frees of unknown blocks make no row.

    resizes: a realloc is a resize of its object, moved or not, and not a free and an allocation.
    """
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
            if resizes:
                alive[got] = (old[0], size)
                yield time, "resize", old[0], size
                continue
        freed = [(time, "free", *old)] if old else []
        if not got:
            yield from freed
            continue
        count += 1
        alive[got] = (count, size)
        allocated = [(time, "alloc", count, size)]
        yield from allocated + freed if got != gave else freed + allocated


def add_window(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--skip", type=int, default=0, help="heap calls before the window")
    parser.add_argument("--rows", type=int, default=sys.maxsize, help="rows at most")


def write_heap_calls(arguments: argparse.Namespace, events: np.ndarray, versions: str, resizes: bool = False) -> None:
    """Writes the window of the calls that the arguments name, and says what was written."""
    events = events[arguments.skip :]
    if not len(events):
        raise RecordingError(f"--skip {arguments.skip}: the program made fewer heap calls")
    events[:, 0] -= events[0, 0]
    reallocs: Counter = Counter()
    rows = list(islice(rows_of(events.tolist(), reallocs, resizes), arguments.rows))
    size = write_csv_zst(arguments.out, ("time_ns", "op", "address_id", "size_bytes"), rows)
    facts = {"rows": len(rows), "objects": sum(row[1] == "alloc" for row in rows), "reallocs": dict(reallocs)}
    report_written(arguments.out, size, versions=versions, heap_calls=len(events), **facts)


def gcc_version() -> str:
    return version_of([find_program("gcc"), "--version"])
