"""Where a scenario and what it refers to are: its file, system and trace; and what is wrong with the references."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim import catalog, registry
from sim.errors import InputError, InputErrors, nearest_name
from sim.profile import Profile, load_profile
from sim.yaml_document import Document, Location, read_document

# --- where files are -------------------------------------------------------------------------------------------------


def looks_like_path(text: str) -> bool:
    return "/" in text or "\\" in text or text.endswith((".yaml", ".yml"))


@dataclass(frozen=True)
class Shelf:
    """Files of one sort that come with memhier. noun: what one is; below: their folder within that of the scenarios."""

    noun: str
    below: str = ""

    def folder(self) -> Path:
        return Path(importlib.import_module("scenarios").__path__[0]) / self.below

    def names(self) -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted(path.stem for path in self.folder().glob("*.yaml")))

    def locate(self, name_or_path: str | Path) -> Path:
        """The file of a name, or the path itself where it looks like one. Raises InputError on an unknown name."""
        text = str(name_or_path)
        if isinstance(name_or_path, Path) or looks_like_path(text):
            return Path(name_or_path)
        if text in self.names():
            return self.folder() / f"{text}.yaml"
        raise InputError(f"unknown {self.noun}", value=text, candidates=self.names())

    def name_errors(self, document: Document) -> list[InputError]:
        """A file that comes with memhier is called as it says."""
        name = document.data.get("name")
        is_shipped = document.file.resolve().parent == self.folder().resolve()
        if not is_shipped or not isinstance(name, str) or name == document.file.stem:
            return []
        return [document.error("name", ("name",), value=name, expected=f"the file's own, {document.file.stem!r}")]


SCENARIOS = Shelf("scenario")
SWEEPS = Shelf("sweep", "sweeps")
STUDIES = Shelf("study", "studies")


def locate(name_or_path: str | Path) -> Path:
    """The file of a scenario, see `Shelf.locate`."""
    return SCENARIOS.locate(name_or_path)


def kind_of(name_or_path: str | Path) -> str:
    """What a scenario is one of: 'serving' (of language models), 'allocation', or 'hierarchy'.

    Raises InputError where it cannot be read.
    """
    data = read_document(locate(name_or_path)).data
    return next((kind for kind in ("serving", "allocation") if kind in data), "hierarchy")


def beside(document: Document, text: str) -> str:
    """A name as it is, a path from where the document is."""
    return str(document.file.parent / text) if looks_like_path(text) else text


def trace_place(document: Document, trace: str) -> str | None:
    """What `load_trace` takes: the path of a file, from where the document is, or else a name in the catalogue."""
    from sim.trace_loading import is_trace

    path = document.file.parent / trace
    try:
        is_there = is_trace(path)
    except (OSError, ValueError):  # too long a name, or one with a zero byte
        is_there = False
    if is_there:
        return str(path)
    return trace if trace in catalog.entries() else None


def own_name(text: str | None) -> str | None:
    """Of a path, only the file's name, so that it is alike on every machine."""
    return Path(text).name if text is not None and "/" in text.replace("\\", "/") else text


def shipped() -> tuple[str, ...]:
    """Names of the scenarios that come with memhier, sorted."""
    return SCENARIOS.names()


# --- what is wrong with references -----------------------------------------------------------------------------------


def name_errors(document: Document) -> list[InputError]:
    return SCENARIOS.name_errors(document)


def profile_of(document: Document) -> tuple[Profile | None, list[InputError]]:
    """The profile that the document names, or None with every fault of it."""
    system, overrides = document.data.get("system"), document.data.get("overrides", {})
    if not isinstance(system, str) or not system.strip() or not isinstance(overrides, dict):
        return None, []
    try:
        return load_profile(beside(document, system), overrides), []
    except InputError as error:
        return None, [_of_profile(document, fault, overrides) for fault in each(error)]


def _of_profile(document: Document, error: InputError, overrides: Mapping[str, Any]) -> InputError:
    """A fault of a profile's own files as it is; one of the name or of an override, where this document says it."""
    if error.file is not None:
        return error
    key = next((key for key in overrides if key == error.field or (error.field is None and key == error.value)), None)
    return moved(document, error, ("system",) if key is None else ("overrides", key))


def workload_errors(document: Document) -> list[InputError]:
    """Names of traces, readers, generators and their options."""
    workload = document.data.get("workload")
    if not isinstance(workload, dict):
        return []
    errors = []
    reader, trace, generator = (workload.get(key) for key in ("reader", "trace", "generator"))
    if isinstance(trace, str) and trace.strip():
        found = trace_place(document, trace)
        if found is None:
            hint = near_or_all(trace, catalog.entries(), "a file, or a name from the catalogue")
            errors.append(document.error("no such trace:", ("workload", "trace"), value=trace, **hint))
        elif reader is None and found in catalog.entries():
            reader = catalog.entries()[found].reader
    for kind, name, key in ((registry.READER, reader, "options"), (registry.GENERATOR, generator, "parameters")):
        if isinstance(name, str):
            errors += _option_errors(document, kind, name, key, workload.get(key, {}))
    return errors


def _option_errors(document: Document, kind: registry.Kind, name: str, key: str, given: object) -> list[InputError]:
    from sim.trace_loading import READER_OPTIONS
    from sim.trace_options import check_options

    what = kind.name
    try:
        plugin = registry.load(kind, name)
    except InputError as error:
        return [moved(document, error, ("workload", what))]
    if not isinstance(given, dict):
        return []
    schema = {**READER_OPTIONS, **plugin.options} if kind == registry.READER else plugin.parameters
    errors = []
    for option, value in given.items():  # one by one, so that each fault is told
        try:
            check_options(schema, {option: value}, f"{what} {name}")
        except InputError as error:
            errors.append(moved(document, error, ("workload", key, option)))
    return errors


def moved(document: Document, error: InputError, at: Location) -> InputError:
    """The fault as one of this place of the document."""
    value = {"value": error.value} if error.has_value else {}
    return document.error(error.problem, at, expected=error.expected, candidates=error.candidates, **value)


def near_or_all(name: str, candidates: Iterable[str], expected: str) -> dict[str, Any]:
    """The nearest candidate where there is one; a long list of all would hide the fault."""
    near = nearest_name(name, candidates)
    return {"candidates": [near]} if near else {"expected": expected}


def each(error: InputError) -> list[InputError]:
    return list(error.errors) if isinstance(error, InputErrors) else [error]


def raise_if_any(errors: Sequence[InputError]) -> None:
    """One fault as itself, several as InputErrors."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise InputErrors(errors)
