"""The NAND SSD: its tables, its times by hand, its laws, and MQSim's figures."""

from __future__ import annotations

import itertools
import math
import os
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import hardware_profiles
from sim.devices.nand import MODEL, Ssd
from sim.errors import InputError
from sim.kernels.compile import kernel
from sim.nand import ftl, preconditioning, ssd
from sim.nand.parameters import ALLOCATION_ORDERS, SECTOR_BYTES, load_parameters, make_parameters
from sim.nand.state import (
    ACTIVE,
    BLOCK_ROWS,
    CHAIN_ROWS,
    CLOCK,
    CLOSED_AT,
    COUNTS,
    ENTRIES_CACHED,
    ERASE_COUNT,
    FILL,
    FLASH_PAGE,
    FREE,
    FREE_COUNT,
    FULL,
    HEAD,
    HOST_PAGES,
    MAPPING_HITS,
    MAPPING_MISSES,
    MOVED_PAGES,
    MULTI_PLANE_COMMANDS,
    NEXT,
    NONE,
    PAGES,
    PAGES_IN_FLIGHT,
    PAGES_PER_REQUEST,
    PAGES_READ,
    PLANE,
    PLANE_ROWS,
    PLANES,
    PLANES_PER_DIE,
    QUEUES,
    READ_REQUESTS,
    STATE,
    STORED_AT,
    SUSPENSIONS,
    TRANSLATION_ROWS,
    TRANSLATION_WRITES,
    UNIT_ROWS,
    UNIT_WORDS,
    VALID,
    WRITE_REQUESTS,
    WRITES_STALLED,
    make_state,
    rows_of,
)
from sim.nand.units import _gather
from sim.profile import device_names, load_device
from sim.traffic import Load, measure

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
import validate_ssd

submit, advance, next_event = map(kernel, (ssd.submit, ssd.advance, ssd.next_event))

SMALL = {
    "channels": 2,
    "chips_per_channel": 2,
    "dies_per_chip": 1,
    "planes_per_die": 2,
    "blocks_per_plane": 24,
    "pages_per_block": 8,
    "page_bytes": 4096,
    "read_lsb_ns": 40_000.0,
    "read_msb_ns": 60_000.0,
    "program_lsb_ns": 200_000.0,
    "program_msb_ns": 600_000.0,
    "erase_ns": 2_000_000.0,
    "channel_rate_mt_s": 400.0,
    "over_provisioning": 0.3,
    "queue_depth": 32,
    "gc_threshold": 0.15,
}
LINKED = {"link_lanes": 4, "link_lane_rate": 1.0}
CACHED = {
    "mapping_cache_bytes": 9 * 16,
    "mapping_entry_bytes": 9,
    "translation_entry_bytes": 512,
    "over_provisioning": 0.4,  # every plane has blocks of translation pages, too
}


def small(**changed):
    return make_parameters(**(SMALL | changed))


def drive(state, requests, every_ns=math.inf):
    """Put (arrival_ns, address, size_bytes, is_write) to the device, waiting while it is full; ticket -> done_ns.

    every_ns: how far `advance` goes at a time.
    """
    done, sent, now_ns = {}, 0, 0.0

    def go_to(until_ns):
        for i in range(advance(state, until_ns)):
            ticket = int(state.done_ticket[i])
            assert ticket not in done
            done[ticket] = float(state.done_ns[i])

    while len(done) < len(requests):
        while sent < len(requests) and submit(state, sent, *requests[sent]):
            sent += 1
        event_ns = next_event(state)
        assert event_ns < math.inf
        if every_ns < math.inf:
            now_ns = max(now_ns + every_ns, event_ns if sent == len(requests) else 0.0)
            if sent < len(requests):
                now_ns = min(now_ns, event_ns)
            go_to(now_ns)
        else:
            go_to(event_ns)
    while next_event(state) < math.inf:
        go_to(next_event(state))
    return done


def random_requests(state, count, seed=1, write_share=0.5, sectors=8, gap_ns=20_000.0, pages=None):
    rng = np.random.default_rng(seed)
    pages = state.location.size if pages is None else pages
    arrival_ns = np.cumsum(rng.exponential(gap_ns, count))
    page_bytes = int(state.memory[ssd.SECTORS]) * SECTOR_BYTES
    places = rng.integers(0, pages, count) * page_bytes
    writes = rng.random(count) < write_share
    return [
        (float(at), int(place), sectors * SECTOR_BYTES, bool(write))
        for at, place, write in zip(arrival_ns, places, writes, strict=True)
    ]


