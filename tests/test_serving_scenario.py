"""Serving scenarios: what a file may say, every fault of one at once, what contradicts what, overrides, commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import registry
from sim.choice import Choice
from sim.cli import main
from sim.cost.calibration import gpu_names, load_gpu
from sim.errors import InputError
from sim.llm import operators
from sim.llm.models import load_model
from sim.profile import load_profile, system_names
from sim.scenario import load_scenario
from sim.serving.building import activation_bytes
from sim.serving.option_values import OPTIONS
from sim.serving.options import KvTier, ServingOptions
from sim.serving.scenario import check_serving_file, load_calls, load_serving_scenario, with_eviction

GOOD = """
name: small
description: a test
system: dgx_h100_cxl_ssd
workload: {trace: calls.jsonl, reader: mooncake, requests: 3, arrival_scale: 0.5}
serving:
  model: llama31_8b
  kernels: a100_sxm_80g
  options: {max_num_seqs: 128, scheduling: fcfs}
  tiers:
    hbm: {eviction: lru}
    dram: {capacity: 256 GiB, offload: write_back, eviction: {policy: s3fifo, small_ratio: 0.2}, evict_trigger: 0.8}
  cluster: {replicas: 4, router: prefix_aware, prefill: 1, link: pcie, shared: [dram]}
  slo: {ttft: 2 s, tpot: 50 ms}
monitor: {every: 1 s}
compare: [lru, sieve]
seed: 7
"""
ALONE = GOOD.replace(
    "cluster: {replicas: 4, router: prefix_aware, prefill: 1, link: pcie, shared: [dram]}", "cluster: {}"
)
CALLS = [{"timestamp": 10 * i, "input_length": 700, "output_length": 5, "hash_ids": [0, i]} for i in range(6)]


@pytest.fixture
def write(tmp_path):
    (tmp_path / "calls.jsonl").write_text("\n".join(map(json.dumps, CALLS)) + "\n", encoding="utf-8")

    def write(text: str, name: str = "small.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def lines_of(path, overrides=None) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_serving_scenario(path, overrides)
    return caught.value.lines


def line_of(path, overrides=None) -> str:
    lines = lines_of(path, overrides)
    assert len(lines) == 1, lines
    return lines[0]


# --- what a file says ------------------------------------------------------------------------------------------------


def test_a_file_is_resolved_with_defaults(write, tmp_path):
    scenario = load_serving_scenario(write(GOOD))
    assert (scenario.model, scenario.gpu, scenario.kernels) == ("llama31_8b", "h100_sxm_80g", "a100_sxm_80g")
    assert scenario.options.max_num_seqs == 128 and scenario.options.max_num_batched_tokens == 2048
    first, second = scenario.options.tiers
    assert first == KvTier("hbm")
    assert second.capacity_bytes == 256 << 30 and second.evict_trigger == 0.8 and second.evict_ratio == 0.0
    assert second.eviction == Choice("s3fifo", {"small_ratio": 0.2}) and second.offload.name == "write_back"
    assert scenario.cluster.replicas == 4 and scenario.cluster.shared == ("dram",) and scenario.cluster.link == "pcie"
    assert (scenario.slo.ttft_ns, scenario.slo.tpot_ns, scenario.monitor_every_ns) == (2e9, 5e7, 1e9)
    assert scenario.preset is None and scenario.compare == ("lru", "sieve") and scenario.seed == 7
    assert scenario.workload.trace == str(tmp_path / "calls.jsonl")


def test_without_a_word_the_engine_is_that_of_the_options_defaults(write):
    text = "\n".join(
        line for line in ALONE.splitlines() if not line.startswith(("    ", "  tiers", "  options", "  slo"))
    )
    scenario = load_serving_scenario(write(text))
    assert scenario.options == ServingOptions()


def test_the_first_tier_is_the_accelerators_memory_and_not_its_cache(write):
    text = GOOD.replace("dgx_h100_cxl_ssd", "rtx4090_desktop").replace("  kernels: a100_sxm_80g\n", "")
    text = text[: text.index("  tiers:")] + text[text.index("  slo:") :]
    scenario = load_serving_scenario(write(text))
    assert scenario.options.tiers == (KvTier("vram"),)
    assert (scenario.gpu, scenario.kernels) == ("rtx4090", "rtx4090")


def test_resolved_is_plain_and_holds_no_folder(write, tmp_path):
    resolved = load_serving_scenario(write(GOOD)).resolved()
    assert json.loads(json.dumps(resolved)) == resolved
    assert str(tmp_path) not in str(resolved)
    assert resolved["serving"]["tiers"]["dram"]["eviction"] == {"policy": "s3fifo", "small_ratio": 0.2}
    assert resolved["serving"]["options"]["max_num_seqs"] == 128


def test_every_option_of_the_engine_can_be_said():
    assert set(OPTIONS) == set(ServingOptions.__dataclass_fields__) - {"tiers"}
    defaults = ServingOptions()
    for name, check in OPTIONS.items():
        value = getattr(defaults, name)
        assert check(value.label if isinstance(value, Choice) else value) == value


def test_sizes_and_times_may_have_their_unit(write):
    overrides = {"serving.options.swap_bytes": "4 GiB", "serving.options.copy_overhead_ns": "5 us"}
    options = load_serving_scenario(write(GOOD), overrides).options
    assert (options.swap_bytes, options.copy_overhead_ns) == (4 << 30, 5e3)


# --- faults ----------------------------------------------------------------------------------------------------------


def test_every_fault_of_a_file_is_told_at_once(write):
    path = write(
        """
