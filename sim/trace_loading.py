"""Traces by path, by name in the catalogue, or from a generator.

Formats are readers (`workloads/readers`), synthetic traces are generators (`workloads/generators`); both plug in
through `sim.registry`.
"""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sim import registry
from sim.errors import InputError
from sim.streams import open_stream, without_compression
from sim.trace import Trace
from sim.trace_building import build_trace
from sim.trace_columns import SPILL_BYTES
from sim.trace_options import BYTES, Option, Reader, check_option, check_options

READER_OPTIONS = {
    "max_bytes": Option(64 << 30, "the most that a file may hold once decompressed", kind=BYTES, at_least=1),
}
_HEAD_BYTES = 1 << 16


def load_trace(
    path_or_name: str | os.PathLike,
    reader: str | None = None,
    options: Mapping[str, Any] | None = None,
    needs: Iterable[str] | None = None,
    spill_bytes: int = SPILL_BYTES,
) -> Trace:
    """The trace in a file or a dense folder, or the one that the catalogue has under a name.

    reader: its format, where neither the catalogue nor the file itself says it; options: of the reader; needs: the
    columns to keep beside `block` (all, by default; those of one run spare memory); spill_bytes: columns beyond this
    go to temporary files. A format that is mapped as it lies has all its columns and spills none. Nothing is
    downloaded. Raises InputError for whatever is wrong with the file.
    """
    path, name, catalogued_reader, catalogued_options = _locate(path_or_name)
    chosen = _reader(path, reader or catalogued_reader)
    set_here = {**(catalogued_options if reader in (None, catalogued_reader) else {}), **(options or {})}
    full = check_options({**READER_OPTIONS, **chosen.options}, set_here, f"reader {chosen.name}")
    report = functools.partial(InputError, file=path)
    if chosen.open is not None:
        return chosen.open(path, full)
    if chosen.read_path is not None:
        chunks = chosen.read_path(path, full, report)
        return build_trace(name, chunks, needs=needs, spill_bytes=spill_bytes, file=path)
    with open_stream(path, full["max_bytes"]) as stream:
        chunks = chosen.read(stream, full, report)
        return build_trace(name, chunks, needs=needs, spill_bytes=spill_bytes, file=path)


def is_trace(path: Path) -> bool:
    """Whether there is a file here, or a folder that a reader can open as a trace."""
    return path.is_file() or (path / "manifest.json").is_file()


def _locate(path_or_name: str | os.PathLike) -> tuple[Path, str, str | None, dict[str, Any]]:
    """(path, name of the trace, reader, options) of a path or of a name in the catalogue."""
    from sim import catalog

    text = os.fspath(path_or_name)
    path = Path(text)
    if "\0" not in text and is_trace(path):
        return path, _stem(path.name), None, {}
    entries = catalog.entries()
    if text not in entries:
        near = difflib.get_close_matches(text, entries, n=3, cutoff=0.3)
        near = f" (nearest: {', '.join(near)})" if near else ""
        raise InputError("no such trace", value=text, expected=f"a file, or a name from the catalogue{near}")
    entry, found = entries[text], catalog.find(text)
    if found is None:
        raise InputError(f"trace {text!r} is not on this machine", expected=f"`run_sim.py traces get {text}` first")
    if entry.reader is None:
        raise InputError(f"trace {text!r} has no reader", file=found, expected=entry.note or "a reader by name")
    return found, text, entry.reader, dict(entry.options)


def _stem(file_name: str) -> str:
    return file_name.split(".")[0] or file_name


def _extension(file_name: str) -> str:
    """The last extension that is not a compression's, in lower case, or the empty string."""
    parts = without_compression(file_name.lower()).split(".")[1:]
    return parts[-1] if parts else ""


def _reader(path: Path, name: str | None) -> Reader:
    """The reader called `name`, or the one whose format the file looks like."""
    if name is not None:
        return _fitting_place(registry.load(registry.READER, name), path)
    if path.is_dir():
        return _fitting_place(registry.load(registry.READER, _extension(path.name) or path.name), path)
    readers = {name: registry.load(registry.READER, name) for name in registry.names(registry.READER)}
    with open_stream(path, _HEAD_BYTES, truncate=True) as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise InputError("the trace is empty", file=path, expected="at least one block access")
    extension = _extension(path.name)
    claiming = [r for r in readers.values() if extension in {known.lower() for known in r.extensions}]
    fitting = [r for r in claiming or readers.values() if r.sniff(head, path.name)]
    if not fitting and extension in readers:
        return readers[extension]  # whose own errors say what is wrong with a file named as its kind
    if not fitting and len(claiming) == 1:
        return claiming[0]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(r.name for r in fitting or claiming or readers.values())
    problem = "more than one reader fits" if fitting else "no reader knows this format"
    raise InputError(problem, file=path, expected=f"one of these by name (reader=...): {names}")


def _fitting_place(reader: Reader, path: Path) -> Reader:
    """The reader, if it reads what is at this path: a folder, or a file."""
    if path.is_dir() != (reader.open is not None):
        expected = "a folder" if reader.open is not None else "a file"
        raise InputError(f"reader {reader.name} cannot read this", file=path, expected=expected)
    return reader


def generate(name: str, params: Mapping[str, Any] | None = None, seed: int = 0) -> Trace:
    """The synthetic trace of the generator `name`. Raises InputError for an unknown name, parameter or bad value."""
    generator = registry.load(registry.GENERATOR, name)
    seed = check_option(Option(0, "", at_least=0), seed, "seed")
    return generator.build(seed, **check_options(generator.parameters, params, f"generator {name}"))