def check_tables(state):
    """Every page that was written is at one valid flash page; valid + invalid + free = all, block by block."""
    memory = state.memory
    mapped = np.flatnonzero(state.location)
    assert (state.owner[state.location[mapped] - 1] == mapped + 1).all()
    assert (state.owner > 0).sum() == mapped.size
    translation = rows_of(state, TRANSLATION_ROWS)
    stored = np.flatnonzero(translation[:, STORED_AT] >= 0)
    assert (state.owner[translation[stored, STORED_AT]] == -(stored + 1)).all()
    assert (state.owner < 0).sum() == stored.size
    blocks = rows_of(state, BLOCK_ROWS)
    valid = (state.owner != 0).reshape(len(blocks), -1)
    assert (valid.sum(axis=1) == blocks[:, VALID]).all()
    assert (blocks[:, VALID] <= blocks[:, FILL]).all() and (blocks[:, FILL] <= memory[PAGES]).all()
    erased = np.arange(int(memory[PAGES])) >= blocks[:, FILL, None]
    assert not (valid & erased).any()
    free = (blocks[:, STATE] == FREE).reshape(int(memory[PLANES]), -1).sum(axis=1)
    assert (free == rows_of(state, PLANE_ROWS)[:, FREE_COUNT]).all()


# --- laws ------------------------------------------------------------------------------------------------------------

DEVICES = {
    "whole table in DRAM": {},
    "mapping cache": CACHED,
    "link": LINKED,
    "write cache": {"write_cache": True, "write_buffer_bytes": 16 * 4096} | LINKED,
    "everything": CACHED
    | LINKED
    | {"write_cache": True, "write_buffer_bytes": 8 * 4096, "suspend_program": True, "suspend_erase": True}
    | {"least_program_left_ns": 1000.0, "least_erase_left_ns": 1000.0, "suspend_erase_ns": 50_000.0},
    "dies together": {"dies_per_chip": 2, "die_interleaving": False},
    "cost-benefit": {"gc_policy": "cost_benefit"},
}


@pytest.mark.uncompiled
@pytest.mark.parametrize("device", DEVICES)
def test_pages_are_conserved_and_every_request_completes_once(device):
    state = make_state(small(**DEVICES[device]))
    check_tables(state)
    preconditioning.fill(state)
    check_tables(state)
    count = 50 * int(state.memory[PLANES])
    requests = random_requests(state, count, write_share=0.7)
    done = drive(state, requests)
    check_tables(state)
    assert sorted(done) == list(range(count))
    assert state.memory[READ_REQUESTS] + state.memory[WRITE_REQUESTS] == count
    assert all(done[i] >= request[0] for i, request in enumerate(requests))  # causality
    assert state.memory[MOVED_PAGES] > 0  # garbage was collected
    assert (state.location != 0).all()


@pytest.mark.uncompiled
@pytest.mark.parametrize("device", ["everything", "mapping cache"])
def test_it_does_not_matter_how_often_one_looks(device):
    results = []
    for every_ns in (math.inf, 777.0, 1e5):
        state = make_state(small(queue_depth=256, **DEVICES[device]))
        preconditioning.fill(state, 0.9)
        requests = random_requests(state, 200, write_share=0.6)
        results.append((drive(state, requests, every_ns), state.memory.copy(), state.owner.copy()))
    for done, _, owner in results[1:]:
        assert done == results[0][0]
        assert (owner == results[0][2]).all()


@pytest.mark.uncompiled
def test_the_same_twice():
    twice = []
    for _ in range(2):
        state = make_state(small(**DEVICES["everything"]))
        preconditioning.fill_steady(state, seed=3)
        check_tables(state)
        twice.append(drive(state, random_requests(state, 150)))
    assert twice[0] == twice[1]


@pytest.mark.uncompiled
def test_a_full_queue_refuses_and_changes_nothing():
    state = make_state(small(queue_depth=2))
    assert submit(state, 0, 0.0, 0, 4096, True) and submit(state, 1, 0.0, 0, 4096, True)
    before = state.memory.copy()
    assert not submit(state, 2, 0.0, 0, 4096, True)
    assert (state.memory == before).all()
    assert advance(state, math.inf) == 2
    assert submit(state, 2, float(state.done_ns[1]), 0, 4096, True)
    assert not submit(state, 3, float(state.done_ns[1]), 0, 1 << 30, True)  # more pages than the queue holds
    assert next_event(state) == state.done_ns[1]


@pytest.mark.uncompiled
def test_an_idle_device_has_no_next_event():
    state = make_state(small())
    assert next_event(state) == math.inf
    assert advance(state, 1e9) == 0


def waiting(state, unit, queue):
    """What waits in one of the unit's queues, in order."""
    memory, one = state.memory, int(state.memory[unit + QUEUES + 2 * queue + HEAD])
    while one != NONE:
        yield one
        one = int(memory[one + NEXT])


