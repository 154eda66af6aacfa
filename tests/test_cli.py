"""The command line: documents and names that stay, and one clear line with exit code 2 for whatever is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

from sim import cli, registry

ROOT = Path(__file__).parent.parent
TRACE = "arrival_ns,id,size_bytes,op\n0,1,4,read\n10,2,6,read\n20,1,4,write\n30,3,9,read\n"
DEVICE = (ROOT / "hardware_profiles" / "devices" / "ddr5_4800.yaml").read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a small trace, t.csv, which is the current one."""
    (tmp_path / "t.csv").write_text(TRACE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def memhier(capsys):
    """Runs the command line here: (exit code, stdout, lines of stderr)."""

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stopped.value.code, out, err.splitlines()

    return call


def test_replay_prints_the_names_that_stay(here, memhier):
    code, out, err = memhier("replay", "t.csv", "--policy", "lru", "--capacity", "10", "--json")
    document = json.loads(out)
    assert (code, err) == (0, [])
    assert list(document) == [
        *("policy", "parameters", "capacity", "requests", "objects", "hits", "misses", "hit_ratio"),
        *("byte_hit_ratio", "bypassed", "kernel_seconds", "counts"),
    ]
    assert document["hits"] == 1 and document["capacity"] == 10 and document["byte_hit_ratio"] == 4 / 23


def test_replay_prints_a_table(here, memhier):
    code, out, _ = memhier("replay", "t.csv", "--capacity", "2", "--ignore-object-size")
    assert code == 0 and "2 objects" in out and "hit ratio" in out


def test_parameters_may_stand_in_the_name_or_apart(here, memhier):
    line = ["replay", "t.csv", "--capacity", "100%", "--json"]
    one = json.loads(memhier(*line, "--policy", "s3fifo:small_ratio=0.2")[1])
    two = json.loads(memhier(*line, "--policy", "s3fifo", "--param", "small_ratio=0.2")[1])
    assert one["parameters"] == two["parameters"] and one["parameters"]["small_ratio"] == 0.2


@pytest.mark.parametrize(
    ("what", "some"),
    [
        ("policies", "lru"),
        ("devices", "ddr5_4800"),
        ("systems", "dgx_h100"),
        ("readers", "oracle_general"),
        ("generators", "zipf"),
        ("traces", "postgres_pgbench"),
        ("scenarios", None),
    ],
)
def test_lists_are_documents_and_tables(memhier, what, some):
    code, out, err = memhier("list", what, "--json")
    rows = json.loads(out)
    assert (code, err) == (0, []) and (some is None or some in [row["name"] for row in rows])
    assert all(row["description"] for row in rows)
    assert memhier("list", what)[0] == 0


def test_listed_policies_show_what_can_be_set(memhier):
    rows = {(row["kind"], row["name"]): row for row in json.loads(memhier("list", "policies", "--json")[1])}
    assert rows["eviction", "s3fifo"]["parameters"]["small_ratio"] == 0.1
    assert {kind for kind, _ in rows} == {"eviction", "admission", "prefetch", "offload", "allocator", "scheduling"}


def test_validate_names_every_error_of_every_file(here, memhier):
    (here / "ddr5_4800.yaml").write_text(DEVICE)
    (here / "bad.yaml").write_text(DEVICE.replace("kind: dram", "kind: drum").replace("channels:", "chanels:"))
    (here / "worse.yaml").write_text("tiers: [\n")
    code, out, err = memhier("validate", "ddr5_4800.yaml", "bad.yaml", "worse.yaml", "missing.yaml")
    assert code == 2 and out == "ddr5_4800.yaml: good\n"
    assert all(line.startswith("error: ") for line in err)
    for file in ("bad.yaml", "worse.yaml", "missing.yaml"):
        assert any(file in line for line in err)


def test_validate_takes_scenarios_by_their_keys(here, memhier):
    (here / "s.yaml").write_text("name: s\nsystem: dgx_h1000\nworkload: {trace: nosuch}\nbananas: 3\n")
    code, _, err = memhier("validate", "s.yaml")
    assert code == 2 and any("dgx_h1000" in line and "dgx_h100" in line for line in err)
    assert any("bananas" in line for line in err)


def test_traces_get_prints_the_path_of_a_bundled_trace(memhier):
    code, out, _ = memhier("traces", "get", "postgres_pgbench")
    assert code == 0 and Path(out.strip()).is_file()


BAD = [
    (["replay", "nosuch.csv"], "no such trace 'nosuch.csv'"),
    (["replay", "t.csv", "--policy", "siev"], "unknown eviction policy 'siev'; did you mean 'sieve'"),
    (["replay", "t.csv", "--param", "depth=3"], "unknown parameter 'depth'"),
    (["replay", "t.csv", "--param", "depth"], "not a parameter: 'depth'"),
    (["replay", "t.csv", "--capacity", "3"], "capacity below one object"),
    (["replay", "t.csv", "--capacity", "0", "--ignore-object-size"], "capacity below one object"),
    (["replay", "t.csv", "--capacity", "4 GiB", "--ignore-object-size"], "cannot ignore object sizes"),
    (["replay", "t.csv", "--capacity", "4 GIB"], "GiB"),
    (["replay", "t.csv", "--capacity", "101%"], "at most 100%"),
    (["replay", "t.csv", "--admission", "alway"], "did you mean 'always'"),
    (["replay", "t.csv", "--reader", "cvs"], "unknown trace reader 'cvs'; did you mean 'csv'"),
    (["replay", "t.csv", "--seed", "x"], "Invalid value for '--seed'"),
    (["replay", "empty.csv"], "empty"),
    (["replay", "header.csv"], "empty"),
    (["replay", "unsorted.csv"], "not sorted by time"),
    (["replay", "zero.csv"], "zero.csv:2: size_bytes"),
    (["replay", "short.csv"], "short.csv:3"),
    (["replay", "torn.csv.zst"], "corrupt or truncated .zst"),
    (["replay", "fake.csv.gz"], "not a .gz file"),
    (["replay", "torn.oracleGeneral"], "torn.oracleGeneral"),
    (["replay"], "Missing argument 'TRACE'"),
    (["replay", "t.csv", "--capcity", "3"], "No such option: --capcity"),
    (["list", "polices"], "did you mean 'policies'"),
    (["traces", "get", "mooncake"], "unknown trace 'mooncake'"),
    (["run", "nosuch"], "nosuch"),
    (["run", "nosuch.yaml"], "nosuch.yaml"),
    (["run", "s", "--set", "tiers"], "bad --set 'tiers'; expected key=value"),
    (["compare", "nosuch", "--policies", "lru"], "nosuch"),
    (["frobnicate"], "No such command 'frobnicate'"),
]


@pytest.mark.parametrize(("arguments", "told"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_line_and_exit_code_2(here, memhier, arguments, told):
    import zstandard

    (here / "empty.csv").write_text("")
    (here / "header.csv").write_text("arrival_ns,id\n")
    (here / "unsorted.csv").write_text("arrival_ns,id\n5,1\n4,2\n")
    (here / "zero.csv").write_text("arrival_ns,id,size_bytes\n5,1,0\n")
    (here / "short.csv").write_text("arrival_ns,id,size_bytes\n5,1,4\n6,1\n")
    (here / "torn.csv.zst").write_bytes(zstandard.compress(os.urandom(4000))[:1000])
    (here / "fake.csv.gz").write_text(TRACE)
    (here / "torn.oracleGeneral").write_bytes(bytes(50))
    before = sorted(here.iterdir())
    code, out, err = memhier(*arguments)
    assert (code, out) == (2, "")
    assert len(err) == 1 and err[0].startswith("error: ") and told in err[0]
    assert sorted(here.iterdir()) == before


def test_no_command_shows_what_there_is(memhier):
    code, out, err = memhier()
    assert code == 2 and out == "" and any("replay" in line for line in err)


def script(*arguments, **options):
    line = [sys.executable, str(ROOT / "run_sim.py"), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


def test_help_imports_nothing_heavy():
    code = "import sys, sim.cli\ntry: sim.cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('numpy', 'numba', 'pandas', 'pydantic', 'simpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n") and "replay" in done.stdout


def test_a_reader_that_goes_away_is_no_error():
    line = f"{sys.executable} {ROOT / 'run_sim.py'} list devices --json | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.stdout == "[\n"


def test_an_interrupt_is_one_line(monkeypatch, memhier):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sim.commands.listing.entries", stop)
    assert memhier("list", "policies") == (130, "", ["interrupted"])


def raises_by_name(state, request):
    return state.no_such_field


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
def test_a_hook_that_does_not_compile_is_one_line_in_a_run(here, memhier, monkeypatch):
    broken = dataclasses.replace(registry.load(registry.EVICTION, "lru"), name="broken", evict=raises_by_name)
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda kind, name: broken if name == "broken" else load(kind, name))
    settings = ["workload.parameters.requests=100", "tiers.hbm.eviction=broken"]
    code, out, err = memhier("run", "zipf_three_tier", *(word for one in settings for word in ("--set", one)))
    assert (code, out, len(err)) == (2, "", 1)
    assert "test_cli.py:" in err[0] and "eviction policy 'broken': hook evict does not compile" in err[0]
    assert not Path("results").exists()
