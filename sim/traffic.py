"""Synthetic traffic against one device model alone: how much it sustains, and how long requests take.

Patterns: `seq` (one request after the other), `rand` (uniform), `strideN` (every N bytes), `burstN` (blocks of N bytes
at random places, each read from end to end), `mstreamN` (N sequential streams from random places, in turn). The load
is open (Poisson arrivals at a given rate, whatever the device does) or closed (so many requests outstanding: each
completion brings the next). Requests wait in one queue in front of the device, in order; the first of them is handed
over at an edge of the device's clock as soon as the device takes it.

Several requesters may share the device, each with a load and a queue of its own. Of those whose first request waits,
each in turn hands over one (round robin). One that the device refuses waits until the device has moved on, and so does
its own queue; the others do not wait for it. Who has all of its measured requests goes on, through its addresses and
arrivals again from the start, until all have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sim.errors import InputError
from sim.kernels.compile import plain, specialised
from sim.traffic_drive import (
    BEGIN_NS,
    BEGIN_REFUSED_NS,
    BORN,
    COLD,
    DONE,
    END_NS,
    END_REFUSED_NS,
    FIRST,
    LAST,
    OUTSTANDING,
    PERIOD_NS,
    REFUSED,
    RESULTS,
    SENT,
    SIZE,
    TOTAL,
    UNFINISHED,
    WARMUP,
    Requesters,
    drive,
)

_PATTERN = re.compile(r"(seq|rand|stride|burst|mstream)(\d+)?")
_NUMBERED = ("stride", "burst", "mstream")
_STEPS = 1 << 14  # of the drive, until progress is told
_ENDLESS = 1 << 62
_SHOWN = (50, 90, 99, 99.9)


@dataclass(frozen=True)
class Load:
    """What a device is asked for: `rate_bytes_per_ns` (open loop) or `outstanding` (closed loop), one of them.

    requests are measured after warmup ones were done. Addresses are from base_bytes on, within span_bytes (None: up to
    the end of the device).
    """

    pattern: str = "rand"
    read_ratio: float = 1.0
    size_bytes: int = 64
    rate_bytes_per_ns: float | None = None
    outstanding: int | None = None
    requests: int = 20_000
    warmup: int = 3_000
    seed: int = 1
    base_bytes: int = 0
    span_bytes: int | None = None


@dataclass(frozen=True)
class Result:
    """Of the measured requests. device: from being handed over to the last data; total: with the wait in front.

    Latencies are those of reads, ns, unless they say otherwise; nan where there are none. refused_share: of the time
    measured, how much the first request waited because the device took none. counts: what the model counted meanwhile,
    for all requesters together; empty for one of several.
    """

    bandwidth_bytes_per_ns: float
    elapsed_ns: float
    requests: int
    reads: int
    mean_ns: float
    p50_ns: float
    p90_ns: float
    p99_ns: float
    p999_ns: float
    total_mean_ns: float
    total_p99_ns: float
    write_mean_ns: float
    write_p50_ns: float
    write_p90_ns: float
    write_p99_ns: float
    write_p999_ns: float
    write_total_mean_ns: float
    refused_share: float
    read_bytes: int
    written_bytes: int
    counts: np.ndarray


@dataclass(frozen=True)
class Shared:
    """Several requesters of one device. together: from when all had warmed up until all had their requests done."""

    each: tuple[Result, ...]
    together: Result


def measure(
    model,
    state,
    load: Load,
    capacity_bytes: int,
    clock_ns: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
    compiled: bool = True,
) -> Result:
    """Drive `model` (a `sim.policy.EventModel`) in this state, which must be at rest at time 0.

    clock_ns: period of the clock at whose edges requests are handed over; 0 for at any time. progress(done, requests)
    is called now and then; compiled: not for a model under test. Raises InputError where the load makes no sense, or
    the device never takes a request.
    """
    return measure_together(model, state, [load], capacity_bytes, clock_ns, progress, compiled).together


def measure_together(
    model,
    state,
    loads: Sequence[Load],
    capacity_bytes: int,
    clock_ns: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
    compiled: bool = True,
) -> Shared:
    """As `measure`, with several requesters at once."""
    if not loads:
        raise InputError("no load is given", expected="at least one")
    rings = [requests_of(load, capacity_bytes) for load in loads]
    return _driven(model, state, loads, rings, clock_ns, progress, compiled)


def measure_requests(
    model, state, load: Load, address: np.ndarray, is_write: np.ndarray, capacity_bytes: int | None = None
) -> Result:
    """As `measure` in a closed loop, of these requests in place of a pattern's; warmup + requests of them at least.

    address: int64[n], of requests of load.size_bytes; is_write: bool[n]. Raises InputError for too few of them, or one
    beyond the capacity.
    """
    wanted = load.warmup + load.requests
    if address.size < wanted:
        raise InputError("requests given are", value=address.size, expected=f"at least the {wanted} of the load")
    if capacity_bytes is not None:
        _check_addresses(int(address.min()), int(address.max()) + load.size_bytes, capacity_bytes)
    ring = (address, is_write, np.zeros(address.size))
    return _driven(model, state, [load], [ring], 0.0, None, True).together


def _driven(model, state, loads: Sequence[Load], rings: Sequence[tuple], clock_ns, progress, compiled: bool) -> Shared:
    source, clock_ns = _requesters(loads, rings, state.counts.size), float(clock_ns)
    if source.common[COLD] == 0:  # measured from the start
        source.counts[0] = state.counts
    go_on = specialised(drive, model, state, source, clock_ns, _STEPS) if compiled else plain(drive)
    wanted = sum(load.warmup + load.requests for load in loads)
    while source.common[UNFINISHED] > 0:
        if not go_on(model, state, source, clock_ns, _STEPS):
            raise _stuck(model, source)
        if progress is not None:
            progress(int(np.minimum(source.desk[:, DONE], source.desk[:, LAST]).sum()), wanted)
    each = [_result(source, row) for row in range(len(loads))]
    return Shared(tuple(each), _together(source, each))


def _check(load: Load, capacity_bytes: int) -> None:
    if (load.rate_bytes_per_ns is None) == (load.outstanding is None):
        raise InputError("a load has either a rate or a number of requests outstanding")
    if load.rate_bytes_per_ns is not None and not 0 < load.rate_bytes_per_ns < np.inf:
        raise InputError("rate is", value=load.rate_bytes_per_ns, expected="above zero")
    if load.outstanding is not None and load.outstanding < 1:
        raise InputError("outstanding is", value=load.outstanding, expected="at least 1")
    if not 0 <= load.read_ratio <= 1:
        raise InputError("read ratio is", value=load.read_ratio, expected="from 0 to 1")
    if not 0 < load.size_bytes <= capacity_bytes:
        raise InputError(
            "request size is", value=load.size_bytes, expected=f"1 to {capacity_bytes} bytes, the device's"
        )
    if load.requests < 1 or load.warmup < 0:
        raise InputError("requests are", value=load.requests, expected="at least 1")
    span_bytes = load.size_bytes if load.span_bytes is None else load.span_bytes
    _check_addresses(load.base_bytes, load.base_bytes + span_bytes, capacity_bytes)
    if load.span_bytes is not None and load.span_bytes < load.size_bytes:
        raise InputError("span is", value=load.span_bytes, expected=f"at least a request's {load.size_bytes} bytes")


def _check_addresses(first: int, end: int, capacity_bytes: int) -> None:
    if first < 0 or end > capacity_bytes:
        expected = f"from 0 to {capacity_bytes}, the device's capacity"
        raise InputError("addresses are", value=f"{first} to {end}", expected=expected)


def _requesters(loads: Sequence[Load], rings: Sequence[tuple], counts: int) -> Requesters:
    """All of them before their first request; rings: as `requests_of` gives them."""
    desk, clock = np.zeros((len(loads), 12), np.int64), np.zeros((len(loads), 7))
    totals = [len(ring[0]) for ring in rings]
    for row, (load, (_, _, born_ns)) in enumerate(zip(loads, rings, strict=True)):
        total, extra = totals[row], load.outstanding or 0
        desk[row, [SIZE, OUTSTANDING, WARMUP]] = load.size_bytes, extra, load.warmup
        desk[row, [LAST, FIRST, TOTAL]] = load.warmup + load.requests, sum(totals[:row]), total
        desk[row, RESULTS] = sum(other.requests for other in loads[:row])
        desk[row, BORN] = extra or (total if len(loads) == 1 else _ENDLESS)  # a lone one needs no more
        clock[row, PERIOD_NS] = 0.0 if extra else born_ns[-1]
    results = sum(load.requests for load in loads)
    common = np.zeros(5, np.int64)
    common[[COLD, UNFINISHED]] = int((desk[:, WARMUP] > 0).sum()), len(loads)
    address, is_write, born_ns = (np.concatenate(column) for column in zip(*rings, strict=True))
    return Requesters(
        desk=desk,
        clock=clock,
        common=common,
        now_ns=np.zeros(1),
        address=address,
        is_write=is_write,
        born_ns=born_ns,
        sent_ns=np.zeros(len(address)),
        device_ns=np.zeros(results),
        total_ns=np.zeros(results),
        wrote=np.zeros(results, bool),
        marks=np.zeros(2),
        moved=np.zeros((2, 2), np.int64),
        counts=np.zeros((2, counts), np.int64),
    )


def requests_of(load: Load, capacity_bytes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(address, is_write, born_ns) of one requester's requests, more of them than are measured.

    Raises InputError where the load makes no sense for a device of this capacity.
    """
    _check(load, capacity_bytes)
    total = load.warmup + load.requests + (load.outstanding or 256)
    rng = np.random.default_rng(load.seed)
    born_ns = np.zeros(total)
    if load.rate_bytes_per_ns is not None:
        born_ns = np.cumsum(rng.exponential(load.size_bytes / load.rate_bytes_per_ns, total))
    span = capacity_bytes - load.base_bytes if load.span_bytes is None else load.span_bytes
    places = load.base_bytes + addresses(load.pattern, total, load.size_bytes, span, rng)
    return places, rng.random(total) >= load.read_ratio, born_ns