def command_by_scan(state, unit, first, second):
    """What makes one command with the head of the first queue, by a scan of whole queues: oracle of `_gather`."""
    memory, p = state.memory, int(state.memory[PAGES])
    per_die = int(memory[PLANES_PER_DIE])

    def key(one):
        return memory[one + PLANE] // per_die, memory[one + FLASH_PAGE] % p

    head = next(waiting(state, unit, first))
    chosen = {}
    for queue in (first, second):
        for one in waiting(state, unit, queue) if queue != NONE else ():
            if key(one) == key(head):
                chosen.setdefault(int(memory[one + PLANE]), one)
    return list(chosen.values())


@pytest.mark.uncompiled
@pytest.mark.parametrize("geometry", [{"planes_per_die": 4}, {"dies_per_chip": 2, "die_interleaving": False}])
def test_commands_are_those_that_a_scan_of_the_queues_gives(geometry):
    state = make_state(small(allocation="PCWD", queue_depth=256, **geometry))
    preconditioning.fill(state)
    preconditioning.overwrite_untimed(state, 300)
    sent = [submit(state, i, *one) for i, one in enumerate(random_requests(state, 256, gap_ns=1.0, sectors=24))]
    assert all(sent)
    memory, checked, several = state.memory, 0, 0
    units = range(int(memory[UNIT_ROWS]), int(memory[CHAIN_ROWS]), UNIT_WORDS)
    for now_ns in np.linspace(1e5, 5e6, 40):
        advance(state, float(now_ns))
        for unit in units:
            queues = [queue for queue in range(9) if next(waiting(state, unit, queue), None) is not None]
            for first, second in itertools.product(queues, [*queues, NONE]):
                if first == second:
                    continue
                expected = command_by_scan(state, unit, first, second)
                saved = memory.copy()
                assert _gather(memory, unit, np.int64(first), np.int64(second)) == len(expected)
                found, one = [], int(memory[unit + ACTIVE])
                while one != NONE:
                    found.append(one)
                    one = int(memory[one + NEXT])
                left = [list(waiting(state, unit, queue)) for queue in queues]
                memory[:] = saved
                assert found == expected
                assert left == [[o for o in waiting(state, unit, q) if o not in found] for q in queues]
                checked, several = checked + 1, several + (len(found) > 1)
    assert checked > 100 and several > 20


# --- times by hand ---------------------------------------------------------------------------------------------------


def lone(parameters, address, size_bytes, is_write, prepare=lambda state: preconditioning.fill(state)):
    state = make_state(parameters)
    prepare(state)
    assert submit(state, 5, 1000.0, address, size_bytes, is_write)
    assert advance(state, math.inf) == 1
    assert state.done_ticket[0] == 5
    return state.done_ns[0] - 1000.0, state


def messages_ns(p, *payloads):
    return sum(p.link_ns(payload) for payload in payloads)


@pytest.mark.uncompiled
@pytest.mark.parametrize("page, kind", [(0, 0), (8, 1)])
def test_a_lone_read_takes_the_sum_of_its_parts(page, kind):
    p = small(**LINKED, **CACHED)
    took_ns, state = lone(p, page * 4096, 2048, False)
    translation = p.read_command_ns(1) + 40_000 + 512 * p.channel_ns_per_byte
    data = p.read_command_ns(1) + p.page_times_ns[kind][0] + 2048 * p.channel_ns_per_byte
    # doorbell, asking for the command, the command; data and completion
    assert took_ns == pytest.approx(messages_ns(p, 2, 4, 64, 2048, 16) + translation + data)
    assert (state.memory[MAPPING_MISSES], state.memory[MAPPING_HITS]) == (1, 0)


@pytest.mark.uncompiled
def test_a_lone_write_takes_the_sum_of_its_parts():
    p = small(**LINKED)
    took_ns, _ = lone(p, 0, 4096, True)
    program = p.program_command_ns(1) + 4096 * p.channel_ns_per_byte + 200_000
    assert took_ns == pytest.approx(messages_ns(p, 2, 4, 64, 4, 4096, 16) + program)


@pytest.mark.uncompiled
def test_a_write_of_part_of_a_page_reads_the_rest_first():
    p = small()
    took_ns, _ = lone(p, 0, 512, True)
    read = p.read_command_ns(1) + 40_000 + 4096 * p.channel_ns_per_byte
    assert took_ns == pytest.approx(read + p.program_command_ns(1) + 4096 * p.channel_ns_per_byte + 200_000)
    whole_ns, _ = lone(p, 0, 512, True, lambda state: preconditioning.fill(state, sectors=1))
    assert whole_ns == pytest.approx(p.program_command_ns(1) + 512 * p.channel_ns_per_byte + 200_000)


