"""What the recording scripts share: finding programs, writing a trace in one piece, reporting errors."""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import zstandard

LARGEST_TRACE = 2 * 1024 * 1024


class RecordingError(Exception):
    """A recording cannot be made; the message says why, in one line."""


def find_program(name: str, *patterns: str, package: str | None = None) -> str:
    """The path of the program `name`, looked up on PATH, then in folders matching `patterns` (newest first)."""
    found = shutil.which(name)
    if found:
        return found
    for pattern in patterns:
        for folder in sorted(glob.glob(pattern), reverse=True):
            candidate = os.path.join(folder, name)
            if os.access(candidate, os.X_OK):
                return candidate
    raise RecordingError(f"program {name!r} not found; install {package or name} and try again")


def run(command: Sequence[str], **options) -> str:
    """Runs `command`, returns what it printed; its failure is a RecordingError with the end of what it said."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise RecordingError(f"{os.path.basename(command[0])} failed ({done.returncode}): {' / '.join(said)}")
    return done.stdout


def version_of(command: Sequence[str]) -> str:
    """The first line that `command` (for example `gcc --version`) prints."""
    return run(command).strip().splitlines()[0]


def write_csv_zst(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Writes `rows` as CSV, compressed by zstd, to a temporary name, then renames it; returns the file's bytes."""
    lines = [",".join(columns)]
    lines.extend(",".join(map(str, row)) for row in rows)
    if len(lines) == 1:
        raise RecordingError("the recording is empty; nothing written")
    compressor = zstandard.ZstdCompressor(level=22, write_checksum=True)
    data = compressor.compress(("\n".join(lines) + "\n").encode("ascii"))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return len(data)


def report_written(path: Path, size: int, **facts: object) -> None:
    """Prints what was written, one `name: value` a line, and warns when the file is too large to be shipped."""
    print(f"file: {path}\nbytes: {size}")
    for name, value in facts.items():
        print(f"{name}: {value}")
    if size > LARGEST_TRACE:
        print(f"warning: more than {LARGEST_TRACE} bytes; record a shorter window to ship it", file=sys.stderr)


def parser_for(docstring: str) -> argparse.ArgumentParser:
    """An argument parser with `--out` and the script's docstring as its help."""
    parser = argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the .csv.zst to write")
    return parser


def main_of(record: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> int:
    """Runs `record` on the command line's arguments; 0, or 2 after one line on stderr."""
    arguments = parser.parse_args()
    if not arguments.out.resolve().parent.is_dir():
        print(f"error: --out {arguments.out}: its folder does not exist", file=sys.stderr)
        return 2
    try:
        record(arguments)
    except (RecordingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
