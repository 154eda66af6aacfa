"""A system's path under load: against the path rule, the least bandwidth on the way, and the device driven alone."""

import pytest
from numba import config

from sim.errors import InputError
from sim.path_probing import path_of, probe_path
from sim.probing import probe
from sim.profile import load_profile
from sim.traffic import Load

REQUESTS = {"requests": 100, "warmup": 20} if config.DISABLE_JIT else {"requests": 3000, "warmup": 500}
SYSTEM = "dgx_h100_cxl_ssd"

ONE_TIER = """
name: one
description: one tier, simulated command by command
fidelity: detailed
compute: [{name: cpu, kind: cpu}]
tiers: [{name: dram, device: ddr4_3200}]
"""


def read(tier, load, system=SYSTEM, **overrides):
    return probe_path(system, tier, [load], overrides)[0].result


@pytest.mark.parametrize("tier", ["hbm", "dram", "cxl", "ssd"])
@pytest.mark.parametrize("read_ratio", [1.0, 0.0])
def test_one_request_at_a_time_takes_what_the_path_rule_says(tier, read_ratio):
    size = 8192
    result = read(tier, Load(read_ratio=read_ratio, size_bytes=size, outstanding=1, **REQUESTS))
    mean_ns = result.mean_ns if read_ratio else result.write_mean_ns
    assert mean_ns == pytest.approx(load_profile(SYSTEM).unloaded_ns(tier, size, write=not read_ratio), rel=1e-9)


@pytest.mark.parametrize("tier", ["dram", "cxl"])
def test_many_at_a_time_fill_the_narrowest_part(tier):
    result = read(tier, Load(size_bytes=65536, outstanding=256, **REQUESTS))
    narrowest = load_profile(SYSTEM).path_bandwidth(tier)
    assert 0.97 * narrowest < result.bandwidth_bytes_per_ns <= narrowest * 1.001


def test_an_open_loop_gets_what_it_asks_for():
    result = read("cxl", Load(size_bytes=4096, rate_bytes_per_ns=5.0, **REQUESTS))
    assert result.bandwidth_bytes_per_ns == pytest.approx(5.0, rel=0.1)


def test_a_path_without_links_is_the_device_alone(tmp_path):
    file = tmp_path / "one.yaml"
    file.write_text(ONE_TIER)
    load = Load("rand", outstanding=16, **REQUESTS)
    alone = probe("ddr4_3200", [load])[0].result
    result = read("dram", load, str(file))
    assert result.bandwidth_bytes_per_ns == pytest.approx(alone.bandwidth_bytes_per_ns, rel=0.03)
    assert result.mean_ns == pytest.approx(alone.total_mean_ns, rel=0.03)


def test_names_of_paths():
    assert path_of(f"{SYSTEM}:cxl") == (SYSTEM, "cxl")
    assert path_of("ddr4_3200") is None
    assert path_of("folder/my:part/device.yaml") is None
    with pytest.raises(InputError, match=f"{SYSTEM}:hbm, {SYSTEM}:dram"):
        path_of(SYSTEM)
    with pytest.raises(InputError, match=r"unknown tier 'cxll'"):
        read("cxll", Load(outstanding=1))
