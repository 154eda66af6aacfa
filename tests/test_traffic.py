"""Requesters that share a device: one alone is as ever, several lose nothing, are treated alike and slow each other."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.devices import dram, fixed
from sim.dram.timing import dram_parameters
from sim.errors import InputError
from sim.policy import EventModel
from sim.probing import probe, probe_together
from sim.profile import load_device
from sim.served import by_events
from sim.traffic import Load, addresses, measure, measure_requests, measure_together

pytestmark = pytest.mark.uncompiled
compiled_only = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="long without compilation")
FIXED = by_events(fixed.MODEL)
AS_FIXED = {"model": "fixed"}  # of devices that have a model of their own
SMALL = {"requests": 200, "warmup": 30}


def opened(name, model=FIXED, **changes):
    p = model.of_device(load_device(name), changes)
    return p, model.init(p)


def measured(name, load, model=FIXED, **changes):
    p, state = opened(name, model, **changes)
    return measure(model, state, load, p.capacity_bytes, p.clock_ns)


def shared(name, loads, model=FIXED, **changes):
    p, state = opened(name, model, **changes)
    return measure_together(model, state, loads, p.capacity_bytes, p.clock_ns)


# --- one requester ---------------------------------------------------------------------------------------------------


def one_alone(model, state, load, capacity_bytes, clock_ns):
    """What a lone requester gets, spelled out: one queue, one list of times. (bandwidth, device_ns, total_ns, marks)"""
    rng = np.random.default_rng(load.seed)
    total = load.warmup + load.requests + (load.outstanding or 256)
    born = np.zeros(total)
    if load.rate_bytes_per_ns is not None:
        born = np.cumsum(rng.exponential(load.size_bytes / load.rate_bytes_per_ns, total))
    address = addresses(load.pattern, total, load.size_bytes, capacity_bytes, rng)
    is_write = rng.random(total) >= load.read_ratio
    sent_at, done_at, order = np.zeros(total), np.zeros(total), []
    come, sent, now, blocked, marks = load.outstanding or total, 0, 0.0, False, []
    while len(order) < load.warmup + load.requests:
        at = np.inf
        if sent < come and not blocked:
            at = born[sent] if not clock_ns else np.ceil(born[sent] / clock_ns - 1e-6) * clock_ns
            if at <= now:
                if model.submit(state, sent, now, int(address[sent]), load.size_bytes, bool(is_write[sent])):
                    sent_at[sent] = now
                    sent += 1
                else:
                    blocked = True
                continue
        now = min(at, model.next_event(state))
        blocked = False
        for i in range(model.advance(state, now)):
            done_at[state.done_ticket[i]] = state.done_ns[i]
            order.append(int(state.done_ticket[i]))
            if load.outstanding and come < total:
                born[come] = now
                come += 1
            if len(order) in (load.warmup, load.warmup + load.requests):
                marks.append(now)
    took = [ticket for ticket in order[load.warmup : load.warmup + load.requests] if not is_write[ticket]]
    elapsed = marks[-1] - (marks[0] if load.warmup else 0.0)
    return load.requests * load.size_bytes / elapsed, done_at[took] - sent_at[took], done_at[took] - born[took]


LOADS = [
    Load("rand", 0.7, 64, outstanding=4, **SMALL),
    Load("seq", 1.0, 256, rate_bytes_per_ns=2.0, **SMALL),
    Load("mstream4", 0.5, 64, rate_bytes_per_ns=100.0, requests=200, warmup=0, seed=5),
]


@pytest.mark.parametrize("load", LOADS, ids=str)
@pytest.mark.parametrize("name", ["hbm3_h100_80g", "pcie5_x16", "ddr4_3200"])
def test_one_requester_is_served_as_ever(name, load):
    """Bit for bit, with a queue that refuses (DRAM), and with one that does not."""
    model = dram.MODEL if name == "ddr4_3200" else FIXED
    p, state = opened(name, model)
    bandwidth, device_ns, total_ns = one_alone(model, state, load, p.capacity_bytes, p.clock_ns)
    result = measured(name, load, model)
    assert result.bandwidth_bytes_per_ns == bandwidth
    assert (result.reads, result.mean_ns, result.total_mean_ns) == (
        len(device_ns),
        device_ns.mean(),
        total_ns.mean(),
    )
    assert [result.p50_ns, result.p999_ns] == np.percentile(device_ns, (50, 99.9)).tolist()


def test_one_of_one_is_all_of_it():
    result = shared("ddr4_3200", [LOADS[0]], dram.MODEL)
    for field in fields(result.together):
        if field.name != "counts":
            assert getattr(result.each[0], field.name) == getattr(result.together, field.name)


def test_requests_of_ones_own_are_driven_as_a_patterns():
    load = LOADS[0]
    p, state = opened("hbm3_h100_80g")
    rng, total = np.random.default_rng(load.seed), load.warmup + load.requests + load.outstanding
    places = addresses(load.pattern, total, load.size_bytes, p.capacity_bytes, rng)
    writes = rng.random(total) >= load.read_ratio
    result = measure_requests(FIXED, state, load, places, writes, p.capacity_bytes)
    assert result.mean_ns == measured("hbm3_h100_80g", load).mean_ns
    with pytest.raises(InputError, match=r"addresses are '.*'; expected from 0 to 4096, the device's capacity"):
        measure_requests(FIXED, FIXED.init(p), load, places, writes, 4096)
    with pytest.raises(InputError, match="requests given are 9; expected at least the 230"):
        measure_requests(FIXED, FIXED.init(p), load, places[:9], writes[:9])


def test_unloaded_times_are_the_profiles():
    for name in ("hbm3_h100_80g", "pcie5_x16", "mqsim_default", "l2_h100_50m"):
        part = load_device(name)
        for write in (False, True):
            load = Load("rand", 1.0 - write, 4096, outstanding=1, requests=20, warmup=0)
            result = probe(part, [load], AS_FIXED)[0].result
            way = part.access(write)
            expected = way.latency_ns + way.occupancy_ns + 4096 / part.bandwidth_for(4096, write)
            assert (result.write_mean_ns if write else result.mean_ns) == pytest.approx(expected)


def test_what_is_full_carries_the_profiles_bandwidth():
    for name, read_ratio, directions in (("hbm3_h100_80g", 1.0, 1), ("pcie5_x16", 1.0, 1), ("pcie5_x16", 0.5, 2)):
        part = load_device(name)
        load = Load("rand", read_ratio, 1 << 15, outstanding=256, requests=2000, warmup=300)
        reading = probe(part, [load], AS_FIXED)[0]
        ceiling = part.read.bandwidth_bytes_per_ns * directions
        assert 0.95 * ceiling < reading.result.bandwidth_bytes_per_ns <= 1.001 * ceiling
        held = directions / (2 if part.is_link else 1)
        assert 0.95 * held < reading.busy_share <= 1.001 * held


@compiled_only
def test_waits_are_those_of_a_queue_with_one_server_and_fixed_service():
    """Pollaczek and Khinchine: of Poisson arrivals that each hold the server for s, rho s / (2 (1 - rho)) waited."""
    part = load_device("pcie5_x16")
    s = 4096 / part.read.bandwidth_bytes_per_ns
    for rho in (0.3, 0.6, 0.8):
        load = Load("rand", 1.0, 4096, rate_bytes_per_ns=rho * 4096 / s, requests=40_000, warmup=2000)
        waited = probe(part, [load], AS_FIXED)[0].result.mean_ns - part.read.latency_ns - s
        assert waited == pytest.approx(rho * s / (2 * (1 - rho)), rel=0.05)


def test_counts_are_what_was_done():
    load = replace(LOADS[0], warmup=0)
    result = measured("hbm3_h100_80g", load)
    assert result.counts[:2].tolist() == [result.read_bytes, result.written_bytes]
    assert result.read_bytes + result.written_bytes == 64 * load.requests


def test_energy_is_the_models_or_the_profiles():
    part = load_device("pcie5_x16")
    load = Load("seq", 0.5, 4096, outstanding=4, **SMALL)
    told = probe(part, [load], AS_FIXED)[0]
    result = told.result
    bits = (result.read_bytes + result.written_bytes) * 8
    assert told.energy_from == "profile"
    assert sum(told.energy_pj.values()) == pytest.approx(bits * 5.5 + result.elapsed_ns * 1600)
    assert probe("ddr4_3200", [load])[0].energy_from == "model"


def test_a_full_queue_is_told():
    assert measured("ddr4_3200", LOADS[0], dram.MODEL).refused_share == 0
    full = Load("rand", 1.0, 64, outstanding=64, **SMALL)
    assert measured("ddr4_3200", full, dram.MODEL, read_queue=8).refused_share > 0.9
    assert measured("hbm3_h100_80g", full, in_flight=2).refused_share > 0.9


# --- several ---------------------------------------------------------------------------------------------------------


PAIR = [Load("seq", 1.0, 64, outstanding=8, **SMALL), Load("rand", 0.5, 256, rate_bytes_per_ns=1.0, seed=2, **SMALL)]


class _Watch:
    """A model as it is, that keeps what it was asked for and what it has done."""

    def __init__(self, model):
        self.model, self.name, self.asked, self.done = model, model.name, {}, {}

    def submit(self, state, ticket, now_ns, address, size_bytes, is_write):
        taken = self.model.submit(state, ticket, now_ns, address, size_bytes, is_write)
        if taken:
            assert ticket not in self.asked
            self.asked[int(ticket)] = (float(now_ns), int(address), int(size_bytes), bool(is_write))
        return taken

    def advance(self, state, until_ns):
        count = self.model.advance(state, until_ns)
        for ticket, done_ns in zip(state.done_ticket[:count].tolist(), state.done_ns[:count].tolist(), strict=True):
            assert ticket in self.asked and ticket not in self.done
            self.done[ticket] = done_ns
        return count

    def next_event(self, state):
        return self.model.next_event(state)


def watched(name, loads, model, **changes):
    """As `shared`, in plain Python under watch."""
    watch = _Watch(model)
    p, state = opened(name, model, **changes)
    return measure_together(watch, state, loads, p.capacity_bytes, p.clock_ns, compiled=False), watch


@pytest.mark.parametrize(("name", "model"), [("ddr4_3200", dram.MODEL), ("pcie5_x16", FIXED)])
def test_nothing_is_lost_of_any_requester(name, model):
    """Each ticket once; its requester's own requests in order; so many measured as asked for; all bytes accounted."""
    loads = [*PAIR, Load("rand", 0.0, 64, outstanding=2, seed=3, requests=50, warmup=5)]
    result, watch = watched(name, loads, model)
    for row, (load, one) in enumerate(zip(loads, result.each, strict=True)):
        mine = {ticket // 3: asked for ticket, asked in watch.asked.items() if ticket % 3 == row}
        assert list(mine) == sorted(mine) == list(range(len(mine)))  # handed over in order, none left out
        assert {asked[2] for asked in mine.values()} == {load.size_bytes}
        done = sum(ticket % 3 == row for ticket in watch.done)
        assert load.warmup + load.requests <= done <= len(mine)
        assert (one.requests, one.reads * load.size_bytes) == (load.requests, one.read_bytes)
        if load.outstanding:
            assert len(mine) - done <= load.outstanding
    assert all(watch.done[ticket] >= watch.asked[ticket][0] for ticket in watch.done)
    # what is done in the common time is at least what the slowest of all was measured for
    assert result.together.read_bytes + result.together.written_bytes > 0


@pytest.mark.parametrize(("name", "model"), [("ddr4_3200", dram.MODEL), ("hbm3_h100_80g", FIXED)])
def test_the_same_twice(name, model):
    once, again = (shared(name, PAIR, model) for _ in range(2))
    for one, other in zip((*once.each, once.together), (*again.each, again.together), strict=True):
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(("name", "model"), [("ddr4_3200", dram.MODEL), ("pcie5_x16", FIXED)])
def test_alike_requesters_get_alike_shares(name, model, count):
    loads = [Load("rand", 1.0, 64, outstanding=32, requests=600, warmup=100, seed=1 + n) for n in range(count)]
    result = shared(name, loads, model)
    got = [one.bandwidth_bytes_per_ns for one in result.each]
    assert max(got) / min(got) < 1.05
    assert sum(got) == pytest.approx(result.together.bandwidth_bytes_per_ns, rel=0.05)


def test_a_flood_does_not_keep_out_who_asks_for_little():
    """A full queue of the device: the flood waits in its own queue, the other has its turn at each free place."""
    flood = Load("rand", 1.0, 64, outstanding=1000, requests=1000, warmup=1500)
    little = Load("rand", 1.0, 64, outstanding=1, seed=2, **SMALL)
    p = dram_parameters("ddr4_3200", {"read_queue": 8})
    result = measure_together(dram.MODEL, dram.init(p), [flood, little], p.capacity_bytes, p.clock_ns)
    waits = [one.total_mean_ns - one.mean_ns for one in result.each]
    assert waits[1] < result.each[1].mean_ns < 0.05 * waits[0]
    assert result.each[0].refused_share > 0.9


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([64, 512, 4096]), st.integers(1, 12), st.booleans()), min_size=2, max_size=4),
    st.sampled_from(["ddr5_4800", "pcie5_x16"]),
)
def test_first_come_first_served_nobody_gains_by_company(asked, name):
    loads = [
        Load("rand", 1.0, size, seed=7 + n, **SMALL, **({"outstanding": k} if closed else {"rate_bytes_per_ns": k / 4}))
        for n, (size, k, closed) in enumerate(asked)
    ]
    found = probe_together(name, loads, {"model": "fixed"})
    for requester in found.requesters:
        assert requester.slowdown >= 1 - 1e-9
    assert found.together.busy_share <= 1.001


