"""The figure of a probe: latency over bandwidth, a mark a load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sim.report.figures import COLOURS, finished, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.probing import Reading


def latency_figure(device: str, readings: Sequence[Reading], ax: Axes) -> Axes:
    """Mean and 99th percentile of the read latency over the achieved bandwidth."""
    bandwidth = [one.result.bandwidth_bytes_per_ns for one in readings]
    for nth, (label, values) in enumerate(
        (("mean", [one.result.mean_ns for one in readings]), ("p99", [one.result.p99_ns for one in readings]))
    ):
        ax.plot(bandwidth, values, label=label, marker="os"[nth], markersize=4, color=COLOURS[nth], linewidth=1.8)
    ax.set(xlabel="achieved bandwidth, GB/s", ylabel="read latency, ns", ylim=(0, None))
    ax.set_title(f"{device}: {readings[0].load.pattern}, {readings[0].load.read_ratio:.0%} reads")
    return finished(ax, legend="upper left")


def save_probe(device: str, readings: Sequence[Reading], path: Path) -> Path:
    """A PNG file. Raises InputError where it cannot be written."""
    figure = new_figure(6.4, 4.2, "constrained")
    latency_figure(device, readings, figure.add_subplot())
    return save_figure(figure, path)
