"""Every block that fits is admitted."""

from __future__ import annotations

from typing import NamedTuple

from sim.policy import AdmissionPolicy


class State(NamedTuple):
    pass


def init(context):
    return State()


def admit(state, request):
    return True


POLICY = AdmissionPolicy(name="always", init=init, admit=admit)
