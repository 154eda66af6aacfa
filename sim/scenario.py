"""YAML -> one experiment: a system, a workload, a policy for everything that decides, and a seed.

A scenario names a hardware profile and a trace (or a generator), and says of each caching tier how much of its device
it uses and who decides there. What is wrong with a file is reported at once, each fault with its file, line, field and
the nearest valid name. `scenarios/README.md` lists the keys.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from sim import catalog, registry, units
from sim.choice import Choice, as_value, parameter_value, parse_choice
from sim.errors import InputError, InputErrors, nearest_name
from sim.profile import Profile, load_profile, validate
from sim.yaml_document import Document, Location, read_document

if TYPE_CHECKING:  # the hierarchy brings numba with it, which only what runs or checks a policy should pay for
    from sim.hierarchy import TierPlan
    from sim.policy import Plugin
    from sim.trace import Trace

DEFAULT_COMPARE = ("fifo", "lru", "sieve")
_DEFAULTS = {"eviction": "lru", "admission": "always", "allocator": "paged"}
_OFFLOAD_OF = {"non_inclusive": "write_back", "inclusive": "write_through", "exclusive": "exclusive"}
_KINDS = {
    "eviction": registry.EVICTION,
    "admission": registry.ADMISSION,
    "offload": registry.OFFLOAD,
    "allocator": registry.ALLOCATOR,
}
_PAGE_BYTES = 4096
_MOST_CLIENTS = 1 << 20
_CHECK_BYTES = 1 << 20  # capacity with which parameters are tried out


# --- what a scenario is ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TierSettings:
    """One caching tier. capacity: as written, a share of the trace's bytes or bytes; None: all of the device."""

    capacity: str | None
    eviction: Choice
    admission: Choice
    offload: Choice
    allocator: Choice
    inclusion: str


@dataclass(frozen=True)
class Workload:
    """A trace (name in the catalogue, or a file) or a generator, and what is done to it before it is served."""

    trace: str | None = None
    reader: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    generator: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None  # of the generator; None: the scenario's
    requests: int | None = None
    arrival_scale: float = 1.0
    clients: int | None = None  # of a closed loop; None: one


@dataclass(frozen=True)
class Migration:
    """Background demotion: every `every_ns`, a tier fuller than `high_watermark` is emptied down to `low_watermark`."""

    tier: str
    every_ns: float
    high_watermark: float
    low_watermark: float


@dataclass(frozen=True)
class Scenario:
    """One experiment, every reference checked. `system` is a name, or the path of a file, that `load_profile` takes."""

    name: str
    description: str
    file: str | None
    system: str
    profile_overrides: Mapping[str, Any]
    workload: Workload
    tiers: Mapping[str, TierSettings]  # the caching ones, fastest first
    prefetch: Choice
    migration: Migration | None
    monitor_every_ns: float | None  # None: as suits the duration
    compare: tuple[str, ...]
    seed: int

    def resolved(self) -> dict[str, Any]:
        """Plain data that says the same; of a file, only its own name, so that it is alike on every machine."""
        workload = dataclasses.asdict(self.workload)
        workload["trace"] = _own_name(self.workload.trace)
        return {
            "name": self.name,
            "description": self.description,
            "system": _own_name(self.system),
            "overrides": dict(self.profile_overrides),
            "workload": {key: value for key, value in workload.items() if value not in (None, {})},
            "tiers": {name: _plain_tier(tier) for name, tier in self.tiers.items()},
            "prefetch": _plain_choice(self.prefetch),
            "migration": dataclasses.asdict(self.migration) if self.migration else None,
            "monitor_every_ns": self.monitor_every_ns,
            "compare": list(self.compare),
            "seed": self.seed,
        }


def _own_name(text: str | None) -> str | None:
    return Path(text).name if text is not None and "/" in text.replace("\\", "/") else text


def _plain_choice(choice: Choice) -> dict[str, Any]:
    return {"policy": choice.name, **choice.parameters}


def _plain_tier(tier: TierSettings) -> dict[str, Any]:
    choices = {key: _plain_choice(getattr(tier, key)) for key in _KINDS}
    return {"capacity": tier.capacity, **choices, "inclusion": tier.inclusion}


# --- public functions ------------------------------------------------------------------------------------------------


