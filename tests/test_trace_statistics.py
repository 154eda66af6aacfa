"""Statistics of traces: against counting by hand, what is left out where columns are missing, figures and files."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sim
from sim import cli
from sim.trace import Trace
from sim.trace_statistics import SHORTEST_SCAN, fit_zipf, trace_statistics

IDS = [5, 7, 5, 9, 7, 5, 11]


def small():
    return Trace.from_columns(
        "small",
        ids=IDS,
        arrival_ns=[0, 10, 20, 30, 40, 50, 100],
        size_bytes=[4, 6, 4, 2, 6, 4, 1],
        op=[0, 1, 0, 0, 1, 0, 0],
        tenant=[1, 1, 2, 1, 1, 1, 1],
    )


def test_the_summary_against_counting():
    summary = trace_statistics(small()).summary
    expected = {
        "requests": 7,
        "objects": 4,
        "requested_bytes": 27,
        "footprint_bytes": 13,
        "duration_s": 1e-7,
        "requests_per_s": 7e7,
        "write_share": 2 / 7,
        "write_byte_share": 12 / 27,
        "one_hit_wonders": 2,
        "one_hit_wonder_share": 0.5,
        "requests_to_top_1_percent_share": 3 / 7,
        "scan_share": 0.0,
        "reuse_distance_p1": 1,
        "reuse_distance_p99": 2,
        "object_bytes_min": 1,
        "object_bytes_max": 6,
        "tenants": 2,
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)


def test_the_tables_against_counting():
    tables = trace_statistics(small()).tables
    assert tables["tenants"]["tenant"].tolist() == [1, 2]
    assert tables["tenants"]["requests"].tolist() == [6, 1]
    assert tables["tenants"]["bytes"].tolist() == [23, 4]
    assert tables["reuse_distance"]["requests"][-1] == 3
    assert tables["reuse_time"]["reuses_within_requests"][-1] == 3
    at = np.searchsorted(tables["reuse_time"]["up_to"], 20.0)  # reuses after 20, 30 and 30 ns
    assert tables["reuse_time"]["reuses_within_ns"][[at - 1, at, -1]].tolist() == [0, 1, 3]
    assert tables["sizes"]["objects"].sum() == 4 and tables["sizes"]["requests"].sum() == 7
    assert tables["working_set"]["objects_so_far"].tolist() == [1, 2, 2, 3, 3, 3, 4]
    assert tables["working_set"]["bytes"].tolist() == [4, 6, 4, 2, 6, 4, 1]
    assert tables["popularity"]["accesses"].tolist() == [3, 2, 1, 1]


def test_what_a_trace_has_no_columns_for_is_left_out():
    found = trace_statistics(Trace.from_columns("ids", ids=IDS))
    left_out = ("requested_bytes", "duration_s", "write_share", "object_bytes_max", "tenants")
    assert not [name for name in left_out if name in found.summary]
    assert "reuses_within_ns" not in found.tables["reuse_time"] and "tenants" not in found.tables


def test_working_sets_of_windows_of_many_rows():
    ids = np.random.default_rng(1).integers(0, 300, 4321)
    table = trace_statistics(Trace.from_columns("t", ids=ids)).tables["working_set"]
    rows = 22
    assert table["first_request"].tolist() == list(range(0, 4321, rows))
    assert table["objects"].tolist() == [len(set(ids[at : at + rows])) for at in range(0, 4321, rows)]
    assert table["objects_so_far"].tolist() == [len(set(ids[: at + rows])) for at in range(0, 4321, rows)]


@pytest.mark.parametrize("step", [1, 4096, 8])
def test_scans_by_number_by_offset_and_by_sector(step):
    run = 1000 + step * np.arange(SHORTEST_SCAN + 2)
    short = 10**6 + step * np.arange(SHORTEST_SCAN - 1)
    ids = [3, *run, 77, *short, 1]
    found = trace_statistics(Trace.from_columns("t", ids=ids, size_bytes=np.full(len(ids), 4096)))
    assert found.summary["scan_share"] == pytest.approx(run.size / len(ids))


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.3])
def test_alpha_of_a_zipf_trace_is_found(alpha):
    trace = sim.generate("zipf", {"requests": 300_000, "objects": 5000, "alpha": alpha}, seed=1)
    summary = trace_statistics(trace).summary
    assert summary["zipf_alpha"] == pytest.approx(alpha, abs=0.05)
    assert summary["zipf_r2"] > 0.98


def test_what_cannot_be_fitted():
    assert fit_zipf(np.array([7, 3])) is None
    assert fit_zipf(np.array([5, 5, 5, 5])) == {"zipf_alpha": 0.0, "zipf_r2": 1.0, "zipf_first": pytest.approx(5.0)}


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return stopped.value.code, out, err.splitlines()


def test_the_command_writes_tables_and_figures(tmp_path, capsys):
    path, folder = tmp_path / "t.csv", tmp_path / "out"
    path.write_text("time,id,size\n" + "".join(f"{i},{i % 7},{1 + i % 7}\n" for i in range(300)))
    code, out, err = run(capsys, "trace-stats", path, "--out", folder, "--json")
    assert (code, err) == (0, []) and json.loads(out)["objects"] == 7
    assert json.loads((folder / "summary.json").read_text()) == json.loads(out)
    names = ("popularity", "reuse_distance", "sizes", "working_set")
    assert all((folder / f"{name}.png").stat().st_size > 5000 for name in names)
    assert (folder / "reuse_distance.csv").read_text().splitlines()[:2] == ["distance,requests,share", "0,0,0.0"]
    code, out, _ = run(capsys, "trace-stats", path)
    assert code == 0 and "zipf alpha" in out and "one hit wonder share" in out


def test_a_folder_that_cannot_be_written_is_told_first(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("id\n1\n")
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "trace-stats", tmp_path / "t.csv", "--out", tmp_path / "file" / "out")
    assert code == 2 and len(err) == 1 and "cannot write" in err[0]


def test_a_stream_gives_what_memory_gives(tmp_path):
    trace = sim.generate("zipf", {"requests": 5000, "objects": 300}, seed=2)
    names = sorted(trace.columns)
    chunks = ({**dict(zip(names, part, strict=True))} for part in trace.chunks(*names, rows=700))
    from sim.trace_building import build_trace

    again = ({**chunk, "id": trace.address[chunk.pop("block")]} for chunk in chunks)
    with build_trace(trace.name, again, spill_bytes=0) as spilled:
        assert trace_statistics(spilled).summary == trace_statistics(trace).summary
