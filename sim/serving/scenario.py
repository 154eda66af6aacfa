"""YAML -> one serving experiment: a system, a model, a workload of calls, and everything that the engine is told.

A scenario file is one where it has the key `serving`. As with other scenarios, everything wrong with a file is reported
at once, with file, line, field and nearest name. `scenarios/README.md` lists the keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from sim import registry, units
from sim.choice import Choice, parse_choice
from sim.errors import InputError
from sim.overriding import WORKLOAD_FIRST, Overridable, overridden, plain_choice
from sim.profile import Profile, validate
from sim.scenario import DEFAULT_COMPARE, Workload, load_workload
from sim.scenario_files import (
    beside,
    each,
    locate,
    moved,
    name_errors,
    own_name,
    profile_of,
    raise_if_any,
    trace_place,
    workload_errors,
)
from sim.scenario_schema import (
    MonitorSpec,
    Name,
    Seed,
    Strict,
    Text,
    WorkloadSpec,
    checked_choice,
    choice_for,
    eviction_labels,
    whole_number,
)
from sim.serving import consistency, parts, presets
from sim.serving.option_values import OPTIONS, POLICY_OPTIONS, one_of, within
from sim.serving.options import ROUTERS, Cluster, KvTier, ServingOptions, Slo
from sim.yaml_document import Document, read_document

if TYPE_CHECKING:
    from sim.policy import Plugin
    from sim.trace import Trace

_TIER_POLICIES = {"eviction": registry.EVICTION, "admission": registry.ADMISSION, "offload": registry.OFFLOAD}
_MOST_REPLICAS = 1 << 14


# --- what a scenario is ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ServingScenario:
    """One serving experiment, every reference checked.

    system: what `load_profile` takes; model: what `load_model` takes; gpu, kernels: what `load_gpu` and
    `load_calibration` take. options: with a preset's settings already in them.
    """

    name: str
    description: str
    file: str | None
    system: str
    profile_overrides: Mapping[str, Any]
    workload: Workload
    model: str
    gpu: str
    kernels: str
    options: ServingOptions
    cluster: Cluster
    slo: Slo
    preset: str | None
    monitor_every_ns: float | None  # None: as suits the duration
    seed: int
    compare: tuple[str, ...] = DEFAULT_COMPARE

    def plugins(self) -> Iterator[Plugin]:
        """Every policy of the tiers, whose needs the trace must meet."""
        for tier in self.options.tiers:
            for key, kind in _TIER_POLICIES.items():
                yield registry.load(kind, getattr(tier, key).name)

    def policy_digests(self) -> dict[str, str]:
        """The digest of the source of each policy, by kind and name."""
        options = self.options
        used = {(kind, getattr(tier, key).name) for tier in options.tiers for key, kind in _TIER_POLICIES.items()}
        used |= {(registry.SCHEDULING, options.scheduling.name), (registry.ALLOCATOR, options.allocator.name)}
        return dict(sorted((f"{kind.name}.{name}", registry.load(kind, name).digest) for kind, name in used))

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
            "serving": {
                **{key: own_name(getattr(self, key)) for key in ("model", "gpu", "kernels")},
                "preset": self.preset,
                "options": _plain(self.options, leave_out="tiers"),
                "tiers": {tier.name: _plain(tier, leave_out="name") for tier in self.options.tiers},
                "cluster": _plain(self.cluster),
                "slo": _plain(self.slo),
            },
            "monitor_every_ns": self.monitor_every_ns,
            "compare": list(self.compare),
            "seed": self.seed,
        }


def _plain(part: Any, leave_out: str = "") -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(part) if field.name != leave_out)
    values = {name: getattr(part, name) for name in names}
    return {
        name: plain_choice(value) if isinstance(value, Choice) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


# --- public functions ------------------------------------------------------------------------------------------------


def load_serving_scenario(
    name_or_path: str | Path, overrides: Mapping[str, object] | None = None, seed: int | None = None
) -> ServingScenario:
    """The serving scenario of a shipped name or of a YAML file.

    overrides: dotted keys such as {'serving.tiers.dram.capacity': '512 GiB', 'serving.options.max_num_seqs': 64}, and
    'overrides.tiers.dram.capacity' for a field of the profile; text that reads as a number is one. seed: instead of the
    file's own. Raises InputErrors that list everything wrong.
    """
    document = read_document(locate(name_or_path))
    wanted = {**_spelled_alike(document, overrides or {}), **({} if seed is None else {"seed": seed})}
    listed = list(_part(document, "tiers"))
    document, errors = overridden(document, wanted, _OVERRIDABLE)
    if not errors:
        _put_in_order(document, listed)
        scenario, errors = _scenario_of(document)
    raise_if_any(errors)
    return scenario


def check_serving_file(path: str | Path) -> list[InputError]:
    """Everything wrong with a serving scenario's file, what it refers to included; empty when nothing is."""
    try:
        return _scenario_of(read_document(Path(path)))[1]
    except InputError as error:
        return each(error)


