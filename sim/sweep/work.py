"""What the processes of a sweep do: prepare inputs that several runs share, and run points.

A process keeps the inputs of its last runs, and what it has read from files, for as long as one sweep lasts.
"""

from __future__ import annotations

import functools
import json
import linecache
import os
import shutil
import signal
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from sim import scenario_kind
from sim.errors import InputError
from sim.remembering import files_stay
from sim.result_set import ERROR_SUFFIX, RUNS

_INPUTS_KEPT = 2


class Prepared(NamedTuple):
    """A trace that was put into a folder: where, and its columns."""

    folder: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One run to do. folder: of the sweep; session: of its runner, nothing is kept longer; prepared: its inputs, where
    they were put into a folder.
    """

    folder: str
    session: str
    name: str
    kind: str
    scenario: Any
    label: str
    inputs_key: str
    prepared: Prepared | None = None


class Outcome(NamedTuple):
    """How a task ended. seconds: that it took; error: lines, none where all went well; stops: the line that says why no
    other task can go well either, '' where they can.
    """

    name: str
    seconds: float
    error: tuple[str, ...] = ()
    stops: str = ""
    prepared: Prepared | None = None


# --- tasks -----------------------------------------------------------------------------------------------------------


def run_point(task: Task) -> Outcome:
    """Run a point; when this returns, its results are on disk, whole, or its error is."""
    began = time.perf_counter()
    with files_stay(_memory(task.session)):
        error = _run(task)
    if isinstance(error, str):
        return Outcome(task.name, time.perf_counter() - began, stops=error)
    if error:
        try:
            write_error(Path(task.folder), task.name, error)
        except OSError as fault:
            return Outcome(task.name, time.perf_counter() - began, error, stops=cannot_write(task.folder, fault))
    return Outcome(task.name, time.perf_counter() - began, error)


def _run(task: Task) -> tuple[str, ...] | str:
    """The lines of the point's own error, none where it has none; or why nothing can be saved."""
    kind = scenario_kind.named(task.kind)
    try:
        inputs = _inputs(_Inputs(task.session, task.kind, task.inputs_key, task.scenario, task.prepared))
        result = kind.run(task.scenario, inputs, task.label)
    except Exception as error:  # whatever a policy of somebody's does, other points may go well
        return error_lines(error)
    try:
        result.saved(Path(task.folder) / RUNS / task.name)
    except InputError as error:
        return str(error)
    return ()


def prepare(task: Task, place: str) -> Outcome:
    """Put the inputs of a task into a folder that several processes can map."""
    from sim.dense import write_dense

    began = time.perf_counter()
    kind = scenario_kind.named(task.kind)
    try:
        with files_stay(_memory(task.session)):
            trace = kind.inputs(task.scenario)
    except Exception as error:
        return Outcome(task.name, time.perf_counter() - began, error_lines(error))
    try:
        write_dense(trace, Path(place), source=trace.name)
    except InputError as error:
        return Outcome(task.name, time.perf_counter() - began, stops=str(error))
    prepared = Prepared(place, tuple(sorted(trace.columns)))
    return Outcome(task.name, time.perf_counter() - began, prepared=prepared)


def sees(path: str) -> tuple[str, bool]:
    """The version of memhier where this is called, and whether there is this file."""
    from sim import __version__

    return __version__, os.path.exists(path)


# --- what a process keeps --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Inputs:
    """What inputs are found by, and what they are made of."""

    session: str
    kind: str
    key: str
    scenario: Any = field(compare=False)
    prepared: Prepared | None = field(compare=False)


@functools.lru_cache(maxsize=_INPUTS_KEPT)
def _inputs(wanted: _Inputs) -> Any:
    if wanted.prepared is not None:
        from sim.dense import open_dense

        return open_dense(Path(wanted.prepared.folder)).only(wanted.prepared.columns)
    return scenario_kind.named(wanted.kind).inputs(wanted.scenario)


@functools.lru_cache(maxsize=1)
def _memory(session: str) -> dict[tuple, Any]:
    return {}


# --- errors ----------------------------------------------------------------------------------------------------------


def error_lines(error: Exception) -> tuple[str, ...]:
    """What a person did wrong, in its lines; of any other exception its type and where it was raised."""
    if isinstance(error, InputError):
        return tuple(error.lines)
    said = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return (said,)
    last = frames[-1]
    line = last.line or linecache.getline(last.filename, last.lineno or 0).strip()
    return (said, f"{Path(last.filename).name}, line {last.lineno}, in {last.name}: {line}")


def write_error(folder: Path, name: str, error: tuple[str, ...]) -> None:
    """Record that a point failed. Raises OSError."""
    place = folder / RUNS / (name + ERROR_SUFFIX)
    unfinished = place.with_name(f".{place.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_text(json.dumps({"error": list(error)}, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)


def cannot_write(folder: str, error: OSError) -> str:
    """The one line about it."""
    return str(InputError(f"cannot write the results: {error.strerror or error}", file=folder))


# --- a process of our own --------------------------------------------------------------------------------------------


def begin(held: Connection) -> None:
    """Make a process one that works for a sweep: an interrupt from the keyboard is for its parent. held: one end of a
    pipe; when the other is closed, as it is when the parent ends in whatever way, this process ends, too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(held,), daemon=True).start()


def _end_with(held: Connection) -> None:
    with suppress(EOFError, OSError):
        held.recv_bytes()  # nobody ever sends
    os._exit(1)


def remove_tree(path: Path) -> None:
    """A folder or file that nobody needs any more, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
