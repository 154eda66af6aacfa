"""The log of a serving engine: it changes nothing, and adds up to what the run counts."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from sim.serving import log, simulation
from sim.serving.network import PURPOSES
from sim.timeline.running import make_timeline
from tests.serving_workloads import random_setup
from tests.trace_event_checker import end_ns, problems, read


def logged(setup):
    """The run and its records, float64[n, 1 + COLUMNS] with the engine's number first."""
    pieces = [np.zeros((0, 1 + log.COLUMNS))]
    run = simulation.run(setup, log=lambda number, records: pieces.append(np.insert(records, 0, number, axis=1)))
    return run, np.concatenate(pieces)


def of_kind(records, kind):
    return records[records[:, 1 + log.KIND] == kind]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("room", [1, 1 << 14])
def test_a_log_adds_up_and_changes_nothing(seed, room, monkeypatch):
    """A small one is full all the time, and stops what is done in one go."""
    monkeypatch.setattr(simulation, "_FEWEST_LOG_RECORDS", room)
    setup = random_setup(np.random.default_rng([seed, 31]), tiers=1 + seed % 3)
    plain = simulation.run(setup)
    run, records = logged(setup)
    for name, column in plain.calls.items():
        assert np.array_equal(column, run.calls[name], equal_nan=column.dtype.kind == "f")
    assert plain.traffic_bytes == run.traffic_bytes
    iterations = of_kind(records, log.ITERATION)[:, 1:]
    assert len(iterations) == run.iterations
    assert (iterations[1:, log.START_NS] >= iterations[:-1, log.END_NS]).all(), "one after the other"
    assert (iterations[:, log.END_NS] > iterations[:, log.START_NS]).all()
    assert (iterations[:, log.PREFILLS] <= iterations[:, log.SEQUENCES]).all()
    done = run.calls["status"] == 0
    made = run.calls["computed_tokens"].sum() + run.calls["recomputed_tokens"].sum()
    assert iterations[:, log.TOKENS].sum() == made + run.calls["generated_tokens"].sum() - done.sum()
    copies = of_kind(records, log.COPY)[:, 1:]
    for code, purpose in enumerate(PURPOSES):
        own = copies[copies[:, log.PURPOSE] == code]
        assert own[:, log.BLOCKS].sum() * run.block_bytes == run.loads[f"{purpose}_bytes"]
        assert (own[:, log.END_NS] - own[:, log.START_NS]).sum() == pytest.approx(run.loads[f"{purpose}_ns"])
    preempted = of_kind(records, log.PREEMPTION)[:, 1 + log.CALL].astype(int)
    assert (np.bincount(preempted, minlength=done.size) == run.calls["preemptions"]).all()


def test_a_timeline_of_a_run_simulated_again(tmp_path):
    """Iterations, copies and calls of a small run, from its folder alone."""
    result = sim.run("serving_chat", {"workload.parameters.requests": 12})
    result = result.saved(tmp_path / "run")
    make_timeline(result, tmp_path / "a.json", most=1_000_000)
    trace = read(tmp_path / "a.json")
    assert problems(trace) == []
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    moved = {purpose: 0 for purpose in PURPOSES}
    for event in slices:
        if event["cat"] == "copy":
            moved[event["name"]] += event["args"]["bytes"]
    assert moved == {purpose: result.manifest["loads"][f"{purpose}_bytes"] for purpose in PURPOSES}
    assert sum(moved.values()) > 0
    table = result.requests
    tokens = sum(event["args"]["tokens"] for event in slices if event["cat"] == "iteration")
    assert tokens == (table.computed_tokens + table.recomputed_tokens + table.generated_tokens - 1).sum()
    firsts = {end_ns(event) for event in slices if event["cat"] == "iteration" and event["args"]["prefills"]}
    assert {round(at) for at in table.first_token_ns} <= firsts, "a first token comes with the end of a prefill"
