"""`probe`: one device alone, from the command line and from Python."""

from __future__ import annotations

import json

import pytest

from sim.cli import main
from sim.errors import InputError
from sim.probing import probe
from sim.profile import load_device
from sim.traffic import Load, addresses


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["probe", *arguments])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_a_probe_prints_one_document(capsys):
    line = ("ddr4_3200", "--pattern", "seq", "--outstanding", "4,16", "--requests", "2000", "--json")
    code, out, err = run(capsys, *line)
    assert (code, err) == (0, "")
    points = json.loads(out)["points"]
    assert [point["outstanding"] for point in points] == [4, 16]
    for point in points:
        assert point["requests"] == 2000
        assert point["iops"] == pytest.approx(point["bandwidth_GBps"] / 64 * 1e9)
        assert sum(point["row_ratios"].values()) == pytest.approx(1)
        assert point["latency_ns"]["p50"] <= point["latency_ns"]["p99"]
        assert sum(point["energy_pj"].values()) > 0
    assert run(capsys, *line)[1] == out


def test_a_curve_is_written_with_its_figure(capsys, tmp_path):
    line = ("ddr4_3200", "--rate", "1GB/s,5GB/s", "--requests", "500", "--out", str(tmp_path))
    code, out, _ = run(capsys, *line)
    assert code == 0
    assert "GB/s" in out
    assert len((tmp_path / "probe.csv").read_text().splitlines()) == 3
    assert (tmp_path / "probe.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["ddr4_3200", "ddr5_4800", "lpddr5_6400", "gddr6_14000", "hbm2_2000", "hbm3_6400"])
def test_the_memory_devices_are_what_their_files_say(name):
    device = load_device(name)
    reading = probe(device, [Load("seq", size_bytes=0, outstanding=64, requests=2000)], {"mapping": "MOP4CLXOR"})[0]
    peak = device.geometry["peak_bandwidth"]
    assert 0.8 * peak < reading.result.bandwidth_bytes_per_ns <= peak


BAD = [
    (("ddr4_3201", "--outstanding", "1"), "did you mean 'ddr4_3200'"),
    (("pcie3_x16", "--outstanding", "1"), "cannot be probed"),
    (("ddr4_3200",), "either --outstanding or --rate"),
    (("ddr4_3200", "--outstanding", "x"), "'x'; expected a whole number"),
    (("ddr4_3200", "--outstanding", "0"), "outstanding is 0"),
    (("ddr4_3200", "--outstanding", "1", "--pattern", "stride"), "unknown pattern 'stride'"),
    (("ddr4_3200", "--outstanding", "1", "--size", "16GiB"), "request size"),
    (("ddr4_3200", "--outstanding", "1", "--set", "nRC=60"), "tRC < tRAS + tRP"),
    (("ddr4_3200", "--outstanding", "1", "--set", "mapping=row:16"), "does not cover the address"),
    (("ddr4_3200", "--outstanding", "1", "--set", "timing_set=ddr4"), "unknown timing set 'ddr4'"),
    (("ddr4_3200", "--rate", "0GB/s"), "rate is 0"),
]


@pytest.mark.parametrize(("arguments", "told"), BAD, ids=[told for _, told in BAD])
def test_bad_input_is_one_line_and_exit_code_2(capsys, arguments, told):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_patterns_stay_below_the_capacity_and_are_what_they_say():
    import numpy as np

    rng = np.random.default_rng(1)
    for pattern in ("seq", "rand", "stride256", "burst2048", "mstream16"):
        made = addresses(pattern, 5000, 64, 1 << 20, rng)
        assert made.min() >= 0
        assert made.max() <= (1 << 20) - 64
        assert np.all(made % 64 == 0)
    assert addresses("stride256", 3, 64, 1 << 20, rng).tolist() == [0, 256, 512]
    burst = addresses("burst2048", 64, 64, 1 << 20, rng)
    assert np.all(np.diff(burst[:32]) == 64)
    streams = addresses("mstream16", 32, 64, 1 << 20, rng)
    assert np.all((streams[16:] - streams[:16]) % (1 << 20) == 64)
    with pytest.raises(InputError):
        addresses("stride0", 3, 64, 1 << 20, rng)


def test_a_drive_is_probed_as_it_is_and_after_long_use(capsys):
    small = ("--set", "blocks_per_plane=64", "--set", "pages_per_block=32", "--set", "over_provisioning=0.25")
    line = ("mqsim_default", "--size", "8KiB", "--outstanding", "16", "--requests", "1500", "--json", *small)
    code, out, err = run(capsys, *line, "--set", "condition=new", "--read-ratio", "0")
    assert (code, err) == (0, "")
    fresh = json.loads(out)["points"][0]
    code, out, _ = run(capsys, *line, "--set", "condition=steady", "--set", "occupancy=1", "--read-ratio", "0")
    aged = json.loads(out)["points"][0]
    assert fresh["write_amplification"] < aged["write_amplification"]
    assert fresh["iops"] > aged["iops"]
    assert aged["counts"]["moved_pages"] > 0 and aged["energy_pj"]["erase"] > 0
    code, _, err = run(capsys, *line, "--set", "condition=old")
    assert code == 2 and "condition is" in err


@pytest.mark.parametrize("change", ["flash_set=mqsim", "planes_per_die=0", "page_byte=4096", "occupancy=2"])
def test_a_drive_s_bad_parameter_is_one_line(capsys, change):
    code, out, err = run(capsys, "mqsim_default", "--outstanding", "1", "--set", change)
    assert code == 2 and out == "" and len(err.strip().splitlines()) == 1
