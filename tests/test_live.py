"""The view of long runs: what it tells, that it changes nothing, and that a terminal is left as it was."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
from rich.console import Console

import sim
from sim.commands import live
from sim.commands.live import Row, View, clock, told
from sim.looks import COMPILING, Look
from sim.serving.checking import check_serving
from tests.test_check_serving import written  # noqa: F401  a measured run, as a fixture

ROOT = Path(__file__).parent.parent
LOOK = Look(1_200_000, 4_000_000, "requests", 3.21e9, {"hit ratio": "43.1%"})


def test_a_row_tells_rate_simulated_time_figures_and_time_left():
    row = Row("lru", 90.0, LOOK, began_s=100.0)
    assert told(row, 104.0) == (
        "1.2M of 4M requests, 300k/s; 3.21 s simulated; hit ratio 43.1%; 0:09 left"  # (4 - 1.2) / 0.3 s
    )


def test_a_row_that_has_ended_tells_how_long_it_took():
    assert told(Row("lru", 90.0, LOOK, 100.0, 161.4), 900.0).endswith("; hit ratio 43.1%; took 1:01")


def test_before_its_parts_a_row_tells_the_stage():
    assert told(Row("lru", 1.0), 3.0) == "preparing the workload (0:02)"
    assert told(Row("lru", 1.0, Look(0, 9, stage=COMPILING)), 3.0) == f"{COMPILING} (0:02)"


def test_nothing_done_has_no_time_left():
    assert told(Row("lru", 0.0, Look(0, 9), 1.0), 3.0) == "0 of 9 requests, 0/s"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (11045, "3:04:05")])
def test_times_are_as_on_a_clock(seconds, text):
    assert clock(seconds) == text


@pytest.fixture
def view(monkeypatch):
    monkeypatch.setattr(live, "_BETWEEN_LOOKS_SECONDS", 1e9)
    return View(Console(width=80, no_color=True))


def drawn(view: View) -> list[str]:
    console = Console(width=80, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(view)
    return captured.get().splitlines()


def test_looks_that_come_too_soon_are_not_made_but_the_last_one_is(view):
    asked = []

    def look(done: int):
        return lambda: asked.append(done) or Look(done, 3)

    take = view.begin("lru")
    for done in (1, 2, 3):
        take(look(done))
    assert asked == [1] and view.rows[-1].look.done == 1
    view.begin("sieve")
    assert asked == [1, 3] and view.rows[0].look.done == 3 and view.rows[0].ended_s is not None


def test_finished_runs_stand_above_the_one_under_way(view):
    for name in [f"policy{n}:ratio=0.{n}" * 3 for n in range(12)]:
        view.begin(name)(lambda: LOOK)
    lines = drawn(view)
    assert lines[0] == "3 more have ended before"
    assert sum("took" in line for line in lines) == 8 and "30 %" in "".join(lines)
    assert max(map(len, lines)) <= 80


# --- runs ------------------------------------------------------------------------------------------------------------

SMALL = {"workload.parameters.requests": 400, "workload.parameters.objects": 100}


def test_results_are_the_same_whether_somebody_looks():
    looks = []
    seen = sim.run("zipf_three_tier", SMALL, progress=lambda look_of: looks.append(look_of()))
    unseen = sim.run("zipf_three_tier", SMALL)
    assert seen.summary == unseen.summary
    for name in seen.TABLES:
        pandas.testing.assert_frame_equal(seen.table(name).to_pandas(), unseen.table(name).to_pandas())
    assert looks[0].stage == COMPILING and looks[-1].done == looks[-1].total == 400
    assert looks[-1].figures["hit ratio"] == f"{seen.summary['hit_ratio']:.1%}"
    simulated = [look.simulated_ns for look in looks[1:]]
    assert simulated == sorted(simulated) and np.diff([look.done for look in looks]).min() >= 0


def test_allocations_tell_what_is_live_and_held():
    looks = []
    changes = {"allocation.looks": 5}
    result = sim.run("kv_reservation", changes, progress=lambda look_of: looks.append(look_of()))
    assert looks[0].stage == COMPILING and looks[-1].done == looks[-1].total == result.summary["operations"]
    assert set(looks[-1].figures) <= {"live", "held/live"} and looks[-1].parts == "operations"


def test_a_serving_run_tells_what_it_found_of_its_prompts(written):  # noqa: F811
    looks = []
    check_serving(written, "rtx4090_desktop", "llama31_8b", progress=lambda look_of: looks.append(look_of()))
    assert looks[0].stage == COMPILING and looks[-1].done == looks[-1].total == 60
    assert looks[-1].figures == {"prefix hits": "0.0%"}  # the run has no prefix caching


# --- on a terminal ---------------------------------------------------------------------------------------------------

_LONG = """
import sys, time
from sim.commands import output
from sim.commands import live, listing
from sim.looks import Look
live._QUIET_SECONDS = 0.2

def entries(what):
    with output.live() as view:
        take = view.begin(what)
        for done in range(400):
            take(lambda: Look(done, 400, figures={"hit ratio": "43.1%"}))
            time.sleep(0.05)

listing.entries = entries
from sim import cli
cli.main(["list", "policies"])
"""


def read_until(terminal: int, wanted: bytes, seconds: float = 30.0) -> bytes:
    """What comes from a terminal until something stands there; all of it where its other end is closed before."""
    text, ends = b"", time.monotonic() + seconds
    while wanted not in text and time.monotonic() < ends:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            read = os.read(terminal, 65536)
        except OSError:  # closed
            break
        if not read:
            break
        text += read
    return text


def test_an_interrupt_leaves_a_clean_terminal():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", _LONG], stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        shown = read_until(ours, b"hit ratio 43.1%")
        assert b"hit ratio 43.1%" in shown and b"/s; " in shown and b"\x1b[?25l" in shown
        process.send_signal(signal.SIGINT)
        rest = read_until(ours, b"interrupted")
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        os.close(ours)
    assert process.returncode == 130 and out == b""
    assert b"\x1b[?25h" in rest and rest.rindex(b"\x1b[?25h") > rest.rfind(b"\x1b[?25l")
    assert rest.rstrip().endswith(b"\x1b[?25hinterrupted") and b"Traceback" not in rest
