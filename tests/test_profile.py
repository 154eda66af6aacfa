"""Reading profiles: the contract of the fixed model, overrides, and one clear error for each thing wrong."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.profile import check_file, load_device, load_profile


def sourced(value):
    return {"value": value, "source": "a test"}


def memory(name="mem", **changes):
    return {
        "name": name,
        "kind": "dram",
        "description": "a memory",
        "capacity": sourced("1 GiB"),
        "channels": sourced(4),
        "interleave": sourced("1 KiB"),
        "read": {"latency": sourced("100 ns"), "bandwidth": sourced("4 GB/s"), "occupancy": sourced("10 ns")},
        "write": {"latency": sourced("200 ns"), "bandwidth": sourced("2 GB/s")},
        "energy": {"read": sourced("1 pJ/bit"), "write": sourced("2 pJ/bit"), "static": sourced("3 W")},
        "cost": {"rate": sourced("0.5 $/GiB/h")},
        "geometry": {"page": sourced("8 KiB"), "cell": sourced("MLC"), "dies": sourced(2)},
        "timing": {"tR": sourced("75 us"), "nCL": sourced(22)},
    } | changes


def link(name="wire", up="2 GB/s", down="1 GB/s"):
    return {
        "name": name,
        "kind": "pcie",
        "description": "a link",
        "up": {"latency": sourced("50 ns"), "bandwidth": sourced(up)},
        "down": {"latency": sourced("70 ns"), "bandwidth": sourced(down)},
        "energy": {"transfer": sourced("5 pJ/bit"), "static": sourced("1 W")},
        "cost": {"hourly": sourced("0.01 $/h")},
    }


def system(**changes):
    return {
        "name": "box",
        "description": "a system",
        "compute": [{"name": "cpu", "kind": "cpu"}],
        "links": {"near": {"device": "./wire.yaml"}, "far": {"device": "./wire.yaml"}},
        "tiers": [
            {"name": "fast", "device": "./mem.yaml"},
            {"name": "slow", "device": "./mem.yaml", "path": ["far", "near"], "count": 2},
        ],
    } | changes


@pytest.fixture
def folder(tmp_path):
    for part in (memory(), link()):
        (tmp_path / f"{part['name']}.yaml").write_text(yaml.safe_dump(part))
    return tmp_path


@pytest.fixture
def write(folder):
    def written(data, name="box.yaml"):
        file = folder / name
        file.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False))
        return file

    return written


def faults(file):
    return [line for error in check_file(file) for line in error.lines]


def the_fault(file):
    lines = faults(file)
    assert len(lines) == 1, lines
    return lines[0]


# --- what a profile means --------------------------------------------------------------------------------------------


def test_a_device_becomes_plain_numbers(folder):
    device = load_device(folder / "mem.yaml")
    assert device.capacity_bytes == 2**30
    assert (device.read.latency_ns, device.read.bandwidth_bytes_per_ns, device.read.occupancy_ns) == (100, 4, 10)
    assert device.write.occupancy_ns == 0
    assert (device.read_pj_per_bit, device.write_pj_per_bit, device.static_w) == (1, 2, 3)
    assert (device.usd_per_gib_hour, device.usd_per_hour) == (0.5, 0.5)
    assert device.timing == {"tR": 75_000.0, "nCL": 22}
    assert device.geometry == {"page": 8192, "cell": "MLC", "dies": 2}
    assert device.sources["read.occupancy"] == device.sources["geometry.dies"] == "a test"


def test_a_parameter_may_tell_its_source(write):
    def loaded(**parameters):
        return write(memory("part", parameters=parameters), "part.yaml")

    device = load_device(loaded(queue={"value": 64, "source": "a test"}, hashed=True))
    assert device.parameters == {"queue": 64, "hashed": True}
    assert device.sources["parameters.queue"] == "a test"
    assert "parameters.hashed" not in device.sources
    wrong = ({"value": 64}, {"value": 64, "source": ""}, {"value": {"value": 1, "source": "a"}, "source": "b"}, [64])
    for parameter in wrong:
        assert "queue" in the_fault(loaded(queue=parameter))


def test_a_links_up_is_read_and_down_is_write(folder):
    device = load_device(folder / "wire.yaml")
    assert device.is_link
    assert (device.read.bandwidth_bytes_per_ns, device.write.bandwidth_bytes_per_ns) == (2, 1)
    assert (device.capacity_bytes, device.channels, device.usd_per_gib_hour) == (None, 1, None)
    assert device.usd_per_hour == 0.01


def test_count_multiplies_all_but_latency(write):
    tiers = load_profile(write(system())).tiers
    one, two = tiers[0].device, tiers[1].device
    assert (two.capacity_bytes, two.channels) == (2 * one.capacity_bytes, 2 * one.channels)
    assert two.read.bandwidth_bytes_per_ns == 2 * one.read.bandwidth_bytes_per_ns
    assert (two.static_w, two.usd_per_hour) == (2 * one.static_w, 2 * one.usd_per_hour)
    assert two.read.latency_ns == one.read.latency_ns


def test_endurance_is_what_may_be_written_to_all_parts_of_a_tier(write):
    tiers = [
        {"name": name, "device": "./mem.yaml", "count": count, "override": {"endurance": sourced("7 TB")}}
        for name, count in (("fast", 1), ("slow", 3))
    ]
    devices = [tier.device for tier in load_profile(write(system(tiers=tiers))).tiers]
    assert [device.endurance_bytes for device in devices] == [7e12, 21e12]
    assert [device.each.endurance_bytes for device in devices] == [7e12, 7e12]
    assert load_profile(write(system())).tiers[0].device.endurance_bytes is None


def test_latencies_add_up_and_the_least_bandwidth_rules(write):
    profile = load_profile(write(system()))
    # 8 KiB reach all 8 channels of two parts: 8 B/ns, but the links bring 2 up and take 1 down.
    assert profile.unloaded_ns("slow", 8192) == 100 + 10 + 50 + 50 + 8192 / 2
    assert profile.unloaded_ns("slow", 8192, write=True) == 200 + 70 + 70 + 8192 / 1
    assert (profile.path_bandwidth("slow"), profile.path_bandwidth("slow", write=True)) == (2, 1)
    # 1 KiB reaches one channel of four, which has a quarter of 4 B/ns.
    assert profile.unloaded_ns("fast", 1024) == 100 + 10 + 1024 / 1
    assert profile.unloaded_ns("fast", 0) == 110
    with pytest.raises(InputError, match="did you mean 'fast'"):
        profile.unloaded_ns("fasst", 1)


def test_a_profile_is_frozen_and_can_be_sent_to_a_worker(write):
    profile = load_profile(write(system()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.name = "other"
    assert pickle.loads(pickle.dumps(profile)) == profile
    assert hash(profile) == hash(load_profile(write(system())))


def test_the_digest_follows_numbers_and_not_words(write):
    digest = load_profile(write(system())).digest
    assert load_profile(write(system(description="other words"))).digest == digest
    slower = system(links=system()["links"] | {"far": {"device": "./wire.yaml", "count": 2}})
    assert load_profile(write(slower)).digest != digest


def test_an_override_replaces_a_value_and_its_source(write):
    data = system()
    data["tiers"][0]["override"] = {"capacity": sourced("2 GiB"), "read": {"latency": sourced("1 us")}}
    device = load_profile(write(data)).tiers[0].device
    assert (device.capacity_bytes, device.read.latency_ns, device.read.occupancy_ns) == (2**31, 1000, 10)


def test_dotted_overrides(write):
    file = write(system())
    changed = load_profile(
        file,
        {
            "tiers.fast.capacity": "64 MiB",
            "tiers.fast.count": 2,
            "links.near.up.latency": "1 us",
            "tiers.slow.path": ["near"],
            "tiers.slow.timing.nCL": 24,
            "compute.cpu.count": 3,
        },
    )
    assert changed.tiers[0].device.capacity_bytes == 2**27
    assert changed.tiers[0].device.sources["capacity"] == "override"
    assert changed.links["near"].read.latency_ns == 1000
    assert changed.links["far"].read.latency_ns == 50
    assert changed.tiers[1].path == ("near",)
    assert changed.tiers[1].device.timing["nCL"] == 24
    assert changed.compute[0].count == 3
    assert changed.digest != load_profile(file).digest


@pytest.mark.parametrize(
    ("dotted", "value", "said"),
    [
        ("tiers.fast.capcity", "1 GiB", "did you mean 'tiers.fast.capacity'?"),
        ("tiers.fats.capacity", "1 GiB", "did you mean 'tiers.fast.capacity'?"),
        ("nonsense", 1, "unknown field to override 'nonsense'"),
        (3, 1, "unknown field to override 3"),
        ("tiers.fast.capacity", "1 Gib", "tiers.fast.capacity: unknown unit 'Gib'"),
        ("tiers.fast.capacity", 64, "tiers.fast.capacity: a bare number 64"),
        ("tiers.fast.count", 0, "tiers.fast.count: not a count: 0"),
        ("tiers.fast.device", "ddr4_320", "did you mean 'ddr4_3200'?"),
        ("tiers.fast.model", "fixd", "did you mean 'fixed'?"),
        ("links.near.device", "ddr4_3200", "expected a link device"),
        ("tiers.slow.path", ["nowhere"], "unknown link 'nowhere'"),
        ("tiers.slow.path", 7, "expected a list"),
    ],
)
def test_a_wrong_dotted_override_is_named_as_it_was_given(write, dotted, value, said):
    with pytest.raises(InputError) as caught:
        load_profile(write(system()), {dotted: value})
    assert said in str(caught.value)


# --- what can be wrong -----------------------------------------------------------------------------------------------


def without(data, key):
    return {k: v for k, v in data.items() if k != key}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (memory(capcity=1), "unknown key 'capcity'; did you mean 'capacity'?"),
        (memory(capacity=sourced("1 Gib")), "capacity.value: unknown unit 'Gib' in '1 Gib'"),
        (memory(capacity=sourced(80)), "capacity.value: a bare number 80; expected a size such as '80 GiB'"),
        (memory(capacity=sourced("-1 GiB")), "a negative quantity '-1 GiB'"),
        (memory(capacity=sourced("0 B")), "capacity.value: not above zero: 0"),
        (memory(capacity="1 GiB"), "wrong shape '1 GiB'; expected a mapping with the keys value, source"),
        (memory(capacity={"value": "1 GiB"}), "capacity: missing key 'source'"),
        (memory(capacity={"value": "1 GiB", "source": " "}), "capacity.source: no source"),
        (memory(channels=sourced(0)), "channels.value: not a count: 0"),
        (memory(channels=sourced(True)), "channels.value: not a count: True"),
        (memory(kind="drum"), "kind: unknown kind 'drum'; did you mean 'dram'?"),
        (memory(model="fixd"), "model: unknown timing model 'fixd'; did you mean 'fixed'?"),
        (memory(name="other"), "name: name 'other'; expected the file's own, 'mem'"),
        (memory(timing={"tR": sourced("75 uss")}), "timing.tR.value: unknown unit 'uss'"),
        (memory(timing={"tR": sourced(float("nan"))}), "timing.tR.value: not a detail"),
        (without(memory(), "capacity"), "missing key 'capacity'"),
        (without(memory(), "interleave"), "missing key 'interleave'"),
        (without(link("mem"), "up"), "missing key 'up'"),
    ],
)
def test_what_is_wrong_with_a_device_is_one_line(write, data, said):
    file = write(data, "mem.yaml")
    line = the_fault(file)
    assert said in line
    assert line.startswith(str(file))


def test_everything_wrong_is_said_at_once(write):
    broken = memory(capacity=sourced("1 Gib"), channels=sourced(0), kinds="dram")
    del broken["read"]["latency"]
    lines = faults(write(broken, "mem.yaml"))
    assert len(lines) == 4
    with pytest.raises(InputError) as caught:
        load_device(write(broken, "mem.yaml"))
    assert sorted(caught.value.lines) == sorted(lines)


def tiers(*changes):
    return system(tiers=[{"name": f"t{i}", "device": "./mem.yaml"} | change for i, change in enumerate(changes)])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (system(tiers=[]), "tiers: empty list; expected at least one entry"),
        (without(system(), "tiers"), "missing key 'tiers'"),
        (system(tiers=5), "tiers: wrong shape 5; expected a list"),
        (system(compute=[]), "compute: empty list"),
        (tiers({"devise": 1}), "tiers.0: unknown key 'devise'; did you mean 'device'?"),
        (tiers({"device": "ddr4_320"}), "tiers.0.device: unknown device 'ddr4_320'; did you mean 'ddr4_3200'?"),
        (tiers({"device": "./nowhere.yaml"}), "tiers.0.device: no such file"),
        (tiers({"device": "./wire.yaml"}), "device of kind 'pcie' './wire.yaml'; expected a memory device"),
        (tiers({"name": "x"}, {"name": "x"}), "tiers.1.name: a second entry of tiers named 'x'"),
        (tiers({"path": ["nere"]}), "tiers.0.path.0: unknown link 'nere'; did you mean 'near'?"),
        (tiers({"path": ["near", "near"]}), "a path that meets itself at link 'near'"),
        (
            tiers({"path": ["far", "near"]}, {"path": ["far"]}),
            "tiers.1.path.0: link 'far' leads to the compute unit here and to 'near' elsewhere",
        ),
        (tiers({"count": 0}), "tiers.0.count: not a count: 0"),
        (tiers({"count": 2**20, "override": {"capacity": sourced("1 EiB")}}), "less than 8 EiB"),
        (tiers({"override": {"capcity": 1}}), "tiers.0.override: unknown key 'capcity'"),
        (tiers({"override": {"kind": "ssd"}}), "tiers.0.override.kind: 'kind' cannot be overridden"),
        (tiers({"override": {"capacity": {"value": "1 GiB"}}}), "tiers.0.override.capacity: missing key 'source'"),
        (tiers({"override": {"read": {"latency": sourced("1 sec")}}}), "tiers.0.override.read.latency.value: unknown"),
        (tiers({"override": 3}), "tiers.0.override: wrong shape 3; expected a mapping"),
        (tiers({"name": "a.b"}), "tiers.0.name: not a name: 'a.b'"),
        (system(links={"a b": {"device": "./wire.yaml"}}, tiers=tiers({})["tiers"]), "not a name: 'a b'"),
    ],
)
def test_what_is_wrong_with_a_system_is_one_line(write, data, said):
    file = write(data)
    line = the_fault(file)
    assert said in line
    assert line.startswith(str(file))


def test_a_fault_says_its_line(write):
    file = write("name: box\ndescription: d\ncompute: [{name: c, kind: c}]\ntiers:\n  - name: t\n    devise: x\n")
    lines = faults(file)
    assert any(line.startswith(f"{file}:6: tiers.0: unknown key 'devise'") for line in lines)
    assert any(line.startswith(f"{file}:5: tiers.0: missing key 'device'") for line in lines)


def test_what_the_schema_cannot_say_is_said_beside_what_it_can(write):
    data = system(descripton="x")
    data["tiers"][0]["device"] = "ddr4_320"
    data["tiers"][1]["path"] = ["far", "nere"]
    text = "\n".join(faults(write(data)))
    assert all(said in text for said in ("'description'?", "'ddr4_3200'?", "'near'?"))


def test_a_broken_device_file_is_told_where_it_is(write):
    device = write(memory(channels=sourced(0)), "mem.yaml")
    assert the_fault(write(system())).startswith(f"{device}:")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2", "not YAML"),
        ("a: 1\n b: 2", ":2: not YAML"),
        ("a: 1\na: 2", ":2: key 'a' twice"),
        ("- 1", "wrong shape [1]; expected a mapping"),
        ("just words", "expected a mapping"),
        ("", "expected a mapping"),
        ("a: &x 1\nb: *x", ":1: an anchor or alias"),
        ("a: !!python/object/apply:os.system [ls]", "a tag"),
        ("? [1]\n: 2", "a key that is not a word"),
        ("a: 1\n---\nb: 2", "a second document"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: \x07", "not YAML"),
        ("x: " + "y" * 2**21, "too large; expected at most 1 MiB"),
    ],
)
def test_what_is_not_a_plain_mapping_is_one_line(write, text, said):
    assert said in the_fault(write(text))


def test_a_billion_laughs_ends_at_the_first_anchor(write):
    rows = ["l0: &l0 [lol, lol]"] + [f"l{i}: &l{i} [*l{i - 1}, *l{i - 1}]" for i in range(1, 60)]
    assert "an anchor or alias" in the_fault(write("\n".join(rows)))


def test_files_that_cannot_be_read(folder):
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    assert "is not UTF-8" in the_fault(folder / "binary.yaml")
    assert "no such file" in the_fault(folder / "nowhere.yaml")
    assert "not a file" in the_fault(folder)
    assert "cannot be read" in the_fault(folder / ("x" * 5000))
    assert faults(folder / "nul\0.yaml")


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown system 'gh20'; did you mean 'gh200'"):
        load_profile("gh20")
    with pytest.raises(InputError, match="unknown device 'ddr4_320'; did you mean 'ddr4_3200'"):
        load_device("ddr4_320")


def test_importing_stays_light():
    code = "import sim.profile, sys; print(sorted({'numpy', 'numba', 'pandas', 'simpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- whatever is thrown at it ----------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ODD_WORDS = st.sampled_from(["1 GiB", "-1 ns", "5", "ddr4_3200", "./mem.yaml", "far", "t", "near", "nan", "pcie", ""])
VALUES = st.recursive(
    SCALARS | ODD_WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | ODD_WORDS, inner, max_size=3),
    max_leaves=6,
)
NO_FIXTURE_CHECK = settings(
    max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def places(data, at=()):
    yield at
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, child in children:
        yield from places(child, (*at, key))


def mutated(draw, data):
    data = copy.deepcopy(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(list(places(data))[1:] or [()]))
        if not at:
            return draw(VALUES)
        parent = data
        for key in at[:-1]:
            parent = parent[key]
        action = draw(st.sampled_from(["replace", "delete", "rename"]))
        if action == "replace":
            parent[at[-1]] = draw(VALUES)
        elif action == "rename" and isinstance(parent, dict):
            parent[draw(st.text(max_size=6) | ODD_WORDS)] = parent.pop(at[-1])
        else:
            del parent[at[-1]]
    return data


def assert_only_input_errors(file):
    errors = check_file(file)
    assert all(isinstance(error, InputError) for error in errors)
    assert all("\n" not in line for error in errors for line in error.lines)


@NO_FIXTURE_CHECK
@given(text=st.text() | st.text(alphabet="ab:-[]{}&*!?|>'\"#%, \n\t0"))
def test_arbitrary_text_gives_nothing_but_input_errors(folder, text):
    (folder / "fuzz.yaml").write_text(text, encoding="utf-8", errors="ignore")
    assert_only_input_errors(folder / "fuzz.yaml")


@NO_FIXTURE_CHECK
@given(data=st.data(), which=st.sampled_from(["mem", "wire", "box"]))
def test_a_mutated_profile_gives_nothing_but_input_errors(folder, data, which):
    whole = {"mem": memory(name="fuzz"), "wire": link(name="fuzz"), "box": system()}[which]
    if which == "box":
        whole["tiers"][0]["override"] = {"capacity": sourced("2 GiB")}
    broken = mutated(data.draw, whole)
    (folder / "fuzz.yaml").write_text(yaml.safe_dump(broken, sort_keys=False), encoding="utf-8")
    assert_only_input_errors(folder / "fuzz.yaml")


@NO_FIXTURE_CHECK
@given(
    dotted=st.text(max_size=12)
    | st.sampled_from(["tiers.fast.capacity", "tiers.fast.device", "tiers.slow.path", "links.near.count"])
    | st.sampled_from(["tiers.fast.read.latency", "tiers.fast.geometry.page", "compute.cpu.flops", "links.far.device"]),
    value=VALUES,
)
def test_any_dotted_override_gives_a_profile_or_an_input_error(folder, dotted, value):
    (folder / "box.yaml").write_text(yaml.safe_dump(system()))
    try:
        load_profile(folder / "box.yaml", {dotted: value})
    except InputError as error:
        assert all("\n" not in line for line in error.lines)


DETAILED_PART = """
name: one
description: one tier
{fidelity}
compute: [{{name: gpu, kind: gpu}}]
tiers: [{{name: dram, device: ddr4_3200{override}}}]
"""


@pytest.mark.parametrize(
    ("fidelity", "override", "model"),
    [
        ("", "", "fixed"),
        ("fidelity: fixed", "", "fixed"),
        ("fidelity: fixed", ", override: {model: dram}", "dram"),
        ("fidelity: detailed", "", "dram"),
        ("fidelity: detailed", ", override: {model: fixed}", "fixed"),
    ],
)
def test_fidelity_says_which_model_times_a_part(tmp_path, fidelity, override, model):
    file = tmp_path / "one.yaml"
    file.write_text(DETAILED_PART.format(fidelity=fidelity, override=override))
    assert load_profile(file).tier("dram").device.model == model
    assert load_device("ddr4_3200").model == "dram"  # alone it is what its file says
    flipped = load_profile(file, {"fidelity": "detailed", "tiers.dram.model": "fixed"})
    assert flipped.tier("dram").device.model == "fixed"


def test_unknown_fidelity(tmp_path):
    file = tmp_path / "one.yaml"
    file.write_text(DETAILED_PART.format(fidelity="fidelity: exact", override=""))
    with pytest.raises(InputError, match=r"unknown fidelity 'exact'"):
        load_profile(file)
