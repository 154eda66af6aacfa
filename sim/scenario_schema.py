"""What a scenario's keys may be, whichever kind of scenario it is: names, shares, times, policies, the workload."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from sim import registry, units
from sim.choice import Choice, parameter_value, parse_choice
from sim.errors import InputError

_MOST_CLIENTS = 1 << 20
_CHECK_BYTES = 1 << 20  # capacity with which parameters are tried out


def _words(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError("not text:", value=value, expected="a few words")
    return " ".join(value.split())


def _name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", value):
        raise InputError("not a name:", value=value, expected="letters, digits, '_' and '-', a letter first")
    return value


def whole_number(low: int, high: int) -> Callable[[object], int]:
    """A check that a value is one from low to high."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError("not a count:", value=value, expected=f"a whole number from {low} to {high}")
        return value

    return check


def is_number(value: object) -> bool:
    """Whether it is a finite number, and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _scale(value: object) -> float:
    if not is_number(value) or not 1e-9 <= value <= 1e9:
        raise InputError("not a scale:", value=value, expected="a number above zero, such as 0.5 for twice the load")
    return float(value)


def _share(value: object) -> float:
    if not is_number(value) or not 0 < value <= 1:
        raise InputError("not a share:", value=value, expected="a number above 0, at most 1")
    return float(value)


def _period(value: object) -> float:
    period = units.parse_time(value)
    if period <= 0:
        raise InputError("not above zero:", value=value, expected="a time such as '100 us'")
    return period


def eviction_labels(value: object) -> tuple[str, ...]:
    """Labels of eviction policies, as a list or as text with commas."""
    listed = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(listed, Sequence) or not listed:
        raise InputError("wrong shape", value=value, expected="a list of eviction policies")
    choices = [choice_of(entry, registry.EVICTION) for entry in listed]
    labels = [choice.label for choice in choices]
    twice = next((label for i, label in enumerate(labels) if label in labels[:i]), None)
    if twice is not None:
        raise InputError("a policy twice:", value=twice, expected="each policy once")
    return tuple(labels)


def choice_of(value: object, kind: registry.Kind) -> Choice:
    """A plugin by name, by text with parameters, or by a mapping with `policy`. Raises InputError where none is."""
    if isinstance(value, str):
        return checked_choice(parse_choice(value), kind)
    expected = f"the name of an {kind.noun}" if kind.noun[0] in "aeiou" else f"the name of a {kind.noun}"
    if not isinstance(value, Mapping):
        raise InputError("wrong shape", value=value, expected=f"{expected}, or a mapping with 'policy'")
    if not isinstance(value.get("policy"), str):
        raise InputError("no policy in", value=dict(value), expected=f"'policy' with {expected}")
    parameters = {key: parameter_value(key, given) for key, given in value.items() if key != "policy"}
    return checked_choice(Choice(value["policy"], parameters), kind)


def checked_choice(choice: Choice, kind: registry.Kind) -> Choice:
    """The choice with its parameters in their types. Raises InputError where the plugin is unknown or refuses them."""
    from sim.policy import Context

    plugin = registry.load(kind, choice.name)
    resolved = plugin.resolve(choice.parameters)
    if kind != registry.ALLOCATOR:  # whose parameters may be good or bad only for a tier's own capacity
        plugin.make_state(Context(capacity=_CHECK_BYTES, blocks=1), choice.parameters)
    return dataclasses.replace(choice, parameters={key: resolved[key] for key in choice.parameters})


def choice_for(kind: registry.Kind) -> BeforeValidator:
    """The type of a field that holds a policy."""
    return BeforeValidator(functools.partial(choice_of, kind=kind))


Name = Annotated[str, BeforeValidator(_name)]
Text = Annotated[str, BeforeValidator(_words)]
Seed = Annotated[int, BeforeValidator(whole_number(0, 2**31 - 1))]
Period = Annotated[float, BeforeValidator(_period)]
Share = Annotated[float, BeforeValidator(_share)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkloadSpec(Strict):
    trace: Text | None = None
    reader: Name | None = None
    options: dict[str, Any] = {}
    generator: Name | None = None
    parameters: dict[str, Any] = {}
    seed: Seed | None = None
    requests: Annotated[int, BeforeValidator(whole_number(1, 1 << 36))] | None = None
    arrival_scale: Annotated[float, BeforeValidator(_scale)] = 1.0
    clients: Annotated[int, BeforeValidator(whole_number(1, _MOST_CLIENTS))] | None = None

    @model_validator(mode="after")
    def _either(self) -> WorkloadSpec:
        if (self.trace is None) == (self.generator is None):
            problem = "both trace and generator" if self.trace else "neither trace nor generator"
            raise InputError(problem, expected="one of them")
        wrong = ("parameters", "seed") if self.trace else ("reader", "options")
        for key in wrong:
            if getattr(self, key) not in (None, {}):
                raise InputError(f"{key!r} belongs to a {'generator' if self.trace else 'trace'}, which is not given")
        return self


class MonitorSpec(Strict):
    every: Period
