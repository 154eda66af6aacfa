"""Scenarios: what a file may say, every fault of one at once, overrides, and what becomes of the workload."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scenarios
from sim.errors import InputError, InputErrors
from sim.profile import load_profile
from sim.scenario import (
    check_scenario_file,
    load_scenario,
    load_workload,
    parse_choice,
    plans,
    scenario_names,
    with_eviction,
)
from sim.scenario_files import kind_of

GOOD = """
name: small
description: a test
system: epyc_genoa_x_cxl
overrides: {tiers.dram.count: 2}
workload:
  generator: zipf
  parameters: {requests: 500, objects: 50, size_bytes: 8 KiB, rate_per_s: 1000}
tiers:
  l3: {capacity: 20%}
  dram: {capacity: 400 KiB, eviction: {policy: s3fifo, small_ratio: 0.2}}
migration: {tier: dram, every: 1 ms}
monitor: {every: 100 us}
compare: [fifo, "s3fifo:small_ratio=0.3"]
seed: 7
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "small.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def lines_of(text_or_path, overrides=None) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_scenario(text_or_path, overrides)
    return caught.value.lines


def test_a_file_is_resolved_with_defaults(write):
    scenario = load_scenario(write(GOOD))
    assert list(scenario.tiers) == ["l3", "dram", "cxl"]
    assert scenario.tiers["cxl"].capacity is None
    assert scenario.tiers["cxl"].eviction.label == "lru"
    assert scenario.tiers["dram"].eviction.label == "s3fifo:small_ratio=0.2"
    assert scenario.tiers["dram"].offload.name == "write_back"
    assert (scenario.migration.every_ns, scenario.migration.high_watermark) == (1e6, 0.9)
    assert scenario.monitor_every_ns == 1e5
    assert scenario.compare == ("fifo", "s3fifo:small_ratio=0.3")
    assert scenario.seed == 7
    assert scenario.prefetch.name == "none"


def test_resolved_is_plain_and_holds_no_folder(write, tmp_path):
    resolved = load_scenario(write(GOOD)).resolved()
    assert resolved["tiers"]["dram"]["eviction"] == {"policy": "s3fifo", "small_ratio": 0.2}
    assert str(tmp_path) not in str(resolved)


def test_shipped_scenarios_are_good():
    assert {"postgres_pgbench", "mooncake_conversation", "zipf_three_tier"} <= set(scenario_names())
    folder = Path(scenarios.__path__[0])
    for name in scenario_names():
        if kind_of(name) == "hierarchy":  # others are in tests of their own
            assert check_scenario_file(folder / f"{name}.yaml") == []
            assert load_scenario(name).name == name


def test_every_fault_of_a_file_is_told_at_once(write):
    path = write(
        """
name: bad
description: 3
system: epyc_genoa_x_cxl
overides: {}
overrides: {tiers.dram.cout: 2}
workload: {trace: postgres_pgbnch, requests: -1, arrival_scale: 0}
tiers:
  dram: {capacity: 110%, eviction: "s3fifo:small_rato=0.2"}
  ssd: {capacity: 1 MiB}
  hbm: {eviction: lruu, allocator: {policy: pagd}}
migration: {tier: foo, every: 0 ms}
compare: [lru, sive]
seed: -1
""",
        "bad.yaml",
    )
    told = "\n".join(str(error) for error in check_scenario_file(path))
    for words in (
        "bad.yaml:3: description: not text: 3",
        "bad.yaml:5: unknown key 'overides'; did you mean 'overrides'?",
        "bad.yaml:6: overrides.tiers.dram.cout: unknown field to override 'tiers.dram.cout'; did you mean",
        "bad.yaml:7: workload.requests: not a count: -1",
        "bad.yaml:7: workload.arrival_scale: not a scale: 0",
        "bad.yaml:7: workload.trace: no such trace: 'postgres_pgbnch'; did you mean 'postgres_pgbench'?",
        "bad.yaml:9: tiers.dram.capacity: bad capacity '110%'; expected a share above 0%, at most 100%",
        "unknown parameter 'small_rato'; did you mean 'small_ratio'?",
        "tiers.hbm.eviction: unknown eviction policy 'lruu'; did you mean 'lru'?",
        "tiers.hbm.allocator: unknown allocator 'pagd'; did you mean 'paged'?",
        "migration.every: not above zero: '0 ms'",
        "compare: unknown eviction policy 'sive'; did you mean 'sieve'?",
        "bad.yaml:14: seed: not a count: -1",
    ):
        assert words in told


