"""A view of long runs on a terminal: how far, how fast, what came of it so far, and how long it will take yet."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sim import units

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from sim.looks import Look

_QUIET_SECONDS = 2.0  # what is done by then draws nothing
_BETWEEN_LOOKS_SECONDS = 0.1
_REFRESHES_PER_SECOND = 4
_MOST_FINISHED_SHOWN = 8
_BAR_COLUMNS = 24


@dataclass(frozen=True)
class Row:
    """One of the things under way. since_s: when the stage that it is in began; began_s: when it first told of its
    parts; ended_s: None while it goes on.
    """

    label: str
    since_s: float
    look: Look | None = None
    began_s: float | None = None
    ended_s: float | None = None


def told(row: Row, now_s: float) -> str:
    """'1.2M of 4M requests, 310k/s; 3.21 s simulated; hit ratio 43.1 %; 0:09 left', or the stage that it is in."""
    from sim.report.cells import count

    look = row.look
    if look is None or row.began_s is None:
        return f"{look.stage if look is not None else 'preparing the workload'} ({clock(now_s - row.since_s)})"
    took_s = max((row.ended_s or now_s) - row.began_s, 1e-9)
    per_s = look.done / took_s
    parts = [f"{count(look.done)} of {count(look.total)} {look.parts}, {_few_digits(per_s)}/s"]
    parts += [] if look.simulated_ns is None else [f"{units.format_time(look.simulated_ns, 4)} simulated"]
    parts += [f"{name} {text}" for name, text in look.figures.items()]
    if row.ended_s is not None:
        return "; ".join([*parts, f"took {clock(took_s)}"])
    left = f"{clock((look.total - look.done) / per_s)} left" if look.done else ""
    return "; ".join([*parts, *([left] if left else [])])


def clock(seconds: float) -> str:
    """'0:07', '12:34', '3:04:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _few_digits(per_s: float) -> str:
    from sim.report.cells import count

    return f"{per_s:.3g}" if per_s < 1000 else count(round(per_s))


@dataclass
class View:
    """What is under way, drawn on a console from _QUIET_SECONDS on. Its rows are those begun, in order."""

    console: Console
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._live: Any = None
        self._asked_s, self._not_asked = -math.inf, None
        self._lock = threading.RLock()
        self._timer = threading.Timer(_QUIET_SECONDS, self._start)
        self._timer.daemon = True

    def __enter__(self) -> View:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        with self._lock:
            live, self._live = self._live, _ENDED
        if live is not None:
            try:
                live.stop()
            finally:
                self.console.show_cursor(True)

    def begin(self, label: str) -> Callable[[Callable[[], Look]], None]:
        """A progress callback for what begins now; what was under way has ended."""
        if self.rows:
            self._ask_last()
            self.rows[-1] = replace(self.rows[-1], ended_s=time.monotonic())
        self.rows.append(Row(label, time.monotonic()))
        self._asked_s = -math.inf
        return self._take

    def _take(self, look_of: Callable[[], Look]) -> None:
        if time.monotonic() - self._asked_s < _BETWEEN_LOOKS_SECONDS:
            self._not_asked = look_of
            return
        self._ask(look_of)

    def _ask_last(self) -> None:
        """The look that came too soon after another, and was the last."""
        if self._not_asked is not None:
            self._ask(self._not_asked)

    def _ask(self, look_of: Callable[[], Look]) -> None:
        now_s = time.monotonic()
        look, row = look_of(), self.rows[-1]
        self._not_asked = None
        self._asked_s = -math.inf if look.stage else now_s
        began_s = row.began_s if row.began_s is not None or look.stage else now_s
        self.rows[-1] = replace(row, look=look, since_s=now_s, began_s=began_s)

    def _start(self) -> None:
        from rich.live import Live

        with self._lock:
            if self._live is _ENDED:
                return
            self._live = Live(
                console=self.console,
                refresh_per_second=_REFRESHES_PER_SECOND,
                transient=True,
                redirect_stdout=False,
                get_renderable=lambda: self,
            )
            self._live.start()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        now_s = time.monotonic()
        *ended, current = self.rows or [Row("", now_s)]
        if len(ended) > _MOST_FINISHED_SHOWN:
            yield Text(f"{len(ended) - _MOST_FINISHED_SHOWN} more have ended before")
        for row in ended[-_MOST_FINISHED_SHOWN:]:
            yield Text(f"{row.label}: {told(row, now_s)}", overflow="fold")
        yield _bar(current)
        yield Text(f"  {told(current, now_s)}", overflow="fold")


_ENDED = object()  # in place of a live display that is not to be started any more


def _bar(row: Row) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    look = row.look
    share = look.done / look.total if look is not None and look.total else 0.0
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_row(
        Text(row.label, overflow="fold"), ProgressBar(1.0, share, width=_BAR_COLUMNS), Text(f"{100 * share:.0f} %")
    )
    return line