def load_scenario(
    name_or_path: str | Path, overrides: Mapping[str, object] | None = None, seed: int | None = None
) -> Scenario:
    """The scenario of a shipped name or of a YAML file.

    overrides: dotted keys such as {'tiers.dram.capacity': '5%', 'tiers.dram.eviction.small_ratio': 0.2, 'seed': 3}, and
    'overrides.tiers.dram.capacity' for a field of the profile; text that reads as a number is one. seed: instead of the
    file's own. Raises InputErrors that list everything wrong.
    """
    document = read_document(_locate(name_or_path))
    chosen = {**(overrides or {}), **({} if seed is None else {"seed": seed})}
    document, errors = _overridden(document, chosen)
    if not errors:
        scenario, errors = _scenario_of(document)
    _raise_if_any(errors)
    return scenario


def scenario_names() -> list[str]:
    """Shipped scenarios, sorted."""
    return list(_shipped())


def check_scenario_file(path: str | Path) -> list[InputError]:
    """Everything wrong with a scenario file, what it refers to included; empty when nothing is."""
    try:
        return _scenario_of(read_document(Path(path)))[1]
    except InputError as error:
        return _each(error)


def with_eviction(scenario: Scenario, choice: Choice | str, tier: str | None = None) -> Scenario:
    """The same scenario with this eviction policy in every caching tier, or in one. Raises InputError where unknown."""
    choice = parse_choice(choice) if isinstance(choice, str) else choice
    _checked_choice(choice, registry.EVICTION)
    if tier is not None and tier not in scenario.tiers:
        raise InputError("unknown caching tier", file=scenario.file, value=tier, candidates=scenario.tiers)
    tiers = {
        name: dataclasses.replace(settings, eviction=choice) if tier in (None, name) else settings
        for name, settings in scenario.tiers.items()
    }
    return dataclasses.replace(scenario, tiers=tiers)


def load_workload(scenario: Scenario, variants: Iterable[Scenario] = ()) -> Trace:
    """The trace to serve: cut to its first requests, its times scaled, with `next_access` where a policy needs it.

    variants: scenarios of the same workload that will be served it, too; their policies' needs count as well.

    A generator makes the requests asked for; of a trace's file the first are taken. Nothing is downloaded. Raises
    InputError for a trace that cannot be read or has no times.
    """
    from sim.trace_loading import generate, load_trace

    wanted = scenario.workload
    if wanted.generator is not None:
        parameters = dict(wanted.parameters)
        if wanted.requests is not None and "requests" in registry.load(registry.GENERATOR, wanted.generator).parameters:
            parameters["requests"] = wanted.requests
        seed = scenario.seed if wanted.seed is None else wanted.seed
        trace = generate(wanted.generator, parameters, seed)
    else:
        trace = load_trace(wanted.trace, wanted.reader, wanted.options or None)
    if not {"arrival_ns", "think_ns"} & trace.columns:
        problem = f"trace {trace.name!r} has no arrival times, which a timed run needs; replay it instead"
        raise InputError(problem, file=scenario.file, field="workload")
    if wanted.clients is not None and "think_ns" not in trace.columns:
        expected = "a workload with think times; this one says when its requests arrive"
        raise InputError("clients", file=scenario.file, field="workload", value=wanted.clients, expected=expected)
    trace = _cut_and_scaled(trace, wanted.requests, wanted.arrival_scale)
    needs = {need for one in (scenario, *variants) for plugin in _plugins(one) for need in plugin.needs}
    return trace.with_next_access() if "next_access" in needs else trace


def plans(scenario: Scenario, profile: Profile, trace: Trace) -> list[TierPlan]:
    """The caching tiers of a run, in the profile's order. Raises InputErrors for capacities that do not fit.

    A capacity must hold a block of the trace and fit the device. Pages whose size nobody set are of the blocks' size
    where all have one, and otherwise of 4 KiB, or as small as the smallest block.
    """
    from sim.hierarchy import TierPlan

    made, errors = [], []
    for tier in profile.tiers[:-1]:
        settings = scenario.tiers[tier.name]
        try:
            capacity = _capacity_bytes(scenario, settings, tier, trace)
        except InputError as error:
            errors.append(error)
            continue
        made.append(
            TierPlan(
                name=tier.name,
                capacity_bytes=capacity,
                eviction=settings.eviction,
                admission=settings.admission,
                offload=settings.offload,
                allocator=_with_page_size(settings.allocator, trace),
                inclusive=settings.inclusion == "inclusive",
            )
        )
    _raise_if_any(errors)
    return made