def addresses(pattern: str, count: int, size_bytes: int, capacity_bytes: int, rng) -> np.ndarray:
    """int64[count], multiples of the size below the capacity. Raises InputError for what is no pattern."""
    match = _PATTERN.fullmatch(pattern)
    if match is None or (match[1] in _NUMBERED) != (match[2] is not None):
        raise InputError(
            "unknown pattern", value=pattern, expected="seq, rand, strideN, burstN or mstreamN (N a number)"
        )
    kind, number = match[1], int(match[2] or 0)
    places = capacity_bytes // size_bytes
    index = np.arange(count)
    if kind in _NUMBERED and not 0 < number <= capacity_bytes:
        raise InputError(f"pattern {pattern!r}: the number is", value=number, expected=f"from 1 to {capacity_bytes}")
    if kind == "seq":
        return index % places * size_bytes
    if kind == "rand":
        return rng.integers(0, places, count) * size_bytes
    if kind == "stride":
        return index * number % (places * size_bytes)
    if kind == "burst":
        each = max(1, number // size_bytes)
        blocks = rng.integers(0, max(1, places // each), -(-count // each))
        return (blocks[index // each] * each + index % each) * size_bytes
    bases = rng.integers(0, places, number)
    return (bases[index % number] + index // number) % places * size_bytes


def _stuck(model, source: Requesters) -> InputError:
    """Why nothing can happen any more though not all is done."""
    refused = source.desk[source.desk[:, REFUSED] > 0]
    if refused.size:
        problem = f"device model {model.name!r}, with nothing under way, refuses a request of"
        return InputError(problem, value=int(refused[0, SIZE]), expected="bytes that its queue can hold")
    lost = int((source.desk[:, SENT] - source.desk[:, DONE]).sum())
    return InputError(f"device model {model.name!r} never completes {lost} of the requests that it took")


# --- what it gave ----------------------------------------------------------------------------------------------------


def _result(source: Requesters, row: int) -> Result:
    """Of one requester."""
    desk, clock = source.desk[row], source.clock[row]
    requests = int(desk[LAST] - desk[WARMUP])
    measured = slice(desk[RESULTS], desk[RESULTS] + requests)
    elapsed_ns = float(clock[END_NS] - clock[BEGIN_NS])
    writes = int(source.wrote[measured].sum())
    return Result(
        bandwidth_bytes_per_ns=_per(requests * int(desk[SIZE]), elapsed_ns),
        elapsed_ns=elapsed_ns,
        **_latencies(source.device_ns[measured], source.total_ns[measured], source.wrote[measured]),
        refused_share=_per(float(clock[END_REFUSED_NS] - clock[BEGIN_REFUSED_NS]), elapsed_ns),
        read_bytes=(requests - writes) * int(desk[SIZE]),
        written_bytes=writes * int(desk[SIZE]),
        counts=np.zeros(0, np.int64),
    )


def _together(source: Requesters, each: Sequence[Result]) -> Result:
    """Of all requesters: latencies of what was measured of each, bytes of all that was done in the common time."""
    elapsed_ns = float(source.marks[1] - source.marks[0])
    read_bytes, written_bytes = (source.moved[1] - source.moved[0]).tolist()
    return Result(
        bandwidth_bytes_per_ns=_per(read_bytes + written_bytes, elapsed_ns),
        elapsed_ns=elapsed_ns,
        **_latencies(source.device_ns, source.total_ns, source.wrote),
        refused_share=sum(one.refused_share for one in each) / len(each),
        read_bytes=read_bytes,
        written_bytes=written_bytes,
        counts=source.counts[1] - source.counts[0],
    )


def result_of(load: Load, latency_ns: np.ndarray, wrote: np.ndarray, elapsed_ns: float) -> Result:
    """The result of a load whose requests wait in no queue in front, from what was measured of each of them."""
    written_bytes = int(wrote.sum()) * load.size_bytes
    return Result(
        bandwidth_bytes_per_ns=_per(len(wrote) * load.size_bytes, elapsed_ns),
        elapsed_ns=elapsed_ns,
        **_latencies(latency_ns, latency_ns, wrote),
        refused_share=0.0,
        read_bytes=len(wrote) * load.size_bytes - written_bytes,
        written_bytes=written_bytes,
        counts=np.zeros(0, np.int64),
    )


def _latencies(device_ns: np.ndarray, total_ns: np.ndarray, wrote: np.ndarray) -> dict[str, float]:
    whole_ns = total_ns[~wrote]
    return {
        "requests": len(wrote),
        "reads": len(whole_ns),
        **_spread(device_ns[~wrote], ""),
        "total_mean_ns": _mean(whole_ns),
        "total_p99_ns": _percentiles(whole_ns, (99,))[0],
        **_spread(device_ns[wrote], "write_"),
        "write_total_mean_ns": _mean(total_ns[wrote]),
    }


def _spread(values_ns: np.ndarray, prefix: str) -> dict[str, float]:
    names = (f"{prefix}{name}_ns" for name in ("p50", "p90", "p99", "p999"))
    return {f"{prefix}mean_ns": _mean(values_ns), **dict(zip(names, _percentiles(values_ns, _SHOWN), strict=True))}


def _per(amount: float, elapsed_ns: float) -> float:
    return amount / elapsed_ns if elapsed_ns > 0 else float("nan")


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _percentiles(values: np.ndarray, wanted: tuple[float, ...]) -> list[float]:
    return [float(v) for v in np.percentile(values, wanted)] if values.size else [float("nan")] * len(wanted)
