"""Sweeps on a Dask cluster: a real scheduler and two worker processes on the loopback interface."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sim
from sim.errors import InputError
from sim.result_set import load_results
from sim.sweep.executors import workers_of
from sim.sweep.planning import plan_of
from sim.sweep.spec import load_sweep
from sim.sweep.sweeping import run_plan

pytest.importorskip("distributed")
ROOT = Path(__file__).parent.parent
SWEEP = """
name: small
description: a few sizes and policies
scenario: zipf_three_tier
set: {workload.parameters.requests: 2000, workload.parameters.objects: 500}
fields: {tiers.hbm.capacity: {from: 4%, to: 20%, steps: 12}}
seeds: 2
"""


def started(*arguments, folder):
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (folder / "dask.log").open("a") as log:
        line = [sys.executable, "-m", *arguments]
        return subprocess.Popen(line, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, stdout=log, stderr=log)


def worker(address, folder):
    more = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]
    return started("distributed.cli.dask_worker", address, *more, folder=folder)


def ready(address, count):
    from distributed import Client

    with Client(address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)


@pytest.fixture
def cluster(tmp_path):
    """The scheduler's address, and its two workers."""
    told = tmp_path / "scheduler.json"
    more = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told)]
    processes = [started("distributed.cli.dask_scheduler", *more, folder=tmp_path)]
    try:
        until = time.monotonic() + 60
        while not (told.is_file() and told.read_text().endswith("}")) and time.monotonic() < until:
            time.sleep(0.05)
        address = json.loads(told.read_text())["address"]
        processes += [worker(address, tmp_path), worker(address, tmp_path)]
        ready(address, 2)
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SWEEP)
    return plan_of(load_sweep(path))


def test_a_lost_worker_loses_nothing_and_repeats_nothing(cluster, plan, tmp_path):
    address, workers = cluster
    counts = []

    def progress(done, failed, total):
        counts.append((done, failed, total))
        if done == 4:
            workers[0].kill()

    out = tmp_path / "out"
    results = run_plan(plan, out, workers_of("dask", None, address), progress=progress)
    assert counts == [(at, 0, 24) for at in range(1, 25)] and len(results) == 24
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "runs", "summary.csv"]
    assert sorted(path.name for path in (out / "runs").iterdir()) == [f"{at:04}" for at in range(24)]
    last = results.runs[-1]
    alone = sim.run("zipf_three_tier", {**plan.sweep.set, **last.values}, last.seed)
    assert alone.summary == last.result.summary


def test_a_worker_that_does_not_see_the_folder_is_told(cluster, plan, tmp_path, monkeypatch):
    from sim.sweep import dask_workers

    monkeypatch.setattr(dask_workers.work, "sees", lambda path: (sim.__version__, False))
    with pytest.raises(InputError, match=r"does not see the sweep's folder.*--out"):
        run_plan(plan, tmp_path / "out", workers_of("dask", None, cluster[0]))
    assert len(load_results(tmp_path / "out")) == 0


def test_a_scheduler_that_is_not_there_is_one_error_in_seconds(plan, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    for wrong in (address, "nonsense://x"):
        with pytest.raises(InputError, match="no Dask scheduler answers"):
            run_plan(plan, tmp_path / "out", workers_of("dask", None, wrong))
        assert not (tmp_path / "out").exists()
