"""Sweeps that are run: what they leave is what single runs leave, whatever happens to them on the way."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

import sim
from sim import result_files
from sim.dense import open_dense
from sim.errors import InputError
from sim.hierarchy_kind import HierarchyKind
from sim.result_set import load_results
from sim.scenario_kind import named
from sim.sweep import running
from sim.sweep.executors import GivenWorkers
from sim.sweep.planning import plan_of
from sim.sweep.spec import load_sweep
from sim.sweep.sweeping import run_plan, run_sweep
from sim.sweep.work import Task, prepare

ROOT = Path(__file__).parent.parent
SMALL = {"workload.parameters.requests": 400, "workload.parameters.objects": 100}
SWEEP = f"""
name: small
description: a few sizes and policies
scenario: zipf_three_tier
set: {json.dumps(SMALL)}
fields:
  tiers.hbm.capacity: [4%, 20%]
  tiers.lpddr.capacity: [20%, 40%]
where: tiers.hbm.capacity < tiers.lpddr.capacity
seeds: 2
"""


class Here(Executor):
    """Runs what is submitted at once, where it is submitted."""

    def submit(self, function, /, *arguments, **named):
        future: Future = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def sweep_file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SWEEP)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep as it is without interruption, by two processes."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.yaml").write_text(SWEEP)
    run_sweep(folder / "small.yaml", out=folder / "out", jobs=2)
    return folder / "out"


def contents(folder):
    """Path -> bytes of all files but those that say how long something took."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "timing.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_each_point_is_what_a_run_alone_leaves(whole, tmp_path):
    results = load_results(whole)
    assert [run.name for run in results] == [f"{at:04}" for at in range(6)]
    assert [run.seed for run in results] == [1, 2] * 3
    for run in results:
        alone = sim.run("zipf_three_tier", {**SMALL, **run.values}, run.seed, tmp_path / run.name)
        theirs, ours = contents(alone.folder), contents(whole / "runs" / run.name)
        label = json.loads(ours.pop("manifest.json")), json.loads(theirs.pop("manifest.json"))
        assert {**label[0], "label": ""} == {**label[1], "label": ""}
        assert ours == theirs
    assert results.runs[2].result.label == "hbm.capacity 4%, lpddr.capacity 40%"


def test_any_executor_leaves_the_same(whole, sweep_file, tmp_path):
    done = []
    run_sweep(sweep_file, out=tmp_path / "out", executor=Here(), progress=lambda *counts: done.append(counts))
    assert contents(tmp_path / "out") == contents(whole)
    assert done == [(at, 0, 6) for at in range(1, 7)]


def command(sweep_file, out, *more):
    line = [sys.executable, "run_sim.py", "sweep", str(sweep_file), "--out", str(out), "--jobs", "2", *more]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_runs(process, out, count):
    until = time.monotonic() + 120
    while len([*(out / "runs").glob("[0-9]*")]) < count and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)


