"""Replay speed side by side with libCacheSim, in one run: how many times as fast, and whether the misses are the same.

    pip install -e '.[oracle]'
    python benchmarks/against_libcachesim.py [--trace FILE.oracleGeneral] [--capacities 1%,10%] [--binaries DIR]

Each policy is replayed by turns, ours and theirs (`process_trace` of its Python package, one thread), object sizes
ignored; its hash table is first tuned to the trace. Ours is the time in the kernel, of a trace in memory; theirs reads
a mapped file that is in the page cache. With the binaries of libCacheSim, whole processes are compared too, from the
same raw file and from our dense form of it, and its `mrcProfiler` with `memhier mrc`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import sim
from sim.trace_writing import write_oracle_general

ROOT = Path(__file__).parent.parent
THEIRS = {
    "fifo": "FIFO",
    "lru": "LRU",
    "clock": "Clock",
    "sieve": "Sieve",
    "s3fifo": "S3FIFO",
    "slru": "SLRU",
    "2q": "TwoQ",
    "arc": "ARC",
    "lirs": "LIRS",
    "belady": "Belady",
    "random": "Random",
    "lfu": "LFU",
    "lfuda": "LFUDA",
    "lruk": "LRUK",
    "mq": "MQ",
    "clockpro": "ClockPro",
    "clock2qplus": "Clock2QPlus",
    "gdsf": "GDSF",
    "size": "Size",
    "wtinylfu": "WTinyLFU",
    "hyperbolic": "Hyperbolic",
    "lhd": "LHD",
    "lecar": "LeCaR",
    "cacheus": "Cacheus",
    "belady_size": "BeladySize",
}


def zipf_file(folder: Path, requests: int, objects: int) -> Path:
    """A Zipf(1.0) trace in libCacheSim's oracleGeneral form."""
    settings = {"requests": requests, "objects": objects, "alpha": 1.0, "arrival": "none"}
    path = folder / "zipf.oracleGeneral"
    write_oracle_general(sim.generate("zipf", settings, seed=1), path, "generated")
    return path


class Theirs:
    """libCacheSim's Python package on one file."""

    def __init__(self, path: Path):
        import libcachesim

        self.package, self.path = libcachesim, path

    def replay(self, policy: str, capacity: int, hashpower: int) -> tuple[float, float]:
        """Seconds and miss ratio."""
        unit = self.package.ReaderInitParam(ignore_obj_size=True)
        kind = self.package.TraceType.ORACLE_GENERAL_TRACE
        reader = self.package.TraceReader(trace=str(self.path), trace_type=kind, reader_init_params=unit)
        cache = getattr(self.package, THEIRS[policy])(cache_size=capacity, hashpower=hashpower)
        started = time.perf_counter()
        miss_ratio, _ = cache.process_trace(reader)
        return time.perf_counter() - started, miss_ratio

    def best_hashpower(self, capacity: int) -> int:
        return min(range(16, 25, 2), key=lambda power: self.replay("lru", capacity, power)[0])


def side_by_side(trace, theirs: Theirs, policies: list[str], capacities: list[str], rounds: int):
    """A row for each policy and capacity."""
    for share in capacities:
        capacity = trace.n_blocks * float(share.rstrip("%")) / 100
        hashpower = theirs.best_hashpower(int(capacity))
        for policy in policies:
            mine, others = [], []
            for _ in range(rounds):
                run = sim.replay(trace, policy, int(capacity), ignore_object_size=True)
                mine.append(run.kernel_seconds)
                seconds, miss_ratio = theirs.replay(policy, int(capacity), hashpower)
                others.append(seconds)
            yield {
                "policy": policy,
                "capacity": share,
                "ours_m_per_s": trace.n_requests / min(mine) / 1e6,
                "theirs_m_per_s": trace.n_requests / min(others) / 1e6,
                "ratio": statistics.median(theirs / ours for ours, theirs in zip(mine, others, strict=True)),
                "our_miss_ratio": 1 - run.hit_ratio,
                "their_miss_ratio": miss_ratio,
            }


