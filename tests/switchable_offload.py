"""The four ways in which blocks of a KV cache come down as one policy, so that an engine is compiled once for all four.

It asks the shipped policies themselves; which one, its parameter says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from policies.offload import exclusive as e
from policies.offload import write_back as b
from policies.offload import write_through as w
from policies.offload import write_through_selective as s
from sim.choice import Choice
from sim.kernels.compile import inlined
from sim.policy import OffloadPolicy

MODES = ("write_through", "write_through_selective", "write_back", "exclusive")

w_insert, s_insert, b_insert, e_insert = (inlined(module.copy_on_insert) for module in (w, s, b, e))
w_hit, s_hit, b_hit, e_hit = (inlined(module.copy_on_hit) for module in (w, s, b, e))
w_evict, s_evict, b_evict, e_evict = (inlined(module.copy_on_evict) for module in (w, s, b, e))
w_keep, s_keep, b_keep, e_keep = (inlined(module.keep_on_promote) for module in (w, s, b, e))
s_access = inlined(s.on_access)


class State(NamedTuple):
    mode: int
    selective: s.State


def init(context, *, mode="write_through"):
    return State(MODES.index(mode), s.init(context))


def on_access(state, request):
    s_access(state.selective, request)


def copy_on_insert(state, request):
    of, mode = state.selective, state.mode
    if mode == 0:
        return w_insert(of, request)
    return s_insert(of, request) if mode == 1 else b_insert(of, request) if mode == 2 else e_insert(of, request)


def copy_on_hit(state, request):
    of, mode = state.selective, state.mode
    if mode == 0:
        return w_hit(of, request)
    return s_hit(of, request) if mode == 1 else b_hit(of, request) if mode == 2 else e_hit(of, request)


def copy_on_evict(state, block):
    of, mode = state.selective, state.mode
    if mode == 0:
        return w_evict(of, block)
    return s_evict(of, block) if mode == 1 else b_evict(of, block) if mode == 2 else e_evict(of, block)


def keep_on_promote(state, block):
    of, mode = state.selective, state.mode
    if mode == 0:
        return w_keep(of, block)
    return s_keep(of, block) if mode == 1 else b_keep(of, block) if mode == 2 else e_keep(of, block)


POLICY = OffloadPolicy(
    name="any_of_four",
    init=init,
    on_access=on_access,
    copy_on_insert=copy_on_insert,
    copy_on_hit=copy_on_hit,
    copy_on_evict=copy_on_evict,
    keep_on_promote=keep_on_promote,
)


@dataclass(frozen=True)
class Given(Choice):
    """A choice of a plugin that no registry has."""

    given: object = None

    def plugin(self, kind):
        self.given.resolve(self.parameters)
        return self.given


def offload(mode):
    return Given("any_of_four", {"mode": mode}, given=POLICY)
