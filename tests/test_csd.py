"""The computational drive: it is the SSD that it has, and its engine shares the flash with the host."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.cli import main
from sim.csd import engine, running
from sim.csd.operations import Operation, parse_operation
from sim.csd.parameters import Csd, Engine
from sim.csd.running import Background, run_operation
from sim.csd.state import ENGINE, HOST, ROUTES, make_state
from sim.devices.csd import MODEL, of_device
from sim.devices.nand import Ssd
from sim.errors import InputError
from sim.nand import preconditioning, ssd
from sim.nand.parameters import make_parameters
from sim.nand.state import make_state as make_ssd
from sim.profile import load_device
from tests.test_nand import LINKED, SMALL, check_tables, random_requests

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
import validate_csd

RATES = {
    **{"internal_rate": 0.8, "byte_rate": 10.0, "flop_rate": 10.0, "dram_rate": 20.0, "dram_bytes": 1 << 20},
    **{"peer_rate": 10.0, "host_copy_rate": 5.0, "chunk_bytes": 16384, "chunks": 16},
}
SCAN = Operation("scan", 512 * 1024, 0.0, 5000)


def drive(changed=None, **engine_fields):
    """A small drive, filled, with an engine."""
    nand = make_parameters(**(SMALL | LINKED | {"queue_depth": 64, "allocation": "PCWD"} | (changed or {})))
    return Csd(Ssd(nand, "filled", 1.0), Engine(**(RATES | engine_fields)))


@pytest.fixture
def uncompiled(monkeypatch):
    """Operations are run as plain Python: they are small, and what is compiled takes longer to compile."""
    monkeypatch.setattr(running, "_operate", getattr(running._operate, "py_func", running._operate))


# --- it is an SSD ----------------------------------------------------------------------------------------------------


def answers(model, state, requests):
    """Ticket -> when it was done, of (arrival_ns, address, size_bytes, is_write)."""
    done = {}
    for ticket, one in enumerate(requests):
        for i in range(model.advance(state, one[0])):
            done[int(state.done_ticket[i])] = float(state.done_ns[i])
        assert model.submit(state, ticket, *one)
    while model.next_event(state) < math.inf:
        for i in range(model.advance(state, model.next_event(state))):
            done[int(state.done_ticket[i])] = float(state.done_ns[i])
    return done


@pytest.mark.uncompiled
def test_without_operations_it_is_its_ssd():
    csd = drive()
    state, alone = make_state(csd), make_ssd(csd.ssd.nand)
    preconditioning.fill(alone)
    requests = random_requests(alone, 120, gap_ns=50_000.0)
    assert answers(engine, state, requests) == answers(ssd, alone, requests)
    assert (state.counts[: alone.counts.size] == alone.counts).all()
    check_tables(state.ssd)


# --- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.uncompiled
@pytest.mark.parametrize("route", ROUTES)
def test_bytes_pages_and_requests_are_conserved(uncompiled, route):
    csd = drive()
    run = run_operation(csd, SCAN, route, Background(4, 4096, 0.5))
    counts = run.counts
    assert counts["operations"] == 1 and run.host_requests > 0
    in_engine = SCAN.size_bytes if route == "engine" else 0
    assert (counts["internal_bytes"], counts["engine_bytes"]) == (in_engine, in_engine)
    assert counts["returned_bytes"] == (SCAN.returned_bytes if route == "engine" else 0)
    over_link = counts["read_bytes"] + counts["write_bytes"] - run.host_requests * 4096
    assert over_link == (0 if route == "engine" else SCAN.size_bytes)
    assert all(0 < share <= 1 for share in run.busy.values())


@pytest.mark.uncompiled
def test_tables_hold_after_an_operation_beside_writes():
    csd = drive()
    state = make_state(csd)
    engine.begin_operation(state, 1000, ENGINE, 0, SCAN.size_bytes, 0.0, 5000)
    assert not engine.begin_operation(state, 1001, HOST, 0, 4096, 0.0, 0)  # one at a time
    requests = random_requests(state.ssd, 150, write_share=1.0, gap_ns=1e5)
    done = answers(engine, state, requests)
    assert sorted(done) == [*range(150), 1000]
    assert all(done[i] >= one[0] for i, one in enumerate(requests))
    check_tables(state.ssd)
    assert engine.begin_operation(state, 1001, HOST, 0, 4096, 0.0, 0)


@pytest.mark.uncompiled
def test_the_same_twice_and_however_often_one_looks():
    results = []
    for every_ns in (math.inf, math.inf, 777.0, 1e5):
        csd = drive()
        state, done = make_state(csd), []
        engine.begin_operation(state, 100, ENGINE, 8192, 131_072, 1.0, 4096)
        requests = random_requests(state.ssd, 20, gap_ns=1e4)
        sent = now_ns = 0
        while len(done) < 21:
            arrival_ns = requests[sent][0] if sent < 20 else math.inf
            now_ns = min(arrival_ns, now_ns + every_ns if every_ns < math.inf else engine.next_event(state))
            count = engine.advance(state, now_ns)
            done += [(int(state.done_ticket[i]), float(state.done_ns[i])) for i in range(count)]
            if now_ns == arrival_ns:
                assert engine.submit(state, sent, *requests[sent])
                sent += 1
        results.append((done, state.counts.tolist(), state.ssd.owner.tolist()))
    assert all(result == results[0] for result in results)


# --- bounds and contention -------------------------------------------------------------------------------------------

LIMITED = {
    "flash": ({"channel_rate_mt_s": 4000.0}, {"internal_rate": 20.0}),
    "channels": ({"read_lsb_ns": 1000.0, "read_msb_ns": 1000.0}, {"internal_rate": 20.0}),
    "internal path": ({}, {"internal_rate": 0.1}),
    "engine memory": ({}, {"dram_rate": 0.2}),
    "engine": ({}, {"byte_rate": 0.1}),
    "link": ({"link_lanes": 1, "link_lane_rate": 0.1}, {}),
}


@pytest.mark.uncompiled
@pytest.mark.parametrize("part", LIMITED)
def test_an_engine_alone_takes_what_its_slowest_part_takes(uncompiled, part):
    csd = drive(LIMITED[part][0], **LIMITED[part][1])
    operation = replace(SCAN, returned_bytes=SCAN.size_bytes) if part == "link" else SCAN
    run = run_operation(csd, operation)
    bounds = validate_csd.bounds_GB_s(csd, operation)
    assert min(bounds, key=bounds.get) == part == run.bottleneck
    rate = operation.size_bytes / run.elapsed_ns
    assert 0.75 * bounds[part] < rate <= bounds[part]


@pytest.mark.uncompiled
def test_computing_takes_flops_over_the_rate(uncompiled):
    csd = drive(flop_rate=0.5)
    run = run_operation(csd, Operation("gemv", SCAN.size_bytes, 4.0, 0))
    least_ns = 4.0 * SCAN.size_bytes / 0.5
    assert run.bottleneck == "engine" and least_ns < run.elapsed_ns < 1.1 * least_ns


@pytest.mark.uncompiled
def test_engine_and_host_slow_each_other(uncompiled):
    csd = drive(internal_rate=20.0)  # flash and its channels are what limits it
    alone = run_operation(csd, SCAN).elapsed_ns
    took_ns, waits_ns = [], []
    for outstanding in (2, 8, 32):
        run = run_operation(csd, SCAN, "engine", Background(outstanding))
        took_ns.append(run.elapsed_ns)
        waits_ns.append(run.host_mean_ns)
    assert alone < took_ns[0] < took_ns[1] < took_ns[2]
    state = make_state(csd)
    lone_ns = [answers(engine, state, [(1e9 * i, 4096 * i, 4096, False)])[0] - 1e9 * i for i in range(1, 9)]
    assert np.mean(lone_ns) < waits_ns[0] < waits_ns[2]


@pytest.mark.uncompiled
def test_channels_work_no_more_and_no_less_for_sharing(uncompiled):
    run = run_operation(drive(), SCAN, "engine", Background(4))
    pages = (SCAN.size_bytes + run.counts["read_bytes"]) / 4096
    assert pages <= run.counts["pages_read"] <= pages + 4 + 4  # those that are under way at the end
    assert run.counts["channel_bytes"] == pytest.approx(4096 * pages, abs=8 * 4096)


@pytest.mark.uncompiled
def test_without_a_path_of_its_own_the_engine_is_as_fast_as_the_link(uncompiled):
    slow = {"link_lanes": 1, "link_lane_rate": 0.1}
    by_link, own = (run_operation(drive(slow, internal_rate=rate), SCAN) for rate in (0, 0.8))
    assert by_link.bottleneck == "link" and "internal path" not in by_link.busy
    host = run_operation(drive(slow), SCAN, "host")
    assert by_link.elapsed_ns == pytest.approx(host.elapsed_ns, rel=0.05)
    assert own.elapsed_ns < 0.5 * by_link.elapsed_ns


@pytest.mark.uncompiled
def test_an_engine_in_the_dies_moves_results_alone(uncompiled):
    csd = drive(channel_bytes_per_page=64)
    run = run_operation(csd, SCAN)
    assert run.counts["channel_bytes"] == SCAN.size_bytes // 4096 * 64
    assert run.bottleneck == "flash" and run.counts["engine_bytes"] == SCAN.size_bytes


@pytest.mark.uncompiled
def test_the_routes_to_a_gpu_pass_one_thing_more(uncompiled):
    csd = drive(peer_rate=0.2, host_copy_rate=0.1)
    times = {route: run_operation(csd, SCAN, route).elapsed_ns for route in ROUTES}
    assert times["peer"] == pytest.approx(SCAN.size_bytes / 0.2, rel=0.1)
    assert times["host_gpu"] == pytest.approx(SCAN.size_bytes / 0.1, rel=0.1)
    assert times["host"] < times["peer"]


@pytest.mark.uncompiled
def test_few_places_for_chunks_slow_the_engine(uncompiled):
    times = [run_operation(drive(chunks=chunks), SCAN).elapsed_ns for chunks in (1, 2, 16)]
    assert times[0] > times[1] > times[2]
    tight = drive(dram_bytes=16384)
    assert tight.engine.chunks_ahead == 1
    assert run_operation(tight, SCAN).elapsed_ns == times[0]


# --- what is shipped -------------------------------------------------------------------------------------------------


def test_an_operation_and_a_pattern_are_probed(capsys):
    line = ["probe", "csd_smartssd_3840g", "--json", "--set", "occupancy=0.001"]
    for more in (["--pattern", "scan8MiB"], ["--pattern", "rand", "--outstanding", "4", "--requests", "500"]):
        with pytest.raises(SystemExit) as end:
            main([*line, *more])
        assert end.value.code == 0
        found = json.loads(capsys.readouterr().out)
        if "routes" in found:
            assert found["routes"]["engine"]["engine_speed_up"] == 1
            assert set(found["routes"]) == set(ROUTES)
        else:
            assert found["points"][0]["iops"] > 1000 and found["points"][0]["energy_pj"]["array read"] > 0


def test_the_shipped_drives_reach_what_their_parts_let_through():
    for name in ("csd_instinfer", "csd_smartssd_3840g"):
        rate = validate_csd.internal(name, 1.0, {"occupancy": 0.01}, "scan64MiB:returned=0B")
        assert 0.85 * rate.bound < rate.ours <= rate.bound


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.uncompiled
@pytest.mark.parametrize(
    "changed, told",
    [
        ({"byte_rate": 0.0}, "byte_rate of 0.0; expected a rate above zero"),
        ({"internal_rate": -1.0}, "internal_rate of -1.0; expected a number from 0"),
        ({"dram_rate": math.nan}, "dram_rate of nan; expected a rate above zero"),
        ({"chunk_bytes": 1000}, "chunk_bytes of 1000; expected a multiple of a sector"),
        ({"chunk_bytes": 1 << 21}, "a chunk of 2097152 bytes is larger than the engine's memory of 1048576"),
        ({"chunks": 0}, "chunks of 0; expected a whole number from 1"),
        ({"channel_bytes_per_page": 8192}, "channel_bytes_per_page 8192 is more than a page; expected at most 4096"),
        ({"chunks": 65, "dram_bytes": 1 << 24}, "65 chunks ahead are more than the drive's queue_depth of 64"),
    ],
)
def test_a_broken_rule_is_told_in_one_line(changed, told):
    with pytest.raises(InputError) as caught:
        drive(**changed)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


@pytest.mark.uncompiled
@pytest.mark.parametrize(
    "changes, told",
    [
        ({"channel_rate_mt_s": 0}, "channel_rate_mt_s of 0.0; expected a rate above zero"),
        ({"block_bytes": 4096}, "a page of 16384 bytes is larger than a block of 4096"),
        ({"engine_set": "smart"}, "unknown set of engine parameters 'smart'; did you mean 'smartssd'?"),
        ({"flop_rat": 1}, "unknown parameter 'flop_rat'"),
    ],
)
def test_a_device_s_bad_parameter_is_told_in_one_line(changes, told):
    with pytest.raises(InputError) as caught:
        of_device(load_device("csd_smartssd_3840g"), changes)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


@pytest.mark.uncompiled
def test_operations_are_read():
    assert parse_operation("scan1GiB") == Operation("scan", 1 << 30, 0.0, round(0.01 * (1 << 30)))
    assert parse_operation("gemv2MiB") == Operation("gemv", 1 << 21, 1.0, 2048)
    wanted = Operation("attention", 1 << 20, 8.0, 32768)
    assert parse_operation("attention1MiB:flops_per_byte=8,returned=32KiB") == wanted
    assert MODEL.name == "csd"


@pytest.mark.uncompiled
@pytest.mark.parametrize(
    "text, told",
    [
        ("scan", "unknown operation 'scan'; expected one of scan, gemv, attention and a size"),
        ("scan0B", "scan of 0; expected bytes from 1"),
        ("scan1GiB:returned=2GiB", "returned bytes are 2147483648; expected from 0 to the 1073741824"),
        ("gemv1GiB:flops=2", "operation 'gemv1GiB:flops=2': unknown part 'flops'"),
        (
            "gemv1GiB:flops_per_byte=x",
            "operation 'gemv1GiB:flops_per_byte=x': flops_per_byte is 'x'; expected a number",
        ),
        ("gemv1GiB:flops_per_byte=-1", "flops_per_byte of -1.0; expected a number from 0"),
    ],
)
def test_a_bad_operation_is_told_in_one_line(text, told):
    with pytest.raises(InputError) as caught:
        parse_operation(text)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


@pytest.mark.uncompiled
@pytest.mark.parametrize(
    "line, told",
    [
        (("mqsim_default", "--pattern", "scan1MiB"), "'mqsim_default' has model 'nand'; expected pim or csd"),
        (("csd_instinfer", "--pattern", "scan9TiB"), "scan of 9895604649984; expected at most"),
        (("csd_instinfer", "--pattern", "scan1MiB", "--outstanding", "1,2"), "--outstanding '1,2'; expected one whole"),
    ],
)
def test_what_cannot_be_probed_so_is_one_line(capsys, line, told):
    with pytest.raises(SystemExit) as end:
        main(["probe", *line])
    captured = capsys.readouterr()
    assert end.value.code == 2 and captured.out == "" and told in captured.err
    assert len(captured.err.strip().splitlines()) == 1
