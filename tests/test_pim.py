"""Memories with processing units: no rule is broken, every element is read once, times by hand, host and units at once.

Hooks and kernels called here run as plain Python, but where the times of whole operations are compared.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.cli import main
from sim.devices import dram, pim
from sim.dram import state as memory
from sim.dram.timing import dram_parameters
from sim.errors import InputError
from sim.pim import coaccess, engine, measuring, sharing
from sim.pim import state as lanes
from sim.pim.measuring import host_stream, measure_operation
from sim.pim.operations import Operation, parse_operation
from sim.pim.parameters import pim_parameters, pim_sets
from sim.pim.program import (
    ACTIVATIONS,
    BESIDE,
    BODY,
    COUNT,
    FIRST,
    KIND,
    KINDS,
    LOAD,
    MAC,
    ROW,
    SET,
    STORE,
    compile_operation,
)
from sim.profile import load_device
from sim.traffic import Load, measure
from tests.dram_checker import ACT, PRE, PREAB, RD, REFAB, WR, Checker

PLAIN_DEVICES = {
    "aquabolt_xl": "pim_hbm_aquabolt_xl_6g",
    "attacc_bank": "pim_attacc_hbm3_16g",
    "attacc_bank_group": "pim_attacc_hbm3_16g",
    "attacc_buffer": "pim_attacc_hbm3_16g",
    "gddr6_aim": "pim_gddr6_aim_1g",
    "neupims": "pim_neupims_32g",
    "duplex": "pim_duplex_hbm3_16g",
}
SAMSUNG_MAPPING = "row, column:5, group, bank, channel"


def parameters(name="aquabolt_xl", **changes):
    device = load_device(PLAIN_DEVICES[name])
    return pim.of_device(device, {"pim_set": name, "channels": 2, **changes})


OFTEN = {"nREFI": 700, "nRFC": 150}  # refreshes, so that a short operation has some


def small_product(p, sums=3, inputs=1000):
    """A product that leaves a few units without work."""
    return Operation("gemv", sums * p.units_per_channel * p.dram.channels - 1, inputs)


def run_plainly(p, steps, log=100_000):
    """One channel in plain Python: the tick of the end, and the engine."""
    lane = lanes.make_engine(p, steps, 1, log_commands=log)
    end = getattr(engine.run_alone, "py_func", engine.run_alone)(lane, 0)
    return int(end), lane


def log_of(lane):
    return lane.log[: lane.shared[lanes.LOGGED]]


def whole_openings(log):
    """The log without activations of single banks but the last of those that open a set: a checker's one activation."""
    kept, opening = [], {}
    for entry in log.tolist():
        if entry[1] == ACT:
            if entry[2] in opening:
                kept[opening[entry[2]]] = None
            opening[entry[2]] = len(kept)
        elif entry[1] == PREAB:
            opening.clear()
        elif entry[1] in (PRE, RD, WR):
            opening.pop(entry[2], None) if entry[1] == PRE else None
        kept.append(entry)
    return np.array([entry for entry in kept if entry is not None])


# --- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", pim_sets())
def test_no_rule_is_ever_broken(name):
    """The independent checker of DRAM commands, with the bank sets as banks."""
    p = parameters(name, **OFTEN)
    sums = 3 if p.set_groups == 1 else 24  # as much time, with fewer banks at once
    _, lane = run_plainly(p, compile_operation(p, small_product(p, sums)).alone)
    log = log_of(lane)
    assert lane.counts[lanes.REFRESHES] > 0
    assert (log[:, 1] == RD).sum() == lane.counts[MAC] + lane.counts[KINDS.index("PARK")]
    Checker(p.lockstep).see_all(whole_openings(log))
    _check_activations(p, log)


