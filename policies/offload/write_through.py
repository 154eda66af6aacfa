"""Every block that enters the tier above, or is hit there and missing here, is written here at once (write-through;
for KV caches HiCache's `write_through`, SGLang 2025).
"""

from __future__ import annotations

from typing import NamedTuple

from sim.policy import OffloadPolicy


class State(NamedTuple):
    pass


def init(context):
    return State()


def copy_on_insert(state, request):
    return True


def copy_on_hit(state, request):
    return True


def copy_on_evict(state, block):
    return False


def keep_on_promote(state, block):
    return True


POLICY = OffloadPolicy(
    name="write_through",
    init=init,
    copy_on_insert=copy_on_insert,
    copy_on_hit=copy_on_hit,
    copy_on_evict=copy_on_evict,
    keep_on_promote=keep_on_promote,
)
