"""Every allocator against a byte map: the same blocks in the same places, and every byte accounted for.

The byte maps are in allocator_oracle.py. With NUMBA_DISABLE_JIT=1 the same tests run the allocators uncompiled.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba import config

from sim.errors import InputError
from sim.kernels import bitset, ordered_index
from sim.kernels.bitset import make_bitset
from sim.kernels.compile import kernel
from sim.kernels.ordered_index import found, make_index, remove_found, replace_found
from sim.kernels.regions import ADDRESS, BYTES, UPPER
from sim.policy import Context
from sim.registry import ALLOCATOR, load
from sim.testing import compiled_hooks
from tests.allocator_oracle import BestFit, Buddy, FirstFit, Paged, Slab
from tests.allocator_play import BLOCKS, operations, play

pytestmark = pytest.mark.uncompiled

EXAMPLES = 25 if config.DISABLE_JIT else 120
NAMES = ["paged", "first_fit", "best_fit", "buddy", "slab"]
add, contains, discard, first_from = map(kernel, (bitset.add, bitset.contains, bitset.discard, bitset.first_from))
highest_key, highest_peak, insert = map(
    kernel, (ordered_index.highest_key, ordered_index.highest_peak, ordered_index.insert)
)
seek, seek_peak = map(kernel, (ordered_index.seek, ordered_index.seek_peak))
few = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def made(name: str, context: Context, parameters: dict | None = None):
    """An allocator's compiled hooks, and a state of it."""
    plugin = load(ALLOCATOR, name)
    return compiled_hooks(plugin), plugin.make_state(context, parameters)


class Pair:
    """An allocator and its byte map, given the same requests."""

    def __init__(self, name: str, capacity: int, parameters: dict, oracle):
        self.name, self.capacity, self.oracle = name, capacity, oracle
        self.allocator, self.state = made(name, Context(capacity, BLOCKS), parameters)

    def allocate(self, block: int, size: int) -> bool:
        if self.name == "slab":
            return self.allocate_judged(block, size)
        placed = self.allocator.allocate(self.state, block, size)
        assert placed == self.oracle.allocate(block, size)
        if self.name != "paged":
            assert self.state.address[block] == self.oracle.address(block)
        return placed

    def allocate_judged(self, block: int, size: int) -> bool:
        candidates = self.oracle.candidates(size)
        placed = self.allocator.allocate(self.state, block, size)
        assert placed == bool(candidates)
        if placed:
            assert self.state.address[block] in candidates
            self.oracle.put(block, size, int(self.state.address[block]))
        return placed

    def release(self, block: int) -> None:
        self.allocator.release(self.state, block)
        self.oracle.release(block)

    def check_numbers(self) -> None:
        free = self.allocator.free_bytes(self.state)
        internal = self.allocator.internal_bytes(self.state)
        assert free == self.oracle.free_bytes()
        assert internal == self.oracle.internal_bytes()
        assert sum(self.oracle.asked.values()) + internal + free == self.oracle.usable <= self.capacity
        assert self.allocator.largest_free_bytes(self.state) == self.oracle.largest_free_bytes() <= free

    def check_largest_is_true(self, block: int) -> None:
        """One byte more than the largest free block is refused, that itself is placed; `block` is not placed."""
        largest = self.allocator.largest_free_bytes(self.state)
        assert not self.allocate(block, largest + 1)
        if largest:
            assert self.allocate(block, largest)
            self.release(block)


