"""The section of docs/validation.md on what each rule of DRAM does, and on devices whose curves are not at hand.

`section` gives Markdown; docs/make_validation.py puts it into the page. Of a rule that is taken away, or a controller
that is made otherwise, bandwidth and latency move by so many percent: Ramulator's numbers are in
dram/mechanism_ablation_summary.csv, a row an ablation. Another table has single figures of five more timing sets, the
last DRAMsim3's curves.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from validate_dram import parameters_of

from sim.devices import dram
from sim.dram.timing import DramParameters, dram_parameters
from sim.traffic import Load, measure

EFFECTS = "dram/mechanism_ablation_summary.csv"
OTHER = "dram/dramsim3_ddr4.csv"
CONFIGS = ("dram/ddr4_3200.params.json", "dram/hbm3_6400.params.json")
FILES = (EFFECTS, OTHER, *CONFIGS)
SEEDS = (1, 2)
_TRAFFIC = {  # as the columns name it
    "rand100": ("rand", 1.0),
    "rand70": ("rand", 0.7),
    "seq100": ("seq", 1.0),
    "seq70": ("seq", 0.7),
    "mstream16100": ("mstream16", 1.0),
}
_LOADS = {"BW64": 64, "lat8": 8, "idle": 1}  # requests outstanding; of the first the bandwidth, else the mean latency
_CONTROLLERS = {
    "frfcfs": {"scheduler": "fr_fcfs"},
    "noref": {"refresh": "none"},
    "closed": {"row_policy": "closed"},
    "mop": {"mapping": "MOP4CLXOR"},
    "nREFI": {"refresh": "none"},
}
_SEVERAL = {
    "nRCD": ("nRCDRD", "nRCDWR"),
    "nRAS_nRC": ("nRAS", "nRC"),
    "nRRDall_nFAW": ("nRRDS", "nRRDL", "nFAW"),
    "nWTRall": ("nWTRS", "nWTRL"),
}
_UNKNOWN = ("MINSET", "MINSET_noWTR")  # which rules these leave is not written beside them


class Effect(NamedTuple):
    """By how many percent a figure moves."""

    config: str
    ablation: str
    figure: str
    theirs: float
    ours: float

    @property
    def difference(self) -> float:
        return abs(self.ours - self.theirs)


class Anchor(NamedTuple):
    """Single figures of Ramulator 2.1 (c5b1c3a): idle ns, GB/s with 8 and with 32 outstanding, and saturated."""

    timing_set: str
    mapping: str
    pattern: str
    idle_ns: float
    gbps_8: float
    gbps_32: float
    saturated_gbps: float


ANCHORS = (
    Anchor("ddr5_4800", "MOP4CLXOR", "seq", 23.6, 16.75, 17.57, 17.57),
    Anchor("ddr5_4800", "MOP4CLXOR", "rand", 46.8, 8.58, 11.72, 11.72),
    Anchor("lpddr5_6400", "RoBaRaCoCh", "seq", 28.8, 5.77, 9.01, 10.15),
    Anchor("lpddr5_6400", "RoBaRaCoCh", "rand", 64.0, 2.89, 5.41, 5.58),
    Anchor("gddr6_14000", "RoBaRaCoCh", "seq", 16.9, 11.87, 17.77, 20.53),
    Anchor("gddr6_14000", "RoBaRaCoCh", "rand", 44.0, 3.94, 6.41, 6.42),
    Anchor("hbm2_2000", "MOP4CLXOR", "seq", 22.1, 12.02, 26.91, 28.04),
    Anchor("hbm2_2000", "MOP4CLXOR", "rand", 44.9, 4.46, 9.46, 9.63),
)


def changed(p: DramParameters, ablation: str) -> DramParameters | None:
    """The device without one rule (its timing is 1), or with another controller; None for what is not known.

    Not checked: a set without a rule may contradict itself.
    """
    if ablation in _UNKNOWN:
        return None
    if ablation in _CONTROLLERS:
        return p.model_copy(update=_CONTROLLERS[ablation])
    if ablation.startswith("QUEUE"):
        return p.model_copy(update=dict.fromkeys(("read_queue", "write_queue"), int(ablation[5:])))
    if ablation.startswith("WM"):
        low, high = map(float, ablation[2:].split("_"))
        return p.model_copy(update={"write_low_watermark": low, "write_high_watermark": high})
    without = dict.fromkeys(_SEVERAL.get(ablation, (ablation,)), 1)
    if ablation == "nCWL":  # tRTW follows from it: tCL + tBL + 2 - tCWL
        without["nRTW"] = p.nRTW + p.nCWL - 1
    return p.model_copy(update=without)


def figure(p: DramParameters, pattern: str, read_ratio: float, outstanding: int, bandwidth: bool) -> float:
    """GB/s or mean ns, over the seeds."""
    found = []
    for seed in SEEDS:
        load = Load(pattern, read_ratio, p.transaction_bytes, outstanding=outstanding, seed=seed)
        result = measure(dram.MODEL, dram.init(p), load, p.capacity_bytes, p.clock_ns)
        found.append(result.bandwidth_bytes_per_ns if bandwidth else result.mean_ns)
    return float(np.mean(found))


def figures(p: DramParameters) -> dict[str, float]:
    """Each figure of the reference's columns."""
    return {
        f"{traffic}_{load}_%": figure(p, *_TRAFFIC[traffic], _LOADS[load], load == "BW64")
        for traffic in _TRAFFIC
        for load in _LOADS
    }


