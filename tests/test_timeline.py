"""Timelines: valid traces that show what the results say, no more than was asked for, and nothing that is not known."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import sim
from sim.cli import main
from sim.engines import block_cache as bc
from sim.errors import InputError
from sim.profile import load_profile
from sim.result_set import load_result
from sim.serving import log
from sim.serving.network import PURPOSES
from sim.serving.results import ServingResult
from sim.timeline import serving, trace_file
from sim.timeline.drawing import draw
from sim.timeline.lanes import lanes_of
from sim.timeline.picture import Counter, Events, Group, Picture, Told, Window, in_window, shares
from sim.timeline.recording import recorded
from sim.timeline.running import make_timeline
from sim.timeline.sampling import ordinal, room_of, thinned
from sim.timeline.serving_log import ServingLog
from tests.serving_runs import made_up_run, made_up_scenario
from tests.trace_event_checker import end_ns, problems, read, start_ns

SMALL = {"workload.parameters.requests": 400, "workload.parameters.objects": 100}
MANY = 1_000_000


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return sim.run("zipf_three_tier", SMALL, out=tmp_path_factory.mktemp("run") / "zipf")


@pytest.fixture(scope="module")
def trace(result, tmp_path_factory):
    return drawn(result, tmp_path_factory.mktemp("trace"), most=MANY)


@pytest.fixture(scope="module")
def serving_result(tmp_path_factory):
    run = made_up_run()
    moved = np.cumsum(np.ones((len(run.samples["time_ns"]), len(run.traffic_bytes))), axis=0) * 1e6
    run = dataclasses.replace(run, samples={**run.samples, "link_bytes": moved})
    made = ServingResult.from_run(
        run, made_up_scenario(run.tiers), label="made up", profile=load_profile("dgx_h100_cxl_ssd")
    )
    return made.saved(tmp_path_factory.mktemp("serving") / "out")


@pytest.fixture(scope="module")
def allocation_result(tmp_path_factory):
    overrides = {"allocation.capacity": "60%", "allocation.allocator": "first_fit"}
    return sim.run("heap_allocators", overrides, out=tmp_path_factory.mktemp("allocation") / "out")


def drawn(result, folder, name="timeline.json", **options):
    """The trace of a result, which has nothing wrong with it."""
    make_timeline(result, Path(folder) / name, **options)
    trace = read(Path(folder) / name)
    assert problems(trace) == []
    return trace


def of(trace, phase=None, category=None, process=None, track=None):
    """Events by phase, category, and beginnings of the names of their process and track."""
    names = {e["pid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"}
    tracks = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    return [
        e
        for e in trace["traceEvents"]
        if e["ph"] != "M"
        and phase in (None, e["ph"])
        and category in (None, e.get("cat"))
        and names[e["pid"]].startswith(process or "")
        and tracks.get(e.get("tid"), "").startswith(track or "")
    ]


# --- requests of a hierarchy -----------------------------------------------------------------------------------------


def test_every_request_is_there_once_at_its_time(result, trace):
    slices = of(trace, "X", "request")
    table = result.requests
    assert sorted(e["args"]["request"] for e in slices) == list(range(400))
    for e in slices:
        row = table.iloc[e["args"]["request"]]
        assert start_ns(e) == round(row.arrival_ns) and end_ns(e) == round(row.arrival_ns + row.latency_ns)
        assert e["args"]["latency_ns"] == row.latency_ns and e["name"] == row.outcome
        parts = sum(e["args"][name] for name in ("queue_ns", "device_ns", "link_ns", "wait_ns"))
        assert parts == pytest.approx(row.latency_ns, rel=1e-5)
    for tier in result.tier_names:
        rows = {e["args"]["request"] for e in of(trace, "X", "request", track=f"served by {tier}")}
        assert rows == set(np.flatnonzero(table.served_by == tier))


def test_counters_are_the_samples(result, trace):
    for tier, table in result.tiers.groupby("tier", observed=True):
        for name in ("used_bytes", "held_blocks", "lookups", "hits", "free_bytes", "internal_bytes"):
            values = [
                (start_ns(e), *e["args"].values()) for e in of(trace, "C", process=f"tier {tier}") if e["name"] == name
            ]
            assert values == list(zip(table.time_ns.round().astype(int), table[name], strict=True))


def test_a_ratio_stands_where_its_stretch_begins(result, trace):
    table = result.tiers[result.tiers.tier == "hbm"]
    shown = {start_ns(e): e["args"]["share"] for e in of(trace, "C", process="tier hbm") if e["name"] == "hit_ratio"}
    pairs = zip(table.time_ns.round().astype(int)[:-1], table.hit_ratio[1:], strict=True)
    assert shown == {time_ns: ratio for time_ns, ratio in pairs if np.isfinite(ratio)}


def test_devices_and_links_are_told_by_what_they_moved(result, trace):
    for part, table in result.parts.groupby("part", observed=True):
        of_part, _, way = part.rpartition(".")
        process = of_part.replace(".", " ", 1)
        for name, column in (
            (f"{way} bytes a second", "bytes"),
            (f"{way} waiting taken on", "wait_ns"),
            ("work taken on" if part.startswith("tier") else f"{way} work taken on", "busy_ns"),
        ):
            shown = [e for e in of(trace, "C", process=process) if e["name"] == name]
            rates, seconds = [next(iter(e["args"].values())) for e in shown], [start_ns(e) for e in shown]
            scale = 1e-9 if column == "bytes" else 1.0
            grown = sum(np.diff(seconds) * np.array(rates[:-1]) * scale)
            assert grown == pytest.approx(table[column].iloc[-1] - table[column].iloc[0], rel=1e-4, abs=1e-6)


# --- what moved ------------------------------------------------------------------------------------------------------


def test_drawn_transfers_move_the_bytes_that_the_run_counted(result, trace):
    summary = result.summary
    for tier in result.tier_names:
        for way in ("read", "write"):
            moved = sum(e["args"]["bytes"] for e in of(trace, "X", "transfer", f"tier {tier}", way))
            assert moved == summary[f"tier.{tier}.{way}_bytes"]
    for link in result.manifest["links"]:
        for way in ("up", "down"):
            moved = sum(e["args"]["bytes"] for e in of(trace, "X", "transfer", f"link {link}", way))
            assert moved == summary[f"link.{link}.{way}_bytes"]


def test_evictions_are_those_that_were_counted(result, trace):
    for tier in result.tier_names[:-1]:
        assert len(of(trace, "i", "eviction", f"tier {tier}")) == result.summary[f"tier.{tier}.evictions"]
    assert len(of(trace, "i", "eviction")) > 0


def test_a_victim_with_a_place_below_goes_there(trace):
    """Each demotion and write-back is of a block evicted at that moment, to where it then goes."""
    gone = {}
    for e in of(trace, "i", "eviction"):
        gone.setdefault((start_ns(e), e["args"]["block"]), set()).add((e["args"]["written"], e["args"]["to"]))
    moves = [e for e in of(trace, "X", "transfer", "transfers") if e["name"] in ("demotion", "writeback")]
    tracks = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert moves
    for e in moves:
        target = tracks[e["tid"]].split(" to ")[1].split(" #")[0]
        assert (e["name"] == "writeback", target) in gone[start_ns(e), e["args"]["block"]]


def test_the_transfer_of_a_request_takes_as_long_as_the_request(trace):
    requests = {e["args"]["request"]: e for e in of(trace, "X", "request")}
    moved = [e for e in of(trace, "X", "transfer", "transfers") if "request" in e["args"]]
    assert {e["args"]["request"] for e in moved} == {n for n, e in requests.items() if e["name"] != "delayed_hit"}
    for e in moved:
        request = requests[e["args"]["request"]]
        assert (start_ns(e), end_ns(e)) == (start_ns(request), end_ns(request))


def test_what_servers_do_lies_within_the_transfer(trace):
    whole = {e["args"]["transfer"]: e for e in of(trace, "X", "transfer", "transfers")}
    parts = [e for e in of(trace, "X", "transfer") if "queued_ns" in e["args"]]
    assert {e["args"]["transfer"] for e in parts} == set(whole)
    for e in parts:
        own = whole[e["args"]["transfer"]]
        assert start_ns(own) <= start_ns(e) <= end_ns(e) <= end_ns(own)
        assert e["args"]["bytes"] == own["args"]["bytes"] and e["args"]["block"] == own["args"]["block"]


def test_a_log_changes_nothing_and_may_be_small(result, monkeypatch):
    """However often the log is read, the run and what is read of it are the same."""
    from sim import simulation

    whole = recorded(result, Window(), MANY)
    for records in (16, 64):  # the first has no room for one event, and starts again
        monkeypatch.setattr(simulation, "_FIRST_LOG_RECORDS", records)
        again = recorded(result, Window(), MANY)
        for name, column in whole.stages.items():
            assert (again.stages[name] == column).all()
        assert (again.evictions["block"] == whole.evictions["block"]).all()
    assert (whole.hierarchy.engine.answers.latency_ns == result.column("requests", "latency_ns")).all()


def test_chunks_make_one_transfer(tmp_path):
    """Two memories simulated event by event, into which large blocks go in chunks of 4 KiB."""
    from sim.timeline.recording import Reader
    from tests.test_event_devices import two_tiers

    reader = Reader(Window(), MANY)
    ran = two_tiers()
    logged = two_tiers_logged(reader, ran)
    stages = reader.recording(logged).stages
    traffic = logged.hierarchy.engine.traffic
    columns = np.asarray(logged.hierarchy.engine.stages)[stages["stage"], 2]
    for column in range(len(logged.hierarchy.columns)):
        for purpose in range(len(bc.PURPOSES)):
            own = (columns == column) & (stages["purpose"] == purpose)
            assert stages["size_bytes"][own].sum() == traffic.bytes[column, purpose]
    for number in np.unique(stages["number"]):
        own = stages["number"] == number
        assert len(np.unique(stages["block"][own])) == len(np.unique(stages["request"][own])) == 1
        for column in np.unique(columns[own]):
            assert stages["size_bytes"][own & (columns == column)].sum() == 6000


def two_tiers_logged(reader, ran):
    """The run of `test_event_devices.two_tiers` once more, with its log read."""
    import simpy

    from sim.hierarchy import build
    from sim.simulation import _Model
    from tests.machines import device, machine, plan, zipf_trace
    from tests.test_event_devices import REQUESTS, dram

    profile = machine(dram("fast"), dram("slow"), paths=[(), ("link",)], links={"link": device("link", 50.0, 8.0)})
    workload = zipf_trace(4 * REQUESTS, 200, 300.0, size_bytes=6000)
    hierarchy = build(profile, [plan("fast", 60 * 6000)], workload).with_log(1 << 14)
    reader.begin(hierarchy)
    env = simpy.Environment()
    model = _Model(env, hierarchy, reader)
    env.run(model.process)
    model.read_log()
    assert (model.engine.answers.latency_ns == ran.latency_ns).all()
    return dataclasses.make_dataclass("Ended", ["hierarchy"])(hierarchy.with_engine(model.engine))


def test_without_simulating_it_again_nothing_that_moves_is_drawn(result, tmp_path):
    trace = drawn(result, tmp_path, recorded_only=True)
    assert {e.get("cat") for e in of(trace, "X")} == {"request"} and not of(trace, "i")
    assert "without transfers" in trace["otherData"]["notes"][0]


# --- window, sample, bytes -------------------------------------------------------------------------------------------


def test_a_window_holds_what_touches_it(result, trace, tmp_path):
    times_ns = np.sort(result.column("requests", "arrival_ns"))
    window = Window(float(times_ns[150]), float(times_ns[200]))
    part = drawn(result, tmp_path, window=window, most=MANY)

    def told(of_trace, **what):
        return sorted(json.dumps({**e, "tid": 0, "pid": 0}, sort_keys=True) for e in of(of_trace, **what))

    def within(e):
        return end_ns(e) >= window.from_ns - 1 and start_ns(e) <= window.to_ns + 1

    for e in of(part, "X", "request") + of(part, "X", "transfer", "transfers") + of(part, "i"):
        assert within(e)
    shown = {e["args"]["request"] for e in of(part, "X", "request")}
    ends_ns = result.requests.arrival_ns + result.requests.latency_ns
    touching = (ends_ns >= window.from_ns) & (result.requests.arrival_ns <= window.to_ns)
    assert shown == set(np.flatnonzero(touching))
    whole = [e["args"]["transfer"] for e in of(trace, "X", "transfer", "transfers") if within(e)]
    assert sorted(e["args"]["transfer"] for e in of(part, "X", "transfer", "transfers")) == sorted(whole)
    in_both = set(told(part, phase="X", category="request")) - set(told(trace, phase="X", category="request"))
    assert not in_both, "the window changes nothing of what it shows"


def test_a_sample_says_so_and_keeps_the_slowest(result, trace, tmp_path):
    few = drawn(result, tmp_path, most=600)
    every = few["otherData"]["kinds"]["request"]["every"]
    shown = {e["args"]["request"] for e in of(few, "X", "request")}
    assert every > 1 and 0 < len(shown) < 400 and len(of(few)) <= 600
    slowest = set(np.argsort(-result.requests.latency_ns.to_numpy(), kind="stable")[:4])
    by_arrival = np.argsort(result.requests.arrival_ns.to_numpy(), kind="stable")
    assert shown == slowest | set(by_arrival[::every])
    names = [e["args"]["name"] for e in few["traceEvents"] if e["name"] == "thread_name"]
    assert all(f"(every {ordinal(every)} and the slowest)" in name for name in names if name.startswith("served by"))
    whole = {e["args"]["transfer"]: e["args"]["bytes"] for e in of(trace, "X", "transfer", "transfers")}
    for e in of(few, "X", "transfer", "transfers"):
        assert whole[e["args"]["transfer"]] == e["args"]["bytes"]


def test_a_recording_keeps_every_nth_transfer_whole(result):
    whole, few = recorded(result, Window(), MANY), recorded(result, Window(), 300)
    assert few.every > 1 and len(few.stages["number"]) <= 300
    kept = whole.stages["number"] % few.every == 0
    order = np.argsort(whole.stages["number"][kept], kind="stable")
    again = np.argsort(few.stages["number"], kind="stable")
    for name, column in whole.stages.items():
        assert (column[kept][order] == few.stages[name][again]).all()


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_the_same_bytes_twice(result, tmp_path, name):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        make_timeline(result, tmp_path / folder / name)
    one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
    assert one == two and [path.name for path in (tmp_path / "one").iterdir()] == [name]


# --- serving and allocations -----------------------------------------------------------------------------------------


def test_calls_are_there_with_their_parts_in_order(serving_result, tmp_path):
    trace = drawn(serving_result, tmp_path, most=MANY, recorded_only=True)
    table = serving_result.requests
    whole = [e for e in of(trace, "X", "request") if e["name"].startswith("request ")]
    assert sorted(e["args"]["request"] for e in whole) == list(np.flatnonzero(table.status == "completed"))
    stretches = ("until first scheduled", "until first token", "until finished")
    inner = [e for e in of(trace, "X", "request") if e["name"] in stretches]
    spans = {(e["tid"], e["name"], start_ns(e), end_ns(e)) for e in inner}
    times = ("arrival_ns", "first_scheduled_ns", "first_token_ns", "finish_ns")
    expected = 0
    for e in whole:
        row = table.iloc[e["args"]["request"]]
        stops = [round(row[name]) for name in times]
        assert (start_ns(e), end_ns(e)) == (stops[0], stops[-1])
        for name, start, end in zip(stretches, stops[:-1], stops[1:], strict=True):
            expected += end > start
            assert end == start or (e["tid"], name, start, end) in spans
    assert len(inner) == expected
    rejected = of(trace, "i", "request")
    assert {e["args"]["request"] for e in rejected} == set(np.flatnonzero(table.status == "rejected"))
    assert "without single iterations" in trace["otherData"]["notes"][0]


def test_engines_and_links_are_told_by_counters(serving_result, tmp_path):
    trace = drawn(serving_result, tmp_path, most=MANY, recorded_only=True)
    table = serving_result.samples
    for name in ("running", "waiting", "kv_blocks_in_use", "blocks in dram"):
        column = table[name.replace("blocks in dram", "blocks.dram")]
        values = [(start_ns(e), *e["args"].values()) for e in of(trace, "C", process="engine 0") if e["name"] == name]
        assert values == list(zip(table.time_ns.round().astype(int), column, strict=True))
    part = next(name for name in table.columns if name.startswith("bytes.")).removeprefix("bytes.")
    rates = [e for e in of(trace, "C", process="devices") if e["name"] == f"{part} bytes a second"]
    times, values = [start_ns(e) / 1e9 for e in rates], [e["args"]["bytes/s"] for e in rates]
    assert sum(np.diff(times) * values[:-1]) == pytest.approx(
        table[f"bytes.{part}"].iloc[-1] - table[f"bytes.{part}"].iloc[0], rel=1e-6, abs=1.0
    )


def test_what_engines_do_is_drawn_from_their_logs(serving_result, tmp_path):
    rows = [  # engine, kind, from, to, tokens or purpose, sequences or source, prefills or target, blocks, call
        (0, log.ITERATION, 1e6, 2e6, 100, 1, 1, 0, -1),
        (0, log.ITERATION, 2e6, 3e6, 70, 7, 1, 0, -1),
        (0, log.ITERATION, 3e6, 4e6, 9, 9, 0, 0, -1),
        (0, log.COPY, 2e6, 5e6, PURPOSES.index("store"), 0, 1, 3, -1),
        (0, log.COPY, 1e6, 2e6, PURPOSES.index("load"), 2, 0, 5, 17),
        (0, log.PREEMPTION, 3e6, 3e6, 0, 0, 0, 4, 18),
    ]
    records = {
        kind: np.array([row for row in rows if row[1] == code], float)
        for code, kind in enumerate(("iteration", "copy", "preemption"))
    }
    picture = serving.picture_of(serving_result, Window(), ServingLog(records, {"iteration": 2}))
    draw(picture, tmp_path / "a.json", MANY, {})
    trace = read(tmp_path / "a.json")
    assert problems(trace) == []
    steps = of(trace, "X", "iteration", "engine 0", "iterations (every 2nd)")
    assert [e["name"] for e in steps] == ["prefill", "prefill and decode", "decode"]
    assert [e["args"]["tokens"] for e in steps] == [100, 70, 9] and [e["dur"] for e in steps] == [1000.0] * 3
    (stored,) = of(trace, "X", "copy", "copies", "store hbm to dram")
    assert stored["args"] == {"engine": 0, "blocks": 3, "bytes": 3 * serving_result.manifest["block_bytes"]}
    (loaded,) = of(trace, "X", "copy", "copies", "load ssd to hbm")
    assert loaded["args"]["request"] == 17 and end_ns(loaded) == 2e6
    (preempted,) = of(trace, "i", "preemption")
    assert preempted["args"] == {"request": 18, "blocks": 4}


def test_a_replay_of_allocations_is_counters_and_refusals(allocation_result, tmp_path):
    trace = drawn(allocation_result, tmp_path, most=MANY)
    looks = allocation_result.looks
    live = [e["args"]["bytes"] for e in of(trace, "C") if e["name"] == "live_bytes"]
    assert live == looks.live_bytes.tolist()
    refused = of(trace, "i", "refusal")
    assert sum(e["args"]["operations"] for e in refused) == looks.failures.iloc[-1] > 0
    assert bool(trace["otherData"]["notes"]) == (looks.time_ns.iloc[-1] == looks.time_ns.iloc[0])


# --- bad input -------------------------------------------------------------------------------------------------------


def refused(capsys, *arguments) -> str:
    """The one line that a command line is refused with."""
    with pytest.raises(SystemExit) as stopped:
        main(["timeline", *map(str, arguments)])
    told = capsys.readouterr()
    assert stopped.value.code == 2 and told.out == "" and told.err.count("\n") == 1
    return told.err


def test_bad_input_is_one_line(result, serving_result, allocation_result, tmp_path, capsys):
    out = ("--out", tmp_path / "a.json")
    folder = result.folder
    assert "no such folder of results 'nowhere'" in refused(capsys, "nowhere", *out)
    assert "not results of a run" in refused(capsys, tmp_path, *out)
    assert "unknown unit 'parsecs'" in refused(capsys, folder, *out, "--from", "3 parsecs")
    assert "--from after --to" in refused(capsys, folder, *out, "--from", "2 ms", "--to", "1 ms")
    assert "not below zero" in refused(capsys, folder, *out, "--from=-1 ms")
    assert "nothing happens in this window" in refused(capsys, folder, *out, "--from", "1 h")
    assert "too few events" in refused(capsys, folder, *out, "--most", "5")
    assert "counters" in refused(capsys, folder, *out, "--most", "100")
    assert "is no file" in refused(capsys, folder, "--out", tmp_path)
    assert "is no file" in refused(capsys, folder, "--out", "/dev/full")
    assert "cannot write the timeline" in refused(capsys, folder, "--out", tmp_path / "no" / "a.json")
    assert "--scenario is of a run" in refused(capsys, allocation_result.folder, *out, "--scenario", "a")
    assert "'none'" in refused(capsys, serving_result.folder, *out), "the trace of a made-up run"
    assert "was generated" in refused(capsys, folder, *out, "--trace", "a.csv")
    assert "both --json and --csv" in refused(capsys, folder, *out, "--json", "--csv")
    assert list(tmp_path.iterdir()) == []


def test_incomplete_and_changed_results_are_refused(result, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(result.folder, folder)
    (folder / "tiers.parquet").unlink()
    assert "tiers.parquet missing" in refused(capsys, folder)
    shutil.copy(result.folder / "tiers.parquet", folder)
    table = pyarrow.parquet.read_table(folder / "requests.parquet")
    at = table.column_names.index("latency_ns")
    longer = pyarrow.array(table.column(at).to_numpy() + np.arange(400).clip(6, 7) - 6)
    pyarrow.parquet.write_table(table.set_column(at, "latency_ns", longer), folder / "requests.parquet")
    told = refused(capsys, folder)
    assert "is not the one of these results: request 7 takes another time" in told and "--recorded" in told
    assert not (folder / "timeline.json.gz").exists()
    main_ok(capsys, folder, "--recorded")
    assert (folder / "timeline.json.gz").exists()


def main_ok(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["timeline", *map(str, arguments)])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_a_run_of_files_is_drawn_where_they_are_told(tmp_path, capsys):
    rng = np.random.default_rng(3)
    rows = [f"{at * 10},{block},4096,read" for at, block in enumerate(rng.integers(0, 60, 400))]
    (tmp_path / "own.csv").write_text("time_us,key,size_bytes,op\n" + "\n".join(rows) + "\n")
    scenario = yaml.safe_load(Path("scenarios/zipf_three_tier.yaml").read_text())
    scenario["workload"] = {"trace": "own.csv", "reader": "csv"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(scenario))
    try:
        sim.run(tmp_path / "own.yaml", out=tmp_path / "out")
    except InputError as error:
        pytest.fail(str(error))
    assert "own.csv" in refused(capsys, tmp_path / "out")
    for told in (("--trace", tmp_path / "own.csv"), ("--scenario", tmp_path / "own.yaml")):
        answer = json.loads(main_ok(capsys, tmp_path / "out", *told, "--json"))
        assert answer["kinds"]["request"]["drawn"] == 400 and Path(answer["timeline"]).stat().st_size == answer["bytes"]


# --- pieces ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=40))
@settings(deadline=None)
def test_lanes_are_as_few_as_can_be_and_nothing_overlaps(shortest, pairs):
    pairs = sorted((start, start + shortest + length) for start, length in pairs)
    start, end = (np.array([pair[at] for pair in pairs], np.int64) for at in (0, 1))
    lanes = lanes_of(start, end)
    for lane in set(lanes.tolist()):
        own = [pair for pair, at in zip(pairs, lanes, strict=True) if at == lane]
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(own))
    overlap = max((sum(s <= t < e for s, e in pairs) for t in range(71)), default=0)
    used = lanes.max(initial=-1) + 1
    assert used == overlap if shortest else used >= overlap


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(8, 60))
@settings(deadline=None)
def test_thinned_counters_keep_their_peaks(values, most):
    counter = Counter("c", "x", np.arange(len(values), dtype=float), np.array(values))
    few = thinned(counter, most)
    assert few.values.size <= max(most, 2) and few.values.max() == max(values) and few.values.min() == min(values)
    assert all(values[int(at)] == value for at, value in zip(few.time_ns, few.values, strict=True))
    assert (np.diff(few.time_ns) > 0).all()


@given(st.lists(st.integers(0, 400), min_size=1, max_size=3), st.integers(100, 900), st.integers(0, 9))
@settings(deadline=None)
def test_no_more_events_than_asked_for(sizes, most, counters):
    groups = [Group("c", tuple(Counter(str(at), "x", np.arange(50.0), np.ones(50)) for at in range(counters)))]
    for at, size in enumerate(sizes):
        times = np.arange(size)
        events = Events(str(at), str(at), times, times + 1, times, lambda place: Told("e", {}), 1 + at)
        groups.append(Group(str(at), (), (events,)))
    picture = Picture(tuple(groups), {"0": np.arange(sizes[0], dtype=float)})
    room = room_of(picture, most)
    events = sum(int(sample.kept.sum()) * (1 + int(kind)) for kind, sample in room.samples.items())
    assert events + counters * min(50, room.values) <= most
    if sum(size * (1 + at) for at, size in enumerate(sizes)) + counters * 50 <= most:
        assert all(sample.every == 1 for sample in room.samples.values())
    elif room.samples["0"].slowest:
        assert room.samples["0"].kept[sizes[0] - 1], "the slowest of all"


@given(st.integers(0, 1 << 52), st.integers(0, 1 << 50))
@settings(max_examples=300, deadline=None)
def test_perfetto_reads_the_nanoseconds_that_were_meant(start, length):
    """By the arithmetic of its reader: digits of the start, and a product in floating point for the duration."""
    from io import BytesIO

    file = BytesIO()
    trace = trace_file.TraceFile(file, {})
    group = trace.process("p")
    trace.slice(group, trace.track(group, "t"), start, start + length, "s", "c", {})
    trace.close()
    text = file.getvalue().decode()
    whole, digits = text.split('"ts":')[1].split(",")[0].split(".")
    assert int(whole) * 1000 + int(float(f"0.{digits}") * 1000) == start
    assert int(json.loads(text)["traceEvents"][-1]["dur"] * 1000.0) == length


def test_names_may_hold_anything(tmp_path):
    name = 'a "quoted" \\ </script> \n\t\x00 \u2028 🙂 #1'
    time = np.array([5], np.int64)
    events = Events("k", name, time, time, np.array([0]), lambda at: Told(name, {name: name, "nan": float("nan")}))
    draw(Picture((Group(name, (Counter(name, name, time, time),), (events,)),)), tmp_path / "a.json", 100, {name: name})
    trace = read(tmp_path / "a.json")
    assert problems(trace) == [] and trace["otherData"][name] == name
    assert of(trace, "X")[0]["args"] == {name: name}


def test_an_interrupted_drawing_leaves_nothing(tmp_path):
    time = np.array([5], np.int64)

    def told(at):
        raise KeyboardInterrupt

    events = Events("k", "n", time, time, np.array([0]), told)
    (tmp_path / "a.json").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        draw(Picture((Group("g", (), (events,)),)), tmp_path / "a.json", 100, {})
    assert (tmp_path / "a.json").read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_a_window_of_a_counter_begins_with_the_value_that_holds():
    counter = Counter("c", "x", np.array([0.0, 10.0, 20.0, 30.0]), np.array([1.0, np.nan, 3.0, 4.0]))
    inside = in_window(counter, Window(15.0, 25.0))
    assert inside.time_ns.tolist() == [15.0, 20.0] and inside.values.tolist() == [1.0, 3.0]


def test_growth_is_told_of_the_time_in_which_it_was():
    when, rate = shares(np.array([0.0, 10.0, 20.0]), np.array([0, 5, 25]))
    assert when.tolist() == [0.0, 10.0, 20.0] and rate.tolist() == [0.5, 2.0, 0.0]


# --- the checker itself, and the real one ----------------------------------------------------------------------------


def sound():
    def slice_(start, dur, tid=2):
        return {"ph": "X", "pid": 1, "tid": tid, "ts": start, "dur": dur, "name": "s", "args": {}}

    return {
        "displayTimeUnit": "ns",
        "traceEvents": [
            {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "p"}},
            {"ph": "M", "pid": 1, "tid": 2, "name": "thread_name", "args": {"name": "t"}},
            slice_(1.0, 5.0),
            slice_(2.0, 1.001),
            slice_(6.0, 0),
            {"ph": "i", "pid": 1, "tid": 2, "ts": 0.5, "s": "t", "name": "i"},
            {"ph": "C", "pid": 1, "ts": 0, "name": "c", "args": {"x": 1}},
            {"ph": "C", "pid": 1, "ts": 1, "name": "c", "args": {"x": 2}},
        ],
    }


BROKEN = {
    "displayTimeUnit": lambda t: t.update(displayTimeUnit="us"),
    "no list of traceEvents": lambda t: t.pop("traceEvents"),
    "not an object": lambda t: t["traceEvents"].append(3),
    "unknown phase": lambda t: t["traceEvents"][2].update(ph="Q"),
    "no name": lambda t: t["traceEvents"][2].update(name=""),
    "no pid": lambda t: t["traceEvents"][2].update(pid="1"),
    "no tid": lambda t: t["traceEvents"][2].pop("tid"),
    "no time": lambda t: t["traceEvents"][2].update(ts=-1.0),
    "args are not": lambda t: t["traceEvents"][2].update(args=[]),
    "no duration": lambda t: t["traceEvents"][2].pop("dur"),
    "unknown scope": lambda t: t["traceEvents"][5].update(s="x"),
    "a counter without": lambda t: t["traceEvents"][6].update(args={"x": "1"}),
    "unknown metadata": lambda t: t["traceEvents"][0].update(name="process"),
    "metadata without name": lambda t: t["traceEvents"][0].update(args={}),
    "named twice": lambda t: t["traceEvents"].append(t["traceEvents"][1]),
    "process 1 has no name": lambda t: t["traceEvents"].pop(0),
    "thread 3 of process 1 has no name": lambda t: t["traceEvents"][2].update(tid=3),
    "the number of a process": lambda t: [e.update(tid=1) for e in t["traceEvents"] if "tid" in e],
    "overlaps a slice": lambda t: t["traceEvents"][3].update(dur=4.002),
    "goes back in time": lambda t: t["traceEvents"][7].update(ts=-0.0) or t["traceEvents"][6].update(ts=0.5),
}


@pytest.mark.parametrize("problem", BROKEN)
def test_the_checker_sees(problem):
    assert problems(sound()) == []
    broken = copy.deepcopy(sound())
    BROKEN[problem](broken)
    assert any(problem in one for one in problems(broken)), problems(broken)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1, "a": 2}'])
def test_the_checker_reads_strictly(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"NaN|twice"):
        read(tmp_path / "a.json")


def test_perfetto_reads_all_of_it(perfetto, result, serving_result, allocation_result, tmp_path):
    for name, one in {"run": result, "serving": serving_result, "allocation": allocation_result}.items():
        made = drawn(one, tmp_path, f"{name}.json", most=MANY, recorded_only=name == "serving")
        with perfetto.opened(tmp_path / f"{name}.json") as rows:
            assert rows("select name, value from stats where severity in ('error', 'data_loss') and value > 0") == []
            (slices,) = rows("select count(*) as n, coalesce(sum(dur), 0) as ns from slice")
            events = of(made, "X")
            assert slices["n"] == len(events) + len(of(made, "i"))
            assert slices["ns"] == sum(end_ns(e) - start_ns(e) for e in events)
            (counters,) = rows("select count(*) as n from counter")
            assert counters["n"] == len(of(made, "C"))
            names = {row["name"] for row in rows("select name from thread where tid > 1000")}
            assert names == {e["args"]["name"] for e in made["traceEvents"] if e["name"] == "thread_name"}


def test_the_questions_of_the_guide_are_answered(perfetto, result, tmp_path):
    made = drawn(result, tmp_path, "run.json", most=MANY)
    page = (Path(__file__).parent.parent / "docs" / "timeline.md").read_text(encoding="utf-8")
    queries = re.findall(r"(?ms)^```sql\n(.*?)^```$", page)
    with perfetto.opened(tmp_path / "run.json") as rows:
        slowest, transfers, *others = map(rows, queries)
    requests = sorted(end_ns(e) - start_ns(e) for e in of(made, "X", "request", track="served by"))
    assert [row["dur"] for row in slowest] == requests[: -len(slowest) - 1 : -1]
    assert sum(row["transfers"] for row in transfers) == len(of(made, "X", process="transfers"))
    assert len(others) == 2


def test_a_result_is_loaded_as_any_other(result):
    assert load_result(result.folder).label == "zipf_three_tier"
