"""check_policy finds what is wrong with policies that are wrong on purpose, and says so in plain words."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

import sim
from policies.admission.size import POLICY as SIZE
from policies.eviction import lru
from policies.offload.write_through import POLICY as WRITE_THROUGH
from policies.prefetch.next_n import POLICY as NEXT_N
from sim.allocation.paged import ALLOCATOR as PAGED
from sim.testing import CheckFailed, check_allocator, check_policy

UNCOMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") != "0"
compiles = pytest.mark.skipif(UNCOMPILED, reason="nothing is compiled")
LRU = lru.POLICY


@pytest.mark.parametrize("policy", [LRU, SIZE, NEXT_N, WRITE_THROUGH, PAGED], ids=lambda policy: policy.KIND)
def test_a_good_policy_passes_and_the_report_says_what_was_checked(policy):
    report = check_policy(policy)
    assert report.name == policy.name and "init gives a new state each time" in report.checks
    assert UNCOMPILED or any(check.startswith("compiled as in Python") for check in report.checks)


# --- eviction --------------------------------------------------------------------------------------------------------


class Counting(NamedTuple):
    links: np.ndarray
    queue: int
    count: np.ndarray


def counting(context):
    return Counting(sim.make_lists(context.blocks), context.blocks, np.zeros(1, np.int64))


def forgets_nothing(state, request):
    return sim.oldest(state.links, state.queue)


def refuses_what_left(state, request):
    """Another block than the one asked for cannot be refused."""
    return (request.block + 1) % 24


def refuses_odd_ones(state, request):
    return request.block if request.block % 2 else lru_evict(state, request)


def refuses(state, request):
    return request.block


def admits_even_ones(state, request):
    return request.block % 2 == 0


def beyond(state, request):
    return 1 << 40


def every_third_is_lost(state, request):
    state.count[0] += 1
    if state.count[0] % 3:
        push(state.links, state.queue, request.block)


def silent_remove(state, block):
    """Forgets to forget."""


def half(state, request):
    return 0.5


def nothing(state, request):
    """Does nothing."""


def reads_an_unknown_field(state, request):
    state.count[0] = state.no_such_field


def reads_the_tenant(state, request):
    state.count[0] = request.tenant
    lru.on_hit(state, request)


def reads_outside(state, request):
    lru_insert(state, request)
    if state.count[5] > 0:
        state.count[0] = 1


SHARED = sim.make_lists(64)


def shared_state(context):
    return Counting(SHARED, 64, np.zeros(1, np.int64))


def too_small(context):
    if context.capacity < 2:
        raise IndexError("no room for two segments")
    return counting(context)


push, lru_insert, lru_evict = sim.push_newest, LRU.on_insert, LRU.evict
MEMORY = np.zeros(1, np.int64)


def remembers_elsewhere(state, request):
    MEMORY[0] += 1
    newest = sim.newest(state.links, state.queue)
    oldest = sim.oldest(state.links, state.queue)
    victim = newest if MEMORY[0] % 7 < 3 else oldest
    sim.unlink(state.links, victim)
    return victim


def broken(**changed):
    return replace(LRU, name="mine", doc="Broken.", **{"init": counting, **changed})


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"evict": forgets_nothing}, "not resident: it was evicted before and must be forgotten then"),
        ({"evict": refuses_what_left}, "evict gave up block .*, which is not resident"),
        ({"evict": beyond}, r"which does not exist \(blocks are 0 to 23\)"),
        ({"on_insert": every_third_is_lost}, r"evict gave up block|must offer every resident block once"),
        ({"on_insert": nothing}, "evict gave up block"),
        ({"remove": silent_remove}, "evict gave up block .* must be forgotten then, by remove as by evict"),
        ({"init": shared_state}, "gives the same array 'links' each time"),
        ({"init": too_small}, r"init raised IndexError: no room for two segments \(capacity 1, 24 blocks\)"),
        ({"on_hit": reads_the_tenant}, "on_hit reads request.tenant, but needs does not name 'tenant'"),
        ({"on_insert": reads_outside}, "on_insert raised IndexError: .*out of bounds"),
    ],
    ids=lambda value: next(iter(value.values())).__name__ if isinstance(value, dict) else "",
)
def test_each_broken_rule_is_told(changed, told):
    with pytest.raises(CheckFailed, match=told) as caught:
        check_policy(broken(**changed))
    assert str(caught.value).startswith("eviction 'mine' breaks")


@pytest.mark.parametrize("refusing", ["evict", "admit", "all"])
def test_an_eviction_policy_may_refuse_blocks(refusing):
    changed = {"evict": {"evict": refuses_odd_ones}, "admit": {"admit": admits_even_ones}, "all": {"evict": refuses}}
    check_policy(broken(**changed[refusing]))


@compiles
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"evict": half}, r"hook evict returns float64; expected the number of a block"),
        ({"on_hit": reads_an_unknown_field}, r"test_testing.py:\d+: .*hook on_hit does not compile: "),
    ],
    ids=["evict", "on_hit"],
)
def test_a_hook_that_does_not_compile_is_told_in_a_line(changed, told):
    with pytest.raises(CheckFailed, match=told) as caught:
        check_policy(broken(**changed))
    assert all("\n" not in failure for failure in caught.value.failures)


def test_memory_outside_the_state_is_told():
    with pytest.raises(CheckFailed, match=r"not the same.*must be in the state"):
        check_policy(broken(evict=remembers_elsewhere))


def test_what_is_no_policy_is_told():
    with pytest.raises(CheckFailed, match="it is a str, not a policy"):
        check_policy("lru")


# --- the other kinds -------------------------------------------------------------------------------------------------


def maybe(state, request):
    return 2


def one_more_than_it_wrote(state, request, hit, proposals):
    proposals[0] = 1
    return 2


def writes_too_many(state, request, hit, proposals):
    proposals[0] = proposals[1] = request.address
    return 1


def half_a_proposal(parameters):
    return 0.5


def never_enough(state, block, size_bytes):
    return False


def keeps_it(state, block):
    """Gives nothing back."""


def all_of_it(state):
    return 1 << 40


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (replace(SIZE, name="mine", admit=maybe), "admit returned 2, which is neither True nor False"),
        (replace(NEXT_N, name="mine", propose=one_more_than_it_wrote), "propose returned 2; expected how many"),
        (replace(NEXT_N, name="mine", propose=writes_too_many), "propose raised IndexError"),
        (replace(NEXT_N, name="mine", degree=half_a_proposal), "degree returned 0.5"),
        (replace(WRITE_THROUGH, name="mine", copy_on_hit=maybe), "copy_on_hit returned 2"),
    ],
    ids=["admit", "count", "too many", "degree", "offload"],
)
def test_other_kinds_are_checked_too(policy, told):
    with pytest.raises(CheckFailed, match=told):
        check_policy(policy)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"allocate": never_enough}, "allocate refused .* just what largest_free_bytes said would fit"),
        ({"release": keeps_it}, "bytes do not add up|allocate raised ValueError"),
        ({"free_bytes": all_of_it}, "free_bytes of an empty memory"),
        ({"largest_free_bytes": all_of_it}, "largest_free_bytes is .* where free_bytes is"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_allocators_are_checked(changed, told):
    with pytest.raises(CheckFailed, match=told):
        check_allocator(replace(PAGED, name="mine", **changed))
