"""Devices simulated event by event inside a hierarchy: against the model driven alone, and the laws of the engine."""

import dataclasses

import numpy as np
import pytest
import simpy
from numba import config

from sim import registry
from sim.engines import block_cache as bc
from sim.engines.event_devices import FIRST_WAITING
from sim.errors import InputError
from sim.hierarchy import build
from sim.profile import load_device, load_profile, system_names
from sim.simulation import _Model
from tests.machines import device, machine, plan, run, trace, zipf_trace

REQUESTS = 60 if config.DISABLE_JIT else 400


def dram(name="dram", model="dram"):
    return dataclasses.replace(load_device("ddr4_3200"), name=name, model=model)


def driven_alone(part, arrival_ns, pieces):
    """When each piece (request, place, bytes) is done, handed over first come first served: the oracle.

    The hooks run as plain Python.
    """
    model = registry.load(registry.DEVICE_MODEL, part.model)
    state = model.init(model.of_device(part, {}))
    done_ns = np.full(len(pieces), np.nan)
    waiting, at = [], 0
    while np.isnan(done_ns).any():
        next_ns = arrival_ns[pieces[at][0]] if at < len(pieces) else np.inf
        now_ns = min(next_ns, model.next_event(state))
        for place in range(model.advance(state, now_ns)):
            done_ns[state.done_ticket[place]] = state.done_ns[place]
        while at < len(pieces) and arrival_ns[pieces[at][0]] == now_ns:
            waiting.append(at)
            at += 1
        while waiting and model.submit(state, waiting[0], now_ns, *pieces[waiting[0]][1:], False):
            waiting.pop(0)
    return done_ns


def open_loop(mean_gap_ns, size_bytes, requests=REQUESTS):
    rng = np.random.default_rng(5)
    return trace(rng.permutation(requests), np.cumsum(rng.exponential(mean_gap_ns, requests)), size_bytes)


def pieces_of(workload, chunk_bytes):
    """What each request of blocks of one size is cut into; blocks lie in order of their numbers."""
    size = int(workload.block_bytes[0])
    starts = range(0, size, chunk_bytes)
    blocks = workload.column("block").tolist()
    return [(row, block * size + at, min(chunk_bytes, size - at)) for row, block in enumerate(blocks) for at in starts]


@pytest.mark.parametrize("mean_gap_ns", [4.0, 60.0])
def test_one_tier_is_the_model_driven_alone(mean_gap_ns):
    workload = open_loop(mean_gap_ns, 64)
    ran = run(machine(dram()), [], workload)
    arrival_ns = ran.engine.answers.arrival_ns
    done_ns = driven_alone(dram(), arrival_ns, pieces_of(workload, 4096))
    assert ran.latency_ns == pytest.approx(done_ns - arrival_ns, abs=1e-6)


