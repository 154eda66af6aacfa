"""Synthetic traffic against one device model alone: how much it sustains, and how long requests take.

Patterns: `seq` (one request after the other), `rand` (uniform), `strideN` (every N bytes), `burstN` (blocks of N bytes
at random places, each read from end to end), `mstreamN` (N sequential streams from random places, in turn). The load
is open (Poisson arrivals at a given rate, whatever the device does) or closed (so many requests outstanding: each
completion brings the next). Requests wait in one queue in front of the device, in order; the first of them is handed
over at an edge of the device's clock as soon as the device takes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.errors import InputError
from sim.kernels.compile import inlined, kernel

_PATTERN = re.compile(r"(seq|rand|stride|burst|mstream)(\d+)?")
_NUMBERED = ("stride", "burst", "mstream")


@dataclass(frozen=True)
class Load:
    """What a device is asked for: `rate_bytes_per_ns` (open loop) or `outstanding` (closed loop), one of them.

    requests are measured after warmup ones were done.
    """

    pattern: str = "rand"
    read_ratio: float = 1.0
    size_bytes: int = 64
    rate_bytes_per_ns: float | None = None
    outstanding: int | None = None
    requests: int = 20_000
    warmup: int = 3_000
    seed: int = 1


@dataclass(frozen=True)
class Result:
    """Of the measured requests. device: from being handed over to the last data; total: with the wait in front.

    Latencies are those of reads, ns; nan where there are none. counts: what the model counted meanwhile.
    """

    bandwidth_bytes_per_ns: float
    elapsed_ns: float
    requests: int
    reads: int
    mean_ns: float
    p50_ns: float
    p90_ns: float
    p99_ns: float
    total_mean_ns: float
    total_p99_ns: float
    write_mean_ns: float
    counts: np.ndarray


class Source(NamedTuple):
    """Requests in order, and what became of them."""

    address: np.ndarray  # int64[n]
    is_write: np.ndarray  # bool[n]
    born_ns: np.ndarray  # float64[n]: filled in as they come, in a closed loop
    sent_ns: np.ndarray  # float64[n]
    done_ns: np.ndarray  # float64[n]: infinite until then
    order: np.ndarray  # int64[n]: of completion
    marks: np.ndarray  # float64[2]: when the measurement began and ended
    counts: np.ndarray  # int64[2, counts of the model]: then


def measure(model, state, load: Load, capacity_bytes: int, clock_ns: float = 0.0) -> Result:
    """Drive `model` (a `sim.policy.EventModel`) in this state, which must be at rest at time 0.

    clock_ns: period of the clock at whose edges requests are handed over; 0 for at any time.
    Raises InputError where the load makes no sense.
    """
    _check(load, capacity_bytes)
    total = load.warmup + load.requests + (load.outstanding or 256)
    rng = np.random.default_rng(load.seed)
    born_ns = np.zeros(total)
    if load.rate_bytes_per_ns is not None:
        born_ns = np.cumsum(rng.exponential(load.size_bytes / load.rate_bytes_per_ns, total))
    address = addresses(load.pattern, total, load.size_bytes, capacity_bytes, rng)
    return _measure(model, state, load, address, rng.random(total) >= load.read_ratio, born_ns, clock_ns)


def measure_requests(model, state, load: Load, address: np.ndarray, is_write: np.ndarray) -> Result:
    """As `measure` in a closed loop, of these requests in place of a pattern's; warmup + requests of them at least.

    address: int64[n], of requests of load.size_bytes; is_write: bool[n].
    """
    return _measure(model, state, load, address, is_write, np.zeros(address.size), 0.0)


def _measure(model, state, load: Load, address, is_write, born_ns, clock_ns: float) -> Result:
    source = _source(state, address, is_write, born_ns)
    closed, last = load.outstanding or 0, load.warmup + load.requests
    _drive(model, state, source, closed, load.warmup, last, load.size_bytes, clock_ns)
    return _result(source, load)


def _source(state, address, is_write, born_ns) -> Source:
    total = address.size
    return Source(
        address=address,
        is_write=is_write,
        born_ns=born_ns,
        sent_ns=np.zeros(total),
        done_ns=np.full(total, np.inf),
        order=np.zeros(total, np.int64),
        marks=np.zeros(2),
        counts=np.zeros((2, state.counts.size), np.int64),
    )


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


@inlined
def _copy(counts, rows, row):
    for i in range(counts.size):
        rows[row, i] = counts[i]


@kernel
def _drive(model, state, source, closed, warmup, last, size_bytes, clock_ns):
    """Hand over requests, advance, and note what is done, until request number `last` is done."""
    total = source.address.size
    born = min(closed, total) if closed else total
    sent, done, now_ns = 0, 0, 0.0
    blocked = False
    if warmup == 0:
        _copy(state.counts, source.counts, 0)
    while done < last:
        at_ns = np.inf
        if sent < born and not blocked:
            at_ns = source.born_ns[sent]
            if clock_ns > 0.0:
                at_ns = np.ceil(at_ns / clock_ns - 1e-6) * clock_ns
            if at_ns <= now_ns:
                if model.submit(state, sent, now_ns, source.address[sent], size_bytes, source.is_write[sent]):
                    source.sent_ns[sent] = now_ns
                    sent += 1
                else:
                    blocked = True
                continue
        now_ns = min(at_ns, model.next_event(state))
        if now_ns == np.inf:
            break
        count = model.advance(state, now_ns)
        blocked = False
        for i in range(count):
            ticket = state.done_ticket[i]
            source.done_ns[ticket] = state.done_ns[i]
            source.order[done] = ticket
            done += 1
            if closed and born < total:
                source.born_ns[born] = now_ns
                born += 1
            if done == warmup:
                source.marks[0] = now_ns
                _copy(state.counts, source.counts, 0)
            if done == last:
                source.marks[1] = now_ns
                _copy(state.counts, source.counts, 1)


def _result(source: Source, load: Load) -> Result:
    measured = source.order[load.warmup : load.warmup + load.requests]
    reads = measured[~source.is_write[measured]]
    writes = measured[source.is_write[measured]]
    device = source.done_ns[reads] - source.sent_ns[reads]
    total = source.done_ns[reads] - source.born_ns[reads]
    written = source.done_ns[writes] - source.sent_ns[writes]
    elapsed_ns = float(source.marks[1] - source.marks[0])
    p50, p90, p99 = _percentiles(device, (50, 90, 99))
    return Result(
        bandwidth_bytes_per_ns=len(measured) * load.size_bytes / elapsed_ns if elapsed_ns > 0 else float("nan"),
        elapsed_ns=elapsed_ns,
        requests=len(measured),
        reads=len(reads),
        mean_ns=_mean(device),
        p50_ns=p50,
        p90_ns=p90,
        p99_ns=p99,
        total_mean_ns=_mean(total),
        total_p99_ns=_percentiles(total, (99,))[0],
        write_mean_ns=_mean(written),
        counts=source.counts[1] - source.counts[0],
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _percentiles(values: np.ndarray, wanted: tuple[int, ...]) -> list[float]:
    return [float(v) for v in np.percentile(values, wanted)] if values.size else [float("nan")] * len(wanted)
