"""The timed engine against queueing theory, hand-worked cases, its untimed twin, and the laws of conservation."""

import math

import numpy as np
import pytest
from numba import config

from sim.engines import block_cache as bc
from sim.engines.flags import held_in
from sim.engines.residency import DEMOTIONS, HITS, INSERTIONS, LOOKUPS
from tests.machines import device, machine, plan, run, trace, zipf_trace

REQUESTS = 2_000 if config.DISABLE_JIT else 400_000
STUDENT_T = 3.65  # 99.9 %, 30 batches


def confidence(values, batches=30):
    """Mean and half-width of its confidence interval, from the means of consecutive batches (they depend little)."""
    means = np.array([part.mean() for part in np.array_split(values, batches)])
    return means.mean(), STUDENT_T * means.std(ddof=1) / math.sqrt(batches)


def queue(mean_service_ns, load, channels=1, exponential=True, seed=7):
    """A single device under Poisson arrivals; sizes make the service times. Returns waiting times and the run."""
    rng = np.random.default_rng(seed)
    arrival_ns = np.cumsum(rng.exponential(mean_service_ns / channels / load, REQUESTS))
    service_ns = rng.exponential(mean_service_ns, REQUESTS) if exponential else np.full(REQUESTS, mean_service_ns)
    sizes = np.maximum(1, (service_ns * 1000)).astype(np.int64)  # a channel moves 1000 bytes a nanosecond
    profile = machine(device("memory", bytes_per_ns=1000.0 * channels, channels=channels))
    ran = run(profile, [], trace(np.arange(REQUESTS), arrival_ns, sizes))
    return ran.engine.answers.parts_ns[:, bc.QUEUE_NS].astype(float), ran


def erlang_c(channels, load):
    offered = channels * load
    tail = offered**channels / math.factorial(channels) / (1 - load)
    return tail / (sum(offered**k / math.factorial(k) for k in range(channels)) + tail)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_waiting_time_of_m_m_1(load):
    mean, half = confidence(queue(1000.0, load)[0])
    assert abs(mean - 1000.0 * load / (1 - load)) < half


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_waiting_time_of_m_d_1(load):
    mean, half = confidence(queue(1000.0, load, exponential=False)[0])
    assert abs(mean - 1000.0 * load / (2 * (1 - load))) < half


@pytest.mark.parametrize("channels", [2, 4, 16])
def test_waiting_time_of_m_m_c(channels):
    load = 0.8
    mean, half = confidence(queue(1000.0, load, channels=channels)[0])
    assert abs(mean - erlang_c(channels, load) * 1000.0 / (channels * (1 - load))) < half


def test_littles_law():
    """The number in the system, looked at from outside at random times, is arrival rate times mean latency."""
    _, ran = queue(1000.0, 0.7)
    arrival_ns, latency_ns = ran.engine.answers.arrival_ns, ran.latency_ns
    end_ns = arrival_ns[-1]
    times = np.sort(np.random.default_rng(3).uniform(0.05 * end_ns, end_ns, 20_000))
    departed = np.sort(arrival_ns + latency_ns)
    present = np.searchsorted(arrival_ns, times) - np.searchsorted(departed, times)
    mean, half = confidence(present)
    assert abs(mean - latency_ns.mean() * REQUESTS / end_ns) < half


def test_busy_time_is_the_offered_load():
    _, ran = queue(1000.0, 0.6, channels=4)
    end_ns = ran.engine.clock_ns[bc.LAST_COMPLETION]
    sizes = ran.engine.work.columns.size_bytes
    assert ran.hierarchy.with_engine(ran.engine).busy_ns()[0] == pytest.approx(sizes.sum() / 4000.0, rel=1e-9)
    assert 0.5 < ran.hierarchy.busy_ns()[0] / end_ns < 0.7


