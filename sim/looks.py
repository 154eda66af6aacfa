"""What a run tells of itself while it goes on, to whoever wants to see how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

COMPILING = "compiling the policies; the next run starts at once"


@dataclass(frozen=True)
class Look:
    """How far a run has come. done, total: of its parts, "requests" or what `parts` calls them; simulated_ns: the time
    on its clock; figures: by name, as a person reads them; stage: what it is at where that is not its parts yet.
    """

    done: int
    total: int
    parts: str = "requests"
    simulated_ns: float | None = None
    figures: Mapping[str, str] = field(default_factory=dict)
    stage: str = ""


Progress = Callable[[Callable[[], Look]], None]
"""Is given at every look what makes a `Look`, and calls it if it wants one: a run is not held up by who looks away."""


def compiles(progress: Progress | None, total: int, parts: str = "requests") -> None:
    """Say that what follows is compilation, which may take half a minute the first time."""
    if progress is not None:
        progress(lambda: Look(0, total, parts, stage=COMPILING))
