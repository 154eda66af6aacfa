"""Links: the arithmetic of packets and flits by hand, sharing against packets sent in turn, and the laws of both."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.devices import link
from sim.errors import InputError
from sim.kernels.compile import kernel
from sim.links.flits import DOWN, UP, flit_rules, line_bytes, pack
from sim.links.parameters import link_parameters, packets_of, share_rates, wire_bytes
from sim.links.protocol import protocol_names, read_protocol
from sim.profile import device_names, load_device

submit, advance, next_event = map(kernel, (link.submit, link.advance, link.next_event))
PCIE = {"protocol": "pcie3", "lanes": 16, "up_latency_ns": 450.0, "down_latency_ns": 450.0}
LINKS = [name for name in device_names() if load_device(name).model == "link"]


def run(parameters, requests, step_ns=None):
    """When each (arrival_ns, size, is_write) was done; and the state. step_ns: advance that often, too."""
    state = link.init(parameters)
    done_ns = np.full(len(requests), np.nan)

    def go(until_ns):
        for i in range(advance(state, until_ns)):
            done_ns[state.done_ticket[i]] = state.done_ns[i]

    now = 0.0
    for ticket, (arrival_ns, size, is_write) in enumerate(requests):
        while step_ns and now + step_ns < arrival_ns:
            now += step_ns
            go(now)
        go(float(arrival_ns))
        now = float(arrival_ns)
        assert submit(state, ticket, now, 0, size, is_write)
    while (at := next_event(state)) < np.inf:
        while step_ns and now + step_ns < at:
            now += step_ns
            go(now)
        now = at
        go(at)
    assert not np.isnan(done_ns).any()
    return done_ns, state


# --- arithmetic ------------------------------------------------------------------------------------------------------


def test_pcie_by_hand():
    p = link_parameters(PCIE)
    raw = 16 * 8 / 8 * 128 / 130 * (1 - 4 / 1538)
    assert p.raw_bytes_per_ns == pytest.approx(raw)
    up, down = packets_of(p, 0), packets_of(p, 1)
    assert wire_bytes(up, 64) == 84 and wire_bytes(up, 65) == 68 + 2 * 20  # completions of 64 B, double words
    assert wire_bytes(down, 256) == 280 and wire_bytes(down, 257) == 260 + 2 * 24
    assert up.opposite == pytest.approx((24 * 64 / 512 + 16 / 3) / 84)  # requests each 512 B, acknowledgements
    assert down.opposite == pytest.approx(16 / 3 / 280)
    flits = link_parameters({**PCIE, "protocol": "pcie6"})
    assert flits.raw_bytes_per_ns == pytest.approx(128)
    assert wire_bytes(packets_of(flits, 1), 256) == pytest.approx((256 + 16) * 256 / 236)


def test_who_asks_decides_which_way_data_are_posted():
    gpu, drive = link_parameters(PCIE), link_parameters({**PCIE, "requester": "device"})
    assert packets_of(gpu, 0)[:5] == packets_of(drive, 1)[:5]
    assert packets_of(gpu, 1)[:5] == packets_of(drive, 0)[:5]


def test_flits_by_hand():
    two, three = read_protocol("cxl2"), read_protocol("cxl3")
    # 68 B: four writes are four flits of a header and three slots of data, and one of data; of reads two headers fit
    assert line_bytes(two, DOWN, True) == pytest.approx(5 / 4 * 68)
    assert line_bytes(two, UP, True) == pytest.approx(9 / 8 * 68)
    assert line_bytes(two, DOWN, False) == pytest.approx(68 / 4)
    assert line_bytes(two, UP, False) == pytest.approx(68 / 8)
    assert line_bytes(three, DOWN, False) == pytest.approx(256 / 15, rel=1e-2)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["cxl1", "cxl3"]), st.sampled_from([DOWN, UP]), st.lists(st.integers(0, 9), min_size=3, max_size=12)
)
def test_a_flit_holds_what_its_slots_do_and_all_is_sent(name, way, coming):
    protocol = read_protocol(name)
    rule = flit_rules(protocol)
    plain, loaded, left, turn, data = 0, 0, 0, 1, 0
    begun = sent_plain = 0
    for nth in range(400):
        if nth < len(coming):
            plain, loaded = plain + coming[nth], loaded + coming[-nth]
        taken, more, sent, turn = pack(rule, way, plain, loaded, left, turn)
        most = max(rule[3 + way : 7 + way])
        slots = math.ceil(taken / most) + math.ceil(more / most) + sent
        assert slots <= protocol.slots_per_flit and 0 <= taken <= plain and 0 <= more <= loaded
        assert sent <= left + 4 * more  # no data before its header
        assert sent < protocol.slots_per_flit or (protocol.all_data_flits and taken + more == 0)
        if plain + loaded + left:
            assert taken + more + sent > 0
        plain, loaded, left = plain - taken, loaded - more, left + 4 * more - sent
        begun, sent_plain, data = begun + more, sent_plain + taken, data + sent
    assert (plain, loaded, left) == (0, 0, 0)
    assert data == 4 * begun


@pytest.mark.parametrize("name", protocol_names())
@pytest.mark.parametrize("is_write", [0, 1])
def test_one_transfer_alone_takes_what_the_formula_says(name, is_write):
    protocol = read_protocol(name)
    p = link_parameters(
        {
            **PCIE,
            "protocol": name,
            "lanes": protocol.most_lanes,
            "copy_overhead_ns": 1000,
            "switch_hops": 2,
            "retimers": 1,
        }
    )
    for size in (1, 64, 4096, (1 << 30) + 5):
        (done_ns,), state = run(p, [(7.0, size, is_write)])
        rate = share_rates(p)[1 if p.protocol.half_duplex or not is_write else 2][
            0 if p.protocol.half_duplex else is_write
        ]
        assert rate <= p.raw_bytes_per_ns
        line_ns = wire_bytes(packets_of(p, is_write), size) / rate
        assert done_ns == pytest.approx(7 + 1000 + 450 + 2 * 110 + 60 + line_ns, rel=1e-12)
        assert state.counts[2 + is_write] == size and state.counts[is_write] == 1


# --- sharing ---------------------------------------------------------------------------------------------------------


def in_turn(p, requests):
    """When each transfer is done if packets are sent one by one, those of each direction's transfers in turn."""
    lines = [{"free": 0.0, "debt": 0.0, "flows": []} for _ in range(2)]
    coming, done = [], {}
    for ticket, (arrival_ns, size, is_write) in enumerate(requests):
        way = int(is_write)
        packets, latency = packets_of(p, way), p.latency_ns(way)
        before = latency / 2 if p.is_asked_for(way) else 0.0
        coming.append((arrival_ns + p.copy_overhead_ns + before, ticket, way, size, packets, latency - before))
    coming.sort()
    while coming or any(line["flows"] for line in lines):
        ready = [max(line["free"], line["flows"][0][0]) if line["flows"] else math.inf for line in lines]
        now = min(ready)
        if coming and coming[0][0] <= now:
            start, ticket, way, size, packets, after = coming.pop(0)
            lines[way]["flows"].append([start, ticket, size, packets, after])
            continue
        way = ready.index(now)
        line, other = lines[way], lines[1 - way]
        flow = line["flows"].pop(0)
        packets = flow[3]
        payload = min(flow[2], packets.payload_bytes)
        own = wire_bytes(packets, payload)
        idle_bytes = (now - line["free"]) * p.raw_bytes_per_ns  # in which what the other way brought went out
        line["free"] = now + (max(0.0, line["debt"] - idle_bytes) + own) / p.raw_bytes_per_ns
        line["debt"] = 0.0
        other["debt"] += own * packets.opposite
        flow[2] -= payload
        if flow[2]:
            line["flows"].append(flow)
        else:
            done[flow[1]] = line["free"] + flow[4]
    return np.array([done[ticket] for ticket in range(len(requests))])


