"""Offline plans: never an overlap, exact ones no worse than heuristics and no better than the load or a brute force.

Oracles: two loops over all pairs for overlaps, all orders of placing for optima (an optimal plan is one in which each
object rests on the ground or on others, so placing in order of address finds it), a list of cells for stretches.
"""

from __future__ import annotations

import builtins
from itertools import permutations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba import config

import sim
from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, RELEASE, build_operations
from sim.fragmentation.passes import groups_by_label
from sim.fragmentation.planning import Lives, place_in_order, plan
from sim.fragmentation.replay import make_player
from sim.fragmentation.replaying import FAILURES, PEAK_HELD_BYTES
from sim.hook_arguments import NEVER, Context, Objects
from sim.kernels import uncovered
from sim.kernels.compile import kernel
from sim.registry import ALLOCATOR, load

pytestmark = pytest.mark.uncompiled

METHODS = ["best_fit_decreasing", "greedy_by_size", "greedy_by_breadth", "exact"]
few = settings(max_examples=15 if config.DISABLE_JIT else 60, deadline=None, suppress_health_check=list(HealthCheck))
mark, longest = kernel(uncovered.mark), kernel(uncovered.longest)


def objects_of(rows, group=None) -> Objects:
    """Of (size, born, dies)."""
    size, born, dies = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    unknown = dict.fromkeys(("most_bytes", "unit_bytes", "stream", "kind"), np.zeros(0, np.int64))
    group = np.zeros(0, np.int64) if group is None else np.array(group)
    return Objects(first_bytes=size, final_bytes=size, born=born, dies=dies, group=group, **unknown)


lives = st.tuples(st.integers(1, 12), st.integers(0, 12), st.integers(1, 8)).map(lambda r: (r[0], r[1], r[1] + r[2]))


def rows(most: int):
    return st.lists(lives, min_size=1, max_size=most)


def together(one, other) -> bool:
    return one[1] < other[2] and other[1] < one[2]