name: bad
description: 3
system: dgx_h100_cxl_ssd
overrides: {tiers.dram.cout: 2}
workload: {trace: mooncake_conversaton, requests: 0, clients: 3}
serving:
  model: llama31_8
  gpu: h100
  kernels: a100
  presett: vllm
  options: {max_num_seq: 4, watermark: 1, overlap: asynk, swap_bytes: -1, allocator: best_fitt}
  tiers:
    dram: {capacity: 0 B, eviction: lruu, evict_trigger: 2, ofload: none}
  cluster: {replicas: 0, router: prefix}
  slo: {ttft: 0 s, tpot: 3}
compare: [sive]
""",
        "bad.yaml",
    )
    told = "\n".join(str(error) for error in check_serving_file(path))
    for words in (
        "bad.yaml:3: description: not text: 3",
        "bad.yaml:5: overrides.tiers.dram.cout: unknown field to override 'tiers.dram.cout'; did you mean",
        "bad.yaml:6: workload.requests: not a count: 0",
        "bad.yaml:6: workload.trace: no such trace: 'mooncake_conversaton'; did you mean 'mooncake_conversation'?",
        "bad.yaml:6: workload.clients: clients 3; expected no clients",
        "bad.yaml:8: serving.model: unknown model 'llama31_8'; did you mean 'llama31_8b'?",
        "bad.yaml:9: serving.gpu: unknown GPU 'h100'; did you mean 'h100_sxm_80g'?",
        "bad.yaml:10: serving.kernels: unknown calibration 'a100'; did you mean 'a100_sxm_80g'?",
        "bad.yaml:11: serving: unknown key 'presett'; did you mean 'preset'?",
        "bad.yaml:12: serving.options.max_num_seq: unknown option 'max_num_seq'; did you mean 'max_num_seqs'?",
        "bad.yaml:12: serving.options.watermark: out of range: 1; expected a number from 0, below 1",
        "bad.yaml:12: serving.options.overlap: unknown value 'asynk'; did you mean 'async'?",
        "bad.yaml:12: serving.options.swap_bytes: not a size: -1",
        "serving.options.allocator: unknown allocator 'best_fitt'; did you mean 'best_fit'?",
        "bad.yaml:14: serving.tiers.dram.capacity: bad capacity '0 B'; expected more than zero",
        "bad.yaml:14: serving.tiers.dram.eviction: unknown eviction policy 'lruu'; did you mean 'lru'?",
        "bad.yaml:14: serving.tiers.dram.evict_trigger: out of range: 2",
        "bad.yaml:14: serving.tiers.dram: unknown key 'ofload'; did you mean 'offload'?",
        "bad.yaml:15: serving.cluster.replicas: not a count: 0",
        "bad.yaml:15: serving.cluster.router: unknown value 'prefix'; did you mean 'prefix_aware'?",
        "bad.yaml:16: serving.slo.ttft: not above zero: '0 s'",
        "bad.yaml:16: serving.slo.tpot: a bare number 3; expected a time",
        "compare: unknown eviction policy 'sive'; did you mean 'sieve'?",
    ):
        assert words in told, told


SEQS = "max_num_seqs: 128"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("    hbm: {eviction: lru}\n", "", "must be the accelerator's own memory: 'dram'; expected 'hbm' before it"),
        (
            "    hbm: {eviction: lru}",
            "    hbn: {}",
            "unknown tier of system 'dgx_h100_cxl_ssd': 'hbn'; did you mean 'hbm'?",
        ),
        ("256 GiB", "1 TiB", "too large a capacity for tier 'dram': '1 TiB'; expected at most the device's 512 GiB"),
        (
            "0.8}",
            "0.8, evict_ratio: 0.9}",
            "more is freed than there is: evict_ratio 0.9; expected at most evict_trigger",
        ),
        ("write_back", "write_bck", "unknown offload policy 'write_bck'; did you mean 'write_back'?"),
        ("{eviction: lru}", "{offload: write_back}", "offload of the first tier, in which every block is computed"),
        ("{eviction: lru}", "{admission: always}", "admission of the first tier, in which every block is computed"),
        ("{eviction: lru}", "{capacity: 16 GiB}", "14.96 GiB, but of tier 'hbm', 16 GiB, the engine has 90%"),
        (SEQS, "memory_utilization: 0.19", "leave no room for one KV block"),
        (SEQS, "max_num_seqs: 4096", "too few tokens in a batch: 2048; expected at least max_num_seqs, 4096"),
        (
            SEQS,
            "chunked_prefill: false",
            "expected at least the longest prompt's, 131072, where chunked_prefill is false",
        ),
        (SEQS, "max_model_len: 200000", "too long: 200000; expected at most the context of llama31_8b, 131072"),
        (SEQS, "reservation: max", "contiguous memory cannot share a prefix: reservation 'max'"),
        (SEQS, "preemption: swap", "no room to swap to: 0; expected swap_bytes"),
        (SEQS, "prefetch: best_effort", "prefetching brings what lies below the second tier up into it"),
        (SEQS, "min_load_tokens: 99, max_load_tokens: 9", "never met: 99; expected at most max_load_tokens, 9"),
        (SEQS, "tensor_parallel: 3", "llama31_8b: heads, 32, cannot be split over 3"),
        (SEQS, "memory_utilization: 0.1", "model 'llama31_8b' does not fit: 14.96 GiB, but of tier 'hbm', 80 GiB"),
        (
            "llama31_8b",
            "llama31_70b",
            "model 'llama31_70b' does not fit: 131.4 GiB, but of tier 'hbm', 80 GiB, the engine",
        ),
        ("prefill: 1", "prefill: 4", "too many that only prefill: 4; expected fewer than replicas, 4"),
        (
            ", link: pcie",
            "",
            "engines that only prefill need a link to those that decode; expected link: one of pcie, cxl",
        ),
        ("link: pcie", "link: pci", "unknown link of system 'dgx_h100_cxl_ssd': 'pci'; did you mean 'pcie'?"),
        ("[dram]", "[hbm]", "each engine has the first tier for itself: 'hbm'"),
        ("[dram]", "[cxl]", "unknown tier of the KV cache: 'cxl'; expected one of dram"),
        ("[dram]", "[dram, dram]", "a tier twice: 'dram'"),
        (
            "  kernels: a100_sxm_80g\n",
            "",
            "no kernels of 'h100_sxm_80g' were measured; expected `run_sim.py calibrate`",
        ),
        ("dgx_h100_cxl_ssd", "gh200", "system 'gh200' does not say which GPU it has; expected one of a100_sxm_80g"),
    ],
)
def test_one_fault(write, old, new, words):
    assert old in GOOD
    assert words in "\n".join(lines_of(write(GOOD.replace(old, new, 1))))


def test_tiers_in_the_wrong_order(write):
    hbm, dram = [line for line in GOOD.splitlines() if line.startswith(("    hbm", "    dram"))]
    told = line_of(write(GOOD.replace(f"{hbm}\n{dram}", f"{dram}\n{hbm}")))
    assert told.endswith("serving.tiers: tiers in the wrong order: 'dram > hbm'; expected hbm > dram")


def test_what_takes_three_tiers_is_good_with_three(write):
    text = GOOD.replace(SEQS, "prefetch: timeout").replace("  cluster:", "    ssd: {offload: exclusive}\n  cluster:")
    assert "no time: 0; expected more than zero with prefetch: timeout" in line_of(write(text))
    text = text.replace("prefetch: timeout", "prefetch: timeout, prefetch_timeout_ns: 1 s")
    assert load_serving_scenario(write(text)).options.prefetch_timeout_ns == 1e9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"remove": None}, "tiers.dram: eviction policy 'odd' has no remove hook; expected one that has"),
        ({"plain": True}, "tiers.dram: policy 'odd' is a plain Python class, which only a replay can run"),
    ],
)
def test_a_policy_that_the_engine_cannot_use(write, monkeypatch, change, words):
    scenario = load_serving_scenario(write(GOOD.replace("offload: write_back", "offload: exclusive")))
    odd, load = SimpleNamespace(**{"remove": 1, "plain": False, **change}), registry.load
    odd.resolve, odd.make_state = dict, lambda context, parameters: None
    monkeypatch.setattr(registry, "load", lambda kind, name: odd if name == "odd" else load(kind, name))
    with pytest.raises(InputError, match=words):
        with_eviction(scenario, "odd", "dram")


def test_swapping_needs_a_second_tier(write):
    text = GOOD.replace(SEQS, "preemption: swap, swap_bytes: 4 GiB").replace(", shared: [dram]", "")
    assert load_serving_scenario(write(text)).options.preemption == "swap"
    alone = "\n".join(line for line in text.splitlines() if not line.startswith("    dram"))
    assert "swapping needs a second tier" in line_of(write(alone))


def test_more_accelerators_hold_a_larger_model(write):
    text = ALONE.replace("llama31_8b", "llama31_70b").replace(SEQS, "tensor_parallel: 4")
    assert load_serving_scenario(write(text)).options.tensor_parallel == 4
    text = text.replace("dgx_h100_cxl_ssd", "rtx4090_desktop").replace("hbm:", "vram:").replace("256 GiB", "1 GiB")
    text = text.replace("  kernels: a100_sxm_80g\n", "")
    assert "tensor_parallel: " in line_of(write(text))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["llama31_8b", "llama31_70b", "qwen3_32b"]), st.sampled_from([1, 2, 4, 8]), st.floats(0.05, 1.0))
def test_a_model_fits_where_its_weights_do(tmp_path_factory, model, devices, share):
    folder = tmp_path_factory.mktemp("fits")
    (folder / "calls.jsonl").write_text(json.dumps(CALLS[0]) + "\n", encoding="utf-8")
    (folder / "small.yaml").write_text(ALONE, encoding="utf-8")
    overrides = {"serving.model": model}
    overrides |= {"serving.options.tensor_parallel": devices, "serving.options.memory_utilization": share}
    shape, block_tokens = load_model(model), 1
    options = ServingOptions(tensor_parallel=devices, memory_utilization=share, max_num_seqs=128)
    needed = operators.weight_bytes(shape, devices) + activation_bytes(shape, options)
    fits = needed + block_tokens * operators.kv_bytes_per_token(shape, devices) <= share * (80 << 30)
    try:
        load_serving_scenario(folder / "small.yaml", overrides)
        assert fits
    except InputError as error:
        assert not fits and "does not fit" in str(error)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.none(), st.booleans(), st.integers(-2, 1 << 70), st.floats(), st.text(max_size=6), st.lists(st.none())
    ),
    st.sampled_from([*(f"serving.options.{name}" for name in OPTIONS), "serving.tiers.dram.capacity"])
    | st.sampled_from(["serving.gpu", "serving.preset", "serving.cluster.shared", "serving.slo.ttft", "serving.model"]),
)
def test_whatever_stands_in_a_file_only_an_input_error_comes_out(tmp_path_factory, value, where):
    path = tmp_path_factory.mktemp("any") / "small.yaml"
    path.write_text(GOOD, encoding="utf-8")
    try:
        load_serving_scenario(path, {where: value})
    except InputError as error:
        assert error.lines


@pytest.mark.parametrize(
    "part", ["serving", "serving: 3", "serving: []", "serving: {tiers: [], options: 3, cluster: x}"]
)
def test_a_serving_part_of_the_wrong_shape(write, part):
    text = GOOD[: GOOD.index("serving:")] + f"{part.removesuffix('serving') or 'serving:'}\n"
    assert "serving" in "\n".join(lines_of(write(text)))


# --- overrides -------------------------------------------------------------------------------------------------------


def test_overrides_are_read_as_the_file_would_be(write):
    scenario = load_serving_scenario(
        write(GOOD),
        {
            "serving.options.max_num_seqs": "64",
            "serving.options.scheduling": {"policy": "fcfs"},
            "serving.options.allocator.alignment_bytes": "8 KiB",
            "serving.tiers.dram.capacity": "64 GiB",
            "serving.tiers.dram.eviction.small_ratio": "0.3",
            "serving.tiers.ssd.offload": "write_through",
            "serving.cluster.replicas": "2",
            "serving.slo.ttft": "1 s",
            "overrides.tiers.dram.capacity": "128 GiB",
            "workload.requests": "2",
        },
        seed=5,
    )
    options = scenario.options
    assert options.max_num_seqs == 64 and options.scheduling.name == "fcfs"
    assert options.allocator == Choice("first_fit", {"alignment_bytes": 8192})
    assert [tier.name for tier in options.tiers] == ["hbm", "dram", "ssd"]
    assert options.tiers[1].eviction.parameters == {"small_ratio": 0.3}
    assert (scenario.cluster.replicas, scenario.slo.ttft_ns, scenario.seed) == (2, 1e9, 5)
    assert scenario.workload.requests == 2


def test_a_tier_that_an_override_adds_stands_where_the_system_has_it(write):
    text = GOOD.replace("    dram:", "    ssd:").replace("[dram]", "[ssd]")
    tiers = load_serving_scenario(write(text), {"serving.tiers.dram.capacity": "1 GiB"}).options.tiers
    assert [tier.name for tier in tiers] == ["hbm", "dram", "ssd"]


def test_a_bad_override_is_named_as_it_was_said(write):
    told = line_of(write(GOOD), {"serving.tiers.dram.capacity": "9 TiB"})
    assert told.startswith("serving.tiers.dram.capacity: too large a capacity")
    assert "did you mean 'serving.tiers.dram.capacity'" in line_of(write(GOOD), {"tiers.dram.capacity": "9 TiB"})
    told = line_of(write(GOOD), {"serving.options.max_num_seq": 4})
    assert told == "serving.options.max_num_seq: unknown option 'max_num_seq'; did you mean 'max_num_seqs'?"


# --- policies and workload -------------------------------------------------------------------------------------------


def test_with_eviction(write):
    scenario = load_serving_scenario(write(GOOD))
    assert [tier.eviction.label for tier in with_eviction(scenario, "sieve").options.tiers] == ["sieve", "sieve"]
    changed = with_eviction(scenario, "s3fifo:small_ratio=0.4", "dram").options.tiers
    assert [tier.eviction.label for tier in changed] == ["lru", "s3fifo:small_ratio=0.4"]
    with pytest.raises(InputError, match="unknown tier of the KV cache 'dran'; did you mean 'dram'"):
        with_eviction(scenario, "lru", "dran")


def test_requests_are_calls_with_all_their_blocks(write):
    trace = load_calls(load_serving_scenario(write(GOOD)))
    assert trace.calls.arrival_ns.size == 3 and trace.n_requests == 6
    np.testing.assert_array_equal(trace.calls.arrival_ns, [0.0, 5e6, 1e7])
    whole = load_calls(load_serving_scenario(write(GOOD), {"workload.requests": 99, "workload.arrival_scale": 1}))
    assert whole.calls.arrival_ns.size == len(CALLS)


def test_calls_without_blocks_are_cut_too(write, tmp_path):
    calls = [{**call, "hash_ids": [] if i else [1]} for i, call in enumerate(CALLS)]
    path = write(GOOD)
    (tmp_path / "calls.jsonl").write_text("\n".join(map(json.dumps, calls)) + "\n", encoding="utf-8")
    try:
        trace = load_calls(load_serving_scenario(path))
    except InputError as error:  # a reader may refuse such calls
        assert "hash_ids" in str(error)
        return
    assert trace.calls.arrival_ns.size == 3 and trace.n_requests == 1


def test_a_trace_without_calls_is_refused(write):
    text = GOOD.replace("{trace: calls.jsonl, reader: mooncake, requests: 3, arrival_scale: 0.5}", "{generator: zipf}")
    with pytest.raises(InputError, match="has no calls of a language model"):
        load_calls(load_serving_scenario(write(text)))


# --- accelerators ----------------------------------------------------------------------------------------------------


def test_a_systems_gpu_is_one_of_the_accelerators_with_its_memory():
    named = {name: load_profile(name) for name in system_names() if load_profile(name).gpu}
    assert {"dgx_h100", "dgx_a100", "rtx4090_desktop", "dgx_h100_cxl_ssd"} <= named.keys()
    for name, profile in named.items():
        gpu = load_gpu(profile.gpu)
        unit = next(unit for unit in profile.compute if unit.gpu)
        assert unit.flops_per_ns is None  # the accelerator's file alone has its peaks
        own = [tier for tier in profile.tiers if not tier.path and tier.device.kind not in ("sram", "sram3d")]
        reached = own[0].device.read.bandwidth_bytes_per_ns
        assert 0.9 * gpu.bandwidth.value <= reached <= gpu.bandwidth.value, name


def test_accelerators_have_power_and_price():
    for name in gpu_names():
        gpu = load_gpu(name)
        assert 100 <= gpu.power.value <= 1500 and 0.1 <= gpu.price.value <= 20
        assert gpu.power.source and gpu.price.source.startswith("estimate")


def test_peaks_in_two_places_are_refused():
    with pytest.raises(InputError, match="'flops' beside 'gpu', whose own file has them: h100_sxm_80g"):
        load_profile("dgx_h100", {"compute.gpu.flops": "1 TFLOP/s"})
    with pytest.raises(InputError, match="unknown GPU 'h100'; did you mean 'h100_sxm_80g'"):
        load_profile("dgx_h100", {"compute.gpu.gpu": "h100"})


# --- commands --------------------------------------------------------------------------------------------------------


def test_validate_and_list_know_both_kinds(write, capsys, tmp_path):
    path, bad = write(GOOD), write(GOOD.replace("name: small", "name: bad").replace("lru}", "lruu}"), "bad.yaml")
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(path), str(bad), "scenarios/zipf_three_tier.yaml"])
    told = capsys.readouterr()
    assert ended.value.code == 2 and " ".join(told.out.split()).count(": good") == 2
    assert "serving.tiers.hbm.eviction: unknown eviction policy 'lruu'" in told.err
    with pytest.raises(SystemExit):
        main(["list", "scenarios", "--json"])
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} >= {"zipf_three_tier"}


def test_a_fault_ends_run_and_compare_in_one_line(write, capsys):
    path = write(GOOD.replace("lru}", "lruu}"))
    for command in (["run", str(path)], ["compare", str(path)]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--out", str(path.parent / "out")])
        told = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2
        assert len(told) == 1 and "unknown eviction policy 'lruu'" in told[0]


def test_each_kind_has_its_own_reader(write):
    with pytest.raises(InputError, match="serving: a scenario of serving"):
        load_scenario(write(GOOD))
    with pytest.raises(InputError, match="missing key 'serving'"):
        load_serving_scenario("zipf_three_tier")


def test_importing_serving_scenarios_is_cheap():
    heavy = "{'numba', 'pandas', 'pyarrow', 'matplotlib'} & sys.modules.keys()"
    code = f"import sys, sim.serving.scenario, sim.serving.presets; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