def timed(command: list[str]) -> float:
    """In a folder of its own, since libCacheSim's programs leave files where they run."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    return time.perf_counter() - started


def whole_processes(path: Path, binaries: Path, objects: int, rounds: int, folder: Path):
    """Seconds of processes from start to end, and how many times as long theirs take."""
    run_sim = [sys.executable, str(ROOT / "run_sim.py")]
    dense = folder / "trace.dense"
    timed([*run_sim, "convert", str(path), str(dense), "--format", "dense"])
    capacity, flags = str(objects // 10), ["--ignore-object-size", "--json"]
    cachesim = [str(binaries / "cachesim"), str(path), "oracleGeneral", "LRU", capacity, "--ignore-obj-size", "1"]
    cachesim += ["--num-thread", "1"]
    mine = {
        "replay of the raw file": [*run_sim, "replay", str(path), "--capacity", capacity, *flags],
        "replay of the dense form": [*run_sim, "replay", str(dense), "--capacity", capacity, *flags],
    }
    for what, command in mine.items():
        timed(command)  # compiles
        pairs = [(timed(command), timed(cachesim)) for _ in range(rounds)]
        yield ratio_row(what, pairs)
    sizes = [objects * step // 100 for step in (1, 2, 4, 8, 16, 24, 32, 40)]
    names = ("lru", "fifo", "sieve", "s3fifo", "arc")
    yield ratio_row("8 sizes of 5 policies", [many_sizes(dense, path, binaries, sizes, names) for _ in range(rounds)])
    profiler = [str(binaries / "mrcProfiler"), str(path), "oracleGeneral", "--algo=LRU", "--profiler=SHARDS"]
    for what, method, theirs in (
        ("exact LRU curve", "exact", "FIX_RATE,1,42"),
        ("LRU curve by SHARDS at 1 %", "shards", "FIX_RATE,0.01,42"),
    ):
        ours = [*run_sim, "mrc", str(dense), "--policies", "lru", "--points", "100", "--method", method, *flags]
        other = [*profiler, f"--profiler-params={theirs}", "--size=0.01,1,100", "--ignore-obj-size"]
        timed(ours)
        yield ratio_row(what, [(timed(ours), timed(other)) for _ in range(rounds)])


def many_sizes(dense: Path, path: Path, binaries: Path, sizes: list[int], policies: tuple[str, ...]):
    """Seconds of ours and of theirs, each with all cores."""
    names, listed = ",".join(policies), ",".join(map(str, sizes))
    mrc = [sys.executable, str(ROOT / "run_sim.py"), "mrc", str(dense), "--policies", names, "--sizes", listed]
    ours = timed([*mrc, "--ignore-object-size", "--json"])
    command = [str(binaries / "cachesim"), str(path), "oracleGeneral", names, listed]
    return ours, timed([*command, "--ignore-obj-size", "1", "--num-thread", str(os.cpu_count())])


def ratio_row(what: str, pairs: list[tuple[float, float]]) -> dict:
    ours, theirs = (min(column) for column in zip(*pairs, strict=True))
    return {"what": what, "ours_s": ours, "theirs_s": theirs, "ratio": statistics.median(b / a for a, b in pairs)}


def figure(rows: list[dict], file: Path) -> None:
    """Bars of how many times as fast each policy is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    capacities = list(dict.fromkeys(row["capacity"] for row in rows))
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    ratio = {(row["policy"], row["capacity"]): row["ratio"] for row in rows}
    drawn = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots()
    for nth, capacity in enumerate(capacities):
        at = np.arange(len(policies)) + 0.4 * (nth - (len(capacities) - 1) / 2)
        label = f"cache of {capacity} of the objects"
        axes.bar(at, [ratio[policy, capacity] for policy in policies], 0.38, label=label)
    axes.axhline(10, color="black", linewidth=0.8, linestyle="--")
    axes.set_xticks(np.arange(len(policies)), policies, rotation=45, ha="right")
    axes.set(yscale="log", ylabel="times libCacheSim's requests/s", title="Replay of a loaded trace, one thread")
    axes.set_yticks(marks := (1, 2, 3, 5, 10, 20, 50), list(map(str, marks)))
    axes.minorticks_off()
    axes.set_ylim(1, max(20, 1.2 * max(ratio.values())))
    axes.legend()
    drawn.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", help="an oracleGeneral file; by default Zipf(1.0)")
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--capacities", default="1%,10%")
    parser.add_argument("--policies", default=",".join(THEIRS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binaries", type=Path, help="folder of libCacheSim's cachesim and mrcProfiler")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path = Path(given.trace).absolute() if given.trace else zipf_file(folder, given.requests, given.objects)
        trace = sim.load_trace(path, reader="oracle_general").with_next_access()
        known = sim.registry.names(sim.registry.EVICTION)
        policies = [policy for policy in given.policies.split(",") if policy in known]
        rows, processes = [], []
        for row in side_by_side(trace, Theirs(path), policies, given.capacities.split(","), given.rounds):
            rows.append(row)
            if not given.json:
                print(
                    f"{row['policy']:<12}{row['capacity']:>5}  ours {row['ours_m_per_s']:7.1f}  theirs "
                    f"{row['theirs_m_per_s']:6.2f} M requests/s   {row['ratio']:6.1f} times   miss ratio "
                    f"{row['our_miss_ratio']:.6f} and {row['their_miss_ratio']:.6f}",
                    flush=True,
                )
        if given.binaries:
            for row in whole_processes(path, given.binaries, trace.n_blocks, given.rounds, folder):
                processes.append(row)
                if not given.json:
                    what, ours, theirs, ratio = row.values()
                    print(f"{what:<28} ours {ours:6.2f} s  theirs {theirs:6.2f} s  {ratio:5.1f} times", flush=True)
    if given.figure:
        figure(rows, given.figure)
    if given.json:
        print(json.dumps({"policies": rows, "processes": processes}, indent=2))


if __name__ == "__main__":
    main()
