"""Replays of allocations: streams, places, scores, scenarios, the command, and why something was refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba import config

from sim.allocation_testing import random_stream
from sim.cli import main
from sim.errors import InputError, InputErrors
from sim.fragmentation import explain, places
from sim.fragmentation import replaying as r
from sim.fragmentation.operations import ALLOCATE, RELEASE, RESIZE, build_operations
from sim.fragmentation.replay import make_player
from sim.fragmentation.results import AllocationResult
from sim.fragmentation.running import follow
from sim.fragmentation.scenario import (
    AllocationScenario,
    Link,
    check_allocation_file,
    load_allocation_scenario,
    parse_capacity,
)
from sim.registry import ALLOCATOR, load

pytestmark = pytest.mark.uncompiled
few = settings(max_examples=10 if config.DISABLE_JIT else 60, deadline=None, suppress_health_check=list(HealthCheck))
LINK = Link("wire", bandwidth_bytes_per_ns=1.0, per_copy_ns=1000.0)


def stream(*rows: tuple, **known):
    """Operations from (op, id, size) rows, a nanosecond apart."""
    op, number, size = zip(*rows, strict=True)
    return build_operations("made", np.arange(len(rows)), op, number, size, **known)


# --- streams ---------------------------------------------------------------------------------------------------------


def test_an_id_used_again_is_another_object():
    ops = stream((ALLOCATE, 7, 10), (ALLOCATE, 8, 20), (RESIZE, 7, 30), (RELEASE, 7, -5), (ALLOCATE, 7, 40))
    assert ops.object.tolist() == [0, 1, 0, 0, 2]
    assert ops.size_bytes.tolist() == [10, 20, 30, 30, 40], "a release is of what there is"
    assert ops.live_bytes.tolist() == [10, 30, 50, 20, 60] and ops.peak_live_bytes == 60
    assert ops.objects.born.tolist() == [0, 1, 4] and ops.objects.final_bytes.tolist() == [30, 20, 40]
    assert ops.objects.dies[0] == 3 and ops.objects.dies[1] > 10**18


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(RELEASE, 3, 1)], "line 1: freed, but it is not allocated: '3'"),
        ([(ALLOCATE, 3, 1), (RELEASE, 3, 1), (RELEASE, 3, 1)], "line 3: freed, but it is not allocated: '3'"),
        ([(ALLOCATE, 3, 1), (ALLOCATE, 3, 1)], "line 2: allocated, and it already is: '3'"),
        ([(RESIZE, 3, 1)], "line 1: resized, but it is not allocated: '3'"),
        ([(ALLOCATE, 3, -1)], "line 1: absurd size of an object"),
        ([(ALLOCATE, 3, 1 << 60)], "line 1: absurd size of an object"),
        ([(ALLOCATE, 3, 0)], "line 1: absurd size of an object"),
    ],
)
def test_what_cannot_be_is_one_line(rows, words):
    with pytest.raises(InputError, match=words):
        stream(*rows)


def test_time_that_goes_back_is_refused():
    with pytest.raises(InputError, match="line 2: time that is not finite, or goes back"):
        build_operations("made", [5.0, 1.0], [ALLOCATE, ALLOCATE], [1, 2], [1, 1])


def test_no_operations_are_a_stream_of_none():
    assert build_operations("made", [], [], [], []).peak_live_bytes == 0


# --- places ----------------------------------------------------------------------------------------------------------


@st.composite
def some_runs(draw):
    """Runs in order of address, without overlap, and a capacity that holds them."""
    gaps = draw(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), max_size=12))
    at, rows = 0, []
    for number, (gap, size) in enumerate(gaps):
        rows.append((at + gap, size, number))
        at += gap + size
    return np.array(rows, np.int64).reshape(-1, 3), at + draw(st.integers(0, 20))


@few
@given(some_runs(), st.integers(1, 60))
def test_holes_equal_a_byte_map(made, request_bytes):
    runs, capacity = made
    used = np.zeros(capacity, bool)
    for at, size, _ in runs:
        used[at : at + size] = True
    holes = places.holes_of(runs, capacity)
    assert holes.size_bytes.sum() == capacity - used.sum()
    for at, size in zip(holes.address, holes.size_bytes, strict=True):
        assert (
            not used[at : at + size].any() and (at == 0 or used[at - 1]) and (at + size == capacity or used[at + size])
        )
    small = sum(int(size) for size in holes.size_bytes if size < request_bytes)
    assert places.unusable_share(holes, request_bytes) == pytest.approx(small / max(1, holes.size_bytes.sum()))


@few
@given(st.lists(some_runs(), min_size=1, max_size=4))
def test_the_map_equals_a_byte_map(looks):
    table = places.AddressMap(16, 1)
    for runs, _ in looks:
        table.add(runs)
    shares = table.shares()
    for at, (runs, _) in enumerate(looks):
        used = np.zeros(16 * table.row_bytes, bool)
        for start, size, _ in runs:
            used[start : start + size] = True
        expected = used.reshape(16, -1).mean(axis=1)[: shares.shape[0]]
        assert shares[:, at] == pytest.approx(expected, abs=1e-6)


def test_moving_run_by_run_costs_a_copy_each():
    runs = np.array([[0, 1000, 0], [5000, 1000, 0]])
    assert places.transfer_share(runs, 1.0, 1000.0) == 0.5, "2,000 ns of bytes and 2,000 ns of copies"
    assert places.transfer_share(runs[:0], 1.0, 1000.0) == 1.0


# --- replays ---------------------------------------------------------------------------------------------------------


def replayed(ops, name: str, capacity: int, **parameters):
    player = make_player(ops, load(ALLOCATOR, name), parameters, capacity)
    return player, follow(player, LINK, 1000)


@pytest.mark.parametrize("name", ["best_fit", "buddy", "paged"])
def test_a_replay_counts_what_plain_python_counts(name):
    """Each call handed on by hand, with a dict for what is live."""
    ops = random_stream(operations=300, largest=1 << 16)
    capacity = 1 << 18
    player, followed = replayed(ops, name, capacity)
    plugin = load(ALLOCATOR, name)
    again = make_player(ops, plugin, {}, capacity)
    live: dict[int, int] = {}
    refused, passed = 0, 0
    for row in range(ops.count):
        again.advance(row, row + 1)
        number, size = int(ops.object[row]), int(ops.size_bytes[row])
        now = int(again.board.size[number])
        if ops.op[row] == RELEASE or (ops.op[row] == RESIZE and number not in live):
            passed += number not in live
            live.pop(number, None)
        elif now == size:
            live[number] = size
        else:
            refused += 1
        told = again.look()[0]
        assert again.live_bytes == sum(live.values())
        assert told["free_bytes"] + told["internal_bytes"] + again.live_bytes == again.empty_bytes
        assert followed.looks["live_bytes"][row] == again.live_bytes
        assert followed.looks["held_bytes"][row] == told["held_bytes"]
    totals = player.board.totals
    assert (
        (player.refused, totals[r.PASSED_BY]) == (refused, passed) == (again.refused, again.board.totals[r.PASSED_BY])
    )
    assert followed.looks["live_bytes"].max() == totals[r.PEAK_LIVE_BYTES]
    assert followed.looks["held_bytes"].max() == totals[r.PEAK_HELD_BYTES]
    assert player.board.sums[r.LIVE_SUM] == followed.looks["live_bytes"].sum()


def test_where_it_is_looked_changes_nothing():
    ops = random_stream(operations=200, largest=1 << 16)
    few_looks, many = (make_player(ops, load(ALLOCATOR, "best_fit"), {}, 1 << 18) for _ in range(2))
    follow(few_looks, LINK, 3)
    follow(many, LINK, 200)
    assert (few_looks.board.totals == many.board.totals).all() and (few_looks.board.size == many.board.size).all()


def test_growth_without_resize_is_a_copy():
    ops = stream((ALLOCATE, 1, 64), (RESIZE, 1, 128), (RESIZE, 1, 256), (RELEASE, 1, 1))
    player, followed = replayed(ops, "first_fit", 1 << 12)
    assert followed.looks["copies"].tolist() == [0, 1, 2, 2]
    assert followed.looks["copied_bytes"][-1] == 64 + 128
    assert player.runs().shape == (0, 3)
    paged, followed = replayed(ops, "paged", 1 << 12, page_bytes=64)
    assert followed.looks["copies"][-1] == 0 and not paged.refused


def test_what_is_refused_is_never_there():
    ops = stream((ALLOCATE, 1, 600), (ALLOCATE, 2, 600), (RESIZE, 2, 700), (RELEASE, 2, 1), (ALLOCATE, 3, 64))
    player, _ = replayed(ops, "first_fit", 1024)
    totals = player.board.totals
    assert (totals[r.FAILURES], totals[r.PASSED_BY], totals[r.FIRST_FAILURE]) == (1, 2, 1)
    assert player.live_bytes == 664 and player.runs()[:, 2].tolist() == [0, 2]


def test_held_is_the_pages_ever_touched():
    """Two objects of a page each, of which the first is released: its page was touched all the same."""
    ops = stream((ALLOCATE, 1, 4096), (ALLOCATE, 2, 4096), (RELEASE, 1, 1), (ALLOCATE, 3, 100), (RELEASE, 2, 1))
    _, followed = replayed(ops, "first_fit", 1 << 20)
    assert followed.looks["held_bytes"].tolist() == [4096, 8192, 8192, 8192, 8192]


def test_summary_of_a_stream_worked_by_hand():
    """A hole of 128 bytes between two objects of 64 at the end; everything in pages of 4 KiB."""
    ops = stream((ALLOCATE, 1, 64), (ALLOCATE, 2, 128), (ALLOCATE, 3, 64), (RELEASE, 2, 1))
    player, followed = replayed(ops, "first_fit", 1024)
    looks = followed.looks
    assert looks["holes"].tolist() == [1, 1, 1, 2] and looks["runs"].tolist() == [1, 2, 3, 2]
    assert looks["largest_free_bytes"].tolist() == [960, 832, 768, 768]
    assert looks["unusable_free_share"].tolist() == [0, 0, 0, 0], "128 fits the hole just so"
    from sim.fragmentation.metrics import summarise

    summary = summarise(player.board.totals, player.board.sums, 3, looks)
    assert summary["external_fragmentation"] == pytest.approx((0 + 0 + 0 + 128 / 896) / 4)
    assert summary["peak_live_bytes"] == 256 and summary["peak_held_bytes"] == 4096
    assert summary["runs_per_object"] == 1 and summary["failures"] == 0


def test_an_allocator_that_lacks_what_it_needs_says_so():
    from sim.policy import Allocator

    first_fit = load(ALLOCATOR, "first_fit")
    hooks = {hook: getattr(first_fit, hook) for hook in Allocator.HOOKS}
    needy = Allocator(name="needy", init=first_fit.init, needs=("most_bytes",), **hooks)
    with pytest.raises(InputError, match="needs 'most_bytes' of each object, which 'made' does not say"):
        make_player(stream((ALLOCATE, 1, 64)), needy, {}, 1024)


# --- scenarios and the command ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "size"), [("110%", 1100), ("12.5 %", 125), ("4 KiB", 4096), ("77", 77), ("0.05%", 1)])
def test_capacities(text, size):
    assert parse_capacity(text, 1000) == size


@pytest.mark.parametrize("text", ["0", "0%", "-5", "", "5.5", "-3%", "much", "1e9"])
def test_bad_capacities(text):
    with pytest.raises(InputError):
        parse_capacity(text, 1000)


def write_csv(folder: Path, rows: str, name: str = "calls.csv") -> Path:
    path = folder / name
    path.write_text("time_ns,op,address_id,size_bytes\n" + rows)
    return path


ROWS = "0,alloc,1,400\n1,alloc,2,64\n2,alloc,3,400\n3,free,1,400\n4,free,3,400\n5,alloc,4,600\n6,free,2,64\n"


def write_scenario(folder: Path, **changes) -> Path:
    write_csv(folder, ROWS)
    allocation = {"trace": "calls.csv", "allocator": "first_fit", "capacity": "960", **changes}
    text = {
        "name": "small",
        "description": "three objects",
        "allocation": allocation,
        "compare": ["first_fit", "best_fit"],
    }
    path = folder / "small.yaml"
    path.write_text(json.dumps(text))  # JSON is YAML
    return path


def called(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    return ended.value.code


def test_a_scenario_is_run_saved_read_and_explained(tmp_path, capsys):
    scenario = write_scenario(tmp_path)
    assert called("run", scenario, "--out", tmp_path / "out", "--json") == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert summary["failures"] == 1 and summary["failures_with_free"] == 1 and summary["first_failure_operation"] == 5
    result = AllocationResult.load(tmp_path / "out")
    assert result.summary == summary and len(result.looks) == 7
    assert result.map().shape[1] == 7 and result.map().max() == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["bytes.png", "map.png"]
    assert called("explain", tmp_path / "out", "--trace", tmp_path / "calls.csv", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    moment = told["moment"]
    assert moment["refused"] and moment["operation"] == 5 and moment["asked_bytes"] == 600
    assert (moment["free_bytes"], moment["largest_free_bytes"]) == (896, 448)
    assert [hole["size_bytes"] for hole in moment["holes"]] == [448, 448]
    pin = moment["pins"][0]
    assert (pin["objects"], pin["size_bytes"], pin["freed_bytes"]) == (1, 64, 960)
    assert (pin["oldest"], pin["age_operations"], pin["operations_left"]) == ("object #1", 4, 1)
    assert {way["label"]: way["first_refused"] for way in told["ways_out"]}["best_fit"] == 5
    assert told["least_capacity_bytes"] >= 1088


def test_explain_wants_the_same_stream(tmp_path, capsys):
    assert called("alloc", write_csv(tmp_path, ROWS), "--allocators", "first_fit", "--out", tmp_path / "out") == 0
    other = write_csv(tmp_path, ROWS.replace("400", "300"), "other.csv")
    assert called("explain", tmp_path / "out" / "first_fit", "--trace", other) == 2
    assert "is not the one of these results" in capsys.readouterr().err
    assert called("explain", tmp_path / "out" / "first_fit") == 2
    assert "no such file or stream of allocations" in capsys.readouterr().err


def test_explain_finds_the_trace_of_a_source(tmp_path, capsys, recwarn):
    calls = tmp_path / "calls.csv"
    calls.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:00,100,3\n2024-01-01 00:00:00,50,2\n")
    options = ("--option", f"trace={calls}", "--option", "reader=azure_llm")
    out = tmp_path / "out"
    assert called("alloc", "kv_growth", *options, "--allocators", "paged:page_bytes=1024", "--out", out) == 0
    assert not recwarn.list, "nothing is lost, so nothing needs a legend"
    assert called("explain", out / "paged_page_bytes=1024") == 2
    capsys.readouterr()
    assert called("explain", out / "paged_page_bytes=1024", "--trace", calls) == 0
    assert "refused nothing" in capsys.readouterr().out


def test_a_stream_of_nothing_is_refused(monkeypatch):
    from sim.fragmentation import loading
    from sim.fragmentation.scenario import load_scenario_operations

    nothing = build_operations("nothing", [], [], [], [])
    monkeypatch.setattr(loading, "load_operations", lambda *arguments: nothing)
    with pytest.raises(InputError, match="no allocations in 'nothing'"):
        load_scenario_operations(AllocationScenario("nothing", "nothing", explain.parse_choice("paged")))


def test_the_command_compares(tmp_path, capsys):
    calls = write_csv(tmp_path, ROWS)
    arguments = ("alloc", calls, "--allocators", "first_fit,buddy:smallest_bytes=64", "--capacity", "1 KiB")
    assert called(*arguments, "--out", tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert "first_fit" in text and "buddy:smallest_bytes=64" in text and "held/live" in text
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000
    assert called(*arguments, "--json", "--out", tmp_path / "again") == 0
    rows = json.loads(capsys.readouterr().out)["allocators"]
    assert [row["allocator"] for row in rows] == ["first_fit", "buddy:smallest_bytes=64"]
    for name in ("looks.parquet", "map.parquet", "summary.json", "manifest.json"):
        one, other = (tmp_path / folder / "first_fit" / name for folder in ("out", "again"))
        assert one.read_bytes() == other.read_bytes(), "the same bytes each time"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--allocators", "best_fitt"], "did you mean 'best_fit'"),
        (["--allocators", "best_fit,best_fit"], "an allocator twice"),
        (["--allocators", "best_fit:page_bytes=3"], "unknown parameter"),
        (["--allocators", ","], "no allocator"),
        (["--capacity", "lots"], "lots"),
        (["--link", "hbm3_h100_80g"], "not a link"),
        (["--source", "heap_csvv"], "heap_csv"),
    ],
)
def test_bad_arguments_are_one_line(tmp_path, capsys, arguments, words):
    assert called("alloc", write_csv(tmp_path, ROWS), "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trace": "nothing.csv"}, "no such file or stream of allocations"),
        ({"allocator": "tightest"}, "unknown allocator"),
        ({"capacity": "-1"}, "bad capacity"),
        ({"looks": 0}, "not a count"),
        ({"copy_overhead": "3"}, "copy_overhead"),
        ({"link": "ddr5_4800_8ch"}, "not a link"),
        ({"capacitty": "1"}, "did you mean 'capacity'"),
    ],
)
def test_bad_scenarios_name_file_and_field(tmp_path, changes, words):
    path = write_scenario(tmp_path, **changes)
    errors = check_allocation_file(path)
    assert errors and words in str(errors[0]) and "small.yaml" in str(errors[0])


def test_overrides_reach_every_field(tmp_path):
    path = write_scenario(tmp_path)
    scenario = load_allocation_scenario(
        path, {"allocation.capacity": "2 KiB", "allocation.allocator.alignment_bytes": 8}
    )
    assert scenario.capacity == "2 KiB" and scenario.allocator.label == "first_fit:alignment_bytes=8"
    with pytest.raises((InputError, InputErrors), match=r"allocation\.capacity"):
        load_allocation_scenario(path, {"allocation.capcity": "2 KiB"})


def test_nothing_refused_is_said(tmp_path):
    ops = random_stream(operations=60, largest=1 << 12)
    scenario = AllocationScenario("made", "made", allocator=explain.parse_choice("first_fit"))
    moment = explain.moment(scenario, ops)
    assert not moment.refused and moment.operation == int(ops.live_bytes.argmax()) and moment.asked_bytes == 0
