"""`validate` and `traces get`: is this file good, and where is that one."""

from __future__ import annotations

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
    from sim.profile import check_file, read_document

    try:
        keys = read_document(path).data.keys()
    except InputError as error:
        return [error]
    if {"workload", "system"} & keys:
        from sim.scenario import check_scenario_file

        return check_scenario_file(path)
    return check_file(path) or ([] if {"tiers", "links", "compute"} & keys else _check_model(path))


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
