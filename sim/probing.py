"""One device alone under synthetic loads, as MLC or fio would drive hardware: what `probe` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sim import registry
from sim.errors import InputError
from sim.policy import EventModel
from sim.profile import Device, load_device
from sim.traffic import Load, Result, measure


@dataclass(frozen=True)
class Reading:
    """A device under one load. counts: what the model counted, by name; energy_pj: by cause."""

    load: Load
    result: Result
    counts: dict[str, int]
    energy_pj: dict[str, float]

    @property
    def row_ratios(self) -> dict[str, float]:
        """Shares of accesses that found their row open, none open, another open; empty for what has no rows."""
        names = ("row_hits", "row_misses", "row_conflicts")
        if not all(name in self.counts for name in names):
            return {}
        total = sum(self.counts[name] for name in names)
        return {name: self.counts[name] / total if total else 0.0 for name in names}

    @property
    def write_amplification(self) -> float | None:
        """Flash pages programmed for each page of the host's; None for what is no flash, or was not written."""
        written = self.counts.get("host_pages", 0)
        more = self.counts.get("moved_pages", 0) + self.counts.get("translation_writes", 0)
        return (written + more) / written if written else None


def probe(
    device: str | Path | Device, loads: Sequence[Load], changes: Mapping[str, Any] | None = None
) -> list[Reading]:
    """Readings of a device (a shipped name or a file) under each load, each from rest.

    changes: parameters of the device's model to change. Load.size_bytes 0 stands for one transaction of the device.
    Raises InputError, for a device whose model cannot be driven alone, too.
    """
    part = device if isinstance(device, Device) else load_device(device)
    model = registry.load(registry.DEVICE_MODEL, part.model)
    if not isinstance(model, EventModel):
        expected = "a device whose model is simulated by events, such as ddr4_3200"
        raise InputError(f"device {part.name!r} cannot be probed: its model is", value=part.model, expected=expected)
    parameters = model.of_device(part, changes or {})
    return [_read(model, parameters, load) for load in loads]


def _read(model: EventModel, parameters: Any, load: Load) -> Reading:
    load = replace(load, size_bytes=load.size_bytes or parameters.transaction_bytes)
    result = measure(model, model.init(parameters), load, parameters.capacity_bytes, parameters.clock_ns)
    counts = {name: int(count) for name, count in zip(model.count_names, result.counts, strict=True)}
    return Reading(load, result, counts, model.energy_pj(parameters, result.counts, result.elapsed_ns))
