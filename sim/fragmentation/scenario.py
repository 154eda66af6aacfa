"""YAML -> one experiment with allocators: a stream of allocations, a capacity, an allocator.

A scenario file is one where it has the key `allocation`. Everything wrong with a file is reported at once, with file,
line, field and nearest name. `scenarios/README.md` lists the keys.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from sim import registry, units
from sim.choice import Choice
from sim.errors import InputError
from sim.overriding import Overridable, overridden, plain_choice
from sim.profile import load_device, validate
from sim.scenario_files import beside, each, locate, moved, name_errors, own_name, raise_if_any
from sim.scenario_schema import Name, Seed, Strict, Text, choice_for, choice_of, whole_number
from sim.yaml_document import Document, read_document

if TYPE_CHECKING:
    from sim.fragmentation.operations import Operations

DEFAULT_CAPACITY = "400%"
DEFAULT_LINK = "pcie4_x16"
DEFAULT_PER_COPY_NS = 2e3  # estimate: start of one asynchronous copy among many
DEFAULT_LOOKS = 256
DEFAULT_COMPARE = ("first_fit", "best_fit", "buddy", "slab", "paged")
_CAPACITY = 'a share of the peak of live bytes such as "110%", or bytes such as "40 GiB"'
_MOST_LOOKS = 4096


@dataclass(frozen=True)
class Link:
    """Over which objects are moved: its bandwidth, and what each copy costs beside its bytes' time."""

    name: str
    bandwidth_bytes_per_ns: float
    per_copy_ns: float

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class AllocationScenario:
    """One stream of allocations on one allocator, every reference checked.

    trace: a file, a name from the catalogue, or a source that generates; source, options: see
    `sim.fragmentation.loading.load_operations`. capacity: as a person writes it. link: a device of the kind of links.
    """

    name: str
    trace: str
    allocator: Choice
    source: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    capacity: str = DEFAULT_CAPACITY
    link: str = DEFAULT_LINK
    per_copy_ns: float = DEFAULT_PER_COPY_NS
    looks: int = DEFAULT_LOOKS
    seed: int = 0
    description: str = ""
    compare: tuple[str, ...] = DEFAULT_COMPARE

    def capacity_bytes(self, operations: Operations) -> int:
        """Raises InputError for a capacity that holds nothing."""
        return parse_capacity(self.capacity, operations.peak_live_bytes)

    def link_of(self) -> Link:
        """Raises InputError where there is no such link."""
        device = load_device(self.link)
        if not device.is_link:
            raise InputError("not a link:", field="link", value=self.link, expected="a device such as pcie4_x16")
        return Link(device.name, device.access().bandwidth_bytes_per_ns, self.per_copy_ns)

    def resolved(self) -> dict[str, Any]:
        """Plain data that says the same; of a file, only its own name, so that it is alike on every machine."""
        return {
            "name": self.name,
            "description": self.description,
            "allocation": {
                "trace": own_name(self.trace),
                "source": self.source,
                "options": {
                    key: own_name(value) if isinstance(value, str) else value for key, value in self.options.items()
                },
                "allocator": plain_choice(self.allocator),
                "capacity": self.capacity,
                "link": own_name(self.link),
                "per_copy_ns": self.per_copy_ns,
                "looks": self.looks,
            },
            "compare": list(self.compare),
            "seed": self.seed,
        }


def parse_capacity(text: str, peak_live_bytes: int) -> int:
    """'110%' of the peak of live bytes, '40 GiB', or a number of bytes. Raises InputError for anything else."""
    text = str(text).strip()
    if text.endswith("%"):
        number = text[:-1].strip()
        if not re.fullmatch(r"\d{1,9}(\.\d{0,9})?", number, re.ASCII):
            raise InputError("bad capacity", value=text, expected=_CAPACITY)
        capacity = math.ceil(Fraction(number.rstrip(".")) / 100 * peak_live_bytes)
    elif re.fullmatch(r"\d{1,18}", text, re.ASCII):
        capacity = int(text)
    elif re.fullmatch(r"[-+\d.]*", text, re.ASCII):
        raise InputError("bad capacity", value=text, expected=_CAPACITY)
    else:
        capacity = units.parse_bytes(text)
    if capacity < 1:
        raise InputError("capacity of nothing:", value=text, expected=_CAPACITY)
    return capacity


