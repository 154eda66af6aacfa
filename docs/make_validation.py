"""Writes docs/validation.md: what memhier gives beside formulas and beside what other programs gave.

    python docs/make_validation.py

Needs the folders of the traces (MEMHIER_TRACE_PATH) and of the reference measurements (MEMHIER_REFERENCE_PATH). Where a
file of theirs is missing it says which, leaves the page as it is, and exits 2.
"""

from __future__ import annotations

import csv
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import simpy

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import validate_allocation  # noqa: E402
import validate_cost  # noqa: E402
import validate_dram  # noqa: E402
import validate_dram_rules  # noqa: E402
import validate_gpu  # noqa: E402
import validate_links  # noqa: E402
import validate_pim  # noqa: E402
import validate_profiles  # noqa: E402
import validate_serving  # noqa: E402
import validate_ssd  # noqa: E402

import sim  # noqa: E402
from sim import registry  # noqa: E402
from sim.engines import block_cache as bc  # noqa: E402
from sim.engines.prefix import replay_calls  # noqa: E402
from sim.hierarchy import Choice, TierPlan, build  # noqa: E402
from sim.profile import Access, Device, Profile, Tier, system_names  # noqa: E402
from sim.simulation import _Model  # noqa: E402
from sim.trace import Trace  # noqa: E402

PAGE = Path(__file__).parent / "validation.md"
FILES = {
    "MEMHIER_TRACE_PATH": (
        "mooncake_conversation.jsonl",
        "cloudphysics_io.oracleGeneral",
        *validate_serving.TRACES,
        *validate_allocation.TRACES,
    ),
    "MEMHIER_REFERENCE_PATH": (
        "kvcache/mooncake_conversation_hit_ratios.csv",
        "kvcache/mooncake_conversation_two_tier.csv",
        "cache/libcachesim_cloudphysics.csv",
        *validate_dram.FILES,
        *validate_dram_rules.FILES,
        *validate_ssd.FILES,
        *validate_cost.FILES,
        *validate_serving.FILES,
    ),
}


class Missing(Exception):
    """A file that the page is made from is not there."""


