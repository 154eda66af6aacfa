"""From a sweep to its points: each combination that the constraints allow, loaded and so checked, by each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sim import scenario_kind
from sim.errors import InputError, InputErrors
from sim.remembering import files_stay
from sim.result_set import label_of, short_names
from sim.scenario_files import each, raise_if_any
from sim.scenario_kind import ScenarioKind
from sim.sweep.constraints import Constraint
from sim.sweep.sampling import Combination, combinations
from sim.sweep.spec import SEED, Sweep
from sim.yaml_document import Document, Location

_MOST_ERRORS = 20
_LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Point:
    """One run. name: its own in the sweep; values: of the fields that vary; scenario: with these and the seed."""

    name: str
    values: Mapping[str, Any]
    seed: int
    kind: ScenarioKind
    scenario: Any
    label: str

    def plain(self) -> dict[str, Any]:
        """As a sweep's manifest lists it."""
        return {"name": self.name, "values": dict(self.values), "seed": self.seed, "scenario": self.kind.name}


@dataclass(frozen=True)
class Plan:
    """A sweep's points in order. combinations: of values; removed: how many more the constraints do not allow."""

    sweep: Sweep
    kind: ScenarioKind
    points: tuple[Point, ...]
    combinations: int
    removed: int

    @property
    def seeds(self) -> int:
        """How many runs each combination has."""
        return len(self.points) // self.combinations


def plan_of(sweep: Sweep) -> Plan:
    """Every point, loaded. Raises InputErrors with what is wrong with any of them, each fault once."""
    with files_stay():
        kind = kind_of_scenario(sweep.scenario, sweep.document)
        wanted = combinations(sweep.fields, sweep.sample)
        allowed = [values for values in wanted if allows(sweep.where, {**sweep.set, **values}, sweep.document)]
        if not allowed:
            at = ("where",)
            raise sweep.document.error("the constraints allow none of the combinations:", at, value=len(wanted))
        scenarios = loaded(kind, sweep.scenario, sweep.set, allowed, sweep.document)
    points = _points(sweep, kind, allowed, scenarios)
    _check_metrics(sweep, kind)
    return Plan(sweep, kind, points, len(allowed), len(wanted) - len(allowed))


def loaded(
    kind: ScenarioKind, scenario: str, fixed: Mapping[str, Any], values: Sequence[Combination], document: Document
) -> list[Any]:
    """The scenario at each combination of values. Raises InputErrors with what is wrong with any of them, each fault
    once, where the document says it.
    """
    found, errors = [], {}
    for one in values:
        try:
            found.append(kind.load(scenario, {**fixed, **one}))
        except InputError as error:
            for fault in each(error):
                told = placed(document, fault, fixed, one)
                errors.setdefault(str(told), told)
            if len(errors) >= _MOST_ERRORS:
                break
    raise_if_any(list(errors.values()))
    return found


def placed(document: Document, error: InputError, fixed: Mapping[str, Any], values: Combination) -> InputError:
    """A fault of an override as one of the place where the document says that; another fault as it is."""
    if error.file is not None:
        return error
    for section, said in (("fields", values), ("set", fixed)):
        for name in said:
            inner = name.removeprefix("overrides.")  # as a profile calls its fields
            if error.field in (name, inner):
                return _at(document, error, _place_of(document, (section, name), said[name]), said[name])
            if error.has_value and error.value in (name, inner):
                return _at(document, error, (section, name), name)
    return error


def _place_of(document: Document, at: Location, value: object) -> Location:
    """Of a value, its own in the list of the field's values."""
    node = document.data.get(at[0], {}).get(at[1])
    return (*at, node.index(value)) if isinstance(node, list) and value in node else at


def _at(document: Document, error: InputError, at: Location, otherwise: object) -> InputError:
    value = error.value if error.has_value else otherwise
    return document.error(error.problem, at, value=value, expected=error.expected, candidates=error.candidates)


def kind_of_scenario(scenario: str, document: Document) -> ScenarioKind:
    """The kind of the scenario that the document names. Raises InputError where there is none."""
    try:
        return scenario_kind.kind_of(scenario)
    except InputError as error:
        if error.file is not None:
            raise
        value = {"value": error.value} if error.has_value else {}
        raise document.error(error.problem, ("scenario",), candidates=error.candidates, **value) from None


def allows(where: Sequence[Constraint], values: Combination, document: Document) -> bool:
    """Whether all constraints hold. Raises InputError where one cannot be told, where the document says it."""
    for at, constraint in enumerate(where):
        try:
            if not constraint.holds(values):
                return False
        except InputError as error:
            value = {"value": error.value} if error.has_value else {}
            raise document.error(error.problem, ("where", at), expected=error.expected, **value) from None
    return True


def _points(
    sweep: Sweep, kind: ScenarioKind, allowed: Sequence[Combination], scenarios: Sequence[Any]
) -> tuple[Point, ...]:
    """Seeds vary fastest; names are numbers, so that they sort as the points do."""
    runs = [
        (values, scenario_kind.with_seed(scenario, seed))
        for values, scenario in zip(allowed, scenarios, strict=True)
        for seed in _seeds(sweep, scenario.seed)
    ]
    digits = max(4, len(str(len(runs) - 1)))
    short = short_names(sweep.fields)
    return tuple(
        Point(f"{at:0{digits}}", values, one.seed, kind, one, label_of(values, short) or one.name)
        for at, (values, one) in enumerate(runs)
    )


def _seeds(sweep: Sweep, own: int) -> Sequence[int]:
    if sweep.seeds is None or SEED in sweep.fields:
        return (own,)
    if isinstance(sweep.seeds, tuple):
        return sweep.seeds
    last = own + sweep.seeds - 1
    if last > _LARGEST_SEED:
        raise sweep.document.error("seeds count beyond the largest:", ("seeds",), value=last)
    return range(own, last + 1)


def _check_metrics(sweep: Sweep, kind: ScenarioKind) -> None:
    errors = []
    for at, metric in enumerate(sweep.metrics):
        try:
            kind.declaration(metric)
        except InputError as error:
            told = sweep.document.error(error.problem, ("metrics", at), value=metric, candidates=error.candidates)
            errors.append(told)
    if errors:
        raise errors[0] if len(errors) == 1 else InputErrors(errors)
