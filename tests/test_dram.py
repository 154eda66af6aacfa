"""The DRAM model: an independent checker replays its commands; and what must hold of any device.

Hooks called from Python run as plain Python, so that most of this needs no compilation.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numba import config

from sim.devices import dram
from sim.dram.mapping import NAMES
from sim.dram.timing import checked, dram_parameters, read_set, timing_sets
from sim.errors import InputError
from sim.profile import load_device
from sim.traffic import Load, addresses, measure
from tests.dram_checker import ACT, PRE, RD, REFAB, REFPB, Checker

SETS = timing_sets()


def drive(p, requests, steps_ns=None, log=4000):
    """Submit requests (arrival_ns, address, size, is_write) as soon as they are taken: ticket -> done_ns, state."""
    state, done, now = dram.init(p, log), {}, 0.0

    def advance(until):
        for i in range(dram.advance(state, until)):
            ticket = int(state.done_ticket[i])
            assert ticket not in done, "done twice"
            done[ticket] = float(state.done_ns[i])

    for ticket, (arrival, address, size, is_write) in enumerate(requests):
        now = max(now, arrival)
        while steps_ns and state.shared[dram.TICK_NOW] * p.tick_ns + steps_ns < now:
            advance(state.shared[dram.TICK_NOW] * p.tick_ns + steps_ns)
        advance(now)
        while not dram.submit(state, ticket, now, address, size, is_write):
            now = dram.next_event(state)
            advance(now)
    while (following := dram.next_event(state)) < np.inf:
        advance(following)
    return done, state


def commands(state):
    return state.log[: state.shared[dram.LOGGED]]


def random_requests(p, count, seed=1, read_ratio=0.7, load=0.5, pattern="rand", size=None):
    rng = np.random.default_rng(seed)
    size = size or p.transaction_bytes
    gaps = rng.exponential(size / (load * p.peak_bytes_per_ns), count)
    places = addresses(pattern, count, size, min(p.capacity_bytes, 1 << 22), rng)
    writes = rng.random(count) >= read_ratio
    return [(float(t), int(a), size, bool(w)) for t, a, w in zip(np.cumsum(gaps), places, writes, strict=True)]


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("mapping", ["RoBaRaCoCh", "MOP4CLXOR"])
def test_no_rule_is_ever_broken(name, mapping):
    p = dram_parameters(name, {"mapping": mapping})
    requests = random_requests(p, 100)
    done, state = drive(p, requests)
    assert len(done) == 100
    Checker(p).see_all(commands(state))


VARIANTS = [
    {"row_policy": "closed"},
    {"row_policy": "closed", "close_after": 0},
    {"row_policy": "timeout", "timeout_ns": 60.0},
    {"scheduler": "fcfs"},
    {"scheduler": "fr_fcfs"},
    {"row_hit_cap": 2},
    {"ranks": 2},
    {"channels": 3},
    {"read_queue": 4, "write_queue": 4},
    {"refresh": "none"},
]


@pytest.mark.uncompiled
@pytest.mark.parametrize("change", VARIANTS, ids=str)
@pytest.mark.parametrize("pattern", ["rand", "mstream4"])
def test_no_rule_is_broken_by_any_controller(change, pattern):
    p = dram_parameters("ddr4_3200", change)
    done, state = drive(p, random_requests(p, 100, pattern=pattern))
    assert len(done) == 100
    Checker(p).see_all(commands(state))


@pytest.mark.parametrize("change", VARIANTS, ids=str)
@pytest.mark.parametrize("pattern", ["seq", "rand", "mstream16"])
def test_no_request_is_left_behind(change, pattern):
    """Over so many requests that each of a controller's rare turns has come."""
    p = dram_parameters("ddr4_3200", change)
    requests = 400 if config.DISABLE_JIT else 40_000
    result = measure(dram.MODEL, dram.init(p), Load(pattern, 0.7, outstanding=64, requests=requests), p.capacity_bytes)
    assert result.requests == requests and np.isfinite(result.elapsed_ns)


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", ["hbm2_2000", "hbm3_6400", "hbm4_8000", "lpddr5_6400", "gddr6_14000"])
def test_refresh_of_single_banks(name):
    p = dram_parameters(name, {"refresh": "per_bank"})
    _, state = drive(p, random_requests(p, 150, load=0.04))
    log = commands(state)
    Checker(p).see_all(log)
    refreshed = log[log[:, 1] == REFPB]
    assert len(refreshed) > 8
    per_unit = refreshed[: 2 * p.pseudo_channels, 2]
    assert len(set(per_unit.tolist())) == len(per_unit)