@pytest.mark.uncompiled
def test_a_write_is_done_once_it_is_in_the_write_cache():
    p = small(write_cache=True)
    took_ns, state = lone(p, 0, 4096, True)
    assert took_ns == pytest.approx(p.dram_ns(4096))
    check_tables(state)


@pytest.mark.uncompiled
def test_a_read_of_what_was_never_written_touches_no_flash():
    p = small(**LINKED)
    took_ns, state = lone(p, 0, 4096, False, lambda state: None)
    assert took_ns == pytest.approx(messages_ns(p, 2, 4, 64, 4096, 16))
    assert state.memory[PAGES_READ] == 0


@pytest.mark.uncompiled
def test_mapping_entries_are_cached_and_dirty_ones_written_back():
    p = small(**CACHED)
    state = make_state(p)
    preconditioning.fill(state)
    entries = p.entries_per_translation_page  # 8
    done = drive(state, [(0.0, 0, 4096, False), (1e6, 0, 4096, False), (2e6, 4096, 4096, False)])
    assert done[1] - 1e6 == pytest.approx(p.read_command_ns(1) + 40_000 + 4096 * p.channel_ns_per_byte)
    assert (state.memory[MAPPING_MISSES], state.memory[MAPPING_HITS]) == (2, 1)  # entries, not pages, are cached
    drive(state, [(3e6, page * 4096, 4096, True) for page in range(4)])
    assert state.memory[TRANSLATION_WRITES] == 0
    drive(state, [(1e8 + i * 1e6, (entries + i) * 4096, 4096, False) for i in range(p.cached_entries + 4)])
    assert state.memory[TRANSLATION_WRITES] == 1  # all dirty entries of the translation page went together
    assert state.memory[ENTRIES_CACHED] == p.cached_entries
    check_tables(state)


@pytest.mark.uncompiled
def test_pages_of_two_planes_are_read_by_one_command():
    p = small(allocation="PCWD")
    took_ns, state = lone(p, 0, 8192, False)
    one = p.read_command_ns(2) + 40_000 + 2 * 4096 * p.channel_ns_per_byte
    assert took_ns == pytest.approx(one)
    assert state.memory[MULTI_PLANE_COMMANDS] == 1


@pytest.mark.uncompiled
@pytest.mark.parametrize("operation", ["program", "erase"])
def test_a_read_suspends_a_long_operation(operation):
    least = {f"least_{operation}_left_ns": 10_000.0, f"suspend_{operation}_ns": 5_000.0}
    waits = {}
    for suspend in (False, True):
        p = small(**{f"suspend_{operation}": suspend}, **least)
        state = make_state(p)
        preconditioning.fill(state, 1.0)
        if operation == "erase":
            preconditioning.overwrite_untimed(state, 400)
        rng = np.random.default_rng(4)
        requests = [(i * 3e5, int(rng.integers(0, 400)) * 4096, 4096, i % 2 == 0) for i in range(300)]
        done = drive(state, requests)
        check_tables(state)
        waits[suspend] = max(done[i] - requests[i][0] for i in range(1, 300, 2))
        assert (state.memory[SUSPENSIONS] > 0) == suspend
    assert waits[True] < waits[False]


@pytest.mark.uncompiled
def test_a_suspended_program_takes_its_time_and_the_reads():
    p = small(suspend_program=True, least_program_left_ns=10_000.0, suspend_program_ns=5_000.0)
    state = make_state(p)
    preconditioning.fill(state)
    done = drive(state, [(0.0, 0, 4096, True), (100_000.0, 8 * 4096, 4096, False)])
    suspension = p.suspend_command_ns + 5_000
    read = p.read_command_ns(1) + 60_000 + 4096 * p.channel_ns_per_byte
    assert done[1] == pytest.approx(100_000 + suspension + read)
    assert done[0] == pytest.approx(
        p.program_command_ns(1) + 4096 * p.channel_ns_per_byte + 200_000 + suspension + read
    )


@pytest.mark.uncompiled
def test_writes_wait_where_a_plane_has_no_free_block():
    state = make_state(small(gc_threshold=0.1, over_provisioning=0.3, queue_depth=128))
    preconditioning.fill(state)
    requests = [(0.0, page * 8 * 4096, 4096, True) for page in np.random.default_rng(0).integers(0, 130, 500)]
    drive(state, requests)
    assert state.memory[WRITES_STALLED] > 0
    check_tables(state)


