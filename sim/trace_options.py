"""What plugs in to make traces: a reader a format, a generator a kind of synthetic trace; and what can be set there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from sim.errors import InputError

if TYPE_CHECKING:
    from sim.trace import Trace
    from sim.trace_building import Chunk, Report


@dataclass(frozen=True)
class Option:
    """One thing that can be set: its default, what it means, and what it may be.

    kind: int, float, str, bool, dict, list or `BYTES` (a number of bytes, or text such as "4 KiB"); taken from the
    default where that says it. choices: the only values. at_least, at_most: inclusive bounds of a number.
    """

    default: Any
    meaning: str
    kind: Any = None
    choices: tuple = ()
    at_least: float | None = None
    at_most: float | None = None


BYTES = "bytes"


def check_options(schema: Mapping[str, Option], given: Mapping[str, Any] | None, owner: str) -> dict[str, Any]:
    """Every option of `schema`, as given or by default. Raises InputError for an unknown one or a bad value.

    owner: whose options they are, for errors ("reader csv").
    """
    if not isinstance(given or {}, Mapping):
        raise InputError(f"bad options of {owner}", value=given, expected="names and values")
    for name in given or {}:
        if name not in schema:
            raise InputError(f"unknown option of {owner}", value=name, candidates=schema)
    chosen = {name: (given or {}).get(name, option.default) for name, option in schema.items()}
    return {name: check_option(schema[name], value, f"{owner}: {name}") for name, value in chosen.items()}


def check_option(option: Option, value: Any, field: str) -> Any:
    if value is None and option.default is None:
        return None
    kind = option.kind or type(option.default)
    value = _converted(value, kind, field)
    if option.choices and value not in option.choices:
        raise InputError("unknown value", field=field, value=value, candidates=option.choices)
    if option.at_least is not None and value < option.at_least:
        raise InputError("too small", field=field, value=value, expected=f"at least {option.at_least}")
    if option.at_most is not None and value > option.at_most:
        raise InputError("too large", field=field, value=value, expected=f"at most {option.at_most}")
    return value


def _converted(value: Any, kind: Any, field: str) -> Any:
    if kind == BYTES and isinstance(value, str):
        from sim.units import parse_bytes

        return parse_bytes(value)
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if kind in (int, BYTES) and number and math.isfinite(value) and int(value) == value:
        return int(value)
    if kind is float and number and math.isfinite(value):
        return float(value)
    if kind is dict and isinstance(value, Mapping):
        return dict(value)
    if kind is list and isinstance(value, list | tuple):
        return list(value)
    if kind in (str, bool) and isinstance(value, kind):
        return value
    raise InputError("bad value", field=field, value=value, expected=_KIND_NAMES[kind])


_KIND_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "names and values",
    list: "a list",
    BYTES: 'a whole number of bytes, or text such as "4 KiB"',
}


@dataclass(frozen=True)
class Reader:
    """One trace format.

    extensions: how its files' names end, without the dot and compression (".csv.zst" is "csv"); sniff(head, name):
    whether a file that begins with these bytes looks like it; read(stream, options, report): its chunks, from the
    decompressed stream; options: what can be set. A format that cannot be read from its start on has one of these
    instead of `read`: read_path(path, options, report), which gives chunks, too; or open(path, options), which gives
    the trace as it lies there, a folder with a `manifest.json`, with all its columns.
    """

    name: str
    description: str
    extensions: tuple[str, ...]
    sniff: Callable[[bytes, str], bool]
    read: Callable[[BinaryIO, dict[str, Any], Report], Iterator[Chunk]] | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    read_path: Callable[[Path, dict[str, Any], Report], Iterator[Chunk]] | None = None
    open: Callable[[Path, dict[str, Any]], Trace] | None = None


@dataclass(frozen=True)
class Generator:
    """One kind of synthetic trace: build(seed, **parameters) makes it, the same bytes for the same arguments."""

    name: str
    description: str
    build: Callable[..., Trace]
    parameters: Mapping[str, Option] = field(default_factory=dict)
