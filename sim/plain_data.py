"""Dataclasses from the plain data of a manifest, for what runs a saved scenario again.

A manifest has of each file only its own name, so that by itself only what names shipped parts and catalogued traces can
be run again; loading any other part raises an InputError that says which is unknown. `place` says where it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sim.choice import Choice
from sim.errors import InputError

T = TypeVar("T")


@contextmanager
def complete() -> Iterator[None]:
    """Within it, a key that is missing raises InputError, as in what another version wrote."""
    try:
        yield
    except KeyError as error:
        raise InputError("the manifest's scenario lacks", value=str(error.args[0])) from error


def of(kind: type[T], plain: Mapping[str, Any]) -> T:
    """A dataclass of its fields. Raises InputError for one that it does not have."""
    known = [field.name for field in dataclasses.fields(kind)]
    for name in plain:
        if name not in known:
            raise InputError(
                f"the manifest's scenario has an unknown part of {kind.__name__}", value=name, candidates=known
            )
    return kind(**{name: value_of(value) for name, value in plain.items()})


def value_of(value: Any) -> Any:
    """A policy and its parameters as a choice, a list as the tuple that it was."""
    if isinstance(value, Mapping) and "policy" in value:
        return Choice(value["policy"], {name: one for name, one in value.items() if name != "policy"})
    return tuple(value) if isinstance(value, list) else value


def place(own_name: str | None, known: str | None) -> str | None:
    """Where a file of this own name is, if that is the known place; else the name."""
    return known if own_name and known and Path(known).name == own_name else own_name


def on_trace(scenario: Any, trace: str, folder: Path | None) -> Any:
    """The scenario of these results with its trace in another place. Raises InputError where it has none."""
    if scenario.workload.trace is None:
        raise InputError("--trace is of a run of a trace; what this one served was generated:", file=folder)
    return dataclasses.replace(scenario, workload=dataclasses.replace(scenario.workload, trace=trace))
