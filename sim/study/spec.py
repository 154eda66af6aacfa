"""YAML -> one study: a scenario, the fields that may vary, what is to be best, and the limits to keep to.

Everything wrong with a file is reported at once, with file, line, field and nearest name. docs/optimize.md lists the
keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from sim.errors import InputError
from sim.metric_values import parse_value
from sim.pareto import AT_LEAST, AT_MOST, Limit, check_direction
from sim.profile import validate
from sim.remembering import files_stay
from sim.scenario_files import STUDIES, looks_like_path, moved, raise_if_any
from sim.scenario_kind import ScenarioKind
from sim.scenario_schema import Name, Seed, Strict, Text, whole_number
from sim.sweep import fields as f
from sim.sweep.constraints import Constraint
from sim.sweep.planning import allows, kind_of_scenario, loaded
from sim.sweep.spec import FieldValues, beside_absolute, constraints_of
from sim.yaml_document import Document, read_document

TPE, NSGA2, RANDOM = "tpe", "nsga2", "random"
SAMPLERS = (TPE, NSGA2, RANDOM)
_MOST_TRIALS = 100_000
_MOST_AT_ONCE = 1024


@dataclass(frozen=True)
class Study:
    """One study as its file says it. scenario: a shipped name, or an absolute path; set: overrides of every trial;
    objectives: metric to the direction that is better; batch: how many trials are chosen before any of them is run.
    """

    name: str
    description: str
    scenario: str
    set: Mapping[str, Any]
    fields: Mapping[str, f.Field]
    where: tuple[Constraint, ...]
    objectives: Mapping[str, str]
    limits: tuple[Limit, ...]
    trials: int
    sampler: str
    seed: int
    batch: int
    kind: ScenarioKind
    document: Document

    def resolved(self) -> dict[str, Any]:
        """Plain data that says the same but for `trials`, of which there may be more later; of a file, only its own
        name, so that it is alike on every machine.
        """
        return {
            "name": self.name,
            "description": self.description,
            "scenario": Path(self.scenario).name if looks_like_path(self.scenario) else self.scenario,
            "set": dict(self.set),
            "fields": {name: field.plain() for name, field in self.fields.items()},
            "where": [constraint.text for constraint in self.where],
            "objectives": dict(self.objectives),
            "limits": [limit.plain() for limit in self.limits],
            "sampler": self.sampler,
            "seed": self.seed,
            "batch": self.batch,
        }

    def allows(self, values: Mapping[str, Any]) -> bool:
        """Whether the constraints between fields hold of these values. Raises InputError where they cannot be told."""
        return allows(self.where, {**self.set, **values}, self.document)


def load_study(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Study:
    """The study of a shipped name or of a YAML file. overrides: of every trial, over what the file's `set` says.

    The scenario is loaded at the ends of each field, so that a field that does not exist is told here. Raises
    InputErrors that list everything wrong.
    """
    document = read_document(STUDIES.locate(name_or_path))
    document = replace(document, said_as={("set", name): f"--set {name}" for name in overrides or {}})
    spec, errors = validate(_StudySpec, document)
    raise_if_any([*errors, *STUDIES.name_errors(document)])
    errors = []
    for name in {**spec.set, **(overrides or {})}:
        if name in spec.fields:
            errors.append(document.error("a field that varies is also set:", ("fields", name), value=name))
    where, faults = constraints_of(document, spec.where, {**spec.set, **(overrides or {}), **spec.fields})
    raise_if_any([*errors, *faults])
    scenario = beside_absolute(document, spec.scenario)
    kind = kind_of_scenario(scenario, document)
    objectives, faults = _objectives(document, kind, spec.objectives)
    limits, more = _limits(document, kind, spec.limits)
    raise_if_any([*faults, *more])
    study = Study(
        name=spec.name,
        description=spec.description,
        scenario=scenario,
        set={**spec.set, **(overrides or {})},
        fields=spec.fields,
        where=where,
        objectives=objectives,
        limits=limits,
        trials=spec.trials,
        sampler=spec.sampler,
        seed=spec.seed,
        batch=spec.batch,
        kind=kind,
        document=document,
    )
    _check_fields(study)
    return study


# --- schema -----------------------------------------------------------------------------------------------------------


def _sampler(value: object) -> object:
    if value not in SAMPLERS:
        raise InputError("unknown sampler", value=value, candidates=SAMPLERS)
    return value


def _listed(value: object) -> object:
    """Objectives as a mapping; those of a list in their own directions."""
    if isinstance(value, str):
        return {value: ""}
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return dict.fromkeys(value, "")
    if isinstance(value, dict) and value:
        return {name: "" if better is None else better for name, better in value.items()}
    raise InputError("wrong shape", value=value, expected="metrics, as a list or with 'higher' or 'lower' each")


class _LimitSpec(Strict):
    at_most: Any = None
    at_least: Any = None

    @model_validator(mode="after")
    def _one(self) -> _LimitSpec:
        if (self.at_most is None) == (self.at_least is None):
            raise InputError("not a limit", expected="one of at_most and at_least; two limits stand as two metrics")
        return self


class _StudySpec(Strict):
    name: Name
    description: Text
    scenario: Text
    set: dict[str, Any] = Field(default_factory=dict)
    fields: Annotated[dict[str, FieldValues], Field(min_length=1)]
    where: list[str] = Field(default_factory=list)
    objectives: Annotated[dict[str, Any], BeforeValidator(_listed)]
    limits: dict[str, _LimitSpec] = Field(default_factory=dict)
    trials: Annotated[int, BeforeValidator(whole_number(1, _MOST_TRIALS))]
    sampler: Annotated[str, BeforeValidator(_sampler)] = TPE
    seed: Seed = 0
    batch: Annotated[int, BeforeValidator(whole_number(1, _MOST_AT_ONCE))] = 4


# --- from a document to a study ---------------------------------------------------------------------------------------


def _objectives(
    document: Document, kind: ScenarioKind, given: Mapping[str, Any]
) -> tuple[dict[str, str], list[InputError]]:
    found, errors = {}, []
    for name, better in given.items():
        try:
            found[name] = check_direction(name, better or kind.declaration(name).better)
        except InputError as error:
            errors.append(moved(document, error, ("objectives",)))
    return found, errors


def _limits(
    document: Document, kind: ScenarioKind, given: Mapping[str, _LimitSpec]
) -> tuple[tuple[Limit, ...], list[InputError]]:
    found, errors = [], []
    for name, limit in given.items():
        side, value = (AT_MOST, limit.at_most) if limit.at_most is not None else (AT_LEAST, limit.at_least)
        try:
            found.append(Limit(name, side, parse_value(kind.declaration(name), value)))
        except InputError as error:
            errors.append(moved(document, error, ("limits", name)))
    return tuple(found), errors


def _check_fields(study: Study) -> None:
    """Load the scenario at one value of each field, and again with each other value or end of one of them.

    Raises InputErrors with what is wrong with any of these.
    """
    ends = {
        name: field.values if isinstance(field, f.Values) else (field.low, field.high)
        for name, field in study.fields.items()
    }
    first = {name: values[0] for name, values in ends.items()}
    tried = [first, *({**first, name: value} for name, values in ends.items() for value in values[1:])]
    with files_stay():
        loaded(study.kind, study.scenario, study.set, [one for one in tried if study.allows(one)], study.document)
