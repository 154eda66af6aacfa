"""Speed of a timed three-tier run: queueing, delayed hits, demotions, and a monitor that looks every so often.

    python benchmarks/timed.py [--requests 3000000] [--objects 300000] [--rounds 3]

Prints requests a second of wall time on one core for each monitoring interval (compilation left out), and that the
latencies are the same in all of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import simpy

sys.path.insert(0, str(Path(__file__).parent.parent))

from sim.hierarchy import Choice, Hierarchy, TierPlan, build
from sim.profile import Access, Device, Profile, Tier
from sim.simulation import _Model, _Monitor
from sim.trace import Trace

BLOCK_BYTES = 4096


def part(name: str, latency_ns: float, bytes_per_ns: float, channels: int, occupancy_ns: float = 0.0) -> Device:
    way = Access(latency_ns, bytes_per_ns, occupancy_ns)
    return Device(name, "dram", "fixed", "", 1 << 40, channels, BLOCK_BYTES, way, way, 1.0, 1.0, 1.0, None, 0.0)


def machine() -> Profile:
    """Memory, CXL memory over a link, and a fast SSD over another."""
    tiers = (
        Tier("dram", part("dram", 90.0, 300.0, 8)),
        Tier("cxl", part("cxl", 150.0, 60.0, 8), ("cxl_link",)),
        Tier("ssd", part("ssd", 2000.0, 200.0, 64, occupancy_ns=500.0), ("pcie",)),
    )
    links = {"cxl_link": part("cxl_link", 100.0, 60.0, 1), "pcie": part("pcie", 400.0, 60.0, 1)}
    return Profile("benchmark", "", (), tiers, links, "")


def zipf(requests: int, objects: int, gap_ns: float) -> Trace:
    rng = np.random.default_rng(1)
    weights = np.cumsum(1 / np.arange(1, objects + 1))
    ids = np.searchsorted(weights / weights[-1], rng.random(requests))
    arrival_ns = np.cumsum(rng.exponential(gap_ns, requests))
    return Trace.from_columns("zipf", ids=ids, arrival_ns=arrival_ns, size_bytes=np.full(requests, BLOCK_BYTES))


def hierarchy(trace: Trace) -> Hierarchy:
    paged = Choice("paged", {"page_bytes": BLOCK_BYTES})
    share = trace.n_blocks * BLOCK_BYTES
    plans = [
        TierPlan("dram", share // 10, allocator=paged),
        TierPlan("cxl", share // 4, allocator=paged, offload=Choice("write_back")),
    ]
    return build(machine(), plans, trace)


def timed(trace: Trace, every_ns: float | None) -> tuple[float, _Model]:
    """Seconds of one run, and the run."""
    built = hierarchy(trace)
    env = simpy.Environment()
    model = _Model(env, built)
    if every_ns:
        _Monitor(env, model, every_ns, None)
    start = time.perf_counter()
    env.run(model.process)
    return time.perf_counter() - start, model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3_000_000)
    parser.add_argument("--objects", type=int, default=300_000)
    parser.add_argument("--gap-ns", type=float, default=200.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    timed(zipf(1000, 100, given.gap_ns), 1e5)
    trace = zipf(given.requests, given.objects, given.gap_ns)
    totals = set()
    for every_ns in (None, 1e6, 1e5, 1e4):
        runs = [timed(trace, every_ns) for _ in range(given.rounds)]
        seconds = [run[0] for run in runs]
        answers = runs[0][1].engine.answers
        totals.add(float(answers.latency_ns.sum()))
        label = "never" if every_ns is None else f"{every_ns / 1e3:g} us"
        hits = [int(n) for n in np.bincount(answers.level, minlength=3)]
        rate = given.requests / np.array(seconds) / 1e6
        print(
            f"monitor {label:>8}: best {rate.max():5.2f}, median {np.median(rate):5.2f} M requests/s; "
            f"served by dram, cxl, ssd {hits}"
        )
    print("latencies are the same in all" if len(totals) == 1 else f"latencies differ: {sorted(totals)}")


if __name__ == "__main__":
    main()
