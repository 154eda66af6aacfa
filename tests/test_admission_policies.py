"""Admission policies, each against its description."""

from __future__ import annotations

import importlib
from functools import cache

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.engines.columns import make_columns
from sim.engines.replay import COUNTS, make_cache, replay_rows
from sim.errors import InputError
from sim.kernels.compile import kernel
from sim.policy import Context, make_request
from tests import oracles, oracles_llm

pytestmark = pytest.mark.uncompiled
BLOCKS = 16
EXAMPLES = 60 if numba.config.DISABLE_JIT else 150

blocks_of = st.lists(st.integers(0, BLOCKS - 1), min_size=1, max_size=150)


def policy_named(name, kind="admission"):
    return importlib.import_module(f"policies.{kind}.{name}").POLICY


@kernel
def ask(policy, state, blocks, sizes, answers):
    """Ask of each access in turn, as if all were misses."""
    for i in range(blocks.size):
        block = blocks[i]
        request = make_request(i, block, block, sizes[i], arrival_ns=10.0 * i)
        policy.on_access(state, request)
        answers[i] = policy.admit(state, request)


def answers_of(name, blocks, sizes=None, seed=0, **parameters):
    policy, blocks = policy_named(name), np.asarray(blocks, np.int32)
    sizes = np.ones(len(blocks), np.int64) if sizes is None else np.asarray(sizes, np.int64)
    answers = np.zeros(len(blocks), np.bool_)
    ask(policy, policy.make_state(Context(8, BLOCKS, seed), parameters), blocks, sizes, answers)
    return answers.tolist()


def hits_of_lru(admission, blocks, capacity, **parameters):
    """Hits of an LRU cache behind the admission policy."""
    lru, policy, context = policy_named("lru", "eviction"), policy_named(admission), Context(capacity, BLOCKS)
    cache = make_cache(capacity, BLOCKS, ignore_size=True)
    state, admission_state = lru.make_state(context), policy.make_state(context, parameters)
    replay_rows(lru, state, policy, admission_state, cache, 0, make_columns(np.asarray(blocks, np.int32)), None)
    return int(cache.counts[COUNTS.index("hits")])


def test_always_admits():
    assert answers_of("always", [1, 2, 1]) == [True] * 3


def test_size_admits_what_is_not_larger_than_its_limit():
    assert answers_of("size", [0, 1, 2, 3], sizes=[99, 100, 101, 1 << 40], max_bytes=100) == [True, True, False, False]


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_probabilistic_admits_that_share(probability):
    n = 20_000
    admitted = np.array(answers_of("probabilistic", np.zeros(n, np.int32), seed=3, probability=probability))
    # four standard deviations
    assert admitted.mean() == pytest.approx(probability, abs=4 * (probability * (1 - probability) / n) ** 0.5 + 1e-12)


def test_probabilistic_depends_on_the_seed_alone():
    blocks = np.zeros(100, np.int32)
    assert answers_of("probabilistic", blocks, seed=5) == answers_of("probabilistic", blocks, seed=5)
    assert answers_of("probabilistic", blocks, seed=5) != answers_of("probabilistic", blocks, seed=6)


@settings(max_examples=EXAMPLES, deadline=None)
@given(blocks_of, st.integers(0, 8))
def test_second_hit_admits_what_its_oracle_remembers(blocks, history):
    oracle = oracles.SecondHit(history)
    assert answers_of("second_hit", blocks, history_blocks=history) == [oracle.admit(block) for block in blocks]


def test_second_hit_with_an_endless_memory_admits_every_second_miss():
    assert answers_of("second_hit", [1, 2, 1, 3, 1, 2]) == [False, False, True, False, True, True]


def test_second_hit_forgets_the_block_missed_longest_ago():
    assert answers_of("second_hit", [1, 2, 3, 1, 3], history_blocks=2) == [False, False, False, False, True]


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(blocks_of, st.integers(1, 8))
def test_a_cache_behind_always_is_one_behind_every_other_policy_that_lets_all_in(blocks, capacity):
    expected = hits_of_lru("always", blocks, capacity)
    assert hits_of_lru("size", blocks, capacity, max_bytes=1) == expected
    assert hits_of_lru("probabilistic", blocks, capacity, probability=1.0) == expected
    assert hits_of_lru("probabilistic", blocks, capacity, probability=0.0) == 0


def test_second_hit_keeps_a_scan_out_of_the_cache():
    scan_and_two_hot = [block for i in range(2, BLOCKS) for block in (0, 1, i)]
    assert hits_of_lru("second_hit", scan_and_two_hot, 2) > hits_of_lru("always", scan_and_two_hot, 2)


