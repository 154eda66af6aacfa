"""Perfect predictions, against a slow optimum, and what the policies that trust them make of them."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import registry
from sim.engines.columns import make_columns
from sim.engines.replay import HITS, make_cache, replay, replay_rows
from sim.errors import InputError
from sim.policy import Context
from sim.predictions import discard_predictions, phase_predictions
from sim.trace import Trace

pytestmark = pytest.mark.uncompiled
BLOCKS = 12
EXAMPLES = 30 if numba.config.DISABLE_JIT else 150
JIT = not numba.config.DISABLE_JIT

cases = st.tuples(st.lists(st.integers(0, BLOCKS - 1), min_size=1, max_size=120), st.integers(1, BLOCKS))


def trace_of(blocks):
    return Trace.from_columns("test", ids=np.asarray(blocks))


def policy_named(name, kind=registry.EVICTION):
    return registry.load(kind, name)


def misses(name, trace, capacity, seed=0, prediction=None, **parameters):
    policy, always = policy_named(name), policy_named("always", registry.ADMISSION)
    context = Context(capacity, trace.n_blocks, seed)
    columns = make_columns(trace.column("block"), prediction=prediction)
    if name == "belady":
        columns = columns._replace(next_access=trace.with_next_access().column("next_access"))
    cache = make_cache(capacity, trace.n_blocks, ignore_size=True)
    state = policy.make_state(context, parameters)
    replay_rows(policy, state, always, always.make_state(context), cache, 0, columns, None)
    return trace.n_requests - int(cache.counts[HITS])


def slow_discards(blocks, capacity):
    """Follow the optimum with lists; an access is followed by an eviction or by the next access to its block."""
    resident, out = [], [1] * len(blocks)
    for i, block in enumerate(blocks):
        if block in resident:
            out[max(k for k in range(i) if blocks[k] == block)] = 0
            resident.remove(block)
        if len(resident) == capacity:
            rest = blocks[i + 1 :]
            resident.remove(max(resident, key=lambda one: rest.index(one) if one in rest else len(blocks)))
        resident.append(block)
    return out


def slow_phases(blocks, capacity):
    phases = [[]]
    for block in blocks:
        if len({*phases[-1], block}) > capacity:
            phases.append([])
        phases[-1].append(block)
    return phases


@settings(max_examples=EXAMPLES, deadline=None)
@given(cases)
def test_discards_are_those_of_the_optimum(case):
    blocks, capacity = case
    assert discard_predictions(trace_of(blocks), capacity).tolist() == slow_discards(blocks, capacity)


@settings(max_examples=EXAMPLES, deadline=None)
@given(cases)
def test_phases_are_the_longest_runs_of_so_many_distinct_blocks(case):
    blocks, capacity = case
    phases = slow_phases(blocks, capacity)
    following = [*phases[1:], []]
    expected = [int(block not in after) for phase, after in zip(phases, following, strict=True) for block in phase]
    predictions = phase_predictions(trace_of(blocks), capacity)
    assert predictions.tolist() == expected and predictions.dtype == np.int64


@settings(max_examples=EXAMPLES, deadline=None)
@given(cases)
def test_mark0_with_perfect_predictions_misses_as_often_as_the_optimum(case):
    trace, capacity = trace_of(case[0]), case[1]
    prediction = discard_predictions(trace, capacity)
    best = misses("belady", trace, capacity)
    assert misses("discard_bit", trace, capacity, prediction=prediction, robust=False) == best
    assert misses("discard_bit", trace, capacity, prediction=prediction) == best


@settings(max_examples=EXAMPLES, deadline=None)
@given(cases, st.integers(0, 1 << 30))
def test_marking_with_perfect_predictions_misses_only_what_a_phase_has_new(case, seed):
    trace, capacity = trace_of(case[0]), case[1]
    phases = [set(phase) for phase in slow_phases(case[0], capacity)]
    new = sum(len(phase - before) for before, phase in zip([set(), *phases], phases, strict=False))
    prediction = phase_predictions(trace, capacity)
    assert misses("phase_bit", trace, capacity, seed, prediction) == new


@settings(max_examples=EXAMPLES, deadline=None)
@given(cases, st.data())
def test_the_robust_form_misses_at_most_a_few_times_as_often_as_lru_whatever_is_predicted(case, data):
    trace, capacity = trace_of(case[0]), case[1]
    n = trace.n_requests
    prediction = np.array(data.draw(st.lists(st.integers(-1, 1), min_size=n, max_size=n)), np.int64)
    lru = misses("lru", trace, capacity)
    assert misses("discard_bit", trace, capacity, prediction=prediction) <= 5 * lru + capacity


@pytest.mark.skipif(not JIT, reason="long without compilation")
def test_the_more_predictions_are_wrong_the_more_is_missed_and_the_robust_form_bounds_it():
    rng = np.random.default_rng(1)
    trace = trace_of((rng.zipf(1.1, 40_000) - 1) % 3000)
    capacity = 200
    prediction = discard_predictions(trace, capacity)
    rates = (0.0, 0.1, 0.3, 0.5)
    trusting = [misses("discard_bit", trace, capacity, 5, prediction, robust=False, error_rate=one) for one in rates]
    assert trusting == sorted(trusting) and trusting[0] == misses("belady", trace, capacity)
    always_wrong = {"prediction": prediction, "error_rate": 1.0}
    robust, naive = (misses("discard_bit", trace, capacity, robust=one, **always_wrong) for one in (True, False))
    assert robust < 1.1 * misses("lru", trace, capacity) < naive  # the ratio at which it changes over


def test_the_seed_decides_which_predictions_are_wrong():
    trace = trace_of(np.random.default_rng(2).integers(0, BLOCKS, 300))
    prediction = phase_predictions(trace, 4)
    for name in ("phase_bit", "discard_bit"):
        counts = [misses(name, trace, 4, seed, prediction, error_rate=0.5) for seed in range(8)]
        assert counts == [misses(name, trace, 4, seed, prediction, error_rate=0.5) for seed in range(8)]
        assert len(set(counts)) > 1


def test_a_trace_carries_predictions_into_a_replay():
    ids = np.random.default_rng(3).integers(0, BLOCKS, 300)
    prediction = discard_predictions(trace_of(ids), 4)
    trace = Trace.from_columns("predicted", ids=ids, prediction=prediction)
    best, found = (replay(trace, policy, 4).hit_ratio for policy in ("belady", "discard_bit"))
    assert found == best
    with pytest.raises(InputError, match="'discard_bit' needs the column 'prediction'"):
        replay(trace_of(ids), "discard_bit", 4)


@pytest.mark.parametrize("predict", [discard_predictions, phase_predictions])
def test_a_capacity_of_nothing_is_refused(predict):
    with pytest.raises(InputError, match="at least 1 object"):
        predict(trace_of([1, 2]), 0)
