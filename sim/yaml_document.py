"""One YAML file as plain data, with the line of each value, so that a fault can be told with its place.

Read event by event, which lets it refuse what could grow or repeat: aliases, tags, a key twice, deep nesting.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sim import units
from sim.errors import InputError
from sim.remembering import remembered

_MOST_FILE_BYTES = 2**20
_MOST_DEPTH = 32
_INTEGER = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d{1,3})?", re.ASCII)
_WORDS = {
    **{"": None, "~": None, "null": None, "true": True, "false": False},
    **{".nan": math.nan, ".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf},
}

Location = tuple[str | int, ...]
T = TypeVar("T")


@dataclass
class Document:
    """One YAML file as plain data, with the line of each value.

    within: where in its file this data stands, for a part of a file; said_as: the dotted override that filled a place.
    """

    file: Path
    data: dict[str, Any]
    lines: dict[Location, int]
    within: Location = ()
    said_as: dict[Location, str] = field(default_factory=dict)

    def error(self, problem: str, at: Location, key: str | None = None, **details: object) -> InputError:
        """An InputError about the value at this place, or about one key of it."""
        told = _nearest_place(self.said_as, at)
        if told is not None:
            return InputError(problem, field=told, **details)
        line = _nearest_place(self.lines, at if key is None else (*at, key))
        place = ".".join(map(str, (*self.within, *at)))
        return InputError(problem, file=self.file, line=line, field=place or None, **details)

    def part(self, within: Location, data: dict[str, Any]) -> Document:
        """`data` as what stands at that place of this file."""
        cut = len(within)
        lines = {at[cut:]: line for at, line in self.lines.items() if at[:cut] == within}
        said_as = {at[cut:]: name for at, name in self.said_as.items() if at[:cut] == within}
        return Document(self.file, data, lines, within, said_as)


def _nearest_place(known: Mapping[Location, T], at: Location) -> T | None:
    """What is known of this place, or else of the closest one around it."""
    return next((known[at[:n]] for n in range(len(at), -1, -1) if at[:n] in known), None)


@remembered
def read_document(path: Path) -> Document:
    """The mapping in a YAML file: one document without aliases, tags or repeated keys.

    Raises InputError where the file cannot be read, is not YAML, or holds anything but a mapping.
    """
    text = _read_text(path)
    try:
        builder = _Builder(path, yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        data = builder.document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise InputError(f"not YAML: {problem}", file=path, line=mark.line + 1 if mark else None) from None
    if not isinstance(data, dict):
        raise InputError("wrong shape", file=path, value=data, expected="a mapping of keys to values")
    return Document(path, data, builder.lines)


def _read_text(path: Path) -> str:
    try:
        is_file = path.is_file()
        exists = is_file or path.exists()
        raw = _first_bytes(path) if is_file else b""
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}", file=path) from None
    if not exists:
        raise InputError("no such file", value=str(path))
    if not is_file:
        raise InputError("not a file", value=str(path), expected="a YAML file")
    if len(raw) > _MOST_FILE_BYTES:
        raise InputError("too large", file=path, expected=f"at most {units.format_bytes(_MOST_FILE_BYTES)} of YAML")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not text: byte {error.start} is not UTF-8", file=path, expected="a YAML file") from None


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_MOST_FILE_BYTES + 1)


class _Builder:
    """Builds data from parser events, which lets it keep lines and refuse what could grow or repeat."""

    def __init__(self, path: Path, events: Iterator[yaml.Event]):
        self.path, self.events, self.lines = path, events, {}

    def document(self) -> object:
        data, seen = None, False
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    raise self._refuse("a second document", event, "one document in a file")
                seen = True
            elif isinstance(event, yaml.NodeEvent):
                data = self._value(event, ())
        return data

    def _value(self, event: yaml.NodeEvent, at: Location) -> object:
        self.lines[at] = event.start_mark.line + 1
        if event.anchor is not None:
            raise self._refuse("an anchor or alias", event, "each value written out where it is used")
        if event.tag is not None:
            raise self._refuse(f"a tag {event.tag!r}", event, "plain values")
        if len(at) > _MOST_DEPTH:
            raise self._refuse("nested too deeply", event, f"at most {_MOST_DEPTH} levels")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(at)
        if isinstance(event, yaml.SequenceStartEvent):
            items = enumerate(_until(yaml.SequenceEndEvent, self.events))
            return [self._value(item, (*at, i)) for i, item in items]
        return _scalar(event.value) if event.implicit[0] else event.value

    def _mapping(self, at: Location) -> dict[str, object]:
        result: dict[str, object] = {}
        for key in _until(yaml.MappingEndEvent, self.events):
            if not isinstance(key, yaml.ScalarEvent) or key.anchor is not None:
                raise self._refuse("a key that is not a word", key, "'key: value'")
            if key.value in result:
                raise self._refuse(f"key {key.value!r} twice", key, "each key once")
            result[key.value] = self._value(next(self.events), (*at, key.value))
            self.lines[(*at, key.value)] = key.start_mark.line + 1
        return result

    def _refuse(self, problem: str, event: yaml.Event, expected: str) -> InputError:
        return InputError(problem, file=self.path, line=event.start_mark.line + 1, expected=expected)


def _until(end: type[yaml.Event], events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    for event in events:
        if isinstance(event, end):
            return
        yield event


def _scalar(text: str) -> object:
    """A plain scalar's value. Only what reads as a number, true, false or null is more than text: dates, 'no' and
    '1:30' stay as written.
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
