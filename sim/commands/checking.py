"""`validate` and `traces get`: is this file good, and where is that one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sim.commands import output
from sim.errors import InputError, InputErrors


def validate(files: list[str]) -> None:
    """Raises InputErrors with every error of every file; says of each good file that it is good."""
    errors: list[InputError] = []
    for file in files:
        found = _check(Path(file))
        errors += found
        if not found:
            print(f"{file}: good")
    if errors:
        raise InputErrors(errors)


def _check(path: Path) -> list[InputError]:
    """Errors of one file; its keys tell whether it is a device, a system or a scenario."""
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


def get_trace(name: str) -> None:
    """Print the path of a trace, downloaded if it is not here yet."""
    from sim import catalog

    with output.progress(f"download {name}") as progress:
        path = catalog.get(name, progress)
    print(path)
