"""YAML -> one baseline: scenarios, the metrics that are watched, and how far each may move.

Everything wrong with a file is reported at once, with file, line, field and nearest name, before anything is run.
docs/ci.md lists the keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from sim.errors import InputError, InputErrors
from sim.metric_values import parse_share, parse_value
from sim.metrics import HIGHER, LOWER, Metric
from sim.profile import validate
from sim.scenario_files import beside, each, moved, raise_if_any
from sim.scenario_kind import ScenarioKind, kind_of, with_seed
from sim.scenario_schema import Name, Strict, Text, whole_number
from sim.yaml_document import Document, Location, read_document

ABSOLUTE, RELATIVE, STATISTICAL = "absolute", "relative", "statistical"
_FORMS = (ABSOLUTE, RELATIVE, STATISTICAL)
_MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Tolerance:
    """How far a metric may move. amount: in the metric's unit, as a share of what was recorded, or the confidence of
    the interval in which as many further seeds fall.
    """

    form: str
    amount: float


@dataclass(frozen=True)
class Watched:
    """A metric that is watched. better: which direction is; with 'neither' every move is a regression."""

    name: str
    metric: Metric
    better: str
    tolerance: Tolerance


@dataclass(frozen=True)
class Guard:
    """One scenario of a baseline. runs: what is run, a loaded scenario by label and seed; watched: in each of them."""

    name: str
    kind: ScenarioKind
    runs: Mapping[str, Mapping[int, Any]]
    watched: tuple[Watched, ...]


@dataclass(frozen=True)
class Baseline:
    """What one file asks for."""

    name: str
    file: Path
    guards: tuple[Guard, ...]


def load_baseline(path: str | Path) -> Baseline:
    """The baseline in a file. Raises InputErrors that list everything wrong, with its scenarios, too."""
    document = read_document(Path(path))
    spec, errors = validate(_BaselineSpec, document)
    raise_if_any(errors)
    guards = []
    for name, given in spec.scenarios.items():
        try:
            guards.append(_guard(name, given, spec.tolerance, document))
        except InputError as error:
            errors += each(error)
    raise_if_any(errors)
    return Baseline(spec.name, Path(path), tuple(guards))


# --- schema -----------------------------------------------------------------------------------------------------------


class _ToleranceSpec(Strict):
    absolute: Any = None
    relative: Any = None
    statistical: Any = None

    @property
    def given(self) -> dict[str, Any]:
        return {form: getattr(self, form) for form in _FORMS if getattr(self, form) is not None}

    @model_validator(mode="after")
    def _one(self) -> _ToleranceSpec:
        if len(self.given) > 1:
            raise InputError("more than one tolerance:", value=", ".join(self.given), expected="one of them")
        return self


def _better(value: object) -> object:
    if value not in (HIGHER, LOWER):
        raise InputError("not a direction:", value=value, expected="higher or lower")
    return value


class _WatchedSpec(_ToleranceSpec):
    better: Annotated[str, BeforeValidator(_better)] | None = None


def _metrics(value: object) -> object:
    """A list of metrics as a mapping, in which none says anything."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: {} for name in value}
    if isinstance(value, dict):
        return {name: {} if given is None else given for name, given in value.items()}
    raise InputError("wrong shape", value=value, expected="metrics, as a list or with a tolerance each")


def _labels(value: object) -> object:
    listed = value.split(",") if isinstance(value, str) else value
    if (
        not isinstance(listed, Sequence)
        or not listed
        or not all(isinstance(one, str) and one.strip() for one in listed)
    ):
        raise InputError("wrong shape", value=value, expected="a list of policies, or of allocators")
    return tuple(one.strip() for one in listed)


def _seeds(value: object) -> object:
    if isinstance(value, list):
        if not value or len(set(map(str, value))) < len(value):
            raise InputError("not a list of seeds:", value=value, expected="each seed once, at least one")
        return tuple(whole_number(0, 2**31 - 1)(one) for one in value)
    return whole_number(1, _MOST_SEEDS)(value)


class _GuardSpec(Strict):
    scenario: Text
    set: dict[str, Any] = Field(default_factory=dict)
    compare: Annotated[Any, BeforeValidator(_labels)] = ()
    tier: Name | None = None
    seeds: Annotated[Any, BeforeValidator(_seeds)] = 1
    metrics: Annotated[dict[str, _WatchedSpec], BeforeValidator(_metrics)]


class _BaselineSpec(Strict):
    name: Name
    description: Text
    tolerance: _ToleranceSpec = _ToleranceSpec()
    scenarios: dict[Name, _GuardSpec]


# --- from a document to what is run -----------------------------------------------------------------------------------


def _guard(name: str, spec: _GuardSpec, otherwise: _ToleranceSpec, document: Document) -> Guard:
    at = ("scenarios", name)
    place = beside(document, spec.scenario)
    if not spec.metrics:
        raise document.error("no metrics", (*at, "metrics"), expected="at least one")
    try:
        kind = kind_of(place)
        scenario = kind.load(place, spec.set)
        variants = kind.variants(scenario, spec.compare, spec.tier) if spec.compare else [(scenario.name, scenario)]
    except InputError as error:
        raise InputErrors(
            fault if fault.file is not None else moved(document, fault, at) for fault in each(error)
        ) from None
    seeds = spec.seeds if isinstance(spec.seeds, tuple) else range(scenario.seed, scenario.seed + spec.seeds)
    runs = {label: {seed: with_seed(variant, seed) for seed in seeds} for label, variant in variants}
    watched, errors = [], []
    for metric, given in spec.metrics.items():
        try:
            watched.append(_watched(metric, given, otherwise, kind, len(seeds), document, at))
        except InputError as error:
            errors.append(error)
    raise_if_any(errors)
    return Guard(name, kind, runs, tuple(watched))


def _watched(
    name: str,
    spec: _WatchedSpec,
    otherwise: _ToleranceSpec,
    kind: ScenarioKind,
    seeds: int,
    document: Document,
    within: Location,
) -> Watched:
    """Raises InputError where the metric is unknown, or has no tolerance that fits it."""
    at = (*within, "metrics", name)
    try:
        metric = kind.declaration(name)
        given = spec.given or otherwise.given
        if not given:
            raise InputError("no tolerance", expected=f"one of {', '.join(_FORMS)}, of the metric or of all")
        tolerance = _tolerance(metric, *next(iter(given.items())), seeds)
    except InputError as error:
        raise moved(document, error, at) from None
    return Watched(name, metric, spec.better or metric.better, tolerance)


def _tolerance(metric: Metric, form: str, value: object, seeds: int) -> Tolerance:
    amount = parse_value(metric, value) if form == ABSOLUTE else parse_share(value)
    if amount < 0 or (form == STATISTICAL and not 0.5 <= amount < 1):
        expected = "a confidence such as 95%" if form == STATISTICAL else "zero or more"
        raise InputError(f"not a {form} tolerance:", value=value, expected=expected)
    if form == STATISTICAL and seeds < 2:
        raise InputError("a statistical tolerance over one seed", expected="seeds: at least two, better five or more")
    return Tolerance(form, amount)
