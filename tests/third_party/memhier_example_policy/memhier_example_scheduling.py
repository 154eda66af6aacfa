"""The shortest prompt goes first; to the next one of the tenant that was served last, `patience` tokens are added.

An example of a scheduling policy from outside of memhier: everything that it needs is in `sim`.
"""

from typing import NamedTuple

import numpy as np

import sim


class State(NamedTuple):
    last: np.ndarray  # int64[1]: tenant of the call that was admitted last; -1 before
    patience: int


def init(context, *, patience=256):
    if patience < 0:
        raise ValueError(f"patience is {patience}; expected 0 or more")
    return State(np.full(1, -1, np.int64), patience)


def rank(state, call):
    return float(call.input_tokens + (state.patience if call.tenant == state.last[0] else 0))


def on_admit(state, call):
    state.last[0] = call.tenant


POLICY = sim.SchedulingPolicy(name="shortest_prompt", init=init, rank=rank, on_admit=on_admit, dynamic=True)
