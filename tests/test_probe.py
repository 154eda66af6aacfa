"""`probe`: one device alone, from the command line and from Python."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hardware_profiles
from sim.cli import main
from sim.errors import InputError
from sim.probing import probe
from sim.profile import load_device
from sim.traffic import Load, addresses

ROOT = Path(__file__).parent.parent


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
    (("ipu_link_gc200", "--outstanding", "1", "--set", "mapping=x"), "there is: in_flight"),
    (("ipu_link_gc200", "--outstanding", "1", "--set", "model=ram"), "unknown device model 'ram'"),
    (("ipu_link_gc200", "--outstanding", "1", "--set", "in_flight=0"), "in_flight is 0"),
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


ONE = ("ddr4_3200", "--outstanding", "1")
BAD += [
    ((*ONE, "--base", "9GiB"), "addresses are '9663676416 to 9663676480'; expected from 0 to 8589934592, the device's"),
    ((*ONE, "--base", "4GiB", "--span", "5GiB"), "addresses are '4294967296 to 9663676416'"),
    ((*ONE, "--span", "8B"), "span is 8"),
    ((*ONE, "--with", "rand"), "--with 'rand'; expected name=value"),
    ((*ONE, "--with", "patern=rand,rate=1GB/s"), "--with: unknown name 'patern'; did you mean 'pattern'?"),
    ((*ONE, "--with", "pattern=rand"), "--with has either a rate or a number outstanding: 'pattern=rand'"),
    ((*ONE, "--with", "rate=1GB/s,outstanding=2"), "--with has either a rate or a number outstanding"),
    ((*ONE, "--with", "rate=1GB/s,rate=2GB/s"), "--with: a name twice: 'rate'"),
    ((*ONE, "--with", "rate=1"), "'1'; expected a bandwidth such as"),
    ((*ONE, "--with", "outstanding=1,seed=x"), "seed 'x'; expected a whole number"),
    ((*ONE, "--with", "outstanding=1,read_ratio=half"), "read_ratio 'half'; expected a number"),
    ((*ONE, "--with", "outstanding=1,base=9GiB"), "addresses are"),
    (
        ("ddr4_3200", "--outstanding", "1,2", "--with", "outstanding=1"),
        "a list of loads cannot be combined with --with",
    ),
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


# --- a file of one's own ---------------------------------------------------------------------------------------------


def own_file(folder, find, put, timing_set=None):
    """A DDR4 device file with something changed in it, or in its own timing set."""
    root = Path(hardware_profiles.__file__).parent
    text = (root / "devices" / "ddr4_3200.yaml").read_text().replace("name: ddr4_3200", "name: mine", 1)
    if timing_set:
        changed = (root / "timings" / "ddr4_3200.yaml").read_text().replace(*timing_set)
        (folder / "own.yaml").write_text(changed)
    assert find in text
    (folder / "mine.yaml").write_text(text.replace(find, put.replace("OWN", str(folder / "own.yaml")), 1))
    return str(folder / "mine.yaml")


MAPPING = "mapping: RoBaRaCoCh"
BAD_FILES = [
    (
        MAPPING,
        "nRC: 60",
        None,
        "parameters: timing set 'ddr4_3200': tRC < tRAS [+] tRP: .*: nRC 60, nRAS 52 [+] nRP 22",
    ),
    (MAPPING, "nRRDL: 3", None, "tRRD_L < tRRD_S: .*: nRRDL 3, nRRDS 4"),
    (MAPPING, 'mapping: "row:16, bank:2, group:2, column:6"', None, "it has 64 values of 'column', the device 128"),
    (MAPPING, "tCK_ps: 0", None, "parameters: tCK_ps is 0; expected at least 1"),
    ("timing_set: ddr4_3200", "timing_set: OWN", ("nRC: 74", "nRC: 73"), "tRC < tRAS [+] tRP: .*: nRC 73"),
    ("timing_set: ddr4_3200", "timing_set: nowhere.yaml", None, "nowhere.yaml"),
    ("channels: {value: 1,", "channels: {value: 0,", None, "mine.yaml:14: channels.value: not a count: 0"),
    ("bandwidth: {value: 24.38 GB/s", "bandwidth: {value: 0 GB/s", None, "read.bandwidth.value: not above zero"),
    (
        "capacity: {value: 8 GiB",
        "capacity: {value: 16 GiB",
        None,
        "capacity is 17179869184; .* the 8589934592 bytes of",
    ),
]


@pytest.mark.parametrize(("find", "put", "timing_set", "told"), BAD_FILES, ids=[put for _, put, _, _ in BAD_FILES])
def test_a_bad_file_of_one_s_own_is_one_line(capsys, tmp_path, find, put, timing_set, told):
    file = own_file(tmp_path, find, put, timing_set)
    for arguments in (["probe", file, "--outstanding", "1"], ["validate", file]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        captured = capsys.readouterr()
        assert (end.value.code, captured.out) == (2, "")
        assert len(captured.err.splitlines()) == 1
        assert re.search(told, captured.err) and "mine.yaml" in captured.err


def test_a_change_of_the_organisation_is_no_contradiction(capsys):
    code, out, _ = run(capsys, "ddr4_3200", "--outstanding", "1", "--requests", "10", "--set", "rows=1024", "--json")
    assert code == 0 and json.loads(out)["points"][0]["requests"] == 10


# --- several requesters ----------------------------------------------------------------------------------------------


def test_requesters_are_shown_beside_what_they_get_alone(capsys, tmp_path):
    line = ("ddr4_3200", "--pattern", "seq", "--outstanding", "8", "--requests", "1000")
    line += ("--with", "pattern=rand, rate=2GB/s, read_ratio=0.5, size=256B, requests=500", "--with", "outstanding=1")
    code, out, err = run(capsys, *line, "--json", "--out", str(tmp_path))
    assert (code, err) == (0, "")
    document = json.loads(out)
    requesters = document["requesters"]
    assert [one["pattern"] for one in requesters] == ["seq", "rand", "seq"]
    assert [one["size_bytes"] for one in requesters] == [64, 256, 64]
    assert [one["seed"] for one in requesters] == [1, 2, 3]
    assert [one["shared"]["requests"] for one in requesters] == [1000, 500, 1000]
    assert all(one["slowdown"] > 1 for one in requesters)
    assert all(one["shared"]["bandwidth_GBps"] <= 1.02 * one["alone"]["bandwidth_GBps"] for one in requesters)
    shares = sum(one["shared"]["bandwidth_GBps"] for one in requesters)
    assert document["together"]["bandwidth_GBps"] == pytest.approx(shares, rel=0.1)
    assert len((tmp_path / "requesters.csv").read_text().splitlines()) == 4
    code, out, _ = run(capsys, *line)
    assert code == 0 and "2: rand, 50% reads, 2 GB/s" in out and "slowdown" in out


def test_the_first_alone_is_as_without_company(capsys):
    line = ("ddr4_3200", "--pattern", "seq", "--outstanding", "8", "--requests", "1000", "--json")
    alone = json.loads(run(capsys, *line)[1])["points"][0]
    beside = json.loads(run(capsys, *line, "--with", "outstanding=1")[1])["requesters"][0]["alone"]
    assert beside == {name: alone[name] for name in beside}


def test_links_and_fixed_models_are_probed(capsys):
    code, out, _ = run(capsys, "ipu_link_gc200", "--outstanding", "1,8", "--requests", "500", "--json")
    points = json.loads(out)["points"]
    assert code == 0 and points[0]["energy_from"] == "profile"
    line = ("ddr4_3200", "--outstanding", "1", "--requests", "500", "--json")
    detailed, fixed = (json.loads(run(capsys, *line, *more)[1])["points"][0] for more in ((), ("--set", "model=fixed")))
    assert detailed["energy_from"] == "model" and fixed["energy_from"] == "profile"
    assert fixed["latency_ns"]["p999"] == pytest.approx(45.425, abs=0.001) != detailed["latency_ns"]["p999"]


def test_a_probe_is_interrupted_at_once(tmp_path, capsys):
    run(capsys, "ddr4_3200", "--outstanding", "4", "--requests", "100")  # compiles: that may swallow an interruption
    line = [sys.executable, str(ROOT / "run_sim.py"), "probe", "ddr4_3200", "--outstanding", "4"]
    process = subprocess.Popen(
        [*line, "--requests", "40000000"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.strip() == "interrupted"
