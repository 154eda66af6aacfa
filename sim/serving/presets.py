"""Real systems' options by their own names, as settings of our engine.

A preset is the whole of one system: each of its options has the system's default with where that is from, and says what
a value of it sets here, or why it is not modelled. Names are those of the systems, with dashes or underscores alike.
`sim.serving.preset_options` has the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sim.errors import InputError, nearest_name
from sim.serving.option_values import OPTIONS, check_option

BELOW = -1  # in place of a tier's number: every tier below G1
DRIVE = -2  # the last tier that is a drive
_DRIVES = ("ssd", "csd")

Place = (
    tuple[str, str] | tuple[str, int, str]
)  # ("options", field of ServingOptions), ("tiers", number, field of KvTier)
Changes = dict[Place, Any]


@dataclass(frozen=True)
class Facts:
    """What a conversion may need beside its own value.

    given: every option of the preset that has a value, the user's before the default; asked: those of the user.
    kinds: of the devices of the KV cache's tiers. layers: of the model. settled: fields of ServingOptions so far.
    kv_bytes: what weights leave of an accelerator's G1 with such fields; None where it is not known.
    """

    given: Mapping[str, Any] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    kinds: tuple[str, ...] = ()
    layers: int = 1
    settled: Mapping[str, Any] = field(default_factory=dict)
    kv_bytes: Callable[[Mapping[str, Any]], int | None] = lambda settled: None

    @property
    def tensor_parallel(self) -> int:
        return self.settled.get("tensor_parallel", 1)


Convert = Callable[[Any, Facts], Changes]


@dataclass(frozen=True)
class Option:
    """One option of a real system. says: in one line, what it sets here, or why it is not modelled (convert is None).

    default: the system's own, None where it has none; source: where that is from.
    """

    name: str
    says: str
    convert: Convert | None = None
    default: Any = None
    source: str = ""


@dataclass(frozen=True)
class Preset:
    """One real system. fixed: what it does that no option of its changes, with where that is from."""

    name: str
    description: str
    options: tuple[Option, ...]
    fixed: tuple[tuple[Place, Any, str], ...] = ()
    fewest_tiers: int = 1

    def option(self, name: str) -> Option | None:
        """The option of this name, however its words are joined."""
        return next((option for option in self.options if folded(option.name) == folded(name)), None)


@dataclass(frozen=True)
class Settled:
    """What a preset and a user's options came to: values by place, and which of the user's options each is of (None: a
    default).
    """

    values: Changes = field(default_factory=dict)
    said_by: dict[Place, str | None] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """Fields of ServingOptions."""
        return {place[1]: value for place, value in self.values.items() if place[0] == "options"}


Fault = tuple[str | None, InputError]  # the option it is of; None: a default of the preset's


def names() -> tuple[str, ...]:
    """Presets, by name."""
    return tuple(_presets())


def preset(name: str) -> Preset:
    """Raises InputError where there is none of this name."""
    if name not in _presets():
        raise InputError("unknown preset", value=name, candidates=_presets())
    return _presets()[name]


def settle(chosen: Preset | None, options: Mapping[str, Any], facts: Facts) -> tuple[Settled, list[Fault]]:
    """A user's options over the preset's defaults, each in our terms; and the faults, each with the option it is of.

    options: by our names or the preset's. facts: kinds, layers and kv_bytes; the rest is filled in here.
    """
    settled = Settled()
    faults: list[Fault] = [(name, _unknown(name, chosen)) for name in options if _option(chosen, name) is None]
    for place, value, _ in chosen.fixed if chosen else ():
        _set(settled, {place: value}, None, facts)
    written: dict[str, str] = {}
    for name in options:
        option = _option(chosen, name)
        if option is not None and option.name in written:
            faults.append(
                (name, InputError("an option twice:", value=name, expected=f"{written[option.name]!r} alone"))
            )
        elif option is not None:
            written[option.name] = name
    given = {option: options[name] for option, name in written.items()}
    for option in chosen.options if chosen else ():
        if option.default is not None:
            given.setdefault(option.name, option.default)
    for option in _in_order(chosen, written):
        said = written.get(option.name)
        known = Facts(given, frozenset(written), facts.kinds, facts.layers, settled.options, facts.kv_bytes)
        try:
            _set(settled, _changes(option, given[option.name], known), said, facts)
        except InputError as error:
            faults.append((said, error))
    return settled, faults


def folded(name: str) -> str:
    """A name as it is compared: dashes and underscores, capitals and small letters are alike."""
    return name.replace("-", "_").lower()


def _option(chosen: Preset | None, name: str) -> Option | None:
    """The preset's option of this name, or else our own."""
    found = chosen.option(name) if chosen else None
    if found is None and name in OPTIONS:
        return Option(name, name, lambda value, facts: {("options", name): value})
    return found


