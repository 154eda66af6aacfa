"""Offload policies: what each answers, and what two LRU tiers become under them."""

from __future__ import annotations

import importlib
from collections import OrderedDict

import numba
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.policy import Context, make_request
from sim.testing import compiled_hooks

pytestmark = pytest.mark.uncompiled
BLOCKS = 14
EXAMPLES = 30 if numba.config.DISABLE_JIT else 60
NAMES = ("none", "write_through", "write_through_selective", "write_back", "exclusive")

blocks_of = st.lists(st.integers(0, BLOCKS - 1), min_size=1, max_size=100)


def policy_named(name):
    return importlib.import_module(f"policies.offload.{name}").POLICY


def made(name, context, parameters=None):
    """A policy's compiled hooks, and a state of it."""
    policy = policy_named(name)
    return compiled_hooks(policy), policy.make_state(context, parameters)


def request(index, block):
    return make_request(index, block, block)


class Lru:
    def __init__(self, capacity):
        self.capacity, self.blocks = capacity, OrderedDict()

    def __contains__(self, block):
        return block in self.blocks

    def touch(self, block):
        self.blocks.move_to_end(block)

    def insert(self, block):
        """The block that had to leave for it, if any."""
        victim = self.blocks.popitem(last=False)[0] if len(self.blocks) == self.capacity else None
        self.blocks[block] = None
        return victim


class TwoTiers:
    """One LRU tier above another, with the policy deciding what the lower one gets."""

    def __init__(self, name, upper, lower, **parameters):
        self.policy, self.state = made(name, Context(lower, BLOCKS), parameters)
        self.upper, self.lower = Lru(upper), Lru(lower)
        self.hits = [0, 0]

    def access(self, index, block):
        asked = request(index, block)
        self.policy.on_access(self.state, asked)
        if block in self.upper:
            self.hits[0] += 1
            self.upper.touch(block)
            self.settle(block, self.policy.copy_on_hit(self.state, asked))
            return
        if block in self.lower:
            self.hits[1] += 1
            if not self.policy.keep_on_promote(self.state, block):
                del self.lower.blocks[block]
        self.demote(self.upper.insert(block))
        self.settle(block, self.policy.copy_on_insert(self.state, asked))

    def demote(self, victim):
        if victim is not None and self.policy.copy_on_evict(self.state, victim):
            self.settle(victim, True)

    def settle(self, block, copy):
        """Touch the block below if it is there; else write it there if the policy says so."""
        if block in self.lower:
            self.lower.touch(block)
        elif copy:
            self.lower.insert(block)


def run(name, upper, lower, blocks, **parameters):
    tiers = TwoTiers(name, upper, lower, **parameters)
    for index, block in enumerate(blocks):
        tiers.access(index, block)
    return tiers


def lru_hits(capacity, blocks):
    tiers = run("none", capacity, 1, blocks)
    return tiers.hits[0]


@pytest.mark.parametrize(
    "name, on_insert, on_hit, on_evict, keep",
    [
        ("none", False, False, False, True),
        ("write_through", True, True, False, True),
        ("write_through_selective", False, False, False, True),
        ("write_back", False, False, True, True),
        ("exclusive", False, False, True, False),
    ],
)
def test_answers(name, on_insert, on_hit, on_evict, keep):
    policy, state = made(name, Context(4, BLOCKS))
    asked = request(0, 3)
    policy.on_access(state, asked)
    assert policy.copy_on_insert(state, asked) == on_insert
    assert policy.copy_on_hit(state, asked) == on_hit
    assert policy.copy_on_evict(state, 3) == on_evict
    assert policy.keep_on_promote(state, 3) == keep


def test_selective_counts_accesses_for_ever():
    policy, state = made("write_through_selective", Context(4, BLOCKS), {"threshold": 3})
    answers = []
    for index, block in enumerate([1, 2, 1, 1, 2, 1]):
        policy.on_access(state, request(index, block))
        answers.append(bool(policy.copy_on_insert(state, request(index, block))))
        assert answers[-1] == policy.copy_on_hit(state, request(index, block))
    assert answers == [False, False, False, True, False, True]


@settings(max_examples=EXAMPLES, deadline=None)
@given(blocks_of, st.integers(1, 6), st.integers(0, 6))
def test_write_through_into_a_tier_no_smaller_hits_as_one_lru_of_its_size(blocks, upper, more):
    tiers = run("write_through", upper, upper + more, blocks)
    assert sum(tiers.hits) == lru_hits(upper + more, blocks)
    assert set(tiers.upper.blocks) <= set(tiers.lower.blocks)


@settings(max_examples=EXAMPLES, deadline=None)
@given(blocks_of, st.integers(1, 6), st.integers(1, 6))
def test_exclusive_tiers_hit_as_one_lru_of_both_sizes(blocks, upper, lower):
    tiers = run("exclusive", upper, lower, blocks)
    assert sum(tiers.hits) == lru_hits(upper + lower, blocks)
    assert not set(tiers.upper.blocks) & set(tiers.lower.blocks)


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(blocks_of, st.integers(1, 6), st.integers(1, 6))
def test_the_upper_tier_does_not_care(blocks, upper, lower):
    assert len({run(name, upper, lower, blocks).hits[0] for name in NAMES}) == 1


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(blocks_of, st.integers(1, 6), st.integers(1, 6))
def test_selective_from_the_first_access_is_write_through(blocks, upper, lower):
    selective = run("write_through_selective", upper, lower, blocks, threshold=1)
    through = run("write_through", upper, lower, blocks)
    assert selective.hits == through.hits and selective.lower.blocks == through.lower.blocks


def test_a_threshold_out_of_range_is_named():
    with pytest.raises(InputError, match="threshold is 0; expected at least 1"):
        policy_named("write_through_selective").make_state(Context(10, 10), {"threshold": 0})
