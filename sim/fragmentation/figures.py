"""Figures of replays of allocations, drawn on axes that the caller gives, or saved as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim.fragmentation.results import AllocationResult
from sim.report.figures import COLOURS, bar_style, finished, line_style, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PARTS = ("live", "internal", "reserved", "metadata")  # of what is held, from the bottom up
_MAP_COLOURS = ("#ffffff", "#b5d4ea", "#0072B2")  # a hole, half in use, in use


def bytes_over_operations(result: AllocationResult, ax: Axes) -> Axes:
    """What is live, what is lost within allocations, and what is held, over the operations."""
    looks = {
        name: result.column("looks", name) for name in ("operation", "held_bytes", *(f"{p}_bytes" for p in _PARTS))
    }
    scale, unit = _size_unit(float(looks["held_bytes"].max(initial=1)))
    used = [name for name in _PARTS if looks[f"{name}_bytes"].any()]
    stack = [looks[f"{name}_bytes"] / scale for name in used]
    nouns = {"live": "objects", "internal": "never used", "reserved": "reserved for later", "metadata": "books"}
    colours = dict(zip(_PARTS, COLOURS, strict=False))
    ax.stackplot(
        looks["operation"], stack, labels=[nouns[name] for name in used], colors=[colours[name] for name in used], lw=0
    )
    ax.plot(looks["operation"], looks["held_bytes"] / scale, color="#000000", lw=1.2, label="held")
    ax.set(
        xlabel="operation", ylabel=unit, title=f"{result.label}: what is held, and what of it is used", ylim=(0, None)
    )
    ax.margins(x=0)
    return finished(ax, legend="upper left")


def address_map(result: AllocationResult, ax: Axes) -> Axes:
    """The addresses over the operations: dark where they are in use, white where there is a hole."""
    from matplotlib.colors import LinearSegmentedColormap

    shares = result.map()
    scale, unit = _size_unit(max(1, shares.shape[0]) * result.manifest["map"]["row_bytes"])
    operations = result.column("looks", "operation")
    extent = (
        0,
        max(1, int(operations[-1]) if operations.size else 1),
        0,
        shares.shape[0] * result.manifest["map"]["row_bytes"] / scale,
    )
    colours = LinearSegmentedColormap.from_list("use", _MAP_COLOURS)
    if shares.size:
        image = ax.imshow(
            shares, origin="lower", aspect="auto", extent=extent, cmap=colours, vmin=0, vmax=1, interpolation="nearest"
        )
        ax.figure.colorbar(image, ax=ax, label="share of these addresses in use")
    else:
        ax.text(0.5, 0.5, "this allocator names no places", ha="center", va="center", transform=ax.transAxes)
    ax.set(xlabel="operation", ylabel=f"address ({unit})", title=f"{result.label}: addresses in use, white are holes")
    return ax


def allocators_side_by_side(results: Sequence[AllocationResult], figure: Figure) -> list[Axes]:
    """Held over live bytes, and what of the held bytes is lost to what, a bar an allocator."""
    left, right = figure.subplots(1, 2, sharey=True)
    labels, at = [result.label for result in results], np.arange(len(results))
    ratios = [result.summary.get("held_over_live_peak", 0.0) for result in results]
    left.barh(at, ratios, color=COLOURS[0])
    for y, ratio in zip(at, ratios, strict=True):
        left.text(ratio, y, f" {ratio:.3f}", va="center", fontsize=8)
    left.axvline(1, color="#000000", lw=0.8)
    left.set(xlabel="most held / most live bytes", yticks=at, yticklabels=labels, xlim=(0, 1.18 * max([1, *ratios])))
    left.invert_yaxis()
    _stack_losses(results, right, at)
    return [finished(left, legend=None), finished(right, legend="above")]


def _stack_losses(results: Sequence[AllocationResult], ax: Axes, at: np.ndarray) -> None:
    """Shares of the held bytes, mean over the looks."""
    nouns = {"internal": "never used", "reserved": "reserved for later", "metadata": "books", "holes": "holes"}
    shares = [_losses(result) for result in results]
    start = np.zeros(len(results))
    for nth, (name, noun) in enumerate(nouns.items()):
        widths = np.array([100 * one[name] for one in shares])
        if widths.any():
            ax.barh(at, widths, left=start, label=noun, **bar_style(nth + 1))
        start += widths
    ax.set(xlabel="% of what is held, mean", xlim=(0, max(1.0, 1.05 * float(start.max(initial=0)))))


def _losses(result: AllocationResult) -> dict[str, float]:
    held = result.column("looks", "held_bytes").astype(float)
    some = held > 0

    def share(name: str) -> float:
        return float((result.column("looks", f"{name}_bytes")[some] / held[some]).mean()) if some.any() else 0.0

    parts = {name: share(name) for name in ("internal", "reserved", "metadata")}
    return {**parts, "holes": max(0.0, 1.0 - share("allocated"))}


def failures_over_operations(results: Sequence[AllocationResult], ax: Axes) -> Axes:
    """Refused calls so far, a line an allocator."""
    for nth, result in enumerate(results):
        ax.plot(
            result.column("looks", "operation"),
            result.column("looks", "failures"),
            label=result.label,
            **line_style(nth),
        )
    ax.set(xlabel="operation", ylabel="refused so far", title="Refused calls")
    return finished(ax, legend="upper left")


def save_run_figures(result: AllocationResult, folder: str | Path) -> list[Path]:
    """`bytes.png`, `map.png` in the folder."""
    saved = []
    for name, draw in (("bytes", bytes_over_operations), ("map", address_map)):
        figure = new_figure(9, 4.5, layout="constrained")
        draw(result, figure.add_subplot())
        saved.append(save_figure(figure, Path(folder) / f"{name}.png"))
    return saved


def save_comparison_figure(results: Sequence[AllocationResult], path: str | Path) -> Path:
    figure = new_figure(10, 1.6 + 0.42 * len(results), layout="constrained")
    allocators_side_by_side(results, figure)
    return save_figure(figure, Path(path))


def needed(result: AllocationResult) -> AllocationResult:
    """The result with what is drawn alone, for the process that draws."""
    return AllocationResult(
        result.summary, result.manifest, {}, columns={name: result.columns[name] for name in result.TABLES}
    )


def _size_unit(most_bytes: float) -> tuple[float, str]:
    """The largest unit of which that is at least two, and its name."""
    fitting = [
        (scale, unit)
        for scale, unit in ((1, "B"), (1 << 10, "KiB"), (1 << 20, "MiB"), (1 << 30, "GiB"))
        if most_bytes >= 2 * scale
    ]
    return fitting[-1] if fitting else (1, "B")