TRANSFERS = st.lists(st.tuples(st.floats(0, 2000), st.integers(1, 40_000), st.booleans()), min_size=1, max_size=14)


@settings(max_examples=30, deadline=None)
@given(TRANSFERS, st.sampled_from(["pcie3", "pcie6", "nvlink3", "cxl2"]))
def test_sharing_is_packets_in_turn_within_one_packet_of_each_transfer(transfers, name):
    transfers = sorted(transfers)
    lanes = min(4, read_protocol(name).most_lanes)
    p = link_parameters({**PCIE, "protocol": name, "lanes": lanes, "read_window_bytes": 0, "write_window_bytes": 0})
    ours, _ = run(p, transfers)
    theirs = in_turn(p, transfers)
    packet = max(wire_bytes(packets_of(p, way), packets_of(p, way).payload_bytes) for way in (0, 1))
    slowest = min(share_rates(p)[3])
    assert np.abs(ours - theirs).max() <= (len(transfers) + 1) * packet / slowest


@settings(max_examples=25, deadline=None)
@given(TRANSFERS, st.floats(5, 500), st.booleans())
def test_laws(transfers, step_ns, half):
    transfers = sorted(transfers)
    made = {"protocol": "tsv", "lanes": 64} if half else {"protocol": "pcie4", "lanes": 2}
    p = link_parameters({**PCIE, **made, "copy_overhead_ns": 100})
    done_ns, state = run(p, transfers)
    again, other = run(p, transfers, step_ns)
    assert (done_ns == again).all() and (state.counts == other.counts).all()  # however often it is advanced
    for (arrival_ns, size, is_write), at in zip(transfers, done_ns, strict=True):
        alone = 550 + wire_bytes(packets_of(p, is_write), size) / p.raw_bytes_per_ns
        assert at >= arrival_ns + alone * (1 - 1e-12) - 1e-6
    for way in (0, 1):
        assert state.counts[2 + way] == sum(size for _, size, is_write in transfers if is_write == way)
    elapsed = done_ns.max() - min(arrival for arrival, _, _ in transfers) - 100 - 225
    lines = [sum(state.counts[4:])] if half else state.counts[4:]
    assert all(line <= elapsed * p.raw_bytes_per_ns + len(transfers) + 1 for line in lines)
    assert (state.whole[2:] == 0).all()
    assert next_event(state) == np.inf


