"""What is shipped under hardware_profiles/: it loads, covers every kind, names its sources, and is plausible."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest

from sim import profile
from sim.profile import LINK_KINDS, MEMORY_KINDS, check_file, load_device, load_profile

DEVICES = {name: load_device(name) for name in profile.device_names()}
SYSTEMS = {name: load_profile(name) for name in profile.system_names()}
LINE, PAGE, BLOCK = 64, 4096, 65536

# How fast an access of 64 B may be, by kind: nanoseconds at the part itself.
PLAUSIBLE_LATENCY_NS = {
    "sram": (0.5, 250),
    "sram3d": (5, 50),
    "hbm": (30, 500),
    "dram": (30, 800),
    "cxl": (50, 500),
    "ssd": (1e3, 200e3),
    "csd": (1e3, 200e3),
    "pim": (30, 200),
    "pcie": (100, 1000),
    "nvlink": (100, 1000),
    "cxl_link": (30, 300),
    "c2c": (1, 2000),
    "network": (200, 5000),
    "tsv": (0.1, 10),
    "switch": (20, 300),
}


@pytest.mark.parametrize("folder", ["device", "system"])
def test_every_file_is_faultless(folder):
    files = sorted(profile._folder(folder).glob("*.y*ml"))
    assert files
    for file in files:
        assert check_file(file) == []


def test_each_kind_is_there_three_times_and_more():
    kinds = Counter(device.kind for device in DEVICES.values())
    few = {kind: kinds[kind] for kind in MEMORY_KINDS + LINK_KINDS if kinds[kind] < 3}
    assert not few
    assert sum(kinds[kind] for kind in MEMORY_KINDS) >= 30


def test_the_machines_asked_for_are_there():
    wanted = {
        "dgx_h100_cxl_ssd",
        "dgx_h100",
        "gh200",
        "groq_rack",
        "graphcore_m2000",
        "sn40l",
        "rtx4090_desktop",
        "laptop_lunar_lake",
        "edge_orin",
        "epyc_milan_x",
        "a6000_smartssd",
        "attacc_dgx_a100",
    }
    assert wanted <= SYSTEMS.keys()


def test_each_system_is_called_as_its_file():
    assert all(system.name == name for name, system in SYSTEMS.items())


@pytest.mark.parametrize("name", DEVICES)
def test_every_value_of_a_device_has_a_source(name):
    device = DEVICES[name]
    sides = ("up", "down") if device.is_link else ("read", "write")
    wanted = {f"{side}.{what}" for side in sides for what in ("latency", "bandwidth")}
    wanted |= {"energy.static"} | {f"timing.{key}" for key in device.timing}
    wanted |= {f"geometry.{key}" for key in device.geometry}
    wanted |= set() if device.is_link else {"capacity", "channels", "interleave", "energy.read", "energy.write"}
    assert wanted <= device.sources.keys()
    for source in device.sources.values():
        assert len(source) > 4
        assert "[K]" not in source
        assert not re.search(r"/(home|work|tmp|root)/", source)


def test_doubt_is_visible_where_a_value_is_recalled():
    """Values that nobody re-read: each says so in the words that the README explains."""
    doubtful = {
        "hbm3e_h200_141g": "capacity",
        "gddr6x_rtx4090_24g": "capacity",
        "lpddr5_orin_64g": "capacity",
        "larc_c_256m": "read.bandwidth",
        "sram_sn40l": "read.bandwidth",
        "cxl_melody_a": "read.bandwidth",
        "pim_gddr6_aim_1g": "geometry.internal_bandwidth",
        "csd_cambricon_llm": "timing.tR",
    }
    for name, field in doubtful.items():
        assert "recalled, not re-read" in DEVICES[name].sources[field], (name, field)


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_plausible(name):
    device = DEVICES[name]
    low, high = PLAUSIBLE_LATENCY_NS[device.kind]
    for write in (False, True):
        access = device.access(write)
        assert access.bandwidth_bytes_per_ns > 0
        if not (write and device.kind in ("ssd", "csd")):  # programming flash takes as long as it takes
            assert low <= access.latency_ns + access.occupancy_ns <= high
    assert 0 < device.read_pj_per_bit < 1000
    assert 0 < device.static_w < 1000
    assert 0 <= device.usd_per_hour < 10


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_tier_is_further_away_or_narrower_than_the_one_above(name):
    """Both need not hold: a peer's memory is further than host DRAM but far wider, a CXL pool than one expander."""
    system = SYSTEMS[name]
    for above, below in itertools.pairwise(tier.name for tier in system.tiers):
        line, block = (system.unloaded_ns(below, size) / system.unloaded_ns(above, size) for size in (LINE, BLOCK))
        assert max(line, block) > 1, (above, below)
    bandwidths = [system.path_bandwidth(tier.name) for tier in system.tiers]
    assert bandwidths[-1] == min(bandwidths)
    assert bandwidths[0] == max(bandwidths)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_last_tier_is_the_largest(name):
    capacities = [tier.device.capacity_bytes for tier in SYSTEMS[name].tiers]
    assert max(capacities) == capacities[-1]


def test_figures_that_the_field_knows():
    def near(system, tier, size, low, high):
        assert low <= SYSTEMS[system].unloaded_ns(tier, size) <= high, (system, tier)

    near("dgx_h100", "hbm", 64, 370, 415)
    near("dgx_a100", "hbm", 64, 370, 415)
    near("cxl_pool_spr", "dram", 64, 80, 115)
    near("epyc_milan_x", "dram", 64, 80, 110)
    near("cxl_pool_spr", "cxl", 64, 245, 270)  # the expander was measured at 250 ns
    near("dgx_h100_cxl_ssd", "ssd", 4096, 60e3, 120e3)


def test_a_datasheet_drive_saturates_at_its_iops():
    for name, iops in (("nvme_gen4_tlc_4t", 930e3), ("nvme_gen5_tlc_8t", 2.5e6), ("optane_p4800x_375g", 550e3)):
        drive = DEVICES[name]
        hold_ns = drive.read.occupancy_ns + PAGE / drive.bandwidth_for(PAGE)
        assert drive.channels / hold_ns * 1e9 == pytest.approx(iops, rel=0.01)


def test_one_channel_parts_keep_their_timing_in_cycles():
    ddr4 = DEVICES["ddr4_3200"]
    assert ddr4.timing["tCK"] == 0.625
    assert (ddr4.timing["nCL"], ddr4.timing["nRC"], ddr4.timing["nFAW"]) == (22, 74, 34)
    for name in ("ddr4_3200", "ddr5_4800", "lpddr5_6400", "gddr6_14000", "hbm2_2000", "hbm3_6400"):
        assert DEVICES[name].channels == 1
        assert {"nBL", "nCL", "nCWL", "nRP", "nRAS", "nRC", "nFAW", "nREFI", "nRFC"} <= DEVICES[name].timing.keys()


def test_mqsim_default_keeps_its_geometry():
    drive = DEVICES["mqsim_default"]
    assert drive.timing["tR"] == 75e3
    assert drive.geometry["page"] == 8192
    assert drive.capacity_bytes == 8 * 4 * 2 * 2 * 2048 * 256 * 8192
