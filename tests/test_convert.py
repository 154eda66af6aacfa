"""Traces written and read again: the same trace, in bounded memory; and what does not match its manifest is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sim
from sim import cli
from sim.dense import _heading, open_dense, write_dense
from sim.errors import InputError
from sim.trace import Calls, Trace
from sim.trace_building import build_trace
from sim.trace_columns import NEVER
from sim.trace_loading import load_trace
from sim.trace_writing import FORMATS, format_of

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(5)
N = 2500
FULL = {
    "id": RNG.integers(-(2**62), 2**62, 300)[RNG.integers(0, 300, N)],
    "arrival_ns": np.floor(np.cumsum(RNG.exponential(3e9, N)) / 1e9) * 1e9,
    "size_bytes": RNG.integers(1, 2**32, N),
    "op": RNG.integers(0, 2, N).astype(np.uint8),
    "tenant": RNG.integers(0, 9, N).astype(np.int32),
    "cost": RNG.random(N),
    "ttl_ns": np.where(RNG.random(N) < 0.5, np.inf, 1e9),
    "frequency_hint": RNG.integers(0, 99, N),
    "prediction": RNG.random(N),
    "priority": RNG.integers(-5, 5, N).astype(np.int32),
}


def full(**options):
    """A trace with every column, built from several chunks."""
    pieces = [{name: column[at : at + 600] for name, column in FULL.items()} for at in range(0, N, 600)]
    return build_trace("full", pieces, **options)


def write(trace, target, name=None):
    format_of(target, name).write(trace, target, "a test")
    return target


@pytest.mark.parametrize("ending", ["dense", "parquet"])
def test_every_column_comes_back(tmp_path, ending):
    trace = full()
    again = load_trace(write(trace, tmp_path / f"full.{ending}"))
    assert again.digest == again.computed_digest() == trace.digest
    assert again.n_blocks == trace.n_blocks and np.array_equal(again.block_bytes, trace.block_bytes)
    for name in trace.columns:
        column = again.column(name)
        assert column.dtype == trace.column(name).dtype
        assert np.array_equal(column, trace.column(name), equal_nan=column.dtype.kind == "f")


@pytest.mark.parametrize("ending", ["oracleGeneral", "oracleGeneral.zst"])
def test_oracle_general_keeps_times_sizes_and_next_accesses(tmp_path, ending):
    trace = full()
    target = write(trace, tmp_path / f"full.{ending}")
    again = load_trace(target)
    start = FULL["arrival_ns"][0]
    assert np.array_equal(again.address[again.column("block")], FULL["id"])
    assert np.array_equal(again.column("arrival_ns"), FULL["arrival_ns"] - start)
    assert np.array_equal(again.column("size_bytes"), FULL["size_bytes"])
    assert np.array_equal(again.column("next_access"), trace.with_next_access().column("next_access"))
    assert format_of(target, None).loses(trace) == [
        *("cost", "frequency_hint", "op", "prediction", "priority", "tenant", "ttl_ns")
    ]
    if ending == "oracleGeneral":
        assert target.stat().st_size == 24 * N


@pytest.mark.parametrize("ending", ["dense", "parquet", "oracleGeneral"])
def test_a_replay_finds_the_same(tmp_path, ending):
    trace = full()
    target = write(trace, tmp_path / f"full.{ending}")
    for policy in ("lru", "belady"):
        ours, again = (sim.replay(one, policy, "10%") for one in (trace, target))
        assert (ours.hits, ours.byte_hit_ratio) == (again.hits, again.byte_hit_ratio)


@pytest.mark.parametrize("ending", ["dense", "parquet", "oracleGeneral"])
def test_spilled_and_chunked_traces_are_written_the_same(tmp_path, monkeypatch, ending):
    whole = write(full(), tmp_path / f"a.{ending}")
    monkeypatch.setattr("sim.trace.CHUNK_ROWS", 333)
    monkeypatch.setitem(Trace.chunks.__kwdefaults__, "rows", 333)
    with full(spill_bytes=0) as spilled:
        chunked = write(spilled, tmp_path / f"b.{ending}")
    assert load_trace(chunked).digest == load_trace(whole).digest
    assert spilled.n_requests == N


def test_a_trace_of_ids_alone(tmp_path):
    trace = Trace.from_columns("ids", ids=[7, 3, 7])
    assert load_trace(write(trace, tmp_path / "a.dense")).digest == trace.digest
    assert load_trace(write(trace, tmp_path / "a.parquet")).digest == trace.digest
    bare = load_trace(write(trace, tmp_path / "a.oracleGeneral"))
    assert bare.column("size_bytes").tolist() == [1, 1, 1] and bare.column("arrival_ns").tolist() == [0.0] * 3


def test_calls_are_kept_where_there_is_room(tmp_path):
    calls = Calls(np.array([0.0, 5.0]), np.array([20, 30]), np.array([1, 2]), np.array([0, 2, 3]), np.array([0, 1]), 16)
    trace = Trace.from_columns("llm", ids=[1, 2, 1], arrival_ns=[0, 0, 5.0], calls=calls)
    again = load_trace(write(trace, tmp_path / "llm.dense"))
    assert again.digest == again.computed_digest() == trace.digest
    assert again.calls.block_tokens == 16 and again.calls.first_row.tolist() == [0, 2, 3]
    assert format_of(tmp_path / "llm.parquet", None).loses(trace) == ["calls"]


def test_what_is_known_of_calls_is_kept_and_counts(tmp_path):
    calls = Calls(np.array([0.0, 5.0]), np.array([20, 30]), np.array([1, 2]), np.array([0, 2, 3]), np.array([0, 1]), 16)
    bare = Trace.from_columns("llm", ids=[1, 2, 1], calls=calls)
    assert bare.digest == "4a5527d1528bcbcbc875a4c4ee4a290264ba0acab911c231b98388d2d12ce826"  # as ever
    for known in ({"program": np.array([4, 4])}, {"program": np.array([4, 5]), "priority": np.array([-1, 2])}):
        trace = Trace.from_columns("llm", ids=[1, 2, 1], calls=calls._replace(**known))
        again = load_trace(write(trace, tmp_path / "llm.dense"))
        assert again.digest == again.computed_digest() == trace.digest != bare.digest
        for name in ("program", "priority"):
            here = getattr(again.calls, name)
            assert here is None if name not in known else here.tolist() == known[name].tolist()
    again = load_trace(write(bare, tmp_path / "bare.dense"))
    assert again.calls.program is None and again.digest == bare.digest


def test_calls_whose_fields_do_not_fit():
    calls = Calls(np.zeros(2), np.ones(2), np.ones(2), np.array([0, 1, 2]), np.zeros(2), 16)
    for known, message in (
        ({"program": np.array([1])}, r"calls.program: \(1,\) values for 2 calls"),
        ({"program": np.array([1, -1])}, "calls.program: bad value -1"),
        ({"priority": np.array([0, 1 << 31])}, "calls.priority: bad value"),
    ):
        with pytest.raises(InputError, match=message):
            Trace.from_columns("t", ids=[1, 2], calls=calls._replace(**known))
    parts = [calls, calls._replace(program=np.zeros(2))]
    with pytest.raises(InputError, match="some calls have it, others do not: 'program'"):
        build_trace("t", [{"id": np.arange(2), "calls": part} for part in parts])


def test_a_dense_folder_with_unknown_fields_of_calls(tmp_path):
    calls = Calls(np.zeros(1), np.ones(1), np.ones(1), np.array([0, 1]), np.zeros(1), 16, np.zeros(1))
    folder = write(Trace.from_columns("t", ids=[1], calls=calls), tmp_path / "t.dense")
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"program"', '"../program"'))
    with pytest.raises(InputError, match=r"calls.fields: bad value .*program, priority"):
        load_trace(folder)


def test_what_has_no_room_in_oracle_general(tmp_path):
    large = Trace.from_columns("t", ids=[1], size_bytes=[2**32])
    late = Trace.from_columns("t", ids=[1], arrival_ns=[2.0**32 * 1e9])
    for trace, message in ((large, "no room.*the size 4294967296"), (late, "no room.*time in seconds")):
        with pytest.raises(InputError, match=message):
            write(trace, tmp_path / "t.oracleGeneral")
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------------------------------- dense


def test_dense_arrays_are_narrow_mapped_and_wide_when_read(tmp_path):
    target = write(full(), tmp_path / "full.dense")
    trace = open_dense(target)
    stored = {name: trace.stored(name).array for name in trace.columns}
    assert stored["size_bytes"].dtype == np.uint32 and stored["next_access"].dtype == np.int32
    assert stored["previous_access"].dtype == np.int32
    assert trace.column("next_access").max() == NEVER and trace.column("next_access").dtype == np.int64
    assert trace.column("previous_access").min() == -1
    large = Trace.from_columns("t", ids=[1], size_bytes=[2**32])
    wide = open_dense(write(large, tmp_path / "wide.dense"))
    assert wide.stored("size_bytes").array.dtype == np.int64 and wide.column("size_bytes").tolist() == [2**32]


def test_writing_to_a_mapped_array_does_not_reach_the_file(tmp_path):
    target = write(full(), tmp_path / "full.dense")
    open_dense(target).column("block")[0] = 77
    assert open_dense(target, check=True).column("block")[0] == 0


def test_pages_given_back_are_there_again(tmp_path):
    trace = full()
    mapped = open_dense(write(trace, tmp_path / "full.dense"))
    parts = list(mapped.chunks("block", "size_bytes", "previous_access", rows=1100))
    assert np.array_equal(np.concatenate([part[0] for part in parts]), trace.column("block"))
    assert np.array_equal(np.concatenate([part[1] for part in parts]), FULL["size_bytes"])
    assert mapped.computed_digest() == trace.digest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_mapped_replay_does_not_stay_resident(tmp_path):
    """16 M rows are 128 MiB of mapped columns; a chunk of them is 8 MiB."""
    rows = 1 << 24
    target = write(
        Trace.from_columns("t", ids=np.arange(rows) % 1000, size_bytes=np.ones(rows, int)), tmp_path / "t.dense"
    )
    code = f"""
