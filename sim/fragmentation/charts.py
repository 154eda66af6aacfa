"""Charts of replays of allocations, made of what their results hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim import units
from sim.report import charts
from sim.report.cells import percent
from sim.report.charts import Axis, Chart, joined

if TYPE_CHECKING:
    from sim.fragmentation.results import AllocationResult

_HELD = {"live": "objects", "internal": "never used", "reserved": "reserved for later", "metadata": "books"}
_LOST = {"internal": "never used", "reserved": "reserved for later", "metadata": "books", "holes": "holes"}


def bytes_over_operations(result: AllocationResult) -> Chart:
    """What is live, what is lost within allocations, and what is lost in holes, up to what is held."""
    looks = {name: result.column("looks", name) for name in ("operation", "held_bytes", "allocated_bytes")}
    stack = {noun: result.column("looks", f"{name}_bytes") for name, noun in _HELD.items()}
    stack["holes"] = np.maximum(looks["held_bytes"] - looks["allocated_bytes"], 0)
    parts = [
        {"of": np.repeat(noun, values.size), "operation": looks["operation"], "bytes": values}
        for noun, values in stack.items()
        if values.any()
    ]
    summary = result.summary
    held, live = (units.format_bytes(summary[f"peak_{name}_bytes"], 4) for name in ("held", "live"))
    return Chart(
        name="bytes",
        title="What is held, and what of it is used",
        summary=f"At most {held} are held and {live} live.",
        mark=charts.AREAS,
        x=Axis("operation", "operation"),
        y=Axis("bytes", "bytes held", charts.BYTES, low=0),
        data=joined(parts),
        series="of",
    )


def address_map(result: AllocationResult, most_rows: int | None = None, most_looks: int | None = None) -> Chart:
    """The addresses over the operations: dark where they are in use, white where there is a hole.

    most_rows, most_looks: neighbouring cells are taken together, by their mean, where there are more.
    """
    shares, operations = result.map(), result.column("looks", "operation")
    row_bytes = result.manifest["map"]["row_bytes"]
    rows, looks = shares.shape
    by_rows, by_looks = _together(rows, most_rows), _together(looks, most_looks)
    small = _pooled(shares, by_rows, by_looks)
    step = float(operations[-1]) / max(1, looks) * by_looks if operations.size else 1.0
    y, x = np.indices(small.shape)
    notes = ()
    if by_rows * by_looks > 1:
        size = units.format_bytes(row_bytes * by_rows, 4)
        notes = (f"A cell is the mean of {by_rows} x {by_looks} that are saved: {size} in {step:,.0f} operations.",)
    return Chart(
        name="address_map",
        title="Addresses in use",
        summary=f"Dark where {result.label} has addresses in use, pale where there is a hole."
        if shares.size
        else "This allocator names no places.",
        mark=charts.HEAT,
        x=Axis("operation", "operation"),
        y=Axis("address_bytes", "address", charts.BYTES),
        data={
            "operation": x.reshape(-1) * step,
            "address_bytes": y.reshape(-1) * float(row_bytes * by_rows),
            "used_share": small.reshape(-1),
        },
        value=Axis("used_share", "share of these addresses in use", charts.SHARE, low=0, high=1),
        x_step=step,
        y_step=float(row_bytes * by_rows),
        notes=notes,
    )


def _together(size: int, most: int | None) -> int:
    return 1 if most is None or size <= most else -(-size // most)


def _pooled(cells: np.ndarray, by_rows: int, by_columns: int) -> np.ndarray:
    """Means of blocks of cells; of those at the far ends, fewer."""
    if not cells.size:
        return cells
    for by in (by_rows, by_columns):
        starts = np.arange(0, cells.shape[0], by)
        lengths = np.diff([*starts, cells.shape[0]])
        cells = (np.add.reduceat(cells.astype(float), starts, axis=0) / lengths[:, None]).T
    return cells


def held_over_live(results: Sequence[AllocationResult]) -> Chart:
    """The most held over the most live bytes, a bar an allocator."""
    ratios = [float(result.summary.get("held_over_live_peak", np.nan)) for result in results]
    least = int(np.nanargmin(ratios)) if np.isfinite(ratios).any() else 0
    return Chart(
        name="held_over_live",
        title="Most held over most live bytes",
        summary=f"{results[least].label} holds least: {ratios[least]:.3f} times what is live at most.",
        mark=charts.BARS,
        x=Axis("held_over_live", "most held / most live bytes", low=0, high=1.18 * max([1.0, *np.nan_to_num(ratios)])),
        y=Axis("allocator", "", charts.NAMES),
        data={
            "allocator": np.array([result.label for result in results]),
            "held_over_live": np.array(ratios),
            "label": np.array([f"{ratio:.3f}" if np.isfinite(ratio) else "-" for ratio in ratios]),
        },
        text="label",
    )


def losses(results: Sequence[AllocationResult]) -> Chart:
    """Shares of the held bytes that are lost to what, mean over the looks, a bar an allocator."""
    shares = [lost_shares(result) for result in results]
    rows = [
        (result.label, noun, share[name])
        for name, noun in _LOST.items()
        if any(share[name] for share in shares)
        for result, share in zip(results, shares, strict=True)
    ]
    wholes = [sum(share.values()) for share in shares]
    least = int(np.argmin(wholes))
    return Chart(
        name="losses",
        title="What of the held bytes is lost",
        summary=f"{results[least].label} loses least: {percent(wholes[least])} of what it holds, on average.",
        mark=charts.STACKED_BARS,
        x=Axis("share", "share of what is held, mean", charts.SHARE, low=0),
        y=Axis("allocator", "", charts.NAMES),
        data={name: np.array([row[at] for row in rows]) for at, name in enumerate(("allocator", "lost_to", "share"))},
        series="lost_to",
    )


def lost_shares(result: AllocationResult) -> dict[str, float]:
    """Shares of the held bytes by what they are lost to, mean over the looks at which anything is held."""
    held = result.column("looks", "held_bytes").astype(float)
    some = held > 0

    def share(name: str) -> float:
        return float((result.column("looks", f"{name}_bytes")[some] / held[some]).mean()) if some.any() else 0.0

    parts = {name: share(name) for name in ("internal", "reserved", "metadata")}
    return {**parts, "holes": max(0.0, 1.0 - share("allocated")) if some.any() else 0.0}


def fragmentation_over_operations(results: Sequence[AllocationResult]) -> Chart:
    """1 - largest allocation that would succeed / free bytes, a line an allocator."""
    parts = []
    for result in results:
        free, largest = (result.column("looks", name).astype(float) for name in ("free_bytes", "largest_free_bytes"))
        external = 1 - np.divide(np.minimum(largest, free), free, out=np.ones_like(free), where=free > 0)
        operation = result.column("looks", "operation")
        named = np.repeat(result.label, operation.size)
        parts.append({"allocator": named, "operation": operation, "external_fragmentation": external})
    told = [
        f"{result.label} {percent(result.summary['external_fragmentation'])}"
        for result in results
        if "external_fragmentation" in result.summary
    ]
    return Chart(
        name="external_fragmentation",
        title="External fragmentation",
        summary=f"1 - largest allocation that would succeed / free bytes; mean: {', '.join(told)}.",
        mark=charts.LINES,
        x=Axis("operation", "operation"),
        y=Axis("external_fragmentation", "share of the free bytes", charts.SHARE, low=0, high=1.02),
        data=joined(parts),
        series="allocator",
    )


def failures_over_operations(results: Sequence[AllocationResult]) -> Chart:
    """Refused calls so far, a line an allocator."""
    parts = []
    for result in results:
        operation, failures = (result.column("looks", name) for name in ("operation", "failures"))
        named = np.repeat(result.label, operation.size)
        parts.append({"allocator": named, "operation": operation, "refused": failures})
    told = [f"{result.label} {result.summary['failures']:,}" for result in results if result.summary["failures"]]
    return Chart(
        name="refused",
        title="Refused calls",
        summary=f"Refused in all: {', '.join(told)}." if told else "Nothing was refused.",
        mark=charts.LINES,
        x=Axis("operation", "operation"),
        y=Axis("refused", "refused so far", low=0),
        data=joined(parts) if told else {},
        series="allocator",
    )
