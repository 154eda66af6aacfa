"""Metrics: what a summary holds, against a run worked out by hand and the laws of a real one."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import pytest

from sim import metrics
from sim.engines.block_cache import DELAYED_HIT, FETCH, HIT
from sim.engines.columns import make_columns
from sim.engines.residency import COUNTS
from sim.errors import InputError
from sim.profile import load_profile

SMALL = """
name: small
description: a test
system: gh200
workload:
  generator: zipf
  parameters: {requests: 600, objects: 60, size: lognormal, size_bytes: 64 KiB, size_min_bytes: 4 KiB,
               size_max_bytes: 256 KiB, write_ratio: 0.1, rate_per_s: 200000}
tiers:
  hbm: {capacity: 10%, allocator: buddy}
  lpddr: {capacity: 25%, allocator: first_fit}
monitor: {every: 100 us}
seed: 5
"""


@functools.cache
def small_runs(folder) -> tuple:
    """Simulations of a small scenario, one with more room than the other; policies are alike, so code compiles once."""
    from sim.scenario import load_scenario
    from sim.simulation import simulate

    path = folder / "small.yaml"
    path.write_text(SMALL)
    return tuple(simulate(load_scenario(path, {"tiers.hbm.capacity": capacity})) for capacity in ("10%", "20%"))


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> tuple:
    return small_runs(tmp_path_factory.getbasetemp())


def by_hand() -> SimpleNamespace:
    """Four requests on two tiers and one link: a fetch, a delayed hit on it, a hit, and one that is never answered."""
    profile = load_profile("gh200")
    tiers, c2c = ("hbm", "lpddr"), profile.links["c2c"]
    hbm, lpddr = (profile.tier(name).device for name in tiers)
    counts = np.zeros((2, len(COUNTS)), np.int64)
    counts[0, [COUNTS.index(name) for name in ("lookups", "lookup_bytes", "hits", "hit_bytes")]] = 4, 400, 2, 100
    counts[1, [COUNTS.index(name) for name in ("lookups", "lookup_bytes", "hits", "hit_bytes")]] = 2, 300, 2, 300
    columns = [
        SimpleNamespace(part=part, name=name, direction=way, device=device)
        for part, name, device, ways in (
            ("tier", "hbm", hbm, ("read", "write")),
            ("tier", "lpddr", lpddr, ("read", "write")),
            ("link", "c2c", c2c, ("up", "down")),
        )
        for way in ways
    ]
    engine = SimpleNamespace(
        answers=SimpleNamespace(
            latency_ns=np.array([100.0, 60.0, 20.0, np.nan]),
            arrival_ns=np.array([0.0, 40.0, 80.0, 120.0]),
            parts_ns=np.array([[10, 70, 20, 0], [0, 0, 0, 60], [5, 15, 0, 0], [0, 0, 0, 0]], np.float32),
            level=np.array([1, 0, 0, 1], np.int8),
            outcome=np.array([FETCH, DELAYED_HIT, HIT, FETCH], np.int8),
        ),
        traffic=SimpleNamespace(
            bytes=np.array([[50, 0], [0, 100], [300, 0], [0, 0], [300, 0], [0, 7]]),
            wait_ns=np.array([0.0, 20.0, 30.0, 0.0, 10.0, 40.0]),
        ),
        res=SimpleNamespace(counts=counts, size_of=np.array([100, 50])),
        work=SimpleNamespace(columns=make_columns(np.array([0, 0, 1, 1]), size_bytes=np.zeros(0, np.int64))),
    )
    samples = {"time_ns": np.array([0.0, 100.0, 200.0])}
    for name, values in {
        "used_bytes": [0, 60, 60],
        "free_bytes": [100, 20, 0],
        "largest_free_bytes": [100, 5, 0],
        "internal_bytes": [0, 20, 40],
    }.items():
        samples[f"tier.hbm.{name}"] = np.array(values)
    return SimpleNamespace(
        profile=SimpleNamespace(tiers=profile.tiers, links={"c2c": c2c}),
        hierarchy=SimpleNamespace(
            profile=SimpleNamespace(links={"c2c": c2c}),
            tiers=tiers,
            plans=[SimpleNamespace(name="hbm", capacity_bytes=100)],
            columns=columns,
            engine=engine,
            busy_ns=lambda: np.array([50.0, 100.0, 20.0, 2.0]),
        ),
        samples=samples,
        duration_ns=200.0,
    )


def test_against_a_run_worked_out_by_hand():
    simulation = by_hand()
    summary = metrics.summarise(simulation)
    expected = {
        "latency_mean_ns": 60.0,
        "latency_p50_ns": 60.0,
        "latency_p99_9_ns": 100.0,
        "latency_max_ns": 100.0,
        "queue_mean_ns": 5.0,
        "wait_mean_ns": 20.0,
        "throughput_requests_per_s": 1.5e7,
        "throughput_bytes_per_s": 1.25e9,
        "requests": 4,
        "completed": 3,
        "duration_s": 2e-7,
        "hit_ratio": 0.5,
        "read_hit_ratio": 2 / 3,
        "delayed_hits": 1,
        "tier.hbm.hit_ratio": 0.5,
        "tier.hbm.byte_hit_ratio": 0.25,
        "tier.hbm.delayed_hits": 1,
        "tier.lpddr.hit_ratio": 1.0,
        "tier.hbm.utilisation": 0.25,
        "tier.lpddr.queue_length_mean": 0.15,
        "tier.hbm.write_bytes": 100,
        "tier.hbm.occupancy_mean_bytes": 45.0,
        "tier.hbm.occupancy_max_bytes": 60,
        "tier.hbm.internal_fragmentation": 0.225,
        "tier.hbm.external_fragmentation": 0.375,
        "tier.hbm.external_fragmentation_max": 0.75,
        "tier.hbm.waste_mean_bytes": 20.0,
        "link.c2c.up_bytes": 300,
        "link.c2c.down_bytes": 7,
        "link.c2c.up_utilisation": 0.1,
        "link.c2c.queue_length_mean": 0.25,
        "bytes_moved": 307,
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)
    parts = [*(tier.device for tier in simulation.profile.tiers), simulation.profile.links["c2c"]]
    hbm, lpddr, c2c = (simulation.hierarchy.columns[at].device for at in (0, 2, 4))
    picojoules = 8 * (
        50 * hbm.read_pj_per_bit + 100 * hbm.write_pj_per_bit + 300 * lpddr.read_pj_per_bit + 307 * c2c.read_pj_per_bit
    )
    assert summary["energy_j"] == pytest.approx(picojoules * 1e-12 + sum(p.static_w for p in parts) * 2e-7)
    per_hour = sum(part.usd_per_hour for part in parts)
    assert summary["cost_usd_per_hour"] == pytest.approx(per_hour)
    assert summary["cost_usd_per_million_requests"] == pytest.approx(per_hour * 2e-7 / 3600 / 3 * 1e6)


def test_the_last_tier_has_no_metrics_of_a_cache():
    summary = metrics.summarise(by_hand())
    assert "tier.hbm.evictions" in summary
    assert "tier.lpddr.evictions" not in summary


def test_every_metric_is_declared_once_and_summarised_in_that_order(runs):
    names = [metric.name for metric in metrics.METRICS]
    assert len(set(names)) == len(names)
    for summary in (metrics.summarise(by_hand()), metrics.summarise(runs[0])):
        assert {metrics.declaration(name).name for name in summary} == set(names)
        order = [names.index(metrics.declaration(name).name) for name in summary if "." not in name]
        assert order == sorted(order)


def test_units_stand_in_the_names():
    for metric in metrics.METRICS:
        assert metric.better in ("higher", "lower", "neither")
        for ending, unit in {"_ns": "ns", "_bytes": "B", "_s": "s", "_j": "J"}.items():
            if metric.name.endswith(ending) and not metric.name.endswith("per_s"):
                assert metric.unit == unit


def test_an_unknown_metric():
    assert metrics.declaration("tier.any.hit_ratio").unit == "1"
    for name in ("latency", "tier.any.hit", "link.x.hit_ratio"):
        with pytest.raises(InputError, match="unknown metric"):
            metrics.declaration(name)


def test_best():
    assert metrics.best("hit_ratio", {"a": 0.1, "b": 0.3, "c": 0.3}) == ["b", "c"]
    assert metrics.best("latency_mean_ns", {"a": 1.0, "b": 3.0}) == ["a"]
    assert metrics.best("latency_mean_ns", {"a": 1.0, "b": 1.0}) == []
    assert metrics.best("requests", {"a": 1, "b": 2}) == []


def test_laws_of_a_real_run(runs):
    for simulation in runs:
        summary = metrics.summarise(simulation)
        assert summary["completed"] == summary["requests"] == 600
        assert sum(summary[f"tier.{tier}.hits"] for tier in simulation.hierarchy.tiers) == 600
        parts = sum(summary[f"{part}_mean_ns"] for part in ("queue", "device", "link", "wait"))
        assert parts == pytest.approx(summary["latency_mean_ns"], rel=1e-5)
        ranked = np.sort(simulation.hierarchy.engine.answers.latency_ns)
        assert summary["latency_p50_ns"] == ranked[299]
        assert summary["latency_p99_9_ns"] == ranked[-1]
        assert summary["hit_ratio"] == pytest.approx(1 - summary["tier.ssd.hits"] / 600)
        for tier, plan in zip(("hbm", "lpddr"), simulation.hierarchy.plans, strict=True):
            assert 0 < summary[f"tier.{tier}.occupancy_mean_bytes"] <= summary[f"tier.{tier}.occupancy_max_bytes"]
            assert summary[f"tier.{tier}.occupancy_max_bytes"] <= plan.capacity_bytes
        assert all(isinstance(value, int | float) and np.isfinite(value) for value in summary.values())


def test_littles_law_holds_between_queue_time_and_queue_length(runs):
    """Queue lengths are sums of waits over time, of requests and of background work; requests' own waits are a part."""
    summary = metrics.summarise(runs[0])
    queued = sum(value for name, value in summary.items() if name.endswith("queue_length_mean"))
    assert queued * summary["duration_s"] * 1e9 >= summary["queue_mean_ns"] * summary["completed"] * 0.999
