"""Dotted overrides: 'tiers.dram.capacity' on a command line is written where the scenario's file could have said it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sim.choice import Choice, as_value, parse_choice
from sim.errors import InputError
from sim.scenario_files import near_or_all
from sim.yaml_document import Document, Location

_OF_ONE_WORKLOAD = ("trace", "reader", "options", "generator", "parameters", "seed")
WORKLOAD_FIRST = dict.fromkeys(("workload.trace", "workload.generator"), _OF_ONE_WORKLOAD)


@dataclass(frozen=True)
class Overridable:
    """What a kind of scenario lets be overridden.

    places: of a document, every dotted path with a fixed name. open: where any name may stand. policies: last keys
    under which a policy stands, which takes parameters, and the policy where none stands. first: paths that decide what
    else may be said, and the keys beside them that were said of what they replace; written before the places are asked
    for.
    """

    places: Callable[[Document], Iterable[str]]
    open: tuple[Location, ...]
    policies: Mapping[str, str]
    first: Mapping[str, tuple[str, ...]]


def overridden(
    document: Document, overrides: Mapping[str, object], allowed: Overridable
) -> tuple[Document, list[InputError]]:
    """The document with each dotted override written where its file could have said the same; and the faults."""
    if not overrides:
        return document, []
    document = dataclasses.replace(document, data=copy.deepcopy(document.data), said_as={})
    values = {str(dotted): as_value(value) for dotted, value in overrides.items()}
    first = [key for key in allowed.first if key in values]
    for dotted in first:
        _replace(document, dotted, values[dotted], allowed.first[dotted])
        _put(document, tuple(dotted.split(".")), values[dotted], dotted, allowed)
    known = {dotted: tuple(dotted.split(".")) for dotted in allowed.places(document)}
    errors = []
    for dotted, value in values.items():
        if dotted in first:
            continue
        at = known.get(dotted) or _open_place(dotted, known, allowed)
        if at is None:
            hint = near_or_all(
                dotted, [*known, *_open_examples(document, allowed)], "a path such as 'workload.requests'"
            )
            errors.append(InputError("unknown field to override:", value=dotted, **hint))
        else:
            _put(document, at, value, dotted, allowed)
    return document, errors


def plain_choice(choice: Choice) -> dict[str, Any]:
    """A policy as a mapping, which takes parameters one by one."""
    return {"policy": choice.name, **choice.parameters}


def _replace(document: Document, dotted: str, value: object, of_one: tuple[str, ...]) -> None:
    """Another trace or generator takes the place of the one before, with all that was said of that one."""
    part, _, key = dotted.partition(".")
    node = document.data.get(part)
    if not of_one or not isinstance(node, dict) or node.get(key) == value:
        return
    for said in of_one:
        node.pop(said, None)


def _open_examples(document: Document, allowed: Overridable) -> list[str]:
    """Paths under which any name may stand, with the names that stand there now."""
    examples = []
    for at in allowed.open:
        node: Any = document.data
        for key in at:
            node = node.get(key) if isinstance(node, dict) else None
        examples += [".".join([*at, str(key)]) for key in node or ()] if isinstance(node, dict) else []
    return examples


def _open_place(dotted: str, known: Mapping[str, Location], allowed: Overridable) -> Location | None:
    """Where a path with a free last part lands: a profile's field, an option, or a parameter of a policy."""
    keys = tuple(dotted.split("."))
    owner = ".".join(keys[:-1])
    if owner in known and keys[-2] in allowed.policies:
        return (*known[owner], keys[-1])
    for prefix in allowed.open:
        if keys[: len(prefix)] == prefix and len(keys) > len(prefix):
            return (*prefix, ".".join(keys[len(prefix) :]))
    return None


def _put(document: Document, at: Location, value: object, dotted: str, allowed: Overridable) -> None:
    """Write the value; where a policy stands as text or not at all, it becomes a mapping to take a parameter."""
    *parents, last = at
    node = document.data
    for key in parents:
        child = node.get(key)
        if key in allowed.policies and not isinstance(child, dict):
            node[key] = child = _as_mapping(child, allowed.policies[key])
        elif not isinstance(child, dict):
            node[key] = child = {}
        node = child
    node[last] = value
    document.said_as[at] = dotted


def _as_mapping(choice: object, otherwise: str) -> dict[str, Any]:
    return plain_choice(parse_choice(choice)) if isinstance(choice, str) else {"policy": otherwise}
