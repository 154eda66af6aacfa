"""Nothing comes down from the tier above: this tier holds what was put here first, and keeps what it gives back."""

from __future__ import annotations

from typing import NamedTuple

from sim.policy import OffloadPolicy


class State(NamedTuple):
    pass


def init(context):
    return State()


def copy_on_insert(state, request):
    return False


def copy_on_hit(state, request):
    return False


def copy_on_evict(state, block):
    return False


def keep_on_promote(state, block):
    return True


POLICY = OffloadPolicy(
    name="none",
    init=init,
    copy_on_insert=copy_on_insert,
    copy_on_hit=copy_on_hit,
    copy_on_evict=copy_on_evict,
    keep_on_promote=keep_on_promote,
)
