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
from tests import oracles, oracles_llm

pytestmark = pytest.mark.uncompiled
EXAMPLES = 60 if numba.config.DISABLE_JIT else 150


def policy_named(name):
    return importlib.import_module(f"policies.prefetch.{name}").POLICY


@kernel
def ask(policy, state, addresses, tenants, hits, proposals, found, counts):
    """Report accesses in turn; found[i] holds the counts[i] proposals that follow access i."""
    for i in range(addresses.size):
        request = make_request(i, 0, addresses[i], arrival_ns=10.0 * i, tenant=tenants[i])
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


# ---------------------------------------------------------------------------------------- streams, successors, a graph

references = st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=150)


@st.composite
def runs(draw):
    """Accesses to a few interleaved sequential runs, most of them hits."""
    places, accesses = [0, 100, 200, 300], []
    for k, jump, hit in draw(
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1] * 8 + [0, 2, 5]), st.integers(0, 5)), max_size=150)
    ):
        places[k] += jump
        accesses.append((places[k], hit > 0))
    return accesses or [(0, False)]


def check(name, oracle, accesses, **parameters):
    addresses, hits = zip(*accesses, strict=True)
    expected = [oracle.propose(address, hit) for address, hit in accesses]
    assert proposals_of(name, addresses, hits=hits, **parameters) == expected


@settings(max_examples=EXAMPLES, deadline=None)
@given(references)
def test_obl_proposes_what_its_oracle_does(accesses):
    check("obl", oracles_llm.Obl(), accesses)


def test_obl_follows_a_run_of_which_only_the_first_is_missed():
    assert proposals_of("obl", [5, 6, 7, 7], hits=[False, True, True, True]) == [[6], [7], [8], []]


@settings(max_examples=EXAMPLES, deadline=None)
@given(references, st.integers(1, 4), st.sampled_from(["miss", "always"]))
def test_markov_proposes_what_its_oracle_does(accesses, degree, on):
    check("markov", oracles_llm.Markov(degree, on), accesses, degree=degree, on=on)


def test_markov_learns_what_follows_a_miss():
    assert proposals_of("markov", [1, 9, 1, 5, 1], degree=2) == [[], [], [9], [], [5, 9]]


def test_markov_gives_an_entry_to_the_address_that_came_last():
    assert proposals_of("markov", [1, 2, 5, 6, 1, 2], degree=2, table_size=4) == [[]] * 6


@settings(max_examples=EXAMPLES, deadline=None)
@given(references, st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.05, 0.25, 0.5, 1.0]), st.integers(1, 6))
def test_pg_proposes_what_its_oracle_does(accesses, degree, lookahead, min_chance, edges):
    parameters = {"degree": degree, "lookahead": lookahead, "min_chance": min_chance, "edges": edges}
    check("pg", oracles_llm.Pg(**parameters), accesses, **parameters)


def test_pg_proposes_the_likeliest_first():
    found = proposals_of("pg", [1, 8, 1, 9, 1, 9, 1], lookahead=1, min_chance=0.3)
    assert found == [[], [], [8], [], [8, 9], [1], [9, 8]]


def test_pg_forgets_an_address_whose_place_another_takes():
    assert proposals_of("pg", [1, 2, 5, 2, 1], lookahead=1, table_size=4) == [[]] * 3 + [[5], []]


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(runs(), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.0, 15.0, 45.0, 120.0]))
def test_amp_proposes_what_its_oracle_does(accesses, degree, step, streams, fetch_ns):
    parameters = {"degree": degree, "step": min(step, degree), "streams": streams, "fetch_ns": fetch_ns}
    oracle = oracles_llm.Amp(**parameters)
    expected = [oracle.propose(address, hit, 10.0 * i) for i, (address, hit) in enumerate(accesses)]
    addresses, hits = zip(*accesses, strict=True)
    assert proposals_of("amp", addresses, hits=hits, **parameters) == expected


def test_amp_reads_further_ahead_the_longer_a_stream_lasts_and_less_far_where_blocks_are_evicted_unused():
    n = 200
    found = proposals_of("amp", list(range(n)), hits=[False, False] + [True] * (n - 2), degree=16)
    lengths = [len(one) for one in found if one]
    assert lengths[0] == 4 and lengths == sorted(lengths) and lengths[-1] == 16
    assert sorted(address for one in found for address in one) == list(range(2, 2 + sum(lengths)))
    found = proposals_of("amp", list(range(n)), hits=[False] * n, degree=16)
    assert len(found[-1]) == 1


def test_amp_fetches_earlier_where_fetches_take_long():
    hits = [False, False] + [True] * 60
    soon = proposals_of("amp", list(range(62)), hits=hits, degree=8)
    late = proposals_of("amp", list(range(62)), hits=hits, degree=8, fetch_ns=1e6)
    distance = [min(i for i, one in enumerate(found) if 60 in one) for found in (soon, late)]
    assert distance[1] < distance[0]


def test_amp_tells_streams_apart():
    accesses = [address for i in range(6) for address in (i, 1000 + i)]
    found = proposals_of("amp", accesses, hits=[False] * 4 + [True] * 8, step=2, degree=2)
    assert found[2:4] == [[2, 3], [1002, 1003]] and found[4:6] == [[4, 5], [1004, 1005]]


@pytest.mark.parametrize(
    "name, parameters, message",
    [
        ("obl", {"table_size": 0}, "table_size is 0; expected 1 to 16777216"),
        ("markov", {"degree": 65}, "degree is 65; expected 1 to 64"),
        ("markov", {"table_size": 0}, "table_size is 0; expected 1 to 16777216"),
        ("markov", {"on": "hit"}, "on is 'hit'; expected 'always' or 'miss'"),
        ("pg", {"lookahead": 0}, "lookahead is 0; expected 1 to 1024"),
        ("pg", {"min_chance": 0.0}, "min_chance is 0.0; expected more than 0, to 1"),
        ("pg", {"table_size": 0}, "table_size is 0; expected 1 to 16777216"),
        ("amp", {"degree": 0}, "degree is 0; expected 1 to 1024"),
        ("amp", {"step": 65}, "step is 65; expected 1 to the degree, 64"),
        ("amp", {"streams": 0}, "streams is 0; expected 1 to 4096"),
        ("amp", {"table_size": 0}, "table_size is 0; expected 1 to 16777216"),
        ("amp", {"fetch_ns": -1.0}, "fetch_ns is -1.0; expected at least 0"),
    ],
)
def test_a_parameter_of_a_learning_prefetcher_out_of_range_is_named(name, parameters, message):
    with pytest.raises(InputError, match=message):
        policy_named(name).make_state(Context(10, 10), parameters)


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
