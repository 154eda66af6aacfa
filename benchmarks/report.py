"""How long a report over many runs takes: a sweep's folder of copies of one small run with varied summaries.

    python benchmarks/report.py [--runs 500] [--rounds 3]

Prints seconds of `run_sim.py report` in a fresh process, and the size of its page.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import sim
from tests.report_folders import SMALL, swept

ROOT = Path(__file__).parent.parent
POLICIES = ("lru", "fifo", "sieve", "s3fifo", "arc")
SEEDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    capacities = [f"{nth + 1}%" for nth in range(-(-(given.runs + 2) // (len(POLICIES) * SEEDS)))]
    with tempfile.TemporaryDirectory() as place:
        like = sim.run("zipf_three_tier", SMALL, out=Path(place) / "like").folder
        folder = swept(like, Path(place) / "sweep", capacities, POLICIES, SEEDS)
        runs = len(list((folder / "runs").glob("*/manifest.json")))
        seconds = []
        for _ in range(given.rounds):
            began = time.perf_counter()
            page = Path(place) / "page.html"
            subprocess.run(
                [sys.executable, "run_sim.py", "report", str(folder), "--out", str(page)],
                cwd=ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            seconds.append(time.perf_counter() - began)
        size = page.stat().st_size / 1e6
    print(f"{runs} runs: best {min(seconds):.2f} s, median {statistics.median(seconds):.2f} s; page {size:.2f} MB")


if __name__ == "__main__":
    main()
