"""PyTorch's caching allocator and GMLake's stitching: each documented rule, and a slow oracle after every operation."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba import config

from sim.errors import InputError
from sim.fragmentation.operations import build_operations
from sim.hook_arguments import MAPS, SYSTEM_ALLOCATIONS, SYSTEM_RELEASES, UNMAPS
from sim.policy import Context
from sim.registry import ALLOCATOR, load
from sim.testing import check_allocator, compiled_hooks
from tests.torch_oracle import MIB, Caching, Stitching

pytestmark = pytest.mark.uncompiled

GIB = 1 << 30
OBJECTS = 24
few = settings(max_examples=40 if config.DISABLE_JIT else 150, deadline=None, suppress_health_check=list(HealthCheck))


class Held:
    """An allocator in use."""

    def __init__(self, capacity: int, streams: list[int] | None = None, name: str = "caching", **parameters):
        plugin = load(ALLOCATOR, name)
        self.hooks = compiled_hooks(plugin)
        self.state = plugin.make_state(context(capacity, streams), parameters)

    def allocate(self, number: int, size: int) -> bool:
        return self.hooks.allocate(self.state, number, size)

    def release(self, number: int) -> None:
        self.hooks.release(self.state, number)

    def runs(self, number: int) -> list[tuple[int, int]]:
        room = np.zeros((4096, 2), np.int64)
        return [(int(at), int(size)) for at, size in room[: self.hooks.extents(self.state, number, room)]]

    def taken(self, number: int) -> int:
        return sum(size for _, size in self.runs(number))

    @property
    def held(self) -> int:
        return self.hooks.held_bytes(self.state)

    @property
    def free(self) -> int:
        return self.hooks.free_bytes(self.state)

    @property
    def largest(self) -> int:
        return self.hooks.largest_free_bytes(self.state)

    def calls(self, which: int) -> int:
        return self.hooks.calls_made(self.state, which)


def context(capacity: int, streams: list[int] | None = None) -> Context:
    if streams is None:
        return Context(capacity, OBJECTS)
    count = len(streams)
    rows = np.zeros(count, np.int64)
    made = build_operations("streams", rows, rows, np.arange(count), rows + 1, stream=np.array(streams))
    return Context(capacity, count, objects=made.objects)


# --- the rules, one by one


@pytest.mark.parametrize(
    ("asked", "taken", "segment"),
    [
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),  # what is left is split off
        (23 * MIB // 2, 12 * MIB, 12 * MIB),  # half a MiB would be left: too little
        (21 * MIB, 22 * MIB, 22 * MIB),  # just 1 MiB would be left
        (21 * MIB - 512, 21 * MIB - 512, 22 * MIB),
    ],
)
def test_rounding_and_segments(asked, taken, segment):
    one = Held(GIB)
    assert one.allocate(0, asked)
    assert (one.taken(0), one.held, one.free) == (taken, segment, GIB - taken)
    assert one.hooks.internal_bytes(one.state) == taken - asked
    one.release(0)
    assert (one.held, one.free, one.calls(SYSTEM_ALLOCATIONS)) == (segment, GIB, 1)


@pytest.mark.parametrize(
    ("asked", "divisions", "taken"),
    [
        (1200 * MIB, 4, 1280 * MIB),  # the documentation's example, between 1024 and 2048
        (1024 * MIB, 4, 1024 * MIB),
        (1537 * MIB, 4, 1792 * MIB),
        (1793 * MIB, 4, 2048 * MIB),
        (1200, 4, 1536),  # up to 512 times the divisions, steps of 512 bytes are the larger ones
        (2049, 4, 2560),
        (1200 * MIB, 0, 1200 * MIB),
        (1200 * MIB, 1, 1200 * MIB),
    ],
)
def test_rounding_to_divisions_of_powers_of_two(asked, divisions, taken):
    one = Held(4 * GIB, roundup_power2_divisions=divisions)
    assert one.allocate(0, asked)
    assert one.taken(0) == taken


def test_small_requests_share_a_segment_and_merge_again():
    one = Held(GIB)
    assert all(one.allocate(number, MIB // 2) for number in range(4))
    assert one.held == 2 * MIB
    assert one.allocate(4, 512) and one.held == 4 * MIB
    for number in (0, 2, 1):
        one.release(number)
    assert one.allocate(5, MIB) and one.held == 4 * MIB and one.runs(5)[0][0] == 0


def test_the_best_fit_is_used_not_the_first():
    one = Held(GIB)
    sizes = [40 * MIB, 30 * MIB, 35 * MIB]
    assert all(one.allocate(number, size) for number, size in enumerate(sizes))
    for number in range(3):
        one.release(number)
    assert one.allocate(3, 29 * MIB)
    assert one.runs(3)[0][0] == 40 * MIB and one.calls(SYSTEM_ALLOCATIONS) == 3


def test_streams_do_not_share_segments():
    one = Held(GIB, streams=[7, 9, 7])
    assert one.allocate(0, 512) and one.allocate(1, 512) and one.allocate(2, 512)
    assert one.held == 4 * MIB
    one.release(0)
    one.release(2)
    assert one.largest == GIB - 4 * MIB  # the segment of the other stream lies between


def test_idle_segments_are_returned_where_the_device_is_full():
    one = Held(64 * MIB)
    assert one.allocate(0, 30 * MIB) and one.allocate(1, 34 * MIB)
    one.release(0)
    one.release(1)
    assert (one.held, one.free, one.largest) == (64 * MIB, 64 * MIB, 64 * MIB)
    assert one.allocate(2, 60 * MIB)
    assert (one.calls(SYSTEM_RELEASES), one.calls(SYSTEM_ALLOCATIONS), one.held) == (2, 3, 60 * MIB)


def test_blocks_of_max_split_size_are_not_split():
    one = Held(GIB, max_split_size_mb=100)
    assert one.allocate(0, 200 * MIB)
    one.release(0)
    assert one.allocate(1, 50 * MIB) and one.held == 250 * MIB  # not of the 200 MiB
    assert one.allocate(2, 181 * MIB) and one.held == 250 * MIB and one.taken(2) == 200 * MIB
    one.release(2)
    assert one.allocate(3, 180 * MIB) and one.held == 430 * MIB  # 20 MiB would be too much to waste


def test_oversize_blocks_are_returned_first():
    one = Held(256 * MIB, max_split_size_mb=50)
    sizes = [60 * MIB, 80 * MIB, 20 * MIB, 96 * MIB]
    assert all(one.allocate(number, size) for number, size in enumerate(sizes))
    for number in (0, 1, 2):
        one.release(number)
    assert one.allocate(4, 130 * MIB)
    assert one.calls(SYSTEM_RELEASES) == 2 and one.held == 96 * MIB + 20 * MIB + 130 * MIB


def test_garbage_is_collected_beyond_the_threshold():
    one = Held(100 * MIB, garbage_collection_threshold=0.5)
    sizes = [20 * MIB, 30 * MIB]
    assert all(one.allocate(number, size) for number, size in enumerate(sizes))
    one.release(0)
    for number in range(2, 6):
        assert one.allocate(number, 512)
    one.release(1)
    assert one.calls(SYSTEM_RELEASES) == 0
    assert one.allocate(6, 32 * MIB)
    assert one.calls(SYSTEM_RELEASES) > 0


def test_expandable_segments_grow_by_pages_of_their_pool():
    one = Held(GIB, expandable_segments=True)
    assert one.allocate(0, 512) and one.held == 2 * MIB
    assert one.allocate(1, 2 * MIB) and one.held == 22 * MIB
    assert one.allocate(2, 18 * MIB) and one.held == 22 * MIB
    assert one.allocate(3, 21 * MIB) and one.held == 62 * MIB  # two more pages, and no cudaMalloc
    assert (one.calls(MAPS), one.calls(SYSTEM_ALLOCATIONS)) == (4, 0)
    assert one.taken(3) == 21 * MIB  # split to the byte
    one.release(1)
    one.release(2)
    one.release(3)
    assert one.allocate(4, 50 * MIB) and one.calls(MAPS) == 4  # what is cached has become one


def test_expandable_segments_are_unmapped_where_the_device_is_full():
    one = Held(104 * MIB, streams=[0, 0, 1], expandable_segments=True)
    assert one.allocate(0, 40 * MIB) and one.allocate(1, 2 * MIB)
    one.release(0)
    assert one.allocate(2, 80 * MIB)
    assert (one.calls(UNMAPS), one.calls(MAPS), one.held) == (2, 7, 100 * MIB)


@pytest.mark.parametrize("name", ["caching", "stitching"])
def test_misuse_is_refused(name):
    one = Held(GIB, name=name)
    with pytest.raises(ValueError, match="the block to release is not placed"):
        one.release(0)
    with pytest.raises(ValueError, match="the block to allocate has no bytes"):
        one.allocate(0, 0)
    assert one.allocate(0, 1)
    with pytest.raises(ValueError, match="the block to allocate is placed already"):
        one.allocate(0, 1)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"max_split_size_mb": 20}, "max_split_size_mb is 20; expected 0 or more than 20"),
        ({"max_non_split_rounding_mb": 19}, "max_non_split_rounding_mb is 19; expected at least 20"),
        ({"roundup_power2_divisions": 3}, "roundup_power2_divisions is 3; expected 0 or a power of two"),
        ({"garbage_collection_threshold": 1.0}, "garbage_collection_threshold is 1.0; expected 0"),
        ({"map_us": -1.0}, "map_us is -1.0; expected a time"),
    ],
)
def test_a_parameter_out_of_range_is_one_sentence(parameters, words):
    with pytest.raises(InputError, match=words):
        Held(GIB, **parameters)
    with pytest.raises(InputError, match="the capacity is"):
        Held(1 << 50)


@pytest.mark.parametrize("capacity", [0, 1, 2 * MIB - 1])
@pytest.mark.parametrize("expandable", [False, True])
def test_memory_of_no_use_refuses_everything(capacity, expandable):
    one = Held(capacity, expandable_segments=expandable)
    assert not one.allocate(0, 1) and not one.allocate(0, 1 << 51)
    assert one.free == one.largest == 0


# --- stitching


def stitching(capacity: int = 64 * MIB, **parameters) -> Held:
    return Held(capacity, name="stitching", **{"fragment_limit_mb": 2, **parameters})


def test_sizes_are_whole_chunks_and_small_ones_are_pytorchs():
    one = stitching(GIB)
    assert one.allocate(0, MIB) and one.allocate(1, MIB + 1) and one.allocate(2, 3 * MIB)
    assert [one.taken(number) for number in range(3)] == [MIB, 2 * MIB, 4 * MIB]
    assert (one.held, one.calls(SYSTEM_ALLOCATIONS), one.calls(MAPS)) == (8 * MIB, 4, 3)


def test_free_pieces_are_stitched_where_none_is_large_enough():
    """The paper's example: two free blocks that are not beside each other serve one request of their sum."""
    one = stitching()
    sizes = [16, 16, 16, 16]
    assert all(one.allocate(number, size * MIB) for number, size in enumerate(sizes))
    one.release(0)
    one.release(2)
    assert one.largest == 32 * MIB
    assert one.allocate(4, 32 * MIB)
    assert one.runs(4) == [(32 * MIB, 16 * MIB), (0, 16 * MIB)]  # of equal ones the higher first
    assert one.calls(MAPS) == 32 + 16 and one.calls(UNMAPS) == 0
    one.release(4)
    assert one.allocate(4, 32 * MIB) and one.calls(MAPS) == 48  # found again
    one.release(4)
    assert one.allocate(5, 16 * MIB) and one.runs(5) == [(0, 16 * MIB)]  # as a primitive block again
    assert not one.allocate(4, 32 * MIB)


