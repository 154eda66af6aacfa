"""What a banked SRAM is: slices, banks, ports, clock, and for a cache of two partitions the link between them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim import units
from sim.errors import InputError

if TYPE_CHECKING:
    from sim.profile import Device

_FROM_ZERO = (
    *("latency_cycles", "stacked_cycles", "bank_cycles", "link_bytes_per_cycle", "link_cycles"),
    *("read_pj_per_bit", "write_pj_per_bit", "static_w"),
)
_MOST_LINES_UNDER_WAY = 1 << 20  # of all slices together, which bounds the memory of a wafer's


@dataclass(frozen=True, kw_only=True)
class SramParameters:
    """Slices of banks. Cycles may be fractions; each access is of one line or a part of it.

    latency_cycles: from the requester to a slice, through the array and back, without waiting and without the transfer;
    stacked_cycles: what a die on top adds to it. bank_cycles: for how long an access keeps its bank from the next.
    port_bytes_per_cycle: what a slice passes. queue: lines that a slice takes in before their data pass its port.
    interleave_bytes: neighbouring bytes of one slice; hashed: the order of the slices differs from round to round.
    partitions: of 2, each has half of the slices and serves half of the requesters, and a line is at home in one;
    link_bytes_per_cycle (each way) and link_cycles (one way) are those of the link between them; one_sided: requests
    come from one partition's requesters only. footprint_bytes: what is in the cache and requests go to, from address 0
    on.
    Raises InputError where values contradict each other.
    """

    name: str
    slices: int
    slice_bytes: int
    line_bytes: int
    interleave_bytes: int
    clock_ghz: float
    latency_cycles: float
    port_bytes_per_cycle: float
    banks_per_slice: int = 1
    stacked_cycles: float = 0.0
    bank_cycles: float = 1.0
    queue: int = 32
    hashed: bool = True
    partitions: int = 1
    link_bytes_per_cycle: float = 0.0
    link_cycles: float = 0.0
    one_sided: bool = False
    footprint_bytes: int = 0
    read_pj_per_bit: float = 0.0
    write_pj_per_bit: float = 0.0
    static_w: float = 0.0

    def __post_init__(self):
        for name in ("slices", "slice_bytes", "line_bytes", "interleave_bytes", "banks_per_slice", "queue"):
            _check_count(name, getattr(self, name))
        for name in ("clock_ghz", "port_bytes_per_cycle"):
            _check_number(name, getattr(self, name), above_zero=True)
        for name in _FROM_ZERO:
            _check_number(name, getattr(self, name))
        for name in ("hashed", "one_sided"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is", value=getattr(self, name), expected="true or false")
        _check_count("footprint", self.footprint_bytes)
        if self.slice_bytes % self.line_bytes:
            raise InputError("slice_bytes is", value=self.slice_bytes, expected=f"whole lines of {self.line_bytes} B")
        if self.interleave_bytes % self.line_bytes or self.slice_bytes % self.interleave_bytes:
            expected = f"a multiple of the line ({self.line_bytes} B) that divides a slice ({self.slice_bytes} B)"
            raise InputError("interleave_bytes is", value=self.interleave_bytes, expected=expected)
        self._check_partitions()
        if not self.line_bytes <= self.footprint_bytes <= self.slices * self.slice_bytes:
            expected = f"from one line to the capacity, {self.slices * self.slice_bytes} B"
            raise InputError("footprint is", value=self.footprint_bytes, expected=expected)

    def _check_partitions(self) -> None:
        if self.partitions not in (1, 2):
            raise InputError("partitions is", value=self.partitions, expected="1 or 2")
        if self.partitions == 1:
            return
        if self.slices % 2:
            raise InputError("slices is", value=self.slices, expected="an even number, for two partitions")
        if not self.link_bytes_per_cycle > 0:
            raise InputError("link_bytes_per_cycle is", value=self.link_bytes_per_cycle, expected="above zero")

    @property
    def capacity_bytes(self) -> int:
        """What requests go to."""
        return self.footprint_bytes // self.line_bytes * self.line_bytes

    @property
    def transaction_bytes(self) -> int:
        return self.line_bytes

    @property
    def clock_ns(self) -> float:
        return 1 / self.clock_ghz

    @property
    def latency_ns(self) -> float:
        return (self.latency_cycles + self.stacked_cycles) * self.clock_ns

    def port_ns(self, size_bytes: int) -> float:
        return size_bytes / self.port_bytes_per_cycle * self.clock_ns

    @property
    def line_port_ns(self) -> float:
        return self.port_ns(self.line_bytes)

    @property
    def line_link_ns(self) -> float:
        return self.line_bytes / self.link_bytes_per_cycle * self.clock_ns if self.partitions == 2 else 0.0

    @property
    def peak_bytes_per_ns(self) -> float:
        """What ports and banks can pass, whichever is less."""
        bank_ns = self.bank_cycles * self.clock_ns / self.banks_per_slice
        return self.slices * self.line_bytes / max(self.line_port_ns, bank_ns)

    @property
    def lines_under_way(self) -> int:
        """How many there can be at once: those in the queues, and those whose data are on their way."""
        on_their_way = math.ceil(self.latency_ns / self.line_port_ns) + 2
        return min(self.slices * (self.queue + on_their_way), max(_MOST_LINES_UNDER_WAY, 2 * self.slices))


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 40:
        raise InputError(f"{name} is", value=value, expected="a whole number from 1")


def _check_number(name: str, value: object, above_zero: bool = False) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
    if not good or (above_zero and value == 0):
        raise InputError(f"{name} is", value=value, expected="above zero" if above_zero else "a number from 0")


def sram_parameters(device: Device, changes: Mapping[str, Any]) -> SramParameters:
    """Of a device file, whose channels are the slices, with `changes` over its parameters.

    `footprint`, `slice_bytes`, `line_bytes`, `interleave_bytes` may be quantities such as '24 MB'. Raises InputError.
    """
    given = {**device.parameters, **changes}
    known = [field.name for field in dataclasses.fields(SramParameters)] + ["footprint"]
    for name in given:
        if name not in known:
            raise InputError("unknown SRAM parameter", value=name, candidates=known)
    for name in ("footprint", "footprint_bytes", "slice_bytes", "line_bytes", "interleave_bytes"):
        if isinstance(given.get(name), str):
            given[name] = units.parse_bytes(given[name])
    given.setdefault("slices", device.channels)
    _check_count("slices", given["slices"])
    if "slice_bytes" not in given:
        each, rest = divmod(device.capacity_bytes, given["slices"])
        if rest:
            problem = f"{given['slices']} slices do not divide the capacity of {device.capacity_bytes} B"
            raise InputError(problem, expected="the parameter slice_bytes, or another number of slices")
        given["slice_bytes"] = each
    line = given.setdefault("line_bytes", min(device.interleave_bytes, 128))
    given.setdefault("interleave_bytes", line)
    whole = given["slices"] * given["slice_bytes"] if isinstance(given["slice_bytes"], int) else 0
    given.setdefault("footprint_bytes", given.pop("footprint", min(whole, device.capacity_bytes)))
    for name in ("clock_ghz", "latency_cycles", "port_bytes_per_cycle"):
        if name not in given:
            raise InputError(f"device {device.name!r}: no parameter {name!r}", expected="one, for the model sram")
    energy = {
        "read_pj_per_bit": device.read_pj_per_bit,
        "write_pj_per_bit": device.write_pj_per_bit,
        "static_w": device.static_w,
    }
    return SramParameters(name=device.name, **{**energy, **given})
