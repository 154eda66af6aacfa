"""check_device: every device model keeps the rules of the seam, and a model that breaks one is told which."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numba
import numpy as np
import pytest

from sim import profile, registry
from sim.devices.fixed import MODEL as FIXED
from sim.profile import load_device
from sim.testing import CheckFailed, check_device
from tests.third_party.memhier_example_device import nearest_first

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "tests" / "third_party" / "memhier_example_device"
SMALL_DRIVE = {"blocks_per_plane": 24, "pages_per_block": 8, "over_provisioning": 0.5}
pytestmark = pytest.mark.uncompiled


@cache
def devices_of(model: str) -> list[str]:
    """The first and the last shipped device of a model, which differ more than two neighbours do."""
    names = [name for name in profile.device_names() if load_device(name).model == model]
    return [names[0], names[-1]] if len(names) > 1 else names


def parameters_of(model, device):
    """Of a shipped device; of a drive, with few blocks, so that it is made quickly."""
    if getattr(model, "of_device", None) is None:
        return device
    return model.of_device(device, SMALL_DRIVE if "flash_set" in device.parameters else {})


CASES = [(model, device) for model in registry.names(registry.DEVICE_MODEL) for device in devices_of(model)]
CASES += [("dram", "lpddr5_6400"), ("fixed", "pcie5_x16")]


def test_every_model_is_of_a_shipped_device():
    assert {model for model, _ in CASES} == set(registry.names(registry.DEVICE_MODEL))


@pytest.mark.parametrize(("name", "device"), CASES)
def test_built_in_models_keep_the_rules(name, device):
    model = registry.load(registry.DEVICE_MODEL, name)
    report = check_device(model, parameters_of(model, load_device(device)))
    assert report.name == name
    assert numba.config.DISABLE_JIT or "compiled as in Python" in report.checks


# --- what breaks a rule ----------------------------------------------------------------------------------------------


DISK = nearest_first.Disk(capacity_bytes=1 << 30, queue=6)
MODEL, COUNT, SERVED, NONE = nearest_first.MODEL, nearest_first.COUNT, nearest_first.SERVED, nearest_first.NONE
advance, submit, next_event = nearest_first.advance, nearest_first.submit, nearest_first.next_event
ELSEWHERE = np.zeros(1, np.int64)


def tells_twice(state, until_ns):
    done = advance(state, until_ns)
    if done:
        state.done_ticket[done], state.done_ns[done] = state.done_ticket[0], state.done_ns[0]
        done += 1
    return done


def tells_early(state, until_ns):
    done = advance(state, until_ns)
    state.done_ns[:done] -= 3e6
    return done


def tells_late(state, until_ns):
    return advance(state, until_ns - 1.0)


def tells_all_at_the_end(state, until_ns):
    done = advance(state, until_ns)
    state.done_ns[:done] = until_ns
    return done


def forgets_the_last(state, until_ns):
    done = advance(state, until_ns)
    return done - 1 if done and state.shared[COUNT] == 0 else done


def gives_half(state, until_ns):
    return 0.5


def sleeps_too_long(state):
    return next_event(state) + 10.0


def looks_back(state):
    return 0.0


def never_wakes(state):
    return np.inf


def refuses_all(state, ticket, arrival_ns, address, size_bytes, is_write):
    return False


def says_maybe(state, ticket, arrival_ns, address, size_bytes, is_write):
    submit(state, ticket, arrival_ns, address, size_bytes, is_write)
    return 2


def counts_what_it_refuses(state, ticket, arrival_ns, address, size_bytes, is_write):
    state.counts[0] += 1
    return submit(state, ticket, arrival_ns, address, size_bytes, is_write)


def moves_the_arm_when_it_refuses(state, ticket, arrival_ns, address, size_bytes, is_write):
    taken = submit(state, ticket, arrival_ns, address, size_bytes, is_write)
    if not taken:
        state.shared[nearest_first.ARM] = 0
    return taken


def remembers_elsewhere(state, ticket, arrival_ns, address, size_bytes, is_write):
    ELSEWHERE[0] += 1
    return submit(state, ticket, arrival_ns, address + ELSEWHERE[0] * 4096, size_bytes, is_write)


def drifts(state, until_ns):
    """The arm moves a bit each time that somebody looks."""
    state.shared[nearest_first.ARM] += 4096
    return advance(state, until_ns)


def makes_an_array(state):
    return {"at": state.end_ns[0]}["at"]  # a dictionary is Python's


SHARED = np.zeros(2, np.int64)


def shares_its_counts(disk):
    return nearest_first.init(disk)._replace(counts=SHARED)


def counts_too_few(disk):
    return nearest_first.init(disk)._replace(counts=np.zeros(1, np.int64))


def raises(disk):
    raise IndexError("no arm")


def energy_below_zero(disk, counts, elapsed_ns):
    return {"arm": -1.0}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"advance": tells_twice}, "ticket 0 is done twice"),
        ({"advance": tells_early}, r"ticket 0 is done at .* ns, before it came at 0.0 ns"),
        ({"advance": tells_late}, "done_ns|events, and no further request is done"),
        ({"advance": tells_all_at_the_end}, "is done at .* when advanced from event to event, in one step at"),
        ({"advance": forgets_the_last}, "next_event is infinite though 1 of 1 requests are not done"),
        ({"advance": gives_half}, "advance returned 0.5; expected how many requests were done"),
        ({"advance": drifts}, "is done at .* when advanced from event to event, in"),
        (
            {"next_event": sleeps_too_long},
            r"0 is done at 1016384.0 ns; next_event had told 1016394.0 ns \(a lone read\)",
        ),
        ({"next_event": looks_back}, "next_event goes back in time|next_event is 0.0 ns where no request is under way"),
        ({"next_event": never_wakes}, "next_event is infinite though 1 of 1 requests are not done"),
        ({"submit": refuses_all}, "submit refuses a request of 4096 bytes though none is under way"),
        ({"submit": says_maybe}, "submit returned 2, which is neither True nor False"),
        ({"submit": counts_what_it_refuses}, "a submit that returns False must change nothing, but counts changed"),
        (
            {"submit": moves_the_arm_when_it_refuses},
            "when it is advanced in other steps|when advanced from event to event",
        ),
        ({"submit": remembers_elsewhere}, "everything that it remembers must be in the state"),
        ({"init": shares_its_counts}, "init gives the same array 'counts' each time"),
        ({"init": counts_too_few}, "counts has 1 places, count_names 2 names"),
        ({"init": raises}, "init raised IndexError: no arm"),
        ({"energy_pj": energy_below_zero}, "energy_pj says -1.0 of 'arm'"),
    ],
    ids=lambda value: next(iter(value.values())).__name__ if isinstance(value, dict) else "",
)
def test_each_broken_rule_is_told(changed, told, monkeypatch):
    monkeypatch.setattr("sim.device_testing._check_compiled", lambda *_: None)  # which comes last, and is tested below
    with pytest.raises(CheckFailed, match=told) as caught:
        check_device(replace(MODEL, name="mine", **changed), DISK)
    assert str(caught.value).startswith("event_model 'mine' breaks")


def late_start(state, row, head_ns, size_bytes, is_write):
    return head_ns - 1.0, head_ns, head_ns + 2.0, 1.0


@pytest.mark.parametrize(
    ("model", "device", "told"),
    [
        (replace(FIXED, name="mine", serve=late_start), load_device("ddr4_3200"), "times out of order: start -1.0"),
        (FIXED, DISK, "is checked with a sim.profile.Device, not a Disk"),
        ("fixed", DISK, "it is a str, not a sim.EventModel or sim.DeviceModel"),
        (MODEL, replace(DISK, transaction_bytes=0), "transaction_bytes of the parameters is 0"),
    ],
    ids=["serve", "parameters", "no model", "transaction"],
)
def test_what_else_is_wrong_is_told(model, device, told):
    with pytest.raises(CheckFailed, match=told):
        check_device(model, device)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_a_hook_that_does_not_compile_is_told_in_a_line():
    with pytest.raises(CheckFailed, match=r"hook next_event does not compile: .*") as caught:
        check_device(replace(MODEL, name="mine", next_event=makes_an_array), DISK)
    assert len(caught.value.failures) == 1 and "\n" not in caught.value.failures[0]


# --- another package's -----------------------------------------------------------------------------------------------


def test_the_page_s_model_is_the_example_s():
    page = (ROOT / "docs" / "writing-a-device-model.md").read_text(encoding="utf-8")
    assert f"```python\n# nearest_first.py\n{(EXAMPLE / 'nearest_first.py').read_text()}```" in page
    assert f"```toml\n# pyproject.toml\n{(EXAMPLE / 'pyproject.toml').read_text()}```" in page


def test_the_example_serves_the_nearest_first():
    state = nearest_first.init(DISK)
    for ticket, address in enumerate((1 << 20, 1 << 29, 1 << 21, 1 << 28)):
        assert submit(state, ticket, 0.0, address, 4096, False)
    assert advance(state, 1e9) == 4
    assert state.done_ticket[:4].tolist() == [0, 2, 3, 1]
    assert state.done_ns[0] == pytest.approx(1e6 + 2**20 / 2**30 * 1e4 + 4096 / 0.25)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="one process more, which compiles nothing of its own")
def test_an_installed_package_adds_a_device_model(tmp_path):
    source, target = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(EXAMPLE, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    path = f"{target}{os.pathsep}{ROOT}"
    environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "numba")}

    def command(*arguments):
        line = [sys.executable, str(ROOT / "run_sim.py"), *arguments]
        return subprocess.run(line, cwd=source, env=environment, capture_output=True, text=True, check=False)

    load = ("--outstanding", "8", "--requests", "300", "--warmup", "50", "--json")
    done = command("probe", "./disk.yaml", *load)
    assert done.returncode == 0, done.stderr
    point = json.loads(done.stdout)["points"][0]
    assert point["counts"]["requests"] >= 300 and point["energy_from"] == "profile"
    slower = command("probe", "./disk.yaml", *load, "--set", "queue=1")
    assert json.loads(slower.stdout)["points"][0]["bandwidth_GBps"] < point["bandwidth_GBps"]
    refused = command("probe", "./disk.yaml", *load, "--set", "arms=2")
    assert refused.returncode == 2 and "unknown parameter of a disk 'arms'" in refused.stderr