# --- schema ----------------------------------------------------------------------------------------------------------


def _words(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError("not text:", value=value, expected="a few words")
    return " ".join(value.split())


def _name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", value):
        raise InputError("not a name:", value=value, expected="letters, digits, '_' and '-', a letter first")
    return value


def _whole(low: int, high: int):
    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError("not a count:", value=value, expected=f"a whole number from {low} to {high}")
        return value

    return BeforeValidator(check)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _scale(value: object) -> float:
    if not _is_number(value) or not 1e-9 <= value <= 1e9:
        raise InputError("not a scale:", value=value, expected="a number above zero, such as 0.5 for twice the load")
    return float(value)


def _share(value: object) -> float:
    if not _is_number(value) or not 0 < value <= 1:
        raise InputError("not a share:", value=value, expected="a number above 0, at most 1")
    return float(value)


def _period(value: object) -> float:
    period = units.parse_time(value)
    if period <= 0:
        raise InputError("not above zero:", value=value, expected="a time such as '100 us'")
    return period


def _capacity(value: object) -> str:
    """A capacity as written: whether it fits the trace and the device is seen when these are known."""
    if not isinstance(value, str):
        raise InputError("bad capacity", value=value, expected="a share such as '10%', or bytes such as '64 MiB'")
    text = value.strip()
    if text.endswith("%"):
        share = text[:-1].strip()
        if not re.fullmatch(r"\d{1,3}(\.\d{1,15})?", share, re.ASCII) or not 0 < float(share) <= 100:
            raise InputError("bad capacity", value=value, expected="a share above 0%, at most 100%")
    elif units.parse_bytes(text) <= 0:
        raise InputError("bad capacity", value=value, expected="more than zero")
    return text


def _inclusion(value: object) -> str:
    if value not in _OFFLOAD_OF:
        raise InputError("unknown inclusion", value=value, candidates=_OFFLOAD_OF)
    return value


def _policies(value: object) -> tuple[str, ...]:
    """Labels of eviction policies, as a list or as text with commas."""
    listed = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(listed, Sequence) or not listed:
        raise InputError("wrong shape", value=value, expected="a list of eviction policies")
    choices = [_choice_of(entry, registry.EVICTION) for entry in listed]
    labels = [choice.label for choice in choices]
    twice = next((label for i, label in enumerate(labels) if label in labels[:i]), None)
    if twice is not None:
        raise InputError("a policy twice:", value=twice, expected="each policy once")
    return tuple(labels)


def _choice_of(value: object, kind: registry.Kind) -> Choice:
    """A plugin by name, by text with parameters, or by a mapping with `policy`. Raises InputError where none is."""
    if isinstance(value, str):
        return _checked_choice(parse_choice(value), kind)
    expected = f"the name of an {kind.noun}" if kind.noun[0] in "aeiou" else f"the name of a {kind.noun}"
    if not isinstance(value, Mapping):
        raise InputError("wrong shape", value=value, expected=f"{expected}, or a mapping with 'policy'")
    if not isinstance(value.get("policy"), str):
        raise InputError("no policy in", value=dict(value), expected=f"'policy' with {expected}")
    parameters = {key: parameter_value(key, given) for key, given in value.items() if key != "policy"}
    return _checked_choice(Choice(value["policy"], parameters), kind)


def _checked_choice(choice: Choice, kind: registry.Kind) -> Choice:
    """The choice with its parameters in their types. Raises InputError where the plugin is unknown or refuses them."""
    from sim.policy import Context

    plugin = registry.load(kind, choice.name)
    resolved = plugin.resolve(choice.parameters)
    if kind != registry.ALLOCATOR:  # whose parameters may be good or bad only for a tier's own capacity
        plugin.make_state(Context(capacity=_CHECK_BYTES, blocks=1), choice.parameters)
    return dataclasses.replace(choice, parameters={key: resolved[key] for key in choice.parameters})


def _choice(kind: registry.Kind):
    return BeforeValidator(functools.partial(_choice_of, kind=kind))


_Name = Annotated[str, BeforeValidator(_name)]
_Text = Annotated[str, BeforeValidator(_words)]
_Seed = Annotated[int, _whole(0, 2**31 - 1)]
_Period = Annotated[float, BeforeValidator(_period)]
_Share = Annotated[float, BeforeValidator(_share)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _WorkloadSpec(_Strict):
    trace: _Text | None = None
    reader: _Name | None = None
    options: dict[str, Any] = {}
    generator: _Name | None = None
    parameters: dict[str, Any] = {}
    seed: _Seed | None = None
    requests: Annotated[int, _whole(1, 1 << 36)] | None = None
    arrival_scale: Annotated[float, BeforeValidator(_scale)] = 1.0
    clients: Annotated[int, _whole(1, _MOST_CLIENTS)] | None = None

    @model_validator(mode="after")
    def _either(self) -> _WorkloadSpec:
        if (self.trace is None) == (self.generator is None):
            problem = "both trace and generator" if self.trace else "neither trace nor generator"
            raise InputError(problem, expected="one of them")
        wrong = ("parameters", "seed") if self.trace else ("reader", "options")
        for key in wrong:
            if getattr(self, key) not in (None, {}):
                raise InputError(f"{key!r} belongs to a {'generator' if self.trace else 'trace'}, which is not given")
        return self


class _TierSpec(_Strict):
    capacity: Annotated[str, BeforeValidator(_capacity)] | None = None
    eviction: Annotated[Any, _choice(registry.EVICTION)] = None
    admission: Annotated[Any, _choice(registry.ADMISSION)] = None
    offload: Annotated[Any, _choice(registry.OFFLOAD)] = None
    allocator: Annotated[Any, _choice(registry.ALLOCATOR)] = None
    inclusion: Annotated[str, BeforeValidator(_inclusion)] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> _TierSpec:
        if self.offload is None or self.inclusion is None:
            return self
        given, wanted = self.offload.name, _OFFLOAD_OF[self.inclusion]
        if self.inclusion != "non_inclusive" and given != wanted:
            problem = f"inclusion {self.inclusion!r} contradicts offload {given!r}"
            raise InputError(problem, expected=f"offload {wanted!r}, or none given")
        if self.inclusion == "non_inclusive" and given == "exclusive":
            raise InputError(
                "inclusion 'non_inclusive' contradicts offload 'exclusive'", expected="inclusion 'exclusive'"
            )
        return self


class _MigrationSpec(_Strict):
    tier: _Name
    every: _Period
    high_watermark: _Share = 0.9
    low_watermark: _Share = 0.8

    @model_validator(mode="after")
    def _ordered(self) -> _MigrationSpec:
        if self.low_watermark > self.high_watermark:
            expected = f"at most high_watermark, {self.high_watermark}"
            raise InputError("low_watermark", value=self.low_watermark, expected=expected)
        return self


class _MonitorSpec(_Strict):
    every: _Period


class _ScenarioSpec(_Strict):
    name: _Name
    description: _Text
    system: _Text
    overrides: dict[str, Any] = {}
    workload: _WorkloadSpec
    tiers: dict[str, _TierSpec] = {}
    prefetch: Annotated[Any, _choice(registry.PREFETCH)] = None
    migration: _MigrationSpec | None = None
    monitor: _MonitorSpec | None = None
    compare: Annotated[Any, BeforeValidator(_policies)] = DEFAULT_COMPARE
    seed: _Seed = 0


# --- from a document to a scenario -----------------------------------------------------------------------------------


def _scenario_of(document: Document) -> tuple[Scenario | None, list[InputError]]:
    """The scenario, or None with every fault; references are checked on whatever has the right shape."""
    spec, errors = validate(_ScenarioSpec, document)
    errors += _name_errors(document)
    profile, profile_errors = _profile_of(document)
    errors += profile_errors
    if profile is not None:
        errors += _tier_errors(document, profile)
    errors += _workload_errors(document)
    if errors:
        return None, errors
    trace = spec.workload.trace
    return Scenario(
        name=spec.name,
        description=spec.description,
        file=str(document.file),
        system=_system_path(document, spec.system),
        profile_overrides=spec.overrides,
        workload=Workload(**{**dict(spec.workload), "trace": trace and _trace_place(document, trace)}),
        tiers={tier.name: _settings(spec.tiers.get(tier.name)) for tier in profile.tiers[:-1]},
        prefetch=spec.prefetch or parse_choice("none"),
        migration=spec.migration and _migration(spec.migration),
        monitor_every_ns=spec.monitor.every if spec.monitor else None,
        compare=tuple(spec.compare),
        seed=spec.seed,
    ), []


def _settings(spec: _TierSpec | None) -> TierSettings:
    spec = spec or _TierSpec()
    exclusive = spec.offload is not None and spec.offload.name == "exclusive"
    inclusion = spec.inclusion or ("exclusive" if exclusive else "non_inclusive")
    defaults = {**_DEFAULTS, "offload": _OFFLOAD_OF[inclusion]}
    choices = {key: getattr(spec, key) or parse_choice(defaults[key]) for key in _KINDS}
    return TierSettings(capacity=spec.capacity, inclusion=inclusion, **choices)


def _migration(spec: _MigrationSpec) -> Migration:
    return Migration(spec.tier, spec.every, spec.high_watermark, spec.low_watermark)


def _name_errors(document: Document) -> list[InputError]:
    name = document.data.get("name")
    shipped = document.file.resolve().parent == _folder().resolve()
    if not shipped or not isinstance(name, str) or name == document.file.stem:
        return []
    return [document.error("name", ("name",), value=name, expected=f"the file's own, {document.file.stem!r}")]


def _profile_of(document: Document) -> tuple[Profile | None, list[InputError]]:
    """The profile that the document names, or None with every fault of it."""
    system, overrides = document.data.get("system"), document.data.get("overrides", {})
    if not isinstance(system, str) or not system.strip() or not isinstance(overrides, dict):
        return None, []
    try:
        return load_profile(_system_path(document, system), overrides), []
    except InputError as error:
        return None, [_of_profile(document, fault, overrides) for fault in _each(error)]


def _of_profile(document: Document, error: InputError, overrides: Mapping[str, Any]) -> InputError:
    """A fault of a profile's own files as it is; one of the name or of an override, where this document says it."""
    if error.file is not None:
        return error
    key = next((key for key in overrides if key == error.field or (error.field is None and key == error.value)), None)
    return _moved(document, error, ("system",) if key is None else ("overrides", key))


def _tier_errors(document: Document, profile: Profile) -> list[InputError]:
    caching, last = [tier.name for tier in profile.tiers[:-1]], profile.tiers[-1].name
    tiers, migration = document.data.get("tiers", {}), document.data.get("migration")
    named = [(("tiers", name), name) for name in tiers] if isinstance(tiers, dict) else []
    if isinstance(migration, dict) and isinstance(migration.get("tier"), str):
        named.append((("migration", "tier"), migration["tier"]))
    errors = []
    for at, name in named:
        if name == last:
            expected = f"a caching tier: {', '.join(caching)}"
            errors.append(
                document.error("the last tier holds everything and has no settings:", at, value=name, expected=expected)
            )
        elif name not in caching:
            errors.append(
                document.error(f"unknown tier of system {profile.name!r}:", at, value=name, candidates=caching)
            )
    return errors


def _workload_errors(document: Document) -> list[InputError]:
    """Names of traces, readers, generators and their options."""
    workload = document.data.get("workload")
    if not isinstance(workload, dict):
        return []
    errors = []
    reader, trace, generator = (workload.get(key) for key in ("reader", "trace", "generator"))
    if isinstance(trace, str) and trace.strip():
        found = _trace_place(document, trace)
        if found is None:
            hint = _near_or_all(trace, catalog.entries(), "a file, or a name from the catalogue")
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
        return [_moved(document, error, ("workload", what))]
    if not isinstance(given, dict):
        return []
    schema = {**READER_OPTIONS, **plugin.options} if kind == registry.READER else plugin.parameters
    errors = []
    for option, value in given.items():  # one by one, so that each fault is told
        try:
            check_options(schema, {option: value}, f"{what} {name}")
        except InputError as error:
            errors.append(_moved(document, error, ("workload", key, option)))
    return errors


def _moved(document: Document, error: InputError, at: Location) -> InputError:
    """The fault as one of this place of the document."""
    value = {"value": error.value} if error.has_value else {}
    return document.error(error.problem, at, expected=error.expected, candidates=error.candidates, **value)


def _near_or_all(name: str, candidates: Iterable[str], expected: str) -> dict[str, Any]:
    """The nearest candidate where there is one; a long list of all would hide the fault."""
    near = nearest_name(name, candidates)
    return {"candidates": [near]} if near else {"expected": expected}


def _each(error: InputError) -> list[InputError]:
    return list(error.errors) if isinstance(error, InputErrors) else [error]


# --- dotted overrides ------------------------------------------------------------------------------------------------

_OPEN = (("overrides",), ("workload", "options"), ("workload", "parameters"))
_PLAIN = ("system", "compare", "seed", "prefetch", "monitor.every")


def _overridden(document: Document, overrides: Mapping[str, object]) -> tuple[Document, list[InputError]]:
    """The document with each dotted override written where its file could have said the same; and the faults."""
    if not overrides:
        return document, []
    document = dataclasses.replace(document, data=copy.deepcopy(document.data), said_as={})
    values = {str(dotted): as_value(value) for dotted, value in overrides.items()}
    # A changed system or workload decides what else may be said, so it goes first.
    first = [key for key in ("system", "workload.trace", "workload.generator") if key in values]
    for dotted in first:
        _replace_workload(document, dotted, values[dotted])
        _put(document, tuple(dotted.split(".")), values[dotted], dotted)
    known = {dotted: tuple(dotted.split(".")) for dotted in _places(document)}
    errors = []
    for dotted, value in values.items():
        if dotted in first:
            continue
        at = known.get(dotted) or _open_place(dotted, known)
        if at is None:
            hint = _near_or_all(dotted, [*known, *_open_examples(document)], "a path such as 'workload.requests'")
            errors.append(InputError("unknown field to override:", value=dotted, **hint))
        else:
            _put(document, at, value, dotted)
    return document, errors


def _replace_workload(document: Document, dotted: str, value: object) -> None:
    """Another trace or generator takes the place of the one before, with all that was said of that one."""
    workload = document.data.get("workload")
    if dotted == "system" or not isinstance(workload, dict) or workload.get(dotted.split(".")[1]) == value:
        return
    for key in ("trace", "reader", "options", "generator", "parameters", "seed"):
        workload.pop(key, None)


def _places(document: Document) -> list[str]:
    """Every dotted path with a fixed name that may be overridden."""
    profile, _ = _profile_of(document)
    tiers = document.data.get("tiers")
    listed = list(tiers) if isinstance(tiers, dict) else []
    names = [tier.name for tier in profile.tiers[:-1]] if profile else listed
    return [
        *_PLAIN,
        *(f"workload.{key}" for key in _WorkloadSpec.model_fields if key not in ("options", "parameters")),
        *(f"migration.{key}" for key in _MigrationSpec.model_fields),
        *(f"tiers.{name}.{key}" for name in names for key in _TierSpec.model_fields),
    ]


def _open_examples(document: Document) -> list[str]:
    """Paths under which any name may stand, with the names that stand there now."""
    examples = []
    for at in _OPEN:
        node: Any = document.data
        for key in at:
            node = node.get(key) if isinstance(node, dict) else None
        examples += [".".join([*at, str(key)]) for key in node or ()] if isinstance(node, dict) else []
    return examples


def _open_place(dotted: str, known: Mapping[str, Location]) -> Location | None:
    """Where a path with a free last part lands: a profile's field, an option, or a parameter of a policy."""
    keys = tuple(dotted.split("."))
    for prefix in _OPEN:
        if keys[: len(prefix)] == prefix and len(keys) > len(prefix):
            return (*prefix, ".".join(keys[len(prefix) :]))
    owner = ".".join(keys[:-1])
    return (*known[owner], keys[-1]) if owner in known and keys[-2] in (*_KINDS, "prefetch") else None


def _put(document: Document, at: Location, value: object, dotted: str) -> None:
    """Write the value; where a policy stands as text or not at all, it becomes a mapping to take a parameter."""
    *parents, last = at
    node = document.data
    for key in parents:
        child = node.get(key)
        if key in (*_KINDS, "prefetch") and not isinstance(child, dict):
            node[key] = child = _as_mapping(child, key)
        elif not isinstance(child, dict):
            node[key] = child = {}
        node = child
    node[last] = value
    document.said_as[at] = dotted


def _as_mapping(choice: object, key: str) -> dict[str, Any]:
    if not isinstance(choice, str):
        return {"policy": {**_DEFAULTS, "offload": "write_back", "prefetch": "none"}[key]}
    return _plain_choice(parse_choice(choice))


# --- workload and capacities -----------------------------------------------------------------------------------------


def _plugins(scenario: Scenario) -> Iterator[Plugin]:
    yield registry.load(registry.PREFETCH, scenario.prefetch.name)
    for settings in scenario.tiers.values():
        for key, kind in _KINDS.items():
            yield registry.load(kind, getattr(settings, key).name)


def _cut_and_scaled(trace: Trace, requests: int | None, scale: float) -> Trace:
    """The first requests of a trace, its times multiplied; the same trace where there is nothing to do."""
    from sim.trace_building import build_trace

    rows = trace.n_requests if requests is None else min(requests, trace.n_requests)
    if rows == trace.n_requests and scale == 1.0:
        return trace
    names = sorted(trace.columns - {"next_access"})
    chunk: dict[str, Any] = dict(zip(names, next(trace.chunks(*names, rows=rows)), strict=True))
    chunk["id"] = trace.address[chunk.pop("block")]
    for key in ("arrival_ns", "think_ns"):
        if key in chunk:
            chunk[key] = chunk[key] * scale
    if trace.calls is not None:
        chunk["calls"] = _first_calls(trace.calls, rows, scale)
    return build_trace(trace.name, iter([chunk]))


def _first_calls(calls, rows: int, scale: float):
    """The calls that have a row among the first; of the last of them, perhaps not all rows."""
    import numpy as np

    count = int(np.searchsorted(calls.first_row[:-1], rows))
    by_call = {name: value for name, value in calls._asdict().items() if isinstance(value, np.ndarray)}
    cut = {name: value[:count] for name, value in by_call.items()}
    cut["arrival_ns"] = cut["arrival_ns"] * scale
    return calls._replace(**{**cut, "first_row": np.minimum(calls.first_row[: count + 1], rows)})


def _capacity_bytes(scenario: Scenario, settings: TierSettings, tier, trace: Trace) -> int:
    """Bytes of one tier. Raises InputError where they hold no block of the trace or exceed the device."""
    from sim.capacity import parse_capacity

    where = {"file": scenario.file, "field": f"tiers.{tier.name}.capacity"}
    device_bytes = tier.device.capacity_bytes
    text = str(device_bytes) if settings.capacity is None else settings.capacity
    try:
        capacity = parse_capacity(text, trace, ignore_size=False)
    except InputError as error:
        value = {"value": error.value} if error.has_value else {}
        raise InputError(error.problem, expected=error.expected, **where, **value) from None
    if capacity > device_bytes:
        expected = f"at most the device's {units.format_bytes(device_bytes)}; it is {units.format_bytes(capacity)}"
        raise InputError("too large a capacity:", value=settings.capacity, expected=expected, **where)
    return capacity


def _with_page_size(allocator: Choice, trace: Trace) -> Choice:
    if allocator.name != "paged" or "page_bytes" in allocator.parameters:
        return allocator
    smallest, largest = int(trace.block_bytes.min()), int(trace.block_bytes.max())
    page = smallest if smallest == largest else min(_PAGE_BYTES, smallest)
    return dataclasses.replace(allocator, parameters={**allocator.parameters, "page_bytes": page})


# --- where files are -------------------------------------------------------------------------------------------------


def _looks_like_path(text: str) -> bool:
    return "/" in text or "\\" in text or text.endswith((".yaml", ".yml"))


def _locate(name_or_path: str | Path) -> Path:
    """The file of a shipped name, or the path itself where it looks like one. Raises InputError on an unknown name."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or _looks_like_path(text):
        return Path(name_or_path)
    if text in _shipped():
        return _folder() / f"{text}.yaml"
    raise InputError("unknown scenario", value=text, candidates=_shipped())


def _system_path(document: Document, system: str) -> str:
    """What `load_profile` takes: a name as it is, a path from where the document is."""
    return str(document.file.parent / system) if _looks_like_path(system) else system


def _trace_place(document: Document, trace: str) -> str | None:
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


def _folder() -> Path:
    return Path(importlib.import_module("scenarios").__path__[0])


@functools.cache
def _shipped() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def _raise_if_any(errors: Sequence[InputError]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise InputErrors(errors)
