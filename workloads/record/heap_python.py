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
from pathlib import Path

import numpy as np
from _common import RecordingError, main_of, parser_for, run
from _heap import add_window, build_shim, gcc_version, logged_events, shim_environment, write_heap_calls


def recorded_events(modules: list[str], folder: Path) -> np.ndarray:
    """The heap calls of the program, one row each: time_ns, block got, block given back, bytes asked for."""
    library, log = build_shim(folder), folder / "heap.log"
    sources = [Path(sysconfig.get_path("stdlib")) / f"{module}.py" for module in modules]
    missing = [source.name for source in sources if not source.is_file()]
    if missing:
        raise RecordingError(f"--modules: not in the standard library: {', '.join(missing)}")
    environment = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": str(folder / "cache")}
    environment["PATH"] = os.environ["PATH"]
    command = [sys.executable, "-P", "-s", "-S", "-m", "py_compile", *map(str, sources)]
    run(command, env=environment, cwd=folder)  # fills the bytecode cache, so that the start-up is the usual one
    run(command, env=environment | shim_environment(library, log), cwd=folder)
    return logged_events(log)


def record(arguments) -> None:
    """Runs the program under the shim and writes the trace."""
    versions = f"Python {sys.version.split()[0]}; {gcc_version()}"
    with tempfile.TemporaryDirectory(prefix="memhier-record-") as name:
        events = recorded_events(arguments.modules, Path(name))
    write_heap_calls(arguments, events, versions)


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--modules", nargs="+", default=["argparse"], help="modules of the standard library to compile")
    add_window(parser)
    return main_of(record, parser)


if __name__ == "__main__":
    sys.exit(main())