def find_files() -> dict[str, Path]:
    """Where each file is. Raises Missing, naming every one that is not."""
    found, missing = {}, []
    for variable, names in FILES.items():
        folders = [Path(folder) for folder in os.environ.get(variable, "").split(os.pathsep) if folder]
        for name in names:
            places = [folder / name for folder in folders if (folder / name).is_file()]
            if places:
                found[name] = places[0]
            else:
                missing.append(f"{name}: not found; set {variable} to the folder that has it")
    if missing:
        raise Missing("\n".join(missing))
    return found


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """Markdown; the first `left` columns are text, the others numbers."""
    rule = ["---"] * left + ["---:"] * (len(heads) - left)
    lines = [heads, rule, *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


# ------------------------------------------------------------------------------------------------- one device, timed


REQUESTS = 400_000
BATCHES = 30
STUDENT_T = 3.66  # 99.9 %, two-sided, 29 degrees of freedom
SERVICE_NS = 1000.0
SEED = 7


def simulate(profile: Profile, trace: Trace):
    """The engine after every request of the trace went to the profile's only tier."""
    hierarchy = build(profile, [], trace)
    env = simpy.Environment()
    model = _Model(env, hierarchy)
    env.run(model.process)
    return model.engine


def server(channels: int) -> Profile:
    """A device whose channels move 1000 bytes a nanosecond each, without latency."""
    way = Access(0.0, 1000.0 * channels, 0.0)
    wide = 1 << 40  # a request takes one channel
    part = Device("memory", "dram", "fixed", "", 1 << 60, channels, wide, way, way, 1.0, 1.0, 0.0, None, 0.0)
    return Profile("queue", "", (), (Tier("memory", part),), {}, "")


def queue(load: float, channels: int = 1, exponential: bool = True):
    """Poisson arrivals at one device; the sizes make the service times."""
    rng = np.random.default_rng(SEED)
    arrival_ns = np.cumsum(rng.exponential(SERVICE_NS / channels / load, REQUESTS))
    service_ns = rng.exponential(SERVICE_NS, REQUESTS) if exponential else np.full(REQUESTS, SERVICE_NS)
    sizes = np.maximum(1, (service_ns * 1000)).astype(np.int64)
    ids = np.arange(REQUESTS)
    return simulate(server(channels), Trace.from_columns("q", ids=ids, arrival_ns=arrival_ns, size_bytes=sizes))


def confidence(values: np.ndarray) -> tuple[float, float]:
    """Mean, and half the width of its confidence interval by the means of consecutive batches."""
    means = np.array([part.mean() for part in np.array_split(values, BATCHES)])
    return float(means.mean()), float(STUDENT_T * means.std(ddof=1) / math.sqrt(BATCHES))


def erlang_c(channels: int, load: float) -> float:
    """Probability that a request of M/M/c has to wait."""
    offered = channels * load
    tail = offered**channels / math.factorial(channels) / (1 - load)
    return tail / (sum(offered**k / math.factorial(k) for k in range(channels)) + tail)


def queueing() -> str:
    cases = [(f"M/M/1, load {load}", load, 1, True, SERVICE_NS * load / (1 - load)) for load in (0.5, 0.8, 0.9)]
    cases += [(f"M/D/1, load {load}", load, 1, False, SERVICE_NS * load / (2 * (1 - load))) for load in (0.5, 0.8, 0.9)]
    for channels in (2, 4, 16):
        wait_ns = erlang_c(channels, 0.8) * SERVICE_NS / (channels * (1 - 0.8))
        cases.append((f"M/M/{channels}, load 0.8", 0.8, channels, True, wait_ns))
    rows, inside = [], 0
    for name, load, channels, exponential, formula in cases:
        engine = queue(load, channels, exponential)
        mean, half = confidence(engine.answers.parts_ns[:, bc.QUEUE_NS].astype(float))
        good = abs(mean - formula) < half
        inside += good
        rows.append((name, f"{mean:.1f}", f"± {half:.1f}", f"{formula:.1f}", f"{mean / formula - 1:+.2%}", _yes(good)))
    name, *little = littles_law()
    inside += little[-1] == "yes"
    rows.append((name, *little))
    heads = ("queue", "simulated", "99.9 % bounds", "formula", "difference", "inside")
    return f"""## Queueing theory

One device, {REQUESTS:,} Poisson arrivals, mean service {SERVICE_NS:.0f} ns. Simulated: the mean `queue_ns` of all
requests, the start included, when the queue is still empty. Bounds: from the means of {BATCHES} consecutive batches.
Little's law compares the mean number of requests in the system, seen at 20,000 random moments, with arrival rate times
mean latency.

{table(heads, rows)}

{inside} of {len(rows)} lie inside their bounds. Waits are in ns, Little's law in requests. All of them draw from one
seed ({SEED}), so their errors are not independent.
"""


def littles_law() -> tuple[str, ...]:
    engine = queue(0.7)
    arrival_ns, latency_ns = engine.answers.arrival_ns, engine.answers.latency_ns
    end_ns = arrival_ns[-1]
    moments = np.sort(np.random.default_rng(3).uniform(0.05 * end_ns, end_ns, 20_000))
    departed_ns = np.sort(arrival_ns + latency_ns)
    present = np.searchsorted(arrival_ns, moments) - np.searchsorted(departed_ns, moments)
    mean, half = confidence(present)
    expected = float(latency_ns.mean() * REQUESTS / end_ns)
    cells = (f"{mean:.3f}", f"± {half:.3f}", f"{expected:.3f}", f"{mean / expected - 1:+.2%}")
    return ("Little's law, M/M/1 at load 0.7", *cells, _yes(abs(mean - expected) < half))


def _yes(good: bool) -> str:
    return "yes" if good else "no"


# ---------------------------------------------------------------------------------------------------- Mooncake's blocks


CALL_POLICIES = {
    "lru_fwd": ("lru", "forward"),
    "lru_rev": ("lru", "backward"),
    "lfu": ("lfu", "forward"),
    "lengthaware": ("length_aware", "forward"),
}
HIT_COLUMNS = ("hit_any", "hit_prefix", "hit_tokens")


class Cells:
    """How many cells of a table are the reference's, and by how much the worst differs."""

    def __init__(self):
        self.equal = self.all = 0
        self.worst = 0.0

    def add(self, ours: float, theirs: float) -> None:
        self.all += 1
        self.equal += ours == theirs
        self.worst = max(self.worst, abs(ours - theirs))

    def row(self, name: str) -> tuple[str, ...]:
        return (name, str(self.all), str(self.equal), f"{self.worst:g}")


def tier(name: str, blocks: int, trace: Trace, eviction: str = "lru", offload: str = "write_back") -> TierPlan:
    size = int(trace.block_bytes[0])
    paged = Choice("paged", {"page_bytes": size})
    return TierPlan(name, blocks * size, eviction=Choice(eviction), offload=Choice(offload), allocator=paged)


def mooncake(files: dict[str, Path]) -> str:
    trace = sim.load_trace(files["mooncake_conversation.jsonl"])
    ratios = one_tier_cells(trace, rows_of(files["kvcache/mooncake_conversation_hit_ratios.csv"]))
    pairs = two_tier_cells(trace, rows_of(files["kvcache/mooncake_conversation_two_tier.csv"]))
    heads = ("table", "cells", "equal", "largest difference")
    rows = [cells.row(f"one tier, `{name}`") for name, cells in ratios.items()]
    rows += [cells.row(f"two tiers, `{mode}`") for mode, cells in pairs.items()]
    cells = [*ratios.values(), *pairs.values()]
    equal, total = sum(one.equal for one in cells), sum(one.all for one in cells)
    return f"""## Prefix-cache hits of Mooncake's conversation trace

{trace.n_requests:,} block accesses of {len(trace.calls.arrival_ns):,} LLM calls. Reference: hit ratios to six decimals
(of any resident block, of the leading run, of that run's tokens), and for two tiers hit ratios, blocks written,
promoted, held twice and held at all, computed beside two public implementations. Capacities from 1,000 blocks to all.
`lru_fwd` touches a call's blocks from the first to the last, `lru_rev` the other way, `lru_seq` looks each block up by
itself.

{table(heads, rows)}

{equal} of {total} cells are equal to the last digit.
"""


def one_tier_cells(trace: Trace, rows: list[dict[str, str]]) -> dict[str, Cells]:
    found: dict[str, Cells] = {}
    for row in rows:
        cells = found.setdefault(row["policy"], Cells())
        capacity = trace.n_blocks if row["capacity_blocks"] == "inf" else int(row["capacity_blocks"])
        if row["policy"] in CALL_POLICIES:
            eviction, order = CALL_POLICIES[row["policy"]]
            result = replay_calls(trace, [tier("one", capacity, trace, eviction)], order)
            for column in HIT_COLUMNS:
                cells.add(round(getattr(result, column)[0], 6), float(row[column]))
        else:
            replayed = sim.replay(trace, policy="lru", capacity=capacity, ignore_object_size=True)
            cells.add(round(replayed.hit_ratio, 6), float(row["hit_any"]))
    return found


def two_tier_cells(trace: Trace, rows: list[dict[str, str]]) -> dict[str, Cells]:
    found: dict[str, Cells] = {}
    for row in rows:
        cells = found.setdefault(row["mode"], Cells())
        plans = [tier("hbm", int(row["D"]), trace), tier("dram", int(row["H"]), trace, offload=row["mode"])]
        result = replay_calls(trace, plans, "backward")
        held = result.resident
        cells.add(round(result.hit_prefix[0], 6), float(row["l1_hit"]))
        cells.add(round(result.hit_prefix[1], 6), float(row["l1_l2_hit"]))
        cells.add(result.prefix_blocks[1] - result.prefix_blocks[0], int(row["l2_promoted_blocks"]))
        cells.add(result.insertions[1], int(row["writes_to_l2_blocks"]))
        cells.add(int((held[:, 0] & held[:, 1]).sum()), int(row["dup_blocks"]))
        cells.add(int(held.any(axis=1).sum()), int(row["unique_resident"]))
    return found


# ---------------------------------------------------------------------------------------------------------- libCacheSim


# name in the reference: policy, and the parameters that make it the library's; and the same in the paper's form
LIBRARY = {
    "FIFO": ("fifo", {}),
    "LRU": ("lru", {}),
    "Clock": ("clock", {}),
    "Clock-2bit": ("clock", {"bits": 2}),
    "SIEVE": ("sieve", {}),
    "LFU": ("lfu", {}),
    "SLRU": ("slru", {"as_libcachesim": True}),
    "S3FIFO": ("s3fifo", {"as_libcachesim": True}),
    "ARC": ("arc", {"as_libcachesim": True}),
    "Belady": ("belady", {}),
    "TwoQ": ("2q", {"as_libcachesim": True}),
    "MQ": ("mq", {}),
    "LRUK2": ("lruk", {"history_ratio": 0.0}),
    "Clock2QPlus": ("clock2qplus", {"as_libcachesim": True}),
    "Size": ("size", {"as_libcachesim": True}),
    "GDSF": ("gdsf", {"as_libcachesim": True}),
    "LIRS": ("lirs", {"as_libcachesim": True}),
    "ClockPro": ("clockpro", {"as_libcachesim": True, "cold_ratio": 0.5}),
    "WTinyLFU": ("wtinylfu", {"as_libcachesim": True}),
    "Random": ("random", {}),
}
DRAWN = {"BeladySize", "Cacheus", "Hyperbolic", "LHD", "LeCaR"}  # tests hold these to the spread of the library's runs
PAPER = {name: (policy, {}) for name, (policy, given) in LIBRARY.items() if "as_libcachesim" in given} | {
    "LRUK2": ("lruk", {}),
}


def compared(trace: Trace, rows: list[dict[str, str]], name: str, policy: str, given: dict) -> tuple[str, ...]:
    """A line of the table: rows equal in misses, in missed bytes, and the largest difference of the miss ratio."""
    same = same_bytes = corrected = 0
    worst = 0.0
    mine = [row for row in rows if row["policy"] == name]
    for row in mine:
        unit = row["ignore_obj_size"] == "1"
        run = sim.replay(trace, registry.load(registry.EVICTION, policy), int(row["cache_size"]), unit, given)
        late = run.counts.get("late_hits", 0) - run.counts.get("false_hits", 0)
        requested_bytes = trace.n_requests if unit else int(trace.column("size_bytes").sum())
        missed_bytes = round((1 - run.byte_hit_ratio) * requested_bytes)
        same += run.misses + late == int(row["n_miss"])
        same_bytes += missed_bytes == int(row["miss_bytes"])
        corrected += any(run.counts.values())
        worst = max(worst, abs(run.misses + late - int(row["n_miss"])) / trace.n_requests)
    form = f"`{':'.join([policy, *(f'{key}={value}'.lower() for key, value in given.items())])}`"
    bytes_cell = f"{same_bytes}" + (" *" if corrected else "")
    return (name, form, str(len(mine)), str(same), bytes_cell, f"{worst:.3%}" if worst else "0")


def libcachesim(files: dict[str, Path]) -> str:
    trace = sim.load_trace(files["cloudphysics_io.oracleGeneral"]).with_next_access()
    reference = rows_of(files["cache/libcachesim_cloudphysics.csv"])
    heads = ("libCacheSim", "memhier", "rows", "misses equal", "missed bytes equal", "largest difference")
    ours = [compared(trace, reference, name, *form) for name, form in LIBRARY.items()]
    papers = [compared(trace, reference, name, *form) for name, form in PAPER.items()]
    others = sorted({row["policy"] for row in reference} - set(LIBRARY) - set(PAPER) - DRAWN)
    return f"""## Miss counts of libCacheSim

libCacheSim 0.3.5 on `cloudphysics_io`: {trace.n_requests:,} block I/Os of a virtual machine, {trace.n_blocks:,}
objects, no warm-up. Six rows a policy: caches of 0.1, 1 and 10 % of the objects, then of their bytes. Where library and
paper differ, `as_libcachesim` chooses the library's form. The largest difference is of misses, as a share of the
requests.

{table(heads, ours, left=2)}

\\* SLRU, TwoQ, LIRS and WTinyLFU of libCacheSim drop blocks during a hit or an insertion, which a policy here cannot:
such a block waits to be the next victim. If it is asked for before that, the library counts a miss and memhier a hit.
Those hits are counted (`late_hits`), and are added to the misses here; their bytes are not, so that rows with such hits
have other missed bytes. LIRS also counts as a hit the next access to a block that it has just evicted during a hit;
where that is a miss here, it is counted (`false_hits`), and taken off.

Two of the library's forms are not the algorithms whose names they have. Its ClockPro refuses every block that would
bring the cold ones over their share, and evicts for nothing else, so that it never evicts: it keeps the blocks that
came first and fit. Its WTinyLFU refuses every block in a cache of fewer than 100, and until the cache is full all
blocks are in the window. Left out are LIRS in a cache of two blocks, and what S3FIFO and Clock2QPlus evict for a block
of just the size of the small queue before they refuse it.

Random draws its victims from another generator than the library's, whose own runs differ, too: its rows cannot be
equal.

The forms of the papers, which are memhier's defaults, against the library:

{table(heads, papers, left=2)}

What the differences are, the policies' docstrings say. `tests/test_against_libcachesim.py` compares the library's forms
with its Python package on three generated traces, with unit sizes and with sizes from one byte to 100 KB.

BeladySize, Cacheus, Hyperbolic, LHD and LeCaR draw at random, too: `tests/test_eviction_policies.py` holds the mean of
several seeds to the spread of the library's own runs.

Not in memhier, so not compared: {", ".join(others)}.
"""


# ------------------------------------------------------------------------------------------------------------ path rule


SIZES = (64, 4096, 1 << 20)
SHOWN = ("dgx_h100_cxl_ssd", "gh200", "cxl_pool_spr", "laptop_lunar_lake")


def path_rule() -> str:
    shown, accesses, tiers, worst = [], 0, 0, 0.0
    systems = system_names()
    for system in systems:
        profile = sim.load_profile(system)
        for one in profile.tiers:
            tiers += 1
            simulated = unloaded(profile, one)
            formula = [profile.unloaded_ns(one.name, size, write) for write in (False, True) for size in SIZES]
            accesses += len(formula)
            worst = max(worst, *(abs(got / want - 1) for got, want in zip(simulated, formula, strict=True)))
            if system in SHOWN:
                path = " > ".join(one.path) or "none"
                cells = (f"{simulated[1]:,.1f}", f"{formula[1]:,.1f}", f"{simulated[4]:,.1f}", f"{formula[4]:,.1f}")
                shown.append((system, one.name, path, *cells))
    sizes = ", ".join(f"{size:,}" for size in SIZES)
    heads = ("system", "tier", "links", "read, simulated", "read, formula", "write, simulated", "write, formula")
    return f"""## The path rule

An access to an idle tier takes the sum of all latencies on its path, the device's occupancy, and its size over the
least bandwidth on the path (`Profile.unloaded_ns`). Every tier of each of the {len(systems)} shipped systems was put
alone behind its links and was asked for {sizes} bytes, read and written, 10 ms apart: {tiers} tiers,
{accesses} accesses. The largest relative difference from the formula is {worst:.1e}. Some of them, 4,096 bytes, in ns:

{table(heads, shown, left=3)}

This compares the engine with the rule, not the rule with hardware: how far a profile's numbers can be trusted is what
their sources say.
"""


def unloaded(profile: Profile, one: Tier) -> list[float]:
    """Latencies of a read of each size, then of a write of each, while nothing else moves."""
    links = {name: profile.links[name] for name in one.path}
    alone = replace(profile, tiers=(one,), links=links)
    accesses = 2 * len(SIZES)
    trace = Trace.from_columns(
        "idle",
        ids=np.arange(accesses),
        arrival_ns=np.arange(accesses) * 1e7,
        size_bytes=np.array([*SIZES, *SIZES], np.int64),
        op=np.array([0] * len(SIZES) + [1] * len(SIZES), np.uint8),
    )
    return simulate(alone, trace).answers.latency_ns.tolist()


# ------------------------------------------------------------------------------------------------------------- the page


HEAD = """# Validation

Made by `python docs/make_validation.py` from the code as it is; do not edit it. The tests assert most of it
(`tests/test_block_cache.py`, `tests/test_kv_reference.py`, `tests/test_eviction_policies.py`).

"""

TAIL = """## What is not covered

- Device models are compared alone, not inside a hierarchy; there they are tested against themselves driven alone. The
  numbers of a profile are as good as their sources.
- LPDDR5, GDDR6 and HBM2 have single figures here and no curves; their energies are estimates, marked [K].
- Idle latencies of CXL memory are derived from those of the devices and predict nothing; how many DRAM channels an
  expander has is an estimate for most.
- MQSim's runs are too short for garbage collection, so that its cost in time is compared with nothing; how much it
  writes is compared with the closed form above.
- Computational drives are compared with rates that papers state, not with measurements. An engine reads flash only;
  what it would write there, and how it is programmed, is not modelled.
- Replay and residency are compared with the counts of other programs; a timed run of several tiers is compared with
  hand-worked cases, with a slow model of residency and with its untimed twin, in the tests, not with another simulator.
- Fragmentation, energy and cost are checked against slow oracles and by arithmetic, in the tests, not against
  measurements.
- libCacheSim and Mooncake are one trace each.
- Tests hold the serving engine against a slow model of its rules on random workloads with one to three tiers: every
  time to the last bit, hits by tier, preemptions, evictions, bytes; taking like iterations in one go, and compiling,
  change no byte. Mooncake's conversation through the timed engine gives the prefix hits of the table above for both
  orders of LRU, and all 20 rows of the two-tier table, exactly. One sequence at a time waits as Pollaczek and Khinchine
  say, and the waiting queue keeps Little's law.
- Serving is compared with one measured run, of one engine without lower tiers; tiers are compared with public
  simulators' hit ratios and with a slow model in the tests, not with measured times of loads.
- Of allocators, those of GPUs' tensors are held to hand-worked rules and to slow models, and to no recorded snapshot;
  times of calls of the system are published or recalled ones.
- Of language models' kernels, products of experts and latent attention are compared with nothing; Mamba layers have no
  time, and the host's time of an iteration is 0 until told.
"""


def main() -> int:
    try:
        files = find_files()
    except Missing as missing:
        print(f"error: {missing}".replace("\n", "\nerror: "), file=sys.stderr)
        return 2
    sections = (
        queueing(),
        mooncake(files),
        libcachesim(files),
        path_rule(),
        validate_dram.section(files, table, PAGE.parent),
        validate_dram_rules.section(files, table),
        validate_gpu.section(table),
        validate_links.section(table, PAGE.parent),
        validate_pim.section(table),
        validate_ssd.sections(files, table),
        validate_profiles.section(table),
        validate_cost.section(files, table),
        validate_serving.section(files, table, PAGE.parent),
        validate_allocation.section(files, table),
    )
    PAGE.write_text(HEAD + "\n".join(sections) + "\n" + TAIL, encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