def test_tier_names_are_checked_against_the_system(write):
    text = GOOD.replace("  l3:", "  l4:").replace("tier: dram", "tier: ssd")
    told = "\n".join(lines_of(write(text)))
    assert "small.yaml:10: tiers.l4: unknown tier of system 'epyc_genoa_x_cxl': 'l4'; did you mean 'l3'?" in told
    assert "migration.tier: the last tier holds everything and has no settings: 'ssd'" in told


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("capacity: 20%", "inclusion: inclusive, offload: write_back"), "inclusion 'inclusive' contradicts offload"),
        (("capacity: 20%", "inclusion: exclusive, offload: none"), "expected offload 'exclusive'"),
        (("capacity: 20%", "inclusion: non_inclusive, offload: exclusive"), "contradicts offload 'exclusive'"),
        (("capacity: 20%", "inclusion: inclusiv"), "unknown inclusion 'inclusiv'; did you mean 'inclusive'?"),
        (("capacity: 20%", "capacity: 4096"), "bad capacity 4096"),
        (("capacity: 20%", "capacity: 0 B"), "bad capacity '0 B'"),
        (("capacity: 20%", "capacity: -1 B"), "a negative quantity '-1 B'"),
        (("capacity: 20%", "capacity: 4 KX"), "unknown unit 'KX'"),
        (("generator: zipf", "generator: zipf\n  trace: postgres_pgbench"), "both trace and generator"),
        (("generator: zipf", "generator: zpf"), "unknown trace generator 'zpf'; did you mean 'zipf'?"),
        (("objects: 50", "objets: 50"), "workload.parameters.objets: unknown option of generator zipf 'objets'"),
        (("objects: 50", "objects: 0"), "workload.parameters.objects: too small 0"),
        (("system: epyc", "system: epic"), "unknown system 'epic_genoa_x_cxl'; did you mean 'epyc_genoa_x_cxl'?"),
        (("every: 1 ms", "every: 1 ms, low_watermark: 0.95"), "low_watermark 0.95; expected at most high_watermark"),
        (("small_ratio: 0.2", "small_ratio: 2"), "small_ratio"),
        (("compare: [fifo,", "compare: [fifo, fifo,"), "a policy twice: 'fifo'"),
    ],
)
def test_one_fault(write, change, words):
    assert words in "\n".join(lines_of(write(GOOD.replace(*change))))


def test_inclusion_decides_how_blocks_come_down(write):
    text = GOOD.replace("dram: {capacity: 400 KiB,", "dram: {inclusion: inclusive,").replace(
        "l3: {capacity", "l3: {capacity"
    )
    scenario = load_scenario(write(text), {"tiers.cxl.offload": "exclusive"})
    assert scenario.tiers["dram"].offload.name == "write_through"
    assert scenario.tiers["cxl"].inclusion == "exclusive"


def test_a_shipped_name_and_an_unknown_one():
    with pytest.raises(InputError, match="unknown scenario 'postgres_pgbnch'; did you mean 'postgres_pgbench'"):
        load_scenario("postgres_pgbnch")
    with pytest.raises(InputError, match="no such file"):
        load_scenario("nowhere/there.yaml")


