"""SRAM of slices and banks, event by event (`sim.sram`): on-chip memory, stacked caches, a GPU's L2 of two partitions.

Parameters: any field of `sim.sram.parameters.SramParameters`; `slices` are the device's channels unless told;
`footprint` is what is in the cache and requests go to, its capacity unless told. Of two partitions, a request comes
from the one or the other by a hash of its number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim.policy import EventModel
from sim.sram.parameters import SramParameters, sram_parameters
from sim.sram.slices import advance, next_event, submit
from sim.sram.state import COUNTS, READ_BYTES, WRITTEN_BYTES, State, make_state


def init(parameters: SramParameters) -> State:
    return make_state(parameters)


def energy_pj(parameters: SramParameters, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    """Picojoules by cause: of each bit that was read or written, and what leaks all the time."""
    return {
        "read": float(counts[READ_BYTES]) * 8 * parameters.read_pj_per_bit,
        "write": float(counts[WRITTEN_BYTES]) * 8 * parameters.write_pj_per_bit,
        "static": elapsed_ns * parameters.static_w * 1000,
    }


def _side_by_side(p: SramParameters, count: int) -> SramParameters:
    return replace(p, slices=p.slices * count, static_w=p.static_w * count)


MODEL = EventModel(
    name="sram",
    init=init,
    submit=submit,
    advance=advance,
    next_event=next_event,
    of_device=sram_parameters,
    energy_pj=energy_pj,
    count_names=COUNTS,
    times=_side_by_side,
)