def test_delayed_hits_by_hand():
    """Slow memory takes 1000 + 100 ns, fast memory 10 + 100 ns.

    a is fetched at 0, done at 1100; asked for again at 500, it waits 600 ns for that fetch; at 2000 it is a hit.
    b, fetched at 1050, shares nothing with it but the slow memory's channel, which a held until 100: done at 2150.
    At 1110 the fast memory is being filled with a (1100 to 1200), so that the hit on a waits 90 ns.
    """
    profile = machine(device("fast", latency_ns=10), device("slow", latency_ns=1000))
    ran = run(profile, [plan("fast", 1000)], trace([1, 1, 2, 1, 1], [0.0, 500.0, 1050.0, 1110.0, 2000.0]))
    assert ran.latency_ns.tolist() == [1100.0, 600.0, 1100.0, 200.0, 110.0]
    outcomes = [bc.OUTCOMES[outcome] for outcome in ran.engine.answers.outcome]
    assert outcomes == ["fetch", "delayed_hit", "fetch", "hit", "hit"]
    parts = ran.engine.answers.parts_ns
    assert parts[1].tolist() == [0, 0, 0, 600]
    assert parts[3].tolist() == [90, 110, 0, 0]


def test_a_block_evicted_on_its_way_is_fetched_once():
    """Room for one block: b evicts a while a is under way; the next request for a still waits for that fetch."""
    profile = machine(device("fast", latency_ns=10), device("slow", latency_ns=1000, channels=4, bytes_per_ns=4))
    ran = run(profile, [plan("fast", 100)], trace([1, 2, 1], [0.0, 100.0, 200.0]))
    assert ran.latency_ns.tolist() == [1100.0, 1100.0, 900.0]
    assert ran.engine.counts[bc.REJOINED] == 1
    assert ran.counts[0, HITS] == 0


def server_machine():
    links = {"bus": device("bus", 200, 16.0), "cable": device("cable", 500, 6.0)}
    return machine(
        device("fast", 100, 40.0, channels=8),
        device("middle", 300, 20.0, channels=16, interleave_bytes=256),
        device("slow", 0, 50.0, occupancy_ns=2000, channels=64),
        paths=[(), ("bus",), ("cable", "bus")],
        links=links,
    )


@pytest.mark.parametrize(("tier", "level"), [("fast", 0), ("middle", 1), ("slow", 2)])
@pytest.mark.parametrize("size", [64, 4096, 1 << 20])
def test_an_idle_path_takes_the_sum_of_latencies_and_the_least_bandwidth(tier, level, size):
    profile = server_machine()
    ran = run(profile, [plan("fast", 4 << 20), plan("middle", 64 << 20)], prepared(level, size))
    assert ran.engine.answers.level[-1] == level
    assert ran.latency_ns[-1] == pytest.approx(profile.unloaded_ns(tier, size), abs=1e-3)  # of a clock at 1e11 ns


