"""CXL memory: a line alone by hand, flits and credits, several expanders and hosts, and the laws that bind them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.cli import main
from sim.devices import cxl, dram
from sim.dram.timing import dram_parameters
from sim.errors import InputError
from sim.kernels.compile import folders_used
from sim.links.expander import expander_parameters
from sim.links.flits import DOWN, UP, line_bytes
from sim.profile import device_names, load_device
from sim.traffic import Load, measure

# Small runs call the hooks as the Python that they are, which needs no compilation.
PARTS = {"host_ns": 38, "port_ns": 31, "switch_ns": 55, "controller_ns": 15}
ONE = {"protocol": "cxl2", "timing_set": "ddr5_4800", "lanes": 8, "channels": 2, **PARTS}
POOL = {**ONE, "switch": True, "hosts": 2, "expanders": 3, "host_lanes": 16}
EXPANDERS = [name for name in device_names() if load_device(name).model == "cxl"]


def run(parameters, requests, step_ns=None, watch=None):
    """When each (arrival_ns, address, size, is_write) was done; and the state. watch(state): at every step."""
    state = cxl.init(parameters)
    done_ns = np.full(len(requests), np.nan)

    def go(until_ns):
        count = cxl.advance(state, until_ns)
        for i in range(count):
            assert np.isnan(done_ns[state.done_ticket[i]])
            done_ns[state.done_ticket[i]] = state.done_ns[i]
        assert (np.diff(state.done_ns[:count]) >= 0).all()
        if watch:
            watch(state)

    now = 0.0
    for ticket, (arrival_ns, address, size, is_write) in enumerate(requests):
        while step_ns and now + step_ns < arrival_ns:
            now += step_ns
            go(now)
        while (at := cxl.next_event(state)) < arrival_ns:
            go(at)
        now = float(arrival_ns)
        go(now)
        assert cxl.submit(state, ticket, now, address, size, is_write)
    while (at := cxl.next_event(state)) < np.inf:
        while step_ns and now + step_ns < at:
            now += step_ns
            go(now)
        now = at
        go(at)
    assert not np.isnan(done_ns).any()
    return done_ns, state


def burst(lines, is_write=None, size=64):
    """So many lines asked for at once, one after the other in address; reads, writes, or the two in turn (None)."""
    return [(0.0, 64 * i, size, bool(i % 2) if is_write is None else is_write) for i in range(lines)]


def dram_ns(name, arrival_ns):
    """When DRAM alone has the data of a read that comes at this time."""
    state = dram.init(dram_parameters(name, {"mapping": "MOP4CLXOR"}))
    dram.advance(state, arrival_ns)
    dram.submit(state, 0, arrival_ns, 0, 64, False)
    while (at := dram.next_event(state)) < np.inf:
        if dram.advance(state, at):
            return state.done_ns[0]
    raise AssertionError


# --- a line alone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "data_flits"), [("cxl1", 2), ("cxl2", 2), ("cxl3", 1)])
def test_a_line_alone_takes_the_sum_of_its_parts(protocol, data_flits):
    p = expander_parameters({**ONE, "protocol": protocol})
    flit_ns = p.protocol.flit_bytes / p.link_bytes_per_ns(0)
    at_memory = 100 + flit_ns + 31 + 15
    (read_ns,), _ = run(p, [(100.0, 0, 64, False)])
    assert read_ns == pytest.approx(dram_ns("ddr5_4800", at_memory) + data_flits * flit_ns + 31 + 38)
    (write_ns,), _ = run(p, [(100.0, 0, 64, True)])  # its completion goes up as soon as a channel has taken it
    assert write_ns == pytest.approx(100 + data_flits * flit_ns + 31 + 15 + flit_ns + 31 + 38)


def test_a_switch_is_crossed_twice_and_adds_a_link():
    direct, pool = expander_parameters(ONE), expander_parameters({**ONE, "switch": True})
    narrow, wide = (68 / pool.link_bytes_per_ns(link) for link in (1, 0))
    assert narrow == pytest.approx(2 * wide)
    writes = [run(p, [(0.0, 0, 64, True)])[0][0] for p in (direct, pool)]
    assert writes[1] - writes[0] == pytest.approx(2 * 55 + 2 * 31 + (2 + 1) * wide)


def test_retimers_are_crossed_both_ways():
    plain, retimed = (expander_parameters({**ONE, "retimers": count}) for count in (0, 2))
    writes = [run(p, [(0.0, 0, 64, True)])[0][0] for p in (plain, retimed)]
    assert writes[1] - writes[0] == pytest.approx(2 * 2 * 30)


def test_without_a_link_only_controller_and_memory_are_left():
    p = expander_parameters({**ONE, "protocol": "none"})
    (read_ns,), state = run(p, [(0.0, 0, 64, False)])
    assert read_ns == pytest.approx(dram_ns("ddr5_4800", 15.0))
    assert (state.counts[2:6] == 0).all()


# --- laws ------------------------------------------------------------------------------------------------------------

REQUESTS = st.lists(
    st.tuples(st.floats(0, 1500), st.integers(0, 400), st.integers(1, 400), st.booleans()), min_size=1, max_size=25
)


@settings(max_examples=20, deadline=None)
@given(
    requests=REQUESTS,
    made=st.sampled_from(
        [ONE, POOL, {**POOL, "protocol": "cxl3", "hosts": 3}, {**ONE, "protocol": "none", "expanders": 2}]
    ),
    entries=st.sampled_from([1, 3, 128]),
    step_ns=st.floats(1, 200),
)
def test_laws(requests, made, entries, step_ns):
    requests = sorted((arrival, 64 * line, size, is_write) for arrival, line, size, is_write in requests)
    limits = {"request_entries": entries, "response_entries": entries, "host_entries": max(entries, 2)}
    p = expander_parameters({**made, **limits})

    def watch(state):
        assert (state.entries >= 0).all() and (state.entries <= entries).all()
        assert (state.waiting[:, 3] >= 0).all()

    done_ns, state = run(p, requests, watch=watch)
    again, other = run(p, requests, step_ns)
    assert (done_ns == again).all() and (state.counts == other.counts).all()  # however often it is advanced
    assert (state.entries == entries).all() and (state.waiting[:, 3] == limits["host_entries"]).all()
    counts = dict(zip(cxl.COUNTS, state.counts.tolist(), strict=True))
    lines = [[0, 0] for _ in range(2)]
    for _, address, size, is_write in requests:
        lines[is_write][0] += (address + size - 1) // 64 - address // 64 + 1
    reads, writes = lines[0][0], lines[1][0]
    assert (counts["read_lines"], counts["write_lines"]) == (reads, writes)
    assert counts["reads"] + counts["forwarded"] == reads
    assert counts["writes"] + counts["coalesced"] == writes
    links = 0 if p.protocol is None else 2 if p.switch else 1
    assert counts["up_slots"] == 4 * reads * links and counts["down_slots"] == 4 * writes * links
    least = 15 + (38 if links else 0) + 2 * links * 31 + (2 * 55 if p.switch else 0)
    for (arrival_ns, *_), at in zip(requests, done_ns, strict=True):
        assert at >= arrival_ns + least - 1e-6
    elapsed = done_ns.max() - requests[0][0]
    raw = sum(p.link_bytes_per_ns(link) for link in range(p.links))
    for flits in (counts["down_flits"], counts["up_flits"]):
        assert flits * (p.protocol.flit_bytes if links else 0) <= raw * elapsed + 1e-6


def test_reads_writes_and_both_are_what_flits_carry():
    """DRAM with room to spare: the link alone sets the pace."""
    p = expander_parameters({**ONE, "channels": 8, "dram.refresh": "none", "host_entries": 400})
    raw, rates = p.link_bytes_per_ns(0), {}
    for is_write in (False, True, None):
        done_ns, _ = run(p, burst(400, is_write))
        rates[is_write] = 400 * 64 / (done_ns.max() - done_ns.min())
    assert rates[False] == pytest.approx(raw * 64 / line_bytes(p.protocol, UP, True), rel=0.02)
    assert rates[True] == pytest.approx(raw * 64 / line_bytes(p.protocol, DOWN, True), rel=0.02)
    assert rates[None] == pytest.approx(2 * raw * 64 / (85 + 17), rel=0.04)  # a write and a request in each 102 B


def test_few_entries_hold_a_device_back_as_little_s_law_says():
    p = expander_parameters({**ONE, "response_entries": 2, "dram.refresh": "none"})
    done_ns, _ = run(p, [(0.0, 4096 * 7 * i, 64, False) for i in range(120)])
    rate = 120 / (done_ns.max() - done_ns.min())
    assert rate <= 2 / (dram_ns("ddr5_4800", 0.0) - 1)
    free, _ = run(
        expander_parameters({**ONE, "dram.refresh": "none"}), [(0.0, 4096 * 7 * i, 64, False) for i in range(120)]
    )
    assert done_ns.max() > 2 * free.max()


def test_interleaved_expanders_add_up():
    rates = []
    for expanders in (1, 2, 4):
        p = expander_parameters({**ONE, "expanders": expanders, "lanes": 2, "host_entries": 500})
        done_ns, _ = run(p, burst(500, False))
        middle = np.sort(done_ns)[100:400]
        rates.append(299 * 64 / (middle[-1] - middle[0]))
    assert rates[1] == pytest.approx(2 * rates[0], rel=0.03)
    assert rates[2] == pytest.approx(4 * rates[0], rel=0.05)


def test_addresses_are_spread_over_expanders_and_channels_and_none_is_used_twice():
    p = expander_parameters({**ONE, "expanders": 3, "channels": 2, "interleave_bytes": 512})
    state, seen = cxl.init(p), set()
    for number in range(400):
        assert cxl.submit(state, number, 0.0, 64 * number, 64, False)
        seen.add((int(state.line[number, 1]), int(state.line[number, 2])))
    assert len(seen) == 400
    per_channel = np.bincount([channel for channel, _ in seen], minlength=6)
    assert np.ptp(per_channel) <= 8
    assert [int(state.line[n, 1]) // 2 for n in range(0, 32, 8)] == [0, 1, 2, 0]  # 8 lines of 64 B each


def test_hosts_of_a_pool_share_it_fairly_and_each_has_its_own_port():
    alone = expander_parameters({**POOL, "hosts": 1, "host_lanes": 4, "expanders": 2})
    both = expander_parameters({**POOL, "hosts": 2, "host_lanes": 4, "expanders": 2})
    first, _ = run(alone, burst(400, False))
    second, _ = run(both, burst(400, False))  # even tickets of one host, odd of the other
    assert second.max() < 0.62 * first.max()
    shared = expander_parameters({**POOL, "hosts": 2, "host_lanes": 16, "expanders": 1, "lanes": 2})
    done_ns, _ = run(shared, burst(400, False))
    assert done_ns[::2].max() == pytest.approx(done_ns[1::2].max(), rel=0.02)
    assert np.median(done_ns[::2]) == pytest.approx(np.median(done_ns[1::2]), rel=0.05)


def test_a_full_model_refuses_and_goes_on():
    p = expander_parameters({**ONE, "requests": 2})
    state = cxl.init(p)
    assert cxl.submit(state, 0, 0.0, 0, 64, False) and cxl.submit(state, 1, 0.0, 0, 6400, True)
    assert not cxl.submit(state, 2, 0.0, 0, 64, False)
    assert cxl.advance(state, 1e6) == 2
    assert cxl.submit(state, 2, 1e6, 0, 64, False)


def test_machine_code_is_kept_by_the_sources_of_all_that_it_is_made_of():
    assert {"devices", "dram", "links"} <= {folder.name for folder in folders_used("sim.devices.cxl")}
    assert folders_used("numpy") == folders_used("no_such_module") == []


# --- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPANDERS)
def test_shipped_expanders_have_parameters(name):
    p = cxl.of_device(load_device(name), {})
    assert p.protocol is not None and p.controller_ns > 0


def test_a_probe_of_an_expander_tells_reads_from_writes(capsys):
    """Compiled, and equal to what the uncompiled hooks give."""
    line = ["probe", "cxl_e3s_96g", "--pattern", "seq", "--outstanding", "1,256", "--requests", "3000", "--json"]
    points = {}
    for share in ("1", "0", "0.5"):
        with pytest.raises(SystemExit) as end:
            main([*line, "--read-ratio", share])
        assert end.value.code == 0
        points[share] = json.loads(capsys.readouterr().out)["points"]
    assert points["1"][0]["latency_ns"]["mean"] == pytest.approx(250, rel=0.15)  # one row after the other: no miss
    reads, writes, both = (points[share][1]["bandwidth_GBps"] for share in ("1", "0", "0.5"))
    assert writes < reads < both


def test_compiled_hooks_do_what_the_plain_ones_do():
    load = Load("mstream16", 0.6, 256, outstanding=32, requests=300, warmup=20)
    p = cxl.of_device(load_device("cxl_e3s_96g"), {})
    one, other = (
        measure(cxl.MODEL, cxl.init(p), load, p.capacity_bytes, compiled=compiled) for compiled in (True, False)
    )
    assert (one.mean_ns, one.elapsed_ns) == (other.mean_ns, other.elapsed_ns)
    assert (one.counts == other.counts).all()


BAD = [
    ({"protocol": "pcie5"}, "CXL memory over 'pcie5'"),
    ({"protocol": "cxl4"}, "unknown link protocol 'cxl4'"),
    ({"protocol": None}, "no parameter 'protocol'"),
    ({"timing_set": None}, "no parameter 'timing_set'"),
    ({"timing_set": "hbm3_6400"}, "has transactions of 32 bytes"),
    ({"lanes": 17}, "lanes is 17; expected 1 to 16"),
    ({"lane_rate_gt_s": 0}, "lane_rate_gt_s is 0"),
    ({"hosts": 2}, "or a switch between"),
    ({"protocol": "none", "switch": True}, "without a link"),
    ({"channels": 0}, "expanders and channels are [1, 0]"),
    ({"interleave_bytes": 100}, "a multiple of 64"),
    ({"request_entries": 0}, "request_entries is 0"),
    ({"retimers": -1}, "retimers is -1"),
    ({"controller_ns": -5}, "controller_ns is -5"),
    ({"dram.mapping": "ChRaBaRoCo"}, "dram.mapping is"),
    ({"dram.channels": 2}, "dram.channels is 2"),
    ({"dram.nRC": 60}, "tRC < tRAS + tRP"),
    ({"controler_ns": 5}, "unknown CXL memory parameter 'controler_ns'; did you mean 'controller_ns'"),
]


@pytest.mark.parametrize(("changes", "told"), BAD, ids=[told for _, told in BAD])
def test_bad_input_is_told_in_one_line(changes, told):
    with pytest.raises(InputError) as error:
        expander_parameters({**ONE, **changes})
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1