def test_overrides_are_read_as_the_file_would_be(write):
    scenario = load_scenario(
        write(GOOD),
        {
            "tiers.dram.capacity": "5%",
            "tiers.dram.eviction.small_ratio": "0.4",
            "tiers.l3.allocator.page_bytes": "8 KiB",
            "tiers.cxl.eviction": "sieve",
            "workload.requests": "100",
            "workload.parameters.objects": 60,
            "overrides.tiers.cxl.capacity": "64 GiB",
            "compare": "lru,sieve",
            "seed": 3,
        },
    )
    assert scenario.tiers["dram"].capacity == "5%"
    assert scenario.tiers["dram"].eviction.label == "s3fifo:small_ratio=0.4"
    assert scenario.tiers["l3"].allocator.parameters == {"page_bytes": 8192}
    assert scenario.tiers["cxl"].eviction.name == "sieve"
    assert scenario.workload.requests == 100
    assert scenario.workload.parameters["objects"] == 60
    assert load_profile(scenario.system, scenario.profile_overrides).tier("cxl").device.capacity_bytes == 64 << 30
    assert (scenario.compare, scenario.seed) == (("lru", "sieve"), 3)


def test_another_trace_replaces_the_generator_and_what_was_said_of_it(write):
    scenario = load_scenario(write(GOOD), {"workload.trace": "postgres_pgbench", "workload.requests": 10})
    assert scenario.workload.generator is None
    assert scenario.workload.parameters == {}
    assert load_workload(scenario).n_requests == 10


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("tiers.drm.eviction", "did you mean 'tiers.dram.eviction'?"),
        ("tiers.dram.evicton", "did you mean 'tiers.dram.eviction'?"),
        ("workload.request", "did you mean 'workload.requests'?"),
        ("zzz", "expected a path such as 'workload.requests'"),
        ("overrides.tiers.dram.cuont", "did you mean 'tiers.dram.count'?"),
        ("name", "unknown field to override"),
    ],
)
def test_an_unknown_override(write, key, words):
    assert words in "\n".join(lines_of(write(GOOD), {key: 1}))


def test_a_bad_override_is_named_as_it_was_said(write):
    assert lines_of(write(GOOD), {"tiers.dram.eviction": "lruu"})[0].startswith("tiers.dram.eviction: unknown eviction")


def test_parse_choice():
    choice = parse_choice("s3fifo:small_ratio=0.2:ghost_ratio=1")
    assert (choice.name, dict(choice.parameters)) == ("s3fifo", {"small_ratio": 0.2, "ghost_ratio": 1})
    assert choice.label == "s3fifo:small_ratio=0.2:ghost_ratio=1"
    assert parse_choice("paged:page_bytes=8 KiB").parameters == {"page_bytes": 8192}
    for bad in ("", ":a=1", "lru:", "lru:a", "lru:a=", "lru:a=1:a=2"):
        with pytest.raises(InputError):
            parse_choice(bad)


def test_with_eviction(write):
    scenario = load_scenario(write(GOOD))
    assert {tier.eviction.name for tier in with_eviction(scenario, "sieve").tiers.values()} == {"sieve"}
    one = with_eviction(scenario, parse_choice("sieve"), "cxl")
    assert [tier.eviction.name for tier in one.tiers.values()] == ["lru", "s3fifo", "sieve"]
    for policy, tier in (("siev", None), ("sieve", "ssd"), ("sieve:x=1", None)):
        with pytest.raises(InputError):
            with_eviction(scenario, policy, tier)


def test_the_workload_is_cut_and_scaled(write):
    text = GOOD.replace("  generator: zipf\n", "  trace: postgres_pgbench\n  requests: 1000\n  arrival_scale: 0.5\n")
    text = "\n".join(line for line in text.splitlines() if "parameters" not in line)
    trace = load_workload(load_scenario(write(text)))
    whole = load_workload(load_scenario(write(text), {"workload.requests": 2000, "workload.arrival_scale": 1.0}))
    assert trace.n_requests == 1000
    assert np.array_equal(trace.column("arrival_ns"), whole.column("arrival_ns")[:1000] * 0.5)
    assert np.array_equal(trace.address[trace.column("block")], whole.address[whole.column("block")[:1000]])