import re, sim
from sim.trace_loading import load_trace
trace = load_trace({str(target)!r})
before = most = 0
for block, size in trace.chunks("block", "size_bytes"):
    block.sum()
    mapped = int(re.search(r"RssFile:\\s+(\\d+)", open("/proc/self/status").read())[1])
    before = before or mapped
    most = max(most, mapped)
print(most - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 24 << 10  # KiB


def test_previous_and_next_accesses_are_each_others(tmp_path):
    trace = open_dense(write(full(), tmp_path / "full.dense"))
    upcoming, before = trace.column("next_access"), trace.column("previous_access")
    rows = np.flatnonzero(upcoming != NEVER)
    assert np.array_equal(before[upcoming[rows]], rows)
    assert np.count_nonzero(before == -1) == trace.n_blocks


def manifest_with(target, **changes):
    path = target / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def typed(target, **columns):
    manifest_with(target, columns=columns)


def put(target, name, array):
    (target / f"{name}.npy").write_bytes(_heading(array.dtype, array.size) + array.tobytes())


def shorten(target, name):
    put(target, name, np.load(target / f"{name}.npy")[:-1])


DAMAGES = {
    "another version": (
        lambda t: manifest_with(t, version=2),
        "version: unknown 2; expected 1; convert",
    ),
    "no format": (lambda t: manifest_with(t, format="x"), "not the manifest of a dense trace"),
    "more rows": (lambda t: manifest_with(t, requests=N + 1), r"does not match its manifest; expected .*\[2501\]"),
    "more blocks": (lambda t: manifest_with(t, blocks=10**6), r"does not match its manifest; expected .*\[1000000\]"),
    "no rows": (lambda t: manifest_with(t, requests=0), "requests: bad value 0"),
    "rows in words": (lambda t: manifest_with(t, requests="many"), "requests: bad value 'many'"),
    "no columns": (lambda t: manifest_with(t, columns={}), "columns: bad value"),
    "unknown column": (
        lambda t: manifest_with(t, columns={"block": "<i4", "colour": "<i4"}),
        "unknown column 'colour'",
    ),
    "another type": (
        lambda t: manifest_with(t, columns={"block": "<i8"}),
        "columns.block: bad type '<i8'; expected <i4",
    ),
    "no type": (lambda t: manifest_with(t, columns={"block": "nonsense"}), "columns.block: bad type 'nonsense'"),
    "bad calls": (lambda t: manifest_with(t, calls=[1]), "calls: bad value"),
    "absent calls": (lambda t: manifest_with(t, calls={"count": 1, "block_tokens": 1}), "calls.*cannot read an array"),
    "not JSON": (lambda t: (t / "manifest.json").write_text("{"), "the manifest is not JSON"),
    "a list": (lambda t: (t / "manifest.json").write_text("[1]"), "not the manifest"),
    "a shorter array": (lambda t: shorten(t, "size_bytes"), "size_bytes.npy: does not match its manifest"),
    "a shorter address": (lambda t: shorten(t, "address"), "address.npy: does not match its manifest"),
    "another array type": (lambda t: put(t, "block", np.zeros(N)), "block.npy: does not match its manifest"),
    "a missing array": (lambda t: (t / "op.npy").unlink(), "op.npy: cannot read an array"),
    "an empty array": (lambda t: (t / "op.npy").write_bytes(b""), "op.npy: not an array"),
    "no array": (lambda t: (t / "op.npy").write_bytes(b"hello" * 99), "op.npy: not an array"),
    "a truncated array": (
        lambda t: os.truncate(t / "op.npy", 500),
        "op.npy: does not match its manifest: bytes 500",
    ),
    "a block beyond": (
        lambda t: put(t, "block", np.full(N, 300, np.int32)),
        "block.npy: row 0: corrupt array: 300; expected from 0 to 299",
    ),
    "a previous access beyond": (
        lambda t: put(t, "previous_access", np.full(N, N, np.int32)),
        "previous_access.npy: row 0: corrupt array",
    ),
    "sizes of nothing": (
        lambda t: put(t, "block_bytes", np.zeros(300, np.int64)),
        "block_bytes.npy: corrupt array",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_dense_folder_that_is_not_as_its_manifest_says(tmp_path, damage):
    target = write(full(), tmp_path / "full.dense")
    change, message = DAMAGES[damage]
    change(target)
    with pytest.raises(InputError, match=message) as caught:
        trace = load_trace(target)
        for name in trace.columns:
            trace.column(name)
    assert "full.dense" in str(caught.value) and "\n" not in str(caught.value)


def test_a_change_that_keeps_all_lengths_is_found_when_asked(tmp_path):
    target = write(full(), tmp_path / "full.dense")
    array = np.load(target / "tenant.npy")
    array[5] += 1
    put(target, "tenant", array)
    assert load_trace(target).n_requests == N
    with pytest.raises(InputError, match="not those that were written"):
        load_trace(target, options={"check": True})


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(["manifest.json", "block.npy", "size_bytes.npy", "t.parquet"]))
def test_mutated_files_are_a_trace_or_an_input_error(data, name):
    trace = Trace.from_columns("t", ids=[5, 6, 5, 7, 6], size_bytes=[1, 2, 3, 4, 5])
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / ("t.parquet" if name == "t.parquet" else "t.dense")
        write(trace, target)
        path = target if name == "t.parquet" else target / name
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(content)))
            content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        path.write_bytes(content)
        try:
            loaded = load_trace(target)
            assert all(loaded.column(column).size == loaded.n_requests for column in loaded.columns)
        except InputError as error:
            assert "\n" not in str(error)


