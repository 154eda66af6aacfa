"""YAML -> one sweep: a scenario, the fields that vary and their values, constraints between them, and seeds.

Everything wrong with a file is reported at once, with file, line, field and nearest name. `scenarios/README.md` lists
the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from sim.errors import InputError
from sim.profile import validate
from sim.scenario_files import SWEEPS, each, looks_like_path, raise_if_any
from sim.scenario_schema import Name, Strict, Text, whole_number
from sim.sweep import fields as f
from sim.sweep.constraints import Constraint, parse_constraint
from sim.sweep.sampling import DRAWN, GRID, METHODS, MOST_POINTS, Sample
from sim.yaml_document import Document, read_document

_MOST_SEEDS = 10_000
_LARGEST_SEED = 2**31 - 1
SEED = "seed"


@dataclass(frozen=True)
class Sweep:
    """One sweep as its file says it. scenario: a shipped name, or the path of a file, absolute; set: overrides of every
    point; seeds: how many, counted from the scenario's own, or which; None: the scenario's own alone. metrics: those to
    show, none where they are the kind's own.
    """

    name: str
    description: str
    scenario: str
    set: Mapping[str, Any]
    fields: Mapping[str, f.Field]
    sample: Sample
    where: tuple[Constraint, ...]
    seeds: int | tuple[int, ...] | None
    metrics: tuple[str, ...]
    document: Document

    def resolved(self) -> dict[str, Any]:
        """Plain data that says the same; of a file, only its own name, so that it is alike on every machine."""
        drawn = {"points": self.sample.points, "seed": self.sample.seed} if self.sample.method in DRAWN else {}
        return {
            "name": self.name,
            "description": self.description,
            "scenario": Path(self.scenario).name if looks_like_path(self.scenario) else self.scenario,
            "set": dict(self.set),
            "fields": {name: field.plain() for name, field in self.fields.items()},
            "sample": {"method": self.sample.method, **drawn},
            "where": [constraint.text for constraint in self.where],
            "seeds": list(self.seeds) if isinstance(self.seeds, tuple) else self.seeds,
            "metrics": list(self.metrics),
        }


# --- public functions ------------------------------------------------------------------------------------------------


def load_sweep(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Sweep:
    """The sweep of a shipped name or of a YAML file.

    overrides: of every point, over what the file's `set` says. Raises InputErrors that list everything wrong.
    """
    document = read_document(SWEEPS.locate(name_or_path))
    document = replace(document, said_as={("set", name): f"--set {name}" for name in overrides or {}})
    sweep, errors = _sweep_of(document, overrides or {})
    raise_if_any(errors)
    return sweep


def check_sweep_file(path: str | Path) -> list[InputError]:
    """Everything wrong with a sweep's file, every one of its points included; empty when nothing is."""
    from sim.sweep.planning import plan_of

    try:
        plan_of(load_sweep(Path(path)))
    except InputError as error:
        return each(error)
    return []


# --- schema ----------------------------------------------------------------------------------------------------------


def _method(value: object) -> str:
    if value not in METHODS:
        raise InputError("unknown method of sampling", value=value, candidates=METHODS)
    return value


def _sample(value: object) -> object:
    return {"method": value} if isinstance(value, str) else value


def _seeds(value: object) -> int | tuple[int, ...]:
    listed = [value] if not isinstance(value, list) else value
    whole = all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= _LARGEST_SEED for one in listed)
    if not whole or not listed or len(set(listed)) < len(listed):
        expected = "how many, or a list of different whole numbers from 0"
        raise InputError("not seeds:", value=value, expected=expected)
    if isinstance(value, list):
        return tuple(value)
    if not 1 <= value <= _MOST_SEEDS:
        raise InputError("not a count of seeds:", value=value, expected=f"from 1 to {_MOST_SEEDS}")
    return value


def _texts(value: object) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(one, str) and one.strip() for one in listed):
        raise InputError("wrong shape", value=value, expected="a list of texts")
    return tuple(listed)