def assert_sound(given_rows, made, alignment: int = 1) -> None:
    """No two objects overlap in time and space; the peak is the highest end; the bound is none above it."""
    spans = list(zip(given_rows, made.addresses.tolist(), strict=True))
    for i, (one, at) in enumerate(spans):
        assert at >= 0 and at % alignment == 0
        for other, its in spans[:i]:
            assert not together(one, other) or at + one[0] <= its or its + other[0] <= at
    assert made.peak_bytes == max(at + -(-one[0] // alignment) * alignment for one, at in spans)
    load = max(sum(o[0] for o in given_rows if o[1] <= moment < o[2]) for _, moment, _ in given_rows)
    assert load <= made.proven_bound_bytes <= made.peak_bytes


def brute_force(given_rows) -> int:
    best = sum(size for size, _, _ in given_rows)
    for order in permutations(given_rows):
        placed = []
        for one in order:
            placed.append((one, max((end for other, end in placed if together(one, other)), default=0) + one[0]))
        best = min(best, max(end for _, end in placed))
    return best


@few
@given(rows(14), st.sampled_from(METHODS[:3]), st.sampled_from([1, 4]))
def test_no_plan_overlaps(given_rows, method, alignment):
    assert_sound(given_rows, plan(objects_of(given_rows), method, alignment_bytes=alignment), alignment)


@few
@given(rows(6))
def test_an_exact_plan_is_the_best_that_there_is(given_rows):
    pytest.importorskip("highspy")
    exact = plan(objects_of(given_rows), "exact")
    assert_sound(given_rows, exact)
    assert exact.peak_bytes == exact.proven_bound_bytes == brute_force(given_rows)
    for method in METHODS[:3]:
        assert exact.peak_bytes <= plan(objects_of(given_rows), method).peak_bytes


@few
@given(rows(12), st.permutations(range(12)))
def test_each_is_put_into_its_tightest_gap(given_rows, order):
    order = [number for number in order if number < len(given_rows)]
    made = place_in_order(Lives(*np.array(given_rows, np.int64).T), np.array(order))
    placed = []
    for number in order:
        one = given_rows[number]
        taken = sorted((at, at + other[0]) for other, at in placed if together(one, other))
        top, gaps = 0, []
        for at, end in taken:
            gaps += [(at - top, top)] if at - top >= one[0] else []
            top = max(top, end)
        placed.append((one, min(gaps)[1] if gaps else top))
        assert made.addresses[number] == placed[-1][1]


def test_many_objects_are_cut_into_shelves():
    rng = np.random.default_rng(3)
    size, born = rng.integers(1, 9, 900), rng.integers(0, 60, 900)
    given_rows = list(zip(size.tolist(), born.tolist(), (born + rng.integers(1, 9, 900)).tolist(), strict=True))
    if not config.DISABLE_JIT:
        assert_sound(given_rows, plan(objects_of(given_rows)))


@few
@given(rows(12))
def test_by_breadth_the_busiest_moments_come_first(given_rows):
    """Against the definition: moments by falling load, of each what lives then and is not yet placed, largest first."""
    moments = sorted({born for _, born, _ in given_rows})
    load = {moment: sum(size for size, born, dies in given_rows if born <= moment < dies) for moment in moments}
    order = []
    for moment in sorted(moments, key=lambda moment: (-load[moment], moment)):
        here = [n for n, one in enumerate(given_rows) if one[1] <= moment < one[2] and n not in order]
        order += sorted(here, key=lambda n: (-given_rows[n][0], given_rows[n][1], n))
    expected = place_in_order(Lives(*np.array(given_rows, np.int64).T), np.array(order))
    assert plan(objects_of(given_rows), "greedy_by_breadth").addresses.tolist() == expected.addresses.tolist()


# All heuristics need 7 bytes for these, 6 are enough (found by search).
HARD = [(3, 1, 3), (2, 1, 4), (2, 3, 7), (3, 5, 9), (1, 5, 6), (1, 7, 8)]


# A hand-worked case. a (2 bytes, moments 0 to 2) and b (1, 1 to 9) are there when c (1) comes at 2: first fit puts b on
# a and c into a's place, where d (2, 3 to 9) then fits no more: 0 c, 2 b, 3 to 5 d. Had c been put above b, d would
# have had a's place: 4 bytes, which is the load.
SMALL = [(2, 0, 2), (1, 1, 9), (1, 2, 9), (2, 3, 9)]


def test_first_fit_needs_more_than_the_plan():
    exact = plan(objects_of(SMALL), "exact")
    assert (exact.peak_bytes, exact.proven_bound_bytes, exact.is_optimal) == (4, 4, True)
    assert peak_of("first_fit", operations_of(SMALL), alignment_bytes=1) == 5
    assert peak_of("offline", operations_of(SMALL), alignment_bytes=1, method="exact") == 4


def operations_of(given_rows):
    """A stream in which of one moment releases come first."""
    events = [(born, 1, ALLOCATE, n, size) for n, (size, born, _) in enumerate(given_rows)]
    events += [(dies, 0, RELEASE, n, 1) for n, (_, _, dies) in enumerate(given_rows)]
    time, _, op, number, size = zip(*sorted(events), strict=True)
    return build_operations("rows", np.array(time, float), np.array(op), np.array(number), np.array(size))


def peak_of(name: str, operations, **parameters) -> int:
    """The highest address used; of pages, which may be anywhere, the most bytes not free."""
    allocator = load(ALLOCATOR, name)
    hooks = sim.testing.PythonHooks(allocator, "the stream")
    context = Context(1 << 12, operations.objects.born.size, objects=operations.objects)
    state = allocator.make_state(context, parameters)
    run, top = np.zeros((1, 2), np.int64), 0
    for op, number, size in zip(operations.op, operations.object, operations.size_bytes, strict=True):
        if op == RELEASE:
            hooks.release(state, number)
            continue
        assert hooks.allocate(state, number, size)
        if name == "paged":
            top = max(top, context.capacity - int(hooks.free_bytes(state)))
        else:
            assert hooks.extents(state, number, run) == 1
            top = max(top, int(run.sum()))
    return top


def test_a_replay_follows_the_plan():
    """Objects of whole pages, since a replay counts the pages that were ever touched."""
    operations = operations_of([(4096 * size, born, dies) for size, born, dies in SMALL])
    player = make_player(operations, load(ALLOCATOR, "offline"), {}, 100 * 4096)
    assert player.advance(0, operations.count) == operations.count
    assert (player.board.totals[FAILURES], player.board.totals[PEAK_HELD_BYTES]) == (0, 4 * 4096)


@few
@given(rows(10))
def test_no_allocator_that_cannot_move_needs_less_than_the_exact_plan(given_rows):
    pytest.importorskip("highspy")
    operations = operations_of(given_rows)
    exact = plan(operations.objects, "exact")
    assert exact.is_optimal
    assert peak_of("offline", operations, method="exact", alignment_bytes=1) == exact.peak_bytes
    one_run = {"first_fit": {"alignment_bytes": 1}, "best_fit": {"alignment_bytes": 1}, "buddy": {"smallest_bytes": 1}}
    for name, parameters in one_run.items():
        assert peak_of(name, operations, **parameters) >= exact.peak_bytes
    assert peak_of("paged", operations, page_bytes=1) == operations.peak_live_bytes <= exact.peak_bytes


def test_conformance():
    sim.testing.check_allocator(load(ALLOCATOR, "offline"))
    sim.testing.check_allocator(load(ALLOCATOR, "offline"), {"method": "greedy_by_breadth", "alignment_bytes": 1})


@few
@given(rows(12), st.integers(1, 60), st.lists(st.integers(1, 12), max_size=30))
def test_the_allocator_against_a_byte_map(given_rows, capacity, resizes):
    """Addresses as planned, what lies beyond the capacity refused, and all bytes counted one by one."""
    operations = operations_of(given_rows)
    hooks, state = made(operations.objects, capacity)
    planned = plan(operations.objects).addresses
    where, size = {}, {}
    for op, number in zip(operations.op, operations.object, strict=True):
        most = int(operations.objects.final_bytes[number])
        if op == ALLOCATE:
            placed = hooks.allocate(state, number, 1)
            assert placed == (planned[number] + most <= capacity)
            if placed:
                where[number], size[number] = range(planned[number], planned[number] + most), 1
        elif number in where:
            hooks.release(state, number)
            del where[number], size[number]
        for other in list(size)[: len(resizes)]:
            wanted = resizes[int(number + other) % len(resizes)]
            fits = wanted <= operations.objects.final_bytes[other]
            assert hooks.resize(state, other, wanted) == fits
            size[other] = wanted if fits else size[other]
        taken = {byte for one in where.values() for byte in one}
        free = "".join("x" if byte in taken else "." for byte in range(capacity))
        assert hooks.free_bytes(state) == free.count(".")
        assert hooks.largest_free_bytes(state) == max(map(len, free.split("x")))
        assert hooks.internal_bytes(state) == 0
        assert hooks.reserved_bytes(state) == len(taken) - sum(size.values())


def made(objects: Objects, capacity: int, **parameters):
    allocator = load(ALLOCATOR, "offline")
    context = Context(capacity, objects.born.size, objects=objects)
    return sim.testing.compiled_hooks(allocator), allocator.make_state(context, {"alignment_bytes": 1, **parameters})


def test_misuse_is_refused():
    hooks, state = made(objects_of([(5, 0, 2), (3, 1, 3)]), 64)
    with pytest.raises(ValueError, match="not placed"):
        hooks.release(state, 0)
    with pytest.raises(ValueError, match="not placed"):
        hooks.resize(state, 0, 2)
    assert not hooks.allocate(state, 0, 6)  # more than it was said to come to
    assert hooks.allocate(state, 0, 2)
    with pytest.raises(ValueError, match="placed already"):
        hooks.allocate(state, 0, 2)
    with pytest.raises(ValueError, match="no bytes"):
        hooks.resize(state, 0, 0)
    assert hooks.resize(state, 0, 5)
    assert not hooks.resize(state, 0, 6)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"method": "greedy_by_sise"}, "did you mean 'greedy_by_size'"),
        ({"alignment_bytes": 0}, "alignment_bytes is 0; expected a positive whole number"),
        ({"most_objects": -1}, "most_objects is -1; expected a whole number, 0 or more"),
        ({"time_limit_s": 0.0}, "time_limit_s is 0.0; expected a positive number"),
        ({"method": "memo"}, 'expected objects with groups, or with labels such as "layer 3'),
    ],
)
def test_bad_parameters(parameters, said):
    with pytest.raises(InputError, match=said):
        made(objects_of([(5, 0, 2)]), 64, **parameters)


