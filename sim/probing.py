"""One device alone under synthetic loads, as MLC or fio would drive hardware: what `probe` prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sim import registry
from sim.errors import InputError
from sim.policy import EventModel
from sim.profile import Device, load_device
from sim.served import by_events
from sim.traffic import Load, Result, measure_together

Progress = Callable[[int, int], None]
_PJ_PER_W_NS = 1000


@dataclass(frozen=True)
class Reading:
    """A device under one load, or several requesters' together.

    counts: what the model counted, by name; energy_pj: by cause; energy_from: "model", or "profile" where the model
    tells none and the device's file does, by its pJ/bit and watts.
    """

    load: Load
    result: Result
    counts: dict[str, int]
    energy_pj: dict[str, float]
    energy_from: str

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

    @property
    def energy_pj_per_bit(self) -> float | None:
        """Of the bits that were moved; None where none were."""
        bits = (self.result.read_bytes + self.result.written_bytes) * 8
        return sum(self.energy_pj.values()) / bits if bits else None

    @property
    def busy_share(self) -> float | None:
        """Of the time, how much the channels were held, on average; None where the model does not count it."""
        if "busy_ps" not in self.counts or not self.result.elapsed_ns:
            return None
        return self.counts["busy_ps"] / 1000 / self.result.elapsed_ns


@dataclass(frozen=True)
class Requester:
    """One of several that share a device: what it got, and what it gets of the device alone, with the same requests."""

    load: Load
    shared: Result
    alone: Result

    @property
    def slowdown(self) -> float:
        """Mean latency beside the others over that alone, waiting in front of the device included.

        Of reads; of writes where nothing is read.
        """
        if self.shared.reads:
            return self.shared.total_mean_ns / self.alone.total_mean_ns
        return self.shared.write_total_mean_ns / self.alone.write_total_mean_ns


@dataclass(frozen=True)
class Interference:
    """Several requesters of one device, and all of them together."""

    requesters: tuple[Requester, ...]
    together: Reading


@dataclass(frozen=True)
class _Opened:
    """A device ready to be driven, as often as one likes."""

    part: Device
    model: EventModel
    parameters: Any

    def drive(self, loads: Sequence[Load], progress: Progress | None):
        p = self.parameters
        state = self.model.init(p)
        return measure_together(self.model, state, loads, p.capacity_bytes, p.clock_ns, progress)

    def filled(self, load: Load) -> Load:
        """The load with the size of a transaction where it has none of its own."""
        return replace(load, size_bytes=load.size_bytes or self.parameters.transaction_bytes)

    def reading(self, load: Load, result: Result) -> Reading:
        counts = {name: int(count) for name, count in zip(self.model.count_names, result.counts, strict=True)}
        energy = self.model.energy_pj(self.parameters, result.counts, result.elapsed_ns)
        told = "model" if energy else "profile"
        return Reading(load, result, counts, energy or profile_energy_pj([self.part], result), told)


def probe(
    device: str | Path | Device,
    loads: Sequence[Load],
    changes: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[Reading]:
    """Readings of a device or link (a shipped name or a file) under each load, each from rest.

    changes: parameters of the device's model to change; `model` is another model than the device's own, such as
    `fixed`. Load.size_bytes 0 stands for one transaction of the device. progress(done, requests) is called now and
    then. Raises InputError.
    """
    opened = _open(device, changes or {})
    loads = [opened.filled(load) for load in loads]
    whole = _Steps(loads, progress)
    return [opened.reading(load, opened.drive([load], whole.of([load])).together) for load in loads]


def probe_together(
    device: str | Path | Device,
    loads: Sequence[Load],
    changes: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Interference:
    """A device under all loads at once, each of a requester of its own; and under each alone. As `probe`."""
    opened = _open(device, changes or {})
    loads = [opened.filled(load) for load in loads]
    whole = _Steps([*loads, *loads], progress)
    shared = opened.drive(loads, whole.of(loads))
    alone = [opened.drive([load], whole.of([load])).together for load in loads]
    requesters = tuple(Requester(*one) for one in zip(loads, shared.each, alone, strict=True))
    return Interference(requesters, opened.reading(loads[0], shared.together))


def check_parameters(device: str | Path) -> None:
    """Raises InputError where a device file is as it should be, but its model cannot be made of it."""
    _open(device, {})


class _Steps:
    """One progress for several drives, one after the other."""

    def __init__(self, loads: Sequence[Load], progress: Progress | None):
        self.total, self.before, self.progress = sum(map(_length, loads)), 0, progress

    def of(self, loads: Sequence[Load]) -> Progress | None:
        """The progress of the next drive."""
        before = self.before
        self.before += sum(map(_length, loads))
        return None if self.progress is None else lambda done, _: self.progress(before + done, self.total)


def _length(load: Load) -> int:
    return load.warmup + load.requests


def _open(device: str | Path | Device, changes: Mapping[str, Any]) -> _Opened:
    part = device if isinstance(device, Device) else load_device(device)
    changes = dict(changes)
    name = changes.pop("model", part.model)
    if name != part.model:  # whose parameters are not those of the other model
        part = replace(part, model=name, parameters={})
    model = registry.load(registry.DEVICE_MODEL, name)
    if not isinstance(model, EventModel):
        model = by_events(model)
    try:
        return _Opened(part, model, model.of_device(part, changes))
    except InputError as error:
        if changes or error.file is not None or not str(device).endswith((".yaml", ".yml")):
            raise
        raise _in_file(error, device) from error


def _in_file(error: InputError, file: str | Path) -> InputError:
    """The same fault, which is one of this file."""
    shown = {"value": error.value} if error.has_value else {}
    told = {"expected": error.expected, "candidates": error.candidates}
    return InputError(error.problem, file=file, field=error.field or "parameters", **told, **shown)


def profile_energy_pj(parts: Sequence[Device], result: Result) -> dict[str, float]:
    """By cause, of parts that all of the load passes: what their files say each bit takes, and their static watts."""
    return {
        "read": result.read_bytes * 8 * sum(part.read_pj_per_bit for part in parts),
        "write": result.written_bytes * 8 * sum(part.write_pj_per_bit for part in parts),
        "static": result.elapsed_ns * sum(part.static_w for part in parts) * _PJ_PER_W_NS,
    }
