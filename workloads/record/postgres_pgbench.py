"""Records the page I/O of PostgreSQL under pgbench as a trace: arrival_ns,id,size_bytes,op.

A fresh database cluster in a temporary folder, with little shared memory so that page reads and writes reach the
operating system, runs three rounds of pgbench (TPC-B-like updates, point selects and short range queries, accounts
drawn from a Zipf distribution and scattered over the table); beside each round runs one reporting query, which scans
the whole accounts table. strace records every pread and pwrite of the server's processes on data files (base/ and
global/; the write-ahead log and the commit log are left out). One row is one page of 8 KiB:
id = file number * 2^20 + page number, the files numbered in the order they are first used.

Needs: Linux, PostgreSQL 14 or newer with pgbench, strace. PostgreSQL refuses to run as root: root names an
unprivileged user with --user. Prints the versions, the file's bytes, requests, distinct pages and share of writes.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import RecordingError, find_program, main_of, parser_for, report_written, run, version_of, write_csv_zst

PAGE = 8192
PAGES_PER_FILE = 1 << 20
ROUNDS = 3
DEBIAN_BIN = "/usr/lib/postgresql/*/bin"
CALL = re.compile(r"^(\d+)\.(\d{9}) (pread|pwrite)\w*\(\d+<([^>]*)>, .*, (\d+)\) = (\d+)$")

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "20",
    "max_parallel_workers_per_gather": "0",
    "autovacuum_naptime": "10s",
    "checkpoint_timeout": "30s",
}

ACCOUNT = """\\set rank random_zipfian(1, 100000 * :scale, {skew})
\\set aid 1 + permute(:rank - 1, 100000 * :scale, 7)
"""
SELECT = ACCOUNT + "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
UPDATE = (
    ACCOUNT
    + """\\set bid random(1, 1 * :scale)
