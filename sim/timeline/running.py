"""Makes the timeline of a result of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.errors import InputError
from sim.looks import Progress
from sim.timeline.drawing import Drawn, draw
from sim.timeline.picture import Picture, Window, require_something

if TYPE_CHECKING:
    from sim.saved_result import SavedResult

FEWEST = 100  # events that may be asked for
_RECORDS_AN_EVENT = 4  # that are kept for each event that may be drawn: a transfer passes several servers


@dataclass(frozen=True)
class Timeline:
    """One that was written. notes: what a person should know of it."""

    path: Path
    kind: str
    drawn: Drawn
    notes: tuple[str, ...]


def make_timeline(
    result: SavedResult,
    path: str | Path,
    window: Window | None = None,
    most: int = 200_000,
    recorded_only: bool = False,
    scenario: str | None = None,
    trace: str | None = None,
    progress: Progress | None = None,
) -> Timeline:
    """Write the timeline of a result.

    most: events, at most; recorded_only: of what the tables hold, without simulating the run again;
    scenario, trace: the files of that run, where it has any of its own.

    Raises InputError where the file cannot be written, nothing happens in the window, or the run cannot be had again.
    """
    from sim import scenario_kind

    path, window = Path(path), window or Window()
    _check(path, window, most)
    kind = scenario_kind.kind_of_format(result.manifest["format"]).name
    picture, last_ns = _picture(kind, result, window, most, recorded_only, scenario, trace, progress)
    require_something(picture, window, last_ns)
    drawn = draw(picture, path, most, _facts(result, kind, window, most))
    return Timeline(path, kind, drawn, picture.notes)


def _check(path: Path, window: Window, most: int) -> None:
    if window.from_ns < 0 or window.to_ns < window.from_ns:
        from sim.units import format_time

        value = format_time(window.from_ns, 6)
        if window.from_ns < 0:
            raise InputError("--from before the run begins:", value=value, expected="0 s or later")
        raise InputError("--from after --to:", value=value, expected=f"at most {format_time(window.to_ns, 6)}")
    if most < FEWEST:
        raise InputError("too few events: --most", value=most, expected=f"at least {FEWEST}")
    if path.exists() and not path.is_file():
        raise InputError("what stands where the timeline is to be is no file", file=path, expected="such as a.json")


def _picture(
    kind: str,
    result: Any,
    window: Window,
    most: int,
    recorded_only: bool,
    scenario: str | None,
    trace: str | None,
    progress: Progress | None,
) -> tuple[Picture, float]:
    """What is to be drawn, and when the run ends."""
    if kind == "hierarchy":
        from sim.timeline import hierarchy

        recording = None
        if not recorded_only:
            from sim.timeline.recording import recorded

            with _how_to_do_without():
                recording = recorded(result, window, _RECORDS_AN_EVENT * most, scenario, trace, progress)
        return hierarchy.picture_of(result, window, recording), hierarchy.last_ns(result)
    if kind == "serving":
        from sim.timeline import serving

        log = None
        if not recorded_only:
            from sim.timeline.serving_log import logged

            with _how_to_do_without():
                log = logged(result, window, most, scenario, trace, progress)
        return serving.picture_of(result, window, log), serving.last_ns(result)
    for name, given in (("--scenario", scenario), ("--trace", trace)):
        if given is not None:
            raise InputError(f"{name} is of a run that is simulated again; these results are of {kind}:", value=given)
    from sim.timeline import allocation

    return allocation.picture_of(result, window), allocation.last_ns(result)


@contextmanager
def _how_to_do_without() -> Iterator[None]:
    """An error within it says how to draw what the results hold alone."""
    try:
        yield
    except InputError as error:
        hint = "(what moved needs the run simulated again; --recorded draws the tables alone)"
        raise InputError(f"{error} {hint}") from error


def _facts(result: SavedResult, kind: str, window: Window, most: int) -> dict[str, Any]:
    """Of the trace: no place on this machine is among them."""
    manifest = result.manifest
    return {
        "made_by": f"memhier {manifest['versions']['memhier']}",
        "kind": kind,
        "label": result.label,
        "scenario": manifest["scenario"]["name"],
        "from_ns": window.from_ns,
        **({"to_ns": window.to_ns} if window.to_ns != float("inf") else {}),
        "most_events": most,
    }
