"""The banked SRAM: against a slow oracle, its closed forms, its laws, and what it refuses.

Hooks called from Python run as plain Python, so that most of this needs no compilation.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.cli import main
from sim.devices import sram
from sim.errors import InputError
from sim.probing import probe
from sim.profile import device_names, load_device
from sim.sram.parameters import SramParameters, sram_parameters
from sim.sram.places import home_of, side_of
from sim.sram.slices import advance, next_event, submit
from sim.sram.state import BANK_CONFLICTS, FAR_ACCESSES, NEAR_HITS, make_state
from sim.traffic import Load, measure
from tests.sram_oracle import Line, Oracle

SMALL = {
    "name": "small",
    "slices": 4,
    "slice_bytes": 1024,
    "line_bytes": 64,
    "interleave_bytes": 64,
    "clock_ghz": 1.0,
    "latency_cycles": 10,
    "port_bytes_per_cycle": 32.0,
    "banks_per_slice": 2,
    "bank_cycles": 3,
    "queue": 4,
    "footprint_bytes": 4096,
}
TWO = {"partitions": 2, "link_bytes_per_cycle": 16.0, "link_cycles": 7}


def small(**changes):
    return SramParameters(**(SMALL | changes))


def drive(state, requests, every_ns=math.inf):
    """Put (arrival_ns, address, size_bytes, is_write) to the device as soon as it takes them: ticket -> done_ns."""
    done, now_ns, seen_ns = {}, 0.0, 0.0

    def go_to(until_ns):
        nonlocal seen_ns
        while seen_ns + every_ns < until_ns:
            seen_ns += every_ns
            collect(seen_ns)
        collect(until_ns)
        seen_ns = until_ns

    def collect(until_ns):
        last_ns = 0.0
        for i in range(advance(state, until_ns)):
            ticket = int(state.done_ticket[i])
            assert ticket not in done, "done twice"
            done[ticket] = float(state.done_ns[i])
            assert last_ns <= done[ticket] <= until_ns, "out of order, or not yet"
            last_ns = done[ticket]

    for ticket, (arrival_ns, address, size_bytes, is_write) in enumerate(requests):
        now_ns = max(now_ns, arrival_ns)
        go_to(now_ns)
        while not submit(state, ticket, now_ns, address, size_bytes, is_write):
            now_ns = max(now_ns, next_event(state))
            assert now_ns < math.inf, "stuck"
            go_to(now_ns)
    while (following_ns := next_event(state)) < math.inf:
        go_to(following_ns)
    return done


def random_requests(p, count, seed=1, gap_ns=2.0, write_share=0.3, most_lines=1):
    rng = np.random.default_rng(seed)
    arrival_ns = np.cumsum(rng.exponential(gap_ns, count))
    sizes = rng.integers(1, most_lines * p.line_bytes + 1, count)
    places = rng.integers(0, p.capacity_bytes, count)
    writes = rng.random(count) < write_share
    return [
        (float(at), int(min(place, p.capacity_bytes - size)), int(size), bool(write))
        for at, place, size, write in zip(arrival_ns, places, sizes, writes, strict=True)
    ]


VARIANTS = {
    "plain": small(),
    "not hashed": small(hashed=False),
    "tiles": small(interleave_bytes=1024, hashed=False),
    "short queue": small(queue=1),
    "two partitions, all copied": small(footprint_bytes=2048, **TWO),
    "two partitions, some copied": small(footprint_bytes=3072, **TWO),
    "two partitions, none copied": small(**TWO),
    "fractions of a cycle": small(clock_ghz=1.37, port_bytes_per_cycle=21.3, bank_cycles=1.7),
}
each = pytest.mark.parametrize("p", VARIANTS.values(), ids=VARIANTS.keys())


# --- against the oracle ----------------------------------------------------------------------------------------------

LINES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 63), st.sampled_from([32, 64]), st.booleans()), min_size=1, max_size=30
)


def with_oracle(p, drawn, all_copied):
    requests, lines, now = [], [], 0
    rule = make_state(p).rule
    for ticket, (gap, number, size, write) in enumerate(drawn):
        now += gap
        number %= p.capacity_bytes // p.line_bytes
        requests.append((float(now), number * p.line_bytes, size, write))
        home, bank = map(int, home_of(rule, number))
        near, half = home, p.slices // 2
        if p.partitions == 2:
            near = home % half + int(side_of(ticket)) * half
        lines.append((now, Line(ticket, near, home, bank, size, write)))
    return drive(make_state(p), requests), Oracle(p, all_copied).run(lines)


@pytest.mark.uncompiled
@settings(max_examples=60, deadline=None)
@given(drawn=LINES, banks=st.sampled_from([1, 2]), queue=st.integers(1, 4), hashed=st.booleans())
def test_one_partition_is_what_queues_give(drawn, banks, queue, hashed):
    ours, theirs = with_oracle(
        small(slices=2, banks_per_slice=banks, queue=queue, hashed=hashed, footprint_bytes=2048), drawn, False
    )
    assert ours == theirs


@pytest.mark.uncompiled
@settings(max_examples=60, deadline=None)
@given(drawn=LINES, queue=st.integers(1, 4), copied=st.booleans())
def test_two_partitions_are_what_queues_give(drawn, queue, copied):
    if copied:  # a write would drop a copy, which the oracle does not keep account of
        drawn = [(gap, number, size, False) for gap, number, size, _ in drawn]
    p = small(queue=queue, footprint_bytes=2048 if copied else 4096, **TWO)
    ours, theirs = with_oracle(p, drawn, copied)
    assert ours == theirs


# --- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.uncompiled
@each
@pytest.mark.parametrize("write", [False, True])
def test_one_access_alone_takes_the_closed_form(p, write):
    for ticket in range(12):
        state, line = make_state(p), 5 * ticket % (p.capacity_bytes // p.line_bytes)
        home, _ = home_of(state.rule, line)
        far = p.partitions == 2 and side_of(ticket) != home // (p.slices // 2)
        far = far and (write or state.copy_at[line] < 0)
        assert submit(state, ticket, 4.0, line * p.line_bytes, 48, write)
        while (following_ns := next_event(state)) < math.inf:
            count = advance(state, following_ns)
        expected = 4.0 + p.latency_ns + (0.0 if far and write else p.port_ns(48))
        expected += far * (2 * p.link_cycles * p.clock_ns + p.line_link_ns)
        assert count == 1
        assert state.done_ns[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.uncompiled
def test_lines_of_one_bank_wait_for_its_cycle_and_of_one_slice_for_its_port():
    p = small(hashed=False, queue=16, port_bytes_per_cycle=64.0)
    lines = p.slices * p.banks_per_slice
    one_bank = drive(make_state(p), [(0.0, i * lines * 64, 64, False) for i in range(4)])
    assert [one_bank[i] - one_bank[0] for i in range(4)] == [0.0, 3.0, 6.0, 9.0]
    p = small(hashed=False, queue=16, banks_per_slice=16)
    one_slice = drive(make_state(p), [(0.0, i * p.slices * 64, 64, False) for i in range(4)])
    assert [one_slice[i] - one_slice[0] for i in range(4)] == [0.0, 2.0, 4.0, 6.0]


@pytest.mark.uncompiled
def test_a_stacked_die_adds_its_cycles():
    plain, stacked = (drive(make_state(small(stacked_cycles=c)), [(0.0, 0, 64, False)])[0] for c in (0, 4))
    assert stacked - plain == 4.0


def test_one_bank_is_an_m_d_1_queue():
    """Poisson arrivals at one server of constant time: the mean wait of Pollaczek and Khinchine."""
    p = small(slices=1, banks_per_slice=1, bank_cycles=4, slice_bytes=4096, queue=10_000)
    for load in (0.3, 0.7):
        wanted = Load("rand", size_bytes=64, rate_bytes_per_ns=load * 64 / 4, requests=200_000)
        result = measure(sram.MODEL, make_state(p), wanted, p.capacity_bytes)
        wait_ns = result.mean_ns - p.latency_ns - p.port_ns(64)
        assert wait_ns == pytest.approx(4 * load / (2 * (1 - load)), rel=0.04)


# --- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.uncompiled
@each
@pytest.mark.parametrize("gap_ns", [0.3, 6.0])
def test_every_request_is_done_once_and_none_too_soon(p, gap_ns):
    requests = random_requests(p, 250, gap_ns=gap_ns, most_lines=3)
    state = make_state(p)
    done = drive(state, requests)
    assert sorted(done) == list(range(len(requests)))
    least_ns = p.latency_ns + p.port_ns(1)
    assert all(done[t] >= at + least_ns - 1e-9 or done[t] >= at + p.latency_ns for t, (at, *_) in enumerate(requests))
    assert state.queued.sum() == 0
    lines = sum((a + s - 1) // p.line_bytes - a // p.line_bytes + 1 for _, a, s, _ in requests)
    assert state.counts[NEAR_HITS] + state.counts[FAR_ACCESSES] == lines
    assert (state.counts[FAR_ACCESSES] > 0) == (p.partitions == 2)


@pytest.mark.uncompiled
@each
def test_looking_more_often_changes_nothing(p):
    requests = random_requests(p, 150, gap_ns=1.0, most_lines=3)
    seldom, again, often = (drive(make_state(p), requests, every_ns=e) for e in (math.inf, math.inf, 0.37))
    assert seldom == again == often


@pytest.mark.uncompiled
@each
def test_copies_are_those_that_fit_and_never_of_what_is_at_home(p):
    if p.partitions == 1:
        return
    state = make_state(p)
    drive(state, random_requests(p, 300, gap_ns=1.0, write_share=0.2))
    lines = np.arange(p.capacity_bytes // p.line_bytes)
    home = home_of(state.rule, lines)[0] // (p.slices // 2)
    kept = 0
    for partition in range(2):
        filled, room = state.copy_room[partition]
        mine = state.copies[partition, :filled]
        assert filled <= room == p.slices // 2 * p.slice_bytes // p.line_bytes - (home == partition).sum()
        assert (home[mine] == 1 - partition).all()
        assert (state.copy_at[mine] == np.arange(filled)).all()
        kept += filled
    assert (state.copy_at >= 0).sum() == kept


def found_again(lines, room, one_sided):
    """Share of copies that are found when all is passed over in turn again and again, some misses replacing others.

    From one side each far line is asked for once a round, which has (1 - h) lines misses: h = exp(-(1 - h) lines /
    room). From both, every other round: with q = exp(-(1 - h) lines / 2 room) of a round, h = q/2 + (q/2)^2 + ...
    """
    again = 0.5
    for _ in range(200):
        kept = math.exp(-(1 - again) * lines / room / (1 if one_sided else 2))
        again = kept if one_sided else kept / 2 / (1 - kept / 2)
    return again


@pytest.mark.parametrize("one_sided", [False, True])
def test_copies_are_hit_as_often_as_random_replacement_gives(one_sided):
    """Drawn at random, a far line is copied with probability room / lines; passed over in turn, as `found_again`."""
    footprint = 10 * (1 << 14)  # 10 / 16 of the capacity
    p = small(slice_bytes=1 << 16, queue=64, footprint_bytes=footprint, one_sided=one_sided, **TWO)
    lines, room = 5, 3  # far ones of a partition, and what its own leave; in 16ths of the capacity
    for pattern, share in (("rand", room / lines), ("seq", found_again(lines, room, one_sided))):
        load = Load(pattern, size_bytes=64, outstanding=1, requests=40_960, warmup=40_960)
        counts = measure(sram.MODEL, make_state(p), load, p.capacity_bytes).counts
        assert counts[NEAR_HITS] / 40_960 == pytest.approx(0.5 + 0.5 * share, rel=0.02), pattern


@pytest.mark.uncompiled
@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("unit", [64, 256])
def test_slices_and_banks_have_equally_many_lines(hashed, unit):
    p = small(slices=6, slice_bytes=1536, interleave_bytes=unit, footprint_bytes=6 * 1536, hashed=hashed)
    at, bank = home_of(make_state(p).rule, np.arange(6 * 24))
    assert np.bincount(at).tolist() == [24] * 6
    assert np.bincount(at * 2 + bank).tolist() == [12] * 12


@pytest.mark.uncompiled
def test_a_stride_over_all_slices_keeps_to_one_only_without_the_hash():
    for hashed, least in ((False, 1), (True, 3)):
        p = small(slices=4, slice_bytes=4096, footprint_bytes=16384, hashed=hashed)
        at, _ = home_of(make_state(p).rule, np.arange(0, 256, 4))
        assert len(set(at.tolist())) >= least
        assert hashed or len(set(at.tolist())) == 1


def test_a_stream_comes_near_what_the_ports_pass_and_never_beyond():
    p = small(queue=64, banks_per_slice=8)
    for pattern, least in (("seq", 0.98), ("rand", 0.85)):
        load = Load(pattern, size_bytes=64, outstanding=256, requests=20_000)
        rate = measure(sram.MODEL, make_state(p), load, p.capacity_bytes, p.clock_ns).bandwidth_bytes_per_ns
        assert least * p.peak_bytes_per_ns < rate <= p.peak_bytes_per_ns * 1.001
    slow = small(queue=64, banks_per_slice=1, bank_cycles=8)
    load = Load("seq", size_bytes=64, outstanding=256, requests=20_000)
    result = measure(sram.MODEL, make_state(slow), load, slow.capacity_bytes, slow.clock_ns)
    assert result.bandwidth_bytes_per_ns == pytest.approx(4 * 64 / 8, rel=0.01)
    assert result.counts[BANK_CONFLICTS] > 0


@pytest.mark.uncompiled
def test_a_full_queue_refuses_and_changes_nothing():
    p = small(hashed=False, queue=1)
    state = make_state(p)
    assert submit(state, 0, 0.0, 0, 64, False)
    before = [np.copy(part) for part in state if isinstance(part, np.ndarray)]
    assert not submit(state, 1, 0.0, p.slices * 64, 64, False)
    after = [part for part in state if isinstance(part, np.ndarray)]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert submit(state, 1, 0.0, 64, 64, False), "another slice has room"


@pytest.mark.uncompiled
def test_a_request_larger_than_all_queues_goes_through_bit_by_bit():
    p = small(queue=1)
    state = make_state(p)
    done = drive(state, [(0.0, 0, p.capacity_bytes, False), (0.0, 0, 64, True)])
    assert done[0] >= p.capacity_bytes / p.peak_bytes_per_ns
    assert done[1] > 0


# --- shipped devices -------------------------------------------------------------------------------------------------


def shipped():
    return [name for name in device_names() if load_device(name).model == "sram"]


@pytest.mark.uncompiled
def test_shipped_devices_agree_with_their_own_figures():
    names = shipped()
    assert len(names) >= 18
    for name in names:
        device = load_device(name)
        p = sram_parameters(device, {})
        assert p.peak_bytes_per_ns == pytest.approx(device.read.bandwidth_bytes_per_ns, rel=0.05), name
        assert p.latency_ns == pytest.approx(device.read.latency_ns, rel=0.05), name
        assert p.slices * p.slice_bytes == pytest.approx(device.capacity_bytes, rel=0.05), name


def test_half_of_the_l2_is_fast_and_all_of_it_is_not():
    """What is measured on an A100: latency 151 ns up to 20 MiB, 302 ns up to 39; 5,430 GB/s, and 2,460 at 40 MB."""
    alone = Load("rand", size_bytes=128, outstanding=1, requests=1000, warmup=0)
    many = Load("rand", size_bytes=128, outstanding=32768, requests=60_000, warmup=60_000)
    half, all_of_it = (probe("l2_a100_40m", [alone, many], {"footprint": f}) for f in ("19 MiB", "39 MiB"))
    assert half[0].result.mean_ns == pytest.approx(151, rel=0.03)
    assert all_of_it[0].result.mean_ns == pytest.approx(302, rel=0.05)
    assert half[1].result.bandwidth_bytes_per_ns == pytest.approx(5430, rel=0.05)
    assert all_of_it[1].result.bandwidth_bytes_per_ns < 0.6 * half[1].result.bandwidth_bytes_per_ns


def test_energy_is_that_of_the_bits(tmp_path):
    reading = probe("l3_zen3_32m", [Load("rand", 0.5, 64, outstanding=4, requests=1000, warmup=0)])[0]
    bits = 8 * (reading.counts["read_bytes"] + reading.counts["written_bytes"])
    assert reading.energy_pj["read"] + reading.energy_pj["write"] == pytest.approx(bits * 1.56)
    assert reading.energy_pj["static"] == pytest.approx(reading.result.elapsed_ns * 640)


# --- bad input -------------------------------------------------------------------------------------------------------

BAD = [
    ({"clock_ghz": 0}, "clock_ghz is 0; expected above zero"),
    ({"slices": 3}, "3 slices do not divide the capacity"),
    ({"slices": 0}, "slices is 0"),
    ({"slices": 2.5}, "slices is 2.5"),
    ({"banks_per_slice": 0}, "banks_per_slice is 0"),
    ({"banks_per_slice": -2}, "banks_per_slice is -2"),
    ({"line_bytes": 96}, "whole lines of 96 B"),
    ({"interleave_bytes": 32}, "a multiple of the line"),
    ({"queue": 0}, "queue is 0"),
    ({"latency_cycles": -1}, "latency_cycles is -1"),
    ({"latency_cycles": "x"}, "latency_cycles is 'x'"),
    ({"port_bytes_per_cycle": 0}, "port_bytes_per_cycle is 0"),
    ({"partitions": 3}, "1 or 2"),
    ({"partitions": 2}, "link_bytes_per_cycle is 0.0; expected above zero"),
    ({"partitions": 2, "slices": 1, "link_bytes_per_cycle": 1}, "an even number"),
    ({"footprint": "1 GiB"}, "from one line to the capacity"),
    ({"footprint": "1 lightyear"}, "lightyear"),
    ({"footprint": 1.5}, "footprint is 1.5"),
    ({"hashed": "maybe"}, "hashed is 'maybe'"),
    ({"one_sided": 1}, "one_sided is 1; expected true or false"),
    ({"read_pj_per_bit": "x"}, "read_pj_per_bit is 'x'"),
    ({"slice_bytes": "x"}, "'x'"),
    ({"slice_bytes": 1.5}, "slice_bytes is 1.5"),
    ({"line_bytes": 0}, "line_bytes is 0"),
    ({"bank": 2}, "unknown SRAM parameter"),
]


@pytest.mark.uncompiled
@pytest.mark.parametrize(("change", "told"), BAD, ids=[told for _, told in BAD])
def test_bad_parameters_are_refused_with_the_rule(change, told):
    with pytest.raises(InputError) as error:
        sram_parameters(load_device("l3_zen3_32m"), change)
    assert told in str(error.value)


@pytest.mark.uncompiled
def test_a_device_without_the_parameters_it_needs_is_refused():
    device = dataclasses.replace(load_device("l3_zen3_32m"), parameters={"clock_ghz": 3.5})
    with pytest.raises(InputError, match="no parameter 'latency_cycles'"):
        sram_parameters(device, {})


def test_a_probe_from_the_command_line(capsys):
    with pytest.raises(SystemExit) as end:
        main(["probe", "l3_zen3_32m", "--pattern", "rand", "--outstanding", "4", "--size", "64B", "--requests", "500"])
    assert end.value.code == 0
    assert "GB/s" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["probe", "l3_zen3_32m", "--outstanding", "4", "--set", "clock_ghz=0"])
    assert end.value.code == 2
    assert "clock_ghz is 0" in capsys.readouterr().err
