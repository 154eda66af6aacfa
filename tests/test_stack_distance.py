"""Stack distances against the obvious list, over whole columns and over streams whose positions run out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim
from sim.kernels import stack_distance
from sim.kernels.stack_distance import FIRST_ACCESS, StackDistances, stack_distance_histogram, stack_distances


def by_a_list(blocks):
    """Mattson's stack, as a Python list."""
    stack, found = [], []
    for block in blocks:
        found.append(stack.index(block) if block in stack else FIRST_ACCESS)
        if block in stack:
            stack.remove(block)
        stack.insert(0, block)
    return found


def previous_of(blocks):
    latest, found = {}, []
    for row, block in enumerate(blocks):
        found.append(latest.get(block, -1))
        latest[block] = row
    return np.array(found, np.int64)


def streamed(blocks, n_blocks, rows):
    distances = StackDistances(n_blocks)
    return [d for at in range(0, len(blocks), rows) for d in distances(blocks[at : at + rows]).tolist()]


BLOCKS = st.lists(st.integers(0, 40), min_size=1, max_size=400).map(lambda some: np.array(some, np.int32))


@settings(deadline=None, max_examples=40)
@given(BLOCKS, st.integers(1, 90))
def test_any_blocks(blocks, rows):
    expected = by_a_list(blocks.tolist())
    assert stack_distances(blocks, previous_of(blocks.tolist())).tolist() == expected
    assert streamed(blocks, 41, rows) == expected


@pytest.mark.parametrize(("rows", "n_blocks"), [(3000, 5), (6000, 200), (5000, 900), (2000, 2000), (513, 1), (512, 2)])
def test_more_rows_than_positions(monkeypatch, rows, n_blocks):
    monkeypatch.setattr(stack_distance, "_SMALLEST_POSITIONS", 512)
    blocks = np.random.default_rng(rows).integers(0, n_blocks, rows).astype(np.int32)
    expected = by_a_list(blocks.tolist())
    assert stack_distances(blocks, previous_of(blocks.tolist()).astype(np.int32)).tolist() == expected
    assert streamed(blocks, n_blocks, 700) == expected
    histogram = stack_distance_histogram([blocks[:100], blocks[100:]], n_blocks)
    assert histogram.first == expected.count(FIRST_ACCESS)
    assert histogram.count.tolist() == [expected.count(d) for d in range(n_blocks)]


def test_the_number_of_kept_positions_is_a_whole_group(monkeypatch):
    """512 blocks fill a group exactly when the positions are used up."""
    monkeypatch.setattr(stack_distance, "_SMALLEST_POSITIONS", 512)
    monkeypatch.setattr(stack_distance, "_POSITIONS_A_BLOCK", 2)
    blocks = np.tile(np.arange(512, dtype=np.int32), 5)
    assert streamed(blocks, 512, 512) == [FIRST_ACCESS] * 512 + [511] * 2048


def test_the_histogram_is_the_hit_ratio_of_lru():
    trace = sim.generate("zipf", {"requests": 20_000, "objects": 2000}, seed=3)
    histogram = stack_distance_histogram((blocks for (blocks,) in trace.chunks("block", rows=999)), trace.n_blocks)
    for capacity in (1, 17, 400):
        hits = sim.replay(trace, "lru", capacity, ignore_object_size=True).hits
        assert hits == histogram.count[:capacity].sum()


def test_columns_of_two_lengths_are_refused():
    with pytest.raises(ValueError, match="2 blocks, 1 previous"):
        stack_distances(np.zeros(2, np.int32), np.zeros(1, np.int64))
