"""Finds what can be plugged in: the project's own files, and other packages' entry points.

A built-in is one module of a known package, named as the thing it offers (`policies/eviction/lru.py` is `lru`) and
holding it under a fixed attribute. A name that is no Python identifier stands in the package's NAMES, by module. A
third party's package offers the same kind of object by an entry point, named as the object, in the group of its kind;
the five kinds of policy share a group, and the object's class says which kind it is. A built-in is not imported before
it is asked for, and a name can be taken only once.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

from sim.errors import InputError


@dataclass(frozen=True)
class Kind:
    """A family of pluggable things: what it is called, where the built-ins are, and how a module holds its own."""

    name: str
    noun: str
    package: str
    attribute: str
    group: str


_POLICIES = "memhier.policies"
EVICTION = Kind("eviction", "eviction policy", "policies.eviction", "POLICY", _POLICIES)
ADMISSION = Kind("admission", "admission policy", "policies.admission", "POLICY", _POLICIES)
PREFETCH = Kind("prefetch", "prefetch policy", "policies.prefetch", "POLICY", _POLICIES)
OFFLOAD = Kind("offload", "offload policy", "policies.offload", "POLICY", _POLICIES)
SCHEDULING = Kind("scheduling", "scheduling policy", "policies.scheduling", "POLICY", _POLICIES)
ALLOCATOR = Kind("allocator", "allocator", "sim.allocation", "ALLOCATOR", "memhier.allocators")
DEVICE_MODEL = Kind("device_model", "device model", "sim.devices", "MODEL", "memhier.devices")
READER = Kind("reader", "trace reader", "workloads.readers", "READER", "memhier.readers")
ALLOCATION_SOURCE = Kind(
    "allocation_source", "source of allocations", "workloads.allocations", "SOURCE", "memhier.allocation_sources"
)
GENERATOR = Kind("generator", "trace generator", "workloads.generators", "GENERATOR", "memhier.generators")
POLICIES = (EVICTION, ADMISSION, PREFETCH, OFFLOAD, SCHEDULING)
KINDS = (*POLICIES, ALLOCATOR, DEVICE_MODEL, READER, GENERATOR, ALLOCATION_SOURCE)


def names(kind: Kind) -> list[str]:
    """Every name of this kind, sorted. Imports no built-in, and third parties' only to learn which kind they are.

    Raises InputError where two packages claim one name; warns of a package that cannot be imported, and leaves it out.
    """
    found = dict.fromkeys(_builtins(kind))
    for name, entry in _entries(kind.group).items():
        if _kind_or_none(entry) == kind:
            _refuse_second(kind, entry)
            found[name] = None
    return sorted(found)


def load(kind: Kind, name: str):
    """The object called `name`. Raises InputError, naming the nearest, where there is none."""
    entry = _entries(kind.group).get(name)
    if name in _builtins(kind):
        if entry is not None and _kind_or_none(entry) == kind:
            _refuse_second(kind, entry)
        module = _builtins(kind)[name]
        return getattr(importlib.import_module(f"{kind.package}.{module}"), kind.attribute)
    if entry is None:
        raise InputError(f"unknown {kind.noun}", value=name, candidates=names(kind))
    found, its_kind = _imported(entry)
    if its_kind != kind:
        raise InputError(f"{name!r} of {_owner(entry)} is of the kind {its_kind.name!r}, no {kind.noun}")
    return found


def is_third_party(kind: Kind, name: str) -> bool:
    """Whether another package offers `name`."""
    return name not in _builtins(kind)


@cache
def _builtins(kind: Kind) -> dict[str, str]:
    """The module of each name."""
    package = importlib.import_module(kind.package)
    modules = (m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))
    spelled = getattr(package, "NAMES", {})
    return {spelled.get(module, module): module for module in modules}


@cache
def _all_entries() -> EntryPoints:
    """Of every package here, which are read but once."""
    return entry_points()


@cache
def _entries(group: str) -> dict[str, EntryPoint]:
    """Third parties' entry points of a group by name, none of them imported."""
    found: dict[str, EntryPoint] = {}
    for entry in _all_entries().select(group=group):
        first = found.setdefault(entry.name, entry)
        if first.value != entry.value:
            raise InputError(f"{entry.name!r} of {group} is offered by both {_owner(first)} and {_owner(entry)}")
    return found


def _refuse_second(kind: Kind, entry: EntryPoint) -> None:
    if entry.name in _builtins(kind):
        raise InputError(f"{kind.noun} {entry.name!r} is built in; {_owner(entry)} must give its own another name")


@cache
def _imported(entry: EntryPoint) -> tuple[Any, Kind]:
    """What the entry point offers, and of which kind it is. Raises InputError, saying whose it is."""
    try:
        found = entry.load()
    except Exception as error:  # a third party's import may fail in any way
        why = " ".join(str(error).split())
        problem = f"{entry.name!r} of {_owner(entry)} could not be imported: {type(error).__name__}: {why}"
        raise InputError(problem) from error
    if entry.group == EVICTION.group and isinstance(found, type):
        from sim.plain_policy import plain_policy

        found = plain_policy(found)
    kinds = list(_kinds_of(entry.group, found))
    if not kinds:
        wanted = " or ".join(_class_names(entry.group))
        problem = f"{entry.name!r} of {_owner(entry)} is no object for {entry.group}: a {type(found).__name__}"
        raise InputError(problem, expected=f"an instance of {wanted}")
    if found.name != entry.name:
        problem = f"{entry.name!r} of {_owner(entry)} calls itself {found.name!r}"
        raise InputError(problem, expected="one name for the entry point and the object")
    return found, kinds[0]


_CLASSES = {
    EVICTION: ("EvictionPolicy",),
    ADMISSION: ("AdmissionPolicy",),
    PREFETCH: ("PrefetchPolicy",),
    OFFLOAD: ("OffloadPolicy",),
    SCHEDULING: ("SchedulingPolicy",),
    ALLOCATOR: ("Allocator",),
    DEVICE_MODEL: ("DeviceModel", "EventModel"),
    READER: ("Reader",),
    GENERATOR: ("Generator",),
    ALLOCATION_SOURCE: ("AllocationSource",),
}


def _kinds_of(group: str, found: Any) -> Iterator[Kind]:
    """The kind, by class: of a subclass, too, without importing here the modules in which the classes are."""
    ancestors = {ancestor.__name__ for ancestor in type(found).__mro__ if ancestor.__module__.startswith("sim.")}
    return (kind for kind in KINDS if kind.group == group and not ancestors.isdisjoint(_CLASSES[kind]))


def _class_names(group: str) -> list[str]:
    return [f"sim.{name}" for kind in KINDS if kind.group == group for name in _CLASSES[kind]]


@cache
def _kind_or_none(entry: EntryPoint) -> Kind | None:
    """The kind of an entry point; None, with a warning, for one that cannot be used."""
    try:
        return _imported(entry)[1]
    except InputError as error:
        warnings.warn(str(error), stacklevel=2)
        return None


def _owner(entry: EntryPoint) -> str:
    return f"package {entry.dist.name!r}" if entry.dist else f"module {entry.module!r}"
