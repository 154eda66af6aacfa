"""Seconds of whole processes that read a trace: replay of a raw file and of a dense folder, conversion, statistics."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from streaming import ROOT, write_trace


def seconds(*arguments: str, rounds: int) -> list[float]:
    """How long a process takes, each time; the first one, which may compile, is left out."""
    taken = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT)
        taken.append(time.perf_counter() - started)
    return taken[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where the traces go while they are needed (50 bytes a request)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        raw, small = Path(folder) / "zipf.oracleGeneral", Path(folder) / "small.oracleGeneral"
        write_trace(raw, given.requests, given.objects)
        write_trace(small, 1000, 100)
        dense = str(raw.with_suffix(".dense"))
        run = ["run_sim.py", "replay", "--policy", "lru", "--json"]
        option = ["--option", "next_access=recompute"]  # streaming.py's file has none
        lines = {
            "python -c 'import numba'": ["-c", "import numba"],
            "replay of 1,000 requests": [*run, str(small)],
            "convert to dense": ["run_sim.py", "convert", str(raw), dense, *option],
            "replay of the raw file": [*run, str(raw)],
            "replay of the dense folder": [*run, dense],
            "trace-stats of the dense folder": ["run_sim.py", "trace-stats", dense, "--json"],
        }
        found = {name: sorted(seconds(*line, rounds=given.rounds)) for name, line in lines.items()}
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for name, taken in found.items():
        print(f"{name:<34}{taken[0]:7.2f} s best {taken[len(taken) // 2]:7.2f} s median")


if __name__ == "__main__":
    main()
