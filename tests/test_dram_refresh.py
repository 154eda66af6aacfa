"""Refreshing of single banks while the others go on, and channels that refresh one after the other."""

from itertools import pairwise

import numpy as np
import pytest
from numba import config

from sim import plugin_digest
from sim.devices import dram
from sim.dram.state import BANK_REFRESHES, REFRESHES
from sim.dram.timing import dram_parameters, read_set, timing_sets
from sim.errors import InputError
from sim.kernels.compile import folders_used
from sim.traffic import Load, measure
from tests.dram_checker import REFAB, REFPB, Checker
from tests.test_dram import commands, drive, random_requests

SETS = [name for name in timing_sets() if read_set(name).get("nRFCpb")]
SINGLE = {"refresh": "per_bank"}


def ticks_of(p, cycles):
    return cycles * p.ticks_per_cycle


def refreshes(p, log):
    """Ticks and banks of the refreshes of each rank (pseudo-channel of stacked dies) of a log."""
    banks = p.refresh_turns * p.banks_per_refresh
    chosen = log[log[:, 1] == REFPB]
    units = range(p.channels * p.banks_per_channel // banks)
    return [(chosen[chosen[:, 2] // banks == unit, 0], chosen[chosen[:, 2] // banks == unit, 2]) for unit in units]


# --- the rules -------------------------------------------------------------------------------------------------------


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("load", [0.04, 0.8])
def test_no_rule_is_broken_and_banks_take_turns(name, load):
    p = dram_parameters(name, SINGLE | {"mapping": "MOP4CLXOR"})
    done, state = drive(p, random_requests(p, 150, load=load))
    assert len(done) == 150
    log = commands(state)
    Checker(p).see_all(log)
    for _, banks in refreshes(p, log):
        assert [bank % p.refresh_turns for bank in banks] == [i % p.refresh_turns for i in range(len(banks))]
    assert load > 0.1 or (log[:, 1] == REFPB).sum() > 8


CONTROLLERS = [
    {"row_policy": "closed"},
    {"row_policy": "timeout", "timeout_ns": 60.0},
    {"scheduler": "fcfs"},
    {"scheduler": "fr_fcfs", "postponed_refreshes": 0},
    {"row_hit_cap": 2, "postponed_refreshes": 3},
    {"ranks": 2},
    {"channels": 3, "staggered_refresh": True},
    {"read_queue": 4, "write_queue": 4},
]


@pytest.mark.uncompiled
@pytest.mark.parametrize("change", CONTROLLERS, ids=str)
@pytest.mark.parametrize("name", ["gddr6_14000", "ddr5_4800"])
def test_no_rule_is_broken_by_any_controller(name, change):
    p = dram_parameters(name, SINGLE | change)
    done, state = drive(p, random_requests(p, 120, load=0.5))
    assert len(done) == 120
    Checker(p).see_all(commands(state))


@pytest.mark.parametrize("change", CONTROLLERS, ids=str)
@pytest.mark.parametrize("pattern", ["seq", "rand", "mstream16"])
def test_no_request_is_left_behind(change, pattern):
    p = dram_parameters("gddr6_14000", SINGLE | change)
    requests = 400 if config.DISABLE_JIT else 40_000
    result = measure(dram.MODEL, dram.init(p), Load(pattern, 0.7, outstanding=64, requests=requests), p.capacity_bytes)
    assert result.requests == requests and np.isfinite(result.elapsed_ns)


@pytest.mark.uncompiled
@pytest.mark.parametrize("change", [{}, {"channels": 3, "staggered_refresh": True}], ids=str)
def test_it_does_not_matter_how_often_it_is_advanced(change):
    p = dram_parameters("hbm3_6400", SINGLE | {"mapping": "MOP4CLXOR"} | change)
    requests = random_requests(p, 80, load=0.3, size=256)
    coarse, state = drive(p, requests)
    for steps_ns in (0.7, 13.0):
        fine, other = drive(p, requests, steps_ns)
        assert fine == coarse
        assert sorted(commands(other).tolist()) == sorted(commands(state).tolist())
    assert (commands(state)[:, 1] == REFPB).any()


def test_compiled_and_plain_do_the_same():
    p = dram_parameters("hbm3_6400", SINGLE | {"mapping": "MOP4CLXOR"})
    load = Load("mstream8", 0.8, p.transaction_bytes, outstanding=20, requests=600, warmup=0)
    compiled, plain = dram.init(p, 4000), dram.init(p, 4000)
    measure(dram.MODEL, compiled, load, p.capacity_bytes, p.tick_ns)
    measure(dram.MODEL, plain, load, p.capacity_bytes, p.tick_ns, compiled=False)
    assert np.array_equal(commands(compiled), commands(plain)) and (commands(plain)[:, 1] == REFPB).sum() > 4


# --- how often, and who waits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("pattern", ["seq", "rand", "burst4096"])
def test_every_bank_is_refreshed_in_time_however_busy_it_is(name, pattern):
    """Of each rank no more are owed than may be postponed, but for the one that is on its way."""
    p = dram_parameters(name, SINGLE | {"mapping": "MOP4CLXOR"})
    state, requests = dram.init(p, 200_000), 300 if config.DISABLE_JIT else 20_000
    load = Load(pattern, 0.7, p.transaction_bytes, outstanding=64, requests=requests, warmup=0)
    measure(dram.MODEL, state, load, p.capacity_bytes, p.tick_ns)
    log, interval = commands(state), ticks_of(p, p.bank_interval)
    on_its_way = ticks_of(p, p.nRC + 2 * (p.nCL + p.nWR + p.nRP) + 2 * p.nRFCpb)
    for ticks, _ in refreshes(p, log):
        owed = ticks // interval - np.arange(len(ticks))  # when each came, those before it not counted
        assert (owed >= 1).all() and (owed <= p.postponed_refreshes + 1 + on_its_way // interval + 1).all()
        assert log[-1, 0] // interval - len(ticks) <= p.postponed_refreshes + 2 + on_its_way // interval


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", SETS)
def test_what_has_no_requests_is_refreshed_as_soon_as_it_is_due(name):
    p = dram_parameters(name, SINGLE)
    state, until_ns = dram.init(p, 4000), 3.01 * p.nREFI * p.tCK_ps / 1000
    dram.settle(state, until_ns)
    units, interval = p.banks_per_channel // (p.refresh_turns * p.banks_per_refresh), ticks_of(p, p.bank_interval)
    assert state.counts[BANK_REFRESHES] == units * int(until_ns / p.tick_ns / interval)
    for ticks, _ in refreshes(p, commands(state)):
        assert (np.abs(ticks - interval * np.arange(1, len(ticks) + 1)) <= 2 * units * p.ticks_per_cycle).all()


@pytest.mark.uncompiled
@pytest.mark.parametrize("postponed", [0, 3])
def test_a_busy_bank_is_refreshed_once_no_more_may_be_postponed(postponed):
    """One bank is asked for all the time, row by row: its turn waits until so many are owed, then its requests wait."""
    p = dram_parameters("gddr6_14000", SINGLE | {"postponed_refreshes": postponed})
    row = p.transactions_per_row * p.transaction_bytes * p.banks_per_channel
    requests = [(0.1 * i, row * (i % 1000), p.transaction_bytes, False) for i in range(180)]
    _, state = drive(p, requests)
    log = commands(state)
    Checker(p).see_all(log)
    ((ticks, banks),) = refreshes(p, log)
    assert banks[0] == 0 and ticks[0] // p.bank_interval == postponed + 1
    after = log[(log[:, 2] == 0) & (log[:, 0] > ticks[0])][0]
    assert after[0] == ticks[0] + p.nRFCpb


@pytest.mark.uncompiled
def test_the_other_banks_are_served_meanwhile():
    p = dram_parameters("hbm2_2000", SINGLE | {"mapping": "MOP4CLXOR"})
    _, state = drive(p, random_requests(p, 600, load=0.7, read_ratio=1.0))
    log = commands(state)
    for ticks, banks in refreshes(p, log):
        for tick, bank in zip(ticks, banks, strict=True):
            opens = tick + p.nRFCpb - 1  # when an activation, of two cycles, may begin
            meanwhile = log[(log[:, 0] > tick) & (log[:, 0] < opens) & (log[:, 1] != REFPB)]
            assert bank not in meanwhile[:, 2]
            if opens < log[-1, 0]:
                assert len(meanwhile) > p.nRFCpb // 8


@pytest.mark.parametrize("name", ["hbm2_2000", "hbm3_6400", "gddr6_14000", "lpddr5_6400", "ddr5_4800"])
def test_less_is_lost_than_by_refreshing_all_banks(name):
    """A sequential stream; without refreshing it is faster still."""
    if config.DISABLE_JIT:
        pytest.skip("takes a hundred thousand requests")
    load = Load("seq", 1.0, outstanding=256, requests=40_000)
    bandwidth = {}
    for refresh in ("all_bank", "per_bank", "none"):
        p = dram_parameters(name, {"refresh": refresh, "mapping": "MOP4CLXOR", "read_queue": 64})
        bandwidth[refresh] = measure(dram.MODEL, dram.init(p), load, p.capacity_bytes, p.tick_ns).bandwidth_bytes_per_ns
    assert bandwidth["all_bank"] < bandwidth["per_bank"] < bandwidth["none"]


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", SETS)
def test_bank_by_bank_takes_the_energy_of_all_at_once(name):
    spent = []
    for refresh in ("all_bank", "per_bank"):
        p = dram_parameters(name, {"refresh": refresh})
        state, until_ns = dram.init(p), 20.5 * p.nREFI * p.tCK_ps / 1000
        dram.settle(state, until_ns)
        spent.append(dram.energy_pj(p, state.counts, until_ns)["refresh"])
    assert spent[1] == pytest.approx(spent[0], rel=0.06)


# --- channels --------------------------------------------------------------------------------------------------------


@pytest.mark.uncompiled
@pytest.mark.parametrize("refresh", ["all_bank", "per_bank"])
def test_channels_refresh_one_after_the_other(refresh):
    p = dram_parameters("gddr6_14000", {"refresh": refresh, "channels": 4, "staggered_refresh": True})
    state = dram.init(p, 4000)
    dram.settle(state, 3.9 * p.nREFI * p.tick_ns)
    log, interval = commands(state), p.nREFI if refresh == "all_bank" else p.bank_interval
    channel = log[:, 2] // p.banks_per_channel
    for nth in range(4):
        own = log[channel == nth]
        assert own[0, 0] == interval + nth * interval // 4
        assert own[0, 2] % p.banks_per_channel == (nth * 4 if refresh == "per_bank" else 0)
        assert set(np.diff(own[:, 0]).tolist()) == {interval}


@pytest.mark.uncompiled
def test_one_channel_is_the_same_staggered_or_not():
    requests = random_requests(dram_parameters("ddr4_3200"), 100, load=0.02)
    logs = []
    for staggered in (False, True):
        _, state = drive(dram_parameters("ddr4_3200", {"staggered_refresh": staggered}), requests)
        logs.append(commands(state).tolist())
    assert logs[0] == logs[1] and any(entry[1] == REFAB for entry in logs[0])


def test_one_request_at_a_time_does_not_keep_step_with_staggered_refreshes():
    """As Poisson arrivals, which see the time average (Wolff, Operations Research 30, 1982); in step it sees less."""
    if config.DISABLE_JIT:
        pytest.skip("takes a hundred thousand requests")
    means = {}
    for staggered in (False, True):
        p = dram_parameters("hbm3_6400", {"channels": 16, "staggered_refresh": staggered, "mapping": "MOP4CLXOR"})
        for name, load in (("closed", {"outstanding": 1}), ("open", {"rate_bytes_per_ns": 32 / 500.0})):
            load = Load("rand", 1.0, 32, requests=20_000, **load)
            means[name, staggered] = measure(dram.MODEL, dram.init(p), load, p.capacity_bytes, p.tick_ns).mean_ns
    assert means["closed", True] == pytest.approx(means["open", True], rel=0.05)
    assert means["closed", False] < 0.8 * means["open", False]


# --- parameters, machine code ----------------------------------------------------------------------------------------


@pytest.mark.uncompiled
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"postponed_refreshes": -1}, "postponed_refreshes is -1"),
        ({"postponed_refreshes": 129}, "expected 0 to 128, eight of each bank"),
        ({"banks_per_refresh": 3}, "power of two"),
        ({"banks_per_refresh": 32}, "at most the banks of a rank"),
    ],
)
def test_what_makes_no_sense_is_refused(change, told):
    with pytest.raises(InputError, match=told):
        dram_parameters("gddr6_14000", SINGLE | change)


@pytest.mark.uncompiled
def test_all_banks_at_once_counts_no_single_bank():
    p = dram_parameters("gddr6_14000")
    state = dram.init(p, 100)
    dram.settle(state, 3.5 * p.nREFI * p.tick_ns)
    assert (state.counts[REFRESHES], state.counts[BANK_REFRESHES]) == (3, 0)
    ticks = commands(state)[:, 0].tolist()
    assert all(b - a == p.nREFI for a, b in pairwise(ticks))


@pytest.mark.uncompiled
def test_machine_code_is_kept_by_the_sources_of_all_folders_that_it_is_made_of(monkeypatch):
    assert {"devices", "dram", "kernels"} <= {folder.name for folder in folders_used("sim.devices.dram")}
    before = plugin_digest.digest_of((dram.advance,))
    monkeypatch.setattr(plugin_digest, "used_digest", lambda module: b"a constant of sim.dram.mapping was edited")
    assert plugin_digest.digest_of((dram.advance,)) != before