def test_the_last_piece_is_split_so_that_the_sum_is_just_enough():
    one = stitching()
    assert all(one.allocate(number, 16 * MIB) for number in range(4))
    one.release(0)
    one.release(2)
    assert one.allocate(4, 24 * MIB) and one.runs(4) == [(32 * MIB, 16 * MIB), (0, 8 * MIB)]
    assert one.largest == one.free == 8 * MIB


def test_what_is_missing_is_created():
    one = stitching()
    assert one.allocate(0, 16 * MIB)
    one.release(0)
    assert one.allocate(1, 40 * MIB) and one.held == 40 * MIB  # 24 MiB more, and all 40 mapped
    assert (one.calls(SYSTEM_ALLOCATIONS), one.calls(MAPS)) == (20, 20 + 20)


def test_below_the_limit_nothing_is_stitched():
    one = stitching(fragment_limit_mb=64)
    assert one.allocate(0, 16 * MIB) and one.allocate(1, 16 * MIB)
    one.release(0)
    assert one.allocate(2, 20 * MIB) and one.held == 52 * MIB
    one.release(2)
    assert one.allocate(3, 40 * MIB) and one.held == 56 * MIB  # all that is free was given back first
    assert one.calls(SYSTEM_RELEASES) == 8 + 10


def test_stitched_blocks_beyond_the_limit_are_unmapped():
    one = stitching(stitched_limit_gb=0)
    assert one.allocate(0, 16 * MIB)
    one.release(0)
    assert one.allocate(1, 40 * MIB)
    assert one.calls(UNMAPS) == 0
    one.release(1)
    assert one.calls(UNMAPS) == 20 and one.held == 40 * MIB


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"fragment_limit_mb": 1}, "fragment_limit_mb is 1; expected at least 2"),
        ({"stitched_limit_gb": -1}, "stitched_limit_gb is -1; expected 0"),
        ({"create_us": -1.0}, "create_us is -1.0; expected a time"),
    ],
)
def test_a_parameter_of_stitching_out_of_range_is_one_sentence(parameters, words):
    with pytest.raises(InputError, match=words):
        stitching(**parameters)