def chunk_sizes(smallest: int, factor: float, largest: int) -> list[int]:
    sizes = []
    size = smallest
    while -(-size // 8) * 8 <= largest:
        sizes.append(-(-size // 8) * 8)
        size = max(int(sizes[-1] * factor), sizes[-1] + 1)
    return sizes


@st.composite
def pairs(draw, names=NAMES):
    name = draw(st.sampled_from(names))
    capacity = draw(st.integers(1, 400))
    unit = draw(st.integers(1, 24))
    if name == "slab":
        smallest, factor, slab = draw(st.integers(1, 30)), draw(st.sampled_from([1.1, 1.25, 2.0])), unit * 6
        parameters = {"smallest_bytes": smallest, "factor": factor, "slab_bytes": slab}
        slab = min(slab, capacity)
        return Pair(name, capacity, parameters, Slab(capacity, slab, chunk_sizes(smallest, factor, slab // 2)))
    oracle, parameter = {
        "paged": (Paged, "page_bytes"),
        "first_fit": (FirstFit, "alignment_bytes"),
        "best_fit": (BestFit, "alignment_bytes"),
        "buddy": (Buddy, "smallest_bytes"),
    }[name]
    return Pair(name, capacity, {parameter: unit}, oracle(capacity, unit))


@few
@given(pairs(), operations)
def test_equals_the_byte_map_after_every_operation(pair, steps):
    play(pair, steps, pair.check_numbers)


@few
@given(pairs(), operations)
def test_the_largest_free_block_fits_and_one_byte_more_does_not(pair, steps):
    play(pair, steps, lambda: None)
    pair.check_largest_is_true(BLOCKS - 1)


@few
@given(pairs(), operations)
def test_releasing_everything_restores_the_empty_memory(pair, steps):
    largest = pair.allocator.largest_free_bytes(pair.state)
    play(pair, steps, lambda: None)
    for block in list(pair.oracle.asked):
        pair.release(block)
    assert pair.allocator.free_bytes(pair.state) == pair.oracle.usable
    assert pair.allocator.largest_free_bytes(pair.state) == largest
    assert pair.allocator.internal_bytes(pair.state) == 0


@few
@given(pairs(["first_fit", "best_fit", "slab"]), operations)
def test_neighbouring_free_runs_are_always_merged(pair, steps):
    play(pair, steps, lambda: None)
    regions = pair.state.pool if pair.name == "slab" else pair.state.regions
    runs, segment = [], regions.segments[regions.sentinel, UPPER]
    while segment != regions.sentinel:
        if segment > regions.sentinel:
            runs.append((int(regions.segments[segment, ADDRESS]), int(regions.segments[segment, BYTES])))
        segment = regions.segments[segment, UPPER]
    if pair.name != "slab":
        assert runs == pair.oracle.runs()
    assert all(at + size < following for (at, size), (following, _) in pairwise(runs))


@few
@given(pairs(["buddy"]), operations)
def test_buddies_are_aligned_to_their_size(pair, steps):
    def check():
        for block, size in pair.oracle.asked.items():
            assert pair.state.address[block] % pair.oracle.footprint(size) == 0

    play(pair, steps, check)


def test_a_capacity_that_is_no_power_of_two_is_cut_into_arenas():
    buddy, state = made("buddy", Context(11 * 16 + 5, 4), {"smallest_bytes": 16})
    assert (buddy.free_bytes(state), buddy.largest_free_bytes(state)) == (11 * 16, 8 * 16)
    assert [buddy.allocate(state, block, size * 16) for block, size in enumerate((8, 2, 1, 1))] == [True] * 3 + [False]
    assert list(state.address) == [0, 8 * 16, 10 * 16, -1]


def test_paged_loses_only_the_end_of_the_last_page():
    paged, state = made("paged", Context(10 * 4096 + 1, 2))
    assert paged.allocate(state, 0, 3 * 4096 + 1)
    assert (paged.free_bytes(state), paged.internal_bytes(state)) == (6 * 4096, 4095)
    assert paged.largest_free_bytes(state) == paged.free_bytes(state)


def test_slabs_grow_by_the_factor_and_return_when_empty():
    slab, state = made("slab", Context(4 << 20, 4))
    sizes = state.classes[:-1, 0]
    assert list(sizes[:4]) == [64, 80, 104, 136]
    assert sizes[-1] <= 1 << 19 < sizes[-1] * 1.25 + 8
    assert slab.allocate(state, 0, 65) and slab.allocate(state, 1, 3 << 20)
    assert slab.internal_bytes(state) == 15
    assert not slab.allocate(state, 2, 64), "the one slab that is not whole is cut for another class"
    assert slab.largest_free_bytes(state) == 80
    slab.release(state, 0)
    assert slab.allocate(state, 2, 64)


@pytest.mark.parametrize("name", NAMES)
def test_a_misuse_is_refused(name):
    allocator, state = made(name, Context(1 << 24, 3))
    with pytest.raises(ValueError, match="not placed"):
        allocator.release(state, 0)
    with pytest.raises(ValueError, match="no bytes"):
        allocator.allocate(state, 0, 0)
    assert allocator.allocate(state, 0, 100)
    with pytest.raises(ValueError, match="placed already"):
        allocator.allocate(state, 0, 100)
    allocator.release(state, 0)
    with pytest.raises(ValueError, match="not placed"):
        allocator.release(state, 0)
    assert allocator.free_bytes(state) == 1 << 24


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("paged", {"page_bytes": 0}, "page_bytes is 0; expected a positive whole number"),
        ("first_fit", {"alignment_bytes": 0}, "alignment_bytes is 0; expected a positive whole number"),
        ("best_fit", {"alignment_bytes": -1}, "alignment_bytes is -1; expected a positive whole number"),
        ("buddy", {"smallest_bytes": 0}, "smallest_bytes is 0; expected a positive whole number"),
        ("buddy", {"smallest_bytes": 1}, "smallest_bytes is 1; expected at least 64"),
        ("slab", {"smallest_bytes": 0}, "smallest_bytes is 0; expected a positive whole number"),
        ("slab", {"slab_bytes": 0}, "slab_bytes is 0; expected a positive whole number"),
        ("slab", {"factor": 1.0}, "factor is 1.0; expected a number above 1"),
        ("slab", {"factor": float("nan")}, "factor is nan; expected a number above 1"),
    ],
)
def test_a_parameter_out_of_range_is_one_sentence(name, parameters, words):
    with pytest.raises(InputError, match=words):
        load(ALLOCATOR, name).make_state(Context(1 << 40, 3), parameters)


@pytest.mark.parametrize("name", NAMES)
def test_memory_of_no_use_refuses_everything(name):
    for capacity in (0, 1):
        allocator, state = made(name, Context(capacity, 2))
        assert not allocator.allocate(state, 0, capacity + 1)
        assert allocator.free_bytes(state) == allocator.largest_free_bytes(state) <= capacity


@pytest.mark.parametrize("name", NAMES)
def test_a_large_tier_costs_little_to_set_up(name):
    """The state grows with the blocks, not with the bytes of a tier; that of pages where nobody asks for places."""
    allocator, state = made(name, Context(4 << 40, 1000), {"places": False} if name == "paged" else None)
    assert all(allocator.allocate(state, block, 1 << 20) for block in range(1000))
    if name != "buddy":
        assert total_bytes(state) < 4 << 20


def total_bytes(state) -> int:
    return sum(total_bytes(part) if isinstance(part, tuple) else getattr(part, "nbytes", 0) for part in state)


def churn_until_apart(name: str, blocks: int, operations: int) -> None:
    """Thousands of segments, so that the index has several levels, splits and merges; numbers checked at the end."""
    rng = np.random.default_rng(7)
    allocator, state = made(name, Context(blocks * 600, blocks))
    asked = np.zeros(blocks, np.int64)
    for block, size in zip(rng.integers(0, blocks, operations), rng.integers(1, 2000, operations), strict=True):
        if asked[block]:
            allocator.release(state, int(block))
            asked[block] = 0
        elif allocator.allocate(state, int(block), int(size)):
            asked[block] = size
    live = np.flatnonzero(asked)
    starts, ends = state.address[live], state.address[live] + asked[live]
    order = np.argsort(starts)
    assert (ends[order][:-1] <= starts[order][1:]).all(), "blocks overlap"
    allocated = asked.sum() + allocator.internal_bytes(state)
    assert allocated + allocator.free_bytes(state) == blocks * 600 // 64 * 64
    for block in rng.permutation(live):
        allocator.release(state, int(block))
    assert allocator.largest_free_bytes(state) == allocator.free_bytes(state) == blocks * 600 // 64 * 64


@pytest.mark.parametrize("name", ["first_fit", "best_fit"])
def test_thousands_of_runs_never_overlap_and_merge_again(name):
    churn_until_apart(name, *((300, 1500) if config.DISABLE_JIT else (8000, 60_000)))


@kernel
def drop(index, key, second):
    seek(index, key, second)
    remove_found(index)


@kernel
def change(index, key, second, new_second):
    seek(index, key, second)
    replace_found(index, key, new_second)


def test_the_ordered_index_equals_a_sorted_list():
    rng = np.random.default_rng(3)
    entries, most = {}, 150 if config.DISABLE_JIT else 3000
    index = make_index(most)
    for growing in (True, False, True, False):
        for step in range(2 * most):
            shrink = len(entries) == most or (rng.random() < (0.2 if growing else 0.8) and entries)
            if shrink:
                key = list(entries)[rng.integers(len(entries))]
                drop(index, key, entries.pop(key))
            else:
                key, second = int(rng.integers(1 << 30)), int(rng.integers(1, 1000))
                if key in entries:
                    continue
                insert(index, key, second, key + 1)
                entries[key] = second
            if entries and step % 3 == 0:
                key = list(entries)[rng.integers(len(entries))]
                new = int(rng.integers(1, 1000))
                change(index, key, entries[key], new)
                entries[key] = new
            if step % 97 == 0:
                compare_index(index, entries, rng)
    for key, second in list(entries.items()):
        drop(index, key, second)
    assert not seek(index, 0, 0) and highest_key(index) == highest_peak(index) == 0


def compare_index(index, entries: dict[int, int], rng) -> None:
    in_order = sorted(entries)
    assert highest_key(index) == (in_order[-1] if in_order else 0)
    assert highest_peak(index) == max(entries.values(), default=0)
    key, least = int(rng.integers(1 << 30)), int(rng.integers(1, 1100))
    expected = next((own for own in in_order if own >= key), None)
    assert seek(index, key, 0) == (expected is not None)
    assert expected is None or found(index) == expected + 1
    expected = next((own for own in in_order if entries[own] >= least), None)
    assert seek_peak(index, least) == (expected is not None)
    assert expected is None or found(index) == expected + 1


@few
@given(st.sampled_from([1, 63, 64, 65, 4096, 300_000]), st.data())
def test_the_bit_set_equals_a_set(size, data):
    bits, members = make_bitset(size), set()
    numbers = st.one_of(st.integers(0, size - 1), st.integers(max(0, size - 70), size - 1))
    for number, is_in in data.draw(st.lists(st.tuples(numbers, st.booleans()), max_size=40)):
        (add if is_in else discard)(bits, number)
        (members.add if is_in else members.discard)(number)
        assert contains(bits, number) == (number in members)
        start = data.draw(numbers)
        assert first_from(bits, start) == min((member for member in members if member >= start), default=-1)
