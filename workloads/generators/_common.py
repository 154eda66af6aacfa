"""What the generators share: sizes, writes and arrival processes, and the drawing of it all in chunks.

A generator's own part is a function (rng, requests, **its parameters) -> (universe, draw): how many ids there are, and
draw(first, n), which gives the ids (0 to universe - 1) of requests first to first + n - 1 and is called in order. Every
column has a random stream of its own, so that a change of sizes, say, does not move the ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.trace import Trace
from sim.trace_building import Chunk, build_trace
from sim.trace_options import BYTES, Generator, Option

Draw = Callable[[int, int], np.ndarray]

_CHUNK_ROWS = 1 << 18  # part of the meaning of a seed: a bursty or drifting draw is made chunk by chunk
_LARGEST = 1 << 40

OBJECTS = Option(10_000, "distinct objects", at_least=1, at_most=1 << 30)
ALPHA = Option(
    1.0, "Zipf exponent: the k-th most popular object is drawn in proportion to k^-alpha", at_least=0.0, at_most=20.0
)
SHUFFLE = Option(True, "scatter popular objects over the ids, rather than give the most popular the lowest id")

COMMON = {
    "requests": Option(100_000, "how many requests", at_least=1, at_most=1 << 36),
    "size": Option(
        "constant",
        "how objects' sizes are distributed; an object keeps its size",
        choices=("constant", "uniform", "lognormal", "exponential"),
    ),
    "size_bytes": Option(4096, "mean size of an object", kind=BYTES, at_least=1, at_most=_LARGEST),
    "size_min_bytes": Option(1, "sizes are raised to this", kind=BYTES, at_least=1, at_most=_LARGEST),
    "size_max_bytes": Option(_LARGEST, "sizes are cut to this", kind=BYTES, at_least=1, at_most=_LARGEST),
    "size_sigma": Option(1.0, "lognormal: standard deviation of the logarithm", at_least=0.0, at_most=10.0),
    "write_ratio": Option(0.0, "share of requests that write", at_least=0.0, at_most=1.0),
    "arrival": Option(
        "poisson",
        "when requests arrive; closed: each a think time after the completion of the one before; none: no times",
        choices=("poisson", "constant", "bursty", "closed", "none"),
    ),
    "rate_per_s": Option(1e6, "mean requests a second (open arrivals)", at_least=1e-9, at_most=1e15),
    "burst_factor": Option(5.0, "bursty: rate within a burst over the mean rate", at_least=1.0, at_most=1e9),
    "burst_share": Option(0.1, "bursty: share of the time that is burst", at_least=1e-9, at_most=1.0),
    "burst_ns": Option(1e6, "bursty: mean length of a burst", at_least=1e-3, at_most=1e18),
    "think": Option("exponential", "closed: distribution of think times", choices=("exponential", "constant")),
    "think_ns": Option(1000.0, "closed: mean think time", at_least=0.0, at_most=1e18),
}


def generator(
    name: str, description: str, ids: Callable[..., tuple[int, Draw]], own: Mapping[str, Option]
) -> Generator:
    """The generator whose ids come from `ids`, with the common parameters and its own."""
    parameters = {**COMMON, **own}

    def build(seed: int, **given: Any) -> Trace:
        chosen = {key: given.get(key, option.default) for key, option in parameters.items()}
        return build_trace(name, _chunks(seed, chosen, ids, own))

    return Generator(name, description, build, parameters)


def zipf_draw(rng: np.random.Generator, objects: int, alpha: float) -> Draw:
    """Ranks 0 to objects - 1, exactly in proportion to (rank + 1)^-alpha, by the inverse of their distribution."""
    cumulative = np.cumsum(np.arange(1, objects + 1, dtype=np.float64) ** -alpha)
    top = np.nextafter(cumulative[-1], 0)  # rounding up to the very sum would draw a rank that there is not
    return lambda _first, n: np.searchsorted(cumulative, np.minimum(rng.random(n) * cumulative[-1], top), side="right")


def scattered(rng: np.random.Generator, objects: int, shuffle: bool) -> np.ndarray:
    """int64[objects] the id of each rank."""
    return rng.permutation(objects) if shuffle else np.arange(objects)


def _chunks(seed: int, p: dict[str, Any], ids: Callable, own: Mapping[str, Option]) -> Iterator[Chunk]:
    streams = np.random.SeedSequence(seed).spawn(4)
    for_ids, for_sizes, for_ops, for_times = (np.random.Generator(np.random.PCG64(stream)) for stream in streams)
    universe, draw = ids(for_ids, p["requests"], **{key: p[key] for key in own})
    size_of = _sizes(for_sizes, universe, p)
    times = _times(for_times, p)
    for first in range(0, p["requests"], _CHUNK_ROWS):
        n = min(_CHUNK_ROWS, p["requests"] - first)
        drawn = draw(first, n)
        yield {
            "id": drawn,
            "size_bytes": size_of(drawn),
            "op": (for_ops.random(n) < p["write_ratio"]).astype(np.uint8),
            **times(first, n),
        }


def _sizes(rng: np.random.Generator, universe: int, p: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A function from ids to their sizes: int64[n] -> int64[n], in bytes."""
    mean, low, high = p["size_bytes"], p["size_min_bytes"], p["size_max_bytes"]
    if low > high:
        raise InputError("size_min_bytes above size_max_bytes", value=low, expected=f"at most {high}")
    if p["size"] == "constant":
        return lambda drawn: np.full(drawn.size, min(max(mean, low), high), np.int64)
    if p["size"] == "uniform":  # as wide as its mean and its bounds allow
        reach = min(mean - low, high - mean)
        if reach < 0:
            raise InputError("size_bytes outside its bounds", value=mean, expected=f"from {low} to {high}")
        sizes = rng.integers(mean - reach, mean + reach, universe, endpoint=True)
    elif p["size"] == "exponential":
        sizes = rng.exponential(mean, universe)
    else:
        sigma = p["size_sigma"]
        sizes = rng.lognormal(np.log(mean) - sigma * sigma / 2, sigma, universe)
    table = np.clip(np.rint(sizes), low, high).astype(np.int64)
    return lambda drawn: table[drawn]


