"""YAML -> frozen hardware profile: devices (one part a file) and systems (tiers, links, compute units).

A system names its devices and may override fields of them. Unless its `fidelity` is `detailed`, it times every device
by `fixed`, but for those whose `model` it overrides; a device alone has the model of its own file. Whatever is wrong
with the files is reported at once, each fault with its file, line, field and the nearest valid name. What comes out
holds plain numbers: nanoseconds, bytes, bytes per nanosecond, picojoules per bit, watts, US dollars.

The `fixed` timing model, which every device has whatever else its `model` offers, is this contract:

- latency is pipelined: it delays an access and holds nothing. Latencies along a path add up: device, links, switches,
  host port. What a link adds to an access counts request and response together.
- bandwidth is that of the whole part; each of its `channels` has an equal share. An access is striped over
  ceil(size / interleave) channels, at most all of them, and holds each for `occupancy` + its share of the bytes at
  the channel's bandwidth.
- data is cut through, so the slowest stage sets the pace. Unloaded, an access of `size` bytes takes the sum of the
  latencies, plus the device's occupancy, plus size / min(bandwidth of the channels it reaches, of each link).
- reads come up the links and writes go down them, each direction with its own latency and bandwidth.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

import hardware_profiles
from sim import registry, units
from sim.errors import InputError, InputErrors, nearest_name
from sim.remembering import remembered
from sim.yaml_document import Document, Location, read_document

FIXED, DETAILED = "fixed", "detailed"  # fidelity of a system
MEMORY_KINDS = ("sram", "sram3d", "hbm", "dram", "cxl", "ssd", "csd", "pim")
LINK_KINDS = ("pcie", "nvlink", "cxl_link", "c2c", "tsv", "switch", "network")
_KINDS = MEMORY_KINDS + LINK_KINDS
_GIB = 2**30
_LARGEST_COUNT = 2**20
_LARGEST_BYTES = 2**63 - 1  # engines keep sizes in 64-bit integers
_OVERRIDE_SOURCE = "override"


# --- what a profile is -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Access:
    """How one direction of a part behaves under the fixed model; the bandwidth is of all its channels together."""

    latency_ns: float
    bandwidth_bytes_per_ns: float
    occupancy_ns: float = 0.0


@dataclass(frozen=True)
class Device:
    """One part, or `count` identical ones as one. For a link, `read` is up (towards compute) and `write` is down.

    timing and geometry keep the part's own named details as plain numbers (ns, bytes, per-ns rates) or text; parameters
    are those of `model`, as its documentation has them; sources says, by field path, where each value is from.
    endurance_bytes: what may be written over its life, None where that is not rated.
    """

    name: str
    kind: str
    model: str
    description: str
    capacity_bytes: int | None
    channels: int
    interleave_bytes: int
    read: Access
    write: Access
    read_pj_per_bit: float
    write_pj_per_bit: float
    static_w: float
    usd_per_gib_hour: float | None
    usd_per_hour: float
    timing: dict[str, int | float | str] = field(default_factory=dict, hash=False)
    geometry: dict[str, int | float | str] = field(default_factory=dict, hash=False)
    parameters: dict[str, bool | int | float | str] = field(default_factory=dict, hash=False)
    count: int = 1
    sources: dict[str, str] = field(default_factory=dict, hash=False)
    endurance_bytes: int | None = None

    @property
    def is_link(self) -> bool:
        return self.kind in LINK_KINDS

    def access(self, write: bool = False) -> Access:
        return self.write if write else self.read

    def stripes(self, size_bytes: int) -> int:
        """How many channels an access of this size uses."""
        return max(1, min(self.channels, -(-size_bytes // self.interleave_bytes)))

    def bandwidth_for(self, size_bytes: int, write: bool = False) -> float:
        """Bytes per ns of the channels that an access of this size reaches."""
        return self.access(write).bandwidth_bytes_per_ns * self.stripes(size_bytes) / self.channels

    @property
    def each(self) -> Device:
        """One of the `count` parts."""
        if self.count == 1:
            return self
        slower = {
            side: dataclasses.replace(access, bandwidth_bytes_per_ns=access.bandwidth_bytes_per_ns / self.count)
            for side, access in (("read", self.read), ("write", self.write))
        }
        return dataclasses.replace(
            self,
            capacity_bytes=None if self.capacity_bytes is None else self.capacity_bytes // self.count,
            endurance_bytes=None if self.endurance_bytes is None else self.endurance_bytes // self.count,
            channels=self.channels // self.count,
            static_w=self.static_w / self.count,
            usd_per_hour=self.usd_per_hour / self.count,
            count=1,
            **slower,
        )

    def times(self, count: int) -> Device:
        """`count` of these side by side, as one part: more channels, bytes, watts and dollars, at the same latency."""
        if count == 1:
            return self
        faster = {
            side: dataclasses.replace(access, bandwidth_bytes_per_ns=access.bandwidth_bytes_per_ns * count)
            for side, access in (("read", self.read), ("write", self.write))
        }
        return dataclasses.replace(
            self,
            capacity_bytes=None if self.capacity_bytes is None else self.capacity_bytes * count,
            endurance_bytes=None if self.endurance_bytes is None else self.endurance_bytes * count,
            channels=self.channels * count,
            static_w=self.static_w * count,
            usd_per_hour=self.usd_per_hour * count,
            count=self.count * count,
            **faster,
        )


@dataclass(frozen=True)
class Tier:
    """One level of the hierarchy: its device (after override and count) and the links up to the compute unit."""

    name: str
    device: Device
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compute:
    """What issues requests. gpu: the accelerator of hardware_profiles/gpus that one unit is, which has its peaks;
    flops_per_ns: of one unit that is none of those.
    """

    name: str
    kind: str
    count: int = 1
    flops_per_ns: float | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class Profile:
    """One system, every reference resolved. `digest` changes exactly when something that a run can feel changes."""

    name: str
    description: str
    compute: tuple[Compute, ...]
    tiers: tuple[Tier, ...]
    links: dict[str, Device] = field(hash=False)
    digest: str
    file: str | None = field(default=None, compare=False)

    def tier(self, name: str) -> Tier:
        """Raises InputError where there is no such tier."""
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise InputError("unknown tier", file=self.file, value=name, candidates=[t.name for t in self.tiers])

    @property
    def gpu(self) -> str | None:
        """The accelerator of its first compute unit that names one."""
        return next((unit.gpu for unit in self.compute if unit.gpu is not None), None)

    def unloaded_ns(self, tier_name: str, size_bytes: int, write: bool = False) -> float:
        """Nanoseconds from issue to completion of one access to this tier while nothing else moves."""
        tier = self.tier(tier_name)
        access, links = tier.device.access(write), self._links_of(tier, write)
        latency = access.latency_ns + sum(link.latency_ns for link in links)
        slowest = min([tier.device.bandwidth_for(size_bytes, write), *(link.bandwidth_bytes_per_ns for link in links)])
        return latency + access.occupancy_ns + size_bytes / slowest

    def path_bandwidth(self, tier_name: str, write: bool = False) -> float:
        """Bytes per ns that this tier can exchange with the compute unit: the least along the path."""
        tier = self.tier(tier_name)
        stages = [tier.device.access(write), *self._links_of(tier, write)]
        return min(stage.bandwidth_bytes_per_ns for stage in stages)

    def _links_of(self, tier: Tier, write: bool) -> list[Access]:
        return [self.links[name].access(write) for name in tier.path]


# --- public functions ------------------------------------------------------------------------------------------------


@remembered
def load_profile(name_or_path: str | Path, overrides: Mapping[str, object] | None = None) -> Profile:
    """The system of a shipped name or of a YAML file, with dotted overrides such as {'tiers.dram.capacity': '64 GiB'}.

    Raises InputErrors that list everything wrong.
    """
    profile, errors = _read_system(_locate(name_or_path, "system"), overrides or {})
    _raise_if_any(errors)
    return profile


def load_device(name_or_path: str | Path) -> Device:
    """The device of a shipped name or of a YAML file. Raises InputErrors that list everything wrong."""
    document = read_document(_locate(name_or_path, "device"))
    device, errors = _read_device(document)
    _raise_if_any(errors)
    return device


def device_names() -> list[str]:
    """Shipped devices, sorted."""
    return _shipped("device")


def system_names() -> list[str]:
    """Shipped systems, sorted."""
    return _shipped("system")


def check_file(path: str | Path) -> list[InputError]:
    """Everything wrong with a device or system file (which of the two, its keys tell); empty when nothing is."""
    try:
        document = read_document(Path(path))
    except InputError as error:
        return [error]
    if {"tiers", "links", "compute"} & document.data.keys():
        return _system_of(document)[1]
    return _read_device(document)[1]


# --- schema ----------------------------------------------------------------------------------------------------------

T = TypeVar("T")


def _positive(value: T) -> T:
    if value <= 0:
        raise InputError("not above zero:", value=value, expected="more than zero")
    return value


def _some(entries: tuple[T, ...]) -> tuple[T, ...]:
    if not entries:
        raise InputError("empty list", expected="at least one entry")
    return entries


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError("not text:", value=value, expected="a few words")
    return " ".join(value.split())


def _source(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError("no source:", value=value, expected="where the value is from, in words")
    return " ".join(value.split())


def _name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", value):
        raise InputError("not a name:", value=value, expected="letters, digits, '_' and '-', a letter first")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _LARGEST_COUNT:
        raise InputError("not a count:", value=value, expected=f"a whole number from 1 to {_LARGEST_COUNT}")
    return value


def _fidelity(value: object) -> str:
    if value not in (FIXED, DETAILED):
        raise InputError("unknown fidelity", value=value, candidates=(FIXED, DETAILED))
    return value


def _model(value: object) -> str:
    known = sorted({"fixed", *registry.names(registry.DEVICE_MODEL)})
    if value not in known:
        raise InputError("unknown timing model", value=value, candidates=known)
    return value


def _kind(value: object) -> str:
    if value not in _KINDS:
        raise InputError("unknown kind", value=value, candidates=_KINDS)
    return value


def _gpu(value: object) -> str:
    if value not in _shipped("gpu"):
        raise InputError("unknown GPU", value=value, candidates=_shipped("gpu"))
    return value


def _detail(value: object) -> int | float | str:
    """A named detail of a part: a count, a plain number, a quantity (converted as its unit says) or a word."""
    if isinstance(value, str) and re.match(r"\s*[-+.$]?\d", value):
        return units.parse_any(value)
    if isinstance(value, str) and value.strip():
        return value
    finite = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    if not finite or value < 0:
        raise InputError("not a detail:", value=value, expected="a number from 0, a quantity with its unit, or a word")
    return value


def _parameter(value: object) -> object:
    """A parameter of the device's own model, which knows what it may be; with its source, if it tells one."""
    if isinstance(value, dict) and value.keys() == {"value", "source"} and not isinstance(value["value"], dict):
        return Sourced[Any](value=_parameter(value["value"]), source=_source(value["source"]))
    if not isinstance(value, bool | int | float | str) or value == "":
        expected = "a number, a word, true or false, or such a value with its source"
        raise InputError("not a parameter:", value=value, expected=expected)
    return value


