"""Figures of replays of allocations, drawn on axes that the caller gives, or saved as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sim.fragmentation import charts
from sim.fragmentation.results import AllocationResult
from sim.report.draw_chart import draw
from sim.report.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def bytes_over_operations(result: AllocationResult, ax: Axes) -> Axes:
    """What is live, what is lost within allocations, and what is lost in holes, up to what is held."""
    return _labelled(result, draw(charts.bytes_over_operations(result), ax, "upper left"))


def address_map(result: AllocationResult, ax: Axes) -> Axes:
    """The addresses over the operations: dark where they are in use, white where there is a hole."""
    return _labelled(result, draw(charts.address_map(result), ax))


def _labelled(result: AllocationResult, ax: Axes) -> Axes:
    ax.set_title(f"{result.label}: {ax.get_title()[0].lower()}{ax.get_title()[1:]}")
    return ax


def allocators_side_by_side(results: Sequence[AllocationResult], figure: Figure) -> list[Axes]:
    """Held over live bytes, and what of the held bytes is lost to what, a bar an allocator."""
    left, right = figure.subplots(1, 2, sharey=True)
    draw(charts.held_over_live(results), left)
    left.axvline(1, color="#000000", lw=0.8)
    draw(charts.losses(results), right, "above")
    for ax in (left, right):
        ax.set_title("")
    left.set_ylim(len(results) - 0.5, -0.5)  # both have turned it
    return [left, right]


def failures_over_operations(results: Sequence[AllocationResult], ax: Axes) -> Axes:
    """Refused calls so far, a line an allocator."""
    return draw(charts.failures_over_operations(results), ax, "upper left")


def save_run_figures(result: AllocationResult, folder: str | Path) -> list[Path]:
    """`bytes.png`, `map.png` in the folder."""
    saved = []
    for name, drawn in (("bytes", bytes_over_operations), ("map", address_map)):
        figure = new_figure(9, 4.5, layout="constrained")
        drawn(result, figure.add_subplot())
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
