"""The heap of events against the standard library's."""

import heapq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.kernels import event_heap
from sim.kernels.compile import kernel
from sim.kernels.event_heap import make_heap

next_event_ns, push, take = map(kernel, (event_heap.next_event_ns, event_heap.push, event_heap.take))

STEPS = st.lists(st.one_of(st.just(None), st.integers(0, 5)), max_size=80)


@pytest.mark.uncompiled
@settings(deadline=None)
@given(STEPS)
def test_events_come_in_order_of_time_and_then_of_entry(steps):
    """None takes an event, a number adds one at that time."""
    ours, theirs, pushed = make_heap(80), [], 0
    for step in steps:
        if step is not None:
            push(ours, float(step), 100 + pushed)
            heapq.heappush(theirs, (float(step), pushed))
            pushed += 1
        elif theirs:
            assert next_event_ns(ours) == theirs[0][0]
            assert take(ours) == 100 + heapq.heappop(theirs)[1]
    while theirs:
        assert next_event_ns(ours) == theirs[0][0]
        assert take(ours) == 100 + heapq.heappop(theirs)[1]
    assert next_event_ns(ours) == float("inf")