def with_eviction(scenario: ServingScenario, choice: Choice | str, tier: str | None = None) -> ServingScenario:
    """The same scenario with this eviction policy in every tier of the KV cache, or in one. Raises InputError where
    unknown.
    """
    choice = parse_choice(choice) if isinstance(choice, str) else choice
    choice = checked_choice(choice, registry.EVICTION)
    names = [one.name for one in scenario.options.tiers]
    if tier is not None and tier not in names:
        raise InputError("unknown tier of the KV cache", file=scenario.file, value=tier, candidates=names)
    tiers = tuple(
        dataclasses.replace(one, eviction=choice) if tier in (None, one.name) else one for one in scenario.options.tiers
    )
    for one in tiers:
        consistency.check_policies(one)
    return dataclasses.replace(scenario, options=dataclasses.replace(scenario.options, tiers=tiers))


def load_calls(scenario: ServingScenario, variants: Iterable[ServingScenario] = ()) -> Trace:
    """The trace to serve: its first `requests` calls, times scaled, with `next_access` where a tier's policy needs it.

    variants: see `sim.scenario.load_workload`. Raises InputError for a trace without calls of a language model.
    """
    trace = load_workload(scenario, variants, by_call=True)
    if trace.calls is None:
        problem = f"trace {trace.name!r} has no calls of a language model"
        raise InputError(problem, file=scenario.file, field="workload", expected="such a trace, as mooncake's is")
    return trace


# --- schema ----------------------------------------------------------------------------------------------------------


def _capacity(value: object) -> int:
    found = units.parse_bytes(value)
    if found <= 0:
        raise InputError("bad capacity", value=value, expected="more than zero")
    return found


def _latency(value: object) -> float:
    found = units.parse_time(value)
    if found <= 0:
        raise InputError("not above zero:", value=value, expected="a time such as '200 ms'")
    return found


_Latency = Annotated[float, BeforeValidator(_latency)]


class _TierSpec(Strict):
    capacity: Annotated[int, BeforeValidator(_capacity)] | None = None
    eviction: Annotated[Any, choice_for(registry.EVICTION)] = None
    admission: Annotated[Any, choice_for(registry.ADMISSION)] = None
    offload: Annotated[Any, choice_for(registry.OFFLOAD)] = None
    evict_trigger: Annotated[float, BeforeValidator(within(0, 1, open_low=True))] | None = None
    evict_ratio: Annotated[float, BeforeValidator(within(0, 1, open_high=True))] | None = None


class _ClusterSpec(Strict):
    replicas: Annotated[int, BeforeValidator(whole_number(1, _MOST_REPLICAS))] = 1
    router: Annotated[str, BeforeValidator(one_of(ROUTERS))] = "round_robin"
    prefill: Annotated[int, BeforeValidator(whole_number(0, _MOST_REPLICAS))] = 0
    link: Name | None = None
    shared: tuple[Name, ...] = ()


class _SloSpec(Strict):
    ttft: _Latency | None = None
    tpot: _Latency | None = None


