"""`list`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sim.commands import output
from sim.commands.output import Answer
from sim.errors import InputError

Row = dict[str, Any]


def entries(what: str) -> Answer:
    """Everything of one sort. Raises InputError for a sort that there is not."""
    if what not in _LISTS:
        raise InputError("nothing is listed under", value=what, candidates=_LISTS)
    rows = list(_LISTS[what]())
    columns = [column for column in rows[0] if column != _TOO_MUCH.get(what)] if rows else ["name"]
    return Answer(rows, rows, lambda: output.table(columns, [[_text(row[name]) for name in columns] for row in rows]))


_TOO_MUCH = {
    "readers": "options",
    "generators": "parameters",
    "presets": "source",
    "allocations": "options",
}  # for a table; --json and --csv have them


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_text(one)}" for name, one in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def policies() -> Iterator[Row]:
    """The five kinds of policy, and allocators."""
    from sim import registry

    for kind in (*registry.POLICIES, registry.ALLOCATOR):
        for name in registry.names(kind):
            plugin = registry.load(kind, name)
            row = {"kind": kind.name, "name": name, "parameters": plugin.parameters()}
            yield {**row, "description": first_sentence(plugin.doc)}


def devices() -> Iterator[Row]:
    from sim import profile

    for name in profile.device_names():
        device = profile.load_device(name)
        capacity = None if device.is_link else device.capacity_bytes
        yield {"name": name, "kind": device.kind, "capacity_bytes": capacity, "description": _description(device)}


def systems() -> Iterator[Row]:
    from sim import profile

    for name in profile.system_names():
        system = profile.load_profile(name)
        tiers = " > ".join(tier.name for tier in system.tiers)
        yield {"name": name, "tiers": tiers, "description": _description(system)}


def gpus() -> Iterator[Row]:
    from sim.cost import calibration

    for name in calibration.gpu_names():
        gpu = calibration.load_gpu(name)
        peaks = {"TFLOP/s": gpu.flops.value / 1e3, "GB/s": gpu.bandwidth.value}
        yield {"name": name, **peaks, "description": gpu.description}


def kernels() -> Iterator[Row]:
    from sim.cost import calibration

    for name in calibration.calibration_names():
        one = calibration.load_calibration(name)
        yield {"name": name, "gpu": one.gpu, "models": ", ".join(one.models), "description": one.description}


def models() -> Iterator[Row]:
    from sim.llm import models, operators

    for name in models.model_names():
        one = models.load_model(name)
        sizes = {"parameters": operators.parameters(one), "active": operators.active_parameters(one)}
        kv = {"kv_bytes_per_token": operators.kv_bytes_per_token(one), "context": one.context}
        yield {"name": name, **sizes, **kv, "description": one.description}


def readers() -> Iterator[Row]:
    from sim import registry

    for name in registry.names(registry.READER):
        reader = registry.load(registry.READER, name)
        options = {key: option.default for key, option in reader.options.items()}
        extensions = " ".join(reader.extensions)
        yield {"name": name, "extensions": extensions, "options": options, "description": reader.description}


def generators() -> Iterator[Row]:
    from sim import registry

    for name in registry.names(registry.GENERATOR):
        generator = registry.load(registry.GENERATOR, name)
        parameters = {key: option.default for key, option in generator.parameters.items()}
        yield {"name": name, "parameters": parameters, "description": generator.description}


def traces() -> Iterator[Row]:
    from sim import catalog

    for name, entry in catalog.entries().items():
        row = {"name": name, "here": catalog.find(name) is not None, "bytes": entry.bytes, "licence": entry.licence}
        yield {**row, "reader": entry.reader, "description": entry.description}


def scenarios() -> Iterator[Row]:
    from sim.scenario import scenario_names
    from sim.scenario_files import kind_of

    for name in scenario_names():
        kind = kind_of(name)
        scenario = _SCENARIO_LOADERS[kind](name)
        on = scenario.allocator.label if kind == "allocation" else str(scenario.system)
        yield {"name": name, "kind": kind, "on": on, "description": scenario.description}


def sweeps() -> Iterator[Row]:
    from sim.scenario_files import SWEEPS
    from sim.sweep.planning import plan_of
    from sim.sweep.spec import load_sweep

    for name in SWEEPS.names():
        plan = plan_of(load_sweep(name))
        row = {"name": name, "scenario": plan.sweep.scenario, "runs": len(plan.points)}
        yield {**row, "fields": ", ".join(plan.sweep.fields), "description": plan.sweep.description}


def studies() -> Iterator[Row]:
    from sim.scenario_files import STUDIES
    from sim.study.spec import load_study

    for name in STUDIES.names():
        study = load_study(name)
        row = {"name": name, "scenario": study.scenario, "trials": study.trials, "fields": ", ".join(study.fields)}
        yield {**row, "objectives": ", ".join(study.objectives), "description": study.description}


def _hierarchy(name: str) -> Any:
    from sim.scenario import load_scenario

    return load_scenario(name)


def _serving(name: str) -> Any:
    from sim.serving.scenario import load_serving_scenario

    return load_serving_scenario(name)


def _allocation(name: str) -> Any:
    from sim.fragmentation.scenario import load_allocation_scenario

    return load_allocation_scenario(name)


_SCENARIO_LOADERS = {"hierarchy": _hierarchy, "serving": _serving, "allocation": _allocation}


def allocations() -> Iterator[Row]:
    """Sources of streams of allocations."""
    from sim import registry

    for name in registry.names(registry.ALLOCATION_SOURCE):
        source = registry.load(registry.ALLOCATION_SOURCE, name)
        options = {key: option.default for key, option in source.options.items()}
        kind = "generates" if source.generate else f"reads {' '.join(source.extensions)}".strip()
        yield {"name": name, "what": kind, "options": options, "description": source.description}


def presets() -> Iterator[Row]:
    """Every option of the real serving systems."""
    from sim.serving import presets

    for name in presets.names():
        for option in presets.preset(name).options:
            row = {"preset": name, "option": option.name, "default": option.default}
            sets = option.says if option.convert else f"not modelled: {option.says}"
            yield {**row, "sets": sets, "source": option.source}


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence, of the first paragraph."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    end = paragraph.replace("et al. ", "et al, ").find(". ")  # an abbreviation ends no sentence
    return paragraph if end < 0 else paragraph[: end + 1]


def _description(thing) -> str:
    return getattr(thing, "description", None) or ""


_LISTS: dict[str, Callable[[], Iterator[Row]]] = {
    "policies": policies,
    "devices": devices,
    "systems": systems,
    "gpus": gpus,
    "kernels": kernels,
    "models": models,
    "readers": readers,
    "generators": generators,
    "traces": traces,
    "scenarios": scenarios,
    "sweeps": sweeps,
    "studies": studies,
    "presets": presets,
    "allocations": allocations,
}
