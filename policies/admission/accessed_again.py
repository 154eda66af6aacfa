"""A missed block is admitted only if the trace accesses it again: what no cache can gain from stays out.

For bounds that know the future, such as `belady_size`. Needs the index of each next access.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.policy import NEVER, AdmissionPolicy


class State(NamedTuple):
    pass


def init(context):
    return State()


def admit(state, request):
    return 0 <= request.next_access < NEVER


POLICY = AdmissionPolicy(name="accessed_again", init=init, admit=admit, needs=("next_access",))
