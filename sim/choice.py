"""A plugin as a person chooses it: by name, with parameters, `s3fifo:small_ratio=0.2`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim import registry
from sim.errors import InputError
from sim.units import parse_bytes

if TYPE_CHECKING:  # which brings numba with it
    from sim.policy import Plugin

_INTEGER = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Choice:
    """A plugin by name, with the parameters given for it."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def plugin(self, kind: registry.Kind) -> Plugin:
        plugin = registry.load(kind, self.name)
        plugin.resolve(self.parameters)
        return plugin

    @property
    def label(self) -> str:
        """As a person writes it on the command line: `s3fifo:small_ratio=0.2`."""
        return ":".join([self.name, *(f"{name}={value}" for name, value in self.parameters.items())])


def parse_choice(text: str) -> Choice:
    """'s3fifo:small_ratio=0.2' -> Choice; further parameters after further colons. Raises InputError for other text."""
    name, *settings = str(text).strip().split(":")
    if not name.strip():
        raise InputError("not a policy:", value=text, expected="a name, or name:parameter=value")
    parameters = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise InputError("not a parameter:", value=setting, expected="name:parameter=value")
        if key.strip() in parameters:
            raise InputError("a parameter twice:", value=key.strip(), expected="each parameter once")
        parameters[key.strip()] = parameter_value(key.strip(), as_value(value))
    return Choice(name.strip(), parameters)


def parameter_value(name: str, value: Any) -> Any:
    """A parameter's value; sizes may be written with their unit."""
    is_size = name.endswith("_bytes") and isinstance(value, str) and re.match(r"\s*[\d.]", value)
    return parse_bytes(value) if is_size else value


def as_value(value: object) -> object:
    """Text of a command line as the value that it would be in a file."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
