"""AdaptSize: a block of s bytes is admitted with probability exp(-s / c), and c is tuned to the accesses seen (Berger,
Sitaraman and Harchol-Balter, "AdaptSize: Orchestrating the Hot Object Memory Cache in a CDN", NSDI 2017).

Every `interval` accesses the rate of each block is estimated anew, as `smoothing` times the estimate so far and the
rest from the interval, and that c is taken with which the paper's Markov model of an LRU cache hits most often: a block
of rate r, admitted with probability p, is in the cache with probability p (e^(rT) - 1) / (1 + p (e^(rT) - 1)). T, the
time that an unused block stays, is such that the expected bytes in the cache are its capacity. Blocks of a rate below
0.1 an interval are left out. Until the first tuning c is `initial_bytes`.

c is sought between 1 byte and the capacity: every factor of 4 first, then by golden section around the best. The
authors' program has a rational approximation where we compute the exponential, finds T by a fixed number of steps, and
has a rule of its own for when it begins to tune. What a tuning costs grows with the blocks of the interval; 200,000 of
them take some seconds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import subroutine
from sim.kernels.random import make_rng, uniform
from sim.policy import AdmissionPolicy

NEGLIGIBLE = 0.1  # accesses an interval
LARGE = 40.0  # e to this power plus or minus 1 is the same in float64
CLOSE = 1e-3  # T is found to within this share
WORTH = 1e-4  # of hit ratio that a smaller c has to gain
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
COARSE, SECTIONS = 2.0, 8  # step of log2(c), and how often the range around the best is cut


class State(NamedTuple):
    rate: np.ndarray  # float64[blocks]: accesses an interval, smoothed
    recent: np.ndarray  # int64[blocks]: accesses in this interval
    size_of: np.ndarray  # int64[blocks]: as of the last access
    rates: np.ndarray  # float64[blocks]: scratch: rates without gaps
    sizes: np.ndarray  # float64[blocks]: scratch: the sizes of those blocks
    limit: np.ndarray  # float64[1]: c
    accesses: np.ndarray  # int64[1]: in this interval
    rng: np.ndarray
    capacity: int
    interval: int
    smoothing: float


def init(context, *, interval=250_000, smoothing=0.3, initial_bytes=32768.0):
    if interval < 1:
        raise ValueError(f"interval is {interval}; expected at least 1")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}; expected 0 to less than 1")
    if not 0 < initial_bytes < math.inf:
        raise ValueError(f"initial_bytes is {initial_bytes}; expected more than 0")
    blocks = context.blocks
    return State(
        rate=np.zeros(blocks, np.float64),
        recent=np.zeros(blocks, np.int64),
        size_of=np.zeros(blocks, np.int64),
        rates=np.zeros(blocks, np.float64),
        sizes=np.zeros(blocks, np.float64),
        limit=np.array([initial_bytes]),
        accesses=np.zeros(1, np.int64),
        rng=make_rng(context.seed),
        capacity=context.capacity,
        interval=interval,
        smoothing=smoothing,
    )


@subroutine
def _estimate(rate, recent, size_of, smoothing, rates, sizes):
    """Take the interval into the rates; those that matter and their sizes are then at the beginning of the scratch."""
    known = 0
    for block in range(rate.size):
        if rate[block] > 0:
            rate[block] = smoothing * rate[block] + (1.0 - smoothing) * recent[block]
        else:
            rate[block] = recent[block]
        recent[block] = 0
        if rate[block] < NEGLIGIBLE:
            rate[block] = 0.0
            continue
        rates[known], sizes[known] = rate[block], size_of[block]
        known += 1
    return known


@subroutine
def _resident(rate, burden, time):
    """The probability that a block is in the cache that is admitted with probability e ** -burden."""
    product = rate * time
    if product < LARGE:
        gained = math.exp(-burden) * math.expm1(product)
        return gained / (1.0 + gained)
    return 1.0 / (1.0 + math.exp(min(burden - product, LARGE)))


@subroutine
def _expected(rates, sizes, limit, time):
    """Bytes in the cache, and hits an interval."""
    held = hits = 0.0
    for i in range(rates.size):
        resident = _resident(rates[i], sizes[i] / limit, time)
        held += sizes[i] * resident
        hits += rates[i] * resident
    return held, hits


@subroutine
def hit_ratio(log2_limit, rates, sizes, capacity):
    """What the model expects of c = 2 ** log2_limit."""
    limit, demand, total, largest = 2.0**log2_limit, 0.0, 0.0, 0.0
    for i in range(rates.size):
        demand += rates[i] * sizes[i]
        total += rates[i]
        largest = max(largest, sizes[i])
    # T is at least as long as if each access left its block there for T, and at most until each is there all the time
    low, high = capacity / demand, (largest / limit + LARGE) / NEGLIGIBLE
    held_low, hits_low = _expected(rates, sizes, limit, low)
    held_high, hits_high = _expected(rates, sizes, limit, high)
    while high > low * (1.0 + CLOSE):
        middle = math.sqrt(low * high)
        held, hits = _expected(rates, sizes, limit, middle)
        if held < capacity:
            low, held_low, hits_low = middle, held, hits
        else:
            high, held_high, hits_high = middle, held, hits
    if held_high <= capacity or held_low >= capacity:
        return hits_high / total
    share = (capacity - held_low) / (held_high - held_low)  # the bytes may jump from below the capacity to above it
    return (hits_low + share * (hits_high - hits_low)) / total


@subroutine
def best_limit(rates, sizes, capacity):
    """log2 of the c between 1 and the capacity with which the model hits most often, the largest of near equals."""
    top = math.log2(capacity)
    best, most, at = top, hit_ratio(top, rates, sizes, capacity), top
    while at > 0.0:
        at = max(at - COARSE, 0.0)
        ratio = hit_ratio(at, rates, sizes, capacity)
        if ratio > most + WORTH:
            best, most = at, ratio
    low, high = max(best - COARSE, 0.0), min(best + COARSE, top)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    ratio_left, ratio_right = hit_ratio(left, rates, sizes, capacity), hit_ratio(right, rates, sizes, capacity)
    for _ in range(SECTIONS):
        if ratio_left > ratio_right:
            high, right, ratio_right = right, left, ratio_left
            left = high - GOLDEN * (high - low)
            ratio_left = hit_ratio(left, rates, sizes, capacity)
        else:
            low, left, ratio_left = left, right, ratio_right
            right = low + GOLDEN * (high - low)
            ratio_right = hit_ratio(right, rates, sizes, capacity)
        if max(ratio_left, ratio_right) > most + WORTH:
            best, most = (left, ratio_left) if ratio_left > ratio_right else (right, ratio_right)
    return best


@subroutine
def _tune(state):
    known = _estimate(state.rate, state.recent, state.size_of, state.smoothing, state.rates, state.sizes)
    if known > 0:
        best = best_limit(state.rates[:known], state.sizes[:known], state.capacity)
        state.limit[0] = 2.0**best


def on_access(state, request):
    state.recent[request.block] += 1
    state.size_of[request.block] = request.size_bytes
    state.accesses[0] += 1
    if state.accesses[0] == state.interval:
        state.accesses[0] = 0
        _tune(state)


def admit(state, request):
    return uniform(state.rng) < math.exp(-request.size_bytes / state.limit[0])


POLICY = AdmissionPolicy(name="adaptsize", init=init, admit=admit, on_access=on_access)
