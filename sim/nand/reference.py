"""MQSim's workloads on a modelled SSD, beside what MQSim gave (Tavakkol et al., MQSim, FAST 2018).

A row of its results says how many requests of which size are kept outstanding, how many of them are reads, and whether
the write cache is on. The same is put to the model, a device whose first `occ` per cent are written, and IOPS and mean
latency are compared. As MQSim does, IOPS are counted until the device is idle.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, kernel
from sim.kernels.random import below, make_rng
from sim.nand import ftl
from sim.nand.parameters import SECTOR_BYTES, NandParameters, load_parameters
from sim.nand.ssd import step, submit
from sim.nand.state import DONE, LOGICAL_PAGES, NOW, PREFILLED_SECTORS, SECTORS, NandState, low_bits, make_state

_submit = inlined(submit)


class Run(NamedTuple):
    """What one closed-loop run gave."""

    iops: float
    mean_latency_ns: float
    latency_ns: np.ndarray  # float64[requests] of each, in order of completion
    wall_s: float  # of the simulation alone


@kernel
def _closed_loop(state, requests, reads, outstanding, sectors, pages, sequential, rng, began_ns, latency_ns):
    """Keep `outstanding` requests of `sectors` under way until all are complete; return when the device was idle.

    They begin at a page of the first `pages`, the next in turn or one drawn uniformly; `reads` of them, drawn, are
    reads. Negative: the device came to a standstill.
    """
    of_page = state.memory[SECTORS]
    long = (sectors + of_page - 1) // of_page
    place = below(rng, pages - long + 1)
    sent, complete, ticket = 0, 0, np.int64(0)
    while complete < requests:
        while sent < requests and ticket >= 0:
            is_write = below(rng, requests - sent) >= reads
            reads -= not is_write
            if not sequential:
                place = below(rng, pages - long + 1)
            elif sent:
                place = place + long if place + 2 * long <= pages else 0
            now_ns = state.real[NOW]
            if not _submit(state, ticket, now_ns, place * of_page * SECTOR_BYTES, sectors * SECTOR_BYTES, is_write):
                return -1.0
            began_ns[ticket] = now_ns
            sent += 1
            ticket = np.int64(sent if sent < outstanding else -1)
        if not step(state, np.inf):
            return -1.0
        if state.memory[DONE]:
            ticket = state.done_ticket[0]
            latency_ns[complete] = state.done_ns[0] - began_ns[ticket]
            complete += 1
            state.memory[DONE] = 0
    while step(state, np.inf):
        pass
    return state.real[NOW]


def closed_loop(
    state: NandState,
    requests: int,
    outstanding: int,
    sectors: int,
    reads: int,
    sequential: bool = False,
    occupancy: float = 1.0,
    seed: int = 1,
) -> Run:
    """Run `requests`, `reads` of them reads, on an idle device, over the first `occupancy` of its capacity."""
    began_ns, latency_ns = np.zeros(outstanding), np.zeros(requests)
    pages = round(occupancy * int(state.memory[LOGICAL_PAGES]))
    start_ns, begin = state.real[NOW], time.perf_counter()
    idle_ns = _closed_loop(
        state, requests, reads, outstanding, sectors, pages, sequential, make_rng(seed), began_ns, latency_ns
    )
    wall_s = time.perf_counter() - begin
    if idle_ns < 0:
        raise RuntimeError("a closed loop came to a standstill")
    return Run(requests / (idle_ns - start_ns) * 1e9, float(latency_ns.mean()), latency_ns, wall_s)


class Compared(NamedTuple):
    """One row: MQSim's figures and ours."""

    workload: str
    outstanding: int
    sectors: int
    iops: float
    our_iops: float
    latency_ns: float
    our_latency_ns: float
    rate: float  # requests simulated a second of wall time
    their_rate: float

    @property
    def bandwidth(self) -> float:
        """MQSim's bytes a ns."""
        return self.iops * self.sectors * SECTOR_BYTES / 1e9

    @property
    def our_bandwidth(self) -> float:
        return self.our_iops * self.sectors * SECTOR_BYTES / 1e9

    @property
    def errors(self) -> tuple[float, float]:
        """Of IOPS (and so of bandwidth) and of mean latency, relative."""
        return abs(self.our_iops / self.iops - 1), abs(self.our_latency_ns / self.latency_ns - 1)


class _Filled:
    """A device that is put back into its preconditioned state in a fraction of the time that filling it takes."""

    def __init__(self, parameters: NandParameters, occupancy: float):
        self.state = make_state(parameters)
        ftl.fill(self.state, occupancy)
        self.memory, self.location, self.owner = (
            table.copy() for table in (self.state.memory, self.state.location, self.state.owner)
        )

    def restored(self, sectors: int) -> NandState:
        """Its pages written with their first `sectors` sectors."""
        state = self.state
        for table in ("memory", "location", "owner"):
            np.copyto(getattr(state, table), getattr(self, table))
        state.sectors.fill(0)
        state.heap.size.fill(0)
        state.memory[PREFILLED_SECTORS] = low_bits(min(sectors, int(state.memory[SECTORS])))
        return state


def compare(path: Path, device: str = "mqsim_default") -> list[Compared]:
    """All rows of MQSim's results for one device, and ours."""
    parameters = load_parameters(device)
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["ssd"] == device and not row["ssd_overrides"]]
    compared, filled, of = [], None, None
    for row in rows:
        write_cache, occupancy = row["cache"] == "WRITE_CACHE", float(row["occ"]) / 100
        if of != (write_cache, occupancy):
            filled, of = None, (write_cache, occupancy)  # let go of one before the next is made
            filled = _Filled(parameters.model_copy(update={"write_cache": write_cache}), occupancy)
        compared.append(_compare_row(row, filled.restored(int(row["sectors"])), occupancy))
    return compared


def _compare_row(row: Mapping[str, str], state: NandState, occupancy: float) -> Compared:
    requests, sectors, iops = int(row["n"]), int(row["sectors"]), float(row["iops"])
    reads = round(requests * float(row["iops_read"]) / iops)
    sequential = row["workload"].startswith("seq")
    run = closed_loop(state, requests, int(row["qd"]), sectors, reads, sequential, occupancy)
    latency_ns, their_rate = float(row["dev_resp_us"]) * 1e3, float(row["req_per_wall_s"])
    ours = (run.iops, latency_ns, run.mean_latency_ns, requests / run.wall_s, their_rate)
    return Compared(row["workload"], int(row["qd"]), sectors, iops, *ours)


def summary(rows: Iterable[Compared]) -> list[tuple[str, int, float, float, float, float]]:
    """(workload, rows, median and 90th percentile of the error of IOPS, of latency), the last line for all of them."""
    rows = list(rows)
    names = list(dict.fromkeys(row.workload for row in rows))
    groups = [(name, [row.errors for row in rows if row.workload == name]) for name in names]
    groups.append(("all", [row.errors for row in rows]))
    return [
        (name, len(errors), *(float(np.percentile([e[i] for e in errors], q)) for i in (0, 1) for q in (50, 90)))
        for name, errors in groups
    ]