class _ServingSpec(Strict):
    model: Text
    gpu: Text | None = None
    kernels: Text | None = None
    preset: Annotated[str, BeforeValidator(lambda value: presets.preset(str(value)).name)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    tiers: dict[str, _TierSpec] = Field(default_factory=dict)
    cluster: _ClusterSpec = _ClusterSpec()
    slo: _SloSpec = _SloSpec()


class _ScenarioSpec(Strict):
    name: Name
    description: Text
    system: Text
    overrides: dict[str, Any] = Field(default_factory=dict)
    workload: WorkloadSpec
    serving: _ServingSpec
    monitor: MonitorSpec | None = None
    compare: Annotated[Any, BeforeValidator(eviction_labels)] = DEFAULT_COMPARE
    seed: Seed = 0


# --- from a document to a scenario -----------------------------------------------------------------------------------


def _scenario_of(document: Document) -> tuple[ServingScenario | None, list[InputError]]:
    """The scenario, or None with every fault; references are checked on whatever has the right shape."""
    spec, errors = validate(_ScenarioSpec, document)
    errors += name_errors(document)
    profile, profile_errors = profile_of(document)
    errors += profile_errors
    errors += workload_errors(document)
    errors += _closed_loop_errors(document)
    found = parts.find(document, profile)
    errors += list(found.errors)
    if profile is not None:
        errors += consistency.tier_errors(document, profile)
    settled, option_errors = _settled(document, profile, found)
    errors += option_errors
    if spec is None or errors:
        return None, errors
    options = ServingOptions(**settled.options, tiers=_tiers(spec.serving.tiers, profile, settled))
    cluster, slo = Cluster(**dict(spec.serving.cluster)), Slo(spec.serving.slo.ttft, spec.serving.slo.tpot)
    checked = consistency.Checked(document, profile, found, options, cluster, _written(settled, options))
    errors = [*_doubled(document, spec.serving.tiers, settled, options), *consistency.errors_of(checked)]
    if errors:
        return None, errors
    trace = spec.workload.trace
    return ServingScenario(
        name=spec.name,
        description=spec.description,
        file=str(document.file),
        system=beside(document, spec.system),
        profile_overrides=spec.overrides,
        workload=Workload(**{**dict(spec.workload), "trace": trace and trace_place(document, trace)}),
        model=beside(document, spec.serving.model),
        gpu=found.gpu_name,
        kernels=found.kernels_name,
        options=options,
        cluster=cluster,
        slo=slo,
        preset=spec.serving.preset,
        monitor_every_ns=spec.monitor.every if spec.monitor else None,
        seed=spec.seed,
        compare=tuple(spec.compare),
    ), []


def _closed_loop_errors(document: Document) -> list[InputError]:
    workload = document.data.get("workload")
    if not isinstance(workload, dict) or workload.get("clients") is None:
        return []
    expected = "no clients: calls arrive when the trace says"
    return [document.error("clients", ("workload", "clients"), value=workload["clients"], expected=expected)]


def _part(document: Document, key: str) -> dict[str, Any]:
    """A mapping of `serving`; an empty one where there is none."""
    serving = document.data.get("serving")
    part = serving.get(key) if isinstance(serving, dict) else None
    return part if isinstance(part, dict) else {}


def _chosen_preset(document: Document) -> presets.Preset | None:
    serving = document.data.get("serving")
    name = serving.get("preset") if isinstance(serving, dict) else None
    return presets.preset(name) if name in presets.names() else None


def _settled(
    document: Document, profile: Profile | None, found: parts.Parts
) -> tuple[presets.Settled, list[InputError]]:
    """What preset and options come to; each fault where it is said."""
    chosen = _chosen_preset(document)
    tiers = _tier_names(document, profile)
    facts = presets.Facts(
        kinds=tuple(_kind(profile, name) for name in tiers),
        layers=found.model.layers if found.model else 1,
        kv_bytes=lambda settled: consistency.kv_bytes(found.model, _first_bytes(document, profile, tiers), settled),
    )
    settled, faults = presets.settle(chosen, _part(document, "options"), facts)
    errors = [
        moved(document, error, ("serving", "preset") if said is None else ("serving", "options", said))
        for said, error in faults
    ]
    if chosen and len(tiers) < chosen.fewest_tiers and profile is not None:
        problem = f"preset {chosen.name!r} keeps the KV cache below the accelerator, too; 'tiers' has"
        errors.append(
            document.error(problem, ("serving", "preset"), value=list(tiers), expected=f"{chosen.fewest_tiers} tiers")
        )
    return settled, errors


def _tier_names(document: Document, profile: Profile | None) -> tuple[str, ...]:
    """As listed, or else the accelerator's own memory."""
    listed = _part(document, "tiers")
    if listed or profile is None:
        return tuple(listed)
    return (consistency.first_tier(profile),)


def _first_bytes(document: Document, profile: Profile | None, tiers: tuple[str, ...]) -> int | None:
    """Capacity of the first tier, as said or else of its device; None where there is no such tier."""
    if profile is None or not tiers or tiers[0] not in [tier.name for tier in profile.tiers]:
        return None
    said = _part(document, "tiers").get(tiers[0])
    capacity = said.get("capacity") if isinstance(said, dict) else None
    try:
        return profile.tier(tiers[0]).device.capacity_bytes if capacity is None else units.parse_bytes(capacity)
    except InputError:  # told where the tier is checked
        return None


def _kind(profile: Profile | None, name: str) -> str:
    return next((tier.device.kind for tier in profile.tiers if tier.name == name), "") if profile else ""


_KEY_OF = {"capacity_bytes": "capacity"}  # fields of KvTier: their keys in a file, where these differ
_FIELD_OF = {key: field for field, key in _KEY_OF.items()}


def _tiers(specs: Mapping[str, _TierSpec], profile: Profile, settled: presets.Settled) -> tuple[KvTier, ...]:
    made = []
    for level, name in enumerate(specs or [consistency.first_tier(profile)]):
        spec = specs.get(name, _TierSpec())
        said = {_FIELD_OF.get(key, key): value for key, value in spec if value is not None}
        preset = {place[2]: value for place, value in settled.values.items() if place[:2] == ("tiers", level)}
        made.append(KvTier(name, **{**preset, **said}))
    return tuple(made)


def _doubled(
    document: Document, specs: Mapping[str, _TierSpec], settled: presets.Settled, options: ServingOptions
) -> list[InputError]:
    """What a tier and an option of the preset's say differently."""
    errors = []
    for place, said in settled.said_by.items():
        if place[0] != "tiers" or said is None:
            continue
        tier = options.tiers[place[1]]
        key = _KEY_OF.get(place[2], place[2])
        own = getattr(specs.get(tier.name), key, None)
        if own is not None and own != settled.values[place]:
            at = ("serving", "options", said)
            problem = f"contradicts tiers.{tier.name}.{key}, which sets the same:"
            errors.append(document.error(problem, at, value=said, expected="one of the two"))
    return errors


def _written(settled: presets.Settled, options: ServingOptions) -> Callable[..., tuple[str, ...]]:
    """Where a field is said: the option that set it, or else its own place."""

    def place(*at: str | int) -> tuple[str, ...]:
        said = settled.said_by.get(at)
        if said is None and at[0] == "tiers":
            return ("serving", "tiers", options.tiers[at[1]].name, _KEY_OF.get(at[2], at[2]))
        return ("serving", "options", said or at[1])

    return place


# --- dotted overrides ------------------------------------------------------------------------------------------------

_PLAIN = ("system", "compare", "seed", "monitor.every")
_OF_SERVING = ("model", "gpu", "kernels", "preset")


def _places(document: Document) -> list[str]:
    """Every dotted path with a fixed name that may be overridden."""
    profile, _ = profile_of(document)
    tiers = [tier.name for tier in profile.tiers] if profile else list(_part(document, "tiers"))
    return [
        *_PLAIN,
        *(f"workload.{key}" for key in WorkloadSpec.model_fields if key not in ("options", "parameters")),
        *(f"serving.{key}" for key in _OF_SERVING),
        *(f"serving.options.{name}" for name in OPTIONS),
        *(f"serving.cluster.{key}" for key in _ClusterSpec.model_fields),
        *(f"serving.slo.{key}" for key in _SloSpec.model_fields),
        *(f"serving.tiers.{name}.{key}" for name in tiers for key in _TierSpec.model_fields),
    ]


def _spelled_alike(document: Document, overrides: Mapping[str, object]) -> dict[str, object]:
    """Overrides of options as the document spells them, so that none is said twice."""
    said = {presets.folded(f"serving.options.{name}"): f"serving.options.{name}" for name in _part(document, "options")}
    return {said.get(presets.folded(str(dotted)), str(dotted)): value for dotted, value in overrides.items()}


_OVERRIDABLE = Overridable(
    places=_places,
    open=(("overrides",), ("workload", "options"), ("workload", "parameters"), ("serving", "options")),
    policies={"eviction": "lru", "admission": "always", "offload": "write_through", **POLICY_OPTIONS},
    first={"system": (), **WORKLOAD_FIRST, "serving.preset": ()},
)


def _put_in_order(document: Document, listed: list[str]) -> None:
    """Tiers that overrides added stand where the system has them; the file's own keep their order."""
    profile, _ = profile_of(document)
    tiers = _part(document, "tiers")
    if profile is None or list(tiers) == listed:
        return
    order = [tier.name for tier in profile.tiers if tier.name in tiers]
    if [name for name in order if name in listed] != listed:
        return
    if not listed and consistency.first_tier(profile) not in tiers:
        order.insert(0, consistency.first_tier(profile))
    document.data["serving"]["tiers"] = {name: tiers.get(name, {}) for name in order}