def test_a_large_request_is_done_with_its_last_chunk():
    workload = open_loop(2000.0, 10_000, REQUESTS // 10)
    ran = run(machine(dram()), [], workload)
    pieces = pieces_of(workload, 4096)
    done_ns = driven_alone(dram(), ran.engine.answers.arrival_ns, pieces)
    last_ns = np.zeros(len(ran.latency_ns))
    np.maximum.at(last_ns, [row for row, _, _ in pieces], done_ns)
    assert ran.latency_ns == pytest.approx(last_ns - ran.engine.answers.arrival_ns, abs=1e-6)


def test_chunks_overlap_on_their_way():
    """A link half as fast as the memory sets the pace: the first chunk is on it while the others are still read."""
    size, link = 64 * 1024, device("link", 100.0, 5.0)
    ran = run(machine(dram(), paths=[("link",)], links={"link": link}), [], trace([1], [0.0], size))
    chunk_ns = driven_alone(dram(), [0.0], [(0, 0, 4096)])[0]
    assert ran.latency_ns[0] == pytest.approx(chunk_ns + size / 5.0 + 100.0, rel=1e-3)


def two_tiers(every_ns=None, clients=None, **columns):
    """Slow memory and a fast one in front of it, both simulated event by event, with a link between."""
    profile = machine(dram("fast"), dram("slow"), paths=[(), ("link",)], links={"link": device("link", 50.0, 8.0)})
    workload = zipf_trace(4 * REQUESTS, 200, 300.0, size_bytes=6000, **columns)
    options = {"clients": clients} if clients else {}
    return run(profile, [plan("fast", 60 * 6000)], workload, every_ns=every_ns, **options)


def test_requests_and_bytes_are_conserved():
    ran = two_tiers()
    engine = ran.engine
    assert not np.isnan(ran.latency_ns).any() and (ran.latency_ns > 0).all()
    assert engine.counts[bc.FREE_COUNT] == len(engine.times)  # no transfer is lost
    assert (engine.devices.queues[:, 3] == 0).all()  # nothing is left in a device
    answered = engine.answers.outcome
    fetched = np.count_nonzero(answered == bc.FETCH) * 6000
    names = [(column.name, column.direction) for column in ran.hierarchy.columns]
    by_column = dict(zip(names, engine.traffic.bytes[:, bc.REQUEST].tolist(), strict=True))
    assert by_column["slow", "read"] == by_column["link", "up"] == fetched
    assert by_column["fast", "read"] == np.count_nonzero(answered == bc.HIT) * 6000


def test_the_parts_add_up_to_the_latency():
    ran = two_tiers()
    assert ran.engine.answers.parts_ns.sum(axis=1) == pytest.approx(ran.latency_ns, rel=1e-5)


@pytest.mark.parametrize("every_ns", [97.0, 10_000.0])
def test_looking_more_often_changes_nothing(every_ns):
    assert two_tiers(every_ns).latency_ns.tolist() == two_tiers().latency_ns.tolist()


def test_a_busy_device_was_busy_no_longer_than_the_run():
    ran = two_tiers(1000.0)
    busy_ns = np.array([ran.samples[f"busy_ns.tier.{name}"] for name in ("fast", "slow")])
    assert (np.diff(busy_ns) >= 0).all() and (busy_ns <= ran.samples["time_ns"]).all()
    assert (busy_ns[:, -1] > 0).all()


def test_a_closed_loop_ends():
    rng = np.random.default_rng(1)
    workload = trace(rng.integers(0, 50, REQUESTS), None, 4096, think_ns=np.zeros(REQUESTS))
    ran = run(machine(dram()), [], workload, clients=8)
    assert not np.isnan(ran.latency_ns).any()
    done_ns = ran.engine.answers.arrival_ns + ran.latency_ns
    assert REQUESTS * 4096 / done_ns.max() < 25.6  # the channel's peak, bytes a nanosecond


@pytest.mark.parametrize("name", system_names())
def test_every_shipped_system_can_be_simulated_in_detail(name):
    """Each of its tiers, with the links on its way; but for several drives side by side, which is said."""
    profile = load_profile(name, {"fidelity": "detailed"})
    for tier in profile.tiers:
        alone = dataclasses.replace(profile, tiers=(tier,), links={link: profile.links[link] for link in tier.path})
        parts = {part.model for part in (tier.device, *alone.links.values())} - {"fixed"}
        if tier.device.model in ("csd", "nand", "cxl") and tier.device.count > 1:
            with pytest.raises(InputError, match="stands for one part, and the system has"):
                build(alone, [], open_loop(100.0, 64, 4))
            continue
        devices = build(alone, [], open_loop(100.0, 64, 4)).engine.devices
        assert {plugin.name for plugin in devices.model.plugins} == parts


def test_parts_side_by_side_have_so_much_more():
    """Eight stacks of HBM are one memory with eight times the channels, and capacity."""
    profile = load_profile("larc_cmg", {"fidelity": "detailed", "tiers.hbm.count": 2})
    one = profile.tier("hbm").device
    assert (
        one.count == 2 and one.each.channels * 2 == one.channels and one.each.capacity_bytes * 2 == one.capacity_bytes
    )
    engine = build(dataclasses.replace(profile, tiers=(profile.tier("hbm"),)), [], open_loop(100.0, 64, 4)).engine
    single = registry.load(registry.DEVICE_MODEL, "dram").of_device(one.each, {})
    assert engine.devices.queues[0, 0] == 2 * single.capacity_bytes


def test_a_device_that_refuses_for_ever_is_told(monkeypatch):
    """Nothing is dropped without a word."""
    model = _Model(simpy.Environment(), build(machine(dram()), [], open_loop(100.0, 64, 4)))
    monkeypatch.setattr(model, "_advance", lambda *arguments: bc.FINISHED)
    model.engine.devices.queues[0, FIRST_WAITING] = 0
    with pytest.raises(InputError, match="4 requests are never answered, with device model 'dram' refusing what waits"):
        model.advance(np.inf)
