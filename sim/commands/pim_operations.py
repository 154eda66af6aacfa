"""`probe` of what a memory's units do: an operation with them and without, and beside requests of the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim import registry, units
from sim.commands import output
from sim.commands.output import Answer
from sim.errors import InputError
from sim.profile import load_device

if TYPE_CHECKING:
    from sim.pim.coaccess import CoAccess
    from sim.pim.measuring import Measured
    from sim.pim.parameters import PimParameters


def probe_operation(
    device: str,
    pattern: str,
    outstanding: str | None,
    seed: int,
    changes: Mapping[str, Any],
    not_for_units: Mapping[str, str | None],
) -> Answer:
    """What an operation takes; with `outstanding`, also what it and so many host requests do to each other.

    not_for_units: options that say nothing to an operation, with what they were given. Raises InputError where one was,
    or where the device has no units, or they cannot do it.
    """
    from sim.pim.coaccess import measure_coaccess
    from sim.pim.measuring import measure_operation
    from sim.pim.operations import parse_operation

    for option, value in not_for_units.items():
        if value is not None:
            raise InputError(f"an operation of units takes no {option}:", value=value, expected="--outstanding alone")
    operation = parse_operation(pattern)
    p = _parameters(device, changes)
    if outstanding is not None and not outstanding.isdigit():
        raise InputError("--outstanding beside an operation is", value=outstanding, expected="a whole number")
    measured = measure_operation(p, operation)
    shared = [] if outstanding is None else measure_coaccess(p, operation, int(outstanding), seed)
    found = {"device": device, **document(p, measured)}
    beside = {"beside_host": list(map(_shared, shared))}
    return Answer(found | beside, [_in_one_row(found)], lambda: _tables(measured, shared))


def _in_one_row(found: Mapping[str, Any]) -> dict[str, Any]:
    """Every number of the operation itself, energies in all."""
    energies = {name: sum(value.values()) for name, value in found.items() if name.endswith("_energy_pj")}
    return {name: value for name, value in found.items() if not isinstance(value, Mapping)} | energies


def _tables(measured: Measured, shared: Sequence[CoAccess]):
    from rich.console import Group

    heads = ["policy", "operation", "host reads", "mean", "worst", "bandwidth", "mode changes"]
    return Group(
        output.table(["", "with units", "by the host"], _rows(measured)),
        output.table(["commands to units, all channels", "count"], _commands(measured)),
        *([output.table(heads, map(_shared_row, shared))] if shared else []),
    )


def _parameters(device: str, changes: Mapping[str, Any]) -> PimParameters:
    from sim.pim.parameters import PimParameters

    part = load_device(device)
    model = registry.load(registry.DEVICE_MODEL, part.model)
    parameters = model.of_device(part, changes) if hasattr(model, "of_device") else None
    if not isinstance(parameters, PimParameters):
        expected = "a device whose model is pim, such as pim_hbm_aquabolt_xl_6g"
        problem = f"device {part.name!r} has no units to do an operation: its model is"
        raise InputError(problem, value=part.model, expected=expected)
    return parameters


def document(p: PimParameters, measured: Measured) -> dict[str, Any]:
    """Everything that was measured, as plain numbers: ns, bytes, GB/s, picojoules."""
    return {
        "operation": str(measured.operation),
        "pim_ns": measured.pim_ns,
        "units_ns": measured.units_ns,
        "read_result_ns": measured.read_result_ns,
        "switch_ns": measured.switch_ns,
        "host_ns": measured.host_ns,
        "host_additions": measured.host_additions,
        "speed_up": measured.speed_up,
        "bandwidth_GBps": measured.bandwidth_bytes_per_ns,
        "bank_bandwidth_GBps": measured.bank_bandwidth_bytes_per_ns,
        "internal_peak_GBps": p.internal_peak_bytes_per_ns,
        "external_peak_GBps": p.dram.peak_bytes_per_ns,
        "counts": measured.counts,
        "pim_energy_pj": measured.pim_energy_pj,
        "host_energy_pj": measured.host_energy_pj,
    }


def _rows(m: Measured) -> list[list[str]]:
    host_bytes_per_ns = m.host_bytes / m.host_ns
    rows = [
        ["time", _time(m.pim_ns), _time(m.host_ns)],
        ["- units at work", _time(m.units_ns), ""],
        ["- of it changes of the mode", _time(m.switch_ns), ""],
        ["- host reads the results", _time(m.read_result_ns), ""],
        ["speed-up", f"{m.speed_up:.2f}", ""],
        ["effective bandwidth", f"{m.bandwidth_bytes_per_ns:,.0f} GB/s", f"{host_bytes_per_ns:,.0f} GB/s"],
        ["bandwidth at the banks", f"{m.bank_bandwidth_bytes_per_ns:,.0f} GB/s", ""],
        ["additions left to the host", f"{m.host_additions:,}", ""],
    ]
    for cause in dict.fromkeys((*m.pim_energy_pj, *m.host_energy_pj)):
        rows.append([f"energy, {cause}", _energy(m.pim_energy_pj.get(cause)), _energy(m.host_energy_pj.get(cause))])
    totals = [sum(energy.values()) for energy in (m.pim_energy_pj, m.host_energy_pj)]
    return [*rows, ["energy", *map(_energy, totals)]]


def _commands(m: Measured) -> list[list[str]]:
    return [[name.removeprefix("pim_"), f"{count:,}"] for name, count in m.counts.items()]


def _shared(row: CoAccess) -> dict[str, Any]:
    named = dataclasses.asdict(row)
    named["operation_ns"] = None if row.policy == "alone" else row.operation_ns
    return named


def _shared_row(row: CoAccess) -> list[str]:
    return [
        row.policy,
        "" if row.policy == "alone" else _time(row.operation_ns),
        f"{row.host_requests:,}",
        f"{row.mean_ns:,.1f} ns",
        f"{row.worst_ns:,.1f} ns",
        f"{row.bandwidth_bytes_per_ns:.2f} GB/s",
        f"{row.switches:,}",
    ]


def _time(ns: float) -> str:
    return units.format_time(ns, digits=4)


def _energy(pj: float | None) -> str:
    return "" if pj is None else f"{pj / 1e6:,.1f} uJ"