def test_equal_transfers_share_equally_and_a_small_one_is_not_stuck_behind_a_large_one():
    p = link_parameters(PCIE)
    done_ns, _ = run(p, [(0.0, 1 << 20, False)] * 4)
    assert np.ptp(done_ns) < 1e-6
    alone = run(p, [(0.0, 1 << 20, False)])[0][0] - 450
    assert done_ns[0] - 450 == pytest.approx(4 * alone)
    done_ns, _ = run(p, [(0.0, 1 << 30, False), (1000.0, 4096, False)])
    assert done_ns[1] - 1000 - 450 == pytest.approx(2 * wire_bytes(packets_of(p, 0), 4096) / p.raw_bytes_per_ns)
    assert done_ns[0] > 8e7


def test_a_large_transfer_costs_no_event_a_packet():
    p, steps = link_parameters(PCIE), 0
    state = link.init(p)
    submit(state, 0, 0.0, 0, 1 << 30, False)
    while (at := next_event(state)) < np.inf:
        advance(state, at)
        steps += 1
    assert steps == 3  # it starts, its last byte leaves, it is there


def test_both_ways_at_once_each_gets_less_than_alone_and_more_together():
    for name in ("pcie3", "pcie6", "nvlink4", "cxl2", "cxl3"):
        protocol = read_protocol(name)
        p = link_parameters({**PCIE, "protocol": name, "lanes": protocol.most_lanes, "write_window_bytes": 0})
        _, (up, _), (_, down), both = share_rates(p)
        assert both[0] <= up and both[1] < down and sum(both) > max(up, down)
        for way in (0, 1):  # the line is full, and no fuller
            used = both[way] + both[1 - way] * packets_of(p, 1 - way).opposite
            assert used == pytest.approx(p.raw_bytes_per_ns)
        read, write = (rate / wire_bytes(packets_of(p, way), 1 << 20) for way, rate in enumerate((up, down)))
        assert (read != write) or name.startswith("nvlink")


