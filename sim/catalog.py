"""The catalogue of traces: what there is, where it is on this machine, and how to get it.

`workloads/catalog.yaml` names each trace with its address or bundled file, licence, size, checksum and reader. A file
is looked for in the folders of MEMHIER_TRACE_PATH, then among what was downloaded before (MEMHIER_CACHE, or the user's
cache folder), then among the bundled ones. Only `get` downloads.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sim.errors import InputError

Progress = Callable[[int, int], None]  # (bytes so far, bytes in all)


@dataclass(frozen=True)
class Entry:
    """One trace of the catalogue. Exactly one of url and file says where it comes from; or note says it."""

    name: str
    description: str
    licence: str
    bytes: int
    sha256: str
    filename: str
    origin: str
    url: str | None = None
    file: str | None = None
    reader: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    allocations: str | None = None
    note: str | None = None


def entries() -> dict[str, Entry]:
    """Every trace of the catalogue by name. Raises InputError for a catalogue that is not well formed."""
    path = _workloads() / "catalog.yaml"
    return _entries(path, path.stat().st_mtime_ns)


@functools.cache
def _entries(path: Path, _changed_ns: int) -> dict[str, Entry]:
    import yaml

    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"not YAML: {' '.join(str(error).split())}", file=path) from error
    if not isinstance(listed, dict) or not isinstance(listed.get("traces"), dict):
        raise InputError("not a catalogue", file=path, expected="traces: and under it an entry a trace")
    return {name: _entry(path, name, given) for name, given in listed["traces"].items()}


def _entry(path: Path, name: str, given: Any) -> Entry:
    if not isinstance(given, dict):
        raise InputError("not an entry", file=path, field=name, value=given, expected="fields and values")
    known = {f.name for f in fields(Entry)} - {"name"}
    for key in given:
        if key not in known:
            raise InputError("unknown field", file=path, field=name, value=key, candidates=known)
    if "url" in given and "file" in given:
        raise InputError("both url and file", file=path, field=name, expected="one of them")
    defaults = {"filename": Path(given["file"]).name} if "file" in given else {}
    try:
        return Entry(name=name, **{**defaults, **given})
    except TypeError as error:
        raise InputError(f"incomplete entry: {error}", file=path, field=name) from error


def entry(name: str) -> Entry:
    """The entry called `name`. Raises InputError, naming the nearest, where there is none."""
    known = entries()
    if name not in known:
        raise InputError("unknown trace", value=name, candidates=known)
    return known[name]


def find(name: str) -> Path | None:
    """Where the trace `name` is on this machine, or None; its checksum is verified once a process.

    Raises InputError for a name that is not in the catalogue, and for a file that is not what its name says.
    """
    wanted = entry(name)
    for path in _places(wanted):
        if path.is_file():
            _verify(path, wanted)
            return path
    return None


def get(name: str, progress: Progress | None = None) -> Path:
    """The trace `name`, downloaded if it is not on this machine. Raises InputError where that cannot be done."""
    found = find(name)
    if found is not None:
        return found
    wanted = entry(name)
    if wanted.url is None:
        raise InputError(f"trace {name!r} is not at one public address", expected=_by_hand(wanted))
    import pooch
    from requests.exceptions import RequestException

    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(progressbar=_Bar(progress, wanted.bytes) if progress else False, timeout=30)
    try:
        path = pooch.retrieve(
            wanted.url, f"sha256:{wanted.sha256}", wanted.filename, cache_folder(), downloader=downloader
        )
    except (RequestException, OSError) as error:
        why = " ".join(str(error).split())[:160]
        raise InputError(
            f"cannot download {wanted.url} ({type(error).__name__}: {why})", expected=_by_hand(wanted)
        ) from error
    except ValueError as error:  # pooch: the checksum differs
        problem = f"what {wanted.url} holds today is not the catalogue's {wanted.filename}"
        raise InputError(problem, expected=_by_hand(wanted)) from error
    return Path(path)


def cache_folder() -> Path:
    """Where downloads are kept."""
    if os.environ.get("MEMHIER_CACHE"):
        return Path(os.environ["MEMHIER_CACHE"])
    import platformdirs  # pooch asks it, too, but takes 0.1 s to be imported

    return Path(platformdirs.user_cache_dir("memhier"))


def _places(wanted: Entry) -> Iterator[Path]:
    """Where it may be; to find out where downloads are kept takes the longest, so that is last."""
    folders = [Path(folder) for folder in os.environ.get("MEMHIER_TRACE_PATH", "").split(os.pathsep) if folder]
    yield from (folder / wanted.filename for folder in folders)
    if wanted.file:
        yield _workloads() / "traces" / wanted.file
    yield cache_folder() / wanted.filename


def _workloads() -> Path:
    return Path(importlib.import_module("workloads").__path__[0])


def _by_hand(wanted: Entry) -> str:
    file = f"the file {wanted.filename} (sha256 {wanted.sha256})"
    note = f". {wanted.note}" if wanted.note else ""
    return f"{file} put by hand into a folder of MEMHIER_TRACE_PATH; it is from {wanted.origin}{note}"


def _verify(path: Path, wanted: Entry) -> None:
    try:
        status = path.stat()
        found = _sha256(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise InputError(f"cannot read the trace: {error.strerror}", file=path) from error
    if found != wanted.sha256:
        raise InputError(f"not the catalogue's {wanted.name}: sha256", file=path, value=found, expected=wanted.sha256)


@functools.cache
def _sha256(path: Path, _changed_ns: int, _size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Bar:
    """What pooch wants of a progress bar, as a call of `progress`."""

    def __init__(self, progress: Progress, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def update(self, more: int) -> None:
        self.done += more
        self.progress(min(self.done, self.total), self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass
