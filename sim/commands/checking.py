"""`validate` and `traces get`: is this file good, and where is that one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sim.commands import output
from sim.commands.output import Answer
from sim.errors import InputError, InputErrors


def validate(files: list[str]) -> tuple[Answer, list[InputError]]:
    """What is wrong with each file, and every error of all of them."""
    found = {file: _check(Path(file)) for file in files}
    rows = [
        {"file": file, "good": not errors, "errors": [line for error in errors for line in error.lines]}
        for file, errors in found.items()
    ]
    good = [f"{file}: good" for file, errors in found.items() if not errors]
    return Answer({"files": rows}, rows, notes=good), [error for errors in found.values() for error in errors]


def _check(path: Path) -> list[InputError]:
    """Errors of one file; its keys tell whether it is a device, a system, a scenario, or many runs of one."""
    from sim.profile import check_file
    from sim.yaml_document import read_document

    try:
        keys = read_document(path).data.keys()
    except InputError as error:
        return [error]
    if "serving" in keys:
        from sim.serving.scenario import check_serving_file

        return check_serving_file(path)
    if "allocation" in keys:
        from sim.fragmentation.scenario import check_allocation_file

        return check_allocation_file(path)
    if {"fields", "objectives"} <= keys:
        from sim.study.spec import load_study

        return _faults(load_study, path)
    if "scenarios" in keys:
        from sim.regression.baseline import load_baseline

        return _faults(load_baseline, path)
    if {"fields", "seeds", "sample"} & keys and "scenario" in keys:
        from sim.sweep.spec import check_sweep_file

        return check_sweep_file(path)
    if {"workload", "system"} & keys:
        from sim.scenario import check_scenario_file

        return check_scenario_file(path)
    for known, load in _others().items():
        if set(known) <= keys:
            return _faults(load, path)
    return check_file(path) or ([] if {"tiers", "links", "compute"} & keys else _check_model(path))


def _others() -> dict[tuple[str, ...], Callable[[Path], object]]:
    """What reads the files that have these keys: language models, accelerators, calibrations."""
    from sim.cost import calibration
    from sim.llm import models

    return {
        ("layers", "hidden"): models.load_model,
        ("processors",): calibration.load_gpu,
        ("gpu", "models"): calibration.load_calibration,
    }


def _faults(load: Callable[[Path], object], path: Path) -> list[InputError]:
    try:
        load(path)
    except InputErrors as errors:
        return list(errors.errors)
    except InputError as error:
        return [error]
    return []


def _check_model(path: Path) -> list[InputError]:
    """What the model of a device finds wrong with its parameters."""
    from sim.probing import check_parameters

    try:
        check_parameters(path)
    except InputError as error:
        return [error]
    return []


def get_trace(name: str) -> Answer:
    """The path of a trace, downloaded if it is not here yet."""
    from sim import catalog

    with output.progress(f"download {name}", "bytes") as progress:
        path = catalog.get(name, progress)
    told = {"name": name, "path": str(path)}
    return Answer(told, [told], notes=[str(path)])
