"""A computational drive: a NAND SSD (`nand`) with an engine beside the flash, which shares its channels (`sim.csd`).

Parameters: those of `nand`; `engine_set`, one of hardware_profiles/engines, and any field of
`sim.csd.parameters.Engine` over it. Patterns drive it as the SSD that it is;
operations such as `scan1GiB` are measured by `sim.csd.operations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.csd.engine import advance, next_event, submit
from sim.csd.parameters import ENGINE_FIELDS, Csd, load_engine
from sim.csd.state import COUNTS, CsdState, make_state
from sim.devices import nand
from sim.nand.state import COUNTS as SSD_COUNTS
from sim.policy import EventModel

if TYPE_CHECKING:
    from sim.profile import Device


def init(parameters: Csd) -> CsdState:
    return make_state(parameters)


def of_device(device: Device, changes: Mapping[str, Any]) -> Csd:
    """The drive of a device file, with `changes` over its parameters. Raises InputError."""
    given = {**device.parameters, **changes}
    engine = {name: given.pop(name) for name in ENGINE_FIELDS if name in given}
    return Csd(nand.of_parameters(device.name, given), load_engine(device.name, engine))


def energy_pj(parameters: Csd, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    """Of the drive, by cause; the engine's own, for which there is no source, is a part of `static` alone."""
    return nand.energy_pj(parameters.ssd, counts[: len(SSD_COUNTS)], elapsed_ns)


MODEL = EventModel(
    chunk_bytes=nand.MODEL.chunk_bytes,
    name="csd",
    init=init,
    submit=submit,
    advance=advance,
    next_event=next_event,
    of_device=of_device,
    energy_pj=energy_pj,
    count_names=COUNTS,
)
