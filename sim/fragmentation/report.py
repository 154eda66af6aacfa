"""Tables of replays of allocations for a terminal of 80 columns: one in detail, several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from sim import units
from sim.report.cells import (
    COUNTS,
    MEMORY,
    SHARE,
    TIMES,
    TIMES_AS_MUCH,
    Column,
    Shown,
    best_on_what,
    column_of,
    count,
    percent,
    plain_table,
    side_by_side,
)
from sim.report.sheet import NAME, NUMBER, Heading, Sheet

if TYPE_CHECKING:
    from sim.fragmentation.explain import Moment, Way
    from sim.fragmentation.results import AllocationResult
    from sim.fragmentation.scenario import AllocationScenario

COLUMNS = (
    Shown("held", "peak_held_bytes", MEMORY, "memory held at most"),
    Shown("held/live", "held_over_live_peak", TIMES_AS_MUCH, "held over live bytes"),
    Shown("internal", "internal_fragmentation", SHARE, "internal waste"),
    Shown("reserved", "reserved_share", SHARE, "reserved bytes"),
    Shown("in holes", "free_over_held", SHARE, "bytes lost in holes"),
    Shown("refused", "failures", COUNTS, "refused calls"),
    Shown("pieces", "runs_per_object", COUNTS, "contiguity"),
    Shown("calls", "system_calls", COUNTS, "calls of the system"),
    Shown("waited", "waited_ns", TIMES, "time waited for them"),
)
_CALLS = ("system_allocations", "system_releases", "maps", "unmaps")


def run_report(result: AllocationResult) -> RenderableType:
    """One allocator: what was held and lost, where objects lay, what it asked of the system."""
    summary = result.summary
    return Group(
        Text(_heading(result), style="bold"),
        _bytes_table(summary),
        _waste_table(summary),
        *([_place_table(result)] if "runs_per_object" in summary else []),
        *([_call_table(summary)] if any(summary[name] for name in (*_CALLS, "copies")) else []),
        Text(_failure_line(result)),
        Text(_why(summary)),
    )


def _heading(result: AllocationResult) -> str:
    summary, manifest = result.summary, result.manifest
    return (
        f"{result.label}: {summary['operations']:,} operations on {summary['objects']:,} objects of "
        f"{manifest['trace']['name']} in {_bytes(manifest['capacity_bytes'])}"
    )


def _bytes(size: float | None) -> str:
    return "-" if size is None else units.format_bytes(round(size), 4)


def _bytes_table(summary: Mapping[str, float]) -> Sheet:
    table = plain_table(
        "", "live at most", "held at most", "held/live", "mean", "at peak live", "at peak held", title="Footprint"
    )
    ratios = (
        "held_over_live_peak",
        "held_over_live_mean",
        "held_over_live_at_peak_live",
        "held_over_live_at_peak_held",
    )
    told = (f"{summary[name]:.4f}" if name in summary else "-" for name in ratios)
    table.add_row("bytes", _bytes(summary["peak_live_bytes"]), _bytes(summary["peak_held_bytes"]), *told)
    return table


def _waste_table(summary: Mapping[str, float]) -> Sheet:
    table = plain_table("", "internal", "reserved", "books", "in holes", "external", "unusable", title="Waste, mean")
    names = ("internal_fragmentation", "reserved_share", "metadata_share", "free_over_held", "external_fragmentation")
    told = [percent(summary[name]) if name in summary else "-" for name in (*names, "unusable_free_share")]
    table.add_row("share", *told)
    return table


def _place_table(result: AllocationResult) -> Sheet:
    summary, link = result.summary, result.manifest["link"]
    table = plain_table(
        "", "pieces an object", "mean piece", "holes", f"of {link['name']}'s bandwidth", title="Contiguity, mean"
    )
    pieces, share = f"{summary['runs_per_object']:.4g}", percent(summary["transfer_share"])
    table.add_row("objects", pieces, _bytes(summary["mean_run_bytes"]), f"{summary['holes']:,.1f}", share)
    return table


def _call_table(summary: Mapping[str, float]) -> Sheet:
    table = plain_table(
        "", *(name.replace("_", " ") for name in _CALLS), "copies", "copied", "waited", title="Calls of the system"
    )
    calls = (count(summary[name]) for name in (*_CALLS, "copies"))
    table.add_row("calls", *calls, _bytes(summary["copied_bytes"]), units.format_time(summary["waited_ns"], 4))
    return table


def _failure_line(result: AllocationResult) -> str:
    summary = result.summary
    if not summary["failures"]:
        least = _bytes(summary.get("least_largest_free_bytes"))
        return f"nothing was refused; the largest allocation that would succeed was never below {least}"
    return (
        f"{summary['failures']:,} refused, {summary['failures_with_free']:,} of them with as many bytes free; the "
        f"first was operation {summary['first_failure_operation']:,} (explain says why)"
    )


def _why(summary: Mapping[str, float]) -> str:
    """Where most of what is held and not used goes."""
    lost = {
        "holes between allocations": summary.get("free_over_held", 0.0),
        "parts of allocations that are never used": summary.get("internal_fragmentation", 0.0),
        "memory reserved for later": summary.get("reserved_share", 0.0),
        "the allocator's own books": summary.get("metadata_share", 0.0),
    }
    most = max(lost, key=lost.get)
    if lost[most] < 0.005:
        return "less than 0.5 % of what was held is lost to anything"
    return f"most is lost to {most}: {percent(lost[most])}"


def comparison_report(results: Sequence[AllocationResult]) -> RenderableType:
    """A row an allocator, the best of each column marked, among those that refused least; and who leads on what."""
    labels = [result.label for result in results]
    first = results[0]
    heading = (
        f"{first.summary['operations']:,} operations on {first.summary['objects']:,} objects of "
        f"{first.manifest['trace']['name']}, at most {_bytes(first.summary['peak_live_bytes'])} live, in "
        f"{_bytes(first.manifest['capacity_bytes'])}"
    )
    told = [Text(line) for line in verdict(results)]
    return Group(Text(heading, style="bold"), side_by_side("allocator", labels, _columns(results)), *told)


def verdict(results: Sequence[AllocationResult]) -> list[str]:
    """One sentence that says which allocator is best on what; of one, what was refused and where most is lost."""
    if len(results) > 1:
        return [best_on_what([result.label for result in results], _columns(results))]
    return [f"{results[0].label}: {line}." for line in (_failure_line(results[0]), _why(results[0].summary))]


def _columns(results: Sequence[AllocationResult]) -> list[Column]:
    summaries = [{**result.summary, "system_calls": sum(result.summary[name] for name in _CALLS)} for result in results]
    told = [one for one in COLUMNS if all(one.metric in summary for summary in summaries)]
    told = [one for one in told if one.metric in _ALWAYS or any(summary[one.metric] for summary in summaries)]
    fewest = min(summary["failures"] for summary in summaries)
    served = [summary["failures"] == fewest for summary in summaries]  # who refuses more has less to place
    return [column_of(one, [summary[one.metric] for summary in summaries], served) for one in told]


_ALWAYS = ("peak_held_bytes", "held_over_live_peak", "internal_fragmentation", "free_over_held", "failures")


# --- why something was refused ---------------------------------------------------------------------------------------


def moment_report(
    scenario: AllocationScenario, moment: Moment, ways: Sequence[Way], least_bytes: int | None
) -> RenderableType:
    """The memory at the first refused operation, what pins its holes, and what would have avoided it."""
    return Group(
        Text(_moment_line(scenario, moment), style="bold"),
        *([_hole_table(moment)] if moment.holes else []),
        *([_pin_table(moment)] if moment.pins else []),
        *([_way_table(ways), Text(_capacity_line(scenario, least_bytes))] if moment.refused else []),
    )


def _moment_line(scenario: AllocationScenario, moment: Moment) -> str:
    where = f"operation {moment.operation:,}"
    holes = f" in {moment.holes_in_all:,} holes" if moment.holes else ""
    state = (
        f"{_bytes(moment.live_bytes)} were live and {_bytes(moment.free_bytes)} free{holes}; the largest allocation "
        f"that would have succeeded was {_bytes(moment.largest_free_bytes)}"
    )
    if not moment.refused:
        return f"{scenario.allocator.label} refused nothing; when most was live, at {where}, {state}"
    asked = f"{moment.what} of {_bytes(moment.asked_bytes)} for {moment.asked_for}"
    return f"{scenario.allocator.label} first refused {where}, {asked}: {state}"


def _hole_table(moment: Moment) -> Sheet:
    kinds = {"address": NUMBER, "bytes": NUMBER, "behind": NAME, "in front of": NAME}
    table = Sheet([Heading(name, kind, "left") for name, kind in kinds.items()], "The largest holes")
    for hole in moment.holes:
        table.add_row(f"{hole.address:#x}", _bytes(hole.size_bytes), hole.below, hole.above)
    return table


def _pin_table(moment: Moment) -> Sheet:
    names = ("address", "objects", "bytes", "would be one", "oldest", "age", "left")
    headings = [Heading(name, NAME if name == "oldest" else NUMBER, "left") for name in names]
    table = Sheet(headings, "What keeps holes apart (age, and time left to the last release, in operations)")
    for pin in moment.pins:
        left = "for good" if pin.operations_left is None else f"{pin.operations_left:,}"
        sizes = (_bytes(pin.size_bytes), _bytes(pin.freed_bytes))
        table.add_row(f"{pin.address:#x}", f"{pin.objects:,}", *sizes, pin.oldest, f"{pin.age_operations:,}", left)
    return table


def _way_table(ways: Sequence[Way]) -> Sheet:
    table = plain_table("instead", "first refused", title="In the same capacity")
    for way in ways:
        table.add_row(way.label, "nothing" if way.first_refused is None else f"operation {way.first_refused:,}")
    return table


def _capacity_line(scenario: AllocationScenario, least_bytes: int | None) -> str:
    if least_bytes is None:
        return f"{scenario.allocator.label} refuses something in any capacity that was tried"
    return f"{scenario.allocator.label} itself would refuse nothing with {_bytes(least_bytes)} (to 1 %)"