def _in_order(chosen: Preset | None, written: Mapping[str, str]) -> Iterator[Option]:
    """The user's options before the preset's defaults, and ours first: others may depend on them."""
    of_preset = {option.name: option for option in chosen.options} if chosen else {}
    yield from (_option(None, name) for name in written if name not in of_preset)
    yield from (option for name, option in of_preset.items() if name in written)
    yield from (option for name, option in of_preset.items() if name not in written and option.default is not None)


def _changes(option: Option, value: object, facts: Facts) -> Changes:
    if option.convert is None:
        raise InputError(f"{option.name!r} is not modelled: {option.says}")
    return option.convert(value, facts)


def _set(settled: Settled, changes: Changes, said: str | None, facts: Facts) -> None:
    """Raises InputError for a tier that there is not, and where two of the user's options say different things."""
    for place, value in _placed(changes, said, facts.kinds):
        if place[0] == "options":
            value = check_option(place[1], value)
        before = settled.said_by.get(place)
        if before is None:
            settled.values[place], settled.said_by[place] = value, said
        elif said is not None and settled.values[place] != value:
            raise InputError(f"contradicts {before!r}, which sets the same:", value=said, expected="one of the two")


def _placed(changes: Changes, said: str | None, kinds: tuple[str, ...]) -> Iterator[tuple[Place, Any]]:
    """Each change with the number of its tier; defaults of tiers that there are not are left out."""
    for place, value in changes.items():
        if place[0] == "options":
            yield place, value
            continue
        levels = _levels(place[1], kinds)
        if not levels and said is not None:
            which = {BELOW: "a tier below the first", DRIVE: "a drive"}.get(place[1], f"a tier number {place[1] + 1}")
            raise InputError(f"{said!r} is about {which} of the KV cache, which 'tiers' does not have")
        yield from ((("tiers", level, place[2]), value) for level in levels)


def _levels(level: int, kinds: tuple[str, ...]) -> list[int]:
    below = list(range(1, len(kinds)))
    if level == BELOW:
        return below
    if level == DRIVE:
        return [at for at in below if kinds[at] in _DRIVES][-1:]
    return [level] if level < len(kinds) else []


def _unknown(name: str, chosen: Preset | None) -> InputError:
    """Whose option it is, or else what it was probably meant to be."""
    owners = [other.name for other in _presets().values() if other.option(name)]
    if owners:
        here = f"the preset here is {chosen.name!r}" if chosen else "no preset is set"
        problem = f"{name!r} is an option of preset {' and '.join(map(repr, owners))}, and {here}"
        return InputError(problem, expected=f"an option of the engine or of its preset, or preset: {owners[0]}")
    known = [*OPTIONS, *(option.name for option in chosen.options if chosen)] if chosen else list(OPTIONS)
    near = nearest_name(name, known)
    hint = {"candidates": [near]} if near else {"expected": "an option that scenarios/README.md lists"}
    return InputError("unknown option", value=name, **hint)


def _presets() -> Mapping[str, Preset]:
    from sim.serving.preset_options import PRESETS  # which imports this module

    return PRESETS
