"""An eviction policy as a plain Python class: slow, and as free as Python is.

    class Mine:
        def __init__(self, context, *, factor=2): ...
        def on_hit(self, request): ...
        def on_insert(self, request): ...
        def evict(self, request): ...          # returns the block that leaves

with `on_miss(request)`, `admit(request)`, `remove(block)`, and the class attributes `name`, `needs` and `uses` where
wanted; they mean what they do for `sim.EvictionPolicy`. Nothing of it is compiled, so it is replayed by the loop below,
at some hundred thousand requests/s, and cannot take part in a timed run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from sim.engines.columns import Columns
from sim.engines.replay import (
    BYPASSED,
    EVICTIONS,
    HIT_BYTES,
    HITS,
    NOT_RESIDENT,
    REQUESTED_BYTES,
    REQUESTS,
    USED,
    Cache,
)
from sim.errors import InputError
from sim.kernels.optional_array import set_value, value_at
from sim.policy import EvictionPolicy, Request

_REQUIRED, _OPTIONAL = ("on_hit", "on_insert", "evict"), ("on_miss", "admit", "remove")
_DEFAULTS = Columns(0, 0.0, 1, 0, 0, -1, 0, 1.0, float("inf"), 0, -1.0, 0)


def plain_policy(made: type) -> EvictionPolicy:
    """The policy that a class is. Raises InputError where it lacks a method."""
    name = getattr(made, "name", made.__name__)
    for hook in _REQUIRED:
        if not callable(getattr(made, hook, None)):
            raise InputError(f"policy class {name!r} has no method", value=hook, expected=f"def {hook}(self, request)")

    def init(context, **parameters):
        return made(context, **parameters)

    init.__signature__ = inspect.signature(made)
    hooks = {hook: _calling(hook) for hook in (*_REQUIRED, *_OPTIONAL) if hasattr(made, hook)}
    needs, uses = tuple(getattr(made, "needs", ())), tuple(getattr(made, "uses", ()))
    return EvictionPolicy(name=name, init=init, needs=needs, uses=uses, doc=made.__doc__ or name, plain=True, **hooks)


def _calling(hook: str):
    return lambda state, argument: getattr(state, hook)(argument)


def replay_plainly(policy, state, admission, admission_state, cache: Cache, first: int, columns: Columns, address_of):
    """As `sim.engines.replay.replay_rows`, in Python; the hooks of `admission` are called as Python, too."""
    counts, resident, size_of = cache.counts, cache.resident, cache.size_of
    on_access, admit = (getattr(hook, "py_func", hook) for hook in (admission.on_access, admission.admit))
    on_hit, on_insert, evict, on_miss, takes = (
        getattr(hook, "py_func", hook)
        for hook in (policy.on_hit, policy.on_insert, policy.evict, policy.on_miss, policy.admit)
    )
    for request in requests_of(columns, first, address_of):
        block, size = request.block, request.size_bytes
        counts[REQUESTS] += 1
        counts[REQUESTED_BYTES] += size
        on_access(admission_state, request)
        if resident[block]:
            counts[HITS] += 1
            counts[HIT_BYTES] += size
            on_hit(state, request)
            continue
        on_miss(state, request)
        if size > cache.capacity:
            counts[BYPASSED] += 1
            continue
        if not admit(admission_state, request):
            continue
        if not takes(state, request):
            counts[BYPASSED] += 1
            continue
        while counts[USED] + size > cache.capacity:
            victim = evict(state, request)
            if not isinstance(victim, int) or not 0 <= victim < resident.size or not resident[victim]:
                if victim == block:
                    counts[BYPASSED] += 1
                    break
                cache.fault[:] = NOT_RESIDENT, request.index, victim if isinstance(victim, int) else -1
                return
            resident[victim] = False
            counts[USED] -= value_at(size_of, victim, 1)
            counts[EVICTIONS] += 1
        else:
            resident[block] = True
            counts[USED] += size
            set_value(size_of, block, size)
            on_insert(state, request)


def requests_of(columns: Columns, first: int, address_of) -> Iterator[Request]:
    """The request of each row, of Python's own numbers."""
    rows = columns.block.size
    lists = [
        [default] * rows if column is None else column.tolist()
        for column, default in zip(columns, _DEFAULTS, strict=True)
    ]
    addresses = lists[0] if address_of is None else address_of[columns.block].tolist()
    for at, (address, row) in enumerate(zip(addresses, zip(*lists, strict=True), strict=True)):
        block, arrival_ns, size, op, *rest = row
        yield Request(first + at, block, address, size, arrival_ns, op == 1, *rest)