def _times(rng: np.random.Generator, p: dict[str, Any]) -> Callable[[int, int], dict[str, np.ndarray]]:
    """A function (first, n) -> the column of times of those requests; called in order."""
    gap_ns = 1e9 / p["rate_per_s"]
    if p["arrival"] == "none":
        return lambda _first, _n: {}
    if p["arrival"] == "closed":
        mean = p["think_ns"]
        if p["think"] == "constant":
            return lambda _first, n: {"think_ns": np.full(n, mean)}
        return lambda _first, n: {"think_ns": rng.exponential(mean, n)}
    if p["arrival"] == "constant":
        return lambda first, n: {"arrival_ns": np.arange(first, first + n) * gap_ns}
    arrivals = open_arrivals(rng, gap_ns, p)
    return lambda _first, n: {"arrival_ns": arrivals(n)}


def open_arrivals(rng: np.random.Generator, gap_ns: float, p: Mapping[str, Any]) -> Callable[[int], np.ndarray]:
    """A function that gives the next n arrivals, float64[n] ns; p: `arrival`, and for bursty ones `burst_*`."""
    return _Poisson(rng, gap_ns) if p["arrival"] == "poisson" else _Bursty(rng, gap_ns, p)


class _Poisson:
    """Arrivals with independent exponential gaps."""

    def __init__(self, rng: np.random.Generator, gap_ns: float):
        self.rng, self.gap_ns, self.now_ns = rng, gap_ns, 0.0

    def __call__(self, n: int) -> np.ndarray:
        arrival_ns = self.now_ns + np.cumsum(self.rng.exponential(self.gap_ns, n))
        self.now_ns = float(arrival_ns[-1])
        return arrival_ns


class _Bursty:
    """A Markov-modulated Poisson process of two states: a Poisson process whose rate is high in bursts, low between.

    Both last exponential times. Arrivals of a unit Poisson process are counted in expected requests and carried over to
    time through the integral of the rate, which is a straight line within a state; the mean rate is what was asked for.
    """

    def __init__(self, rng: np.random.Generator, gap_ns: float, p: dict[str, Any]):
        share, factor = p["burst_share"], p["burst_factor"]
        if share * factor > 1 or share == 1:
            expected = "burst_share below 1 and burst_share x burst_factor at most 1, for the mean rate to be the mean"
            raise InputError("bursts exceed the mean rate: burst_factor", value=factor, expected=expected)
        if p["burst_ns"] / share < gap_ns / 100:
            expected = f"at least {gap_ns * share / 100:g}; bursts far shorter than the time between requests are none"
            raise InputError("too small", field="burst_ns", value=p["burst_ns"], expected=expected)
        self.rng = rng
        self.rates = (factor / gap_ns, (1 - share * factor) / (1 - share) / gap_ns)  # requests a ns: burst, between
        self.mean_ns = (p["burst_ns"], p["burst_ns"] * (1 - share) / share)
        self.unit = _Poisson(rng, 1.0)
        # where each spell starts, in expected requests and in time; the last entry is where the next one will
        self.work, self.time = np.zeros(1), np.zeros(1)
        self.first_state = 0

    def __call__(self, n: int) -> np.ndarray:
        wanted = self.unit(n)
        while self.work[-1] <= wanted[-1]:
            self._more_spells(wanted[-1] - self.work[-1])
        spell = np.searchsorted(self.work, wanted, side="right") - 1
        rate = np.array(self.rates)[(self.first_state + spell) % 2]
        arrival_ns = self.time[spell] + (wanted - self.work[spell]) / rate
        self._forget(int(spell[-1]))
        return np.maximum.accumulate(arrival_ns)  # rounding at the end of a spell must not put two out of order

    def _more_spells(self, more_work: float) -> None:
        """Add about as many spells as bring `more_work` more expected requests."""
        work_a_pair = sum(mean * rate for mean, rate in zip(self.mean_ns, self.rates, strict=True))
        count = 64 + int(2.1 * more_work / work_a_pair)
        state = (self.first_state + self.work.size - 1 + np.arange(count)) % 2
        lengths_ns = self.rng.exponential(np.array(self.mean_ns)[state])
        self.time = np.concatenate([self.time, self.time[-1] + np.cumsum(lengths_ns)])
        self.work = np.concatenate([self.work, self.work[-1] + np.cumsum(lengths_ns * np.array(self.rates)[state])])

    def _forget(self, spells: int) -> None:
        self.work, self.time = self.work[spells:], self.time[spells:]
        self.first_state = (self.first_state + spells) % 2
