"""What a DRAM device and its controller are: parameters, their checks, and the rules between pairs of commands.

Timings are in clock cycles (nCK) as JEDEC's tables have them, counted from the end of one command to the end of
another: a command that takes more than one cycle on the bus moves them (JESD79-5 4.2; JESD238 5.2). The named sets in
hardware_profiles/timings say where each is from.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

import hardware_profiles
from sim import model_parameters
from sim.dram import mapping as mappings
from sim.errors import InputError
from sim.yaml_document import read_document

READ, WRITE, ACTIVATE, PRECHARGE, PRECHARGE_ALL, REFRESH_ALL, REFRESH_BANK = range(7)
COMMANDS = ("RD", "WR", "ACT", "PRE", "PREab", "REFab", "REFpb")
ORGANISATION = (  # what the capacity follows from
    *("timing_set", "channels", "pseudo_channels", "stack_ids", "ranks", "bank_groups", "banks_per_group", "rows"),
    *("columns", "width_bits", "burst_length"),
)


class Energy(BaseModel):
    """Of one channel: what each command takes, and what flows all the time."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str
    activate_pj: float
    read_pj: float
    write_pj: float
    refresh_pj: float
    background_w: float


class DramParameters(BaseModel):
    """One device: organisation, timing set, controller. Names of timings are JEDEC's; `_WR` is for writes.

    channels: independent ones, each with a controller of its own. stack_ids: of HBM, whose stacked dies share one set
    of activation rules, where ranks have one each. columns: of `width_bits` each in a row. queues: transactions a
    channel (of all its pseudo-channels). scheduler: `fr_fcfs_row_hit` is FR-FCFS in which no younger request closes a
    row that an older one hits; with row_hit_cap, as many accesses to an open row as that and no more while another
    row of the bank is waited for. row_policy `closed` closes a row after `close_after` accesses that left it open;
    `timeout` after timeout_ns without access. refresh `per_bank`: banks in turn, while the others go on; so many with
    one command as banks_per_refresh, each of another bank group. Of a rank's refreshes, so many as postponed_refreshes
    may wait while the banks whose turn it is have requests. staggered_refresh: the nth of so many channels begins
    n / channels of an interval later, and with other banks; else all channels refresh at once. path_latency_ns: between
    requester and controller, there and back, which delays each request and holds nothing.
    Raises InputError (from `dram_parameters`) where a rule contradicts another.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str
    standard: str
    # organisation
    channels: int = 1
    pseudo_channels: int = 1
    stack_ids: int = 1
    ranks: int = 1
    bank_groups: int
    banks_per_group: int
    rows: int
    columns: int
    width_bits: int
    burst_length: int
    # the command bus
    ticks_per_cycle: Literal[1, 2] = 1  # 2: commands of half a cycle
    separate_buses: bool = False  # for row and for column commands
    activate_cycles: float = 1
    column_cycles: float = 1
    precharge_cycles: float = 1
    refresh_cycles: float = 1
    split_activate: bool = False  # its two halves are two commands, and rules count from the first
    # timings
    tCK_ps: int
    nBL: int
    nCL: int
    nCWL: int
    nRCDRD: int
    nRCDWR: int
    nRP: int
    nRPab: int | None = None
    nRAS: int
    nRC: int
    nRRDS: int
    nRRDL: int
    nFAW: int
    nCCDS: int
    nCCDL: int
    nCCDR: int | None = None
    nCCDS_WR: int | None = None
    nCCDL_WR: int | None = None
    nWR: int
    nWTRS: int
    nWTRL: int
    nRTP: int
    nRTW: int
    nCS: int = 2
    nPPD: int = 0
    nREFI: int
    nRFC: int
    nREFIpb: int | None = None
    nRFCpb: int | None = None
    nRREFD: int = 0  # from the refresh of a bank to an activation of another, and to the refresh of another
    nPBR2PBR: int | None = None  # this, where it differs
    banks_per_refresh: int = 1
    nWCKPST: int | None = None  # the data clock has to be started again this long after the last burst
    # the controller
    mapping: str = "RoBaRaCoCh"
    scheduler: Literal["fr_fcfs_row_hit", "fr_fcfs", "fcfs"] = "fr_fcfs_row_hit"
    row_hit_cap: int = 0
    row_policy: Literal["open", "closed", "timeout"] = "open"
    close_after: int = 4
    timeout_ns: float = 100.0
    refresh: Literal["all_bank", "per_bank", "none"] = "all_bank"
    postponed_refreshes: int = 8
    staggered_refresh: bool = False
    read_queue: int = 32
    write_queue: int = 32
    write_low_watermark: float = 0.2
    write_high_watermark: float = 0.8
    path_latency_ns: float = 0.0
    energy: Energy

    @model_validator(mode="after")
    def _is_consistent(self) -> DramParameters:
        _check_positive(self)
        _check_powers(self)
        _check_rules(self)
        _check_controller(self)
        mappings.segments(self.mapping, self.sizes)
        return self

    @property
    def transaction_bytes(self) -> int:
        return self.width_bits // 8 * self.burst_length

    @property
    def transactions_per_row(self) -> int:
        return self.columns // self.burst_length

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each of `mapping.FIELDS` has."""
        ranks = self.ranks * self.stack_ids
        inner = (self.pseudo_channels, ranks, self.bank_groups, self.banks_per_group, self.rows)
        return (self.channels, *inner, self.transactions_per_row)

    @property
    def capacity_bytes(self) -> int:
        return int(np.prod(self.sizes, dtype=object)) * self.transaction_bytes

    @property
    def banks_per_channel(self) -> int:
        return self.pseudo_channels * self.ranks * self.stack_ids * self.bank_groups * self.banks_per_group

    @property
    def refresh_turns(self) -> int:
        """How many refreshes of single banks a rank needs to refresh all; of a pseudo-channel of stacked dies."""
        return self.stack_ids * self.bank_groups * self.banks_per_group // self.banks_per_refresh

    @property
    def bank_interval(self) -> int:
        """Cycles between two refreshes of single banks of one rank: each bank once in nREFI, or as nREFIpb says."""
        return self.nREFIpb or max(1, self.nREFI // self.refresh_turns)

    @property
    def tick_ns(self) -> float:
        return self.tCK_ps / 1000 / self.ticks_per_cycle

    @property
    def clock_ns(self) -> float:
        """At whose edges requests are taken."""
        return self.tick_ns

    @property
    def peak_bytes_per_ns(self) -> float:
        """What the data bus can carry."""
        each = self.transaction_bytes / (max(self.nBL, self.nCCDS) * self.tCK_ps / 1000)
        return each * self.channels * self.pseudo_channels

    def cycles(self, command: int) -> float:
        """How long a command holds its bus."""
        if command in (READ, WRITE):
            return self.column_cycles
        if command == ACTIVATE:
            return self.activate_cycles
        return self.precharge_cycles if command in (PRECHARGE, PRECHARGE_ALL) else self.refresh_cycles

    def ticks(self, command: int) -> int:
        return int(self.cycles(command) * self.ticks_per_cycle)

    def between(self, nominal: int, first: int, then: int) -> int:
        """Ticks from the start of one command to the start of another that must end `nominal` cycles after it."""
        return nominal * self.ticks_per_cycle + self.tail(first) - self.tail(then)

    def tail(self, command: int) -> int:
        """Ticks of a command after its first."""
        counted_from_start = command == ACTIVATE and self.split_activate
        return 0 if counted_from_start else self.ticks(command) - 1


_AT_LEAST_ONE = (
    *("channels", "pseudo_channels", "stack_ids", "ranks", "bank_groups", "banks_per_group", "rows", "columns"),
    *("width_bits", "burst_length", "tCK_ps", "nBL", "nCL", "nCWL", "nRCDRD", "nRCDWR", "nRP", "nRAS", "nRC"),
    *("nRRDS", "nRRDL", "nFAW", "nCCDS", "nCCDL", "nREFI", "nRFC", "banks_per_refresh", "read_queue"),
    "write_queue",
)


def _check_positive(p: DramParameters) -> None:
    for name in _AT_LEAST_ONE:
        if getattr(p, name) < 1:
            raise InputError(f"{name} is", value=getattr(p, name), expected="at least 1")
    for name, value in p:
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value < 2**31:
            raise InputError(f"{name} is", value=value, expected="a number from 0 to 2^31")


def _check_powers(p: DramParameters) -> None:
    names = ("pseudo_channels", "stack_ids", "ranks", "bank_groups", "banks_per_group", "rows", "columns")
    for name in (*names, "width_bits", "burst_length", "banks_per_refresh"):
        value = getattr(p, name)
        if value & (value - 1):
            raise InputError(f"{name} is", value=value, expected="a power of two")
    if p.banks_per_refresh > p.bank_groups * p.banks_per_group:
        expected = "at most the banks of a rank"
        raise InputError("banks_per_refresh is", value=p.banks_per_refresh, expected=expected)
    if p.ranks > 1 and p.stack_ids > 1:
        raise InputError("both ranks and stack_ids are above 1:", value=(p.ranks, p.stack_ids), expected="one of them")
    if p.transactions_per_row < 1 or p.width_bits < 8:
        raise InputError("a row does not hold one burst: columns, width_bits, burst_length are", value=_row_of(p))


def _row_of(p: DramParameters) -> tuple[int, ...]:
    return (p.columns, p.width_bits, p.burst_length)


_RULES = (  # what may not be below what, and why
    ("nRC", ("nRAS", "nRP"), "tRC < tRAS + tRP: a row cannot open again before it is closed"),
    ("nRRDL", ("nRRDS",), "tRRD_L < tRRD_S: the same bank group cannot be faster than another"),
    ("nCCDL", ("nCCDS",), "tCCD_L < tCCD_S: the same bank group cannot be faster than another"),
    ("nCCDL_WR", ("nCCDS_WR",), "tCCD_L_WR < tCCD_S_WR: the same bank group cannot be faster than another"),
    ("nWTRL", ("nWTRS",), "tWTR_L < tWTR_S: the same bank group cannot be faster than another"),
    ("nFAW", ("nRRDS",), "tFAW < tRRD_S: four activations cannot take less time than two"),
    ("nRAS", ("nRTP",), "tRAS < tRTP: a row cannot close before it is read"),
    ("nREFI", ("nRFC",), "tREFI < tRFC: refreshing would never end"),
)


def _check_rules(p: DramParameters) -> None:
    for name, others, why in _RULES:
        value, least = getattr(p, name), [getattr(p, other) for other in others]
        if value is None or None in least or value >= sum(least):
            continue
        told = " + ".join(f"{other} {number}" for other, number in zip(others, least, strict=True))
        raise InputError(f"timing set {p.name!r}: {why}: {name} {value}, {told}")


def _check_controller(p: DramParameters) -> None:
    if not 0 <= p.write_low_watermark < p.write_high_watermark <= 1:
        value = (p.write_low_watermark, p.write_high_watermark)
        raise InputError("write watermarks (low, high) are", value=value, expected="0 <= low < high <= 1")
    if p.refresh == "per_bank" and not p.nRFCpb:
        raise InputError(f"timing set {p.name!r} has no nRFCpb", expected="one, for refresh per_bank")
    if not 0 <= p.postponed_refreshes <= 8 * p.refresh_turns:
        expected = f"0 to {8 * p.refresh_turns}, eight of each bank"
        raise InputError("postponed_refreshes is", value=p.postponed_refreshes, expected=expected)


# --- reading ---------------------------------------------------------------------------------------------------------


def timing_sets() -> list[str]:
    """Names of the shipped sets."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def dram_parameters(timing_set: str | Path, changes: Mapping[str, Any] | None = None) -> DramParameters:
    """The parameters of a shipped set, or of a YAML file like one, with `changes` over them.

    `rate_mt_s` among them sets the rate of the pins (see `at_rate`). Raises InputError: one line with the rule that is
    broken and the values that break it.
    """
    changes = dict(changes or {})
    fields = read_set(timing_set)
    if "rate_mt_s" in changes:
        fields = at_rate(fields, changes.pop("rate_mt_s"))
    return checked({**fields, **changes})


_KEPT_CYCLES = ("nBL", "nCCDS", "nCCDL", "nCCDR", "nCCDS_WR", "nCCDL_WR", "nCS", "nPPD")


def at_rate(fields: Mapping[str, Any], rate_mt_s: float) -> dict[str, Any]:
    """A set for pins of another rate: the same nanoseconds, in cycles of the other clock, rounded up (refreshes: down).

    What is a minimum in cycles (bursts and column to column) stays; a read is followed by a write with the same slack.
    Raises InputError on a rate that is not above zero.
    """
    if isinstance(rate_mt_s, bool) or not isinstance(rate_mt_s, int | float) or not 0 < rate_mt_s < 1e6:
        raise InputError("rate_mt_s is", value=rate_mt_s, expected="transfers a second of a pin, in millions")
    tck_ps = round(fields["burst_length"] * 1e6 / (fields["nBL"] * rate_mt_s))
    scaled = dict(fields, tCK_ps=tck_ps)
    for name, cycles in fields.items():
        if re.fullmatch("n[A-Z].*", name) and name not in (*_KEPT_CYCLES, "nRTW") and cycles is not None:
            exact = cycles * fields["tCK_ps"] / tck_ps
            scaled[name] = math.floor(exact) if name in ("nREFI", "nREFIpb") else math.ceil(exact - 1e-9)
    scaled["nRC"] = max(scaled["nRC"], scaled["nRAS"] + scaled["nRP"])
    scaled["nRTW"] += (scaled["nCL"] - scaled["nCWL"]) - (fields["nCL"] - fields["nCWL"])
    return scaled


def read_set(timing_set: str | Path) -> dict[str, Any]:
    """The fields of a set as the file has them. Raises InputError where there is no such set."""
    text = str(timing_set)
    if isinstance(timing_set, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        return dict(_fields_of(Path(timing_set)))
    if text not in timing_sets():
        raise InputError("unknown timing set", value=text, candidates=timing_sets())
    return dict(_fields_of(_folder() / f"{text}.yaml"))


def checked(fields: Mapping[str, Any]) -> DramParameters:
    """Parameters of these fields. Raises InputError."""
    return model_parameters.checked(DramParameters, fields, "DRAM parameter")


@functools.cache
def _fields_of(path: Path) -> dict[str, Any]:
    return read_document(path).data


def _folder() -> Path:
    return Path(hardware_profiles.__file__).parent / "timings"
