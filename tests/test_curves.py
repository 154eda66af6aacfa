"""Miss-ratio curves: against replays, and the sampled ones against the exact."""

import csv

import numpy as np
import pytest

import sim
from sim.curves import in_sample, miss_ratio_curves, sample
from sim.errors import InputError
from sim.trace import Calls


@pytest.fixture(scope="module")
def zipf():
    settings = {"requests": 60_000, "objects": 8_000, "alpha": 0.8, "arrival": "none", "size_bytes": 512}
    return sim.generate("zipf", settings, seed=3)


def test_a_curve_is_the_replays_at_its_sizes(zipf):
    for ignore in (True, False):
        for point in miss_ratio_curves(zipf, ["lru", "sieve", "belady"], points=5, ignore_object_size=ignore):
            run = sim.replay(zipf, point.policy, point.capacity, ignore_object_size=ignore)
            assert point.miss_ratio == pytest.approx(1 - run.hit_ratio, abs=1e-12)
            assert point.byte_miss_ratio == pytest.approx(1 - run.byte_hit_ratio, abs=1e-12)


def test_one_pass_of_stack_distances_is_as_good_as_a_replay_a_size(zipf):
    sizes = [1, 7, 80, 800, zipf.n_blocks]
    for point, size in zip(miss_ratio_curves(zipf, sizes=sizes, ignore_object_size=True), sizes, strict=True):
        assert point.capacity == size
        assert point.miss_ratio == pytest.approx(sim.replay(zipf, "lru", size, True).misses / zipf.n_requests)


def test_lru_and_belady_miss_less_the_larger_the_cache(zipf):
    for policy in ("lru", "belady"):
        ratios = [point.miss_ratio for point in miss_ratio_curves(zipf, [policy], points=12, ignore_object_size=True)]
        assert ratios == sorted(ratios, reverse=True)
        assert ratios[-1] == pytest.approx(zipf.n_blocks / zipf.n_requests)  # first accesses alone


def test_results_do_not_depend_on_the_number_of_threads(zipf):
    curves = [miss_ratio_curves(zipf, ["arc", "random"], points=4, workers=workers) for workers in (1, 3)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("method, policies", [("shards", ["lru"]), ("minisim", ["lru", "s3fifo"])])
def test_samples_of_a_tenth_are_right_on_the_average(zipf, method, policies):
    settings = {"points": 6, "ignore_object_size": True}
    exact = [point.miss_ratio for point in miss_ratio_curves(zipf, policies, **settings)]
    settings |= {"method": method, "rate": 0.1}
    curves = [miss_ratio_curves(zipf, policies, seed=seed, **settings) for seed in range(12)]
    drawn = np.array([[point.miss_ratio for point in curve] for curve in curves])
    standard_error = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - exact) < 4 * standard_error + 0.01).all()  # a sample of 8 blocks is coarse


@pytest.mark.parametrize("method", ["shards", "minisim"])
def test_a_sample_of_all_is_exact(zipf, method):
    settings = {"points": 5, "ignore_object_size": True}
    exact = miss_ratio_curves(zipf, **settings)
    for true, found in zip(exact, miss_ratio_curves(zipf, method=method, rate=1.0, **settings), strict=True):
        assert found.miss_ratio == pytest.approx(true.miss_ratio, abs=1e-9)


def test_a_sample_takes_all_requests_of_an_object_or_none(zipf):
    part = sample(zipf, 0.2, seed=5)
    chosen = in_sample(zipf.address, 0.2, 5)
    assert part.n_blocks == chosen.sum() == pytest.approx(0.2 * zipf.n_blocks, rel=0.15)
    assert part.n_requests == chosen[zipf.column("block")].sum()
    assert set(part.address.tolist()) == set(zipf.address[chosen].tolist())


def test_a_sample_would_tear_calls_apart(zipf):
    each = np.array([1, 1])
    calls = Calls(each * 1.0, each, each, np.array([0, 2, 3]), each.astype(np.int32), 512)
    trace = sim.Trace.from_columns("calls", ids=[1, 2, 1], calls=calls)
    with pytest.raises(InputError, match="has LLM calls"):
        sample(trace, 0.9, 0)


def test_wrong_settings_are_one_line_each(zipf):
    for settings in (
        {"method": "guess"},
        {"rate": 0.0},
        {"rate": 1.5},
        {"points": 0},
        {"policies": []},
        {"policies": ["arc"], "method": "shards", "ignore_object_size": True},
        {"method": "shards"},
        {"method": "minisim", "rate": 1e-9},
        {"sizes": ["101%"]},
        {"sizes": [zipf.n_blocks + 1], "ignore_object_size": True},
    ):
        with pytest.raises(InputError):
            miss_ratio_curves(zipf, **settings)


def test_the_command_writes_csv_and_a_figure(tmp_path, capsys):
    from sim.cli import main

    trace = tmp_path / "t.csv"
    trace.write_text("id\n" + "\n".join(map(str, np.arange(300) % 40)) + "\n")
    with pytest.raises(SystemExit) as ended:
        main(["mrc", str(trace), "--policies", "lru,fifo", "--points", "3", "--out", str(tmp_path / "o")])
    assert ended.value.code == 0
    rows = list(csv.DictReader((tmp_path / "o" / "mrc.csv").open()))
    assert [row["policy"] for row in rows] == ["lru"] * 3 + ["fifo"] * 3
    assert (tmp_path / "o" / "mrc.png").stat().st_size > 1000
    assert "lru" in capsys.readouterr().out
