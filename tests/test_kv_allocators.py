"""Allocators of contiguous KV memory against slow models, and what their papers say of them.

The slow models are in kv_oracles.py. With NUMBA_DISABLE_JIT=1 the same tests run the allocators uncompiled.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba import config

from sim.errors import InputError
from sim.hook_arguments import MAPS, UNMAPS, Context, Objects
from sim.registry import ALLOCATOR, load
from sim.testing import check_allocator, compiled_hooks
from tests.kv_oracles import Reservation, VirtualPages

pytestmark = pytest.mark.uncompiled

BLOCKS = 10
EXAMPLES = 25 if config.DISABLE_JIT else 120
KIB, US, MS = 1024, 1e3, 1e6
few = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def objects_of(first, final, most, unit) -> Objects:
    nothing = np.zeros(0, np.int64)
    known = {"first_bytes": first, "final_bytes": final, "most_bytes": most, "unit_bytes": unit}
    columns = {name: np.array(column, np.int64) for name, column in known.items()}
    return Objects(**{**dict.fromkeys(Objects._fields, nothing), **columns})


def made(name, capacity, objects=None, blocks=BLOCKS, **parameters):
    plugin = load(ALLOCATOR, name)
    return compiled_hooks(plugin), plugin.make_state(Context(capacity, blocks, objects=objects), parameters)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("reservation", {}),
        ("reservation", {"form": "max", "placement": "first_fit"}),
        ("reservation", {"form": "pow2", "placement": "best_fit"}),
        ("virtual_pages", {}),
        ("virtual_pages", {"tensors": 4, "deferred": False, "eager_groups": 2}),
        ("virtual_pages", {"page_bytes": 65000, "background": False, "map_ns": 10.0, "unmap_ns": 5.0, "slots": 15}),
    ],
)
def test_the_rules_of_allocators_hold(name, parameters):
    check_allocator(load(ALLOCATOR, name), parameters)


@st.composite
def known_objects(draw):
    first = draw(st.lists(st.integers(1, 30), min_size=BLOCKS, max_size=BLOCKS))
    final = [size + draw(st.integers(0, 60)) for size in first]
    most = [size + draw(st.integers(0, 60)) for size in final]
    return objects_of(first, final, most, draw(st.lists(st.integers(1, 9), min_size=BLOCKS, max_size=BLOCKS)))


# What to do with a block, how large it then is (as a share of what it may be), and how long after the step before.
steps = st.lists(st.tuples(st.integers(0, BLOCKS - 1), st.integers(0, 3), st.floats(0, 1), st.integers(0, 9)))


def play(hooks, state, oracle, objects, what, after):
    now = 0.0
    for block, kind, share, later in what:
        now += later
        hooks.tick(state, now)
        if hasattr(oracle, "tick"):
            oracle.tick(now)
        size = max(1, round(share * int(objects.final_bytes[block])))
        if block not in oracle.size:
            assert hooks.allocate(state, block, size) == oracle.allocate(block, size)
        elif kind == 0:
            hooks.release(state, block)
            oracle.release(block)
        else:
            assert hooks.resize(state, block, size) == oracle.resize(block, size)
        after()


def check_bytes(hooks, state, oracle):
    room = np.zeros((512, 2), np.int64)
    assert hooks.free_bytes(state) == oracle.free_bytes()
    assert (hooks.reserved_bytes(state), hooks.internal_bytes(state)) == oracle.split()
    for block in oracle.size:
        runs = hooks.extents(state, block, room)
        assert [tuple(run) for run in room[:runs].tolist()] == oracle.extents(block)


@few
@given(
    known_objects(),
    st.sampled_from(["max", "pow2", "exact"]),
    st.sampled_from(["buddy", "first_fit", "best_fit"]),
    st.integers(1, 400),
    st.integers(1, 12),
    steps,
)
def test_reservations_equal_a_byte_map(objects, form, placement, capacity, unit, what):
    parameters = {"form": form, "placement": placement, "smallest_bytes": unit}
    hooks, state = made("reservation", capacity, objects, **parameters)
    oracle = Reservation(placement, form, capacity, unit, objects)
    play(hooks, state, oracle, objects, what, lambda: check_bytes(hooks, state, oracle))


@few
@given(
    known_objects(),
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(1, BLOCKS),
    st.booleans(),
    st.integers(0, 9),
    st.integers(0, 2),
    st.integers(1, 400),
    steps,
)
def test_virtual_pages_equal_lists(objects, page, tensors, slots, deferred, ahead, eager, capacity, what):
    parameters = {"page_bytes": page, "tensors": tensors, "slots": slots, "deferred": deferred}
    parameters |= {"ahead_units": ahead, "eager_groups": eager, "map_ns": 2.0, "unmap_ns": 1.0}
    hooks, state = made("virtual_pages", capacity, objects, **parameters)
    oracle = VirtualPages(
        *(capacity, page * tensors, slots, objects.unit_bytes.tolist()),
        **{"ahead": ahead, "eager": eager, "map_ns": 2.0 * tensors, "unmap_ns": 1.0 * tensors, "deferred": deferred},
    )

    def check():
        check_bytes(hooks, state, oracle)
        held = sum(map(len, oracle.mapped)) * oracle.group
        calls = oracle.maps * tensors, oracle.unmaps * tensors
        assert hooks.held_bytes(state) == held
        assert (hooks.calls_made(state, MAPS), hooks.calls_made(state, UNMAPS)) == calls
        assert hooks.waited_ns(state) == oracle.waited

    play(hooks, state, oracle, objects, what, check)


# --- reservations, as Kwon et al. 2023 describe Orca's --------------------------------------------------------------

TOKEN = 800 * KIB  # OPT-13B: K and V of 40 layers of 5,120 numbers of 2 bytes
KV_BYTES = 12 << 30


def test_maximal_reservations_of_opt_13b_leave_a_tail_of_8_85_percent():
    many = 20
    sizes = [1 * TOKEN] * many, [100 * TOKEN] * many, [2048 * TOKEN] * many, [TOKEN] * many
    hooks, state = made("reservation", KV_BYTES, objects_of(*sizes), many, form="max", smallest_bytes=TOKEN)
    placed = [hooks.allocate(state, call, TOKEN) for call in range(many)]
    assert placed == [True] * 7 + [False] * 13
    tail = 1 - 7 * 2048 * TOKEN / KV_BYTES
    assert tail == pytest.approx(0.0885, abs=5e-5)
    assert hooks.reserved_bytes(state) == 7 * 99 * TOKEN
    assert hooks.internal_bytes(state) == 7 * (2048 - 100) * TOKEN


def test_powers_of_two_are_of_the_output_alone():
    """25 true tokens of output reserve 32 (section 6.1), whatever the prompt has."""
    known = objects_of([100], [125], [2048], [1])
    hooks, state = made("reservation", 4096, known, 1, form="pow2", placement="first_fit", smallest_bytes=1)
    assert hooks.allocate(state, 0, 100)
    assert hooks.free_bytes(state) == 4096 - 132
    assert (hooks.reserved_bytes(state), hooks.internal_bytes(state)) == (25, 7)
    assert hooks.resize(state, 0, 132) and not hooks.resize(state, 0, 133)


# --- virtual pages, as Prabhu et al. 2025 describe them -------------------------------------------------------------


@pytest.mark.parametrize(
    ("page_bytes", "tokens"), [(64 * KIB, 64), (128 * KIB, 128), (256 * KIB, 256), (2048 * KIB, 2048)]
)
def test_tokens_of_a_page(page_bytes, tokens):
    """Yi-6B on one GPU: 4 KV heads of 128 numbers of 2 bytes, 1,024 bytes a token in each of 64 tensors."""
    token = 64 * KIB
    hooks, state = made("virtual_pages", 8 << 30, page_bytes=page_bytes, tensors=64)
    assert hooks.allocate(state, 0, tokens * token)
    assert hooks.calls_made(state, MAPS) == 64 and hooks.internal_bytes(state) == 0
    assert hooks.resize(state, 0, (tokens + 1) * token)
    assert hooks.calls_made(state, MAPS) == 128 and hooks.internal_bytes(state) == (tokens - 1) * token


YI_34B_TOKEN = 60 * 2 * 8 * 128 * 2 // 2  # bytes, of one of two GPUs
PAGES = {"page_bytes": 2048 * KIB, "tensors": 120}


def decode(tokens, step_ns, **parameters):
    """ns waited for the prompt's pages, and for those of the tokens that follow it."""
    known = objects_of([YI_34B_TOKEN], [tokens * YI_34B_TOKEN], [tokens * YI_34B_TOKEN], [YI_34B_TOKEN])
    hooks, state = made("virtual_pages", 4 << 30, known, 1, **PAGES, **parameters)
    hooks.tick(state, 100 * MS)
    assert hooks.allocate(state, 0, YI_34B_TOKEN)
    first_ns = hooks.waited_ns(state)
    for token in range(2, tokens + 1):
        hooks.tick(state, 100 * MS + token * step_ns)
        assert hooks.resize(state, 0, token * YI_34B_TOKEN)
    assert hooks.calls_made(state, MAPS) == 120 * -(-tokens // 2048)
    return first_ns, hooks.waited_ns(state) - first_ns


def test_120_calls_take_4_8_ms_where_nothing_hides_them():
    """K and V of 60 layers, 40 us each: Yi-34B."""
    assert decode(5000, 25 * MS, background=False) == (4.8 * MS, 2 * 4.8 * MS)


def test_the_thread_in_the_background_hides_them():
    assert decode(5000, 25 * MS) == (4.8 * MS, 0.0)
    assert decode(5000, 25 * MS, eager_groups=1) == (0.0, 0.0)


def test_what_the_thread_has_no_time_for_is_waited_for():
    """Nine iterations of 0.5 ms before the page is needed leave 0.3 ms of 4.8."""
    _, waited_ns = decode(2049, 0.5 * MS)
    assert waited_ns == pytest.approx(0.3 * MS)


def test_a_slot_that_is_used_again_has_its_pages():
    hooks, state = made("virtual_pages", 4 << 30, **PAGES)
    group = 120 * 2048 * KIB
    for block, groups in enumerate((1, 3, 2)):
        assert hooks.allocate(state, block, groups * group)
    waited_ns = hooks.waited_ns(state)
    for block in range(3):
        hooks.release(state, block)
    assert hooks.held_bytes(state) == 6 * group and hooks.calls_made(state, UNMAPS) == 0
    assert hooks.allocate(state, 3, 2 * group)  # where there were two
    assert hooks.allocate(state, 4, 1)  # where there was one
    assert hooks.allocate(state, 5, 2 * group + 1)
    assert hooks.waited_ns(state) == waited_ns and hooks.held_bytes(state) == 6 * group


def test_pages_are_unmapped_where_they_are_lacking():
    hooks, state = made("virtual_pages", 4 * 64 * KIB)
    assert hooks.allocate(state, 0, 3 * 64 * KIB)
    hooks.release(state, 0)
    assert hooks.allocate(state, 1, 1)  # in the slot with three
    assert hooks.free_bytes(state) == 3 * 64 * KIB
    assert hooks.allocate(state, 2, 3 * 64 * KIB)  # one was never mapped, two are taken from there
    assert hooks.calls_made(state, UNMAPS) == 2 and hooks.free_bytes(state) == 0
    assert not hooks.allocate(state, 3, 1)
    assert hooks.waited_ns(state) == pytest.approx((3 + 3) * 8 * US + 2 * 2 * US)


@pytest.mark.parametrize(
    ("name", "parameters", "problem"),
    [
        ("reservation", {"form": "oracle"}, "form is 'oracle'; expected max, pow2 or exact"),
        ("reservation", {"placement": "slab"}, "placement is 'slab'; expected buddy, first_fit or best_fit"),
        ("reservation", {"smallest_bytes": 0}, "smallest_bytes is 0; expected a positive whole number"),
        ("reservation", {}, "form is 'exact'; expected objects of which final_bytes is known"),
        ("virtual_pages", {"tensors": 0}, "tensors is 0; expected a whole number of at least 1"),
        ("virtual_pages", {"page_bytes": 4096}, "map_ns is -1; expected a time, since only pages of 65536"),
    ],
)
def test_bad_parameters(name, parameters, problem):
    with pytest.raises(InputError, match=problem):
        made(name, 1 << 20, **parameters)


@pytest.mark.parametrize("name", ["reservation", "virtual_pages"])
def test_misuse_is_told(name):
    ones = [8] * BLOCKS
    hooks, state = made(name, 1 << 20, objects_of(ones, ones, ones, ones))
    for hook, arguments, problem in (
        ("release", (0,), "the block to release is not placed"),
        ("resize", (0, 8), "the block to resize is not placed"),
        ("allocate", (0, 0), "the block to allocate has no bytes"),
    ):
        with pytest.raises(ValueError, match=problem):
            getattr(hooks, hook)(state, *arguments)
    assert hooks.allocate(state, 0, 8)
    with pytest.raises(ValueError, match="the block to allocate is placed already"):
        hooks.allocate(state, 0, 8)
    with pytest.raises(ValueError, match="the block to resize has no bytes"):
        hooks.resize(state, 0, 0)