@pytest.mark.uncompiled
@pytest.mark.parametrize("order", ALLOCATION_ORDERS)
def test_the_allocation_order_says_which_unit_varies_fastest(order):
    p = small(allocation=order, chips_per_channel=3, dies_per_chip=2, planes_per_die=2, channels=2)
    state = make_state(p)
    sizes = {"C": 2, "W": 3, "D": 2, "P": 2}
    words = rows_of(state, PLANE_ROWS).shape[1]
    first = int(state.memory[PLANE_ROWS])
    for page in range(24):
        rest, at = page, {}
        for letter in order:
            rest, at[letter] = divmod(rest, sizes[letter])
        expected = ((at["C"] * 3 + at["W"]) * 2 + at["D"]) * 2 + at["P"]
        assert (ftl.plane_of(state.memory, page) - first) // words == expected


@pytest.mark.uncompiled
@pytest.mark.parametrize("is_write", [False, True])
@pytest.mark.parametrize("device", ["whole table in DRAM", "mapping cache", "write cache"])
def test_a_request_larger_than_the_queue_streams_through_it(device, is_write):
    p = small(**DEVICES[device] | {"queue_depth": 2})
    pages = p.logical_pages // 2
    assert pages > 2 * PAGES_PER_REQUEST
    took_ns, state = lone(p, 0, pages * 4096, is_write)
    assert state.memory[PAGES_IN_FLIGHT] == 0
    assert state.memory[HOST_PAGES] == (pages if is_write else 0)
    check_tables(state)
    units = p.channels * p.chips_per_channel
    array_ns = pages * (400_000 if is_write else 50_000) / (units * p.planes_per_die)  # the mean of LSB and MSB
    if device == "whole table in DRAM":
        assert took_ns > max(array_ns, pages * 4096 * p.channel_ns_per_byte / p.channels)
        assert took_ns < 8 * array_ns + messages_ns(p, pages * 4096)
    done = drive(state, random_requests(state, 20))
    assert len(done) == 20


@pytest.mark.uncompiled
def test_a_write_suspends_an_erase_only_where_it_may():
    waits = {}
    for allowed in (False, True):
        p = small(suspend_erase=True, suspend_erase_for_writes=allowed, least_erase_left_ns=1e4, suspend_erase_ns=5e3)
        state = make_state(p)
        preconditioning.fill(state)
        preconditioning.overwrite_untimed(state, 400)
        rng = np.random.default_rng(4)
        requests = [(i * 3e5, int(rng.integers(0, 400)) * 4096, 4096, True) for i in range(300)]
        done = drive(state, requests)
        check_tables(state)
        waits[allowed] = max(done[i] - requests[i][0] for i in range(300)), int(state.memory[SUSPENSIONS])
    assert waits[False][1] == 0 < waits[True][1]
    assert waits[True][0] < waits[False][0]


ENERGY = {
    **{"array_v": 3.0, "read_ma": 20.0, "program_ma": 30.0, "erase_ma": 25.0},
    **{"channel_pj_per_bit": 10.0, "host_pj_per_bit": 100.0, "static_w": 2.0},
}


@pytest.mark.uncompiled
def test_energy_is_that_of_the_operations():
    p = small(**ENERGY, allocation="PCWD")
    drive_ = Ssd(p, "filled", 1.0)
    _, state = lone(p, 0, 8192, False)
    drive(state, [(1e6, 8 * 4096, 4096, False), (2e6, 4096, 4096, True)])
    found = MODEL.energy_pj(drive_, state.counts, 3e6)
    assert found == {
        "array read": 3 * 20 * (40_000 * 2 + 60_000),
        "program": 3 * 30 * 200_000,
        "erase": 0,
        "channel": 10 * 8 * 4 * 4096,
        "host": 100 * 8 * 4 * 4096,
        "static": 2 * 3e9,
    }
    assert MODEL.energy_pj(Ssd(small(), "filled", 1.0), state.counts, 1.0) == {}
    state = make_state(p)
    preconditioning.fill(state)
    drive(state, random_requests(state, 400, write_share=1.0))
    found = MODEL.energy_pj(drive_, state.counts, 0.0)
    assert found["erase"] == 3 * 25 * 2_000_000 * ftl.erase_counts(state).sum() > 0
    programmed = state.counts[COUNTS.index("pages_programmed")]
    assert 3 * 30 * 200_000 * programmed < found["program"] < 3 * 30 * 600_000 * programmed


# --- wear ------------------------------------------------------------------------------------------------------------


def test_static_wear_levelling_bounds_the_spread_of_erases_and_costs_writes():
    spread, amplified = {}, {}
    for way in ("none", "dynamic", "static"):
        p = small(blocks_per_plane=64, pages_per_block=32, gc_threshold=0.05, wear_levelling=way, static_wear_gap=8)
        state = make_state(p)
        preconditioning.fill(state)
        preconditioning.overwrite_untimed(state, 40 * p.logical_pages, seed=1, hot=0.1, to_hot=1.0)
        check_tables(state)
        erased = ftl.erase_counts(state)
        spread[way] = int((erased.max(axis=1) - erased.min(axis=1)).max())
        amplified[way] = ftl.write_amplification(state)
    assert spread["static"] <= 2 * 8 < spread["dynamic"] <= spread["none"]
    assert amplified["none"] < amplified["static"]