@pytest.mark.uncompiled
def test_refresh_comes_as_often_as_it_must():
    p = dram_parameters("ddr4_3200")
    requests = [(i * 500.0, 64 * i, 64, False) for i in range(200)]
    _, state = drive(p, requests)
    ticks = commands(state)
    ticks = ticks[ticks[:, 1] == REFAB, 0]
    assert len(ticks) == int(199 * 500.0 / (p.nREFI * p.tick_ns))
    assert np.all(np.abs(ticks - p.nREFI * np.arange(1, len(ticks) + 1)) < 200)


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", SETS)
def test_commands_that_wait_for_a_rule_wait_no_longer(name):
    """Rows of one bank in turn, all there from the start: every command comes at the first tick the rules allow."""
    p = dram_parameters(name, {"refresh": "none", "mapping": "RoBaRaCoCh", "nWCKPST": None})
    row_stride = p.capacity_bytes // p.rows
    _, state = drive(p, [(0.0, i * row_stride, p.transaction_bytes, False) for i in range(8)])
    log = commands(state)
    assert len(log) == 8 * 3 - 1
    earliest = Checker(p).see_all(log)
    assert log[1:, 0].tolist() == earliest[1:]


@pytest.mark.uncompiled
def test_four_activations_wait_for_the_window():
    p = dram_parameters("ddr4_3200", {"refresh": "none"})
    bank_stride = p.transactions_per_row * 64
    _, state = drive(p, [(0.0, i * bank_stride, 64, False) for i in range(16)])
    activated = [int(entry[0]) for entry in commands(state) if entry[1] == ACT]
    assert activated[4] - activated[0] in (p.nFAW, p.nFAW + 1)  # a read may have the bus


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", SETS)
def test_unloaded_latency_is_the_datasheets_sum(name):
    """Closed row, open row, other row: the sum of the timings and one tick to see the request (two at an edge)."""
    p = dram_parameters(name, {"refresh": "none", "mapping": "RoBaRaCoCh"})
    row_stride = p.capacity_bytes // p.rows
    at = (0.0, 4000.0, 8000.0)
    done, _ = drive(p, [(at[0], 0, 32, False), (at[1], 0, 32, False), (at[2], row_stride, 32, False)])
    took = [(done[i] - at[i]) / (p.tCK_ps / 1000) for i in range(3)]
    restart = p.nWCKPST is not None
    data = p.nCL + p.nBL + restart
    for cycles, expected in zip(took, (p.nRCDRD + data, data, p.nRP + p.nRCDRD + data), strict=True):
        assert expected - (p.activate_cycles - 1) <= cycles <= expected + 3  # ACT counts from its last cycle


@pytest.mark.uncompiled
@pytest.mark.parametrize("change", [{}, {"channels": 3, "mapping": "MOP4CLXOR"}], ids=str)
def test_it_does_not_matter_how_often_it_is_advanced(change):
    p = dram_parameters("hbm3_6400", change)
    requests = random_requests(p, 60, load=0.6, size=256)
    coarse, state = drive(p, requests)
    for steps_ns in (0.7, 13.0):
        fine, other = drive(p, requests, steps_ns)
        assert fine == coarse
        key = lambda log: sorted(map(tuple, log.tolist()))  # noqa: E731
        assert key(commands(other)) == key(commands(state))