@compiled_only
@pytest.mark.parametrize("shares", [(0.3, 0.4), (0.1, 0.7)])
def test_requesters_of_one_server_wait_as_long_as_each_other(shares):
    """Pollaczek and Khinchine once more: arrivals see the mean of all work, l E[S^2] / (2 (1 - rho)), whoever's."""
    part = load_device("pcie5_x16")
    bandwidth, sizes = part.read.bandwidth_bytes_per_ns, (4096, 512)
    loads = [
        Load("rand", 1.0, size, rate_bytes_per_ns=share * bandwidth, requests=40_000, warmup=2000, seed=11 + n)
        for n, (size, share) in enumerate(zip(sizes, shares, strict=True))
    ]
    served_ns = [size / bandwidth for size in sizes]
    expected_ns = sum(share * s for share, s in zip(shares, served_ns, strict=True)) / (2 * (1 - sum(shares)))
    for requester, s in zip(probe_together(part, loads, AS_FIXED).requesters, served_ns, strict=True):
        waited_ns = requester.shared.total_mean_ns - part.read.latency_ns - s
        assert waited_ns == pytest.approx(expected_ns, rel=0.06)


def test_a_lone_requesters_slowdown_is_none():
    found = probe_together("ddr4_3200", [PAIR[0]])
    assert found.requesters[0].slowdown == 1.0


