"""The figure of miss-ratio curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sim.report.figures import COLOURS, DASHES, MARKERS, finished, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.curves import Point


def miss_ratio_figure(curves: Sequence[Point], exact: Sequence[Point], ax: Axes) -> Axes:
    """Miss ratio over the cache's share of the footprint, a line a policy; `exact`, where given, as thin lines."""
    for points, thin in ((curves, False), (exact, True)):
        for nth, policy in enumerate(dict.fromkeys(point.policy for point in points)):
            mine = [point for point in points if point.policy == policy]
            style = {"color": COLOURS[nth % len(COLOURS)], "linestyle": DASHES[nth % len(DASHES)], "linewidth": 1.8}
            if thin:
                style |= {"color": "black", "linestyle": "-", "linewidth": 0.8}
            label = f"{policy}, exact" if thin else policy
            marker = None if thin else MARKERS[nth % len(MARKERS)]
            xs, ys = [point.share for point in mine], [point.miss_ratio for point in mine]
            ax.plot(xs, ys, label=label, marker=marker, markersize=4, **style)
    ax.set(xscale="log", ylim=(0, 1.02), xlabel="cache, as a share of the footprint", ylabel="miss ratio")
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:.3%}".rstrip("0%").rstrip(".") + "%" if share > 0 else "")
    ax.set_title("Miss ratio by size of the cache")
    return finished(ax, legend="lower left")


def save_curves(curves: Sequence[Point], exact: Sequence[Point], path: Path) -> Path:
    """A PNG file. Raises InputError where it cannot be written."""
    figure = new_figure(6.4, 4.2, "constrained")
    miss_ratio_figure(curves, exact, figure.add_subplot())
    return save_figure(figure, path)
