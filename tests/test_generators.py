"""Generators: what they draw follows the law they name, and the same seed gives the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from sim import registry
from sim.errors import InputError
from sim.trace_loading import generate

NAMES = ("drifting", "looping", "scan_zipf", "sequential", "uniform", "zipf")
ARRIVALS = ("poisson", "constant", "bursty", "closed", "none")


def test_every_generator_is_registered():
    assert set(NAMES) <= set(registry.names(registry.GENERATOR))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arrival", ARRIVALS)
def test_same_seed_same_trace(name, arrival):
    params = {"requests": 3000, "arrival": arrival, "size": "lognormal", "write_ratio": 0.4}
    first, again, other = (generate(name, params, seed) for seed in (5, 5, 6))
    assert first.digest == again.digest
    assert first.digest != other.digest
    assert first.n_requests == 3000
    timed = {"closed": {"think_ns"}, "none": set()}.get(arrival, {"arrival_ns"})
    assert first.columns == {"block", "size_bytes", "op"} | timed


@pytest.mark.parametrize("name", NAMES)
def test_a_trace_longer_than_a_chunk_continues(name):
    trace = generate(name, {"requests": 600_000, "arrival": "bursty"}, 1)
    assert trace.n_requests == 600_000
    assert (np.diff(trace.column("arrival_ns")) >= 0).all()


def test_a_longer_trace_begins_like_a_shorter_one():
    short, long = (generate("zipf", {"requests": n, "arrival": "poisson"}, 3) for n in (1000, 400_000))
    for name in short.columns:
        assert np.array_equal(short.column(name), long.column(name)[:1000])


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.4])
def test_zipf_slope(alpha):
    params = {"requests": 400_000, "objects": 1000, "alpha": alpha, "shuffle": False, "arrival": "none"}
    trace = generate("zipf", params, 2)
    counts = np.zeros(1000)
    counts[trace.address] = np.bincount(trace.column("block"), minlength=trace.n_blocks)
    weights = np.arange(1, 1001.0) ** -alpha
    expected = 400_000 * weights / weights.sum()
    often = expected > 50
    chi2 = ((counts - expected)[often] ** 2 / expected[often]).sum()
    degrees = np.count_nonzero(often)
    assert abs(chi2 - degrees) < 6 * np.sqrt(2 * degrees)
    slope = np.polyfit(np.log(np.arange(1, 101)), np.log(counts[:100]), 1, w=np.sqrt(counts[:100]))[0]
    assert slope == pytest.approx(-alpha, abs=0.03)


def test_zipf_of_one_object_and_of_steep_popularity():
    assert generate("zipf", {"requests": 100, "objects": 1}, 0).n_blocks == 1
    assert generate("zipf", {"requests": 1000, "objects": 100, "alpha": 20}, 0).address.size == 1


def test_shuffling_moves_only_the_addresses():
    shuffled, plain = (generate("zipf", {"requests": 2000, "shuffle": s, "arrival": "none"}, 4) for s in (True, False))
    assert shuffled.n_blocks > 100
    assert sorted(shuffled.address) != sorted(plain.address)


def test_uniform_is_uniform():
    trace = generate("uniform", {"requests": 200_000, "objects": 100}, 1)
    counts = np.bincount(trace.column("block"))
    assert counts.size == 100
    assert abs(((counts - 2000) ** 2 / 2000).sum() - 99) < 6 * np.sqrt(2 * 99)


def test_scans():
    assert generate("sequential", {"requests": 500}, 0).column("block").tolist() == list(range(500))
    loop = generate("looping", {"requests": 500, "objects": 7}, 0)
    assert loop.column("block").tolist() == [i % 7 for i in range(500)]


def test_scan_zipf_mixes_whole_scans_into_zipf():
    params = {"requests": 300_000, "objects": 100, "scan_objects": 5000, "scan_length": 50, "scan_share": 0.3}
    trace = generate("scan_zipf", params, 1)
    ids = trace.address[trace.column("block")]
    scanned = (ids >= 100).reshape(-1, 50)
    assert (scanned.all(axis=1) | ~scanned.any(axis=1)).all()
    assert scanned.mean() == pytest.approx(0.3, abs=0.03)
    assert np.array_equal(ids[ids >= 100] - 100, np.arange(np.count_nonzero(ids >= 100)) % 5000)


def test_drifting_working_set():
    params = {"requests": 10_000, "objects": 100_000, "working_set": 50, "drift": 0.5, "alpha": 0.0}
    trace = generate("drifting", params, 1)
    ids = trace.address[trace.column("block")]
    newest = 49 + np.floor(np.arange(10_000) * 0.5)
    age = newest - ids
    assert age.min() >= 0
    assert age.max() == 49
    assert age.mean() == pytest.approx(24.5, abs=1)


def test_poisson_gaps():
    trace = generate("uniform", {"requests": 200_000, "rate_per_s": 2e6}, 3)
    gaps = np.diff(trace.column("arrival_ns"))
    assert gaps.mean() == pytest.approx(500, rel=0.015)
    assert gaps.var() == pytest.approx(500**2, rel=0.04)
    counts = np.bincount((trace.column("arrival_ns") // 10_000).astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.06)


def test_constant_gaps():
    gaps = np.diff(
        generate("uniform", {"requests": 1000, "arrival": "constant", "rate_per_s": 1e6}, 3).column("arrival_ns")
    )
    assert gaps == pytest.approx(1000)


def test_bursts_keep_the_mean_rate_and_are_overdispersed():
    params = {"requests": 500_000, "arrival": "bursty", "rate_per_s": 1e6, "burst_ns": 50_000, "burst_factor": 8}
    arrival_ns = generate("uniform", params, 3).column("arrival_ns")
    assert arrival_ns[-1] / 500_000 == pytest.approx(1000, rel=0.05)
    counts = np.bincount((arrival_ns // 20_000).astype(int))
    assert counts.var() / counts.mean() > 10


def test_bursts_with_silence_between():
    params = {"requests": 20_000, "arrival": "bursty", "burst_factor": 10, "burst_share": 0.1, "burst_ns": 20_000}
    gaps = np.diff(generate("uniform", params, 3).column("arrival_ns"))
    assert gaps.min() >= 0
    assert np.median(gaps) == pytest.approx(100 * np.log(2), rel=0.1)
    assert gaps.max() > 50_000


def test_think_times():
    drawn = generate("uniform", {"requests": 100_000, "arrival": "closed", "think_ns": 300}, 1).column("think_ns")
    assert drawn.mean() == pytest.approx(300, rel=0.02)
    fixed = generate("uniform", {"requests": 10, "arrival": "closed", "think": "constant", "think_ns": 300}, 1)
    assert (fixed.column("think_ns") == 300).all()
    assert "arrival_ns" not in fixed.columns


@pytest.mark.parametrize("size", ["constant", "uniform", "lognormal", "exponential"])
def test_sizes_belong_to_objects_and_have_the_mean(size):
    params = {"requests": 300_000, "objects": 50_000, "size": size, "size_bytes": "64 KiB", "size_max_bytes": "64 MiB"}
    trace = generate("uniform", {**params, **({"size_max_bytes": 131071} if size == "uniform" else {})}, 1)
    assert np.array_equal(trace.block_bytes[trace.column("block")], trace.column("size_bytes"))
    assert trace.block_bytes.mean() == pytest.approx(65536, rel=0.03)


def test_writes():
    assert generate("zipf", {"write_ratio": 0.25}, 1).column("op").mean() == pytest.approx(0.25, abs=0.01)
    assert generate("zipf", {}, 1).column("op").sum() == 0


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("zpf", {}, "did you mean 'zipf'"),
        ("zipf", {"reqests": 5}, "did you mean 'requests'"),
        ("zipf", {"requests": 0}, "at least 1"),
        ("zipf", {"requests": 1.5}, "whole number"),
        ("zipf", {"requests": "many"}, "whole number"),
        ("zipf", {"alpha": float("nan")}, "a number"),
        ("zipf", {"size": "gaussian"}, "size"),
        ("zipf", {"size_bytes": "4 kiB"}, "4 kiB"),
        ("zipf", {"size_bytes": 0}, "at least 1"),
        ("zipf", {"size_min_bytes": 5, "size_max_bytes": 4}, "size_min_bytes"),
        ("zipf", {"size": "uniform", "size_min_bytes": 5000}, "outside"),
        ("zipf", {"write_ratio": 1.1}, "at most 1"),
        ("zipf", {"arrival": "bursty", "burst_factor": 11}, "mean rate"),
        ("zipf", {"arrival": "bursty", "burst_ns": 0.001}, "burst_ns"),
        ("sequential", {"objects": 5}, "objects"),
    ],
)
def test_bad_parameters(name, params, message):
    with pytest.raises(InputError, match=message):
        generate(name, params, 0)


@pytest.mark.parametrize("seed", [-1, 1.5, "x", None])
def test_bad_seed(seed):
    with pytest.raises(InputError, match="seed"):
        generate("zipf", {"requests": 10}, seed)