def test_next_access_is_there_where_a_policy_needs_it(write):
    scenario = load_scenario(write(GOOD))
    assert "next_access" not in load_workload(scenario).columns
    belady = with_eviction(scenario, "belady")
    assert "next_access" in load_workload(belady).columns
    assert "next_access" in load_workload(scenario, [belady]).columns


def test_the_seed_is_that_of_the_generator(write):
    path = write(GOOD)
    digests = [load_workload(load_scenario(path, seed=seed)).digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_clients_need_a_closed_loop(write):
    with pytest.raises(InputError, match="clients 3; expected a workload with think times"):
        load_workload(load_scenario(write(GOOD), {"workload.clients": 3}))


def test_calls_are_cut_with_their_rows(write, tmp_path):
    requests = '{"timestamp": 0, "input_length": 1024, "output_length": 5, "hash_ids": [1, 2], "session_id": 7}\n' * 3
    (tmp_path / "calls.jsonl").write_text(requests)
    text = GOOD.replace("  generator: zipf\n", "  trace: calls.jsonl\n  reader: mooncake\n  requests: 3\n")
    text = "\n".join(line for line in text.splitlines() if "parameters" not in line)
    trace = load_workload(load_scenario(write(text)))
    assert trace.calls.first_row.tolist() == [0, 2, 3]
    assert trace.calls.input_tokens.tolist() == [1024, 1024]
    assert trace.calls.program.tolist() == [0, 0] and trace.calls.priority is None


def made_plans(path, overrides=None):
    scenario = load_scenario(path, overrides)
    return plans(scenario, load_profile(scenario.system, scenario.profile_overrides), load_workload(scenario))


def test_plans_have_capacities_in_bytes_and_pages_of_the_blocks_size(write):
    l3, dram, cxl = made_plans(write(GOOD), {"tiers.cxl.allocator": "paged:page_bytes=4096"})
    assert l3.capacity_bytes == 50 * 8192 // 5
    assert dram.capacity_bytes == 400 << 10
    assert cxl.capacity_bytes == load_profile("epyc_genoa_x_cxl").tier("cxl").device.capacity_bytes
    assert l3.allocator.parameters == {"page_bytes": 8192}
    assert cxl.allocator.parameters == {"page_bytes": 4096}


@pytest.mark.parametrize(("capacity", "words"), [("8191 B", "at least 8192 bytes"), ("1 TiB", "at most the device's")])
def test_capacities_that_do_not_fit(write, capacity, words):
    with pytest.raises(InputError, match=words) as caught:
        made_plans(write(GOOD), {"tiers.l3.capacity": capacity})
    assert "tiers.l3.capacity" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(["", "tiers", "workload", "system", "overrides", "migration", "monitor", "compare", "tiers.dram"]),
)
def test_whatever_stands_in_a_file_only_an_input_error_comes_out(tmp_path_factory, value, where):
    import json

    path = tmp_path_factory.mktemp("fuzz") / "fuzz.yaml"
    data = {"name": "fuzz", "description": "x", "system": "gh200", "workload": {"generator": "zipf"}}
    keys = where.split(".") if where else []
    if keys:
        node = data
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = value
    path.write_text(json.dumps(data if keys else value))
    for error in check_scenario_file(path):
        assert isinstance(error, InputError) and "\n" not in str(error)


def test_importing_scenarios_is_cheap():
    heavy = ("numba", "pandas", "pyarrow", "matplotlib")
    code = f"import sys, sim.scenario, sim.metrics; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_several_faults_are_one_exception(write):
    with pytest.raises(InputErrors):
        load_scenario(write(GOOD.replace("seed: 7", "seed: -7\nfoo: 1")))
