"""The DRAM section of docs/validation.md: every point of Ramulator's curves beside what memhier gives.

    python docs/validate_dram.py [--write]

prints the section alone, or puts it into the page, where it was or before what is not covered; needs
MEMHIER_REFERENCE_PATH.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from sim.devices import dram  # noqa: E402
from sim.dram.timing import DramParameters, dram_parameters  # noqa: E402
from sim.traffic import Load, measure  # noqa: E402

CURVES = ("dram/ramulator2_ddr4.csv", "dram/ramulator2_hbm3.csv")
CONFIGS = ("ddr4_3200", "ddr4_3200_mop", "hbm3_6400", "hbm3_6400_mop")
FILES = (*CURVES, *(f"dram/{config}.params.json" for config in CONFIGS))
SEEDS = (1, 2, 3)
FIGURE = Path("images") / "validation_dram.png"
_ROW_POLICIES = {"Open": "open", "ClosedCAP": "closed"}
_SCHEDULERS = {"FRFCFSRowHit": "fr_fcfs_row_hit", "FRFCFS": "fr_fcfs"}
_REFRESHES = {"AllBank": "all_bank", "NoRefresh": "none"}
_SPELLED = {"nRCD": ("nRCDRD", "nRCDWR")}  # one name of theirs is two of ours
_NOT_OURS = ("rate", "nRFMab", "nRFMpb")


class Point(NamedTuple):
    config: str
    pattern: str
    read_ratio: float
    mode: str
    load: float
    theirs: tuple[float, float]  # bandwidth GB/s, controller latency ns
    ours: tuple[float, float]

    @property
    def errors(self) -> tuple[float, float]:
        return tuple(abs(a / b - 1) for a, b in zip(self.ours, self.theirs, strict=True))


def parameters_of(config: Mapping) -> DramParameters:
    """A configuration of Ramulator's as it is written beside its curves: the shipped set with the resolved numbers."""
    changes = {
        "mapping": config["mapper"],
        "row_policy": _ROW_POLICIES[config["row_policy"]],
        "scheduler": _SCHEDULERS[config["scheduler"]],
        "refresh": _REFRESHES[config["refresh"]],
        "read_queue": config["controller_kwargs"].get("read_buffer_size", 32),
        "write_queue": config["controller_kwargs"].get("write_buffer_size", 32),
    }
    for name, value in config["timing_ck"].items():
        if name not in _NOT_OURS:
            changes |= dict.fromkeys(_SPELLED.get(name, (name,)), value)
    base = "_".join(config["name"].split("_")[:2])
    return dram_parameters(base, changes)


def run(files: Mapping[str, Path]) -> list[Point]:
    """Every point that can be compared: mixed traffic in open loops only, as Ramulator's writes end when issued."""
    parameters = {c: parameters_of(json.loads(files[f"dram/{c}.params.json"].read_text())) for c in CONFIGS}
    points = []
    for name in CURVES:
        with open(files[name], newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["mode"] == "poisson" or float(row["read_ratio"]) == 1]
        points += [_point(row, parameters[row["config"]]) for row in rows]
    return points


def _point(row: Mapping[str, str], p: DramParameters) -> Point:
    x, size = float(row["x"]), int(row["line_bytes"])
    load = {"outstanding": int(x)} if row["mode"] == "closed" else {"rate_bytes_per_ns": x * size / p.tick_ns}
    measured = []
    for seed in SEEDS:
        wanted = Load(row["pattern"], float(row["read_ratio"]), size, seed=seed, **load)
        result = measure(dram.MODEL, dram.init(p), wanted, p.capacity_bytes, p.tick_ns)
        measured.append((result.bandwidth_bytes_per_ns, result.mean_ns))
    theirs = float(row["achieved_GBs"]), float(row["avg_ctrl_lat_ns"])
    ours = tuple(float(value) for value in np.mean(measured, axis=0))
    return Point(row["config"], row["pattern"], float(row["read_ratio"]), row["mode"], x, theirs, ours)


def summary(points: list[Point]) -> tuple[float, float, float, float]:
    """Median and 90th percentile of the error of bandwidth, then of latency."""
    errors = np.array([point.errors for point in points])
    return (*np.percentile(errors[:, 0], (50, 90)), *np.percentile(errors[:, 1], (50, 90)))


def rows_of_table(points: list[Point]) -> list[tuple]:
    groups = [(config, "all patterns", [p for p in points if p.config == config]) for config in CONFIGS]
    for pattern in dict.fromkeys((p.pattern, p.read_ratio) for p in points):
        chosen = [p for p in points if (p.pattern, p.read_ratio) == pattern]
        groups.append(("all", f"{pattern[0]}, {pattern[1]:.0%} reads", chosen))
    groups.append(("all", "all patterns", points))
    return [(name, what, len(chosen), *(f"{v:.2%}" for v in summary(chosen))) for name, what, chosen in groups]


