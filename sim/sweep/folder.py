"""A sweep's folder (`sim.result_set` says what is in it): what was asked for, what is done, and who may write.

What a killed sweep left unfinished has a name that begins with a dot, and is removed when it is resumed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sim import result_files
from sim.errors import InputError, InputErrors
from sim.result_set import ERROR_SUFFIX, POINTS_FORMATS, RUNS
from sim.sweep.work import remove_tree

SWEEP_FORMAT = POINTS_FORMATS[0]
SHARED = "shared"
_MANIFEST, _LOCK = "manifest.json", ".lock"
_MOST_TOLD = 8


class SweepFolder:
    """The folder of one sweep, or study. manifest: what it must say, beside the format."""

    def __init__(self, path: Path, manifest: Mapping[str, Any], format_: str = SWEEP_FORMAT):
        self.path = path
        self.manifest = {"format": format_, **manifest}
        self.noun = format_.split()[1]

    @contextmanager
    def opened(self, resume: bool) -> Iterator[None]:
        """Make the folder, or take up what is there, and keep other sweeps out of it.

        Raises InputError where something else is there, or a sweep that is not to be resumed or of other inputs, or
        another process has it, or it cannot be written.
        """
        made = self._check(resume)
        with self._told():
            (self.path / RUNS).mkdir(parents=True, exist_ok=True)
        with _locked(self.path):
            with self._told():
                self._clean()
                if made:
                    self._write_manifest(self.manifest)
            try:
                yield
            finally:
                self._clean()

    def done(self, names: Sequence[str]) -> tuple[set[str], set[str]]:
        """Which of these runs are there whole, and which have failed."""
        there = set(os.listdir(self.path / RUNS))
        whole = {name for name in names if name in there}
        return whole, {name for name in names if name + ERROR_SUFFIX in there} - whole

    def now_of(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Say that it has these points, of which there may be more than before."""
        self.manifest = {**self.manifest, "points": list(points)}
        with self._told():
            self._write_manifest(self.manifest)

    def remove_shared(self) -> None:
        """The inputs that runs shared, when all runs are done."""
        remove_tree(self.path / SHARED)

    def _check(self, resume: bool) -> bool:
        """Whether it is yet to be begun."""
        found = result_files.format_of(self.path)
        if not found and _is_begun(self.path):
            return True
        result_files.check_place(self.path)
        if not found:
            return True
        if found != self.manifest["format"]:
            raise InputError("the folder holds other results:", file=self.path, value=found, expected="another --out")
        if not resume:
            expected = "--resume to finish it, or another --out"
            raise InputError(f"there is a {self.noun} already:", value=str(self.path), expected=expected)
        errors = _differences(
            self.path / _MANIFEST, self.noun, result_files.read_json(self.path / _MANIFEST), self.manifest
        )
        if errors:
            raise errors[0] if len(errors) == 1 else InputErrors(errors)
        return False

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write the results: {error.strerror or error}", file=self.path) from error

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        unfinished = self.path / f".{_MANIFEST}.{os.getpid()}.unfinished"
        unfinished.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        unfinished.replace(self.path / _MANIFEST)

    def _clean(self) -> None:
        """Remove what was being written by processes that are no more."""
        for place in (self.path, self.path / RUNS, self.path / SHARED):
            for entry in place.glob(".*") if place.is_dir() else ():
                if entry.name.endswith((".unfinished", ".replaced", ".trial", ".older", ".seen")):
                    remove_tree(entry)


def _is_begun(folder: Path) -> bool:
    """Whether there is what a sweep leaves that was killed before it had said what it is of."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    entries = [*folder.iterdir(), *(folder / RUNS).glob("*")]
    return all(entry.name.startswith(".") or entry == folder / RUNS for entry in entries)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises InputError where another process has the folder."""
    path = folder / _LOCK
    try:
        file = path.open("w")
    except OSError as error:
        raise InputError(f"cannot write the results: {error.strerror or error}", file=folder) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = "another process writes this sweep:"
            raise InputError(problem, value=str(folder), expected="to wait for it, or another --out") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _differences(file: Path, what: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> list[InputError]:
    """What the sweep that is there was told otherwise, or made of."""
    errors = []
    for section, noun in ((what, f"the {what} has changed"), ("inputs", "what it is made of has changed")):
        old, new = was.get(section, {}), json.loads(json.dumps(now[section]))
        for key in [key for key in {**old, **new} if old.get(key) != new.get(key)][:_MOST_TOLD]:
            expected = f"{old[key]!r} as it was begun, or another --out" if key in old else "none, or another --out"
            errors.append(InputError(f"{noun}:", file=file, field=key, value=new.get(key), expected=expected))
    if not errors and "points" in now and was.get("points") != json.loads(json.dumps(now["points"])):
        errors.append(InputError("the points have changed", file=file, expected="another --out"))
    return errors
