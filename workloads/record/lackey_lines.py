"""Records the data accesses of two real programs as a trace: arrival_ns,id,size_bytes,op,tenant.

valgrind's lackey prints every load and store of a program. Tenant 0 is `sort` on a text (the sources of Python's own
standard library, joined); tenant 1 is `sqlite3` joining and grouping two tables of the words in that text. From each
program one window of the same number of instructions is taken, after its start. An access becomes the 64-byte line or
lines it touches (id = tenant * 2^42 + (address >> 6)); an access to one of the lines that the program touched last
(--recent of them, kept in LRU order) is collapsed into the row that brought the line there, which counts as a write
(w) if any access collapsed into it was a store, and as a read (r) otherwise. Instruction fetches are not rows: they
are the clock, at a nominal 1 ns each, so arrival_ns is the number of instructions since the window's start. The two
windows are merged by that clock.

Needs: valgrind, sort, sqlite3. Prints the versions, the file's bytes, and for each program the accesses in its window
and the rows that are left of them.
"""

from __future__ import annotations

import heapq
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from _common import RecordingError, find_program, main_of, parser_for, report_written, run, version_of, write_csv_zst

LINE_SHIFT = 6
TENANT_SHIFT = 48 - LINE_SHIFT
STORES = (ord("S"), ord("M"))
FETCH, SPACE = ord("I"), ord(" ")

TABLES = """
CREATE TABLE place(id INTEGER PRIMARY KEY, word TEXT, file INTEGER, line INTEGER);
.mode csv
.import {words} place
CREATE TABLE word(id INTEGER PRIMARY KEY, text TEXT UNIQUE, uses INTEGER);
INSERT INTO word(text, uses) SELECT word, count(*) FROM place GROUP BY word ORDER BY min(id);
"""
QUERY = """
SELECT word.uses, place.file, count(*), avg(place.line) FROM place JOIN word ON word.text = place.word
  GROUP BY word.uses, place.file ORDER BY 3 DESC LIMIT 10;
"""


@dataclass
class Window:
    """Reduces the accesses of one program to rows."""

    tenant: int
    recent: int
    accesses: int = 0
    rows: list[list] = field(default_factory=list)
    last: OrderedDict = field(default_factory=OrderedDict)

    def add(self, clock: int, address: int, size: int, is_store: bool) -> None:
        """Counts one access, and makes rows of the lines it touches."""
        self.accesses += 1
        for line in range(address >> LINE_SHIFT, ((address + size - 1) >> LINE_SHIFT) + 1):
            self.touch(clock, line, is_store)

    def touch(self, clock: int, line: int, is_store: bool) -> None:
        row = self.last.pop(line, None)
        if row is None:
            row = [clock, (self.tenant << TENANT_SHIFT) + line, 1 << LINE_SHIFT, "r", self.tenant]
            self.rows.append(row)
            if len(self.last) == self.recent:
                self.last.popitem(last=False)
        if is_store:
            row[3] = "w"
        self.last[line] = row


def take_window(lines: Iterable[bytes], skip: int, length: int, window: Window) -> None:
    """Reads lackey's lines: ignores `skip` instructions, then gives the accesses of the next `length` to `window`."""
    clock = -skip
    for line in lines:
        kind = line[0]
        if kind == FETCH and line[1] == SPACE:
            clock += 1
            if clock > length:
                return
        elif clock > 0 and kind == SPACE and line[2] == SPACE:
            address, _, size = line[3:].partition(b",")
            window.add(clock, int(address, 16), int(size), line[1] in STORES)
    raise RecordingError(
        f"tenant {window.tenant}: the program ended after {skip + clock} instructions, before the "
        f"{skip + length} of its window; lower --skip or --instructions"
    )


def trace(command: list[str], folder: Path, skip: int, length: int, window: Window) -> None:
    """Runs `command` under lackey to the end of its window."""
    log = folder / f"lackey{window.tenant}"
    os.mkfifo(log)
    words = [find_program("valgrind"), "--tool=lackey", "--trace-mem=yes", f"--log-file={log}", *command]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)}
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, env=environment, cwd=folder, **silent)
    try:
        with open(log, "rb", buffering=1 << 20) as lines:
            take_window(lines, skip, length, window)
    finally:
        process.kill()
        process.wait()


def write_text(folder: Path, size: int) -> tuple[Path, Path]:
    """The first `size` bytes of the standard library's sources, and its words as CSV rows."""
    text, words = folder / "text", folder / "words.csv"
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    joined = b"".join(source.read_bytes() for source in sources)[:size]
    text.write_bytes(joined.rpartition(b"\n")[0] + b"\n")
    with open(words, "w") as out:
        number = 0
        for line_number, line in enumerate(text.read_text(errors="replace").splitlines()):
            for word in filter(str.isidentifier, line.replace("(", " ").replace(".", " ").split()):
                number += 1
                out.write(f"{number},{word},{line_number // 500},{line_number}\n")
    return text, words


def record(arguments) -> None:
    """Runs both programs under lackey and writes the merged windows."""
    sort, sqlite = find_program("sort", package="coreutils"), find_program("sqlite3")
    versions = [version_of([find_program("valgrind"), "--version"]), version_of([sort, "--version"])]
    versions.append("sqlite3 " + run([sqlite, "--version"]).split()[0])
    windows = [Window(tenant, arguments.recent) for tenant in (0, 1)]
    with tempfile.TemporaryDirectory(prefix="memhier-record-") as name:
        folder = Path(name)
        text, words = write_text(folder, arguments.text_bytes)
        run([sqlite, "-batch", "words.db"], input=TABLES.format(words=words), cwd=folder)
        commands = (
            ([sort, "--parallel=1", text.name], arguments.skip_sort),
            ([sqlite, "-batch", "words.db", QUERY], arguments.skip_sqlite),
        )
        for window, (command, skip) in zip(windows, commands, strict=True):
            trace(command, folder, skip, arguments.instructions, window)
    rows = list(heapq.merge(*(window.rows for window in windows), key=lambda row: row[0]))
    start = rows[0][0]
    rows = [(clock - start, *rest) for clock, *rest in rows]
    size = write_csv_zst(arguments.out, ("arrival_ns", "id", "size_bytes", "op", "tenant"), rows)
    facts = {f"tenant {w.tenant}": f"{w.accesses} accesses in the window, {len(w.rows)} rows" for w in windows}
    facts |= {"requests": len(rows), "objects": len({row[1] for row in rows})}
    report_written(arguments.out, size, versions="; ".join(versions), **facts)


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--instructions", type=int, default=6_000_000, help="length of each program's window")
    parser.add_argument("--recent", type=int, default=64, help="lines remembered to collapse accesses into")
    parser.add_argument("--text-bytes", type=int, default=1_000_000, help="length of the text that is worked on")
    parser.add_argument("--skip-sort", type=int, default=4_000_000, help="instructions of sort before its window")
    parser.add_argument("--skip-sqlite", type=int, default=6_000_000, help="instructions of sqlite3 before its window")
    return main_of(record, parser)


if __name__ == "__main__":
    sys.exit(main())
