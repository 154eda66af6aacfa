"""`optimize`: the front is the front, limits are kept, and a study that is killed goes on as if it had not been."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sim
from sim import cli
from sim.errors import InputError
from sim.pareto import AT_LEAST, AT_MOST, Limit, non_dominated, pareto_front
from sim.result_set import load_results
from sim.scenario_files import STUDIES
from sim.study.asking import Scored, chosen
from sim.study.spec import load_study

ROOT = Path(__file__).parent.parent
SMALL = """
name: small
description: Two fields of a small scenario
scenario: zipf_three_tier
set: {workload.parameters.requests: 300, workload.parameters.objects: 80}
fields:
  tiers.hbm.capacity: {from: 1%, to: 60%, scale: log}
  tiers.hbm.eviction: [fifo, lru]
objectives: {latency_mean_ns: null, tier.hbm.occupancy_max_bytes: lower}
limits:
  hit_ratio: {at_least: 38%}
trials: 12
batch: 3
seed: 4
"""


@pytest.fixture
def written(tmp_path):
    """Writes a study; the text of SMALL with things replaced."""

    def write(*replaced):
        text = SMALL
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "small.yaml").write_text(text)
        return tmp_path / "small.yaml"

    return write


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the small study, run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.yaml").write_text(SMALL)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["optimize", str(folder / "small.yaml"), "--out", str(folder / "out"), "--jobs", "2", "--csv"])
    assert stopped.value.code == 0
    return folder / "out"


def contents(folder):
    """Every file of a study by name, but for those that say how long it took."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "timing.json"
    }


# ------------------------------------------------------------------------------------------------------------ the front


@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), max_size=12))
def test_the_front_is_what_nothing_dominates(rows):
    def dominates(one, other):
        return all(a <= b for a, b in zip(one, other, strict=True)) and one != other

    expected = [not any(dominates(other, row) for other in rows) for row in rows]
    assert list(non_dominated(np.array(rows, float).reshape(-1, 3))) == expected


def test_the_front_of_a_study_is_made_of_its_runs(whole):
    results = load_results(whole)
    front = sim.pareto_front(results)
    assert dict(front.objectives) == {"latency_mean_ns": "lower", "tier.hbm.occupancy_max_bytes": "lower"}
    parts = (front.runs, front.dominated, front.infeasible, front.untold)
    assert sorted(run.name for part in parts for run in part) == [run.name for run in results]
    assert all(run.result.summary["hit_ratio"] >= 0.38 for run in (*front.runs, *front.dominated))
    assert all(run.result.summary["hit_ratio"] < 0.38 for run in front.infeasible) and front.infeasible
    means = [run.result.summary["latency_mean_ns"] for run in front.runs]
    occupied = [run.result.summary["tier.hbm.occupancy_max_bytes"] for run in front.runs]
    assert means == sorted(means) and occupied == sorted(occupied, reverse=True)  # of two objectives


def test_other_objectives_and_limits_may_be_asked_for(whole):
    results = load_results(whole)
    best = pareto_front(results, ["hit_ratio"], [])
    values = [run.result.summary["hit_ratio"] for run in results]
    assert {run.result.summary["hit_ratio"] for run in best.runs} == {max(values)}
    worst = pareto_front(results, {"hit_ratio": "lower"}, [])
    assert {run.result.summary["hit_ratio"] for run in worst.runs} == {min(values)}
    none = pareto_front(results, ["hit_ratio"], [Limit("latency_mean_ns", AT_MOST, 0.0)])
    assert not none.runs and len(none.infeasible) == len(results)
    assert Limit("hit_ratio", AT_LEAST, 0.5).excess(0.6) < 0
    with pytest.raises(InputError, match="did you mean 'hit_ratio'"):
        pareto_front(results, ["hit_rato"])
    with pytest.raises(InputError, match="neither direction"):
        pareto_front(results, ["requests"])
    with pytest.raises(InputError, match="no objectives"):
        pareto_front(results, [])


# ----------------------------------------------------------------------------------------------------------- the search


def test_a_study_is_a_set_of_results(whole):
    results = load_results(whole)
    assert len(results) == 12 and results.missing == 0
    assert results.fields == ("tiers.hbm.capacity", "tiers.hbm.eviction")
    assert len({json.dumps(dict(run.values)) for run in results}) == 12
    for run in results:
        said = run.result.manifest["scenario"]["tiers"]["hbm"]
        assert said["capacity"] == run.values["tiers.hbm.capacity"]
        assert said["eviction"]["policy"] == run.values["tiers.hbm.eviction"]
        assert 1 <= float(run.values["tiers.hbm.capacity"].rstrip("%")) <= 60


def test_the_number_of_processes_changes_nothing(whole, written, memhier, tmp_path):
    memhier("optimize", written(), "--out", tmp_path / "one", "--jobs", "1")
    assert contents(tmp_path / "one") == contents(whole)


