"""YAML -> one experiment: a system, a workload, a policy for everything that decides, and a seed.

A scenario names a hardware profile and a trace (or a generator), and says of each caching tier how much of its device
it uses and who decides there. What is wrong with a file is reported at once, each fault with its file, line, field and
the nearest valid name. `scenarios/README.md` lists the keys.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from sim import registry, units
from sim.choice import Choice, parse_choice
from sim.errors import InputError
from sim.overriding import WORKLOAD_FIRST, Overridable, overridden, plain_choice
from sim.profile import Profile, validate
from sim.scenario_files import (
    beside,
    each,
    locate,
    name_errors,
    own_name,
    profile_of,
    raise_if_any,
    shipped,
    trace_place,
    workload_errors,
)
from sim.scenario_schema import (
    MonitorSpec,
    Name,
    Period,
    Seed,
    Share,
    Strict,
    Text,
    WorkloadSpec,
    checked_choice,
    choice_for,
    eviction_labels,
)
from sim.yaml_document import Document, read_document

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

    def plugins(self) -> Iterator[Plugin]:
        """Every policy of the run, whose needs the trace must meet."""
        yield registry.load(registry.PREFETCH, self.prefetch.name)
        for settings in self.tiers.values():
            for key, kind in _KINDS.items():
                yield registry.load(kind, getattr(settings, key).name)

    def resolved(self) -> dict[str, Any]:
        """Plain data that says the same; of a file, only its own name, so that it is alike on every machine."""
        workload = dataclasses.asdict(self.workload)
        workload["trace"] = own_name(self.workload.trace)
        return {
            "name": self.name,
            "description": self.description,
            "system": own_name(self.system),
            "overrides": dict(self.profile_overrides),
            "workload": {key: value for key, value in workload.items() if value not in (None, {})},
            "tiers": {name: _plain_tier(tier) for name, tier in self.tiers.items()},
            "prefetch": plain_choice(self.prefetch),
            "migration": dataclasses.asdict(self.migration) if self.migration else None,
            "monitor_every_ns": self.monitor_every_ns,
            "compare": list(self.compare),
            "seed": self.seed,
        }


def _plain_tier(tier: TierSettings) -> dict[str, Any]:
    choices = {key: plain_choice(getattr(tier, key)) for key in _KINDS}
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
    document = read_document(locate(name_or_path))
    chosen = {**(overrides or {}), **({} if seed is None else {"seed": seed})}
    document, errors = overridden(document, chosen, _OVERRIDABLE)
    if not errors:
        scenario, errors = _scenario_of(document)
    raise_if_any(errors)
    return scenario


def scenario_names() -> list[str]:
    """Shipped scenarios, sorted."""
    return list(shipped())


def check_scenario_file(path: str | Path) -> list[InputError]:
    """Everything wrong with a scenario file, what it refers to included; empty when nothing is."""
    try:
        return _scenario_of(read_document(Path(path)))[1]
    except InputError as error:
        return each(error)


def with_eviction(scenario: Scenario, choice: Choice | str, tier: str | None = None) -> Scenario:
    """The same scenario with this eviction policy in every caching tier, or in one. Raises InputError where unknown."""
    choice = parse_choice(choice) if isinstance(choice, str) else choice
    checked_choice(choice, registry.EVICTION)
    if tier is not None and tier not in scenario.tiers:
        raise InputError("unknown caching tier", file=scenario.file, value=tier, candidates=scenario.tiers)
    tiers = {
        name: dataclasses.replace(settings, eviction=choice) if tier in (None, name) else settings
        for name, settings in scenario.tiers.items()
    }
    return dataclasses.replace(scenario, tiers=tiers)


def load_workload(scenario: Scenario, variants: Iterable[Scenario] = (), by_call: bool = False) -> Trace:
    """The trace to serve: cut to its first requests, its times scaled, with `next_access` where a policy needs it.

    variants: scenarios of the same workload that will be served it, too; their policies' needs count as well. by_call:
    the workload's `requests` counts calls of a language model, each with all its blocks; a trace without is not cut.

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
    trace = _cut_and_scaled(trace, wanted.requests, wanted.arrival_scale, by_call)
    needs = {need for one in (scenario, *variants) for plugin in one.plugins() for need in plugin.needs}
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
    raise_if_any(errors)
    return made


# --- schema ----------------------------------------------------------------------------------------------------------


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


class _TierSpec(Strict):
    capacity: Annotated[str, BeforeValidator(_capacity)] | None = None
    eviction: Annotated[Any, choice_for(registry.EVICTION)] = None
    admission: Annotated[Any, choice_for(registry.ADMISSION)] = None
    offload: Annotated[Any, choice_for(registry.OFFLOAD)] = None
    allocator: Annotated[Any, choice_for(registry.ALLOCATOR)] = None
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