def test_an_older_dense_trace_is_replaced_and_nothing_else(tmp_path):
    target = tmp_path / "a.dense"
    write(full(), target)
    write(Trace.from_columns("other", ids=[1, 2]), target)
    assert load_trace(target).name == "other" and os.listdir(tmp_path) == ["a.dense"]
    (tmp_path / "b.dense").mkdir()
    with pytest.raises(InputError, match="something else already"):
        write(full(), tmp_path / "b.dense")
    with pytest.raises(InputError, match="it is a folder"):
        write(full(), target, "parquet")


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sim.dense._write_array", full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_dense(full(), tmp_path / "a.dense", "a test")
    with pytest.raises(InputError, match="cannot write the trace"):
        write(full(), tmp_path / "missing" / "a.parquet")
    assert os.listdir(tmp_path) == []


# -------------------------------------------------------------------------------------------------------------- parquet


def parquet(path, **columns):
    import pyarrow as pa
    from pyarrow import parquet as files

    files.write_table(pa.table(columns), path)
    return path


def test_parquet_of_others(tmp_path):
    import pyarrow as pa

    times = pa.array([1_700_000_000_000_000, 1_700_000_000_000_007], pa.timestamp("us"))
    path = parquet(tmp_path / "a.parquet", key=["x", "y"], when=times, bytes=[4, 5])
    mapping = {"id": "key", "arrival_ns": "when", "size_bytes": "bytes"}
    trace = load_trace(path, options={"columns": mapping})
    assert trace.column("arrival_ns").tolist() == [0.0, 7000.0]
    assert trace.column("size_bytes").tolist() == [4, 5] and trace.n_blocks == 2
    whole = parquet(tmp_path / "b.parquet", id=[1, 2], arrival_ns=[50, 51])
    assert load_trace(whole, options={"time_unit": "s"}).column("arrival_ns").tolist() == [0.0, 1e9]
    coded = parquet(tmp_path / "c.parquet", id=pa.array(["x", "y", "x"]).dictionary_encode())
    assert load_trace(coded).column("block").tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": [1]}, "missing column 'id'"),
        ({"id": [1, None]}, "row 2: id is missing"),
        ({"id": [1.5]}, "whole numbers"),
        ({"id": [[1]]}, "id does not hold numbers"),
        ({"id": [1, 2], "size_bytes": [1, 0]}, "row 2: bad size_bytes 0"),
        ({"id": [1, 2], "arrival_ns": [5.0, 4.0]}, "row 2: not sorted by time"),
        ({"id": [1, 2], "arrival_ns": [5, 4]}, "row 2: not sorted by time"),
    ],
)
def test_bad_parquet(tmp_path, columns, message):
    with pytest.raises(InputError, match=message):
        load_trace(parquet(tmp_path / "a.parquet", **columns))


