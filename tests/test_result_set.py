"""Results of many runs together: found in folders, as tidy tables, over seeds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import sim
from sim.errors import InputError
from sim.estimates import estimate, student_quantile
from sim.result_set import POINTS_FORMATS, load_result, load_results

SMALL = {"workload.parameters.requests": 400, "workload.parameters.objects": 100}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared") / "out"
    sim.compare("zipf_three_tier", ["fifo", "lru"], overrides=SMALL, out=folder)
    return folder


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep's folder as `sim.result_set` says one is: two capacities by three seeds, one failed, one missing."""
    folder = tmp_path_factory.mktemp("swept")
    points = [
        {"name": f"{at:04}", "values": {"tiers.hbm.capacity": capacity}, "seed": seed, "scenario": "hierarchy"}
        for at, (capacity, seed) in enumerate((c, s) for c in ("4%", "20%") for s in range(4))
    ]
    for point in points[:6]:
        sim.run("zipf_three_tier", SMALL | point["values"], point["seed"], folder / "runs" / point["name"])
    (folder / "runs" / "0006.error.json").write_text(json.dumps({"error": ["too small"]}))
    manifest = {"format": POINTS_FORMATS[0], "name": "swept", "sweep": {}, "points": points}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_one_run_a_comparison_and_several_folders_are_sets(compared):
    assert [run.name for run in load_results(compared / "lru")] == ["lru"]
    assert [run.name for run in load_results(compared)] == ["fifo", "lru"]
    assert [run.name for run in load_results(compared, compared / "lru")] == ["fifo", "lru", "lru (2)"]


def test_the_tables_say_what_the_runs_say(compared):
    results = load_results(compared)
    summary = results.summary.set_index("run")
    assert summary.loc["lru", "latency_mean_ns"] == load_result(compared / "lru").summary["latency_mean_ns"]
    units = results.metrics.set_index(["run", "metric"])
    assert units.loc[("fifo", "tier.hbm.read_bytes"), "unit"] == "B"
    assert units.loc[("fifo", "hit_ratio"), "better"] == "higher"
    requests = results.table("requests")
    assert requests.columns[0] == "run" and len(requests) == 2 * 400
    with pytest.raises(InputError, match="did you mean 'requests'"):
        results.table("request")
    with pytest.raises(InputError, match="did you mean 'hit_ratio'"):
        results.declaration("hit_rato")


def test_a_sweep_tells_what_failed_and_what_is_missing(swept):
    results = load_results(swept)
    assert len(results) == 6 and results.missing == 1
    assert [one.error for one in results.failed] == [("too small",)]
    assert results.fields == ("tiers.hbm.capacity",)


def test_seeds_are_taken_together(swept):
    results = load_results(swept)
    table = results.over_seeds(["hit_ratio"])
    assert list(table["tiers.hbm.capacity"]) == ["4%", "20%"] and list(table["runs"]) == [4, 2]
    first = results.summary[results.summary["tiers.hbm.capacity"] == "4%"]["hit_ratio"]
    assert table["hit_ratio"][0] == pytest.approx(first.mean())
    assert table["hit_ratio.low"][0] < first.mean() < table["hit_ratio.high"][0]


def test_the_interval_is_students():
    assert student_quantile(0.975, 9) == pytest.approx(2.262157, abs=1e-6)  # any table of the distribution
    told = estimate([1.0, 2.0, 3.0])
    assert told.mean == 2 and told.high - told.mean == pytest.approx(4.302653 * 1 / math.sqrt(3), abs=1e-5)
    assert math.isnan(estimate([1.0]).low) and estimate([1.0]).mean == 1


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(5)
    told = [estimate(rng.normal(7, 2, 5)) for _ in range(4000)]
    assert np.mean([one.low <= 7 <= one.high for one in told]) == pytest.approx(0.95, abs=0.012)


def test_folders_without_results_are_told(tmp_path, compared):
    with pytest.raises(InputError, match="no such folder"):
        load_results(tmp_path / "none")
    with pytest.raises(InputError, match="not results of a run"):
        load_results(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "memhier sweep 99", "points": []}))
    with pytest.raises(InputError, match="not results of this version"):
        load_results(tmp_path)
