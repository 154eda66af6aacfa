"""Replay: hit ratios of one cache, against an obvious simulator and against what is wrong with its input."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim
from sim.engines.columns import position_of
from sim.trace import Calls, Trace

SIZES = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8])
UNCOMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") != "0"


def trace_of(ids, **columns):
    return Trace.from_columns("small", ids=np.asarray(ids, np.int64), **columns)


def lru_hits(ids, sizes, capacity):
    """(hits, hit bytes, bypassed) of an LRU cache."""
    cache, used, hits, hit_bytes, bypassed = OrderedDict(), 0, 0, 0, 0
    for one, size in zip(ids, sizes, strict=True):
        if one in cache:
            cache.move_to_end(one)
            hits, hit_bytes = hits + 1, hit_bytes + size
            continue
        if size > capacity:
            bypassed += 1
            continue
        while used + size > capacity:
            used -= cache.popitem(last=False)[1]
        cache[one] = size
        used += size
    return hits, hit_bytes, bypassed


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=1, max_size=200), st.integers(1, 30), st.booleans())
def test_lru_agrees_with_an_ordered_dict(ids, capacity, ignore):
    sizes = np.ones(len(ids), np.int64) if ignore else SIZES[ids]
    trace = trace_of(ids, size_bytes=SIZES[ids])
    if not ignore:
        capacity += int(trace.block_bytes.min())
    capacity = min(capacity, trace.n_blocks if ignore else int(trace.block_bytes.sum()))
    result = sim.replay(trace, "lru", capacity, ignore_object_size=ignore)
    hits, hit_bytes, bypassed = lru_hits(ids, sizes.tolist(), capacity)
    assert (result.hits, result.bypassed) == (hits, bypassed)
    assert result.byte_hit_ratio == hit_bytes / sizes.sum()
    assert result.hits + result.misses == result.requests == len(ids)


def test_the_result_says_what_was_replayed():
    result = sim.replay(trace_of([1, 2, 1, 3]), "s3fifo:small_ratio=0.25", 2, True, {"promotion_hits": 1})
    assert (result.policy, result.capacity, result.requests, result.objects) == ("s3fifo", 2, 4, 3)
    assert result.parameters["small_ratio"] == 0.25 and result.parameters["promotion_hits"] == 1
    assert result.kernel_seconds > 0


def test_a_replay_in_many_chunks_is_the_same(monkeypatch):
    ids = np.random.default_rng(1).integers(0, 50, 3000)
    whole = sim.replay(trace_of(ids), "lru", 10, True)
    chunks = Trace.chunks
    monkeypatch.setattr(Trace, "chunks", lambda self, *columns: chunks(self, *columns, rows=7))
    steps = []
    parts = sim.replay(trace_of(ids), "lru", 10, True, progress=lambda done, total: steps.append((done, total)))
    assert (parts.hits, parts.misses) == (whole.hits, whole.misses)
    assert steps[0] == (7, 3000) and steps[-1] == (3000, 3000)


def test_next_access_is_made_for_a_policy_that_needs_it():
    trace = trace_of([1, 2, 3, 1, 2, 3, 1, 2, 3])
    assert sim.replay(trace, "belady", 2, True).hits == 3
    assert sim.replay(trace, "lru", 2, True).hits == 0


def test_a_seed_decides_what_chance_does():
    trace = trace_of(np.random.default_rng(2).integers(0, 100, 2000))
    hits = [sim.replay(trace, "random", 20, True, seed=seed).hits for seed in (1, 1, 2, 3)]
    assert hits[0] == hits[1] and len(set(hits)) > 1


def test_an_admission_policy_keeps_large_objects_out():
    trace = trace_of([1, 1, 2, 2], size_bytes=[10, 10, 90, 90])
    assert sim.replay(trace, "lru", 100).hits == 2
    assert sim.replay(trace, "lru", 100, admission="size:max_bytes=50").hits == 1


def test_an_object_larger_than_the_cache_is_bypassed_and_leaves_the_rest_alone():
    result = sim.replay(trace_of([1, 2, 1, 2], size_bytes=[4, 40, 4, 40]), "lru", 10)
    assert (result.hits, result.misses, result.bypassed) == (1, 3, 2)


def calls_of(first_row):
    n = len(first_row) - 1
    zeros = np.zeros(n, np.int64)
    return Calls(np.arange(n, dtype=float), zeros, zeros, np.array(first_row), zeros.astype(np.int32), 16)


def test_positions_count_within_each_call_even_where_calls_are_empty():
    trace = trace_of([1, 2, 3, 1, 2], calls=calls_of([0, 0, 3, 3, 5]))
    assert position_of(trace, 0, 5).tolist() == [0, 1, 2, 0, 1]
    assert position_of(trace, 2, 4).tolist() == [2, 0]
    assert position_of(trace_of([1, 2]), 0, 2) is None


class Last(NamedTuple):
    seen: np.ndarray


def last_state(context):
    return Last(np.zeros(4, np.int64))


def no_hit(state, request):
    """Hits leave no trace."""


def note(state, request):
    state.seen[0] = request.address
    state.seen[1] += request.tenant
    state.seen[2] += request.is_write
    state.seen[3] = request.arrival_ns


def give_up_what_is_not_there(state, request):
    return request.block + 1


def refuse(state, request):
    return request.block


def refuse_odd_ones(state, request):
    return request.block % 2 == 0


def give_up_beyond_the_end(state, request):
    return 1 << 40


def give_up_a_fraction(state, request):
    return 0.5


def not_numba(state, request):
    return sorted({request.block: 1}, key=str)[0]


def policy(name="mine", **hooks):
    usual = {"on_hit": no_hit, "on_insert": no_hit, "evict": give_up_what_is_not_there}
    return sim.EvictionPolicy(name=name, init=last_state, **{**usual, **hooks})


def test_hooks_see_the_columns_that_they_need(monkeypatch):
    states = []
    needing = policy("reads", on_hit=note, on_insert=note, needs=("address", "tenant", "op", "arrival_ns"))
    make = type(needing).make_state
    monkeypatch.setattr(
        type(needing), "make_state", lambda self, *given: states.append(make(self, *given)) or states[-1]
    )
    trace = trace_of([70, 90, 70, 90], tenant=[1, 0, 1, 5], op=[1, 0, 1, 0], arrival_ns=[0, 1, 2, 30])
    sim.replay(trace, needing, 2, True)
    assert states[0].seen.tolist() == [90, 7, 2, 30]


@pytest.mark.parametrize("evict", [give_up_what_is_not_there, give_up_beyond_the_end])
def test_a_policy_that_evicts_what_is_not_there_is_named(evict):
    with pytest.raises(sim.InputError, match=r"'mine' evicted block \d+, which .* at access 2"):
        sim.replay(trace_of([1, 2, 3, 4]), policy(evict=evict), 2, True)


@pytest.mark.parametrize("hooks", [{"evict": refuse}, {"admit": refuse_odd_ones}], ids=["evict", "admit"])
def test_what_an_eviction_policy_refuses_is_bypassed(hooks):
    result = sim.replay(trace_of([1, 2, 3, 2, 3, 1]), policy(**hooks), 2, True)
    assert (result.bypassed, result.misses, result.hits) == (2, 4, 2)


@pytest.mark.skipif(UNCOMPILED, reason="nothing is compiled")
@pytest.mark.parametrize(
    ("evict", "told"),
    [(give_up_a_fraction, r"evict returns float64; expected the number"), (not_numba, r"evict does not compile")],
)
def test_a_hook_that_cannot_be_compiled_is_one_line(evict, told):
    with pytest.raises(sim.InputError, match=told) as caught:
        sim.replay(trace_of([1, 2, 3]), policy("uncompilable", evict=evict), 2, True)
    assert "test_replay.py" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"policy": "lruu"}, "unknown eviction policy 'lruu'; did you mean 'lru'"),
        ({"policy": "lru:depth=2"}, "unknown parameter 'depth'"),
        ({"policy": "s3fifo:small_ratio=2"}, "small_ratio is 2"),
        ({"policy": "s3fifo:small_ratio=many"}, "expected a number"),
        ({"policy": "s3fifo:small_ratio"}, "expected name:parameter=value"),
        ({"admission": "alway"}, "unknown admission policy 'alway'; did you mean 'always'"),
        ({"capacity": 0, "ignore_object_size": True}, "capacity below one object"),
        ({"capacity": "-3"}, "bad capacity"),
        ({"capacity": "3 parsecs"}, "parsecs"),
        ({"policy": policy("tenants", needs=("tenant",))}, "needs the column 'tenant'"),
        ({"policy": "length_aware"}, "needs LLM calls, which trace"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_a_line(arguments, told):
    with pytest.raises(sim.InputError, match=told):
        sim.replay(trace_of([1, 2, 1], size_bytes=[2, 2, 2]), **{"capacity": 2, **arguments})


def test_an_admission_policy_is_no_eviction_policy():
    from policies.admission.always import POLICY

    with pytest.raises(sim.InputError, match="'always' is no eviction policy"):
        sim.replay(trace_of([1]), POLICY, 1, True)


@pytest.mark.parametrize("name", ["fifo", "lru", "lfu"])
def test_sizes_change_nothing_where_all_are_one(name):
    ids = np.random.default_rng(3).integers(0, 40, 1000)
    one = sim.replay(trace_of(ids, size_bytes=np.ones(1000, np.int64)), name, 10)
    assert one.hits == sim.replay(trace_of(ids), name, 10, True).hits