# --- against the oracle

near = st.sampled_from([1, 512, MIB, MIB + 1, 2 * MIB, 10 * MIB, 20 * MIB, 21 * MIB, 40 * MIB])
sizes = st.one_of(near, st.integers(1, 3 * MIB), st.integers(1, 45 * MIB))
steps = st.lists(st.tuples(st.integers(0, OBJECTS - 2), sizes), max_size=60)


@st.composite
def pairs(draw):
    capacity = draw(st.sampled_from([24, 44, 90, 160])) * MIB + draw(st.sampled_from([0, 4096]))
    parameters = {"expandable_segments": draw(st.booleans())}
    oracle = {"expandable": parameters["expandable_segments"]}
    if draw(st.booleans()):
        parameters["roundup_power2_divisions"] = oracle["divisions"] = draw(st.sampled_from([2, 4, 8]))
    if draw(st.booleans()):
        parameters["max_split_size_mb"] = draw(st.sampled_from([21, 25, 32]))
        oracle["max_split"] = parameters["max_split_size_mb"] * MIB
        parameters["max_non_split_rounding_mb"] = draw(st.sampled_from([20, 30]))
        oracle["max_excess"] = parameters["max_non_split_rounding_mb"] * MIB
    if draw(st.booleans()):
        parameters["garbage_collection_threshold"] = oracle["collect"] = draw(st.sampled_from([0.2, 0.6, 0.9]))
    streams = draw(st.sampled_from([[0] * OBJECTS, [3 * (number % 2) for number in range(OBJECTS)]]))
    return Held(capacity, streams=streams, **parameters), Caching(capacity, **oracle), streams