@pytest.mark.uncompiled
@pytest.mark.parametrize("kernel", ["add", "mul", "mad", "relu", "mov"])
def test_no_rule_is_broken_by_element_wise_kernels(kernel):
    p = parameters(fence_cycles=3, **OFTEN)
    operation = parse_operation(f"{kernel}30000")
    _, lane = run_plainly(p, compile_operation(p, operation).alone)
    Checker(p.lockstep).see_all(whole_openings(log_of(lane)))
    tiles = -(-30_000 // (16 * 8 * 16 * 2))
    assert lane.counts[STORE] == tiles * (16 + 1)
    assert sum(lane.counts[MAC + 1 : STORE]) == tiles * 16 * operation.operands


def _check_activations(p, log):
    """Any two of them by tRRD apart, any five by tFAW: also where a set takes several."""
    ticks = log[log[:, 1] == ACT, 0]
    assert np.all(np.diff(ticks) >= p.lockstep.nRRDS)
    assert np.all(ticks[4:] - ticks[:-4] >= p.lockstep.nFAW * p.lockstep.ticks_per_cycle)


@pytest.mark.uncompiled
def test_activations_of_single_banks_hold_back_the_units():
    """tFAW is lifted by what one activation opens: bank by bank, rows of 16 banks take four windows."""
    ends = {}
    for each in (0, 4, 1):
        p = parameters("neupims", banks_per_activate=each)
        ends[each], lane = run_plainly(p, compile_operation(p, parse_operation("gemv128x1024")).alone)
        opened = lane.step[lane.step[:, ROW] >= 0][:, ACTIVATIONS].max()
        assert opened == {0: 1, 4: 4, 1: 16}[each]
        _check_activations(p, log_of(lane))
    assert ends[0] < ends[4] < ends[1]


@pytest.mark.uncompiled
def test_all_banks_are_refreshed_as_often_as_they_must():
    p = parameters()
    end, lane = run_plainly(p, compile_operation(p, parse_operation("gemv64x16384")).alone)
    log = log_of(lane)
    at = log[log[:, 1] == REFAB, 0]
    assert len(at) == end // p.dram.nREFI >= 5
    assert np.all(np.abs(at - p.dram.nREFI * np.arange(1, len(at) + 1)) < 100)
    quiet = parameters(refresh="none")
    without, _ = run_plainly(quiet, compile_operation(quiet, parse_operation("gemv64x16384")).alone)
    assert len(at) * p.dram.nRFC < end - without < len(at) * (p.dram.nRFC + 150)


# --- times by hand ---------------------------------------------------------------------------------------------------


@pytest.mark.uncompiled
def test_a_tile_takes_what_its_commands_add_up_to():
    """HBM-PIM, 8 loads and 64 columns in two rows, of even banks, then of odd ones, whose rows and the registers' row
    close each other. tCCD_L 4, write to read 8 + 2 + 9, read to write 15, next row tRTP + tRP + tRCD."""
    p = parameters(refresh="none")
    times = [run_plainly(p, compile_operation(p, Operation("gemv", 128, tiles * 128)).alone)[0] for tiles in (4, 6, 8)]
    loads, columns = 7 * 4, 62 * 4 + (5 + 14 + 14)
    even = loads + (8 + 2 + 9) + columns + 15
    odd = loads + (8 + 2 + 16 + 14 + 14) + columns + (5 + 14 + 10)
    assert np.diff(times).tolist() == [even + odd] * 2


@pytest.mark.uncompiled
@pytest.mark.parametrize(("name", "cycles"), [("attacc_bank", 6), ("attacc_bank_group", 6), ("gddr6_aim", 2)])
def test_columns_come_as_often_as_units_take_them(name, cycles):
    p = parameters(name)
    _, lane = run_plainly(p, compile_operation(p, parse_operation("gemv64x1024")).alone)
    log = log_of(lane)
    reads = log[log[:, 1] == RD, 0]
    assert np.diff(reads).min() == cycles * p.dram.ticks_per_cycle
    assert np.median(np.diff(reads)) == cycles * p.dram.ticks_per_cycle


def test_multipliers_follow_from_units_and_spacing():
    """AttAcc's own x16 without the power limit; x9, x3 and x1 with it are what is left of x10.7, x2.7 and x1 of a plain
    interface that does not reach its peak, either."""
    for name, spacing, peak in (
        ("attacc_bank", 4, 16),
        ("attacc_bank", 6, 32 / 3),
        ("attacc_bank_group", 6, 8 / 3),
        ("attacc_buffer", None, 1),
    ):
        p = parameters(name, **({"unit_spacing": spacing} if spacing else {}))
        assert p.internal_peak_bytes_per_ns / p.dram.peak_bytes_per_ns == pytest.approx(peak)
    for name, theirs in (("attacc_bank", 9), ("attacc_bank_group", 3), ("attacc_buffer", 1)):
        measured = measure_operation(parameters(name), parse_operation("gemv4096x2048"))
        assert measured.speed_up == pytest.approx(theirs, rel=0.12)


@pytest.mark.uncompiled
def test_a_change_of_modes_costs_its_commands():
    operation = parse_operation("gemv128x256")

    def times(**changes):
        p = parameters(refresh="none", **changes)
        program = compile_operation(p, operation)
        modes = np.concatenate([program.steps[: program.begins[2]], program.steps[program.begins[3] :]])
        return run_plainly(p, program.alone)[0], run_plainly(p, modes)[0]

    whole, switch = times()
    free, nothing = times(park_reads=False, enter_writes=0, start_writes=0, leave_writes=0)
    more, more_switch = times(enter_writes=8)
    assert nothing == 0 and 250 < switch < 500
    assert 0.5 * switch < whole - free < 1.5 * switch
    assert more_switch > switch and abs((more - whole) - (more_switch - switch)) <= 8


# --- conservation ----------------------------------------------------------------------------------------------------


def columns_of(program, kind):
    """Every (set, row, column) that steps of a kind use."""
    places = []
    for step in program.steps[program.begins[BODY] : program.begins[BODY + 1]]:
        if step[KIND] == kind:
            places += [(int(step[SET]), int(step[ROW]), int(step[FIRST]) + i) for i in range(step[COUNT])]
    return places


@pytest.mark.uncompiled
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(pim_sets()),
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.sampled_from([1, 2, 8]),
)
def test_each_element_of_a_matrix_is_read_exactly_once(name, outputs, inputs, channels):
    p = parameters(name, channels=channels)
    program = compile_operation(p, Operation("gemv", outputs, inputs))
    places = columns_of(program, MAC)
    assert len(places) == len(set(places)) == program.matrix_columns
    units = p.units_per_channel * channels
    assert program.matrix_columns == -(-outputs // units) * -(-inputs // p.lanes)  # padded to whole units and columns
    assert all(0 <= row < p.usable_rows and 0 <= column < p.columns_per_row for _, row, column in places)
    stored = columns_of(program, STORE)
    assert not set(stored) & set(places)
    loaded = program.steps[:, BESIDE].sum() + program.steps[program.steps[:, KIND] == LOAD, COUNT].sum()
    assert loaded >= -(-inputs // p.lanes)


@pytest.mark.uncompiled
def test_element_wise_kernels_read_every_operand_and_write_every_result_once():
    p = parameters(channels=4)
    elements = 16 * 8 * 16 * 4 * 9
    program = compile_operation(p, parse_operation(f"add{elements}"))
    sizes = [len(set(columns_of(program, KINDS.index(kind)))) for kind in ("FILL", "ADD", "STORE")]
    assert sizes == [elements // (p.lanes * p.working_banks * 4)] * 3
    kinds = [set(columns_of(program, KINDS.index(kind))) for kind in ("FILL", "ADD", "STORE")]
    assert not kinds[0] & kinds[1] and not kinds[1] & kinds[2] and not kinds[0] & kinds[2]


@pytest.mark.uncompiled
def test_registers_decide_how_often_the_vector_is_loaded():
    few, many = (
        compile_operation(parameters(operand_vectors=vectors), parse_operation("gemv512x2048")) for vectors in (8, 128)
    )
    loads = [int(one.steps[one.steps[:, KIND] == LOAD, COUNT].sum()) for one in (few, many)]
    assert loads == [4 * 128, 128]  # four tiles of outputs; a vector that fits is loaded once


@pytest.mark.uncompiled
def test_sums_leave_early_where_the_vector_does_not_fit():
    p = parameters("gddr6_aim")
    program = compile_operation(p, parse_operation("gemv4096x4096"))
    assert program.steps[program.steps[:, KIND] == LOAD, COUNT].sum() == 256
    assert program.host_additions == 4096 * 3


# --- more is never slower --------------------------------------------------------------------------------------------


@pytest.mark.uncompiled
def test_more_channels_and_more_units_are_never_slower():
    operation = parse_operation("gemv256x512")

    def ends(p):
        return run_plainly(p, compile_operation(p, operation).alone)[0]

    by_channels = [ends(parameters(channels=channels)) for channels in (1, 2, 4, 8)]
    assert by_channels == sorted(by_channels, reverse=True)
    levels = ("attacc_bank", "attacc_bank_group", "attacc_buffer")
    by_units = [ends(parameters(name)) for name in levels]
    assert by_units == sorted(by_units)
    one_each = ends(parameters(units="bank"))
    assert one_each <= ends(parameters())


# --- one channel stands for all --------------------------------------------------------------------------------------


@pytest.mark.uncompiled
def test_every_channel_does_what_one_alone_does():
    p = parameters(channels=4)
    program = compile_operation(p, parse_operation("gemv512x1024"))
    alone, _ = run_plainly(p, program.alone)
    state = started(p, program)
    while pim.MODEL.next_event(state) < np.inf:
        pim.MODEL.advance(state, pim.MODEL.next_event(state))
    finished = state.turn[:, sharing.FINISHED]
    assert len(set(finished.tolist())) == 1
    assert abs(int(finished[0]) - alone) <= p.dram.nCL + p.dram.nBL + 1  # its last data, or the bus being free
    _, lane = run_plainly(p, program.alone)
    assert state.units.counts.tolist() == (4 * lane.counts + closing(state)).tolist()


def closing(state):
    """The rows that parking left open are closed before the host has the channel."""
    more = np.zeros(len(lanes.COUNTS), np.int64)
    more[lanes.PRECHARGES] = state.turn.shape[0]
    return more


def test_the_host_on_one_channel_stands_for_all():
    p = dram_parameters("hbm2_samsung_2000", {"channels": 4, "mapping": SAMSUNG_MAPPING})
    one_ns, counts = host_stream(p, 1 << 19, 1 << 18)
    all_of_them = dram.init(p)
    size = p.transaction_bytes
    all_ns = measuring._stream(dram.MODEL, all_of_them, (1 << 19) // size, (1 << 18) // size, size)
    assert one_ns == pytest.approx(all_ns, rel=0.02)
    assert counts[memory.READS] * 4 == all_of_them.counts[memory.READS] == (1 << 19) // size
    assert counts[memory.WRITES] * 4 == all_of_them.counts[memory.WRITES]


# --- host and units --------------------------------------------------------------------------------------------------


def started(p, program, log=0):
    state = pim.MODEL.init(p, program, log)
    getattr(sharing.start, "py_func", sharing.start)(state, 0.0)
    return state


def drive(p, state, requests, step_ns=None):
    """Requests (arrival_ns, address, is_write) as soon as they are taken, to the end of all: ticket -> done_ns."""
    done, now = {}, 0.0

    def advance(until):
        for i in range(pim.MODEL.advance(state, until)):
            ticket = int(state.done_ticket[i])
            assert ticket not in done, "done twice"
            done[ticket] = float(state.done_ns[i])

    for ticket, (arrival, address, is_write) in enumerate(requests):
        while step_ns and now + step_ns < arrival:
            now += step_ns
            advance(now)
        now = max(now, arrival)
        advance(now)
        while not pim.MODEL.submit(state, ticket, now, address, p.transaction_bytes, is_write):
            now = pim.MODEL.next_event(state)
            advance(now)
    while (following := pim.MODEL.next_event(state)) < np.inf:
        now = max(now, following)
        advance(now)
    return done


def random_requests(p, count, every_ns, seed=1):
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(every_ns, count))
    places = rng.integers(0, p.capacity_bytes // p.transaction_bytes, count) * p.transaction_bytes
    return [(float(t), int(a), bool(w)) for t, a, w in zip(arrivals, places, rng.random(count) < 0.3, strict=True)]


POLICIES = ("wait", "interleave")


@pytest.mark.uncompiled
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["aquabolt_xl", "attacc_bank", "attacc_buffer", "gddr6_aim"])
def test_host_and_units_both_get_everything_done_and_break_no_rule(name, policy):
    p = parameters(name, host_policy=policy, slice_tiles=1, host_slice_ns=200.0, operand_vectors=16, **OFTEN)
    program = compile_operation(p, small_product(p))
    state = started(p, program)
    requests = random_requests(p, 60, 25.0)
    done = drive(p, state, requests)
    assert sorted(done) == list(range(60))
    assert all(done[i] > requests[i][0] for i in done)
    assert sharing.finished_ns(state) < np.inf
    assert state.units.counts[MAC] == p.dram.channels * program.matrix_columns
    switches = int(state.own[0])
    assert switches == p.dram.channels if policy == "wait" else switches > p.dram.channels
    check_one_channel(p)


def check_both(p, state):
    """No command of the host comes too early after one of the units, and none of the units after one of the host."""
    host = state.dram.log[: state.dram.shared[memory.LOGGED]].tolist()
    units = state.units.log[: state.units.shared[lanes.LOGGED]].tolist()
    merged = sorted([(*entry, 0) for entry in host] + [(*entry, 1) for entry in units])
    for_host, for_units = Checker(p.dram), Checker(p.dram)
    assert len(host) > 100 and len(units) > 100
    for tick, command, where, row, of_units in merged:
        if not of_units:
            for_host.see(tick, command, where, row)
            for_units.see(tick, command, where, row)
            continue
        banks = range(p.dram.banks_per_channel) if command in (PREAB, REFAB) else banks_of(p, where)
        for gb in sorted({banks[0], banks[len(banks) // 3], banks[-1]}):
            assert gb not in for_units.open, f"units at {tick} with a row of the host open"
            assert tick >= for_units.earliest(command, gb), f"units' {command} at {tick} after the host"
            for_host.earlier[0].append((tick, command, gb, row))


def banks_of(p, where):
    """Banks of a channel that bank set `where` has; for rules of the host only their groups and ranks matter."""
    d = p.dram
    group, which = divmod(where, p.sets)
    groups = range(d.banks_per_channel // d.banks_per_group)
    if p.units == "buffer":
        groups = [g for g in groups if g % d.bank_groups == group]
    banks = [g * d.banks_per_group + b for g in groups for b in range(d.banks_per_group)]
    return banks if p.units != "two_banks" else [gb for gb in banks if gb % 2 == which]


def check_one_channel(p):
    """The units' log says no channel, so that one is looked at alone."""
    one = p.model_copy(update={"dram": p.dram.model_copy(update={"channels": 1})})
    state = started(one, compile_operation(one, small_product(one)), log=50_000)
    done = drive(one, state, random_requests(one, 60, 50.0))
    assert len(done) == 60
    check_both(one, state)
    if (
        one.dram.pseudo_channels == 1 and one.dram.refresh != "none"
    ):  # one refresh of the host's is all there is to refresh
        due = max(*done.values(), sharing.finished_ns(state)) / (one.dram.nREFI * one.dram.tCK_ps / 1000)
        assert abs(state.dram.counts[memory.REFRESHES] + state.units.counts[lanes.REFRESHES] - due) < 2


CONTROLLERS = [
    {"row_policy": "closed", "close_after": 1},
    {"row_policy": "timeout", "timeout_ns": 60.0},
    {"scheduler": "fcfs"},
    {"row_hit_cap": 2, "scheduler": "fr_fcfs"},
    {"refresh": "none"},
    {"read_queue": 4, "write_queue": 4},
    {"separate_buses": True, "activate_cycles": 2},
]


@pytest.mark.uncompiled
@pytest.mark.parametrize("change", CONTROLLERS, ids=str)
def test_units_take_a_channel_from_any_controller(change):
    check_one_channel(parameters(slice_tiles=1, host_slice_ns=200.0, **{**OFTEN, **change}))


@pytest.mark.uncompiled
def test_it_does_not_matter_how_often_it_is_advanced():
    p = parameters(slice_tiles=1)
    program = compile_operation(p, parse_operation("gemv128x1024"))
    requests = random_requests(p, 60, 60.0)
    coarse = started(p, program)
    done = drive(p, coarse, requests)
    for step_ns in (7.0, 133.0):
        fine = started(p, program)
        assert drive(p, fine, requests, step_ns) == done
        assert fine.turn.tolist() == coarse.turn.tolist()
        assert fine.counts.tolist() == coarse.counts.tolist()


@pytest.mark.uncompiled
def test_without_an_operation_it_is_plain_dram():
    p = parameters()
    load = Load("rand", 0.7, p.transaction_bytes, outstanding=8, requests=300, warmup=20)
    ours = measure(pim.MODEL, pim.MODEL.init(p), load, p.capacity_bytes, p.clock_ns, compiled=False)
    theirs = measure(dram.MODEL, dram.init(p.dram), load, p.capacity_bytes, p.clock_ns, compiled=False)
    assert (ours.mean_ns, ours.elapsed_ns) == (theirs.mean_ns, theirs.elapsed_ns)
    assert ours.counts[: len(dram.COUNTS)].tolist() == theirs.counts.tolist()
    assert ours.counts[len(dram.COUNTS) :].sum() == 0


@pytest.mark.uncompiled
def test_waiting_is_worse_for_the_host_and_turns_are_worse_for_the_units(monkeypatch):
    for name in ("_drive", "start"):
        function = getattr(coaccess, name)
        monkeypatch.setattr(coaccess, name, getattr(function, "py_func", function))
    p = parameters()
    wait, turns, alone = coaccess.measure_coaccess(p, parse_operation("gemv128x1024"), 4)
    assert wait.operation_ns < turns.operation_ns
    assert alone.mean_ns < turns.mean_ns < wait.mean_ns
    assert wait.worst_ns > turns.worst_ns > alone.worst_ns
    assert wait.switches == 2 < turns.switches
    assert wait.host_requests >= 4
    with pytest.raises(InputError, match="outstanding is 0"):
        coaccess.measure_coaccess(p, parse_operation("gemv128x1024"), 0)


# --- against PIMSimulator --------------------------------------------------------------------------------------------


SAMSUNG = {"gemv4096x4096": 2.74, "mul2097152": 2.24, "add1048576": 1.99, "relu4194304": 2.28}


@pytest.mark.parametrize("operation", SAMSUNG)
def test_samsungs_speed_ups(operation):
    """Four stacks, 64 channels of 64 bits. Nothing is fitted; of element-wise kernels the host's writes differ, too."""
    p = parameters(channels=64)
    measured = measure_operation(p, parse_operation(operation))
    assert measured.host_ns / measured.units_ns == pytest.approx(
        SAMSUNG[operation], rel=0.03 if operation[:3] in ("gem", "mul") else 0.08
    )
    if operation == "gemv4096x4096":
        assert measured.units_ns == pytest.approx(13_166, rel=0.03)
        assert measured.host_ns == pytest.approx(36_082, rel=0.02)
        assert sum(measured.pim_energy_pj.values()) < 0.3 * sum(measured.host_energy_pj.values())
        assert measured.pim_ns == measured.units_ns + measured.read_result_ns


# --- input -----------------------------------------------------------------------------------------------------------


BAD_OPERATIONS = [
    ("gevm16x16", "did you mean 'gemv'"),
    ("gemv16", "expected gemvNxK"),
    ("add16x16", "expected addN"),
    ("add0", "sizes from 1"),
    ("16", "unknown operation"),
    (f"gemv{1 << 20}x65536", "rows of each bank; there are"),
    (f"relu{1 << 33}", "rows of each bank; there are"),
]


@pytest.mark.uncompiled
@pytest.mark.parametrize(("text", "told"), BAD_OPERATIONS, ids=[told for _, told in BAD_OPERATIONS])
def test_operations_that_make_no_sense_or_do_not_fit_are_refused(text, told):
    with pytest.raises(InputError) as error:
        compile_operation(parameters(), parse_operation(text))
    assert told in str(error.value)
    assert len(error.value.lines) == 1


BAD_PARAMETERS = [
    ({"units": "rank"}, "units is 'rank'"),
    ({"units": "two_banks", "banks_per_group": 1, "bank_groups": 16}, "two banks in a group"),
    ({"banks_at_once": 3, "units": "bank"}, "a divisor of the 16 banks"),
    ({"banks_at_once": 4}, "goes with units in each bank"),
    ({"unit_spacing": 0}, "at least 1 cycle"),
    ({"unit_spacing": 1}, "at least nBL"),
    ({"banks_per_activate": 9}, "at most 8"),
    ({"accumulators": 0}, "accumulators is 0"),
    ({"capacity_left": 0.0}, "capacity_left is 0"),
    ({"capacity_left": 0.0001}, "no row is left"),
    ({"operations": "gemm"}, "some of gemv"),
    ({"element_bytes": 3}, "a divisor of a transaction's 32 bytes"),
    ({"host_policy": "share"}, "host_policy"),
    ({"host_slice_ns": 0}, "host_slice_ns is 0"),
    ({"refresh": "per_bank", "nRFCpb": 160}, "all_bank or none"),
    ({"mapping": "row:14, column:5, group, bank:1, channel"}, "does not cover the address"),
    ({"pim_set": "aquabolt"}, "did you mean 'aquabolt_xl'"),
    ({"grf": 8}, "unknown DRAM parameter 'grf'"),
    ({"channels": 0}, "channels is 0"),
]


@pytest.mark.uncompiled
@pytest.mark.parametrize(("change", "told"), BAD_PARAMETERS, ids=[told for _, told in BAD_PARAMETERS])
def test_parameters_that_contradict_each_other_are_refused(change, told):
    with pytest.raises(InputError) as error:
        parameters(**{"rows": 16384, **change})
    assert told in str(error.value)
    assert len(error.value.lines) == 1


@pytest.mark.uncompiled
def test_units_do_what_they_can_and_no_more():
    with pytest.raises(InputError, match="cannot do 'add'; expected gemv"):
        compile_operation(parameters("attacc_bank"), parse_operation("add64"))
    with pytest.raises(InputError, match="takes 6 instructions; instruction_entries is 4"):
        compile_operation(parameters(instruction_entries=4), parse_operation("gemv64x64"))
    dram_alone = dram_parameters("hbm2_samsung_2000")
    with pytest.raises(InputError, match="unknown PIM parameter 'nothing'"):
        pim_parameters("aquabolt_xl", dram_alone, {"nothing": 1})


@pytest.mark.uncompiled
def test_units_leave_the_capacity_that_the_device_says():
    device = load_device("pim_hbm_aquabolt_xl_6g")
    assert pim.of_device(device, {}).capacity_bytes == pytest.approx(device.capacity_bytes, rel=0.08)


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", ["pim_hbm_aquabolt_xl_6g", "pim_gddr6_aim_1g"])
def test_the_bandwidth_inside_is_what_the_part_is_said_to_have(name):
    device = load_device(name)
    said = device.geometry["internal_bandwidth"]
    assert pim.of_device(device, {}).internal_peak_bytes_per_ns == pytest.approx(said, rel=0.05)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["probe", *arguments])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_a_probe_prints_what_an_operation_takes(capsys):
    line = ("pim_hbm_aquabolt_xl_6g", "--pattern", "gemv1024x1024", "--set", "channels=4")
    code, out, err = run(capsys, *line, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["operation"] == "gemv1024x1024" and told["beside_host"] == []
    assert told["pim_ns"] == told["units_ns"] + told["read_result_ns"] > told["switch_ns"] > 0
    assert told["speed_up"] == pytest.approx(told["host_ns"] / told["pim_ns"])
    assert told["counts"]["pim_mac"] == 1024 * 1024 // 16 // 8
    assert told["bank_bandwidth_GBps"] <= told["internal_peak_GBps"]
    code, out, _ = run(capsys, *line)
    assert code == 0 and "speed-up" in out and "mac" in out


def test_a_probe_prints_what_host_and_units_do_to_each_other(capsys, monkeypatch):
    for name in ("_drive", "start"):
        function = getattr(coaccess, name)
        monkeypatch.setattr(coaccess, name, getattr(function, "py_func", function))
    line = ("pim_hbm_aquabolt_xl_6g", "--pattern", "gemv64x512", "--set", "channels=2", "--outstanding", "4")
    monkeypatch.setenv("COLUMNS", "160")  # where no name is folded
    code, out, _ = run(capsys, *line)
    assert code == 0 and "interleave" in out and "mode changes" in out
    rows = json.loads(run(capsys, *line, "--json")[1])["beside_host"]
    assert [row["policy"] for row in rows] == ["wait", "interleave", "alone"]
    assert rows[2]["operation_ns"] is None and rows[0]["mean_ns"] > rows[2]["mean_ns"]


BAD_LINES = [
    (("ddr4_3200", "--pattern", "add4096"), "has model 'dram'; expected pim or csd"),
    (("pim_upmem_rank_4g", "--pattern", "add4096"), "has model 'fixed'; expected pim or csd"),
    (("pim_attacc_hbm3_16g", "--pattern", "add4096"), "cannot do 'add'"),
    (("pim_hbm_aquabolt_xl_6g", "--pattern", "gemv4096"), "expected gemvNxK"),
    (("pim_hbm_aquabolt_xl_6g", "--pattern", "gemv64x64", "--outstanding", "x"), "a whole number"),
    (("pim_hbm_aquabolt_xl_6g", "--pattern", "gemv64x64", "--set", "units=rank"), "units is 'rank'"),
    (("pim_hbm_aquabolt_xl_6g", "--pattern", "gemv64x64", "--rate", "1GB/s"), "takes no --rate"),
    (("pim_hbm_aquabolt_xl_6g", "--pattern", "gemv64x64", "--outstanding", "0"), "outstanding is 0"),
]


@pytest.mark.parametrize(("arguments", "told"), BAD_LINES, ids=[told for _, told in BAD_LINES])
def test_bad_input_is_one_line_and_exit_code_2(capsys, arguments, told):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 1
