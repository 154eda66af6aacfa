"""One operation with units and without: how long it takes, what was done for it, and what energy that took.

All channels get the same stream of commands, and the host's accesses are interleaved over them transaction by
transaction; so one channel is simulated and stands for all (`tests/test_pim.py` compares them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.devices import dram
from sim.dram.timing import DramParameters
from sim.kernels.compile import kernel
from sim.pim import state as lanes
from sim.pim.engine import run_alone
from sim.pim.operations import Operation
from sim.pim.parameters import PimParameters
from sim.pim.program import LOAD, MAC, RESULT, SRF, STORE, compile_operation

_MOVES = (LOAD, SRF, RESULT)  # over the bus, between host and units
_OF_BANKS = tuple(range(MAC, STORE + 1))


@dataclass(frozen=True)
class Measured:
    """What an operation took. read_result_ns: the host reading results from the banks afterwards, part of pim_ns.

    switch_ns: into all-bank and PIM mode and out again, with nothing in between. counts: of all channels, by name.
    """

    operation: Operation
    pim_ns: float
    read_result_ns: float
    switch_ns: float
    host_ns: float
    host_bytes: int  # over the interface, where the host does it
    host_additions: int
    bank_bytes: int  # read and written by units
    counts: dict[str, int]
    pim_energy_pj: dict[str, float]
    host_energy_pj: dict[str, float]

    @property
    def speed_up(self) -> float:
        return self.host_ns / self.pim_ns

    @property
    def units_ns(self) -> float:
        """Until the units are done and the mode is the host's again."""
        return self.pim_ns - self.read_result_ns

    @property
    def bandwidth_bytes_per_ns(self) -> float:
        """What a host would need to do the operation in the same time."""
        return self.host_bytes / self.pim_ns

    @property
    def bank_bandwidth_bytes_per_ns(self) -> float:
        """Of the units at their banks while they had the device; banks whose unit has no work are read, too."""
        return self.bank_bytes / self.units_ns


def measure_operation(p: PimParameters, operation: Operation) -> Measured:
    """Raises InputError where the units cannot do the operation, or it does not fit."""
    program = compile_operation(p, operation)
    pim_ns, counts = _run(p, program.alone)
    begins = program.begins
    modes = np.concatenate([program.steps[: begins[2]], program.steps[begins[3] :]])
    switch_ns = _run(p, modes)[0] if len(modes) else 0.0
    reading_ns, read_counts = host_stream(p.dram, program.result_columns * p.transaction_bytes * p.dram.channels, 0)
    size = p.element_bytes
    host_ns, host_counts = host_stream(p.dram, operation.read_bytes(size), operation.write_bytes(size))
    by_name = dict(zip(lanes.COUNTS, (counts * p.dram.channels).tolist(), strict=True))
    pim_energy = unit_energy_pj(p, counts * p.dram.channels, pim_ns)
    if program.result_columns:
        of_reading = _host_energy(p.dram, read_counts, reading_ns)
        pim_energy = {key: pim_energy.get(key, 0.0) + of_reading.get(key, 0.0) for key in pim_energy | of_reading}
    return Measured(
        operation=operation,
        pim_ns=pim_ns + reading_ns,
        read_result_ns=reading_ns,
        switch_ns=switch_ns,
        host_ns=host_ns,
        host_bytes=operation.read_bytes(size) + operation.write_bytes(size),
        host_additions=program.host_additions,
        bank_bytes=_bank_bytes(p, counts),
        counts={name: count for name, count in by_name.items() if count},
        pim_energy_pj=pim_energy,
        host_energy_pj=_host_energy(p.dram, host_counts, host_ns),
    )


def _run(p: PimParameters, steps: np.ndarray) -> tuple[float, np.ndarray]:
    """ns that one channel takes for these steps, and its counts."""
    channel = lanes.make_engine(p, steps, 1)
    return int(run_alone(channel, 0)) * p.dram.tick_ns, channel.counts


def _bank_bytes(p: PimParameters, counts: np.ndarray) -> int:
    columns = int(counts[list(_OF_BANKS)].sum())
    return columns * p.working_banks * p.transaction_bytes * p.dram.channels


def unit_energy_pj(p: PimParameters, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    """Picojoules by cause of these counts (`sim.pim.engine.COUNTS`, all channels together).

    What a unit reads takes its way from the cell, the activation shared out over a row's bits (AttAcc's figures are
    such sums); what moves between host and units takes the bus; refresh and background are the DRAM's.
    """
    bits = p.transaction_bytes * 8
    energy = p.dram.energy
    units = p.dram.pseudo_channels * (1 if p.dram.stack_ids > 1 else p.dram.ranks)
    return {
        "units": float(counts[list(_OF_BANKS)].sum()) * p.working_banks * bits * p.unit_pj_per_bit,
        "bus": float(counts[list(_MOVES)].sum()) * bits * p.bus_pj_per_bit,
        "refresh": float(counts[lanes.REFRESHES]) * units * energy.refresh_pj,
        "background": elapsed_ns * energy.background_w * 1000 * p.dram.channels,
    }


# --- the host ---------------------------------------------------------------------------------------------------------


def host_stream(p: DramParameters, read_bytes: int, write_bytes: int) -> tuple[float, np.ndarray]:
    """ns that the host takes to read so many bytes one after the other, and then to write, as fast as its queues go;
    and what one channel counted, of which there is one in `p.channels`."""
    if read_bytes + write_bytes == 0:
        return 0.0, np.zeros(len(dram.COUNTS), np.int64)
    one = p.model_copy(update={"channels": 1})
    state = dram.init(one)
    share = p.channels * one.transaction_bytes
    end_ns = _stream(dram.MODEL, state, -(-read_bytes // share), -(-write_bytes // share), one.transaction_bytes)
    return end_ns, state.counts


def _host_energy(p: DramParameters, counts: np.ndarray, elapsed_ns: float) -> dict[str, float]:
    return {cause: float(pj) for cause, pj in dram.energy_pj(p, counts * p.channels, elapsed_ns).items()}


@kernel
def _stream(model, state, reads, writes, size_bytes):
    """Reads, and once all are done, writes: when the last is done."""
    sent, done, now_ns, end_ns = 0, 0, 0.0, 0.0
    total = reads + writes
    while done < total:
        limit = reads if done < reads else total
        while sent < limit and model.submit(state, sent, now_ns, sent * size_bytes, size_bytes, sent >= reads):
            sent += 1
        now_ns = model.next_event(state)
        count = model.advance(state, now_ns)
        done += count
        if count > 0:
            end_ns = max(end_ns, state.done_ns[count - 1])
    return end_ns
