"""Every heap allocator against a byte map: the same objects in the same places, and every byte accounted for.

The byte maps are in allocator_oracle.py and heap_oracles.py. With NUMBA_DISABLE_JIT=1 the allocators run uncompiled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba import config

from sim.errors import InputError
from sim.policy import Context
from sim.registry import ALLOCATOR, load
from sim.testing import check_allocator, compiled_hooks
from tests import heap_oracles as oracles
from tests.allocator_play import BLOCKS, operations, play

pytestmark = pytest.mark.uncompiled

few = settings(max_examples=25 if config.DISABLE_JIT else 120, deadline=None, suppress_health_check=list(HealthCheck))
units = st.sampled_from([1, 2, 3, 8, 16, 24])
headers = st.sampled_from([0, 1, 4, 8, 16])


@cache
def hooks_of(name: str):
    return compiled_hooks(load(ALLOCATOR, name))


def fit_of(oracle: type):
    def made(draw, capacity):
        unit, header = draw(units), draw(headers)
        return {"alignment_bytes": unit, "header_bytes": header}, oracle(capacity, unit, header)

    return made


def bump(draw, capacity):
    unit = draw(units)
    chunk = unit * draw(st.integers(0, 12))
    return {"alignment_bytes": unit, "chunk_bytes": chunk}, oracles.Bump(capacity, unit, chunk)


def tlsf(draw, capacity):
    unit, header, bits = draw(units), draw(headers), draw(st.integers(1, 5))
    smallest = unit * draw(st.integers(1, 4))
    parameters = {"alignment_bytes": unit, "header_bytes": header, "smallest_bytes": smallest}
    return {**parameters, "second_level_bits": bits}, oracles.Tlsf(capacity, unit, header, smallest, bits)


def power_of_two(draw, capacity):
    smallest = 1 << draw(st.integers(0, 4))
    page, header = smallest << draw(st.integers(0, 4)), draw(headers)
    parameters = {"smallest_bytes": smallest, "header_bytes": header, "page_bytes": page}
    return parameters, oracles.PowerOfTwo(capacity, page, header, smallest)


def slab(draw, capacity):
    smallest, length, header = draw(st.integers(1, 30)), draw(st.integers(1, 150)), draw(headers)
    length = min(length, capacity)
    classes, chunk = [], -(-smallest // 8) * 8
    while chunk <= (length - header) // 2:
        classes.append((chunk, length))
        chunk *= 2
    parameters = {"smallest_bytes": smallest, "factor": 2.0, "slab_bytes": length, "header_bytes": header}
    return parameters, oracles.Spans(capacity, length, classes, header)


def size_classes(draw, capacity):
    quantum, per_doubling = 1 << draw(st.integers(0, 2)), 1 << draw(st.integers(0, 2))
    page = quantum << draw(st.integers(0, 3))
    small = [quantum // 2] if quantum > 1 else []
    small += [quantum * i for i in range(1, per_doubling)]
    base = quantum * per_doubling
    while base < page * per_doubling:
        small += [base + base // per_doubling * i for i in range(per_doubling)]
        base *= 2
    classes = [(chunk, next(n for n in range(page, 1 << 20, page) if n % chunk == 0)) for chunk in small]
    parameters = {"quantum_bytes": quantum, "classes_per_doubling": per_doubling, "page_bytes": page}
    return {**parameters, "object_metadata_bits": 3}, oracles.Spans(capacity, page, classes)


MAKERS: dict[str, Callable] = {
    "first_fit": fit_of(oracles.HeadedFirstFit),
    "best_fit": fit_of(oracles.HeadedBestFit),
    "next_fit": fit_of(oracles.NextFit),
    "worst_fit": fit_of(oracles.WorstFit),
    "bump": bump,
    "tlsf": tlsf,
    "power_of_two": power_of_two,
    "slab": slab,
    "size_classes": size_classes,
}


class Pair:
    """An allocator and its byte map, given the same requests."""

    def __init__(self, name: str, capacity: int, parameters: dict, oracle):
        self.name, self.capacity, self.oracle, self.hooks = name, capacity, oracle, hooks_of(name)
        self.state = load(ALLOCATOR, name).make_state(Context(capacity, BLOCKS), parameters)
        self.room = np.zeros((4, 2), np.int64)

    def allocate(self, block: int, size: int) -> bool:
        if hasattr(self.oracle, "candidates"):
            return self.allocate_judged(block, size)
        placed = self.hooks.allocate(self.state, block, size)
        assert placed == self.oracle.allocate(block, size)
        return placed

    def allocate_judged(self, block: int, size: int) -> bool:
        candidates = self.oracle.candidates(size)
        placed = self.hooks.allocate(self.state, block, size)
        assert placed == bool(candidates)
        if placed:
            assert self.hooks.extents(self.state, block, self.room) == 1
            assert self.room[0, 0] in candidates
            self.oracle.put(block, size, int(self.room[0, 0]))
        return placed

    def release(self, block: int) -> None:
        self.hooks.release(self.state, block)
        self.oracle.release(block)

    def check(self) -> None:
        hooks, state, oracle = self.hooks, self.state, self.oracle
        free, internal, metadata = hooks.free_bytes(state), hooks.internal_bytes(state), hooks.metadata_bytes(state)
        assert (free, internal, metadata) == (oracle.free_bytes(), oracle.internal_bytes(), oracle.metadata_bytes())
        assert sum(oracle.asked.values()) + internal + metadata + free == oracle.usable <= self.capacity
        assert hooks.largest_free_bytes(state) == oracle.largest_free_bytes() <= free
        for block, size in oracle.asked.items():
            assert hooks.extents(state, block, self.room) == 1
            at, length = self.room[0]
            assert at == oracle.address(block) == state.address[block] and length >= size
            assert set(oracle.owner[at : at + length]) == {block}, "more than its own bytes"
        if self.name == "slab":
            assert hooks.outside_bytes(state) == oracle.outside_bytes(0, 0, 1)
        if self.name == "size_classes":
            assert hooks.outside_bytes(state) == oracle.outside_bytes(128, 8, 3)


@st.composite
def pairs(draw):
    name, capacity = draw(st.sampled_from(sorted(MAKERS))), draw(st.integers(1, 400))
    return Pair(name, capacity, *MAKERS[name](draw, capacity))


@few
@given(pairs(), operations)
def test_equals_the_byte_map_after_every_operation(pair, steps):
    play(pair, steps, pair.check)


@few
@given(pairs(), operations)
def test_releasing_everything_frees_every_byte(pair, steps):
    play(pair, steps, lambda: None)
    for block in list(pair.oracle.asked):
        pair.release(block)
    pair.check()
    assert pair.oracle.free_bytes() == pair.oracle.usable


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_keeps_the_rules_of_allocators(name):
    check_allocator(load(ALLOCATOR, name))


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_misuse_is_refused(name):
    hooks, state = hooks_of(name), load(ALLOCATOR, name).make_state(Context(1 << 24, 3))
    with pytest.raises(ValueError, match="not placed"):
        hooks.release(state, 0)
    with pytest.raises(ValueError, match="no bytes"):
        hooks.allocate(state, 0, 0)
    assert hooks.allocate(state, 0, 100)
    with pytest.raises(ValueError, match="placed already"):
        hooks.allocate(state, 0, 100)
    hooks.release(state, 0)
    with pytest.raises(ValueError, match="not placed"):
        hooks.release(state, 0)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_large_memory_costs_little_to_set_up(name):
    state = load(ALLOCATOR, name).make_state(Context(4 << 40, 1000))
    assert all(hooks_of(name).allocate(state, block, 1 << 20) for block in range(1000))
    assert total_bytes(state) < 4 << 20


def total_bytes(state) -> int:
    return sum(total_bytes(part) if isinstance(part, tuple) else getattr(part, "nbytes", 0) for part in state)


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("next_fit", {"alignment_bytes": 0}, "alignment_bytes is 0; expected a positive whole number"),
        ("worst_fit", {"header_bytes": -1}, "header_bytes is -1; expected a whole number from 0 on"),
        ("bump", {"alignment_bytes": 0}, "alignment_bytes is 0; expected a positive whole number"),
        ("bump", {"chunk_bytes": 24}, "chunk_bytes is 24; expected 0 or a multiple of 16 alignment_bytes"),
        ("tlsf", {"second_level_bits": 7}, "second_level_bits is 7; expected 1 to 6"),
        ("tlsf", {"alignment_bytes": 0}, "alignment_bytes is 0; expected a positive whole number"),
        ("tlsf", {"header_bytes": -8}, "header_bytes is -8; expected a whole number from 0 on"),
        ("tlsf", {"smallest_bytes": 36}, "smallest_bytes is 36; expected a multiple of 8"),
        ("slab", {"header_bytes": -1}, "header_bytes is -1; expected a whole number from 0 on"),
        (
            "slab",
            {"slab_bytes": 1 << 24, "smallest_bytes": 1, "factor": 1.0000001},
            "size classes; expected fewer than 1048576",
        ),
        ("size_classes", {"quantum_bytes": 24}, "quantum_bytes is 24; expected a power of two"),
        ("size_classes", {"page_bytes": 8}, "page_bytes is 8; expected at least 16 quantum_bytes"),
        ("size_classes", {"page_metadata_bytes": -8}, "page_metadata_bytes is -8; expected a whole number from 0 on"),
        ("power_of_two", {"smallest_bytes": 24}, "smallest_bytes is 24; expected a power of two"),
        ("power_of_two", {"page_bytes": 8}, "page_bytes is 8; expected at least 16 smallest_bytes"),
        ("power_of_two", {"header_bytes": -1}, "header_bytes is -1; expected a whole number from 0 on"),
    ],
)
def test_a_parameter_out_of_range_is_one_sentence(name, parameters, words):
    with pytest.raises(InputError, match=words):
        load(ALLOCATOR, name).make_state(Context(1 << 40, 3), parameters)


def test_headers_are_metadata_and_not_internal():
    hooks, state = (
        hooks_of("best_fit"),
        load(ALLOCATOR, "best_fit").make_state(Context(1024, 2), {"alignment_bytes": 16, "header_bytes": 8}),
    )
    assert hooks.allocate(state, 0, 24) and hooks.allocate(state, 1, 25)
    assert (hooks.metadata_bytes(state), hooks.internal_bytes(state)) == (16, 15)
    assert list(state.address) == [8, 32 + 8]
    assert hooks.largest_free_bytes(state) == hooks.free_bytes(state) - 8


def test_tlsf_passes_a_block_by_that_fits_but_lies_in_the_list_below():
    hooks, state = hooks_of("tlsf"), load(ALLOCATOR, "tlsf").make_state(Context(1040 + 8 + 1016 + 32, 4))
    assert hooks.allocate(state, 0, 1032) and hooks.allocate(state, 1, 1016) and hooks.allocate(state, 2, 1)
    hooks.release(state, 0)
    assert (hooks.free_bytes(state), hooks.largest_free_bytes(state)) == (1040, 1024 - 8)
    assert not hooks.allocate(state, 0, 1032)
    assert hooks.allocate(state, 0, 1016)
    assert hooks.internal_bytes(state) == 16 + 23, "what is left over is too small for a block"
    assert hooks.metadata_bytes(state) == 3 * 8


def test_a_page_cut_for_one_power_of_two_never_serves_another():
    hooks, state = hooks_of("power_of_two"), load(ALLOCATOR, "power_of_two").make_state(Context(2 * 4096, 300))
    assert all(hooks.allocate(state, number, 8) for number in range(257)), "two pages of 256 blocks of 16 bytes"
    for number in range(257):
        hooks.release(state, number)
    assert (hooks.free_bytes(state), hooks.held_bytes(state)) == (2 * 4096, 2 * 4096)
    assert hooks.largest_free_bytes(state) == 8
    assert not hooks.allocate(state, 0, 9)


def test_the_size_classes_are_those_of_jemalloc():
    """Bins of jemalloc 5 with pages of 4 KiB: bytes, and pages of a slab (jemalloc(3), "Size classes")."""
    rows = load(ALLOCATOR, "size_classes").make_state(Context(1 << 30, 8)).classes[:-1]
    assert rows.shape[0] == 36 and list(rows[[0, 1, 2, 3, 8, 9, 35], 0]) == [8, 16, 32, 48, 128, 160, 14336]
    assert dict(zip(rows[:, 0], rows[:, 1] // 4096, strict=True))[112] == 7
    assert list(rows[rows[:, 0] >= 8192, 1] // 4096) == [2, 5, 3, 7]


def test_the_books_of_size_classes_lie_outside():
    hooks, state = hooks_of("size_classes"), load(ALLOCATOR, "size_classes").make_state(Context(1 << 30, 3))
    assert hooks.allocate(state, 0, 48) and hooks.allocate(state, 1, 48) and hooks.allocate(state, 2, 5 * 4096)
    assert (hooks.metadata_bytes(state), hooks.outside_bytes(state)) == (0, 2 * 128 + (3 + 5) * 8)


def test_the_bits_of_buddies_lie_outside():
    hooks, state = compiled_hooks(load(ALLOCATOR, "buddy")), load(ALLOCATOR, "buddy").make_state(Context(1 << 30, 4))
    bits = 2 * (1 << 30) // 4096
    assert hooks.metadata_bytes(state) == 0 and bits / 8 <= hooks.outside_bytes(state) <= 1.05 * bits / 8


@pytest.mark.parametrize("name", ["next_fit", "worst_fit"])
def test_thousands_of_runs_in_an_index_of_several_levels(name):
    """The oracle is a sorted list of runs: a byte map of so many bytes would take minutes."""
    objects, operations = (60, 300) if config.DISABLE_JIT else (2500, 9000)
    rng = np.random.default_rng(5)
    capacity = objects * 60
    hooks, state = hooks_of(name), load(ALLOCATOR, name).make_state(Context(capacity, objects), {"alignment_bytes": 1})
    model = RunList(capacity, name == "next_fit")
    for block, size in zip(rng.integers(0, objects, operations), rng.integers(1, 200, operations), strict=True):
        if block in model.placed:
            hooks.release(state, int(block))
            model.release(block)
            continue
        placed = model.allocate(block, int(size))
        assert hooks.allocate(state, int(block), int(size)) == placed
        assert not placed or state.regions.segments[block, 0] == model.placed[block][0]
    assert hooks.largest_free_bytes(state) == max((stop - start for start, stop in model.runs), default=0)


class RunList:
    """Next fit or worst fit over a list of free runs."""

    def __init__(self, capacity: int, roving: bool):
        self.runs, self.placed, self.end, self.roving = [(0, capacity)], {}, 0, roving

    def allocate(self, block, size) -> bool:
        fitting = [(start, stop) for start, stop in self.runs if stop - start >= size]
        if self.roving:
            fitting = [run for run in fitting if run[1] > self.end] + fitting
        else:
            fitting.sort(key=lambda run: (run[0] - run[1], run[0]))
        if not fitting:
            return False
        start, stop = fitting[0]
        at = self.runs.index((start, stop))
        self.end = start + size
        self.runs[at : at + 1] = [(self.end, stop)] if stop > self.end else []
        self.placed[block] = (start, self.end)
        return True

    def release(self, block) -> None:
        merged = []
        for start, stop in sorted([*self.runs, self.placed.pop(block)]):
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], stop)
            else:
                merged.append((start, stop))
        self.runs = merged
