"""Prefetch policies, each against its description."""

from __future__ import annotations

import importlib

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.kernels.compile import kernel
from sim.policy import Context, make_request
from tests import oracles

pytestmark = pytest.mark.uncompiled
EXAMPLES = 60 if numba.config.DISABLE_JIT else 150


def policy_named(name):
    return importlib.import_module(f"policies.prefetch.{name}").POLICY


@kernel
def ask(policy, state, addresses, tenants, hits, proposals, found, counts):
    """Report accesses in turn; found[i] holds the counts[i] proposals that follow access i."""
    for i in range(addresses.size):
        request = make_request(i, 0, addresses[i], tenant=tenants[i])
        counts[i] = policy.propose(state, request, hits[i], proposals)
        for k in range(counts[i]):
            found[i, k] = proposals[k]


def proposals_of(name, addresses, tenants=None, hits=None, **parameters):
    policy, n = policy_named(name), len(addresses)
    degree = policy.degree(policy.resolve(parameters))
    columns = (
        np.asarray(addresses, np.int64),
        np.zeros(n, np.int32) if tenants is None else np.asarray(tenants, np.int32),
        np.zeros(n, np.bool_) if hits is None else np.asarray(hits, np.bool_),
    )
    found, counts = np.zeros((n, degree + 1), np.int64), np.zeros(n, np.int64)
    ask(policy, policy.make_state(Context(8, 8), parameters), *columns, np.zeros(degree, np.int64), found, counts)
    return [row[:count].tolist() for row, count in zip(found, counts, strict=True)]


def test_none_proposes_nothing():
    assert proposals_of("none", [1, 2, 3]) == [[], [], []]


def test_next_n_proposes_the_addresses_that_follow():
    assert proposals_of("next_n", [7, 100], n=3) == [[8, 9, 10], [101, 102, 103]]


@pytest.mark.parametrize("on, after_a_hit", [("always", [6]), ("miss", [])])
def test_next_n_after_hits(on, after_a_hit):
    assert proposals_of("next_n", [5, 5], hits=[False, True], on=on) == [[6], after_a_hit]


def test_stride_trusts_two_equal_strides():
    assert proposals_of("stride", [10, 14, 18, 22], degree=2) == [[], [], [22, 26], [26, 30]]


def test_stride_runs_backwards_but_not_below_zero():
    assert proposals_of("stride", [9, 6, 3], degree=3) == [[], [], [0]]


def test_stride_says_nothing_of_an_address_that_repeats():
    assert proposals_of("stride", [5] * 6) == [[]] * 6


def test_stride_keeps_a_trusted_stride_over_one_jump():
    # a loop over 0, 1, 2, 3: the jump back costs the prediction of the access after it alone
    assert proposals_of("stride", [0, 1, 2, 3, 0, 1, 2]) == [[], [], [3], [4], [], [2], [3]]


def test_stride_does_not_mix_tenants():
    addresses, tenants = [0, 1000, 1, 1010, 2, 1020], [1, 2, 1, 2, 1, 2]
    assert proposals_of("stride", addresses, tenants) == [[], [], [], [], [3], [1030]]


def test_stride_gives_an_entry_to_the_tenant_that_came_last():
    addresses, tenants = [0, 1, 50, 2, 3, 4], [0, 0, 4, 0, 0, 0]
    assert proposals_of("stride", addresses, tenants, table_size=4) == [[], [], [], [], [], [5]]


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=100),
    st.integers(1, 4),
)
def test_stride_proposes_what_its_oracle_does(accesses, degree):
    oracle = oracles.Stride(degree)
    expected = [oracle.propose(tenant, address) for tenant, address in accesses]
    tenants, addresses = zip(*accesses, strict=True)
    assert proposals_of("stride", addresses, tenants, degree=degree) == expected


@pytest.mark.parametrize(
    "name, parameters, expected", [("none", {}, 0), ("next_n", {"n": 5}, 5), ("stride", {"degree": 3}, 3)]
)
def test_degree_is_the_most_that_is_proposed(name, parameters, expected):
    policy = policy_named(name)
    assert policy.degree(policy.resolve(parameters)) == expected


@pytest.mark.parametrize(
    "name, parameters, message",
    [
        ("next_n", {"n": 0}, "n is 0; expected 1 to 1024"),
        ("next_n", {"on": "hit"}, "on is 'hit'; expected 'always' or 'miss'"),
        ("stride", {"degree": 0}, "degree is 0; expected 1 to 1024"),
        ("stride", {"table_size": 0}, "table_size is 0; expected 1 to 16777216"),
    ],
)
def test_a_parameter_out_of_range_is_named(name, parameters, message):
    with pytest.raises(InputError, match=message):
        policy_named(name).make_state(Context(10, 10), parameters)
