"""Nothing is fetched before it is asked for."""

from __future__ import annotations

from typing import NamedTuple

from sim.policy import PrefetchPolicy


class State(NamedTuple):
    pass


def init(context):
    return State()


def propose(state, request, hit, proposals):
    return 0


def degree(parameters):
    return 0


POLICY = PrefetchPolicy(name="none", init=init, propose=propose, degree=degree)
