"""A sweep of short runs: how busy the cores are, and what a run costs beside its simulation.

Run it on a machine that does nothing else, twice: the first time compiles. Linux only: processor time is counted of all
processes that a sweep starts, of those that outlive their parents, too.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
_SET_CHILD_SUBREAPER = 36  # of prctl: orphans of our processes become our children, whose time is counted
_WARM_RUNS = 10  # until these are done, processes are still starting
SWEEP = """
name: short_runs
description: short runs of one scenario, for how long they take beside simulating
scenario: zipf_three_tier
set: {{workload.parameters.requests: {requests}, workload.parameters.objects: {objects}}}
fields:
  tiers.hbm.capacity: {{from: 2%, to: 20%, steps: 10}}
  tiers.lpddr.capacity: {{from: 21%, to: 60%, steps: {steps}}}
"""


def measured(runs: int, requests: int, jobs: int, folder: Path) -> dict[str, float]:
    """One sweep from its command line to its end."""
    file, out = folder / "short_runs.yaml", folder / "out"
    file.write_text(SWEEP.format(requests=requests, objects=max(100, requests // 5), steps=runs // 10))
    line = [sys.executable, "run_sim.py", "sweep", str(file), "--out", str(out), "--jobs", str(jobs), "--json"]
    before, began = _cpu_seconds(), time.perf_counter()
    subprocess.run(line, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall_s = time.perf_counter() - began
    _reap()
    cpu_s = _cpu_seconds() - before
    timings = sorted(out.glob("runs/*/timing.json"), key=lambda path: path.stat().st_mtime_ns)
    simulated = [json.loads(path.read_text())["wall_seconds"] for path in timings]
    ended = [path.stat().st_mtime_ns / 1e9 for path in timings]
    steady_s = (ended[-1] - ended[_WARM_RUNS - 1]) / (len(ended) - _WARM_RUNS)
    return {
        "runs": len(timings),
        "wall_s": wall_s,
        "busy_share": cpu_s / (wall_s * jobs),
        "run_ms": 1e3 * steady_s * jobs,
        "simulation_ms": 1e3 * statistics.mean(simulated),
        "overhead_ms": 1e3 * (steady_s * jobs - statistics.mean(simulated[_WARM_RUNS:])),
        "overhead_with_start_ms": 1e3 * (wall_s * jobs - sum(simulated)) / len(timings),
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap() -> None:
    """Wait for every process that the sweep has left to us."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="a multiple of 10")
    parser.add_argument("--requests", type=int, nargs="+", default=[400, 20_000, 100_000])
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    rows = []
    for requests in given.requests:
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"requests": requests, **measured(given.runs, requests, given.jobs, Path(folder))})
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    load = os.getloadavg()[0]
    print(f"{given.runs} runs of zipf_three_tier, {given.jobs} at a time, Python {platform.python_version()}")
    print(f"load average at the end {load:.2f}; overhead: processor wall time of a run beside simulating")
    print("requests   wall s   cores busy   a run ms   simulating ms   overhead ms   with start ms")
    for row in rows:
        print(
            f"{row['requests']:8}{row['wall_s']:9.2f}{100 * row['busy_share']:11.1f} %{row['run_ms']:11.1f}"
            f"{row['simulation_ms']:16.1f}{row['overhead_ms']:14.1f}{row['overhead_with_start_ms']:16.1f}"
        )


if __name__ == "__main__":
    main()