def test_credits_bound_what_is_under_way():
    for window in (256, 4096, 1 << 16):
        p = link_parameters({**PCIE, "read_window_bytes": window, "write_window_bytes": window, "credit_return_ns": 50})
        for is_write, round_trip in ((False, 450), (True, 500)):
            done_ns = run(p, [(0.0, 1 << 24, is_write)])[0][0]
            rate = (1 << 24) / (done_ns - 450)
            assert rate * round_trip <= window * (1 + 1e-9)
            assert rate == pytest.approx(min(window / round_trip, rate if window > 8192 else math.inf))


def test_a_full_link_refuses_and_goes_on():
    p = link_parameters({**PCIE, "transfers": 2})
    state = link.init(p)
    assert submit(state, 0, 0.0, 0, 64, False) and submit(state, 1, 0.0, 0, 64, True)
    assert not submit(state, 2, 0.0, 0, 64, False)
    assert advance(state, 1e6) == 2
    assert submit(state, 2, 1e6, 0, 64, False)


def test_pcie_copies_are_near_the_measured_curve():
    """gpu-benches, cuda-memcpy, Tesla V100 on PCIe 3.0 x16: the fixed cost is given, the rest is arithmetic."""
    p = link.of_device(load_device("pcie3_x16"), {})
    for size, measured, off in (
        (1 << 12, 0.12, 0.12),
        (1 << 16, 1.77, 0.05),
        (1 << 20, 9.25, 0.05),
        (1 << 30, 12.35, 0.04),
    ):
        done_ns = run(p, [(0.0, size, False)])[0][0]
        assert size / done_ns == pytest.approx(measured, rel=off)


@pytest.mark.parametrize("name", LINKS)
def test_shipped_links_are_near_their_own_files(name):
    device = load_device(name)
    p = link.of_device(device, {"copy_overhead_ns": 0})
    for is_write in (False, True):
        (small_ns,), _ = run(p, [(0.0, 1, is_write)])
        assert device.access(is_write).latency_ns <= small_ns <= device.access(is_write).latency_ns * 1.03 + 7
        (large_ns,), _ = run(p, [(0.0, 1 << 30, is_write)])
        assert 0.74 < (1 << 30) / large_ns / device.access(is_write).bandwidth_bytes_per_ns < 1.2


BAD = [
    ({"protocol": "pcie7"}, "unknown link protocol 'pcie7'; did you mean"),
    ({"lanes": 0}, "lanes is 0; expected 1 to 32"),
    ({"lanes": 33}, "lanes is 33"),
    ({"lane_rate_gt_s": 0}, "lane_rate_gt_s is 0"),
    ({"lane_rate_gt_s": -1}, "lane_rate_gt_s is -1"),
    ({"payload_bytes": 8192}, "payload_bytes is 8192"),
    ({"payload_bytes": 0}, "payload_bytes is 0"),
    ({"completion_bytes": 100}, "a multiple of 64, the read completion boundary"),
    ({"read_request_bytes": 8192}, "read_request_bytes is 8192"),
    ({"line_bits": 64}, "more bits than it sends"),
    ({"lane": 4}, "unknown link parameter 'lane'; did you mean 'lanes'"),
    ({"up_latency_ns": -1}, "up_latency_ns is -1"),
    ({"requester": "nobody"}, "link parameter requester is 'nobody'"),
    ({"links": 0}, "links is 0"),
    ({"transfers": 0}, "transfers is 0"),
    ({"acknowledge_bytes": 1000}, "expected headers that leave room for data"),
    ({"half_duplex": True}, "half duplex"),
    ({"protocol": "cxl2", "lanes": 8, "slots_per_flit": 5}, "flit_bytes is 68"),
    ({"protocol": None}, "no parameter 'protocol'"),
]


@pytest.mark.parametrize(("changes", "told"), BAD, ids=[told for _, told in BAD])
def test_bad_input_is_told_in_one_line(changes, told):
    with pytest.raises(InputError) as error:
        link_parameters({**PCIE, **changes})
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_memory_is_no_link():
    with pytest.raises(InputError, match="is no link"):
        link.of_device(load_device("ddr4_3200"), {})
