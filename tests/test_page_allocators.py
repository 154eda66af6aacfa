"""Allocators of pages and of slots against slow ones over lists: the same objects in the same places, byte for byte.

The slow ones are in page_oracles.py. With NUMBA_DISABLE_JIT=1 the same tests run the allocators uncompiled.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba import config

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, build_operations
from sim.hook_arguments import Context, Objects
from sim.registry import ALLOCATOR, load
from sim.testing import check_allocator, compiled_hooks
from tests.page_oracles import Groups, NamedPages, Slots, SpreadPages

pytestmark = pytest.mark.uncompiled

BLOCKS = 10
EXAMPLES = 25 if config.DISABLE_JIT else 150
ORDERS = ["fifo", "lifo", "lowest"]
few = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def objects_of(sizes: list[int]) -> Objects:
    """Of these sizes from first to last."""
    count = np.arange(len(sizes))
    return build_operations("known", count, np.full(len(sizes), ALLOCATE), count, np.array(sizes)).objects


class Pair:
    """An allocator and its oracle, given the same requests; a list of sizes where these are known beforehand."""

    def __init__(self, name: str, parameters: dict, oracle, sizes: list[int] | None = None):
        plugin = load(ALLOCATOR, name)
        known = None if sizes is None else objects_of(sizes)
        context = Context(oracle.capacity, BLOCKS, seed=0, objects=known)
        self.hooks, self.state, self.oracle = compiled_hooks(plugin), plugin.make_state(context, parameters), oracle
        self.room, self.names_places = np.zeros((512, 2), np.int64), parameters.get("places", True)
        self.entry_bytes = parameters.get("entry_bytes", 0)

    def do(self, what: str, block: int, size: int) -> None:
        placed = block in self.oracle.asked
        if not placed:
            before = self.numbers()
            done = self.hooks.allocate(self.state, block, size)
            assert done == self.oracle.allocate(block, size)
            assert done or self.numbers() == before
        elif what == "resize":
            before = self.numbers()
            done = self.hooks.resize(self.state, block, size)
            assert done == self.oracle.resize(block, size)
            assert done or self.numbers() == before
        else:
            self.hooks.release(self.state, block)
            self.oracle.release(block)

    def numbers(self) -> tuple:
        whats = ("free", "largest_free", "internal", "reserved", "held", "metadata", "outside")
        return tuple(int(getattr(self.hooks, f"{what}_bytes")(self.state)) for what in whats)

    def check(self) -> None:
        o = self.oracle
        free, largest, internal, reserved, held, metadata, outside = self.numbers()
        wanted = (o.free_bytes(), o.largest_free_bytes(), o.internal_bytes(), o.reserved_bytes(), o.held_bytes())
        assert (free, largest, internal, reserved, held) == wanted
        assert metadata == 0
        if self.entry_bytes:
            assert outside == self.entry_bytes * o.used_pages()
        for block in o.asked:
            count = self.hooks.extents(self.state, block, self.room)
            if self.names_places:
                assert [tuple(run) for run in self.room[:count].tolist()] == o.runs(block)
            else:
                assert count < 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["resize", "resize", "release"]),
        st.integers(0, BLOCKS - 1),
        st.one_of(st.integers(1, 40), st.integers(1, 300)),
    ),
    max_size=60,
)


def play(pair: Pair, rows) -> None:
    for row in rows:
        pair.do(*row)
        pair.check()
    for block in list(pair.oracle.asked):
        pair.do("release", block, 0)
    pair.check()


@few
@given(st.integers(0, 400), st.integers(1, 24), st.sampled_from(ORDERS), st.booleans(), steps)
def test_pages_are_those_of_the_list(capacity, page_bytes, order, places, rows):
    parameters = {"page_bytes": page_bytes, "order": order, "places": places, "entry_bytes": 3}
    play(Pair("paged", parameters, NamedPages(capacity, page_bytes, order)), rows)


@few
@given(st.integers(0, 400), st.integers(1, 12), st.integers(1, 4), st.sampled_from(ORDERS), steps)
def test_unified_pages_are_those_of_the_list(capacity, page_bytes, tensors, order, rows):
    parameters = {"page_bytes": page_bytes, "tensors": tensors, "order": order, "entry_bytes": 3}
    play(Pair("unified_paging", parameters, SpreadPages(capacity, page_bytes, tensors, order)), rows)


@few
@given(st.integers(0, 500), st.integers(1, 12), st.sampled_from([1, 2, 5, 8, 100]), steps)
def test_groups_are_those_of_the_map(capacity, page_bytes, group_pages, rows):
    parameters = {"page_bytes": page_bytes, "group_pages": group_pages, "entry_bytes": 3}
    play(Pair("block_groups", parameters, Groups(capacity, page_bytes, group_pages)), rows)


known_sizes = st.lists(st.sampled_from([1, 7, 8, 9, 30, 31, 100, 129]), min_size=BLOCKS, max_size=BLOCKS)


@few
@given(st.booleans(), st.integers(0, 600), st.sampled_from([1, 8]), st.booleans(), known_sizes, steps)
def test_slots_are_those_of_the_lists(adaptive, capacity, alignment, power_of_two, sizes, rows):
    slots = [-(-size // alignment) * alignment for size in sizes]
    if power_of_two:
        slots = [1 << (slot - 1).bit_length() for slot in slots]
    slots = slots if adaptive else [max(slots)] * BLOCKS
    parameters = {"alignment_bytes": alignment, "power_of_two": power_of_two}
    play(Pair("adaptive_slots" if adaptive else "equal_slots", parameters, Slots(capacity, slots), sizes), rows)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("paged", {"page_bytes": 1 << 16}),
        ("paged", {"page_bytes": 1 << 16, "order": "lifo"}),
        ("paged", {"page_bytes": 1 << 16, "order": "lowest"}),
        ("paged", {"places": False}),
        ("unified_paging", {"page_bytes": 1 << 16}),
        ("unified_paging", {"page_bytes": 1 << 15, "tensors": 3}),
        ("block_groups", {"page_bytes": 1 << 15}),
        ("equal_slots", {}),
        ("adaptive_slots", {"power_of_two": True}),
    ],
)
def test_the_rules_of_allocators_hold(name, parameters):
    check_allocator(load(ALLOCATOR, name), parameters)


NAMES = ["paged", "unified_paging", "block_groups", "equal_slots", "adaptive_slots"]


@pytest.mark.parametrize("name", NAMES)
def test_a_misuse_is_refused(name):
    plugin = load(ALLOCATOR, name)
    hooks, state = compiled_hooks(plugin), plugin.make_state(Context(1 << 24, 2, objects=objects_of([100, 200])))
    for call in (hooks.release, lambda state, block: hooks.resize(state, block, 5)):
        with pytest.raises(ValueError, match="not placed"):
            call(state, 0)
    with pytest.raises(ValueError, match="no bytes"):
        hooks.allocate(state, 0, 0)
    assert hooks.allocate(state, 0, 100)
    with pytest.raises(ValueError, match="placed already"):
        hooks.allocate(state, 0, 100)
    with pytest.raises(ValueError, match="no bytes"):
        hooks.resize(state, 0, 0)
    hooks.release(state, 0)
    assert hooks.free_bytes(state) == 1 << 24


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("paged", {"page_bytes": 1}, "page_bytes is 1; expected at least 1024 for the pages of"),
        ("paged", {"order": "random"}, "order is 'random'; expected 'fifo', 'lifo', 'lowest'"),
        ("paged", {"entry_bytes": -1}, "entry_bytes is -1; expected a whole number from 0"),
        ("unified_paging", {"page_bytes": 0}, "page_bytes is 0; expected a positive whole number"),
        ("unified_paging", {"tensors": 0}, "tensors is 0; expected a positive whole number"),
        ("unified_paging", {"entry_bytes": -1}, "entry_bytes is -1; expected a whole number from 0"),
        ("unified_paging", {"page_bytes": 8}, "page_bytes is 8; expected at least 1024 for the pages of"),
        ("block_groups", {"page_bytes": 0}, "page_bytes is 0; expected a positive whole number"),
        ("block_groups", {"group_pages": 0}, "group_pages is 0; expected a positive whole number"),
        ("block_groups", {"entry_bytes": -2}, "entry_bytes is -2; expected a whole number from 0"),
        ("block_groups", {"page_bytes": 4096}, "page_bytes is 4096; expected at least 65536 for"),
        ("equal_slots", {"alignment_bytes": 0}, "alignment_bytes is 0; expected a positive whole number"),
        ("adaptive_slots", {"alignment_bytes": 0}, "alignment_bytes is 0; expected a positive whole number"),
    ],
)
def test_a_parameter_out_of_range_is_one_sentence(name, parameters, words):
    with pytest.raises(InputError, match=words):
        load(ALLOCATOR, name).make_state(Context(1 << 40, 2, objects=objects_of([1, 2])), parameters)


@pytest.mark.parametrize("name", ["equal_slots", "adaptive_slots"])
def test_slots_want_to_know_the_objects(name):
    with pytest.raises(InputError, match="nothing is known of the objects"):
        load(ALLOCATOR, name).make_state(Context(1 << 20, 2))


def test_a_counted_tier_of_tiny_pages_needs_memory_for_its_blocks_alone():
    state = load(ALLOCATOR, "paged").make_state(Context(64 << 40, 1000), {"page_bytes": 1, "places": False})
    assert state.blocks.nbytes + state.pages.links.nbytes + state.pages.freed.words.nbytes < 10_000


def test_pages_freed_are_taken_in_the_order_of_vllm():
    """A request's blocks go to the end of the queue, its last one first; those never used come before them."""
    plugin = load(ALLOCATOR, "paged")
    hooks, state, room = compiled_hooks(plugin), plugin.make_state(Context(6, 4), {"page_bytes": 1}), np.zeros((9, 2))
    for block, size in ((0, 3), (1, 1)):
        hooks.allocate(state, block, size)
    hooks.release(state, 0)
    hooks.allocate(state, 2, 4)
    runs = hooks.extents(state, 2, room.astype(np.int64))
    assert runs == 3
    out = np.zeros((3, 2), np.int64)
    hooks.extents(state, 2, out)
    assert out.tolist() == [[4, 2], [2, 1], [1, 1]]
