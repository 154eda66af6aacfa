"""Every command answers in three forms: text that fits a terminal, one JSON document, one table as CSV."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import typer

from sim import cli
from sim.cli import app
from sim.serving.results import ServingResult, save
from tests.serving_runs import made_up_run, made_up_scenario
from tests.test_check_serving import written  # noqa: F401  a measured run, as a fixture

WIDTH = 80
TRACE = "arrival_ns,id,size_bytes,op\n0,1,4,read\n10,2,6,read\n20,1,4,write\n30,3,9,read\n"
BASELINE = """name: small
description: a test
scenarios:
  zipf:
    scenario: zipf_three_tier
    set: {workload.parameters.requests: 400, workload.parameters.objects: 100}
    metrics: {hit_ratio: {relative: 1%}}
"""
SWEEP = """name: small
description: a test
scenario: zipf_three_tier
set: {workload.parameters.requests: 400, workload.parameters.objects: 100}
fields: {tiers.hbm.eviction: [lru]}
"""
STUDY = """
name: small
description: Two objectives
scenario: zipf_three_tier
set: {workload.parameters.requests: 400, workload.parameters.objects: 100}
fields: {tiers.hbm.capacity: {from: 2%, to: 50%}}
objectives: {latency_mean_ns: lower, tier.hbm.occupancy_max_bytes: lower}
trials: 2
"""
TELLS_ON_STDERR = {"sweep", "optimize"}  # how many runs there will be, whatever the form
SMALL = [
    *("--set", "workload.parameters.requests=400", "--set", "workload.parameters.objects=100"),
    *("--set", "tiers.hbm.capacity=50 MiB"),
]
PROBE = ["--requests", "400", "--warmup", "40"]
ALLOC = ["alloc", "training_step", "--allocators", "first_fit,best_fit", "--looks", "3", "--out", "{out}"]

# What to run of each command: arguments, in which {here} is a folder that has t.csv, and the columns of its CSV.
EXAMPLES = {
    "run": (["run", "zipf_three_tier", *SMALL, "--out", "{out}"], "metric,value,unit,better"),
    "compare": (
        ["compare", "zipf_three_tier", "--policies", "lru,s3fifo:small_ratio=0.2", *SMALL, "--out", "{out}"],
        "policy,latency_mean_ns,",
    ),
    "replay": (["replay", "{here}/t.csv", "--capacity", "10"], "policy,parameters,capacity,requests,"),
    "alloc": (ALLOC, "allocator,operations,"),
    "convert": (["convert", "{here}/t.csv", "{out}.dense"], "target,format,requests,"),
    "trace-stats": (["trace-stats", "{here}/t.csv"], "statistic,value"),
    "mrc": (
        ["mrc", "{here}/t.csv", "--policies", "lru,fifo", "--sizes", "50%,100%", "--out", "{out}"],
        "policy,capacity,share,miss_ratio,byte_miss_ratio,capacity_unit",
    ),
    "probe": (["probe", "ddr5_4800", "--outstanding", "4", *PROBE], "pattern,read_ratio,size_bytes,outstanding,"),
    "calibrate": (
        ["calibrate", "{here}/times.csv", "--device", "a100_sxm_80g", "--out", "{out}.yaml"],
        "name,fitted,held_out,median,p90,signed_median",
    ),
    "diff": (["diff", "{serving}", "{slower}"], "label,metric,unit,better,was,now,change,"),
    "regress": (["regress", "{here}/baseline.yaml"], "baseline,scenario,"),
    "optimize": (["optimize", "{here}/study.yaml", "--jobs", "1", "--resume", "--out", "{out}"], "run,"),
    "sweep": (["sweep", "{here}/sweep.yaml", "--jobs", "1", "--resume", "--out", "{out}"], "label,"),
    "report": (["report", "{serving}", "--out", "{out}.html"], "run,label,kind,"),
    "timeline": (["timeline", "{serving}", "--recorded", "--out", "{out}.json.gz"], "kind,"),
    "explain": (["explain", "{serving}"], "name,calls,request,latency_ns,parts_ns.queue_ns,"),
    "check-serving": (["check-serving", "{measured}", "--system", "rtx4090_desktop"], "figure,ours,measured,error"),
    "list": (["list", "policies"], "kind,name,parameters,description"),
    "validate": (["validate", "hardware_profiles/devices/ddr5_4800.yaml"], "file,good,errors"),
    "traces get": (["traces", "get", "postgres_pgbench"], "name,path"),
}
MORE = {  # commands that answer otherwise where other things are asked for
    "list scenarios": (["list", "scenarios"], "name,kind,on,description"),
    "list presets": (["list", "presets"], "preset,option,default,sets,source"),
    "one request": (["explain", "{serving}", "--request", "3"], "request,status,reason,"),
    "several loads": (
        ["probe", "ddr5_4800", "--outstanding", "1,8", "--read-ratio", "0.5", *PROBE, "--out", "{out}"],
        "pattern,read_ratio,size_bytes,outstanding,",
    ),
    "several requesters": (
        ["probe", "ddr5_4800", "--outstanding", "4", "--with", "pattern=seq,rate=2GB/s", *PROBE],
        "pattern,read_ratio,size_bytes,outstanding,",
    ),
}


def commands(group=None, before: str = "") -> dict[str, object]:
    """Each command by what is typed, such as 'traces get'."""
    found = {}
    for name, one in (group or typer.main.get_command(app)).commands.items():
        found |= commands(one, f"{before}{name} ") if hasattr(one, "commands") else {f"{before}{name}": one}
    return found


@pytest.fixture(scope="module")
def places(tmp_path_factory, written):  # noqa: F811
    """Folders that the examples name."""
    here = tmp_path_factory.mktemp("forms")
    (here / "t.csv").write_text(TRACE)
    rng = np.random.default_rng(1)
    shapes = zip(*(rng.integers(64, 8192, (3, 60)).tolist()), strict=True)
    rows = [f"linear,up,{2000 + tokens * k * n / 1e5:.0f},{tokens},{k},{n}" for tokens, k, n in shapes]
    (here / "times.csv").write_text("\n".join(["kind,operator,time_ns,tokens,k,n", *rows]) + "\n")
    (here / "baseline.yaml").write_text(BASELINE)
    (here / "sweep.yaml").write_text(SWEEP)
    (here / "study.yaml").write_text(STUDY)
    with pytest.raises(SystemExit):
        cli.main(["regress", str(here / "baseline.yaml"), "--update"])
    runs = {"serving": made_up_run(), "slower": made_up_run(seed=2)}
    results = {name: ServingResult.from_run(run, made_up_scenario(), label="made up") for name, run in runs.items()}
    return {"here": here, "measured": written, **{name: save(one, here / name).folder for name, one in results.items()}}


@pytest.fixture
def answer(places, tmp_path, capsys, monkeypatch):
    """Runs an example: what is on stdout. Exit code 0 is wanted, and nothing on stderr but of those that tell there."""
    monkeypatch.chdir(Path(__file__).parent.parent)
    monkeypatch.setenv("COLUMNS", str(WIDTH))

    def call(arguments: list[str], *more: str) -> str:
        names = {**places, "out": tmp_path / "out"}
        with pytest.raises(SystemExit) as stopped:
            cli.main([*(text.format(**names) for text in arguments), *more])
        out, err = capsys.readouterr()
        assert stopped.value.code == 0 and (not err or arguments[0] in TELLS_ON_STDERR)
        return out

    return call


def test_every_command_has_an_example():
    assert commands().keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_both_options(name):
    options = {option for parameter in commands()[name].params for option in parameter.opts}
    assert {"--json", "--csv"} <= options


@pytest.mark.parametrize("name", [*EXAMPLES, *MORE])
def test_it_answers_in_every_form(name, answer):
    arguments, columns = (EXAMPLES | MORE)[name]
    json.loads(answer(arguments, "--json"), parse_constant=pytest.fail)
    table = answer(arguments, "--csv")
    rows = list(csv.DictReader(io.StringIO(table), strict=True))
    assert table.startswith(columns) and rows
    assert all(None not in row and None not in row.values() for row in rows)  # as many cells as columns
    text = answer(arguments)
    assert text.strip()
    for line in text.splitlines():
        assert len(line) <= WIDTH or len(line.split()) == 1  # a path is not cut in two


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_both_forms_at_once_are_one_clear_error(name, places, capsys):
    before = sorted(places["here"].iterdir())
    with pytest.raises(SystemExit) as stopped:
        cli.main([*(text.format(**places, out=places["here"] / "o") for text in EXAMPLES[name][0]), "--json", "--csv"])
    assert stopped.value.code == 2
    assert capsys.readouterr() == ("", "error: both --json and --csv; expected one of them\n")
    assert sorted(places["here"].iterdir()) == before


def test_validate_says_in_every_form_what_is_wrong(places, capsys):
    bad = places["here"] / "bad.yaml"
    bad.write_text("tiers: [\n")
    for form in ("--json", "--csv"):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["validate", str(bad), "hardware_profiles/devices/ddr5_4800.yaml", form])
        out, err = capsys.readouterr()
        assert stopped.value.code == 2 and err.startswith("error: ")
        rows = json.loads(out)["files"] if form == "--json" else list(csv.DictReader(io.StringIO(out)))
        assert [str(row["good"]).lower() for row in rows] == ["false", "true"]
        assert "bad.yaml" in str(rows[0]["errors"])


def test_cells_that_are_no_numbers_are_empty_and_lists_are_json(capsys):
    from sim.commands.output import print_csv

    print_csv([{"a": np.float64("nan"), "b": [1, None], "c": {"x": np.int64(3)}, "d": True, "e": 'say "no", please'}])
    assert capsys.readouterr().out == 'a,b,c,d,e\n,"[1, null]","{""x"": 3}",true,"say ""no"", please"\n'
