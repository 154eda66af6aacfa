"""The heap of ranked calls against the standard library's."""

import heapq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.kernels import rank_heap
from sim.kernels.compile import kernel
from sim.kernels.rank_heap import make_rank_heap

pytestmark = pytest.mark.uncompiled
push, pop, peek, rebuild, replace_first = (
    kernel(getattr(rank_heap, name)) for name in ("push", "pop", "peek", "rebuild", "replace_first")
)

RANKS = st.integers(-3, 3).map(float) | st.floats(-1e9, 1e9)
ENTRIES = st.tuples(RANKS, st.integers(0, 3))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), ENTRIES),
        st.tuples(st.just("pop"), st.none()),
        st.tuples(st.just("first"), RANKS),
        st.tuples(st.just("rebuild"), st.lists(RANKS, min_size=60, max_size=60)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(STEPS)
def test_calls_come_in_order_of_rank_tie_and_number(steps):
    ours, theirs = make_rank_heap(60), []
    for number, (step, what) in enumerate(steps):
        if step == "push":
            push(ours, what[0], what[1], number)
            heapq.heappush(theirs, (what[0], what[1], number))
        elif step == "pop" and theirs:
            assert pop(ours) == heapq.heappop(theirs)[2]
        elif step == "first" and theirs:
            heapq.heapreplace(theirs, (what, *theirs[0][1:]))
            assert replace_first(ours, what) == theirs[0][2]
        elif step == "rebuild":
            ranks = dict(zip(sorted(entry[2] for entry in theirs), what, strict=False))
            theirs = [(ranks[call], tie, call) for _, tie, call in theirs]
            heapq.heapify(theirs)
            for place in range(len(theirs)):
                ours.rank[place] = ranks[int(ours.call[place])]
            rebuild(ours)
        assert ours.size[0] == len(theirs)
        assert peek(ours) == (theirs[0][2] if theirs else -1)
    assert [pop(ours) for _ in range(len(theirs))] == [heapq.heappop(theirs)[2] for _ in range(len(theirs))]