@pytest.mark.uncompiled
@pytest.mark.parametrize("size", [1, 64, 100, 4096])
def test_every_request_is_done_once_and_after_it_came(size):
    p = dram_parameters("ddr4_3200", {"channels": 2, "read_queue": 8, "write_queue": 8})
    requests = random_requests(p, 120, size=size, load=0.8)
    done, state = drive(p, requests)
    assert sorted(done) == list(range(120))
    assert all(done[i] > requests[i][0] for i in done)
    assert state.channel[:, dram.REQUESTS].tolist() == [0, 0]
    served = state.counts[dram.READS] + state.counts[dram.WRITES] + state.counts[dram.FORWARDED]
    touched = sum((a + s - 1) // 64 - a // 64 + 1 for _, a, s, _ in requests)
    assert served + state.counts[dram.COALESCED] == touched


@pytest.mark.uncompiled
def test_a_request_larger_than_the_queues_is_done_with_its_last_transaction():
    p = dram_parameters("ddr4_3200", {"refresh": "none"})
    done, _ = drive(p, [(0.0, 0, 64 * 200, False)])
    alone, _ = drive(p, [(0.0, 0, 64, False)])
    assert done[0] >= alone[0] + 199 * p.nCCDS * p.tick_ns


@pytest.mark.uncompiled
def test_a_full_queue_takes_nothing_and_changes_nothing():
    p = dram_parameters("ddr4_3200", {"read_queue": 2})
    state = dram.init(p)
    assert [dram.submit(state, i, 0.0, i << 20, 64, False) for i in range(3)] == [True, True, False]
    assert dram.submit(state, 3, 0.0, 0, 64, True)
    before = [array.copy() for array in state[:-1]]
    assert not dram.submit(state, 4, 0.0, 5 << 20, 64, False)
    changed = [
        name for name, was, now in zip(state._fields, before, state, strict=False) if not np.array_equal(was, now)
    ]
    assert changed in ([], ["slot"])  # a place that is still free


@pytest.mark.uncompiled
def test_what_waits_to_be_written_answers_reads_and_takes_writes():
    p = dram_parameters("ddr4_3200")
    state = dram.init(p)
    dram.submit(state, 9, 0.0, 1 << 20, 64, False)  # so that writes wait
    for ticket, is_write in ((0, True), (1, False), (2, True)):
        assert dram.submit(state, ticket, 0.0, 4096, 64, is_write)
    assert dram.advance(state, 1.0) == 2
    assert state.done_ticket[:2].tolist() == [1, 2]
    assert state.counts[dram.FORWARDED] == state.counts[dram.COALESCED] == 1


@pytest.mark.uncompiled
def test_idle_is_infinitely_long():
    state = dram.init(dram_parameters("ddr4_3200"))
    assert dram.next_event(state) == np.inf
    assert dram.advance(state, 1e6) == 0
    dram.settle(state, 1e6)
    assert state.counts[dram.REFRESHES] == 128


@pytest.mark.uncompiled
def test_first_come_first_served_serves_in_order():
    p = dram_parameters("ddr4_3200", {"scheduler": "fcfs"})
    done, _ = drive(p, random_requests(p, 60, read_ratio=1.0))
    times = [done[i] for i in range(60)]
    assert times == sorted(times)


@pytest.mark.uncompiled
def test_the_row_hit_cap_lets_another_row_in():
    row = 64 * 128 * 16
    requests = [(0.0, 0, 64, False), (1.0, row, 64, False)] + [(2.0, 64 * i, 64, False) for i in range(1, 20)]
    requests.sort(key=lambda r: r[0])

    def place(change):
        p = dram_parameters("ddr4_3200", {"refresh": "none", **change})
        done, _ = drive(p, requests)
        return sorted(done, key=done.get).index(1)

    assert place({}) == 1 or place({}) > 10
    assert place({"row_hit_cap": 4}) <= 5


@pytest.mark.uncompiled
def test_row_policies_close_rows():
    far = [(i * 1000.0, 64 * i, 64, False) for i in range(20)]
    closes = {}
    for policy in ("open", "closed", "timeout"):
        p = dram_parameters("ddr4_3200", {"refresh": "none", "row_policy": policy, "close_after": 1})
        _, state = drive(p, far)
        closes[policy] = int((commands(state)[:, 1] == PRE).sum()), int(state.counts[dram.HITS])
    assert closes["open"] == (0, 19)
    assert closes["closed"][1] == closes["timeout"][1] == 0
    assert closes["timeout"][0] == 19


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("mapping", NAMES)
def test_mappings_give_each_transaction_a_place_of_its_own(name, mapping):
    small = {"rows": 4, "mapping": mapping, "channels": 3 if mapping != "MOP4CLXOR" else 2}
    p = dram_parameters(name, small)
    state = dram.init(p)
    count = p.capacity_bytes // p.transaction_bytes
    sample = range(0, count, max(1, count // 3000))
    rows = {}
    for number in sample:
        channel, gb, row = dram._decode(state, number)
        assert gb // p.banks_per_channel == channel < p.channels
        assert 0 <= row < p.rows
        rows[gb, row] = rows.get((gb, row), 0) + 1
    assert max(rows.values()) <= p.transactions_per_row
    if len(sample) == count:
        assert len(rows) * p.transactions_per_row == count


@pytest.mark.uncompiled
def test_a_spelled_out_mapping_is_the_named_one():
    p = dram_parameters("ddr4_3200")
    spelled = dram_parameters("ddr4_3200", {"mapping": "row:16, bank:2, group:2, rank:0, column:7, channel"})
    a, b = dram.init(p), dram.init(spelled)
    for number in range(0, 1 << 27, 999_983):
        assert dram._decode(a, number) == dram._decode(b, number)


@pytest.mark.uncompiled
def test_the_row_cycle_of_gddr6_binds_by_its_parts():
    """The preset's 79 cycles, below tRAS + tRP, give the same commands as the sum of those."""
    p = dram_parameters("gddr6_14000")
    logs = []
    for one in (p, p.model_copy(update={"nRC": 79})):
        _, state = drive(one, random_requests(one, 300, load=0.9))
        logs.append(commands(state).tolist())
    assert p.nRC == 80 == p.nRAS + p.nRP and logs[0] == logs[1]


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", ["ddr4_3200", "ddr5_4800", "lpddr5_6400", "gddr6_14000", "hbm2_2000", "hbm3_6400"])
def test_the_files_of_one_channel_have_its_capacity(name):
    device = load_device(name)
    assert device.capacity_bytes == dram.of_device(device, {}).capacity_bytes


@pytest.mark.uncompiled
def test_part_of_the_capacity_may_be_set_aside_and_no_more_promised():
    device = load_device("ddr4_3200")
    assert dram.of_device(replace(device, capacity_bytes=7 << 30), {}).capacity_bytes == 8 << 30
    with pytest.raises(InputError, match=r"capacity is 8589934593; expected at most the 8589934592 bytes .*rows 65536"):
        dram.of_device(replace(device, capacity_bytes=(8 << 30) + 1), {})
    assert dram.of_device(device.times(4), {}).capacity_bytes == 32 << 30


BROKEN = [
    ({"nRC": 60}, "tRC < tRAS + tRP"),
    ({"nRRDL": 3}, "tRRD_L < tRRD_S"),
    ({"nCCDL": 3}, "tCCD_L < tCCD_S"),
    ({"tCK_ps": 0}, "tCK_ps is 0; expected at least 1"),
    ({"channels": 0}, "channels is 0"),
    ({"banks_per_group": 3}, "power of two"),
    ({"mapping": "row:16, bank:2, group:2, column:6"}, "does not cover the address"),
    ({"mapping": "RoBaRaCoCH"}, "did you mean 'RoBaRaCoCh'"),
    ({"mapping": "row:16, benk:2"}, "did you mean 'bank'"),
    ({"scheduler": "frfcfs"}, "scheduler"),
    ({"write_low_watermark": 0.9}, "watermarks"),
    ({"refresh": "per_bank"}, "nRFCpb"),
    ({"nRCD": 22}, "unknown DRAM parameter 'nRCD'"),
    ({"nREFI": 100}, "tREFI < tRFC"),
    ({"nRAS": "many"}, "nRAS"),
]


@pytest.mark.uncompiled
@pytest.mark.parametrize(("change", "told"), BROKEN, ids=[told for _, told in BROKEN])
def test_what_contradicts_itself_is_refused_in_one_line(change, told):
    with pytest.raises(InputError) as error:
        dram_parameters("ddr4_3200", change)
    assert told in str(error.value)
    assert len(error.value.lines) == 1


@pytest.mark.uncompiled
def test_unknown_and_incomplete_sets_are_refused():
    with pytest.raises(InputError, match="did you mean 'ddr4_3200'"):
        dram_parameters("ddr4-3200")
    fields = read_set("ddr4_3200")
    del fields["nRFC"]
    with pytest.raises(InputError, match="missing DRAM parameter 'nRFC'"):
        checked(fields)


@pytest.mark.uncompiled
@pytest.mark.parametrize(
    "load", [{"rate_bytes_per_ns": 0.0}, {"outstanding": 0}, {}, {"outstanding": 1, "pattern": "x"}]
)
def test_loads_that_make_no_sense_are_refused(load):
    p = dram_parameters("ddr4_3200")
    with pytest.raises(InputError):
        measure(dram.MODEL, dram.init(p), Load(**load), p.capacity_bytes)


@pytest.mark.parametrize("name", ["ddr4_3200", "hbm3_6400"])
def test_compiled_and_plain_do_the_same(name):
    p = dram_parameters(name, {"mapping": "MOP4CLXOR"})
    load = Load(
        pattern="mstream8", read_ratio=0.8, size_bytes=p.transaction_bytes, outstanding=20, requests=250, warmup=50
    )
    compiled, plain = dram.init(p, 3000), dram.init(p, 3000)
    result = measure(dram.MODEL, compiled, load, p.capacity_bytes, p.tick_ns)
    rng = np.random.default_rng(load.seed)
    total = load.warmup + load.requests + load.outstanding
    places = addresses(load.pattern, total, load.size_bytes, p.capacity_bytes, rng)
    writes = rng.random(total) >= load.read_ratio
    drive_closed(p, plain, places, writes, load)
    logged = min(int(compiled.shared[dram.LOGGED]), int(plain.shared[dram.LOGGED]))
    assert logged > 400
    assert np.array_equal(compiled.log[:logged], plain.log[:logged])
    assert result.bandwidth_bytes_per_ns <= p.peak_bytes_per_ns


def drive_closed(p, state, places, writes, load):
    """The closed loop of `sim.traffic`, in plain Python."""
    sent, born, done, now, last = 0, load.outstanding, 0, 0.0, load.warmup + load.requests
    blocked = False
    while done < last:
        if sent < born and not blocked:
            blocked = not dram.submit(state, sent, now, int(places[sent]), load.size_bytes, bool(writes[sent]))
            sent += not blocked
            continue
        now = dram.next_event(state)
        count = dram.advance(state, now)
        done, born, blocked = done + count, min(born + count, len(places)), False


@pytest.mark.parametrize("name", SETS)
def test_bandwidth_stays_below_the_peak_and_gets_near(name):
    p = dram_parameters(name, {"mapping": "MOP4CLXOR"})
    load = Load(pattern="seq", size_bytes=p.transaction_bytes, outstanding=128, requests=5000, warmup=500)
    result = measure(dram.MODEL, dram.init(p), load, p.capacity_bytes, p.tick_ns)
    assert 0.75 * p.peak_bytes_per_ns < result.bandwidth_bytes_per_ns < p.peak_bytes_per_ns
    assert measure(dram.MODEL, dram.init(p), load, p.capacity_bytes, p.tick_ns).mean_ns == result.mean_ns


def test_more_load_takes_longer():
    p = dram_parameters("ddr4_3200")
    loads = [Load(size_bytes=64, rate_bytes_per_ns=rate, requests=5000) for rate in (1.0, 6.0, 10.0)]
    means = [measure(dram.MODEL, dram.init(p), load, p.capacity_bytes, p.tick_ns).total_mean_ns for load in loads]
    assert all(a < b for a, b in pairwise(means))


def test_energy_adds_up():
    p = dram_parameters("ddr4_3200")
    result = measure(dram.MODEL, dram.init(p), Load(outstanding=8, requests=2000), p.capacity_bytes, p.tick_ns)
    spent = dram.energy_pj(p, result.counts, result.elapsed_ns)
    assert spent["read"] == pytest.approx(2000 * p.energy.read_pj, rel=0.02)
    assert spent["activate"] == pytest.approx(2000 * p.energy.activate_pj, rel=0.02)
    assert spent["background"] == pytest.approx(result.elapsed_ns * p.energy.background_w * 1000)
    assert RD == 0 and all(value > 0 for cause, value in spent.items() if cause != "write")


# --- cards: a path to the requester, another rate of the pins ---------------------------------------------------------


@pytest.mark.uncompiled
@pytest.mark.parametrize("is_write", [False, True])
def test_a_path_delays_each_request_and_holds_nothing(is_write):
    requests = [(i * 3.0, 64 * i, 64 if i % 3 else 256, is_write) for i in range(60)]
    p = dram_parameters("ddr4_3200", {"path_latency_ns": 100.0})
    near, log = drive(dram_parameters("ddr4_3200"), requests)
    far, far_log = drive(p, requests)
    assert (commands(log) == commands(far_log)).all()
    assert {ticket: far[ticket] - near[ticket] for ticket in near} == pytest.approx(dict.fromkeys(near, 100.0))


@pytest.mark.uncompiled
def test_a_long_path_has_room_for_what_is_on_it():
    """As many requests outstanding as the latency holds at full rate: the rate of the channel, not of its queues."""
    p = dram_parameters("hbm2_2000", {"path_latency_ns": 1000.0, "refresh": "none", "mapping": "MOP4CLXOR"})
    state = dram.init(p)
    assert state.slot.shape[0] >= 1000.0 * p.peak_bytes_per_ns / p.transaction_bytes
    done, _ = drive(p, [(0.0, 32 * i, 32, False) for i in range(1500)])
    last = max(done.values())
    assert 1500 * 32 / (last - 1000.0) > 0.9 * p.peak_bytes_per_ns


@pytest.mark.uncompiled
def test_another_rate_keeps_nanoseconds_and_minima_in_cycles():
    """The shipped HBM2E set was derived by hand from that of HBM2."""
    ours, theirs = dram_parameters("hbm2_2000", {"rate_mt_s": 3200}), dram_parameters("hbm2e_3200")
    apart = {name for name, value in ours if value != getattr(theirs, name)}
    assert apart <= {"name", "source", "energy"}
    same = dram_parameters("hbm3_6400", {"rate_mt_s": 6400})
    assert same == dram_parameters("hbm3_6400")
    for name in SETS:
        slower, faster = (dram_parameters(name, {"rate_mt_s": rate}) for rate in (1500, 9000))
        assert slower.nRCDRD * slower.tCK_ps == pytest.approx(faster.nRCDRD * faster.tCK_ps, rel=0.25)
        assert faster.peak_bytes_per_ns == pytest.approx(6 * slower.peak_bytes_per_ns, rel=0.01)


@pytest.mark.uncompiled
@pytest.mark.parametrize("rate", [0, -1, "fast", True, 1e7])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(InputError, match="rate_mt_s is"):
        dram_parameters("hbm2_2000", {"rate_mt_s": rate})
