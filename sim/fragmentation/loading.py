"""Streams of allocations by path, by name in the catalogue, or from a source that generates them."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sim import catalog, registry
from sim.errors import InputError
from sim.fragmentation.operations import Operations
from sim.fragmentation.source import AllocationSource
from sim.streams import open_stream, without_compression
from sim.trace_options import check_options

_HEAD_BYTES = 4096


def load_operations(
    trace: str | os.PathLike, source: str | None = None, options: Mapping[str, Any] | None = None
) -> Operations:
    """The allocations in a file, those that the catalogue has under a name, or those of a source that generates.

    source: what reads the file, where neither its name nor its first bytes say it; options: of the source. Nothing is
    downloaded. Raises InputError for whatever is wrong, naming the nearest of what there is.
    """
    return find_operations(trace, source, options)()


def find_operations(
    trace: str | os.PathLike, source: str | None = None, options: Mapping[str, Any] | None = None
) -> Callable[[], Operations]:
    """What loads them, when it is called: all that can be wrong before a file is read is said now."""
    text = os.fspath(trace)
    path = Path(text)
    if "\0" not in text and path.is_file():
        return _reading(path, _named(source) if source else _source_of(path), options)
    sources = _sources()
    listed = {name: entry for name, entry in catalog.entries().items() if entry.allocations}
    if text in listed:
        found = catalog.find(text)
        if found is None:
            raise InputError(f"trace {text!r} is not on this machine", expected=f"`run_sim.py traces get {text}` first")
        read = _reading(found, _named(source or listed[text].allocations), options)
        return lambda: dataclasses.replace(read(), name=text)
    if text in sources and source in (None, text):
        if sources[text].generate is None:
            raise InputError(f"source of allocations {text!r} reads a file", expected=f"a file, and source: {text}")
        return functools.partial(sources[text].generate, _checked(sources[text], options))
    generating = [name for name, one in sources.items() if one.generate is not None]
    raise InputError("no such file or stream of allocations", value=text, candidates=[*listed, *generating])


def source_digests(trace: str, source: str | None) -> dict[str, str]:
    """Of the file that is read, or of the source that generates. Raises InputError where there is none."""
    from sim.input_digests import of_function, of_trace

    is_file = Path(trace).is_file() or trace in catalog.entries()
    return of_trace(trace) if is_file else of_function(f"source.{trace}", _named(source or trace).generate)


def _sources() -> dict[str, AllocationSource]:
    kind = registry.ALLOCATION_SOURCE
    return {name: registry.load(kind, name) for name in registry.names(kind)}


def _named(name: str) -> AllocationSource:
    return registry.load(registry.ALLOCATION_SOURCE, name)


def _checked(source: AllocationSource, options: Mapping[str, Any] | None) -> dict[str, Any]:
    return check_options(source.options, options, f"source of allocations {source.name}")


def _reading(path: Path, source: AllocationSource, options: Mapping[str, Any] | None) -> Callable[[], Operations]:
    if source.read is None:
        raise InputError(f"source of allocations {source.name!r} generates, and reads no file", file=path)
    return functools.partial(source.read, path, _checked(source, options))


def _source_of(path: Path) -> AllocationSource:
    """The source whose extension the file has; of several, or where none has it, the one that knows its first bytes."""
    name = without_compression(path.name).lower()
    reading = [source for source in _sources().values() if source.read is not None]
    claiming = [source for source in reading if name.endswith(source.extensions)] if name else []
    with open_stream(path, _HEAD_BYTES, truncate=True) as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise InputError("the file is empty", file=path, expected="allocations")
    fitting = [source for source in claiming or reading if source.recognises and source.recognises(head)]
    chosen = fitting or claiming
    if len(chosen) == 1:
        return chosen[0]
    problem = "more than one source of allocations reads this" if chosen else "no source of allocations knows this file"
    listed = ", ".join(source.name for source in chosen or reading)
    raise InputError(problem, file=path, expected=f"one of these by name (source): {listed}")