def effects(files: Mapping[str, Path]) -> list[Effect]:
    """Every number of the reference beside ours."""
    devices = {Path(name).name.split(".")[0]: parameters_of(json.loads(files[name].read_text())) for name in CONFIGS}
    devices["ddr5_4800"] = dram_parameters("ddr5_4800")
    before = {name: figures(p) for name, p in devices.items()}
    found = []
    with open(files[EFFECTS], newline="") as file:
        for row in csv.DictReader(file):
            p = changed(devices[row["config"]], row["ablation"])
            if p is None:
                continue
            for name, value in figures(p).items():
                if row[name]:
                    ours = 100 * (value / before[row["config"]][name] - 1)
                    found.append(Effect(row["config"], row["ablation"], name, float(row[name]), ours))
    return found


def anchors() -> list[tuple[Anchor, Anchor]]:
    """Theirs, and ours."""
    found = []
    for theirs in ANCHORS:
        p = dram_parameters(theirs.timing_set, {"mapping": theirs.mapping})
        idle_ns = figure(p, theirs.pattern, 1.0, 1, False)
        achieved = [figure(p, theirs.pattern, 1.0, outstanding, True) for outstanding in (8, 32, 128)]
        ours = theirs._replace(idle_ns=idle_ns, gbps_8=achieved[0], gbps_32=achieved[1], saturated_gbps=max(achieved))
        found.append((theirs, ours))
    return found


def beside_dramsim3(path: Path) -> list[tuple[str, float, float]]:
    """Kind of load, and relative errors of bandwidth and of latency, at each point: reads, and mixed open loops."""
    p = dram_parameters("ddr4_3200", {"tCK_ps": 630})  # its configuration rounds the clock
    found = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            closed, read_ratio, x = row["mode"] == "closed", float(row["read_ratio"]), float(row["x"])
            if closed and read_ratio < 1:
                continue
            size = int(row["line_bytes"])
            asked = {"outstanding": int(x)} if closed else {"rate_bytes_per_ns": x * size / p.tick_ns}
            load = Load(row["pattern"], read_ratio, size, **asked)
            result = measure(dram.MODEL, dram.init(p), load, p.capacity_bytes, p.clock_ns)
            theirs = float(row["achieved_GBs"]), float(row["avg_ctrl_lat_ns"])
            errors = (result.bandwidth_bytes_per_ns / theirs[0] - 1, result.mean_ns / theirs[1] - 1)
            kind = "closed loops" if closed else "open loops"
            if not closed and float(row["achieved_GBs"]) < 0.97 * float(row["offered_GBs"]):
                kind = "open loops, more than it sustains"
            found.append((kind, *errors))
    return found


def _dramsim3_rows(found: list[tuple[str, float, float]]) -> list[tuple]:
    rows = []
    for kind in dict.fromkeys(kind for kind, _, _ in found):
        errors = np.abs([one[1:] for one in found if one[0] == kind])
        spread = [f"{v:.1%}" for column in errors.T for v in np.percentile(column, (50, 90))]
        rows.append((kind, len(errors), *spread))
    return rows


def section(files: Mapping[str, Path], table) -> str:
    """Markdown."""
    found = effects(files)
    names = dict.fromkeys(e.config for e in found)
    rows = [_effect_row(name, [e for e in found if e.config == name]) for name in names]
    steady = [e for e in found if not e.figure.startswith("mstream")]
    rows += [_effect_row("all but mstream16", steady), _effect_row("all", found)]
    heads = ("config", "effects", "median", "p90", "p99", "largest")
    worst = sorted(steady, key=lambda e: -e.difference)[:8]
    shown = [(e.config, e.ablation, e.figure[:-2], f"{e.theirs:+.1f} %", f"{e.ours:+.1f} %") for e in worst]
    others, errors = [], []
    for theirs, ours in anchors():
        pairs = list(zip(theirs[3:], ours[3:], strict=True))
        errors += [abs(b / a - 1) for a, b in pairs]
        others.append((*theirs[:3], *(f"{a:.2f} / {b:.2f}" for a, b in pairs)))
    median, p90 = np.percentile(errors, (50, 90))
    dramsim3_heads = ("load", "points", "bandwidth: median", "p90", "latency: median", "p90")
    other_heads = ("set", "mapping", "traffic", "idle ns", "GB/s, 8 outstanding", "32", "saturated")
    return f"""## What each rule of DRAM does, and other devices

Ramulator 2.1 was run without one timing rule after the other, and with other controllers (plain FR-FCFS, no refresh,
closed rows, MOP4CLXOR, queues of 8 to 128, other watermarks), on DDR4-3200, DDR5-4800 and HBM3-6400; its bandwidth with
64 requests outstanding, its latency with 8 and its idle latency then moved by so many percent. memhier's move by, in
percentage points, this much more or less ({len(found)} effects; a rule is taken away by setting its timing to 1; ours
the mean of seeds {", ".join(map(str, SEEDS))}, closed loops, mixed traffic, too):

{table(heads, rows, left=1)}

mstream16 is 16 streams at random places, of which the reference has one draw. Without it, these differ most:

{table(("config", "what", "figure", "Ramulator", "memhier"), shown, left=3)}

Sets of which single figures are known, theirs / ours; median error {median:.1%}, 90th percentile {p90:.1%}:

{table(other_heads, others, left=3)}

DRAMsim3 (2981759) under the same traffic, DDR4-3200, row hits side by side (rochrababgco), beside memhier with
RoBaRaCoCh, nothing else made alike: its controller has a queue for each bank behind the one in front, so that under
more than it sustains a request waits longer inside it and the latencies do not compare.

{table(dramsim3_heads, _dramsim3_rows(beside_dramsim3(files[OTHER])), left=1)}
"""


def _effect_row(name: str, chosen: list[Effect]) -> tuple:
    differences = [e.difference for e in chosen]
    return (name, len(chosen), *(f"{v:.2f}" for v in np.percentile(differences, (50, 90, 99, 100))))
