"""The figure of a probe: latency over bandwidth, a mark a load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sim.report.figures import COLOURS, MARKERS, finished, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.probing import Reading


_LINES = (("mean", "mean"), ("p99", "p99"), ("p99.9", "p999"))
_LOG_FROM = 30  # times: a wider range is drawn on a log axis


def latency_figure(device: str, readings: Sequence[Reading], ax: Axes) -> Axes:
    """Mean, 99th and 99.9th percentile of the read latency over the achieved bandwidth; of writes where all are."""
    load = readings[0].load
    way, prefix = ("read", "") if load.read_ratio > 0 else ("write", "write_")
    bandwidth = [one.result.bandwidth_bytes_per_ns for one in readings]
    seen = []
    for nth, (label, name) in enumerate(_LINES):
        values = [getattr(one.result, f"{prefix}{name}_ns") for one in readings]
        seen += [value for value in values if value > 0]
        ax.plot(bandwidth, values, label=label, marker=MARKERS[nth], markersize=4, color=COLOURS[nth], linewidth=1.8)
    ax.set(xlabel="achieved bandwidth, GB/s", ylabel=f"{way} latency, ns")
    if seen and max(seen) > _LOG_FROM * min(seen):
        ax.set_yscale("log")
    else:
        ax.set_ylim(0, None)
    ax.set_title(f"{device}: {load.pattern}, {load.read_ratio:.0%} reads")
    return finished(ax, legend="upper left")


def save_probe(device: str, readings: Sequence[Reading], path: Path) -> Path:
    """A PNG file. Raises InputError where it cannot be written."""
    figure = new_figure(6.4, 4.2, "constrained")
    latency_figure(device, readings, figure.add_subplot())
    return save_figure(figure, path)