\\set tid random(1, 10 * :scale)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
"""
)
RANGE = ACCOUNT + "SELECT sum(abalance) FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 1000;\n"
MIX = {"update": (UPDATE, 25), "select": (SELECT, 74), "range": (RANGE, 1)}
REPORT = "SELECT bid, count(*), sum(abalance) FROM pgbench_accounts GROUP BY bid ORDER BY bid"


class Cluster:
    """A database cluster in `folder`, run as `user` (None: as who runs the script)."""

    def __init__(self, folder: Path, user: str | None):
        self.folder, self.user = folder, user
        self.data = folder / "data"
        self.identity = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
        self.environment = {**os.environ, "PGHOST": str(folder), "PGUSER": "bench", "LC_ALL": "C"}

    def call(self, program: str, *arguments: str) -> str:
        command = [find_program(program, DEBIAN_BIN, package="PostgreSQL"), *arguments]
        return run(command, env=self.environment, cwd=self.folder, **self.identity)

    def begin(self, program: str, *arguments: str) -> subprocess.Popen:
        command = [find_program(program, DEBIAN_BIN, package="PostgreSQL"), *arguments]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment, cwd=self.folder, **silent, **self.identity)

    def options(self, shared_kib: int) -> list[str]:
        settings = {**SETTINGS, "unix_socket_directories": str(self.folder), "shared_buffers": f"{shared_kib}kB"}
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    @contextlib.contextmanager
    def running(self, shared_kib: int, before: tuple[str, ...] = ()):
        """The server, started by the command words `before` (strace), stopped at the end."""
        server = find_program("postgres", DEBIAN_BIN, package="PostgreSQL")
        command = [*before, server, "-D", str(self.data), *self.options(shared_kib)]
        identity = {} if before else self.identity
        with open(self.folder / "server.log", "ab") as log:
            process = subprocess.Popen(command, env=self.environment, cwd=self.folder, stderr=log, **identity)
        try:
            self.wait_until_ready(process)
            yield
        finally:
            if process.poll() is None:
                self.call("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self.data))
                process.wait(timeout=60)

    def wait_until_ready(self, process: subprocess.Popen) -> None:
        for _ in range(300):
            if process.poll() is not None:
                break
            with contextlib.suppress(RecordingError):
                self.call("pg_isready", "-q")
                return
            time.sleep(0.1)
        said = (self.folder / "server.log").read_text(errors="replace").strip().splitlines()[-2:]
        raise RecordingError(f"the PostgreSQL server did not start: {' / '.join(said)}")


def strace_words(folder: Path, user: str | None) -> tuple[str, ...]:
    """The words that start a program under strace, with one log a process in `folder`."""
    calls = "trace=pread64,pwrite64,preadv,pwritev,preadv2,pwritev2"
    words = [find_program("strace"), "-ff", "--seccomp-bpf", "-y", "-s", "0", "-e", calls, "-e", "signal=none"]
    words += ["--timestamps=unix,ns", "-o", str(folder / "io")]
    return (*words, "-u", user) if user else tuple(words)


def run_benchmark(cluster: Cluster, arguments) -> None:
    """Three rounds of the transaction mix, each beside one reporting query."""
    scripts = []
    for name, (text, weight) in MIX.items():
        path = cluster.folder / f"{name}.sql"
        path.write_text(text.format(skew=arguments.skew))
        scripts += ["-f", f"{path}@{weight}"]
    each = str(arguments.transactions // (ROUNDS * arguments.clients))
    for seed in range(1, ROUNDS + 1):
        options = ["-n", "-c", str(arguments.clients), "-t", each, "-s", str(arguments.scale)]
        bench = cluster.begin("pgbench", *options, f"--random-seed={seed}", *scripts, "postgres")
        report = cluster.begin("psql", "-q", "-c", REPORT, "postgres")
        for process in (bench, report):
            said = process.communicate()[1]
            if process.returncode != 0:
                raise RecordingError(f"the benchmark failed: {said.strip()[-300:]}")


def calls_in(folder: Path, data: Path) -> list[tuple[int, str, str, int, int]]:
    """(time in us, r or w, file in the cluster, offset, bytes) of every call on a data file, in order of time."""
    calls, prefix = [], f"{data}/"
    for log in folder.iterdir():
        for line in log.read_text(errors="replace").splitlines():
            match = CALL.match(line)
            if not match or not match[4].startswith((prefix + "base/", prefix + "global/")):
                continue
            microseconds = int(match[1]) * 1_000_000 + int(match[2]) // 1000
            calls.append((microseconds, match[3][1], match[4].removeprefix(prefix), int(match[5]), int(match[6])))
    return sorted(calls)


def rows_of(calls) -> list[tuple[int, int, int, str]]:
    """One row a page: (ns since the first call, id, 8192, r or w)."""
    numbers: dict[str, int] = {}
    rows = []
    for microseconds, op, file, offset, size in calls:
        if offset % PAGE or size % PAGE:
            continue  # relation maps and control files, which are not pages
        base = numbers.setdefault(file, len(numbers)) * PAGES_PER_FILE + offset // PAGE
        arrival = (microseconds - calls[0][0]) * 1000
        rows.extend((arrival, base + page, PAGE, op) for page in range(size // PAGE))
    return [(arrival - rows[0][0], *rest) for arrival, *rest in rows]


def record(arguments) -> None:
    """Makes the cluster, runs the benchmark under strace, writes the trace."""
    user = arguments.user if os.geteuid() == 0 else None
    if os.geteuid() == 0 and user not in {entry.pw_name for entry in pwd.getpwall()}:
        raise RecordingError(f"--user {user}: no such user; PostgreSQL does not run as root")
    versions = [version_of([find_program("strace"), "--version"])]
    with tempfile.TemporaryDirectory(prefix="memhier-record-") as name:
        folder, logs = Path(name) / "cluster", Path(name) / "logs"
        os.chmod(name, 0o755)
        folder.mkdir()
        logs.mkdir()
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        cluster = Cluster(folder, user)
        versions.append(cluster.call("postgres", "--version").strip())
        cluster.call("initdb", "-D", str(cluster.data), "-U", "bench", "-A", "trust", "--locale=C", "-E", "UTF8")
        with cluster.running(128 * 1024):
            cluster.call("pgbench", "-i", "-q", "-s", str(arguments.scale), "postgres")
        with cluster.running(arguments.shared_kib, strace_words(logs, user)):
            run_benchmark(cluster, arguments)
        rows = rows_of(calls_in(logs, cluster.data))
    size = write_csv_zst(arguments.out, ("arrival_ns", "id", "size_bytes", "op"), rows)
    writes = sum(row[3] == "w" for row in rows) / len(rows)
    facts = {"requests": len(rows), "objects": len({row[1] for row in rows}), "write_share": round(writes, 4)}
    report_written(arguments.out, size, versions="; ".join(versions), **facts)


def main() -> int:
    parser = parser_for(__doc__)
    parser.add_argument("--scale", type=int, default=10, help="pgbench's scale: 100,000 accounts each")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--transactions", type=int, default=110_000, help="of all clients and rounds together")
    parser.add_argument("--skew", type=float, default=1.07, help="exponent of the Zipf distribution of accounts")
    parser.add_argument("--shared-kib", type=int, default=2048, help="PostgreSQL's shared_buffers in KiB")
    parser.add_argument("--user", default="postgres", help="who runs the server when the script is run by root")
    return main_of(record, parser)


if __name__ == "__main__":
    sys.exit(main())
