"""A block is written here when the tier above evicts it, and what is read back up keeps its copy (write-back, as
HiCache's `write_back`, SGLang 2025).
"""

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
    return True


def keep_on_promote(state, block):
    return True


POLICY = OffloadPolicy(
    name="write_back",
    init=init,
    copy_on_insert=copy_on_insert,
    copy_on_hit=copy_on_hit,
    copy_on_evict=copy_on_evict,
    keep_on_promote=keep_on_promote,
)