def test_regions_are_apart_and_within_the_device():
    loads = [replace(PAIR[0], span_bytes=4096), replace(PAIR[1], base_bytes=1 << 20, span_bytes=8192)]
    _, watch = watched("ddr4_3200", loads, dram.MODEL)
    for row, (low, high) in enumerate([(0, 4096), (1 << 20, (1 << 20) + 8192)]):
        places = [asked[1] for ticket, asked in watch.asked.items() if ticket % 2 == row]
        assert low <= min(places) and max(places) < high


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"base_bytes": 1 << 40}, "addresses are '1099511627776 to 1099511627840'; expected from 0 to "),
        ({"base_bytes": 8 << 30, "span_bytes": 16 << 30}, "addresses are"),
        ({"base_bytes": -64}, "addresses are"),
        ({"span_bytes": 32}, "span is 32; expected at least a request's 64 bytes"),
    ],
)
def test_addresses_beyond_the_capacity_are_refused(change, told):
    with pytest.raises(InputError) as error:
        shared("ddr4_3200", [replace(PAIR[0], **change)], dram.MODEL)
    assert told in str(error.value)


def test_a_request_that_no_queue_holds_is_told():
    class State(NamedTuple):
        done_ticket: np.ndarray
        done_ns: np.ndarray
        counts: np.ndarray

    def submit(state, ticket, arrival_ns, address, size_bytes, is_write):
        return False

    def advance(state, until_ns):
        return 0

    def next_event(state):
        return np.inf

    refusing = EventModel(
        name="refusing",
        init=lambda parameters: None,
        submit=submit,
        advance=advance,
        next_event=next_event,
        of_device=lambda device, changes: None,
        energy_pj=lambda parameters, counts, elapsed_ns: {},
        count_names=("none",),
    )
    state = State(np.zeros(1, np.int64), np.zeros(1), np.zeros(1, np.int64))
    with pytest.raises(InputError, match="'refusing', with nothing under way, refuses a request of 1048576"):
        measure(refusing, state, Load("seq", 1.0, 1 << 20, outstanding=1, **SMALL), 1 << 30, compiled=False)
    with pytest.raises(InputError, match="no load is given"):
        shared("ddr4_3200", [], dram.MODEL)


def test_progress_is_told():
    told = []
    probe(
        "pcie5_x16",
        [replace(PAIR[0], requests=30_000), PAIR[0]],
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == sorted(told) and told[-1] == (30_260, 30_260)
    assert len(told) > 2
