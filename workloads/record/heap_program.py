"""Records the heap allocations of any program as a stream that allocators can be replayed on.

    python workloads/record/heap_program.py --out FILE.csv.zst -- COMMAND ARGUMENT...

The program runs as usual, with heap_shim.c, built here, preloaded, which logs each malloc, calloc, realloc, memalign
and free. Rows are time_ns,op,address_id,size_bytes: op alloc, resize (a realloc, whether it moved or not) or free;
address_id numbers the allocations 1, 2, ... and is never used again. A request of 0 bytes counts as 1. With --skip,
events before the window are left out, and with them the objects alive at its start. `load_operations` reads the file.

Only the process itself is recorded, not those that it starts; a program that replaces itself (exec), that a signal
kills or that calls _exit loses its last calls, up to 65,536; one that is linked statically has none. Blocks that a
program's own allocator carves out of larger ones are not seen (Python: PYTHONMALLOC=malloc shows all).

Needs: Linux with glibc, gcc. Prints the versions, the program's exit status, the file's bytes, and the rows, objects
and reallocs by kind.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _common import RecordingError, find_program, main_of, parser_for
from _heap import add_window, build_shim, gcc_version, logged_events, shim_environment, write_heap_calls


def recorded_events(command: list[str], folder: Path) -> tuple[np.ndarray, int]:
    """The heap calls of the command, and its exit status."""
    library, log = build_shim(folder), folder / "heap.log"
    program = [find_program(command[0]), *command[1:]]
    status = subprocess.run(program, env=os.environ | shim_environment(library, log)).returncode
    if not log.is_file():
        raise RecordingError(f"{command[0]} (exit status {status}) made no heap call that the shim saw; is it static?")
    return logged_events(log), status


def record(arguments: argparse.Namespace) -> None:
    """Runs the command under the shim and writes the stream."""
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise RecordingError("no command; expected -- COMMAND ARGUMENT...")
    with tempfile.TemporaryDirectory(prefix="memhier-record-") as name:
        events, status = recorded_events(command, Path(name))
    print(f"exit_status: {status}")
    write_heap_calls(arguments, events, gcc_version(), resizes=True)


def main() -> int:
    parser = parser_for(__doc__)
    add_window(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the program and its arguments")
    return main_of(record, parser)


if __name__ == "__main__":
    sys.exit(main())
