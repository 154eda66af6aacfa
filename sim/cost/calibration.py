"""Accelerators and calibrations: YAML -> the constants of `sim.cost.kernels`, each value with its source; and back.

hardware_profiles/gpus has the peaks of an accelerator's data sheet, hardware_profiles/kernels what shares of them its
kernels reach, as `run_sim.py calibrate` fitted them: on which accelerator, to kernels of which models. A section is a
table of constants, each with its source, or plain numbers with one `source` for all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

import hardware_profiles
from sim import units
from sim.cost import kernels
from sim.cost.correction import LEAST, MOST, NONE, Correction
from sim.errors import InputError, InputErrors
from sim.profile import Count, Name, SomeBandwidth, SomeOperations, Source, Sourced, Text, validate
from sim.remembering import remembered
from sim.yaml_document import read_document

FAMILIES: dict[str, type] = {
    "linear": kernels.Linear,
    "prefill": kernels.Prefill,
    "decode": kernels.Decode,
    "mixed": kernels.Mixed,
    "all_reduce": kernels.AllReduce,
}
ELEMENTWISE = "elementwise"
SHARES = {  # may not be above 1: these are shares of a data sheet's peak, or are 0 or 1
    *("compute_efficiency", "memory_efficiency", "efficiency", "wave_fill", "splits", "present", "crowd"),
}
AT_LEAST_ONE = {"diagonal"}
ABOVE_ZERO = {
    *("compute_efficiency", "memory_efficiency", "efficiency", "cache_efficiency", "block_bytes_per_ns", "cache_bytes"),
}


def _number(value: object) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18
    if not good:
        raise InputError("not a number:", value=value, expected="a number from 0")
    return float(value)


def _above_zero(value: float) -> float:
    if value <= 0:
        raise InputError("not above zero:", value=value, expected="more than zero")
    return value


Number = Annotated[float, BeforeValidator(_number)]
SomePower = Annotated[units.Watts, AfterValidator(_above_zero)]
SomePrice = Annotated[units.UsdPerHour, AfterValidator(_above_zero)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gpu(_Strict):
    """One accelerator by its data sheet; link: bytes per ns to its peers, one way; power: of its board, at most;
    price: of renting one.
    """

    name: Name
    description: Text
    flops: Sourced[SomeOperations]
    bandwidth: Sourced[SomeBandwidth]
    processors: Sourced[Count]
    link: Sourced[SomeBandwidth] | None = None
    power: Sourced[SomePower] | None = None
    price: Sourced[SomePrice] | None = None

    @property
    def machine(self) -> kernels.Machine:
        return kernels.Machine(self.flops.value, self.bandwidth.value, float(self.processors.value))

    @property
    def link_bytes_per_ns(self) -> float | None:
        return None if self.link is None else self.link.value


def _constants(section: str, of: type) -> Any:
    """A check that a section has exactly the constants of `of`, each in its range."""

    def check(given: dict[str, Sourced[Number]]) -> dict[str, Sourced[Number]]:
        for name in given:
            if name not in of._fields:
                raise InputError(f"unknown constant of {section}", value=name, candidates=of._fields)
        missing = [name for name in of._fields if name not in given]
        if missing:
            raise InputError(f"{section} lacks {', '.join(missing)}")
        for name, told in given.items():
            lowest = 1.0 if name in AT_LEAST_ONE else 0.0
            bad = told.value < lowest or (name in SHARES and told.value > 1) or (name in ABOVE_ZERO and not told.value)
            if bad:
                expected = "at least 1" if lowest else "more than 0, at most 1" if name in SHARES else "more than 0"
                raise InputError(f"{section}.{name}", value=told.value, expected=expected)
        return given

    return AfterValidator(check)


def _sourced(given: object) -> object:
    """Plain numbers beside one `source` -> each with it."""
    if not isinstance(given, dict) or not isinstance(given.get("source"), str):
        return given
    constants = {name: value for name, value in given.items() if name != "source"}
    whole = {name: {"value": value, "source": given["source"]} for name, value in constants.items()}
    return {
        name: one if isinstance(constants[name], dict) else whole[name] for name, one in (constants | whole).items()
    }


_Table = Annotated[dict[str, Sourced[Number]], BeforeValidator(_sourced)]


class _CorrectionSpec(_Strict):
    rows: tuple[Number, ...]
    columns: tuple[Number, ...] = NONE.columns
    factors: tuple[tuple[Number, ...], ...]
    source: Source

    @model_validator(mode="after")
    def _shaped(self) -> _CorrectionSpec:
        for name in ("rows", "columns"):
            nodes = getattr(self, name)
            if not nodes or nodes[0] <= 0 or any(low >= high for low, high in pairwise(nodes)):
                raise InputError(f"{name} of a correction", value=nodes, expected="sizes above 0 that rise")
        lengths = {len(row) for row in self.factors}
        if len(self.factors) != len(self.rows) or lengths != {len(self.columns)}:
            expected = f"{len(self.rows)} rows of {len(self.columns)}"
            raise InputError("factors of a correction", value=self.factors, expected=expected)
        bad = [one for row in self.factors for one in row if not LEAST <= one <= MOST]
        if bad:
            raise InputError("factor of a correction", value=bad[0], expected=f"from {LEAST} to {MOST}")
        return self

    @property
    def found(self) -> Correction:
        return Correction(self.rows, self.columns, self.factors)


def _of_families(given: dict[str, _CorrectionSpec]) -> dict[str, _CorrectionSpec]:
    for name in given:
        if name not in FAMILIES and not name.startswith(f"{ELEMENTWISE}."):
            candidates = [*FAMILIES, f"{ELEMENTWISE}.OPERATOR"]
            raise InputError("correction of an unknown family", value=name, candidates=candidates)
    return given


class _CalibrationSpec(_Strict):
    name: Name
    description: Text
    gpu: Name
    models: tuple[Text, ...]
    linear: Annotated[_Table, _constants("linear", kernels.Linear)] | None = None
    prefill: Annotated[_Table, _constants("prefill", kernels.Prefill)] | None = None
    decode: Annotated[_Table, _constants("decode", kernels.Decode)] | None = None
    mixed: Annotated[_Table, _constants("mixed", kernels.Mixed)] | None = None
    all_reduce: Annotated[_Table, _constants("all_reduce", kernels.AllReduce)] | None = None
    elementwise: dict[Name, Annotated[_Table, _constants("elementwise", kernels.Elementwise)]] = {}
    iteration_overhead_ns: Sourced[Number] | None = None
    corrections: Annotated[dict[Text, _CorrectionSpec], AfterValidator(_of_families)] = {}


class Calibration(NamedTuple):
    """Constants of one accelerator's kernels; None or absent for what was not measured.

    elementwise: by operator. iteration_overhead_ns: of the engine's host program, once an iteration. sources and
    corrections: by family (`elementwise.NAME` for an operator); without a correction it is 1.
    """

    name: str
    description: str
    gpu: str
    models: tuple[str, ...]
    linear: kernels.Linear | None
    prefill: kernels.Prefill | None
    decode: kernels.Decode | None
    mixed: kernels.Mixed | None
    all_reduce: kernels.AllReduce | None
    elementwise: dict[str, kernels.Elementwise]
    iteration_overhead_ns: float
    sources: dict[str, str]
    corrections: dict[str, Correction]

    def correction(self, family: str) -> Correction:
        return self.corrections.get(family, NONE)


@remembered
def load_gpu(name_or_path: str | Path) -> Gpu:
    """The accelerator of a shipped name or a YAML file. Raises InputErrors that list everything wrong."""
    return _load(name_or_path, "gpus", "GPU", Gpu)


@remembered
def load_calibration(name_or_path: str | Path) -> Calibration:
    """The calibration of a shipped name or a YAML file. Raises InputErrors that list everything wrong."""
    spec = _load(name_or_path, "kernels", "calibration", _CalibrationSpec)
    sources, families = {}, {}
    for family, of in FAMILIES.items():
        table = getattr(spec, family)
        families[family] = None if table is None else _filled(of, table)
        sources |= {} if table is None else {family: next(iter(table.values())).source}
    sources |= {f"elementwise.{name}": next(iter(one.values())).source for name, one in spec.elementwise.items()}
    overhead = spec.iteration_overhead_ns
    sources |= {} if overhead is None else {"iteration_overhead_ns": overhead.source}
    return Calibration(
        name=spec.name,
        description=spec.description,
        gpu=spec.gpu,
        models=spec.models,
        elementwise={name: _filled(kernels.Elementwise, one) for name, one in spec.elementwise.items()},
        iteration_overhead_ns=0.0 if overhead is None else overhead.value,
        sources=sources,
        corrections={name: one.found for name, one in spec.corrections.items()},
        **families,
    )


def gpu_names() -> list[str]:
    """Shipped accelerators, sorted."""
    return _shipped("gpus")


def calibration_names() -> list[str]:
    """Shipped calibrations, sorted."""
    return _shipped("kernels")


def written(calibration: Calibration) -> str:
    """The YAML text that `load_calibration` reads back."""
    lines = [f"name: {calibration.name}", f"description: {_quoted(calibration.description)}"]
    lines += [f"gpu: {calibration.gpu}", f"models: [{', '.join(map(_quoted, calibration.models))}]"]
    for family in FAMILIES:
        constants = getattr(calibration, family)
        if constants is not None:
            lines += [f"{family}:", *_table(constants, calibration.sources[family], "  ")]
    if calibration.elementwise:
        lines.append("elementwise:")
    for name, constants in calibration.elementwise.items():
        lines += [f"  {name}:", *_table(constants, calibration.sources[f"{ELEMENTWISE}.{name}"], "    ")]
    if "iteration_overhead_ns" in calibration.sources:
        source = _quoted(calibration.sources["iteration_overhead_ns"])
        lines.append(f"iteration_overhead_ns: {{value: {calibration.iteration_overhead_ns:.6g}, source: {source}}}")
    if calibration.corrections:
        lines.append("corrections:")
    for name, correction in calibration.corrections.items():
        lines += [f"  {name}:", *_correction(correction, calibration.sources[name])]
    return "\n".join(lines) + "\n"


def _table(constants: NamedTuple, source: str, indent: str) -> list[str]:
    pairs = constants._asdict().items()
    return [f"{indent}source: {_quoted(source)}", *(f"{indent}{name}: {float(value):.6g}" for name, value in pairs)]


def _correction(correction: Correction, source: str) -> list[str]:
    lines = [f"    source: {_quoted(source)}", f"    rows: {_listed(correction.rows)}"]
    lines += [f"    columns: {_listed(correction.columns)}", "    factors:"]
    return [*lines, *(f"      - {_listed(row)}" for row in correction.factors)]


def _listed(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:.10g}' for value in values)}]"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _filled(of: type, table: Mapping[str, Sourced[float]]) -> Any:
    return of(**{name: told.value for name, told in table.items()})


def _load(name_or_path: str | Path, folder: str, what: str, spec: type[BaseModel]) -> Any:
    document = read_document(_locate(name_or_path, folder, what))
    found, errors = validate(spec, document)
    if found is not None and found.name != document.file.stem:
        expected = f"the file's own, {document.file.stem!r}"
        errors = [document.error("name", ("name",), value=found.name, expected=expected)]
    if errors:
        raise errors[0] if len(errors) == 1 else InputErrors(errors)
    return found


def _locate(name_or_path: str | Path, folder: str, what: str) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    if text in _shipped(folder):
        return _folder(folder) / f"{text}.yaml"
    raise InputError(f"unknown {what}", value=text, candidates=_shipped(folder))


def _folder(folder: str) -> Path:
    return Path(hardware_profiles.__file__).parent / folder


def _shipped(folder: str) -> list[str]:
    return sorted(path.stem for path in _folder(folder).glob("*.yaml"))