def load_scenario_operations(scenario: AllocationScenario) -> Operations:
    """The stream of the scenario. Raises InputError where it cannot be had, or has nothing in it."""
    from sim.fragmentation.loading import load_operations

    operations = load_operations(scenario.trace, scenario.source, dict(scenario.options))
    if not operations.count:
        raise InputError("no allocations in", value=scenario.trace, expected="a stream of at least one")
    return operations


def load_allocation_scenario(
    name_or_path: str | Path, overrides: Mapping[str, object] | None = None, seed: int | None = None
) -> AllocationScenario:
    """The scenario of a shipped name or of a YAML file.

    overrides: dotted keys such as {'allocation.capacity': '110%', 'allocation.allocator': 'buddy'}; seed: instead of
    the file's own. Raises InputErrors that list everything wrong.
    """
    document = read_document(locate(name_or_path))
    wanted = {**(overrides or {}), **({} if seed is None else {"seed": seed})}
    document, errors = overridden(document, wanted, _OVERRIDABLE)
    if not errors:
        scenario, errors = _scenario_of(document)
    raise_if_any(errors)
    return scenario


def check_allocation_file(path: str | Path) -> list[InputError]:
    """Everything wrong with such a scenario's file, what it refers to included; empty when nothing is."""
    try:
        return _scenario_of(read_document(Path(path)))[1]
    except InputError as error:
        return each(error)


# --- schema ----------------------------------------------------------------------------------------------------------


def _capacity_text(value: object) -> str:
    parse_capacity(str(value), 1 << 40)
    return str(value)


def _duration(value: object) -> float:
    found = units.parse_time(value)
    if found < 0:
        raise InputError("below zero:", value=value, expected="a time such as '2 us'")
    return found


def _labels(value: object) -> tuple[str, ...]:
    listed = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not listed:
        raise InputError("wrong shape", value=value, expected="a list of allocators")
    return tuple(choice_of(entry, registry.ALLOCATOR).label for entry in listed)


class _AllocationSpec(Strict):
    trace: Text
    source: Name | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    allocator: Annotated[Any, choice_for(registry.ALLOCATOR)] = Choice("best_fit")
    capacity: Annotated[str, BeforeValidator(_capacity_text)] = DEFAULT_CAPACITY
    link: Text = DEFAULT_LINK
    copy_overhead: Annotated[float, BeforeValidator(_duration)] = DEFAULT_PER_COPY_NS
    looks: Annotated[int, BeforeValidator(whole_number(1, _MOST_LOOKS))] = DEFAULT_LOOKS


class _ScenarioSpec(Strict):
    name: Name
    description: Text
    allocation: _AllocationSpec
    compare: Annotated[Any, BeforeValidator(_labels)] = DEFAULT_COMPARE
    seed: Seed = 0


# --- from a document to a scenario -----------------------------------------------------------------------------------


def _scenario_of(document: Document) -> tuple[AllocationScenario | None, list[InputError]]:
    spec, errors = validate(_ScenarioSpec, document)
    errors += name_errors(document)
    if spec is None or errors:
        return None, errors
    given = spec.allocation
    scenario = AllocationScenario(
        name=spec.name,
        description=spec.description,
        trace=_place(document, given.trace),
        source=given.source,
        options=given.options,
        allocator=given.allocator,
        capacity=given.capacity,
        link=beside(document, given.link),
        per_copy_ns=given.copy_overhead,
        looks=given.looks,
        seed=spec.seed,
        compare=tuple(spec.compare),
    )
    errors = _reference_errors(document, scenario)
    return (None, errors) if errors else (scenario, [])


def _place(document: Document, trace: str) -> str:
    """The path of a file, from where the document is; or else a name."""
    path = document.file.parent / trace
    return str(path) if path.is_file() else trace


def _reference_errors(document: Document, scenario: AllocationScenario) -> list[InputError]:
    from sim.fragmentation.loading import find_operations

    errors = []
    for key, check in (
        ("link", scenario.link_of),
        ("trace", functools.partial(find_operations, scenario.trace, scenario.source, dict(scenario.options))),
    ):
        try:
            check()
        except InputError as error:
            errors.append(error if error.file is not None else moved(document, error, ("allocation", key)))
    return errors


def _places(document: Document) -> list[str]:
    return [
        *(name for name in _ScenarioSpec.model_fields if name != "allocation"),
        *(f"allocation.{name}" for name in _AllocationSpec.model_fields),
    ]


_OVERRIDABLE = Overridable(
    places=_places,
    open=(("allocation", "options"),),
    policies={"allocator": "best_fit"},
    first={"allocation.trace": ("trace", "source", "options")},
)