@pytest.mark.uncompiled
@pytest.mark.parametrize("way", ["dynamic", "static"])
def test_pages_are_conserved_where_wear_is_levelled(way):
    state = make_state(small(wear_levelling=way, static_wear_gap=1))
    preconditioning.fill(state)
    drive(state, random_requests(state, 500, write_share=1.0, pages=40))
    check_tables(state)
    assert (state.location != 0).all()


# --- bounds ----------------------------------------------------------------------------------------------------------


def saturated(p, sectors, count=2000, reads=True, pattern="rand"):
    """Bytes a ns in a closed loop that keeps the device's queue full."""
    state = make_state(p)
    preconditioning.fill(state)
    size = sectors * SECTOR_BYTES
    load = Load(pattern, float(reads), size, outstanding=p.queue_depth, requests=count, warmup=0)
    return measure(MODEL, state, load, p.capacity_bytes).bandwidth_bytes_per_ns


def test_no_more_data_than_channels_and_link_carry():
    wide = {"queue_depth": 64, "chips_per_channel": 8, "read_lsb_ns": 1000.0, "read_msb_ns": 1000.0}
    p = small(**wide)
    channels = p.channels / p.channel_ns_per_byte
    assert 0.85 * channels < saturated(p, 64, pattern="seq") <= channels
    p = small(**wide, link_lanes=1, link_lane_rate=0.5)
    link = 0.5 * 128 / 156
    assert 0.95 * link < saturated(p, 64, pattern="seq") <= link


def test_programs_of_all_units_bound_writes():
    p = small(queue_depth=64, blocks_per_plane=64)
    most = p.channels * p.chips_per_channel * p.planes_per_die * 4096 / 400_000  # the mean of LSB and MSB
    assert saturated(p, 8, 300, reads=False) <= most


# --- garbage collection against its closed form ----------------------------------------------------------------------


@pytest.mark.uncompiled
@pytest.mark.parametrize("policy", ["greedy", "cost_benefit"])
@pytest.mark.parametrize("levelling", ["none", "static"])
def test_the_block_that_is_collected_is_the_best_of_all(policy, levelling):
    state = make_state(small(gc_policy=policy, wear_levelling=levelling, static_wear_gap=3))
    preconditioning.fill(state)
    rows, pages, moved = rows_of(state, BLOCK_ROWS), int(state.memory[PAGES]), 0
    for seed in range(12):
        preconditioning.overwrite_untimed(state, 150, seed=seed, hot=0.2, to_hot=0.9)
        for plane in range(int(state.memory[PLANES])):
            blocks = rows[plane * 24 : (plane + 1) * 24]
            full = [b for b in range(24) if blocks[b, STATE] == FULL]
            coldest = min(full, key=lambda b: blocks[b, ERASE_COUNT])
            gains = [b for b in full if blocks[b, VALID] < pages]
            if policy == "greedy":
                best = min(gains, key=lambda b: blocks[b, VALID])
            else:
                age = {b: int(state.memory[CLOCK] - blocks[b, CLOSED_AT] + 1) for b in gains}
                best = max(gains, key=lambda b: age[b] * (pages - blocks[b, VALID]) / max(1e-9, 2 * blocks[b, VALID]))
            if levelling == "static" and blocks[:, ERASE_COUNT].max() - blocks[coldest, ERASE_COUNT] > 3:
                best, moved = coldest, moved + 1
            found = ftl.choose_victim(state.memory, ftl.plane_row(state.memory, plane))
            assert (found - state.memory[BLOCK_ROWS]) // rows.shape[1] == plane * 24 + best
    assert (moved > 0) == (levelling == "static")


@pytest.mark.parametrize("over_provisioning", [0.12, 0.2, 0.3])
@pytest.mark.parametrize("start", [preconditioning.fill, preconditioning.fill_steady])
def test_write_amplification_is_that_of_the_closed_form(over_provisioning, start):
    shape = {"blocks_per_plane": 512, "pages_per_block": 256, "planes_per_die": 1}
    p = small(over_provisioning=over_provisioning, gc_threshold=0.006, **shape)
    state = make_state(p)
    start(state)
    settle = 4 if start is preconditioning.fill else 1
    preconditioning.overwrite_untimed(state, settle * p.logical_pages, seed=1)
    state.memory[[HOST_PAGES, MOVED_PAGES]] = 0
    preconditioning.overwrite_untimed(state, 2 * p.logical_pages, seed=2)
    check_tables(state)
    usable = p.physical_pages - p.planes * p.gc_threshold_blocks * p.pages_per_block  # the others are kept free
    expected = validate_ssd.closed_form_amplification(usable, p.logical_pages)
    assert ftl.write_amplification(state) == pytest.approx(expected, rel=0.02)