Text = Annotated[str, BeforeValidator(_text)]
Source = Annotated[str, BeforeValidator(_source)]
Name = Annotated[str, BeforeValidator(_name)]
Count = Annotated[int, BeforeValidator(_count)]
Model = Annotated[str, BeforeValidator(_model)]
Fidelity = Annotated[str, BeforeValidator(_fidelity)]
Kind = Annotated[str, BeforeValidator(_kind)]
GpuName = Annotated[str, BeforeValidator(_gpu)]
Detail = Annotated[int | float | str, BeforeValidator(_detail)]
SomeBytes = Annotated[units.Bytes, AfterValidator(_positive)]
SomeBandwidth = Annotated[units.BytesPerNs, AfterValidator(_positive)]
SomeOperations = Annotated[units.OperationsPerNs, AfterValidator(_positive)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sourced(_Strict, Generic[T]):
    value: T
    source: Source


Parameter = Annotated[bool | int | float | str | Sourced[Any], BeforeValidator(_parameter)]


class _AccessSpec(_Strict):
    latency: Sourced[units.Nanoseconds]
    bandwidth: Sourced[SomeBandwidth]
    occupancy: Sourced[units.Nanoseconds] | None = None


class _DirectionSpec(_Strict):
    latency: Sourced[units.Nanoseconds]
    bandwidth: Sourced[SomeBandwidth]


class _MemoryEnergy(_Strict):
    read: Sourced[units.PicojoulesPerBit]
    write: Sourced[units.PicojoulesPerBit]
    static: Sourced[units.Watts]


class _LinkEnergy(_Strict):
    transfer: Sourced[units.PicojoulesPerBit]
    static: Sourced[units.Watts]


class _MemoryCost(_Strict):
    rate: Sourced[units.UsdPerGiBHour]


class _LinkCost(_Strict):
    hourly: Sourced[units.UsdPerHour]


class _PartSpec(_Strict):
    name: Name
    kind: Kind
    description: Text
    model: Model = "fixed"
    geometry: dict[str, Sourced[Detail]] = {}
    timing: dict[str, Sourced[Detail]] = {}
    parameters: dict[str, Parameter] = {}
    notes: Text | None = None


class _MemorySpec(_PartSpec):
    capacity: Sourced[SomeBytes]
    channels: Sourced[Count]
    interleave: Sourced[SomeBytes]
    read: _AccessSpec
    write: _AccessSpec
    energy: _MemoryEnergy
    cost: _MemoryCost | None = None
    endurance: Sourced[SomeBytes] | None = None


class _LinkSpec(_PartSpec):
    up: _DirectionSpec
    down: _DirectionSpec
    channels: Sourced[Count] | None = None
    energy: _LinkEnergy
    cost: _LinkCost | None = None


class _ComputeSpec(_Strict):
    name: Name
    kind: Name
    count: Count = 1
    flops: Sourced[SomeOperations] | None = None
    gpu: GpuName | None = None

    @model_validator(mode="after")
    def _one_place(self) -> _ComputeSpec:
        if self.gpu is not None and self.flops is not None:
            problem = f"'flops' beside 'gpu', whose own file has them: {self.gpu}"
            raise InputError(problem, expected="one of the two")
        return self


class _LinkUseSpec(_Strict):
    device: Text
    count: Count = 1
    override: dict[str, Any] = {}


class _TierSpec(_LinkUseSpec):
    name: Name
    path: tuple[Name, ...] = ()


class _SystemSpec(_Strict):
    name: Name
    description: Text
    fidelity: Fidelity = FIXED
    compute: Annotated[tuple[_ComputeSpec, ...], AfterValidator(_some)]
    links: dict[Name, _LinkUseSpec] = {}
    tiers: Annotated[tuple[_TierSpec, ...], AfterValidator(_some)]
    notes: Text | None = None


def validate(spec: type[BaseModel], document: Document) -> tuple[Any, list[InputError]]:
    """`document` as a `spec`, or None with every fault of it as an InputError that says where."""
    try:
        return spec.model_validate(document.data), []
    except ValidationError as error:
        return None, [_explained(fault, spec, document) for fault in error.errors(include_url=False)]


def _explained(fault: Mapping[str, Any], spec: type[BaseModel], document: Document) -> InputError:
    at = tuple(key for key in fault["loc"] if key != "[key]")
    parent = at[:-1]
    told = fault.get("ctx", {}).get("error")
    if isinstance(told, InputError):
        shown = {"value": told.value} if told.has_value else {}
        return document.error(told.problem, at, expected=told.expected, candidates=told.candidates, **shown)
    if fault["type"] == "missing":
        return document.error(f"missing key {at[-1]!r}", parent)
    if fault["type"] == "extra_forbidden":
        return document.error("unknown key", parent, key=at[-1], value=at[-1], candidates=_keys_at(spec, parent))
    if fault["type"] in ("model_type", "dict_type"):
        keys = ", ".join(_keys_at(spec, at))
        expected = f"a mapping with the keys {keys}" if keys else "a mapping"
        return document.error("wrong shape", at, value=fault["input"], expected=expected)
    if fault["type"] in ("tuple_type", "list_type"):
        return document.error("wrong shape", at, value=fault["input"], expected="a list")
    return document.error(fault["msg"], at, value=fault["input"])


def _keys_at(annotation: Any, at: Location) -> list[str]:
    """The keys that a mapping at this place of a schema may have; none where any may stand."""
    model = _inner(annotation)
    if not at:
        return list(model.model_fields) if _is_model(model) else []
    if _is_model(model):
        known = model.model_fields.get(str(at[0]))
        return _keys_at(known.annotation, at[1:]) if known else []
    arguments = get_args(model)
    return _keys_at(arguments[1 if get_origin(model) is dict else 0], at[1:]) if arguments else []


def _inner(annotation: Any) -> Any:
    """The type inside Annotated[...] and Optional[...]."""
    if hasattr(annotation, "__metadata__"):
        return _inner(get_args(annotation)[0])
    arguments = [a for a in get_args(annotation) if a is not type(None)]
    return _inner(arguments[0]) if type(None) in get_args(annotation) and len(arguments) == 1 else annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


# --- devices ---------------------------------------------------------------------------------------------------------


def _read_device(document: Document) -> tuple[Device | None, list[InputError]]:
    device, errors = _device_of(document)
    name = document.data.get("name")
    if isinstance(name, str) and name != document.file.stem:
        errors.append(document.error("name", ("name",), value=name, expected=f"the file's own, {document.file.stem!r}"))
    return device, errors


def _device_of(document: Document) -> tuple[Device | None, list[InputError]]:
    spec, errors = validate(_spec_for(document.data), document)
    return (None if errors else _device(spec)), errors


def _spec_for(data: Mapping[str, object]) -> type[_PartSpec]:
    """The schema this part should follow: its kind decides, and failing a valid one, the keys it has."""
    kind = data.get("kind")
    looks_like_link = kind in LINK_KINDS if kind in _KINDS else bool({"up", "down"} & data.keys())
    return _LinkSpec if looks_like_link else _MemorySpec


def _device(spec: _MemorySpec | _LinkSpec) -> Device:
    shared = {
        "name": spec.name,
        "kind": spec.kind,
        "model": spec.model,
        "description": spec.description,
        "channels": spec.channels.value if spec.channels else 1,
        "static_w": spec.energy.static.value,
        "timing": {key: detail.value for key, detail in spec.timing.items()},
        "geometry": {key: detail.value for key, detail in spec.geometry.items()},
        "parameters": {key: told.value if isinstance(told, Sourced) else told for key, told in spec.parameters.items()},
        "sources": dict(_sources(spec, "")),
    }
    if isinstance(spec, _LinkSpec):
        return Device(
            capacity_bytes=None,
            interleave_bytes=1,
            read=_access(spec.up),
            write=_access(spec.down),
            read_pj_per_bit=spec.energy.transfer.value,
            write_pj_per_bit=spec.energy.transfer.value,
            usd_per_gib_hour=None,
            usd_per_hour=spec.cost.hourly.value if spec.cost else 0.0,
            **shared,
        )
    rate = spec.cost.rate.value if spec.cost else None
    return Device(
        capacity_bytes=spec.capacity.value,
        interleave_bytes=spec.interleave.value,
        read=_access(spec.read),
        write=_access(spec.write),
        read_pj_per_bit=spec.energy.read.value,
        write_pj_per_bit=spec.energy.write.value,
        usd_per_gib_hour=rate,
        usd_per_hour=(rate or 0.0) * spec.capacity.value / _GIB,
        endurance_bytes=spec.endurance.value if spec.endurance else None,
        **shared,
    )


def _access(spec: _AccessSpec | _DirectionSpec) -> Access:
    occupancy = getattr(spec, "occupancy", None)
    return Access(spec.latency.value, spec.bandwidth.value, occupancy.value if occupancy else 0.0)


def _sources(node: object, at: str) -> Iterator[tuple[str, str]]:
    """Each sourced value under `node`: its dotted path and its source."""
    if isinstance(node, Sourced):
        yield at, node.source
        return
    children = node if isinstance(node, dict) else vars(node) if isinstance(node, BaseModel) else {}
    for key, child in children.items():
        yield from _sources(child, f"{at}.{key}" if at else key)


# --- systems ---------------------------------------------------------------------------------------------------------


_Entries = dict[Location, dict[str, Any]]


def _read_system(path: Path, overrides: Mapping[str, object]) -> tuple[Profile | None, list[InputError]]:
    document = read_document(path)
    profile, errors = _system_of(document)
    if errors or not overrides:
        return profile, errors
    document, errors = _overridden(document, overrides)
    return (None, errors) if errors else _system_of(document)


def _system_of(document: Document) -> tuple[Profile | None, list[InputError]]:
    """The profile, or None with every fault; what the schema cannot say is checked on whatever has the right shape."""
    parts = _Parts(document)
    spec, errors = validate(_SystemSpec, document)
    tiers, links = _entries(document, "tiers"), _entries(document, "links")
    errors += _repeated_names(document, "tiers", tiers)
    errors += _repeated_names(document, "compute", _entries(document, "compute"))
    errors += _path_errors(document, tiers, links)
    devices = {at: parts.resolve(at, use) for at, use in {**tiers, **links}.items()}
    errors += parts.errors
    if errors:
        return None, _distinct(errors)
    profile = Profile(
        name=spec.name,
        description=spec.description,
        compute=tuple(
            Compute(unit.name, unit.kind, unit.count, unit.flops.value if unit.flops else None, unit.gpu)
            for unit in spec.compute
        ),
        tiers=tuple(
            Tier(tier.name, devices["tiers", i].times(tier.count), tier.path) for i, tier in enumerate(spec.tiers)
        ),
        links={name: devices["links", name].times(link.count) for name, link in spec.links.items()},
        digest="",
        file=str(document.file),
    )
    return dataclasses.replace(profile, digest=_digest(profile)), []


def _entries(document: Document, section: str) -> _Entries:
    """The entries of a section that are mappings, by place; none where the section has the wrong shape."""
    raw = document.data.get(section)
    pairs = enumerate(raw) if isinstance(raw, list) else raw.items() if isinstance(raw, dict) else ()
    wanted = dict if section == "links" else list
    return {(section, key): use for key, use in pairs if isinstance(use, dict)} if isinstance(raw, wanted) else {}


def _repeated_names(document: Document, section: str, entries: _Entries) -> list[InputError]:
    errors, seen = [], set()
    for at, entry in entries.items():
        name = entry.get("name")
        if isinstance(name, str) and name in seen:
            errors.append(document.error(f"a second entry of {section} named", (*at, "name"), value=name))
        seen.add(name if isinstance(name, str) else None)
    return errors


def _path_errors(document: Document, tiers: _Entries, links: _Entries) -> list[InputError]:
    """Links must exist and form a tree with the compute unit as its root: each is always followed by the same."""
    declared = [str(name) for _, name in links]
    errors, followers = [], {}
    for at, tier in tiers.items():
        path = tier.get("path", [])
        if not isinstance(path, list) or not all(isinstance(name, str) for name in path):
            continue
        for i, name in enumerate(path):
            here = (*at, "path", i)
            if name not in declared:
                hint = {"candidates": declared} if declared else {"expected": "a name declared under links"}
                errors.append(document.error("unknown link", here, value=name, **hint))
            after = tuple(path[i + 1 :])
            if name in after:
                errors.append(document.error("a path that meets itself at link", here, value=name))
            elif followers.setdefault(name, after) != after:
                errors.append(
                    document.error(
                        f"link {name!r} leads to {_route(after)} here and to {_route(followers[name])} elsewhere",
                        here,
                        expected="links that form a tree towards the compute unit",
                    )
                )
    return errors


def _route(path: tuple[str, ...]) -> str:
    return " then ".join(map(repr, path)) or "the compute unit"


class _Parts:
    """Reads the device files that a system refers to, each once, and collects what is wrong with them."""

    def __init__(self, system: Document):
        self.system, self.errors, self._read = system, [], {}

    def resolve(self, at: Location, use: Mapping[str, Any]) -> Device | None:
        """The device of one tier or link, overridden; None, its faults noted, where there is none."""
        base = self.document(at, use)
        if base is None:
            return None
        wanted = LINK_KINDS if at[0] == "links" else MEMORY_KINDS
        kind = base.data.get("kind")
        if kind not in wanted:
            expected = f"a {'link' if at[0] == 'links' else 'memory'} device: {', '.join(wanted)}"
            self._note(f"device of kind {kind!r}", (*at, "device"), value=use["device"], expected=expected)
            return None
        patch = use.get("override", {})
        if not isinstance(patch, dict):
            return None
        for key in ("name", "kind"):
            if key in patch:
                self._note(f"{key!r} cannot be overridden", (*at, "override", key))
        if self.system.data.get("fidelity", FIXED) == FIXED:
            patch = {"model": "fixed", **patch}
        # The device alone is valid, so whatever is wrong now is wrong in the override.
        device, errors = _device_of(self.system.part((*at, "override"), _merged(base.data, patch)))
        self.errors += errors
        count = use.get("count", 1)
        if (
            device
            and device.capacity_bytes
            and isinstance(count, int)
            and device.capacity_bytes * count > _LARGEST_BYTES
        ):
            self._note("too large a capacity in all:", (*at, "count"), value=count, expected="less than 8 EiB")
        return device

    def document(self, at: Location, use: Mapping[str, Any]) -> Document | None:
        """The device file that a tier or link names; None, its faults noted, where there is no valid one."""
        reference = use.get("device")
        if not isinstance(reference, str) or not reference.strip():
            return None
        if reference not in self._read:
            self._read[reference] = self._find(at, reference)
        return self._read[reference]

    def _find(self, at: Location, reference: str) -> Document | None:
        try:
            document = read_document(_locate(reference, "device", self.system.file.parent))
        except InputError as error:
            if error.file is not None:  # the file is there; it tells its own faults better than this one could
                self.errors.append(error)
            else:
                hint = {"value": error.value, "candidates": error.candidates}
                self._note(error.problem, (*at, "device"), expected=error.expected, **hint)
            return None
        errors = _read_device(document)[1]
        self.errors += errors
        return None if errors else document

    def _note(self, problem: str, at: Location, **details: object) -> None:
        self.errors.append(self.system.error(problem, at, **details))


def _merged(base: Any, patch: Any) -> Any:
    """`base` with `patch` over it; a value with its source is replaced whole, so that none keeps the old source."""
    if not (isinstance(base, dict) and isinstance(patch, dict)) or "value" in base:
        return patch
    return {**base, **{key: _merged(base.get(key), value) for key, value in patch.items()}}


def _digest(profile: Profile) -> str:
    """Of everything that a run can feel; words (descriptions, sources) and the file's place are left out."""
    content = dataclasses.asdict(profile)
    for key in ("file", "digest", "description"):
        del content[key]
    for device in [*(tier["device"] for tier in content["tiers"]), *content["links"].values()]:
        del device["description"], device["sources"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _distinct(errors: Iterable[InputError]) -> list[InputError]:
    return list({str(error): error for error in errors}.values())


# --- dotted overrides ------------------------------------------------------------------------------------------------


def _overridden(document: Document, overrides: Mapping[str, object]) -> tuple[Document, list[InputError]]:
    """A valid system with each dotted override written where its file could have said the same; and the faults."""
    places = _places(document)
    document = dataclasses.replace(document, data=copy.deepcopy(document.data), said_as={})
    errors = []
    for dotted, value in overrides.items():
        if dotted not in places:
            near = nearest_name(str(dotted), places)
            hint = {"candidates": [near]} if near else {"expected": f"a path such as {min(places)!r}"}
            errors.append(InputError("unknown field to override", value=dotted, **hint))
            continue
        at, sourced = places[dotted]
        told = isinstance(value, Mapping) and "value" in value
        _put(document.data, at, {"value": value, "source": _OVERRIDE_SOURCE} if sourced and not told else value)
        document.said_as[at] = dotted
    return document, errors


def _put(data: Any, at: Location, value: object) -> None:
    *parents, last = at
    for key in parents:
        data = data[key] if isinstance(data, list) else data.setdefault(key, {})
    data[last] = value


def _places(document: Document) -> dict[str, tuple[Location, bool]]:
    """Every dotted path that may be overridden: where it lands in the document, and whether a source goes with it."""
    parts = _Parts(document)
    found: dict[str, tuple[Location, bool]] = {"fidelity": (("fidelity",), False)}
    for at, use in {**_entries(document, "tiers"), **_entries(document, "links")}.items():
        name = f"tiers.{use['name']}" if at[0] == "tiers" else f"links.{at[1]}"
        plain = ("device", "count", "path") if at[0] == "tiers" else ("device", "count")
        found |= {f"{name}.{key}": ((*at, key), False) for key in plain}
        part = _merged(parts.document(at, use).data, use.get("override", {}))
        for leaf, sourced in _leaves(_spec_for(part), part):
            found[f"{name}.{'.'.join(leaf)}"] = ((*at, "override", *leaf), sourced)
    for at, unit in _entries(document, "compute").items():
        found |= {f"compute.{unit['name']}.{key}": ((*at, key), False) for key in ("count", "gpu")}
        found[f"compute.{unit['name']}.flops"] = ((*at, "flops"), True)
    return found


def _leaves(spec: type[BaseModel], data: Any) -> Iterator[tuple[tuple[str, ...], bool]]:
    """The fields of a device that may be overridden, and whether each holds a value with its source."""
    data = data if isinstance(data, dict) else {}
    for key, known in spec.model_fields.items():
        kind = _inner(known.annotation)
        if get_origin(kind) is dict:
            yield from (((key, detail), key != "parameters") for detail in data.get(key) or {})
        elif _is_model(kind) and issubclass(kind, Sourced):
            yield (key,), True
        elif _is_model(kind):
            yield from (((key, *leaf), sourced) for leaf, sourced in _leaves(kind, data.get(key)))
        elif key == "model":
            yield (key,), False


# --- where files are -------------------------------------------------------------------------------------------------


def _locate(name_or_path: str | Path, what: str, beside: Path | None = None) -> Path:
    """The file of a shipped name, or the path itself where it looks like one. Raises InputError on an unknown name."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith((".yaml", ".yml")):
        return (beside or Path()) / name_or_path
    if text in _shipped(what):
        return _folder(what) / f"{text}.yaml"
    raise InputError(f"unknown {what}", value=text, candidates=_shipped(what))


def _folder(what: str) -> Path:
    return Path(hardware_profiles.__file__).parent / f"{what}s"


@functools.cache
def _shipped_files(what: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _folder(what).glob("*.yaml")))


def _shipped(what: str) -> list[str]:
    return list(_shipped_files(what))


def _raise_if_any(errors: list[InputError]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise InputErrors(errors)