class SampleSpec(Strict):
    method: Annotated[str, BeforeValidator(_method)] = GRID
    points: Annotated[int, BeforeValidator(whole_number(1, MOST_POINTS))] | None = None
    seed: Annotated[int, BeforeValidator(whole_number(0, _LARGEST_SEED))] = 0

    @model_validator(mode="after")
    def _agrees(self) -> SampleSpec:
        drawn = self.method in DRAWN
        if drawn and self.points is None:
            raise InputError(f"{self.method!r} without points", expected="points, how many are drawn")
        if not drawn and {"points", "seed"} & self.model_fields_set:
            raise InputError(f"points or seed of {self.method!r}, which draws no lots", expected=" or ".join(DRAWN))
        return self


FieldValues = Annotated[Any, BeforeValidator(f.parse_field)]


class _SweepSpec(Strict):
    name: Name
    description: Text
    scenario: Text
    set: dict[str, Any] = Field(default_factory=dict)
    fields: dict[str, FieldValues] = Field(default_factory=dict)
    sample: Annotated[SampleSpec, BeforeValidator(_sample)] = SampleSpec()
    where: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()
    seeds: Annotated[int | tuple[int, ...], BeforeValidator(_seeds)] | None = None
    metrics: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()


# --- from a document to a sweep --------------------------------------------------------------------------------------


def _sweep_of(document: Document, overrides: Mapping[str, Any]) -> tuple[Sweep | None, list[InputError]]:
    spec, errors = validate(_SweepSpec, document)
    errors += SWEEPS.name_errors(document)
    if spec is None:
        return None, errors
    errors += _agreement_errors(document, spec, overrides)
    where, faults = constraints_of(document, spec.where, {**spec.set, **overrides, **spec.fields})
    errors += faults
    return Sweep(
        name=spec.name,
        description=spec.description,
        scenario=beside_absolute(document, spec.scenario),
        set={**spec.set, **overrides},
        fields=spec.fields,
        sample=Sample(spec.sample.method, spec.sample.points, spec.sample.seed),
        where=where,
        seeds=spec.seeds,
        metrics=spec.metrics,
        document=document,
    ), errors


def beside_absolute(document: Document, scenario: str) -> str:
    """A name as it is; a path from where the document is, good wherever a worker runs."""
    return str((document.file.parent / scenario).absolute()) if looks_like_path(scenario) else scenario


def constraints_of(
    document: Document, texts: tuple[str, ...], fields: Mapping[str, Any]
) -> tuple[tuple[Constraint, ...], list[InputError]]:
    """The document's `where`, and every fault of it."""
    found, errors = [], []
    for at, text in enumerate(texts):
        try:
            found.append(parse_constraint(text, fields))
        except InputError as error:
            value = {"value": error.value} if error.has_value else {}
            told = document.error(
                error.problem, ("where", at), expected=error.expected, candidates=error.candidates, **value
            )
            errors.append(told)
    return tuple(found), errors


def _agreement_errors(document: Document, spec: _SweepSpec, overrides: Mapping[str, Any]) -> list[InputError]:
    """What the parts of the file say of each other."""
    errors = []
    if not spec.fields and spec.seeds is None:
        errors.append(document.error("nothing varies", (), expected="fields, or seeds"))
    for field in spec.fields:
        if field in spec.set:
            errors.append(document.error("a field that varies is also set:", ("set", field), value=field))
        if field in overrides:
            problem = "a field that this sweep varies is also set:"
            errors.append(InputError(problem, field="--set", value=field, expected="another field"))
    if SEED in spec.fields and spec.seeds is not None:
        errors.append(document.error("seeds beside a field 'seed'", ("seeds",), expected="one of the two"))
    if spec.sample.method not in DRAWN:
        errors += _stepless(document, spec)
    return errors


def _stepless(document: Document, spec: _SweepSpec) -> list[InputError]:
    errors = []
    for name, field in spec.fields.items():
        try:
            field.levels()
        except InputError as error:
            errors.append(document.error(error.problem, ("fields", name), value=error.value, expected=error.expected))
    return errors