class _MigrationSpec(Strict):
    tier: Name
    every: Period
    high_watermark: Share = 0.9
    low_watermark: Share = 0.8

    @model_validator(mode="after")
    def _ordered(self) -> _MigrationSpec:
        if self.low_watermark > self.high_watermark:
            expected = f"at most high_watermark, {self.high_watermark}"
            raise InputError("low_watermark", value=self.low_watermark, expected=expected)
        return self


class _ScenarioSpec(Strict):
    name: Name
    description: Text
    system: Text
    overrides: dict[str, Any] = Field(default_factory=dict)
    workload: WorkloadSpec
    tiers: dict[str, _TierSpec] = Field(default_factory=dict)
    prefetch: Annotated[Any, choice_for(registry.PREFETCH)] = None
    migration: _MigrationSpec | None = None
    monitor: MonitorSpec | None = None
    compare: Annotated[Any, BeforeValidator(eviction_labels)] = DEFAULT_COMPARE
    seed: Seed = 0


# --- from a document to a scenario -----------------------------------------------------------------------------------


def _scenario_of(document: Document) -> tuple[Scenario | None, list[InputError]]:
    """The scenario, or None with every fault; references are checked on whatever has the right shape."""
    if "serving" in document.data:
        expected = "a scenario without it; `load_serving_scenario` reads this one"
        return None, [document.error("a scenario of serving", ("serving",), expected=expected)]
    spec, errors = validate(_ScenarioSpec, document)
    errors += name_errors(document)
    profile, profile_errors = profile_of(document)
    errors += profile_errors
    if profile is not None:
        errors += _tier_errors(document, profile)
    errors += workload_errors(document)
    if errors:
        return None, errors
    trace = spec.workload.trace
    return Scenario(
        name=spec.name,
        description=spec.description,
        file=str(document.file),
        system=beside(document, spec.system),
        profile_overrides=spec.overrides,
        workload=Workload(**{**dict(spec.workload), "trace": trace and trace_place(document, trace)}),
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


# --- dotted overrides ------------------------------------------------------------------------------------------------

_PLAIN = ("system", "compare", "seed", "prefetch", "monitor.every")


def _places(document: Document) -> list[str]:
    """Every dotted path with a fixed name that may be overridden."""
    profile, _ = profile_of(document)
    tiers = document.data.get("tiers")
    listed = list(tiers) if isinstance(tiers, dict) else []
    names = [tier.name for tier in profile.tiers[:-1]] if profile else listed
    return [
        *_PLAIN,
        *(f"workload.{key}" for key in WorkloadSpec.model_fields if key not in ("options", "parameters")),
        *(f"migration.{key}" for key in _MigrationSpec.model_fields),
        *(f"tiers.{name}.{key}" for name in names for key in _TierSpec.model_fields),
    ]


_OVERRIDABLE = Overridable(
    places=_places,
    open=(("overrides",), ("workload", "options"), ("workload", "parameters")),
    policies={**_DEFAULTS, "offload": "write_back", "prefetch": "none"},
    first={"system": (), **WORKLOAD_FIRST},
)


# --- workload and capacities -----------------------------------------------------------------------------------------


def _cut_and_scaled(trace: Trace, requests: int | None, scale: float, by_call: bool) -> Trace:
    """The first requests of a trace, its times multiplied; the same trace where there is nothing to do."""
    from sim.trace_building import build_trace

    rows, calls = _kept(trace, requests, by_call)
    whole = rows == trace.n_requests and (trace.calls is None or calls == trace.calls.arrival_ns.size)
    if whole and scale == 1.0:
        return trace
    names = sorted(trace.columns - {"next_access"})
    chunk: dict[str, Any] = {name: trace.stored(name).read(0, rows) for name in names}
    chunk["id"] = trace.address[chunk.pop("block")]
    for key in ("arrival_ns", "think_ns"):
        if key in chunk:
            chunk[key] = chunk[key] * scale
    if trace.calls is not None:
        chunk["calls"] = _first_calls(trace.calls, calls, rows, scale)
    return build_trace(trace.name, iter([chunk]))


def _kept(trace: Trace, requests: int | None, by_call: bool) -> tuple[int, int]:
    """How many rows and calls are the first `requests`; of the last call, perhaps not all rows."""
    calls = trace.calls
    if by_call and calls is not None:
        count = calls.arrival_ns.size if requests is None else min(requests, calls.arrival_ns.size)
        return int(calls.first_row[count]), count
    rows = trace.n_requests if requests is None else min(requests, trace.n_requests)
    if calls is None:
        return rows, 0
    return rows, calls.arrival_ns.size if rows == trace.n_requests else int(calls.first_row[:-1].searchsorted(rows))


def _first_calls(calls, count: int, rows: int, scale: float):
    import numpy as np

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