def amplified_in_time(p, outstanding, count):
    """Write amplification, and how often each block was erased, in a closed loop of whole-page random writes."""
    state = make_state(p)
    preconditioning.fill_steady(state, seed=5)
    load = Load("rand", 0.0, p.page_bytes, outstanding=outstanding, requests=count, warmup=0)
    measure(MODEL, state, load, p.capacity_bytes)
    check_tables(state)
    return ftl.write_amplification(state), ftl.erase_counts(state)


def test_collection_in_time_amplifies_as_without():
    p = small(blocks_per_plane=64, pages_per_block=32, over_provisioning=0.25, gc_threshold=0.05, queue_depth=64)
    untimed, count = make_state(p), 3 * p.logical_pages
    preconditioning.fill_steady(untimed, seed=5)
    preconditioning.overwrite_untimed(untimed, count, seed=9)
    expected = ftl.write_amplification(untimed)
    one, erased = amplified_in_time(p, 1, count)
    assert one == pytest.approx(expected, rel=0.01)
    assert erased.max() <= 4 * erased.mean() + 4  # wear is spread
    many, _ = amplified_in_time(p, 32, count)
    assert 0.95 * expected < many < expected  # the host overwrites some of what is being collected


def test_a_steady_state_is_steady():
    p = small(blocks_per_plane=256, pages_per_block=64, over_provisioning=0.2, gc_threshold=0.02)
    state = make_state(p)
    preconditioning.fill_steady(state)
    check_tables(state)
    found = []
    for seed in range(4):
        state.memory[[HOST_PAGES, MOVED_PAGES]] = 0
        preconditioning.overwrite_untimed(state, p.logical_pages, seed=seed)
        found.append(ftl.write_amplification(state))
    assert max(found) < 1.08 * min(found)


def test_cost_benefit_is_near_greedy_under_uniform_writes_and_better_under_skewed_ones():
    for spare in (0.12, 0.25):
        greedy, expected = validate_ssd.amplification(spare, "greedy")
        benefit, _ = validate_ssd.amplification(spare, "cost_benefit")
        assert (greedy, benefit) == (pytest.approx(expected, rel=0.02), pytest.approx(expected, rel=0.02))
        skewed = [validate_ssd.amplification(spare, policy, 0.2, 0.8)[0] for policy in ("greedy", "cost_benefit")]
        assert skewed[1] < 0.95 * skewed[0]


# --- what is shipped -------------------------------------------------------------------------------------------------

SETS = sorted(path.stem for path in (Path(hardware_profiles.__file__).parent / "flash").glob("*.yaml"))


@pytest.mark.uncompiled
@pytest.mark.parametrize("name", SETS)
def test_a_shipped_set_is_what_its_device_says_and_reads_in_the_sum_of_its_parts(name):
    p = load_parameters(name)
    took_ns, _ = lone(p, 0, 4096, False, lambda state: preconditioning.fill(state, 0.001))
    page = p.read_command_ns(1) + p.page_times_ns[0][0] + 4096 * p.channel_ns_per_byte
    if p.stored_translation_pages:
        page += p.read_command_ns(1) + p.page_times_ns[0][0] + p.translation_read_bytes * p.channel_ns_per_byte
    assert took_ns == pytest.approx(messages_ns(p, 2, 4, 64, 4096, 16) + page)
    drives = [device for device in map(load_device, device_names()) if device.parameters.get("flash_set") == name]
    assert drives
    for device in drives:
        of_file, geometry = device.timing, device.geometry
        if "flash_channels" not in geometry:
            assert p.capacity_bytes == pytest.approx(device.capacity_bytes, rel=0.01)
            continue
        words = ("flash_channels", "chips_per_channel", "dies_per_chip", "planes_per_die", "blocks_per_plane")
        words += ("pages_per_block", "page")
        ours = (p.channels, p.chips_per_channel, p.dies_per_chip, p.planes_per_die, p.blocks_per_plane)
        assert (*ours, p.pages_per_block, p.page_bytes) == tuple(geometry[word] for word in words)
        assert p.physical_pages * p.page_bytes == device.capacity_bytes
        means = np.mean(p.page_times_ns, axis=0)
        assert (*means, p.erase_ns) == pytest.approx((of_file["tR"], of_file["tPROG"], of_file["tBERS"]))
        bandwidth = p.channels / p.channel_ns_per_byte
        assert bandwidth == pytest.approx(device.read.bandwidth_bytes_per_ns, rel=0.01)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.uncompiled
