"""An NVMe SSD with NAND flash, simulated event by event (`sim.nand`): link, mapping cache, garbage collection, flash.

Parameters: `flash_set`, one of hardware_profiles/flash; any field of `sim.nand.parameters.NandParameters` over it;
`condition`: `new` (nothing is written yet), `filled` (each page once, in order) or `steady` (as after uniform random
writes for long); `occupancy`: the share of the capacity that is filled, and that requests go to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError
from sim.nand.parameters import NandParameters, load_parameters
from sim.nand.preconditioning import fill, fill_steady
from sim.nand.ssd import advance, next_event, submit
from sim.nand.state import COUNTS, NandState, make_state
from sim.policy import EventModel

if TYPE_CHECKING:
    from sim.profile import Device

_CONDITIONS = ("new", "filled", "steady")
_HOST_PAGE_BYTES = 4096  # what a host asks for at least, unless a load says otherwise


@dataclass(frozen=True)
class Ssd:
    """A drive and what it went through before it is asked for anything."""

    nand: NandParameters
    condition: str
    occupancy: float
    transaction_bytes: int = _HOST_PAGE_BYTES
    clock_ns: float = 0.0  # requests come at any time

    @property
    def capacity_bytes(self) -> int:
        return int(self.occupancy * self.nand.capacity_bytes) // _HOST_PAGE_BYTES * _HOST_PAGE_BYTES


def init(parameters: Ssd) -> NandState:
    state = make_state(parameters.nand)
    if parameters.condition == "filled":
        fill(state, parameters.occupancy)
    elif parameters.condition == "steady":
        fill_steady(state, parameters.occupancy)
    return state


def of_device(device: Device, changes: Mapping[str, Any]) -> Ssd:
    """The drive of a device file, with `changes` over its parameters. Raises InputError."""
    return of_parameters(device.name, {**device.parameters, **changes})


def of_parameters(device: str, given: Mapping[str, Any]) -> Ssd:
    """The drive of these parameters, of the device of this name. Raises InputError."""
    given = dict(given)
    condition, occupancy = given.pop("condition", "filled"), given.pop("occupancy", 1.0)
    if condition not in _CONDITIONS:
        raise InputError("condition is", value=condition, expected="new, filled or steady", candidates=_CONDITIONS)
    if isinstance(occupancy, bool | str) or not 0 < occupancy <= 1:
        raise InputError("occupancy is", value=occupancy, expected="above 0, 1 at most")
    if "flash_set" not in given:
        raise InputError(f"device {device!r}: no parameter 'flash_set'", expected="one of hardware_profiles/flash")
    return Ssd(load_parameters(given.pop("flash_set"), **given), condition, float(occupancy))


def energy_pj(parameters: Ssd, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    """By cause; empty for a drive whose set says nothing of energy.

    An array operation takes voltage x current x time for each plane, whether or not several work at once.
    """
    p = parameters.nand
    if p.array_v is None:
        return {}
    of = dict(zip(COUNTS, (int(count) for count in counts), strict=True))
    busy_ns = {
        way: sum(of[f"pages_{way}_{kind}"] * times[at] for kind, times in enumerate(p.page_times_ns))
        for at, way in enumerate(("read", "programmed"))
    }
    host_bits = 8 * (of["read_bytes"] + of["write_bytes"])
    return {
        "array read": p.array_v * p.read_ma * busy_ns["read"],  # V x mA x ns = pJ
        "program": p.array_v * p.program_ma * busy_ns["programmed"],
        "erase": p.array_v * p.erase_ma * of["blocks_erased"] * p.erase_ns,
        "channel": p.channel_pj_per_bit * 8 * of["channel_bytes"],
        "host": p.host_pj_per_bit * host_bits,
        "static": p.static_w * 1e3 * elapsed_ns,  # W x ns = 1000 pJ
    }


MODEL = EventModel(
    chunk_bytes=128 << 10,  # what a driver asks for at once: the largest transfer that most drives allow
    name="nand",
    init=init,
    submit=submit,
    advance=advance,
    next_event=next_event,
    of_device=of_device,
    energy_pj=energy_pj,
    count_names=COUNTS,
)