# ------------------------------------------------------------------------------------------------ filters and sketches

SKETCH = {"counters": 4096}  # so many that no two blocks of these tests share one


@settings(max_examples=EXAMPLES, deadline=None)
@given(blocks_of, st.integers(1, 8))
def test_bloom_admits_what_was_seen_since_it_was_emptied(blocks, items):
    seen, expected = set(), []
    for block in blocks:
        expected.append(block in seen)
        if block not in seen:
            seen = seen | {block} if len(seen) < items else {block}
    assert answers_of("bloom", blocks, items=items, bits_per_item=64.0) == expected


def test_bloom_is_wrong_about_new_blocks_as_often_as_its_size_says():
    n = 2000 if numba.config.DISABLE_JIT else 20_000
    policy = policy_named("bloom")
    answers = np.zeros(n, np.bool_)
    state = policy.make_state(Context(8, n), {"bits_per_item": 8.0})
    ask(policy, state, np.arange(n, dtype=np.int32), np.ones(n, np.int64), answers)
    bits, hashes = 64 * state.bloom.words.size, state.bloom.hashes
    expected = np.mean([(1 - np.exp(-hashes * k / bits)) ** hashes for k in range(0, n, 50)])
    assert answers.mean() == pytest.approx(expected, rel=0.5, abs=2 / n)


@settings(max_examples=EXAMPLES, deadline=None)
@given(blocks_of, st.integers(1, 5))
def test_count_min_admits_what_was_asked_for_often_enough(blocks, threshold):
    oracle = oracles_llm.CountMin(threshold, **SKETCH)
    expected = [oracle.admit(block) for block in blocks]
    assert answers_of("count_min", blocks, threshold=threshold, **SKETCH) == expected


def test_count_min_forgets():
    # 64 counters a row are the fewest; they are halved after 64 blocks
    blocks = [0, 1] * 31 + [2] + [1] * 20 + [2]
    answers = answers_of("count_min", blocks, counters=64, sample_factor=1)
    assert answers[:4] == [False, False, True, True] and answers[-1] is False


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, BLOCKS - 1), st.integers(1, 9)), min_size=1, max_size=150),
    st.integers(1, 4),
    st.booleans(),
)
def test_tinylfu_admits_what_its_oracle_does_with_sizes_in_bytes(accesses, sample_factor, doorkeeper):
    parameters = {"sample_factor": sample_factor, "doorkeeper": doorkeeper, **SKETCH}
    oracle, expected = oracles_llm.TinyLfu(8, **parameters), []
    for block, size in accesses:
        oracle.access(block)
        expected.append(oracle.admit(block, size))
    blocks, sizes = zip(*accesses, strict=True)
    assert answers_of("tinylfu", blocks, sizes, **parameters) == expected


@settings(max_examples=EXAMPLES, deadline=None)
@given(blocks_of, st.integers(1, 8))
def test_tinylfu_knows_the_victim_of_an_lru_cache(blocks, capacity):
    oracle, cache, hits = oracles_llm.TinyLfu(capacity), [], 0
    for block in blocks:
        hits += block in cache
        oracle.access(block)
        if block not in cache:
            oracle.admit(block, 1)
        cache = list(oracle.queue)
    assert hits_of_lru("tinylfu", blocks, capacity, **SKETCH) == hits


def test_tinylfu_keeps_a_scan_out_of_the_cache():
    scan_and_two_hot = [block for i in range(2, BLOCKS) for block in (0, 1, i)]
    assert hits_of_lru("tinylfu", scan_and_two_hot, 2) > hits_of_lru("always", scan_and_two_hot, 2)


@settings(max_examples=EXAMPLES, deadline=None)
@given(blocks_of, st.integers(1, 5), st.integers(1, 30), st.integers(1, 6))
def test_decayed_frequency_admits_what_its_oracle_does(blocks, threshold, tens_ns, most_blocks):
    parameters = {"threshold": threshold, "decay_ns": 10.0 * tens_ns, "most_blocks": most_blocks}
    oracle = oracles_llm.DecayedFrequency(**parameters)
    expected = [oracle.admit(block, 10.0 * i) for i, block in enumerate(blocks)]
    assert answers_of("decayed_frequency", blocks, **parameters) == expected


# ------------------------------------------------------------------------------------------------------------ adaptsize


@cache
def adaptsize():
    """(hit_ratio, best_limit) of its model."""
    module = importlib.import_module("policies.admission.adaptsize")
    return kernel(module.hit_ratio), kernel(module.best_limit)


