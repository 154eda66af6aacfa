"""What a memory with processing units is: its DRAM, where its units are, and what they can hold and be told.

Units work in lockstep: one command reads a column of each of many banks at once. All banks that one command reaches are
one *bank set*, which has a row open or not as a bank has. So a stream of PIM commands is a stream of DRAM commands to
few wide banks, under the rules of the DRAM itself (`PimParameters.lockstep`), and the bandwidth inside follows from how
many banks a set has and how far apart its columns must be.

Sets of values are files under hardware_profiles/pim: every field with where it is from.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

import hardware_profiles
from sim import model_parameters
from sim.dram.timing import DramParameters, checked
from sim.errors import InputError
from sim.yaml_document import read_document

OPERATIONS = ("gemv", "add", "mul", "mad", "relu", "mov")
POLICIES = ("wait", "interleave")
_RESERVED_ROWS = 4  # rows that stand for registers and modes, where registers are columns of a row
_INSTRUCTION_BYTES = 4


class PimParameters(BaseModel):
    """The units of one device, and how the host shares it with them.

    units: what each of them serves: a bank, two banks, a bank group (one bank of each group works at once), the buffer
        die (a unit for each pseudo-channel, fed as the host would be), or the logic die (one bank of each group feeds
        it over TSVs of its own). banks_at_once: where one command reaches fewer banks of a channel than all.
    unit_spacing: cycles between two commands of the units to banks of the same groups; None: tCCD_L.
    operand_vectors, accumulators: registers of a transaction's width for the vector, and for sums, in each unit; of a
        sum as many as the vector's lanes (lane_sums, which the host adds up) or one.
    instruction_entries: of the command register file; 0 where commands name what they do.
    columns_per_fence: so many columns are ordered among themselves, then comes a fence (0: none), which takes
        fence_cycles. opens_ahead: rows for what comes next are opened while the units work; otherwise only once the
        last column before the fence is left. closes_idle: until then, rows that are not needed before it are closed.
    register_row: registers are written as columns of a row, which has to be open. own_operand_path: vector and results
        move while the units read their banks. results_to_bank: sums are written to a bank; else the bus takes them.
    banks_per_activate: how many banks of a set one activation opens, counting once in tFAW; 0: all, so that tFAW does
        not hold back the units. jump_columns: columns that a loop of an element-wise kernel takes besides.
    park_reads, enter_writes, start_writes, leave_writes: what changing modes takes, as reads and writes of rows that
        hold no data: a read of each bank before, writes into all-bank mode, into PIM mode (and out of it) for each tile
        of outputs, and back to single-bank mode.
    capacity_left: share of the DRAM's capacity that units leave. unit_pj_per_bit: from a cell to its unit;
        bus_pj_per_bit: of vector and results between host and unit.
    host_policy: requests of the host wait for the whole operation (`wait`), or for a slice of slice_tiles tiles, after
        which the host has the channel for host_slice_ns if one of its requests waits (`interleave`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dram: DramParameters
    units: Literal["bank", "two_banks", "bank_group", "buffer", "logic"]
    banks_at_once: int | None = None
    unit_spacing: int | None = None
    element_bytes: int
    operand_vectors: int
    accumulators: int
    lane_sums: bool
    instruction_entries: int
    columns_per_fence: int
    fence_cycles: int = 0
    opens_ahead: bool
    closes_idle: bool = False
    register_row: bool
    own_operand_path: bool
    results_to_bank: bool
    banks_per_activate: int
    jump_columns: int = 0
    park_reads: bool = False
    enter_writes: int = 0
    start_writes: int = 0
    leave_writes: int = 0
    operations: str
    capacity_left: float = 1.0
    unit_pj_per_bit: float
    bus_pj_per_bit: float
    host_policy: Literal["wait", "interleave"] = "interleave"
    slice_tiles: int = 4
    host_slice_ns: float = 500.0

    # --- what `sim.traffic` wants of a model's parameters

    @property
    def capacity_bytes(self) -> int:
        return self.usable_rows * (self.dram.capacity_bytes // self.dram.rows)

    @property
    def transaction_bytes(self) -> int:
        return self.dram.transaction_bytes

    @property
    def clock_ns(self) -> float:
        return self.dram.clock_ns

    # --- bank sets

    @property
    def set_groups(self) -> int:
        """Bank groups that commands reach in turn: all where units get one bank's column at a time, else one."""
        return self.dram.bank_groups if self.units == "buffer" else 1

    @property
    def working_banks(self) -> int:
        """Banks of a channel whose columns one command delivers."""
        p = self.dram
        if self.banks_at_once is not None:
            return self.banks_at_once
        shares = {"bank": 1, "two_banks": 2, "bank_group": p.banks_per_group, "logic": p.banks_per_group}
        return p.pseudo_channels if self.units == "buffer" else p.banks_per_channel // shares[self.units]

    @property
    def sets(self) -> int:
        """Bank sets in a channel, of which one works at a time."""
        return self.dram.banks_per_channel // (self.working_banks * self.set_groups)

    @property
    def units_per_channel(self) -> int:
        """Of those that work at once; a unit of two banks serves one after the other."""
        return self.working_banks

    @property
    def activations(self) -> int:
        """Commands that open a row in a whole set."""
        return 1 if self.banks_per_activate == 0 else -(-self.working_banks // self.banks_per_activate)

    @cached_property
    def lockstep(self) -> DramParameters:
        """One channel as a stream of PIM commands sees it: its bank sets as banks, under the same rules.

        A set has banks in every bank group, so that the rules within a group hold between any two commands.
        """
        p = self.dram
        spacing = p.nCCDL if self.unit_spacing is None else self.unit_spacing
        changes = {
            **{"channels": 1, "pseudo_channels": 1, "stack_ids": 1, "ranks": 1, "mapping": "RoBaRaCoCh"},
            **{"bank_groups": self.set_groups, "banks_per_group": self.sets},
            **{"nCCDL": spacing, "nCCDS": min(p.nCCDS, spacing), "nCCDR": None},
            "nCCDL_WR": p.nCCDL if p.nCCDL_WR is None else p.nCCDL_WR,
            "nCCDS_WR": p.nCCDS if p.nCCDS_WR is None else p.nCCDS_WR,
        }
        if spacing < p.nBL and not self.own_operand_path:
            raise InputError("unit_spacing is", value=spacing, expected=f"at least nBL, {p.nBL}")
        return checked({**p.model_dump(), **changes})

    # --- sizes

    @property
    def lanes(self) -> int:
        return self.dram.transaction_bytes // self.element_bytes

    @property
    def usable_rows(self) -> int:
        """Rows of a bank that hold data: what units leave, less the rows that stand for registers and modes."""
        rows = int(self.dram.rows * self.capacity_left)
        return rows - _RESERVED_ROWS * (self.register_row or self.park_reads or self.enter_writes > 0)

    @property
    def columns_per_row(self) -> int:
        """Commands that it takes to read a row of a set: each group's columns are commands of their own."""
        return self.dram.transactions_per_row * self.set_groups

    @property
    def columns_per_set(self) -> int:
        return self.usable_rows * self.columns_per_row

    @property
    def tile_vectors(self) -> int:
        """Vectors of the operand that a tile uses: half the registers where the next tile's are loaded meanwhile."""
        return max(1, self.operand_vectors // 2) if self.own_operand_path else self.operand_vectors

    @property
    def instructions_per_write(self) -> int:
        return self.dram.transaction_bytes // _INSTRUCTION_BYTES

    @property
    def internal_peak_bytes_per_ns(self) -> float:
        """What all units together could read, were every row open: banks at once, over the spacing of commands."""
        spacing = self.lockstep.nCCDS if self.set_groups > 1 else self.lockstep.nCCDL
        spacing = max(spacing, self.dram.nBL)
        each = self.working_banks * self.transaction_bytes / (spacing * self.dram.tCK_ps / 1000)
        return each * self.dram.channels


_AT_LEAST_ONE = ("element_bytes", "operand_vectors", "accumulators", "slice_tiles")
_NOT_NEGATIVE = (
    *("instruction_entries", "columns_per_fence", "fence_cycles", "banks_per_activate", "jump_columns"),
    *("enter_writes", "start_writes", "leave_writes", "unit_pj_per_bit", "bus_pj_per_bit"),
)


def _check(p: PimParameters) -> PimParameters:
    for names, least in ((_AT_LEAST_ONE, 1), (_NOT_NEGATIVE, 0)):
        for name in names:
            if getattr(p, name) < least:
                raise InputError(f"{name} is", value=getattr(p, name), expected=f"at least {least}")
    if not 0 < p.capacity_left <= 1:
        raise InputError("capacity_left is", value=p.capacity_left, expected="above 0, 1 at most")
    if p.host_slice_ns <= 0:
        raise InputError("host_slice_ns is", value=p.host_slice_ns, expected="above 0")
    if p.dram.transaction_bytes % p.element_bytes:
        expected = f"a divisor of a transaction's {p.dram.transaction_bytes} bytes"
        raise InputError("element_bytes is", value=p.element_bytes, expected=expected)
    unknown = [name for name in p.operations.split() if name not in OPERATIONS]
    if unknown or not p.operations.split():
        raise InputError("operations are", value=p.operations, expected="some of " + " ".join(OPERATIONS))
    _check_units(p)
    if p.usable_rows < 1:
        raise InputError("no row is left for data: rows, capacity_left are", value=(p.dram.rows, p.capacity_left))
    return p


def _check_units(p: PimParameters) -> None:
    d = p.dram
    if d.refresh == "per_bank":
        raise InputError("refresh is", value=d.refresh, expected="all_bank or none: units use all banks at once")
    if p.units == "two_banks" and d.banks_per_group < 2:
        raise InputError("units for two banks need two banks in a group; banks_per_group is", value=d.banks_per_group)
    if p.banks_at_once is not None:
        if p.units != "bank":
            raise InputError("banks_at_once goes with units in each bank; units are", value=p.units)
        if p.banks_at_once < 1 or d.banks_per_channel % p.banks_at_once:
            expected = f"a divisor of the {d.banks_per_channel} banks of a channel"
            raise InputError("banks_at_once is", value=p.banks_at_once, expected=expected)
    if p.unit_spacing is not None and p.unit_spacing < 1:
        raise InputError("unit_spacing is", value=p.unit_spacing, expected="at least 1 cycle")
    if p.banks_per_activate > p.working_banks:
        expected = f"at most {p.working_banks}, the banks of a set"
        raise InputError("banks_per_activate is", value=p.banks_per_activate, expected=expected)
    _ = p.lockstep


# --- reading ---------------------------------------------------------------------------------------------------------


def pim_sets() -> list[str]:
    """Names of the shipped sets."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def pim_parameters(pim_set: str, dram: DramParameters, changes: Mapping[str, Any] | None = None) -> PimParameters:
    """A shipped set's units in this DRAM, with `changes` over them. Raises InputError: one line, with the values."""

    path = _folder() / f"{pim_set}.yaml"
    if pim_set not in pim_sets():
        raise InputError("unknown set of PIM parameters", value=pim_set, candidates=pim_sets())
    fields = {name: entry["value"] for name, entry in read_document(path).data["parameters"].items()}
    return checked_pim({**fields, **(changes or {}), "dram": dram})


def checked_pim(fields: Mapping[str, Any]) -> PimParameters:
    """Parameters of these fields. Raises InputError."""
    return _check(model_parameters.checked(PimParameters, fields, "PIM parameter"))


def _folder() -> Path:
    return Path(hardware_profiles.__file__).parent / "pim"