def test_without_a_stream_there_is_no_plan():
    with pytest.raises(InputError, match="nothing is known of the objects"):
        load(ALLOCATOR, "offline").make_state(Context(64, 4), {})


def test_a_missing_solver_is_said(monkeypatch):
    plain = builtins.__import__

    def without(name, *rest, **named):
        if name == "highspy":
            raise ImportError(name)
        return plain(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        InputError, match=r"highspy, which is not installed; expected `pip install memhier\[planning\]`"
    ):
        plan(objects_of(HARD), "exact")


def test_the_solver_improves_on_the_heuristic():
    pytest.importorskip("highspy")
    assert [plan(objects_of(HARD), method).peak_bytes for method in METHODS[:3]] == [7, 7, 7]
    exact = plan(objects_of(HARD), "exact")
    assert_sound(HARD, exact)
    assert (exact.peak_bytes, exact.proven_bound_bytes) == (6, 6) == (brute_force(HARD), 6)


def test_too_many_objects_for_an_exact_plan():
    with pytest.raises(InputError, match="too many objects for an exact plan: 6; expected at most 5"):
        plan(objects_of(HARD), "exact", most_objects=len(HARD) - 1)


def test_what_is_out_of_time_says_how_far_it_came():
    pytest.importorskip("highspy")
    rng = np.random.default_rng(5)
    given_rows = [
        (int(rng.integers(1, 1000)), int(at), int(at + rng.integers(1, 40))) for at in rng.integers(0, 80, 60)
    ]
    made_in_time = plan(objects_of(given_rows), "exact", time_limit_s=0.05)
    assert_sound(given_rows, made_in_time)
    assert made_in_time.peak_bytes <= plan(objects_of(given_rows)).peak_bytes