populations = st.lists(st.tuples(st.floats(0.1, 50), st.integers(1, 1000)), min_size=8, max_size=30)


@settings(max_examples=EXAMPLES, deadline=None)
@given(populations, st.floats(0.05, 0.9), st.floats(0, 10))
def test_adaptsize_s_model_finds_the_hit_ratio_that_a_slow_search_does(population, share, log2_limit):
    rates, sizes = (np.array(one, np.float64) for one in zip(*population, strict=True))
    capacity = max(int(share * sizes.sum()), 1)
    hit_ratio, _ = adaptsize()
    found = hit_ratio(log2_limit, rates, sizes, capacity)
    expected = oracles_llm.model_hit_ratio(2.0**log2_limit, rates.tolist(), sizes.tolist(), capacity)
    assert found == pytest.approx(expected, abs=0.02)


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(populations, st.floats(0.05, 0.9))
def test_adaptsize_takes_a_limit_that_hardly_any_other_beats(population, share):
    rates, sizes = (np.array(one, np.float64) for one in zip(*population, strict=True))
    capacity = max(int(share * sizes.sum()), 2)
    hit_ratio, best_limit = adaptsize()
    found = hit_ratio(best_limit(rates, sizes, capacity), rates, sizes, capacity)
    others = np.linspace(0, np.log2(capacity), 60)
    assert found >= max(hit_ratio(one, rates, sizes, capacity) for one in others) - 0.05


def test_adaptsize_admits_by_size_and_tunes_the_limit():
    small_hot, large_cold = np.arange(8), 8 + np.arange(200) % 8
    blocks = np.concatenate([np.append(small_hot, cold) for cold in large_cold])
    sizes = np.where(blocks < 8, 1, 20_000)
    policy = policy_named("adaptsize")
    state = policy.make_state(Context(10, BLOCKS, 1), {"interval": 900})
    answers = np.zeros(blocks.size, np.bool_)
    ask(policy, state, blocks.astype(np.int32), sizes, answers)
    early, late = answers[:800], answers[1000:]
    assert early[blocks[:800] >= 8].mean() > 0.3 and not late[blocks[1000:] >= 8].any()
    assert late[blocks[1000:] < 8].mean() > 0.5 and state.limit[0] <= 10


def test_adaptsize_s_rates_are_smoothed():
    policy = policy_named("adaptsize")
    state = policy.make_state(Context(8, BLOCKS), {"interval": 10, "smoothing": 0.25})
    blocks = np.array([0] * 10 + [0] * 4 + [1] * 6, np.int32)
    ask(policy, state, blocks, np.ones(20, np.int64), np.zeros(20, np.bool_))
    assert state.rate[:3].tolist() == [0.25 * 10 + 0.75 * 4, 6, 0] and not state.recent.any()


@pytest.mark.parametrize(
    "name, parameters, message",
    [
        ("bloom", {"items": -1}, "items is -1; expected 0 or more"),
        ("bloom", {"bits_per_item": 0.5}, "bits_per_item is 0.5; expected 1 to 64"),
        ("count_min", {"threshold": 16}, "threshold is 16; expected 1 to 15"),
        ("count_min", {"counters": -1}, "counters is -1; expected 0 or more"),
        ("count_min", {"sample_factor": 0}, "sample_factor is 0; expected at least 1"),
        ("tinylfu", {"sample_factor": 0}, "sample_factor is 0; expected at least 1"),
        ("tinylfu", {"counters": -1}, "counters is -1; expected 0 or more"),
        ("decayed_frequency", {"threshold": 0}, "threshold is 0; expected at least 1"),
        ("decayed_frequency", {"most_blocks": 0}, "most_blocks is 0; expected at least 1"),
        ("decayed_frequency", {"decay_ns": 0.0}, "decay_ns is 0.0; expected more than 0"),
        ("adaptsize", {"interval": 0}, "interval is 0; expected at least 1"),
        ("adaptsize", {"smoothing": 1.0}, "smoothing is 1.0; expected 0 to less than 1"),
        ("adaptsize", {"initial_bytes": 0.0}, "initial_bytes is 0.0; expected more than 0"),
        ("size", {"max_bytes": 0}, "max_bytes is 0; expected at least 1"),
        ("probabilistic", {"probability": 1.01}, "probability is 1.01; expected 0 to 1"),
        ("second_hit", {"history_blocks": -1}, "history_blocks is -1; expected 0 or more"),
    ],
)
def test_a_parameter_out_of_range_is_named(name, parameters, message):
    with pytest.raises(InputError, match=message):
        policy_named(name).make_state(Context(10, 10), parameters)