@pytest.mark.parametrize(
    "changed, told",
    [
        ({"page_bytes": 65536 * 2}, "page_bytes of 131072; expected 1 to 64 sectors of 512 bytes"),
        ({"block_bytes": 2048}, "a page of 4096 bytes is larger than a block of 2048"),
        ({"block_bytes": 40960}, "block_bytes of 40960 is not pages_per_block 8 x page_bytes 4096; expected 32768"),
        ({"channel_rate_mt_s": 0.0}, "channel_rate_mt_s of 0.0; expected a rate above zero"),
        ({"over_provisioning": 0.0}, "over_provisioning 0.0 leaves -3 spare blocks of 24 in a plane"),
        ({"over_provisioning": 1.5}, "over_provisioning of 1.5; expected a share from 0 to below 1"),
        ({"channels": 0}, "channels of 0; expected a whole number from 1"),
        ({"allocation": "CWD"}, "unknown plane allocation order 'CWD'"),
        ({"read_msb_ns": None}, "MLC cells without read_msb_ns"),
        ({"erase_ns": -1.0}, "erase_ns of -1.0; expected a time from 0 ns"),
        ({"blocks_per_plane": 2**28}, "too many flash pages:"),
        ({"gc_hard_threshold": 0.5}, "gc_hard_threshold 0.5 and gc_threshold 0.15"),
        ({"mapping_cache_bytes": 4}, "mapping_cache_bytes 4 holds no entry of 4 bytes"),
        ({"write_cache": True, "write_buffer_bytes": 512}, "write_buffer_bytes 512 is less than a page of 4096"),
        ({"chanels": 4}, "unknown parameter 'chanels'; did you mean 'channels'?"),
        ({"array_v": 3.3}, "array_v without read_ma; expected all of array_v, read_ma, program_ma"),
        ({**ENERGY, "read_ma": -1.0}, "read_ma of -1.0; expected a number from 0"),
        ({"suspend_erase_for_writes": True}, "suspend_erase_for_writes without suspend_erase"),
        ({"wear_levelling": "all"}, "parameter wear_levelling is 'all'; expected 'none', 'dynamic' or 'static'"),
        ({"cell": "QLC"}, "parameter cell is 'QLC'; expected 'SLC', 'MLC' or 'TLC'"),
    ],
)
def test_a_broken_rule_is_told_in_one_line(changed, told):
    if changed == {"mapping_cache_bytes": 4}:
        changed = changed | {"mapping_entry_bytes": 5}
        told = told.replace("entry of 4", "entry of 5")
    with pytest.raises(InputError) as caught:
        small(**changed)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@pytest.mark.uncompiled
def test_missing_and_unknown_sets():
    with pytest.raises(InputError, match="missing parameter 'channels'"):
        make_parameters(**{key: value for key, value in SMALL.items() if key != "channels"})
    with pytest.raises(InputError, match="did you mean 'mqsim_default'"):
        load_parameters("mqsim_defalt")


@pytest.mark.uncompiled
def test_only_a_brand_new_device_is_preconditioned():
    state = make_state(small())
    for share in (0.0, 1.5):
        with pytest.raises(InputError, match="occupancy of"):
            preconditioning.fill(state, share)
    preconditioning.fill(state)
    with pytest.raises(InputError, match="not brand-new"):
        preconditioning.fill_steady(state)


# --- MQSim -----------------------------------------------------------------------------------------------------------


def test_mqsim_default_is_what_its_configuration_says():
    p = load_parameters("mqsim_default")
    assert (p.planes, p.page_bytes, p.physical_pages) == (128, 8192, 128 * 2048 * 256)
    assert (p.cache_entry_bytes, p.cached_entries, p.entries_per_translation_page) == (9, 233_016, 1365)
    assert p.channel_ns_per_byte == pytest.approx(3.003, abs=1e-3)


@cache
def compared(path):
    return validate_ssd.compare(path)


def test_within_bounds_of_mqsim(reference_file):
    """Median error at most 5 % and 90th percentile at most 15 %, of IOPS and of mean latency, over all its rows."""
    rows = compared(reference_file(os.path.join("ssd", "mqsim_default.csv")))
    assert len(rows) == 57
    *_, (name, count, iops, iops_90, latency, latency_90) = validate_ssd.summary(rows)
    assert (name, count) == ("all", 57)
    assert iops <= 0.05 and latency <= 0.05
    assert iops_90 <= 0.15 and latency_90 <= 0.15
    assert all(row.bandwidth == pytest.approx(row.our_bandwidth, rel=0.2) for row in rows)
