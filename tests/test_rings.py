"""Rings against the standard library's queues."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.kernels import rings as ring_module
from sim.kernels.compile import kernel
from sim.kernels.rings import make_rings
from sim.policy import Context

pytestmark = pytest.mark.uncompiled
BLOCKS = 300
push, take, take_oldest, bytes_on = map(
    kernel, (ring_module.push, ring_module.take, ring_module.take_oldest, ring_module.bytes_on)
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, BLOCKS - 1), st.integers(0, 1)), max_size=800))
def test_blocks_leave_in_the_order_in_which_they_came_whatever_is_taken_from_the_middle(steps):
    """A step takes its block off the queue that it is on, or else puts it on the one that it names."""
    rings, queues = make_rings(Context(BLOCKS, BLOCKS, unit_sizes=True), 2), (deque(), deque())
    for block, queue in steps:
        held = next((number for number in (0, 1) if block in queues[number]), None)
        if held is None:
            push(rings, queue, block)
            queues[queue].append(block)
        else:
            take(rings, held, block)
            queues[held].remove(block)
    for number, queue in enumerate(queues):
        assert bytes_on(rings, number) == len(queue)
        assert [take_oldest(rings, number) for _ in range(len(queue))] == list(queue)


def test_more_blocks_than_a_ring_was_made_for_are_refused():
    rings = make_rings(Context(1, BLOCKS, unit_sizes=True), 1)
    with pytest.raises(ValueError, match="more blocks on a queue"):
        for block in range(BLOCKS):
            push(rings, 0, block)
