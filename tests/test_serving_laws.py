"""Laws of serving: what holds of any run, or of all runs under the conditions that each test states."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sim.choice import Choice
from sim.serving import laws, simulation
from tests.serving_engines import make_calls, make_setup, options_of, serve, tiers_of
from tests.serving_workloads import MODES, random_calls, random_setup

APART_NS = 1e11


def apart(rng, most=20):
    """Calls that arrive so far apart that each has the engine for itself, and how many blocks the largest has."""
    _, prompts, block_tokens = random_calls(rng, most)
    prompts = [(given, 1 + made % 4, ids) for given, made, ids in prompts]
    largest = max(-(-(given + made) // block_tokens) for given, made, _ in prompts)
    return make_calls(prompts, APART_NS * np.arange(len(prompts)), block_tokens), block_tokens, largest


def found(run):
    return int(run.calls["hit_tokens"].sum())


@pytest.mark.parametrize("seed", range(10))
def test_blocks_and_bytes(seed):
    """No more blocks than there are at any moment, none in use at the end (see `laws`), and no byte is lost."""
    rng = np.random.default_rng([seed, 9])
    setup = random_setup(rng, tiers=1 + seed % 3)
    run = serve(make_trace(setup), setup.options, monitor_every_ns=1e6)
    used = run.samples["kv_blocks_in_use"] + run.samples["kv_blocks_cached"]
    assert (used <= run.tier_capacity_blocks[0]).all() and (run.samples["kv_blocks_cached"] >= 0).all()
    assert used.max() > 0 and run.samples["kv_blocks_in_use"][-1] == 0
    moved = run.traffic_bytes
    read = sum(moved[f"tier.{tier}.read"] for tier in run.tiers)
    assert read == sum(moved[f"tier.{tier}.write"] for tier in run.tiers)
    if len(run.tiers) > 1:
        up, down = moved["link.pcie.up"], moved["link.pcie.down"]
        assert (up, down) == (moved["tier.hbm.write"], moved["tier.hbm.read"])
    if len(run.tiers) > 2:
        ssd = moved["tier.ssd.read"], moved["tier.ssd.write"]
        assert ssd == (moved["link.nvme.up"], moved["link.nvme.down"])


def make_trace(setup):
    """The trace of an experiment, from what its engine gets."""
    work = setup.workload
    rows = [work.block[work.first_row[i] : work.first_row[i + 1]].tolist() for i in range(work.arrival_ns.size)]
    prompts = list(zip(work.input_tokens.tolist(), work.output_tokens.tolist(), rows, strict=True))
    return make_calls(prompts, work.arrival_ns, setup.blocks.block_tokens)


def test_a_run_that_contradicts_itself_is_not_given():
    setup = make_setup(make_calls([(8, 2, [1, 2])], [0]), options_of())
    engine = simulation._engines(setup, simulation._servers(setup), True)[0]
    laws.check_engines([engine])
    engine.tiers.pins[0] = 1
    with pytest.raises(laws.BrokenLaw, match="users of blocks"):
        laws.check_engines([engine])


@pytest.mark.parametrize("seed", range(6))
def test_a_second_tier_no_larger_than_the_first_adds_no_hits(seed):
    """Write-through, LRU in both, calls one after the other: what the second tier has, the first has, too.

    The room that a running call's own blocks take is the first tier's alone, so it has to be that much the larger.
    """
    trace, block_tokens, largest = apart(np.random.default_rng([seed, 1]))
    chosen = {"block_tokens": block_tokens, "kv_blocks": 2 * largest}
    one = serve(trace, options_of(**chosen))
    two = serve(trace, options_of(**chosen, tiers=tiers_of(largest, block_tokens=block_tokens)))
    assert two.calls["hit_tokens"][:, 1].sum() == 0
    assert found(two) == found(one)


@pytest.mark.parametrize("seed", range(6))
def test_an_infinite_cache_finds_most(seed):
    trace, block_tokens, largest = apart(np.random.default_rng([seed, 2]))
    best = found(serve(trace, options_of(block_tokens=block_tokens, kv_blocks=10_000)))
    for mode in MODES:
        below = tiers_of(3 * largest, block_tokens=block_tokens, offload=Choice(mode))
        run = serve(trace, options_of(block_tokens=block_tokens, kv_blocks=largest, tiers=below))
        assert found(run) <= best
    small = serve(trace, options_of(block_tokens=block_tokens, kv_blocks=largest))
    assert found(small) <= best


def mean_ttft_ns(run):
    return float((run.calls["first_token_ns"] - run.calls["arrival_ns"]).mean())


@pytest.mark.parametrize("seed", range(4))
def test_more_bandwidth_of_the_link_never_hurts(seed):
    """A theorem where calls do not overlap: hits are then the same, and each load and each copy takes no longer.

    With overlapping calls it is none: a load that ends sooner lets a call into a batch that it would have missed, which
    makes that iteration, and whoever waits behind it, later. Scheduling anomalies of this kind are Graham's (1969).
    """
    trace, block_tokens, largest = apart(np.random.default_rng([seed, 3]))
    below = tiers_of(4 * largest, 8 * largest, block_tokens=block_tokens)
    chosen = options_of(block_tokens=block_tokens, kv_blocks=largest, tiers=below)
    times = []
    for bandwidth in ("5 GB/s", "20 GB/s", "80 GB/s"):
        run = serve(trace, chosen, overrides={f"links.pcie.{way}.bandwidth": bandwidth for way in ("up", "down")})
        times.append((mean_ttft_ns(run), tuple(run.calls["hit_tokens"].sum(axis=0).tolist())))
    assert len({hits for _, hits in times}) == 1
    assert times[0][0] >= times[1][0] >= times[2][0]
    if sum(times[0][1][1:]):
        assert times[0][0] > times[2][0]


@pytest.mark.parametrize("seed", range(4))
def test_a_faster_engine_never_hurts_one_call_at_a_time(seed):
    """A theorem for one tier, max_num_seqs 1, one token of output and no cache: a queue of one server, fcfs, where
    every service is shorter. The accelerator's memory is made faster, alone. With larger batches it is none, as above.
    """
    rng = np.random.default_rng([seed, 4])
    _, prompts, block_tokens = random_calls(rng, most=40)
    trace = make_calls([(given, 1, [1]) for given, _, _ in prompts], np.sort(rng.uniform(0, 3e8, len(prompts))))
    chosen = options_of(block_tokens=block_tokens, max_num_seqs=1, prefix_caching=False)
    setup = make_setup(trace, chosen)
    machine = setup.gpu.machine
    times = []
    for factor in (0.5, 1.0, 2.0):
        faster = machine._replace(bytes_per_ns=machine.bytes_per_ns * factor)
        gpu = SimpleNamespace(machine=faster, link_bytes_per_ns=None, name="faster")
        times.append(mean_ttft_ns(simulation.run(replace(setup, gpu=gpu))))
    assert times[0] > times[1] > times[2]


def test_littles_law_of_the_waiting_queue():
    """The time-average number that waits is the rate of arrivals times the mean wait, from an empty queue to an empty
    one; looked at every quarter of a millisecond, whatever the batch."""
    rng = np.random.default_rng(11)
    n = 120
    trace = make_calls([(int(rng.integers(20, 120)), 3, [1]) for _ in range(n)], np.cumsum(rng.exponential(1.5e7, n)))
    run = serve(trace, options_of(max_num_seqs=3, prefix_caching=False), monitor_every_ns=1e6)
    waiting, times = run.samples["waiting"][:, 0], run.samples["time_ns"]
    average = (waiting[:-1] * np.diff(times)).sum() / times[-1]
    waits = run.calls["first_scheduled_ns"] - run.calls["arrival_ns"]
    assert average == pytest.approx(waits.sum() / times[-1], rel=0.01)
    assert average > 1


def test_one_call_at_a_time_is_a_queue_of_one_server():
    """Poisson arrivals, one sequence, one token: M/G/1, whose mean wait Pollaczek and Khinchine give.

    Twelve runs of 300 calls at 60 % load, each half prompts of 20 and half of 60 tokens; the mean of their means has to
    lie within three standard errors.
    """
    chosen = options_of(max_num_seqs=1, prefix_caching=False)
    lengths = (20, 60)
    alone = serve(make_calls([(length, 1, [1]) for length in lengths], [0, 1e10]), chosen)
    service = alone.calls["finish_ns"] - alone.calls["arrival_ns"]
    rate = 0.6 / service.mean()
    expected = rate * (service**2).mean() / 2 / (1 - 0.6)
    means = []
    for seed in range(12):
        rng = np.random.default_rng([seed, 12])
        prompts = [(int(length), 1, [1]) for length in rng.choice(lengths, 300)]
        run = serve(make_calls(prompts, np.cumsum(rng.exponential(1 / rate, 300))), chosen)
        means.append((run.calls["first_scheduled_ns"] - run.calls["arrival_ns"])[30:].mean())
    error = np.std(means, ddof=1) / np.sqrt(len(means))
    assert abs(np.mean(means) - expected) < 3 * error