@st.composite
def stitching_pairs(draw):
    capacity = draw(st.sampled_from([24, 44, 90, 160])) * MIB + draw(st.sampled_from([0, 4096]))
    streams = draw(st.sampled_from([[0] * OBJECTS, [3 * (number % 2) for number in range(OBJECTS)]]))
    limit_mb, most_gb = draw(st.sampled_from([2, 9, 30])), draw(st.sampled_from([0, 1000]))
    one = Held(capacity, streams=streams, name="stitching", fragment_limit_mb=limit_mb, stitched_limit_gb=most_gb)
    return one, Stitching(capacity, -(-limit_mb // 2), most_gb * 512), streams


def compare(one: Held, oracle: Caching | Stitching) -> None:
    assert (one.free, one.held) == (oracle.free, oracle.held)
    assert one.hooks.internal_bytes(one.state) == oracle.internal
    kinds = {"malloc": SYSTEM_ALLOCATIONS, "free": SYSTEM_RELEASES, "map": MAPS, "unmap": UNMAPS}
    assert {kind: one.calls(which) for kind, which in kinds.items()} == oracle.counted
    for number in oracle.placed:
        assert one.runs(number) == oracle.runs(number)


def check_largest(one: Held, oracle: Caching | Stitching, streams: list[int], sizes: list[int]) -> None:
    """The largest is placed on one of the streams; nothing larger is on any."""
    largest = one.largest
    spare = {stream: number for number, stream in enumerate(streams) if number not in oracle.placed}
    if largest:
        assert any(copy.deepcopy(oracle).allocate(-1, largest, stream) for stream in spare)
    for size in [largest + 1, largest + 512, oracle.rounded(largest + 1) + 512, *sizes]:
        if size > largest:
            assert not any(copy.deepcopy(oracle).allocate(-1, size, stream) for stream in spare)


@few
@given(pairs(), steps)
def test_caching_equals_the_oracle_after_every_operation(pair, steps):
    play(*pair, steps)


@few
@given(stitching_pairs(), steps)
def test_stitching_equals_the_oracle_after_every_operation(pair, steps):
    play(*pair, steps)


def play(one: Held, oracle: Caching | Stitching, streams: list[int], steps: list[tuple[int, int]]) -> None:
    for number, size in steps:
        if number in oracle.placed:
            oracle.release(number)
            one.release(number)
        else:
            assert one.allocate(number, size) == oracle.allocate(number, size, streams[number])
        compare(one, oracle)
    check_largest(one, oracle, streams, [size for _, size in steps])
    for number in list(oracle.placed):
        one.release(number)
    assert one.free == oracle.capacity // (2 * MIB) * 2 * MIB


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("caching", {"max_split_size_mb": 21, "garbage_collection_threshold": 0.5}),
        ("caching", {"expandable_segments": True}),
        ("stitching", {"fragment_limit_mb": 4}),
    ],
)
def test_conforms(name, parameters):
    check_allocator(load(ALLOCATOR, name), parameters)