def test_parquet_that_is_none(tmp_path):
    path = parquet(tmp_path / "a.parquet", id=np.arange(1000))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot read Parquet"):
        load_trace(path)
    parquet(path, id=np.arange(100_000))
    with pytest.raises(InputError, match="more than 1000 bytes"):
        load_trace(path, options={"max_bytes": 1000})
    parquet(path, id=np.arange(0))
    with pytest.raises(InputError, match="empty"):
        load_trace(path)


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def memhier(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("time,id,size,op\n1,7,100,r\n2,8,100,w\n3,7,100,r\n")

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        return stopped.value.code, out, err.splitlines()

    return call


def test_convert_and_replay(memhier):
    code, out, err = memhier("convert", "t.csv", "t.dense", "--json")
    document = json.loads(out)
    assert (code, err, document["requests"], document["not_kept"]) == (0, [], 3, [])
    assert json.loads(memhier("replay", "t.dense", "--capacity", "100", "--json")[1])["requests"] == 3
    assert json.loads(memhier("trace-stats", "t.dense", "--json")[1])["objects"] == 2
    code, out, _ = memhier("convert", "t.dense", "t.oracleGeneral.zst")
    assert code == 0 and "op" in out and "not kept" in out
    assert (
        json.loads(memhier("convert", "t.oracleGeneral.zst", "x", "--format", "parquet", "--json")[1])["objects"] == 2
    )


def test_convert_with_options_of_the_reader(memhier, tmp_path):
    (tmp_path / "a.log").write_text("9;A\n8;B\n")
    options = ["--option", "names=[when, what]", "--option", "columns={id: what, arrival_ns: when}"]
    line = ["convert", "a.log", "a.parquet", "--reader", "csv", "--option", "delimiter=semicolon", *options]
    code, _, err = memhier(*line)
    assert code == 2 and "not sorted by time" in err[0]
    (tmp_path / "a.log").write_text("8;A\n9;B\n")
    assert memhier(*line)[0] == 0
    assert load_trace(tmp_path / "a.parquet").column("arrival_ns").tolist() == [0.0, 1e9]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["convert", "t.csv", "t.xyz"], "no format has this ending: 't.xyz'"),
        (["convert", "t.csv", "t", "--format", "parket"], "unknown format 'parket'; did you mean 'parquet'"),
        (["convert", "t.csv", "t.dense", "--option", "ids"], "bad --option 'ids'; expected key=value"),
        (["convert", "t.csv", "t.dense", "--option", "ids=["], "expected a value as in YAML"),
        (["convert", "t.csv", "t.dense", "--option", "idz=text"], "did you mean 'ids'"),
        (["convert", "t.csv", "t.dense", "--reader", "dense"], "reader dense cannot read this; expected a folder"),
        (["convert", "nosuch.csv", "t.dense"], "no such trace"),
        (["convert", "t.csv", "nowhere/t.parquet"], "cannot write the trace"),
        (["convert", "full.dense", "t.parquet", "--reader", "csv"], "reader csv cannot read this; expected a file"),
        (["replay", "bad.dense"], "not the manifest of a dense trace"),
        (["trace-stats", "empty.csv"], "empty"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(memhier, tmp_path, arguments, told):
    write(full(), tmp_path / "full.dense")
    (tmp_path / "bad.dense").mkdir()
    (tmp_path / "bad.dense" / "manifest.json").write_text("{}")
    (tmp_path / "empty.csv").write_text("")
    before = sorted(os.listdir(tmp_path))
    code, out, err = memhier(*arguments)
    assert (code, out, len(err)) == (2, "", 1) and told in err[0]
    assert sorted(os.listdir(tmp_path)) == before


def test_every_format_has_an_ending_of_its_own():
    endings = [ending for one in FORMATS for ending in one.endings]
    assert len(set(endings)) == len(endings)


def test_a_scenario_takes_a_dense_trace(tmp_path):
    from sim.scenario import load_scenario

    write(full(), tmp_path / "full.dense")
    text = "name: s\ndescription: d\nsystem: cxl_pool_spr\nworkload: {trace: full.dense}\n"
    (tmp_path / "s.yaml").write_text(text)
    assert load_scenario(tmp_path / "s.yaml").workload.trace == str(tmp_path / "full.dense")
