"""`probe` of an operation in place of a pattern: what a memory's units or a drive's engine do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sim.commands.output import Answer
from sim.errors import InputError


def is_operation(pattern: str) -> bool:
    """Whether this is meant as an operation, rightly written or not."""
    from sim.csd.operations import is_operation as of_a_drive
    from sim.pim.operations import is_operation as of_units

    return of_a_drive(pattern) or of_units(pattern)


def operate(
    device: str,
    asked: Mapping[str, Any],
    others: Sequence[str],
    changes: Mapping[str, Any],
    out: str | None,
) -> Answer:
    """What an operation takes on a device that can do it. asked: the options of `probe`, by name.

    Raises InputError where the device computes nothing, or an option says nothing to an operation.
    """
    from sim.profile import load_device

    given = {"--rate": asked["rate"], "--span": asked["span"], "--with": others or None, "--out": out}
    model = load_device(device).model
    if model == "pim":
        from sim.commands.pim_operations import probe_operation

        not_for_units = {**given, "--size": asked["size"]}
        pattern, outstanding, seed = asked["pattern"], asked["outstanding"], asked["seed"]
        return probe_operation(device, pattern, outstanding, seed, changes, not_for_units)
    if model == "csd":
        from sim.commands.csd_operations import operate as operate_drive

        _refuse(given)
        options = (asked[name] for name in ("pattern", "outstanding", "size", "read_ratio", "seed"))
        return operate_drive(device, *options, changes)
    problem = f"operation {asked['pattern']!r} needs a memory with units or a computational drive; {device!r} has model"
    raise InputError(problem, value=model, expected="pim or csd")


def _refuse(given: Mapping[str, Any]) -> None:
    for option, value in given.items():
        if value is not None:
            raise InputError(f"an operation takes no {option}:", value=value, expected="--outstanding and --size alone")
