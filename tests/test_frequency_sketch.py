"""The count-min sketch of W-TinyLFU: never too low, seldom too high, halved in time, and its doorkeeper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.kernels import frequency_sketch
from sim.kernels.compile import kernel
from sim.kernels.frequency_sketch import MOST, make_sketch

NEVER_HALVED = 1 << 40
count_access, estimate = kernel(frequency_sketch.count_access), kernel(frequency_sketch.estimate)
pytestmark = pytest.mark.uncompiled


def count_all(sketch, blocks, period=NEVER_HALVED):
    for block in blocks:
        count_access(sketch, block, period)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=200), st.booleans())
def test_an_estimate_is_never_too_low(blocks, doorkeeper):
    sketch = make_sketch(8, doorkeeper)  # so small that blocks share counters
    count_all(sketch, blocks)
    for block in set(blocks):
        assert estimate(sketch, block) >= min(blocks.count(block), MOST)


def test_with_room_for_all_blocks_hardly_an_estimate_is_too_high():
    blocks = (np.random.default_rng(1).zipf(1.3, 3000) - 1) % 1000
    sketch = make_sketch(1000, False)
    count_all(sketch, blocks.tolist())
    counts = np.bincount(blocks, minlength=1000)
    wrong = sum(estimate(sketch, block) != min(counts[block], MOST) for block in range(1000))
    assert wrong < 150


def test_a_counter_stays_at_its_most():
    sketch = make_sketch(64, False)
    count_all(sketch, [3] * 40)
    assert estimate(sketch, 3) == MOST


def test_all_counters_are_halved_after_the_period_and_half_of_it_counts_for_the_next():
    sketch = make_sketch(4096, False)
    count_all(sketch, [1] * 6 + [2] * 3, period=10)
    assert (estimate(sketch, 1), estimate(sketch, 2)) == (6, 3)
    count_all(sketch, [1], period=10)
    assert (estimate(sketch, 1), estimate(sketch, 2), sketch.added[0]) == (3, 1, 5)


def test_the_doorkeeper_keeps_a_first_access_out_of_the_counters_until_they_are_halved():
    sketch = make_sketch(4096, True)
    count_all(sketch, [1, 2, 2], period=4)
    assert (estimate(sketch, 1), estimate(sketch, 2), estimate(sketch, 3)) == (1, 2, 0)
    assert np.count_nonzero(sketch.words) <= 4
    count_all(sketch, [2], period=4)
    assert not sketch.door.any() and (estimate(sketch, 1), estimate(sketch, 2)) == (0, 1)