def prepared(level, size):
    """A trace at whose end, long after the rest, block 0 is asked for and lies in that level: 4 MiB push it down."""
    pushers = np.arange(1, 1 + (4 << 20) // size) if level == 1 else []
    ids = np.concatenate([[] if level == 2 else [0], pushers, [0]])
    return trace(ids, np.arange(len(ids)) * 1e7, size)


def test_same_hits_as_the_untimed_replay():
    """Delayed hits are hits of the replay, but for those on blocks that were evicted before they had arrived."""
    from sim.engines.replay import replay

    workload = zipf_trace(REQUESTS // 4, 3000, 400.0)
    ran = run(server_machine(), [plan("fast", 30_000)], workload)
    untimed = replay(workload, policy="lru", capacity=30_000)
    assert ran.counts[0, HITS] == untimed.hits
    assert ran.counts[0, LOOKUPS] == untimed.requests
    outcome = ran.engine.answers.outcome
    assert (outcome == bc.HIT).sum() + (outcome == bc.DELAYED_HIT).sum() - ran.engine.counts[
        bc.REJOINED
    ] == untimed.hits


def test_looking_more_often_changes_nothing():
    workload = zipf_trace(REQUESTS // 10, 3000, 400.0, op=(np.arange(REQUESTS // 10) % 7 == 0).astype(np.uint8))
    plans = [plan("fast", 30_000), plan("middle", 90_000)]
    latencies = [run(server_machine(), plans, workload, every_ns).latency_ns for every_ns in (None, 1e6, 1e4)]
    assert np.array_equal(latencies[0], latencies[1])
    assert np.array_equal(latencies[0], latencies[2])


def test_conservation_and_causality():
    rng = np.random.default_rng(5)
    rows = REQUESTS // 10
    workload = zipf_trace(
        rows,
        3000,
        300.0,
        size_bytes=rng.integers(1, 9000, 3000)[rng.integers(0, 3000, rows)],
        op=(rng.random(rows) < 0.3).astype(np.uint8),
    )
    ran = run(server_machine(), [plan("fast", 600_000), plan("middle", 2_000_000)], workload, every_ns=1e5)
    engine = ran.engine
    counts, traffic = ran.counts, engine.traffic.bytes
    assert engine.counts[bc.ISSUED] == engine.counts[bc.COMPLETED] == rows
    assert not np.isnan(ran.latency_ns).any()
    assert (ran.latency_ns > 0).all()
    assert np.allclose(engine.answers.parts_ns.sum(axis=1), ran.latency_ns, rtol=1e-5)
    assert counts[:, HITS].sum() == rows
    assert (counts[1:, LOOKUPS] == counts[:-1, LOOKUPS] - counts[:-1, HITS]).all()
    for tier, capacity in (("fast", 600_000), ("middle", 2_000_000)):
        used = ran.samples[f"tier.{tier}.used_bytes"]
        assert used.max() <= capacity
        assert (used + ran.samples[f"tier.{tier}.free_bytes"] == capacity).all()
    columns = {(c.part, c.name, c.direction): traffic[at] for at, c in enumerate(ran.hierarchy.columns)}
    up = columns["link", "bus", "up"]
    assert up[bc.REQUEST] == columns["tier", "middle", "read"][bc.REQUEST] + columns["tier", "slow", "read"][bc.REQUEST]
    assert columns["link", "cable", "up"][bc.REQUEST] == columns["tier", "slow", "read"][bc.REQUEST]
    moved_down = columns["tier", "middle", "write"][bc.MOVE] + columns["tier", "slow", "write"][bc.MOVE]
    assert columns["tier", "fast", "read"][bc.MOVE] + columns["tier", "middle", "read"][bc.MOVE] == moved_down
    end_ns = engine.clock_ns[bc.LAST_COMPLETION]
    assert (ran.hierarchy.busy_ns() <= end_ns).all()
    resident = np.stack([held_in(engine.res.flags, level) for level in range(len(engine.res.levels))], axis=1)
    assert (engine.res.size_of @ resident)[:2].tolist() == [engine.res.levels[0, 1], engine.res.levels[1, 1]]
    assert counts[1, DEMOTIONS] <= counts[1, INSERTIONS]


def test_throughput_at_saturation_is_the_bottlenecks():
    """Ten times more than the cable (6 bytes/ns) can carry: it carries exactly that."""
    rows, size = REQUESTS // 20, 6000
    ran = run(server_machine(), [], trace(np.arange(rows), np.arange(rows) * 100.0, size))
    moved = ran.engine.work.columns.size_bytes.sum()
    assert moved / ran.engine.clock_ns[bc.LAST_COMPLETION] == pytest.approx(6.0, rel=0.01)


def test_more_bandwidth_never_slows_a_fifo_link():
    workload = zipf_trace(REQUESTS // 20, 5000, 500.0, size_bytes=4096)
    means = []
    for bytes_per_ns in (9.0, 12.0, 24.0):
        profile = machine(
            device("fast", 100, 40.0, channels=8),
            device("slow", 900, 50.0, channels=64),
            paths=[(), ("bus",)],
            links={"bus": device("bus", 200, bytes_per_ns)},
        )
        means.append(run(profile, [plan("fast", 400 * 4096)], workload).latency_ns.mean())
    assert means == sorted(means, reverse=True)


def test_closed_loop_has_no_more_under_way_than_clients():
    rows, clients = REQUESTS // 40, 5
    think = np.full(rows, 300.0)
    workload = trace(np.arange(rows), None, 1000, think_ns=think)
    ran = run(machine(device("memory", latency_ns=700.0, bytes_per_ns=1.0)), [], workload, clients=clients)
    arrival_ns, done_ns = ran.engine.answers.arrival_ns, ran.engine.answers.arrival_ns + ran.latency_ns
    present = np.arange(1, rows + 1) - np.searchsorted(np.sort(done_ns), np.sort(arrival_ns), side="right")
    assert present.max() == clients
    # one server of 1000 ns: with 5 clients it is always busy, and each cycle is 5 services long
    assert rows / ran.engine.clock_ns[bc.LAST_COMPLETION] == pytest.approx(1 / 1000.0, rel=0.01)
