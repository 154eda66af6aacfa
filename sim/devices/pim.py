"""A memory with processing units: DRAM that the host uses as any other, and units that take its channels for a while.

Without an operation this is the model `dram`; with one, see `sim.pim.sharing`.

Parameters: `pim_set`, one of hardware_profiles/pim, and `timing_set`, one of hardware_profiles/timings; over them any
field of `sim.pim.parameters.PimParameters` and of `sim.dram.timing.DramParameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.devices import dram
from sim.dram.timing import dram_parameters, timing_sets
from sim.errors import InputError
from sim.pim import state as lanes
from sim.pim.measuring import unit_energy_pj
from sim.pim.parameters import PimParameters, pim_parameters, pim_sets
from sim.pim.sharing import OWN_COUNTS, advance, init, next_event, submit
from sim.policy import EventModel

if TYPE_CHECKING:
    from sim.profile import Device


def of_device(device: Device, changes: Mapping[str, Any]) -> PimParameters:
    """The parameters of a device file, with `changes` over them. Raises InputError."""
    given = {"channels": device.channels, **device.parameters, **changes}
    timing_set, pim_set = given.pop("timing_set", None), given.pop("pim_set", None)
    for name, value, candidates in (
        ("timing_set", timing_set, timing_sets()),
        ("pim_set", pim_set, pim_sets()),
    ):
        if value is None:
            raise InputError(f"device {device.name!r}: no parameter {name!r}", expected="one", candidates=candidates)
    of_units = {name: given.pop(name) for name in list(given) if name in PimParameters.model_fields}
    return pim_parameters(pim_set, dram_parameters(timing_set, given), of_units)


def energy_pj(parameters: PimParameters, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    """Picojoules by cause: the host's commands as `dram` has them, and those of the units."""
    split = len(dram.COUNTS)
    host = dram.energy_pj(parameters.dram, counts[:split], elapsed_ns)
    units = unit_energy_pj(parameters, counts[split : split + len(lanes.COUNTS)], 0.0)
    return {cause: host.get(cause, 0.0) + units.get(cause, 0.0) for cause in host | units}


def _side_by_side(p: PimParameters, count: int) -> PimParameters:
    return p.model_copy(update={"dram": dram.side_by_side(p.dram, count)})


MODEL = EventModel(
    name="pim",
    init=init,
    submit=submit,
    advance=advance,
    next_event=next_event,
    of_device=of_device,
    energy_pj=energy_pj,
    count_names=(*dram.COUNTS, *lanes.COUNTS, *OWN_COUNTS),
    times=_side_by_side,
)
