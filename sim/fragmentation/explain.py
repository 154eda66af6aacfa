"""Why an allocation was refused: the holes then, the objects that pin them, and what would have avoided it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim import registry
from sim.choice import Choice, parse_choice
from sim.errors import InputError
from sim.fragmentation import places
from sim.fragmentation.operations import OPERATION_NAMES, Operations
from sim.fragmentation.replay import Player
from sim.fragmentation.results import AllocationResult
from sim.fragmentation.running import player_of
from sim.fragmentation.scenario import AllocationScenario, load_scenario_operations

_MOST_TOLD = 8  # holes and pins
_CLOSE_ENOUGH = 0.01  # of the least capacity, relative
_MOST_TIMES = 64  # as much capacity is tried


@dataclass(frozen=True)
class Hole:
    """A run of free addresses, and what it lies between."""

    address: int
    size_bytes: int
    below: str
    above: str


@dataclass(frozen=True)
class Pin:
    """Objects side by side that keep two holes apart: with them gone, `freed_bytes` would be in one piece.

    oldest: one of them, and its age; operations_left: until the last of them is released, None where one never is.
    """

    address: int
    objects: int
    size_bytes: int
    freed_bytes: int
    oldest: str
    age_operations: int
    operations_left: int | None


@dataclass(frozen=True)
class Moment:
    """The memory at one operation. asked_bytes, asked_for: by that operation, where it was refused; else 0 and ''."""

    operation: int
    refused: bool
    what: str
    asked_bytes: int
    asked_for: str
    live_bytes: int
    free_bytes: int
    largest_free_bytes: int
    holes: tuple[Hole, ...]  # the largest first
    holes_in_all: int
    pins: tuple[Pin, ...]  # first those that would make room for what was asked, fewest bytes first


@dataclass(frozen=True)
class Way:
    """Another allocator, parameter or capacity. first_refused: the first operation that it refuses; None: none."""

    label: str
    first_refused: int | None


def rebuilt(result: AllocationResult, trace: str | None = None) -> tuple[AllocationScenario, Operations]:
    """The scenario of a result, and its stream again. trace: where the file is, which a result does not say, or that of
    the source's option `trace`, where it has one.

    Raises InputError where it cannot be had, or is another one.
    """
    plain = result.manifest["scenario"]
    given: Mapping[str, Any] = plain["allocation"]
    parameters = {key: value for key, value in given["allocator"].items() if key != "policy"}
    of_source = {"trace": trace} if trace and "trace" in given["options"] else {}
    scenario = AllocationScenario(
        name=plain["name"],
        trace=given["trace"] if of_source else trace or given["trace"],
        allocator=Choice(given["allocator"]["policy"], parameters),
        source=given["source"],
        options={**given["options"], **of_source},
        capacity=str(result.manifest["capacity_bytes"]),
        link=given["link"],
        per_copy_ns=given["per_copy_ns"],
        looks=given["looks"],
        seed=plain["seed"],
        compare=tuple(plain["compare"]),
    )
    operations = load_scenario_operations(scenario)
    if operations.digest != result.manifest["trace"]["digest"]:
        problem = f"the stream {scenario.trace!r} is not the one of these results"
        raise InputError(problem, file=result.folder, expected="the same (--trace FILE says where it is)")
    return scenario, operations


def moment(scenario: AllocationScenario, operations: Operations) -> Moment:
    """The memory at the first refused operation; where none is, when most bytes are live."""
    player = player_of(scenario, operations, scenario.allocator)
    row = player.advance(0, operations.count, until_failure=True)
    refused = player.refused > 0
    if not refused:
        player = player_of(scenario, operations, scenario.allocator)
        row = player.advance(0, int(operations.live_bytes.argmax()) + 1)
    told, _, _ = player.look()
    at = max(0, row - 1)
    number = int(operations.object[at])
    ordered = places.in_order(player.runs())
    holes = places.holes_of(ordered, player.capacity_bytes) if player.allocator.names_places else None
    asked_bytes = int(operations.size_bytes[at]) if refused else 0
    return Moment(
        operation=at,
        refused=refused,
        what=OPERATION_NAMES[operations.op[at]],
        asked_bytes=asked_bytes,
        asked_for=operations.label(number) if refused else "",
        live_bytes=player.live_bytes,
        free_bytes=told["free_bytes"],
        largest_free_bytes=told["largest_free_bytes"],
        holes=tuple(_largest_holes(operations, holes)) if holes else (),
        holes_in_all=holes.size_bytes.size if holes else 0,
        pins=tuple(_pins(operations, ordered, holes, at, asked_bytes)) if holes else (),
    )


def _largest_holes(operations: Operations, holes: places.Holes) -> Iterator[Hole]:
    for at in np.argsort(-holes.size_bytes, kind="stable")[:_MOST_TOLD]:
        below, above = int(holes.below[at]), int(holes.above[at])
        names = (
            "the start" if below < 0 else operations.label(below),
            "the end" if above < 0 else operations.label(above),
        )
        yield Hole(int(holes.address[at]), int(holes.size_bytes[at]), *names)


def _pins(
    operations: Operations, ordered: np.ndarray, holes: places.Holes, row: int, asked_bytes: int
) -> Iterator[Pin]:
    """What lies between each hole and the next."""
    starts, stops = holes.address + holes.size_bytes, holes.address
    first = np.searchsorted(ordered[:, places.ADDRESS], starts[:-1])
    last = np.searchsorted(ordered[:, places.ADDRESS], stops[1:])
    between = stops[1:] - starts[:-1]
    freed = holes.size_bytes[:-1] + between + holes.size_bytes[1:]
    enough = freed >= max(1, asked_bytes)
    for at in np.lexsort((-freed, np.where(enough, between, 0), ~enough))[:_MOST_TOLD]:
        numbers = np.unique(ordered[first[at] : last[at], places.OBJECT])
        born, dies = operations.objects.born[numbers], operations.objects.dies[numbers]
        oldest, latest = int(born.argmin()), int(dies.max())
        yield Pin(
            address=int(starts[at]),
            objects=numbers.size,
            size_bytes=int(between[at]),
            freed_bytes=int(freed[at]),
            oldest=operations.label(int(numbers[oldest])),
            age_operations=row - int(born[oldest]),
            operations_left=latest - row if latest < operations.count else None,
        )


# --- what would have avoided it --------------------------------------------------------------------------------------


def ways_out(scenario: AllocationScenario, operations: Operations) -> list[Way]:
    """The other allocators that the scenario compares, and this one with each of its parameters changed, in the same
    capacity; those that get furthest first.
    """
    choices = {
        choice.label: choice for choice in (*map(parse_choice, scenario.compare), *_variants(scenario.allocator))
    }
    choices.pop(scenario.allocator.label, None)
    ways = []
    for label, choice in choices.items():
        try:
            ways.append(Way(label, _first_refused(player_of(scenario, operations, choice))))
        except InputError:  # a parameter that this capacity does not allow, or what is not known of these objects
            continue
    return sorted(ways, key=lambda way: (way.first_refused is not None, -(way.first_refused or 0), way.label))


def _first_refused(player: Player) -> int | None:
    row = player.advance(0, player.operations.count, until_failure=True)
    return row - 1 if player.refused else None


def _variants(choice: Choice) -> Iterator[Choice]:
    """Each parameter alone changed: a number halved and doubled, a switch turned; times decide nothing of places."""
    own = registry.load(registry.ALLOCATOR, choice.name).resolve(choice.parameters)
    for name, value in own.items():
        if name.endswith(("_ns", "_us")):
            continue
        if isinstance(value, bool):
            others: tuple = (not value,)
        elif isinstance(value, int | float) and value:
            others = (value // 2 if isinstance(value, int) else value / 2, value * 2)
        else:
            others = ()
        for other in others:
            yield Choice(choice.name, {**choice.parameters, name: other})


def least_capacity_bytes(scenario: AllocationScenario, operations: Operations) -> int | None:
    """The least capacity, to 1 %, with which the scenario's allocator refuses nothing; None where 64 times as much as
    is live at most is too little. Found by halving, which takes for granted that more memory never refuses more.
    """

    def suffices(capacity_bytes: int) -> bool:
        tried = replace(scenario, capacity=str(capacity_bytes))
        return _first_refused(player_of(tried, operations, scenario.allocator)) is None

    low, high = operations.peak_live_bytes, operations.peak_live_bytes
    while not suffices(high):
        low, high = high, 2 * high
        if high > _MOST_TIMES * operations.peak_live_bytes:
            return None
    while high - low > _CLOSE_ENOUGH * high:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high
