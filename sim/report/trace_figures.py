"""Figures of a trace's statistics, drawn on axes that the caller gives, or saved as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim.report.figures import COLOURS, finished, new_figure, save_figure
from sim.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.trace_statistics import Statistics


def popularity(statistics: Statistics, ax: Axes) -> Axes:
    """Accesses over rank, both logarithmic, and the fitted line."""
    table, summary = statistics.tables["popularity"], statistics.summary
    ax.plot(table["rank"], table["accesses"], color=COLOURS[0], linewidth=1.8, label="objects")
    if "zipf_alpha" in summary:
        rank = table["rank"].astype(float)
        line = summary["zipf_first"] * rank ** -summary["zipf_alpha"]
        seen = line >= 0.5
        text = f"Zipf, alpha {summary['zipf_alpha']:.2f} (R² {summary['zipf_r2']:.3f})"
        ax.plot(rank[seen], line[seen], color=COLOURS[1], linestyle="--", linewidth=1.2, label=text)
    ax.set(xscale="log", yscale="log", xlabel="rank of the object", ylabel="accesses")
    ax.set_title("Popularity")
    return finished(ax, legend="upper right")


def reuse_distance(statistics: Statistics, ax: Axes) -> Axes:
    """Share of all requests at or below a stack distance, which is the hit ratio of an LRU cache of one object more."""
    table, summary = statistics.tables["reuse_distance"], statistics.summary
    cache_objects = table["distance"] + 1
    ax.plot(cache_objects, table["share"], color=COLOURS[0], linewidth=1.8, drawstyle="steps-post")
    reused = 1 - summary["objects"] / summary["requests"]
    ax.axhline(reused, color=COLOURS[6], linewidth=0.8, linestyle=":")
    ax.text(1, reused, " all but first accesses", fontsize=8, va="bottom")
    ax.set(xscale="log", ylim=(0, 1.04), xlabel="reuse distance, below (distinct objects)", ylabel="share of requests")
    ax.set_title("Reuse distance: hit ratio of LRU by capacity")
    return finished(ax, legend=None)


def sizes(statistics: Statistics, ax: Axes) -> Axes:
    """Share of objects, and of requests, up to a size."""
    table = statistics.tables["sizes"]
    for nth, column in enumerate(("objects", "requests")):
        share = np.cumsum(table[column]) / table[column].sum()
        at = np.concatenate([[table["up_to_bytes"][0] / 1.1], table["up_to_bytes"]])
        style = {"color": COLOURS[nth], "linestyle": ("-", "--")[nth], "linewidth": 1.8}
        ax.plot(at, np.concatenate([[0], share]), label=column, drawstyle="steps-post", **style)
    ax.set_xscale("log", base=2)
    ax.set(ylim=(0, 1.04), xlabel="size of the object", ylabel="share up to this size")
    ax.xaxis.set_major_formatter(lambda size, _: format_bytes(round(size), 3) if size >= 1 else "")
    ax.set_title("Sizes")
    return finished(ax, legend="lower right")


def working_set(statistics: Statistics, ax: Axes) -> Axes:
    """Distinct objects of each window, and all seen so far."""
    table = statistics.tables["working_set"]
    ax.plot(table["first_request"], table["objects"], color=COLOURS[0], linewidth=1.5, label="in the window")
    style = {"color": COLOURS[1], "linestyle": "--", "linewidth": 1.5}
    ax.plot(table["first_request"], table["objects_so_far"], label="since the start", **style)
    ax.set(xlabel="request", ylabel="distinct objects", yscale="log")
    ax.set_title("Working set, by windows of a 200th of the requests")
    return finished(ax, legend="center right")


def save_trace_figures(statistics: Statistics, folder: Path) -> list[Path]:
    """PNG files in a folder, which must be there. Raises InputError where they cannot be written."""
    drawn = {"popularity": popularity, "reuse_distance": reuse_distance, "working_set": working_set}
    if "object_bytes_max" in statistics.summary:
        drawn["sizes"] = sizes
    return [_save_one(statistics, name, draw, folder) for name, draw in drawn.items()]


def _save_one(statistics: Statistics, name: str, draw, folder: Path) -> Path:
    figure = new_figure(6.4, 4.2, "constrained")
    ax = draw(statistics, figure.add_subplot())
    ax.set_title(f"{statistics.name}: {ax.get_title()}", fontsize=10)
    return save_figure(figure, folder / f"{name}.png")
