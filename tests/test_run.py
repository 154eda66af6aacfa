"""Whole runs: a scenario file in, a result folder out."""

import filecmp

import numpy as np
import pytest
import yaml

from sim.engines.flags import held_in
from sim.errors import InputError
from sim.running import compare, run
from sim.scenario import load_scenario
from sim.simulation import simulate

SMALL = {
    "name": "small",
    "description": "Zipf requests through memory, CXL memory and a drive.",
    "system": "cxl_pool_spr",
    "workload": {
        "generator": "zipf",
        "parameters": {
            "requests": 3000,
            "objects": 400,
            "size_bytes": "4 KiB",
            "rate_per_s": 200000,
            "write_ratio": 0.2,
        },
    },
    "tiers": {"dram": {"capacity": "10%"}, "cxl": {"capacity": "20%"}, "pool": {"offload": "none"}},
    "compare": ["lru", "fifo"],
    "seed": 3,
}


@pytest.fixture
def scenario(tmp_path):
    """Writes the small scenario with changes to its top level; gives the file's path."""

    def write(**changes):
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump({**SMALL, **changes}))
        return path

    return write


def test_same_inputs_same_bytes(scenario, tmp_path):
    for name in ("one", "two"):
        run(scenario(), out=tmp_path / name)
    same = ["requests.parquet", "tiers.parquet", "summary.json", "manifest.json"]
    assert filecmp.cmpfiles(tmp_path / "one", tmp_path / "two", same, shallow=False) == (same, [], [])


def test_summary_adds_up(scenario):
    result = run(scenario())
    summary = result.summary
    parts = sum(summary[f"{part}_mean_ns"] for part in ("queue", "device", "link", "wait"))
    assert parts == pytest.approx(summary["latency_mean_ns"], rel=1e-5)
    assert summary["requests"] == summary["completed"] == len(result.requests) == 3000
    assert result.requests["latency_ns"].mean() == pytest.approx(summary["latency_mean_ns"])
    assert 0 < summary["hit_ratio"] < 1
    assert set(result.tiers["tier"]) == {"dram", "cxl"}


def test_compare_keeps_the_order_asked_for(scenario, tmp_path):
    results = compare(scenario(), ["fifo", "lru"], out=tmp_path / "out")
    assert [result.label for result in results] == ["fifo", "lru"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fifo", "lru"]
    assert results[0].summary["requests"] == results[1].summary["requests"]


def test_migration_keeps_room(scenario):
    watermarks = {"tier": "dram", "every": "200 us", "high_watermark": 0.7, "low_watermark": 0.5}
    plain = simulate(load_scenario(scenario()))
    kept = simulate(load_scenario(scenario(migration=watermarks)))
    capacity = kept.hierarchy.plans[0].capacity_bytes
    used = kept.samples["tier.dram.used_bytes"]
    assert used.max() <= capacity
    assert (
        used[len(used) // 2 :].mean() < 0.85 * capacity < plain.samples["tier.dram.used_bytes"][len(used) // 2 :].mean()
    )
    assert not np.isnan(kept.hierarchy.engine.answers.latency_ns).any()


def test_everything_at_once(scenario):
    """Another policy in every place: prefetching, an exclusive tier, second-hit admission, allocators with holes."""
    workload = {
        "generator": "scan_zipf",
        "parameters": {
            "requests": 3000,
            "objects": 300,
            "size": "lognormal",
            "size_bytes": "4 KiB",
            "rate_per_s": 100000,
        },
    }
    tiers = {
        "dram": {"capacity": "10%", "eviction": "s3fifo", "allocator": "best_fit"},
        "cxl": {
            "capacity": "20%",
            "eviction": "arc",
            "offload": "exclusive",
            "admission": "second_hit",
            "allocator": "buddy",
        },
        "pool": {"offload": "none"},
    }
    simulation = simulate(
        load_scenario(scenario(workload=workload, tiers=tiers, prefetch={"policy": "next_n", "n": 2}))
    )
    res = simulation.hierarchy.engine.res
    resident = np.stack([held_in(res.flags, level) for level in range(len(res.levels))], axis=1)
    assert not (resident[:, 0] & resident[:, 1]).any()
    assert resident[:, 1].any()
    assert simulation.samples["tier.dram.held_blocks"].max() > 0
    from sim.engines.residency import PREFETCH_HITS, PREFETCHES

    assert 0 < res.counts[0, PREFETCH_HITS] <= res.counts[0, PREFETCHES]
    assert not np.isnan(simulation.hierarchy.engine.answers.latency_ns).any()


def test_a_place_that_cannot_be_written_is_found_before_the_run(scenario, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError):
            run(scenario(), out=out)
        with pytest.raises(InputError):
            compare(scenario(), ["lru"], out=out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "small.yaml"]


def test_a_trace_without_times_is_refused(scenario, tmp_path):
    trace = tmp_path / "ids.csv"
    trace.write_text("id,size_bytes\n1,100\n2,100\n")
    with pytest.raises(InputError, match="no arrival times"):
        run(scenario(workload={"trace": str(trace), "reader": "csv"}))


def test_a_trace_larger_than_the_last_tier_is_refused(scenario):
    huge = {"generator": "sequential", "parameters": {"requests": 300, "size_bytes": "64 GiB"}}
    tiers = {"dram": {"capacity": "256 GiB"}, "cxl": {"capacity": "64 GiB"}, "pool": {"offload": "none"}}
    with pytest.raises(InputError, match="must hold the whole trace"):
        run(scenario(workload=huge, tiers=tiers))


def test_a_comparison_against_a_policy_says_where_each_stands(scenario, tmp_path):
    results = compare(scenario(), ["fifo", "lru", "belady"], out=tmp_path / "out", against="lru")
    fifo, lru, belady = (result.summary for result in results)
    assert lru["miss_ratio_reduction"] == 0.0 == lru["part_of_the_way_to_belady"]
    assert belady["part_of_the_way_to_belady"] == 1.0
    missed = 1 - lru["hit_ratio"]
    assert fifo["miss_ratio_reduction"] == pytest.approx((fifo["hit_ratio"] - lru["hit_ratio"]) / missed)
    asked = compare(scenario(), ["fifo"], against="lru")
    assert [result.label for result in asked] == ["fifo"]
    assert asked[0].summary == fifo