def children(pid):
    """Processes of this machine whose ancestors include this one."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_killed_at_any_moment_it_is_resumed_to_the_same_bytes(whole, sweep_file, tmp_path):
    out = tmp_path / "out"
    process = command(sweep_file, out)
    wait_for_runs(process, out, 3)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.01)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]  # nobody writes any more
    times = {path: path.stat().st_mtime_ns for path in out.glob("runs/[0-9]*/timing.json")}
    for leftover in (".0005.1.unfinished", ".0003.1.replaced"):
        (out / "runs" / leftover).mkdir(parents=True)
    resumed = command(sweep_file, out, "--resume")
    _, said = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, said
    assert {path: path.stat().st_mtime_ns for path in times} == times  # what was there was not done again
    assert contents(out) == contents(whole)


def test_killed_before_it_said_what_it_is_of_it_is_begun(whole, sweep_file, tmp_path):
    for begun in ("nothing", "runs"):
        out = tmp_path / begun
        (out / "runs" if begun == "runs" else out).mkdir(parents=True)
        for leftover in (".lock", ".manifest.json.1.unfinished") if begun == "runs" else ():
            (out / leftover).write_text("{")
        run_sweep(sweep_file, out=out, executor=Here(), resume=begun == "runs")
        assert contents(out) == contents(whole)


def test_an_interrupt_stops_and_says_how_to_go_on(sweep_file, tmp_path):
    process = command(sweep_file, tmp_path / "out")
    wait_for_runs(process, tmp_path / "out", 1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 or process.returncode == 0
    assert "Traceback" not in said
    if process.returncode == 130:
        assert "--resume" in said and "interrupted" in said


def test_a_sweep_is_not_done_again_or_mixed_with_another(whole, sweep_file, tmp_path):
    with pytest.raises(InputError, match=r"there is a sweep already.*--resume"):
        run_sweep(sweep_file, out=whole)
    before = contents(whole)
    assert len(run_sweep(sweep_file, out=whole, resume=True, executor=Here())) == 6
    assert contents(whole) == before
    with pytest.raises(InputError, match=r"set: the sweep has changed"):
        run_sweep(sweep_file, {"monitor.every": "1 ms"}, out=whole, resume=True)
    sweep_file.write_text(SWEEP.replace("seeds: 2", "seeds: 3"))
    with pytest.raises(InputError, match=r"seeds: the sweep has changed"):
        run_sweep(sweep_file, out=whole, resume=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        run_sweep(sweep_file, out=other, resume=True)
    assert (other / "notes.txt").read_text() == "mine" and contents(whole) == before


def test_what_it_is_made_of_may_not_change_between(whole, sweep_file, monkeypatch):
    digests = HierarchyKind.digests
    monkeypatch.setattr(HierarchyKind, "digests", lambda *given: {**digests(*given), "eviction.lru": "another"})
    with pytest.raises(InputError, match=r"eviction\.lru: what it is made of has changed"):
        run_sweep(sweep_file, out=whole, resume=True)


def test_only_one_process_writes_a_sweep(sweep_file, tmp_path):
    def again(done, failed, total):
        with pytest.raises(InputError, match="another process writes this sweep"):
            run_sweep(sweep_file, out=tmp_path / "out", resume=True, executor=Here())

    run_sweep(sweep_file, out=tmp_path / "out", executor=Here(), progress=again)


# ------------------------------------------------------------------------------------------------------------- failures


def test_a_point_that_fails_is_recorded_and_the_rest_goes_on(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(
        SWEEP.replace("[4%, 20%]", "[1 B, 4%]").replace("where: tiers.hbm.capacity < tiers.lpddr.capacity", "")
    )
    process = command(file, tmp_path / "out", "--json")
    out, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in said
    told = json.loads(out)
    assert told["runs"] == 4 and len(told["failed"]) == 4 and len(told["combinations"]) == 2
    assert "tiers.hbm.capacity" in told["failed"][0]["error"][0]
    results = load_results(tmp_path / "out")
    assert (
        len(results) == 4
        and results.missing == 0
        and {one.name for one in results.failed} == {"0000", "0001", "0002", "0003"}
    )


def test_any_other_error_is_recorded_by_its_type_and_place(sweep_file, tmp_path, monkeypatch):
    def run(self, scenario, inputs, label, progress=None):
        return 1 / (scenario.seed - 2) and run_one(self, scenario, inputs, label, progress)

    run_one = HierarchyKind.run
    monkeypatch.setattr(HierarchyKind, "run", run)
    results = run_sweep(sweep_file, out=tmp_path / "out", executor=Here())
    assert [run.seed for run in results] == [1] * 3
    error = results.failed[0].error
    assert error[0] == "ZeroDivisionError: division by zero" and "test_sweep.py" in error[1]


def test_a_full_disk_is_one_error_and_loses_nothing(whole, sweep_file, tmp_path, monkeypatch):
    write, left = result_files.write_files, [2]

    def full(folder, tables, documents):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(folder, tables, documents)

    monkeypatch.setattr(result_files, "write_files", full)
    with pytest.raises(running.Stopped, match="No space left on device"):
        run_sweep(sweep_file, out=tmp_path / "out", executor=Here())
    assert len(load_results(tmp_path / "out")) == 2
    monkeypatch.undo()
    run_sweep(sweep_file, out=tmp_path / "out", executor=Here(), resume=True)
    assert contents(tmp_path / "out") == contents(whole)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_a_process_of_ours_that_is_killed_loses_nothing(whole, sweep_file, tmp_path):
    killed = []

    def kill_one(done, failed, total):
        if not killed:
            working = [pid for pid in children(os.getpid()) if not children(pid) and b"forkserver" in command_of(pid)]
            killed.append(max(working))  # the forkserver itself has children, or an older number
            os.kill(killed[0], signal.SIGKILL)

    results = run_sweep(sweep_file, out=tmp_path / "out", jobs=2, progress=kill_one)
    assert killed and len(results) == 6
    assert contents(tmp_path / "out") == contents(whole)


def command_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


class Dying(Here):
    """Its process ends whenever it runs this point."""

    def __init__(self, name):
        self.name, self.deaths = name, 0

    def submit(self, function, /, *arguments, **named):
        if function is running.run_point and arguments[0].name == self.name:
            self.deaths += 1
            future: Future = Future()
            future.set_exception(BrokenProcessPool("ended"))
            return future
        return super().submit(function, *arguments, **named)


class Renewed(GivenWorkers):
    def renew(self):
        return True


def test_a_point_that_ends_its_process_fails_alone(sweep_file, tmp_path):
    dying = Dying("0002")
    results = run_plan(plan_of(load_sweep(sweep_file)), tmp_path / "out", Renewed(dying, 2))
    assert [one.name for one in results.failed] == ["0002"] and len(results) == 5 and dying.deaths == 2
    assert "the process that ran it ended" in results.failed[0].error[0]


def test_an_executor_that_is_gone_is_told(sweep_file, tmp_path):
    with pytest.raises(running.Stopped, match=r"processes have ended.*--resume"):
        run_sweep(sweep_file, out=tmp_path / "out", executor=Dying("0002"))


# ---------------------------------------------------------------------------------------------------------- shared work


def test_inputs_that_runs_share_are_made_once(sweep_file, tmp_path, monkeypatch):
    made = []
    inputs = HierarchyKind.inputs
    monkeypatch.setattr(
        HierarchyKind, "inputs", lambda self, one, others=(): made.append(one.seed) or inputs(self, one)
    )
    run_sweep(sweep_file, out=tmp_path / "out", executor=Here())
    assert sorted(made) == [1, 2]
    assert not (tmp_path / "out" / "shared").exists()


def test_shared_inputs_keep_the_calls_of_a_language_model(tmp_path):
    kind = named("serving")
    scenario = kind.load("serving_chat", {"workload.parameters.requests": 50})
    task = Task(str(tmp_path), "test", "0000", "serving", scenario, "", "key")
    prepared = prepare(task, str(tmp_path / "calls.dense")).prepared
    there, here = open_dense(Path(prepared.folder)).only(prepared.columns), kind.inputs(scenario)
    assert there.columns == here.columns and there.computed_digest() == here.digest == there.digest
    assert there.calls._fields == here.calls._fields
    for told, own in zip(there.calls, here.calls, strict=True):
        np.testing.assert_array_equal(told, own)
    for name in here.columns:
        np.testing.assert_array_equal(there.column(name), here.column(name))


def test_what_compiles_alike_waits_for_the_first_of_it(sweep_file, tmp_path):
    class Counting(Here):
        def __init__(self):
            self.order = []

        def submit(self, function, /, *arguments, **named):
            self.order.append(arguments[0].scenario.tiers["lpddr"].eviction.name)
            return super().submit(function, *arguments, **named)

    counting = Counting()
    text = SWEEP.replace("tiers.lpddr.capacity: [20%, 40%]", "tiers.lpddr.eviction: [lru, fifo]")
    sweep_file.write_text(text.replace("where: tiers.hbm.capacity < tiers.lpddr.capacity", "").replace("seeds: 2", ""))
    run_sweep(sweep_file, out=tmp_path / "out", executor=counting, jobs=4)
    assert counting.order[1:3] == ["lru", "fifo"]  # after the shared trace, one of each before the second of any