def test_a_killed_study_goes_on_as_if_it_had_not_been(whole, written, memhier, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, str(ROOT / "run_sim.py"), "optimize", str(written()), "--out", str(out), "--jobs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    while process.poll() is None and len(list((out / "runs").glob("[0-9]*"))) < 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "summary.csv").exists()
    done = {path.name: os.stat(path).st_mtime_ns for path in (out / "runs").glob("[0-9]*")}
    assert "there is a study already" in memhier("optimize", written(), "--out", out)[2]
    code, _, err = memhier("optimize", written(), "--out", out, "--resume")
    assert code == 0 and "left to do" in err
    assert contents(out) == contents(whole)
    assert {name: os.stat(out / "runs" / name).st_mtime_ns for name in done} == done  # they were not run again


def test_more_trials_may_be_added_but_nothing_else_changed(whole, written, memhier, tmp_path):
    out = tmp_path / "grown"
    memhier("optimize", written(("trials: 12", "trials: 6")), "--out", out)
    assert len(load_results(out)) == 6
    memhier("optimize", written(), "--out", out, "--resume")
    assert contents(out) == contents(whole)
    code, _, err = memhier("optimize", written(("seed: 4", "seed: 5")), "--out", out, "--resume")
    assert code == 2 and "the study has changed: 5" in err


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(written, memhier, tmp_path):
    study = written(("{from: 1%, to: 60%, scale: log}", "[1 B, 20%, 30%, 40%]"), ("trials: 12", "trials: 8"))
    code, out, _ = memhier("optimize", study, "--out", tmp_path / "out", "--json")
    document = json.loads(out)
    assert code == 0 and document["trials"] == 8 and len(document["failed"]) == 2
    assert all(one["values"]["tiers.hbm.capacity"] == "1 B" and one["error"] for one in document["failed"])


def test_where_nothing_else_is_left_to_try_it_ends(written, memhier, tmp_path):
    study = written(
        ("{from: 1%, to: 60%, scale: log}", "[20%, 40%, 60%]"),
        ("objectives", "where: [tiers.hbm.capacity > 30%]\nobjectives"),
    )
    code, out, _ = memhier("optimize", study, "--out", tmp_path / "out")
    assert code == 0 and len(load_results(tmp_path / "out")) == 4
    assert "8 trials fewer than asked for" in out


def test_where_nothing_keeps_to_the_limits_that_is_said(written, memhier, tmp_path):
    study = written(("38%", "99.9%"), ("trials: 12", "trials: 3"))
    code, out, _ = memhier("optimize", study, "--out", tmp_path / "out")
    assert code == 1 and "0 of 3 trials are on the front; 3 break a limit (hit_ratio at least 0.999)" in out


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_points_follow_from_what_is_done(written, sampler):
    """Of a made-up valley: the same points each time, none twice, all within the range and the constraints."""
    study = load_study(
        written(
            ("objectives", f"sampler: {sampler}\nwhere: [tiers.hbm.capacity < 50%]\nobjectives"),
            ("trials: 12", "trials: 60"),
        )
    )

    def search():
        scored = []
        while len(scored) < 30:
            for trial in chosen(study, scored, 3):
                part = trial.params["tiers.hbm.capacity"]
                scored.append(Scored(trial, ((part - 0.3) ** 2, (part - 0.5) ** 2), (part - 0.7,)))
        return scored

    first, again = search(), search()
    assert first == again
    values = [json.dumps(dict(one.trial.values)) for one in first]
    assert len(set(values)) == len(values)
    assert all(study.allows(one.trial.values) for one in first)
    if sampler == "tpe":  # which learns: the second half is nearer to the front, from 0.3 to 0.5
        away = [
            max(0.3 - one.trial.params["tiers.hbm.capacity"], one.trial.params["tiers.hbm.capacity"] - 0.5, 0)
            for one in first
        ]
        assert np.mean(away[15:]) < np.mean(away[:15])


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("zipf_three_tier", "zipf_three_tear", "did you mean 'zipf_three_tier'?"),
        ("tiers.hbm.capacity:", "tiers.hmb.capacity:", "did you mean 'tiers.hbm.capacity'?"),
        ("[fifo, lru]", "[fifo, lur]", "did you mean 'lru'?"),
        ("{from: 1%", "{form: 1%", "did you mean 'from'?"),
        ("latency_mean_ns", "latency_men_ns", "did you mean 'latency_mean_ns'?"),
        ("occupancy_max_bytes: lower", "occupancy_max_bytes: null", "neither direction of this metric is better"),
        ("occupancy_max_bytes: lower", "occupancy_max_bytes: less", "not a direction: 'less'"),
        ("hit_ratio: {at_least: 38%}", "hit_rato: {at_least: 38%}", "did you mean 'hit_ratio'?"),
        ("at_least: 38%", "at_least: 20 MB", "not a share"),
        ("at_least: 38%", "atleast: 20%", "did you mean 'at_least'?"),
        ("at_least: 38%", "at_least: 38%, at_most: 1", "not a limit"),
        ("trials: 12", "trials: many", "not a count: 'many'"),
        ("batch: 3", "sampler: tpee", "did you mean 'tpe'?"),
        ("tiers.hbm.eviction: [fifo, lru]", "workload.parameters.requests: [1, 2]", "a field that varies is also set"),
        ("objectives", "where: [tiers.hbm.capacty > 3%]\nobjectives", "did you mean 'tiers.hbm.capacity'?"),
    ],
)
def test_bad_studies_are_told_before_anything_runs(written, memhier, tmp_path, old, new, said):
    code, out, err = memhier("optimize", written((old, new)), "--out", tmp_path / "out")
    assert (code, out) == (2, "") and said in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_without_optuna_the_extra_is_named(written, memhier, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else find(name, *rest)
    )
    code, _, err = memhier("optimize", written())
    assert code == 2 and "pip install 'memhier[optimize]'" in err


def test_a_folder_of_something_else_is_left_alone(written, memhier, tmp_path):
    sim.run(
        "zipf_three_tier", {"workload.parameters.requests": 300, "workload.parameters.objects": 80}, out=tmp_path / "r"
    )
    before = contents(tmp_path / "r")
    for more in ([], ["--resume"]):
        code, _, err = memhier("optimize", written(), "--out", tmp_path / "r", *more)
        assert code == 2 and "the folder holds other results" in err
    assert contents(tmp_path / "r") == before


def test_shipped_studies_are_good():
    assert STUDIES.names()
    for name in STUDIES.names():
        study = load_study(name)
        assert study.name == name and len(study.objectives) >= 2
