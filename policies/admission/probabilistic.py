"""A missed block is admitted with a fixed probability, so that what is missed often gets in first (probabilistic
insertion, as in Einziger and Friedman 2014; seeded).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.random import make_rng, uniform
from sim.policy import AdmissionPolicy


class State(NamedTuple):
    rng: np.ndarray
    probability: float


def init(context, *, probability=0.5):
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability}; expected 0 to 1")
    return State(make_rng(context.seed), probability)


def admit(state, request):
    return uniform(state.rng) < state.probability


POLICY = AdmissionPolicy(name="probabilistic", init=init, admit=admit)
