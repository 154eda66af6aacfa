"""Admission policies, each against its description."""

from __future__ import annotations

import importlib

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.engines.columns import make_columns
from sim.engines.replay import COUNTS, NO_COLUMN, make_cache, replay_rows
from sim.errors import InputError
from sim.kernels.compile import kernel
from sim.policy import Context, make_request
from tests import oracles

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
        request = make_request(i, block, block, sizes[i])
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
    replay_rows(lru, state, policy, admission_state, cache, 0, make_columns(np.asarray(blocks, np.int32)), NO_COLUMN)
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


@pytest.mark.parametrize(
    "name, parameters, message",
    [
        ("size", {"max_bytes": 0}, "max_bytes is 0; expected at least 1"),
        ("probabilistic", {"probability": 1.01}, "probability is 1.01; expected 0 to 1"),
        ("second_hit", {"history_blocks": -1}, "history_blocks is -1; expected 0 or more"),
    ],
)
def test_a_parameter_out_of_range_is_named(name, parameters, message):
    with pytest.raises(InputError, match=message):
        policy_named(name).make_state(Context(10, 10), parameters)
