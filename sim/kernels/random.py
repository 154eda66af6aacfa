"""A small seeded random generator that compiled and plain Python code step alike (SplitMix64, Steele et al. 2014)."""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import inlined, subroutine

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_UNIT = 1.0 / (1 << 53)


def make_rng(seed: int) -> np.ndarray:
    """State of one generator: uint64[1]."""
    return np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64)


@inlined
def following(word):
    """The state of a generator, as a number, after one more step: for a loop that draws often (see `unit_of`)."""
    return word + _GOLDEN


@inlined
def unit_of(word):
    """The float64 in [0, 1) that belongs to a state, as a number."""
    z = (word ^ (word >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return np.float64((z ^ (z >> _S31)) >> _S11) * _UNIT


@subroutine
def uniform(rng):
    """The next float64 in [0, 1)."""
    rng[0] = following(rng[0])
    return unit_of(rng[0])


@subroutine
def below(rng, bound):
    """The next integer in [0, bound); the bias of bound / 2^53 is below what any trace can show."""
    return np.int64(uniform(rng) * bound)
