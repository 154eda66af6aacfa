"""Operations on a computational drive, timed with the engine beside the flash and without it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sim.csd.engine import advance, begin_operation, next_event, submit
from sim.csd.operations import Operation, parse_operation
from sim.csd.parameters import Csd
from sim.csd.state import ENGINE_BUSY, MEMORY_BUSY, ROUTE_BUSY, ROUTES, CsdState, make_state
from sim.devices import csd
from sim.errors import InputError
from sim.kernels.compile import inlined, kernel
from sim.nand.state import ARRAYS_BUSY, CHANNELS_BUSY, INTERNAL_BUSY, UP_BUSY
from sim.profile import load_device

_submit, _advance, _next_event = inlined(submit), inlined(advance), inlined(next_event)


@dataclass(frozen=True)
class Background:
    """Requests of the host's meanwhile: so many outstanding, of so many bytes, at random places."""

    outstanding: int = 0
    size_bytes: int = 4096
    read_ratio: float = 1.0
    seed: int = 1


class Run(NamedTuple):
    """One operation by one route. busy: the share of the time that each part worked."""

    route: str
    elapsed_ns: float
    busy: dict[str, float]
    counts: dict[str, int]
    energy_pj: dict[str, float]
    host_requests: int  # of the background, that were done meanwhile
    host_mean_ns: float  # latency of those; nan where there are none

    @property
    def bottleneck(self) -> str:
        """The part that worked for the longest."""
        return max(self.busy, key=self.busy.get)


@kernel
def _operate(state, route, operation, address, is_write, outstanding, size_bytes, sent_ns, totals):
    """Run an operation, with requests of the host's beside it; return when it ended, infinity where it does not.

    operation: first byte, size, FLOPs a byte, bytes returned. Tickets: 0 the operation's, then those of requests.
    totals: float64[2], requests done and the sum of their latencies.
    """
    now_ns, sent, under_way = 0.0, 0, 0
    begin_operation(state, 0, route, np.int64(operation[0]), np.int64(operation[1]), operation[2], operation[3])
    while True:
        while under_way < outstanding:
            place = sent % address.size
            if not _submit(state, sent + 1, now_ns, address[place], size_bytes, is_write[place]):
                break
            sent_ns[place] = now_ns
            sent += 1
            under_way += 1
        now_ns = _next_event(state)
        if now_ns == np.inf:
            return now_ns
        count = _advance(state, now_ns)
        for i in range(count):
            ticket = state.done_ticket[i]
            if ticket == 0:
                return now_ns
            under_way -= 1
            totals[0] += 1
            totals[1] += state.done_ns[i] - sent_ns[(ticket - 1) % address.size]


def run_operation(parameters: Csd, operation: Operation, route: str = "engine", background: Background | None = None):
    """A `Run`, from rest, over the first bytes of the drive. Raises InputError for what it cannot hold."""
    background = background or Background()
    _check(parameters, operation, background)
    state = make_state(parameters)
    places = max(1, parameters.capacity_bytes // background.size_bytes)
    rng, count = np.random.default_rng(background.seed), max(1 << 16, 4 * background.outstanding)
    address = rng.integers(0, places, count) * background.size_bytes
    is_write = rng.random(count) >= background.read_ratio
    asked = np.array([0, operation.size_bytes, operation.flops_per_byte, operation.returned_bytes], np.float64)
    sent_ns, totals = np.zeros(count), np.zeros(2)
    load = (address, is_write, background.outstanding, background.size_bytes)
    elapsed_ns = float(_operate(state, ROUTES.index(route), asked, *load, sent_ns, totals))
    if not math.isfinite(elapsed_ns):
        raise RuntimeError("an operation came to a standstill")
    counts = dict(zip(csd.COUNTS, map(int, state.counts), strict=True))
    energy_pj = csd.energy_pj(parameters, state.counts, elapsed_ns)
    mean_ns = float(totals[1] / totals[0]) if totals[0] else float("nan")
    busy = _busy(parameters, state, route, elapsed_ns)
    return Run(route, elapsed_ns, busy, counts, energy_pj, int(totals[0]), mean_ns)


def _check(parameters: Csd, operation: Operation, background: Background) -> None:
    if operation.size_bytes > parameters.capacity_bytes:
        expected = f"at most {parameters.capacity_bytes} bytes, what the drive holds"
        raise InputError(f"{operation.kind} of", value=operation.size_bytes, expected=expected)
    if background.outstanding < 0 or not 0 <= background.read_ratio <= 1:
        raise InputError("the host's requests: outstanding and read ratio are", value=background.outstanding)
    if not 0 < background.size_bytes <= parameters.capacity_bytes:
        raise InputError("the host's requests are of", value=background.size_bytes, expected="a size on the drive")


def _busy(parameters: Csd, state: CsdState, route: str, elapsed_ns: float) -> dict[str, float]:
    nand, ssd, own = parameters.ssd.nand, state.ssd.real, state.real
    dies = nand.channels * nand.chips_per_channel * (nand.dies_per_chip if nand.die_interleaving else 1)
    held_ns = {
        "flash": ssd[ARRAYS_BUSY] / dies,
        "channels": ssd[CHANNELS_BUSY] / nand.channels,
        "internal path": ssd[INTERNAL_BUSY],
        "link": ssd[UP_BUSY],
        "engine memory": own[MEMORY_BUSY],
        "engine": own[ENGINE_BUSY],
        {"host_gpu": "host memory", "peer": "peer path"}.get(route, "peer path"): own[ROUTE_BUSY],
    }
    return {part: min(1.0, float(ns / elapsed_ns)) for part, ns in held_ns.items() if ns > 0}


# --- a device --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """One operation by every route: near the flash, to the host's memory, from there to a GPU, to the GPU directly."""

    operation: Operation
    runs: dict[str, Run]

    def speed_up(self, over: str) -> float:
        """How many times faster the engine is than this route."""
        return self.runs[over].elapsed_ns / self.runs["engine"].elapsed_ns


def compare_routes(
    device: str, pattern: str, changes: Mapping[str, Any] | None = None, background: Background | None = None
) -> Comparison:
    """An operation on a computational drive, a shipped name or a file. Raises InputError."""
    part = load_device(device)
    if part.model != "csd":
        expected = "a computational drive, such as csd_smartssd_3840g"
        raise InputError(f"device {part.name!r} has no engine: its model is", value=part.model, expected=expected)
    operation, parameters = parse_operation(pattern), csd.of_device(part, changes or {})
    return Comparison(operation, {r: run_operation(parameters, operation, r, background) for r in ROUTES})