# Layers


def layer(at: int) -> list[tuple[int, int, int]]:
    """One pass: a scratch and what it becomes, and an activation that lives on."""
    return [(4, at, at + 2), (6, at + 1, at + 4), (3, at + 2, at + 5), (2, at + 3, 100 - at)]


def test_memo_plans_a_layer_once_and_reuses_it():
    pytest.importorskip("highspy")
    given_rows = [row for number in range(6) for row in layer(6 * number)]
    group = [number if part < 3 else -1 for number in range(6) for part in range(4)]
    made = plan(objects_of(given_rows, group), "memo")
    assert_sound(given_rows, made)
    within = made.addresses.reshape(6, 4)[:, :3]
    assert (within - within.min(axis=1, keepdims=True) == within[0] - within[0].min()).all()
    assert plan(objects_of(given_rows, group), "memo", most_objects=4).peak_bytes >= made.proven_bound_bytes


@few
@given(st.lists(st.tuples(lives, st.integers(-1, 2)), min_size=1, max_size=10))
def test_memo_never_overlaps_whatever_the_groups(given_rows):
    pytest.importorskip("highspy")
    plain, group = zip(*given_rows, strict=True)
    assert_sound(list(plain), plan(objects_of(plain, group), "memo"))


def test_objects_that_live_within_one_pass_of_a_layer_are_a_group():
    labels = ["weights", "layer 0 norm", "layer 0 scores", "", "layer 1 norm", "loss", "layer 0 norm gradient"]
    born, dies = np.arange(7) * 2, np.array([NEVER, 4, 20, 7, 11, 11, NEVER])
    groups = groups_by_label(labels, born, dies)
    assert groups.tolist() == [-1, 1, -1, 1, 2, 2, -1]
    assert groups_by_label(["weights", "player 3"], born[:2], dies[:2]) is None
    times = np.array([1, 2, 3, 4.0])
    stream = build_operations(
        "x", times, [0, 2, 0, 0], [1, 1, 1, 2], [5, 5, 5, 5], labels=["layer 7 a", "layer 7 b", "x"]
    )
    assert stream.objects.group.tolist() == [0, -1, -1]
    assert "group" in stream.provides


# Stretches


@few
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=20), st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)))
)
def test_the_longest_uncovered_stretch(widths, ranges):
    line, covered = uncovered.make_line(np.array(widths)), {}
    for first, length in ranges:
        end = min(first + length, len(widths))
        cells = set(range(first, end))
        if covered.get(first) == end:
            del covered[first]
            mark(line, first, end, False)
        elif cells and not any(cells & set(range(*other)) for other in covered.items()):
            covered[first] = end
            mark(line, first, end, True)
        text = "".join("x" if any(a <= at < b for a, b in covered.items()) else f"{at:c}" for at in range(len(widths)))
        assert longest(line) == max(sum(widths[ord(c)] for c in part) for part in text.split("x"))