def section(files: Mapping[str, Path], table, folder: Path | None = None) -> str:
    """Markdown; draws the figure into `folder` where one is given."""
    points = run(files)
    if folder is not None:
        draw(points, folder / FIGURE)
    heads = ("config", "traffic", "points", "bandwidth: median", "p90", "latency: median", "p90")
    worst = sorted(points, key=lambda point: -max(point.errors))[:8]
    shown = [
        (p.config, f"{p.pattern}, {p.read_ratio:.0%} reads", f"{p.mode} {p.load:g}", *map("{:.2f}".format, figures))
        for p in worst
        for figures in [(p.theirs[0], p.ours[0], p.theirs[1], p.ours[1])]
    ]
    worst_heads = ("config", "traffic", "load", "GB/s, theirs", "ours", "ns, theirs", "ours")
    return f"""## DRAM against Ramulator 2.1

One channel of DDR4-3200 and of HBM3-6400, two mappings each, {len(points)} points of its latency-bandwidth curves, all
patterns, open and closed loops; 20,000 requests after 3,000, ours the mean of seeds {", ".join(map(str, SEEDS))}. Mixed
traffic is compared in open loops only, as a write ends at another moment in each simulator. Errors are absolute,
relative to Ramulator; the target is a median of at most 3 % and a 90th percentile of at most 10 % for each. No number
was fitted: timings are those of its configuration files, rules those of the standards.

{table(heads, rows_of_table(points), left=2)}

![latency against bandwidth, ours over theirs]({FIGURE.as_posix()})

The points that differ most (mstream16 draws 16 bases at random, one draw in the reference, whose own spread over seeds
is 9.5 to 11.8 GB/s; near saturation in an open loop the wait follows the draw of arrivals):

{table(worst_heads, shown, left=3)}
"""


def draw(points: list[Point], path: Path) -> None:
    """A panel a configuration: their curves as lines, ours as marks."""
    from sim.report.figures import COLOURS, MARKERS, finished, new_figure, save_figure

    figure = new_figure(9.6, 7.6, "constrained")
    axes = figure.subplots(2, 2)
    traffic = list(dict.fromkeys((p.pattern, p.read_ratio) for p in points))
    for config, ax in zip(CONFIGS, axes.flat, strict=True):
        for (nth, key), mode in product(enumerate(traffic), ("poisson", "closed")):
            wanted = (config, *key, mode)
            line = [p for p in points if (p.config, p.pattern, p.read_ratio, p.mode) == wanted]
            if not line:
                continue
            style = {"color": COLOURS[nth % len(COLOURS)], "markersize": 4}
            dashes = "-" if mode == "poisson" else ":"
            ax.plot(*zip(*(p.theirs for p in line), strict=True), linewidth=1.0, linestyle=dashes, **style)
            label = f"{key[0]}, {key[1]:.0%} reads" if mode == "poisson" else None
            marks = {"marker": MARKERS[nth % len(MARKERS)], "linestyle": "none", "label": label}
            ax.plot(*zip(*(p.ours for p in line), strict=True), **marks, **style)
        ax.set(xlabel="achieved GB/s", ylabel="controller latency, ns", title=config)
        finished(ax, legend=None)
    figure.suptitle("Lines: Ramulator 2.1 (dotted: closed loops). Marks: memhier.")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)


def main() -> int:
    folders = [Path(folder) for folder in os.environ.get("MEMHIER_REFERENCE_PATH", "").split(os.pathsep) if folder]
    files = {name: folder / name for name in FILES for folder in folders if (folder / name).is_file()}
    missing = [name for name in FILES if name not in files]
    if missing:
        print(f"error: {missing[0]}: not found; set MEMHIER_REFERENCE_PATH to the folder that has it", file=sys.stderr)
        return 2
    from make_validation import table

    text = section(files, table, Path(__file__).parent)
    if "--write" in sys.argv[1:]:
        put(text, Path(__file__).parent / "validation.md")
    else:
        print(text)
    return 0


def put(text: str, page: Path) -> None:
    """The section into the page, in place of itself."""
    title, before_title = text.partition("\n")[0], "## What is not covered"
    before, _, rest = page.read_text(encoding="utf-8").partition(title)
    if rest:
        rest = rest[rest.index("\n## ") + 1 :]
    else:
        before, _, rest = before.partition(before_title)
        rest = before_title + rest
    unfinished = page.with_suffix(".unfinished")
    unfinished.write_text(f"{before}{text}\n{rest}", encoding="utf-8")
    unfinished.replace(page)


if __name__ == "__main__":
    sys.exit(main())
