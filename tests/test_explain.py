"""`explain`: shares that add up, bottlenecks of runs whose bottleneck is known, break-even, and what other tiers do."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.choice import Choice
from sim.cli import main
from sim.cost.calibration import load_calibration, load_gpu
from sim.cost.kernels import WORK
from sim.cost.step import add_step_chunk, iteration_ns, make_step
from sim.errors import InputError
from sim.llm.models import load_model
from sim.profile import load_profile
from sim.serving import explain, what_if
from sim.serving.break_even import break_even_tokens, computing_ns_of, loading_ns_of
from sim.serving.options import Cluster, KvTier, ServingOptions
from sim.serving.rebuilding import loaded_of, options_of, scenario_of, with_places
from sim.serving.record import ENGINE_PARTS, PARTS
from sim.serving.results import ServingResult, save
from sim.serving.scenario import load_serving_scenario
from sim.serving.what_if import FAST_LOWER, LARGE_G1, LARGE_G2, NO_LOWER, Outcome, outcomes, variants
from tests.serving_runs import changed, made_up_run, made_up_scenario, without_calls

PROFILE = load_profile("dgx_h100_cxl_ssd")


def result_of(run, profile=PROFILE) -> ServingResult:
    return ServingResult.from_run(run, made_up_scenario(run.tiers), label="made up", profile=profile)


@pytest.fixture(scope="module")
def run():
    return made_up_run()


@pytest.fixture(scope="module")
def result(run):
    return result_of(run)


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory):
    return str(save(result, tmp_path_factory.mktemp("results") / "run").folder)


# --- where the time went ---------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 80), st.integers(0, 1000))
def test_parts_of_the_median_and_the_tail_add_up(calls, seed):
    result = result_of(made_up_run(calls, seed, rejected=1))
    median, tail = explain.slices(result)
    assert (median.name, tail.name) == ("median", "tail")
    assert median.latency_ns <= tail.latency_ns
    done = result.completed()
    for one in (median, tail):
        assert sum(one.parts_ns.values()) == pytest.approx(one.latency_ns)
        assert done[one.request] and one.calls >= 1
    latency_ns = (result.column("requests", "finish_ns") - result.column("requests", "arrival_ns"))[done]
    assert latency_ns.min() <= median.latency_ns <= tail.latency_ns <= latency_ns.max() * (1 + 1e-12)


def test_one_request_is_told_whole(result, run):
    at = int(np.flatnonzero(result.completed())[5])
    told = explain.request(result, at)
    assert sum(told["parts_ns"].values()) == pytest.approx(told["latency_ns"])
    assert list(told["hit_tokens"].values()) == run.calls["hit_tokens"][at].tolist()
    assert 0 <= told["faster_share"] < 1
    rejected = int(np.flatnonzero(~result.completed())[0])
    assert explain.request(result, rejected)["reason"] == "longer_than_model"
    for number in (-1, 400):
        with pytest.raises(InputError, match=r"no such request.*from 0 to 399"):
            explain.request(result, number)


# --- bottlenecks -----------------------------------------------------------------------------------------------------


def with_samples(run, **samples):
    """The run with other samples; engine parts as shares of each moment of time."""
    changes = {
        name: np.asarray(values, float).reshape(-1, 1) for name, values in samples.items() if name in run.samples
    }
    time_ns = run.samples["time_ns"]
    parts = np.zeros((time_ns.size, 1, len(ENGINE_PARTS)))
    for name, share in samples.items():
        if name in ENGINE_PARTS:
            steps = np.diff(time_ns, prepend=0.0) * np.broadcast_to(np.asarray(share, float), time_ns.shape)
            parts[:, 0, ENGINE_PARTS.index(name)] = np.cumsum(steps)
    return dataclasses.replace(run, samples=run.samples | changes | {"engine_parts_ns": parts})


def told(run) -> list[tuple[str, float]]:
    return [(one.resource, round(one.share, 6)) for one in explain.bottlenecks(result_of(run))]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"linear_ns": 0.5, "prefill_attention_ns": 0.2}, ("compute", 0.7)),
        ({"decode_attention_ns": 0.6, "linear_ns": 0.3}, ("decode attention", 0.6)),
        ({"overhead_ns": 0.9}, ("host overhead", 0.9)),
        ({"load_stall_ns": 0.5, "linear_ns": 0.4}, ("waiting for loads", 0.5)),
        ({"store_stall_ns": 0.5, "linear_ns": 0.4}, ("waiting for stores", 0.5)),
        ({"linear_ns": 0.2}, ("idle", 0.8)),
    ],
)
def test_the_bottleneck_is_what_takes_most_of_the_time(run, parts, expected):
    assert told(with_samples(run, waiting=np.zeros(121), **parts)) == [expected]


def test_full_blocks_are_the_bottleneck_while_someone_waits(run):
    full = np.full(121, run.tier_capacity_blocks[0], float)
    waits = np.arange(121) < 60
    stretches = explain.bottlenecks(
        result_of(with_samples(run, kv_blocks_in_use=full, waiting=waits.astype(float), linear_ns=0.9))
    )
    assert [one.resource for one in stretches] == ["KV blocks", "compute"]
    assert stretches[0].share == pytest.approx(1)
    assert stretches[0].to_ns == pytest.approx(run.duration_ns / 2, rel=0.03)
    nobody = with_samples(run, kv_blocks_in_use=full, waiting=np.zeros(121), linear_ns=0.9)
    assert told(nobody) == [("compute", 0.9)]


def test_a_link_at_its_bandwidth_is_the_bottleneck(run):
    at = list(run.traffic_bytes).index("link.pcie.up")
    rate = PROFILE.links["pcie"].read.bandwidth_bytes_per_ns
    moved = np.zeros((121, len(run.traffic_bytes)))
    moved[:, at] = 0.95 * rate * run.samples["time_ns"]
    busy = with_samples(run, waiting=np.zeros(121), linear_ns=0.6)
    busy = dataclasses.replace(busy, samples=busy.samples | {"link_bytes": moved})
    assert told(busy) == [("link.pcie.up", 0.95)]
    without_profile = explain.bottlenecks(result_of(busy, profile=None))
    assert [one.resource for one in without_profile] == ["compute"]


def test_stretches_cover_the_run_without_a_gap(result, run):
    stretches = explain.bottlenecks(result)
    assert stretches[0].from_ns == 0 and stretches[-1].to_ns == pytest.approx(run.duration_ns)
    for before, after in itertools.pairwise(stretches):
        assert before.to_ns == after.from_ns and before.resource != after.resource
    assert {one.resource for one in stretches} == {"compute", "KV blocks", "idle"}
    shares = explain.shares_of_time(stretches)
    assert sum(shares.values()) == pytest.approx(1) and list(shares.values()) == sorted(shares.values(), reverse=True)


def test_too_few_samples_tell_no_bottleneck(run):
    short = {name: column[:1] for name, column in run.samples.items()}
    assert explain.bottlenecks(result_of(dataclasses.replace(run, samples=short))) == []


# --- break-even ------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    st.floats(0, 1e6),
    st.floats(0.1, 100),
    st.floats(0, 1e6),
    st.floats(0.1, 100),
    st.sampled_from([1, 16, 64]),
    st.integers(64, 100_000),
)
def test_break_even_of_two_lines(latency, per_token, overhead, computing, block, most):
    found = break_even_tokens(lambda n: overhead + computing * n, lambda n: latency + per_token * n, most, block)
    blocks = most // block
    sooner = [latency + per_token * n * block < overhead + computing * n * block for n in range(1, blocks + 1)]
    if not sooner[-1]:
        assert found is None
    else:
        late = [n for n, one in enumerate(sooner, 1) if not one]
        assert found == (late[-1] + 1 if late else 1) * block


def test_the_last_of_several_crossings_counts():
    # Computing 48 tokens takes less than its line says, as times that go up in steps may do.
    found = break_even_tokens(lambda n: 1.0 if n == 48 else 10.0 * n, lambda n: 100.0 + n, 64, 16)
    assert found == 64


def test_loading_takes_what_an_unloaded_access_takes_and_its_copies():
    plain = loading_ns_of(PROFILE, "ssd", 1024.0, 16)
    assert plain(160) == PROFILE.unloaded_ns("ssd", 160 * 1024)
    copied = loading_ns_of(PROFILE, "ssd", 1024.0, 16, copy_blocks=4, copy_overhead_ns=5000.0)
    assert copied(160) == PROFILE.unloaded_ns("ssd", 160 * 1024) + 3 * 5000
    assert loading_ns_of(PROFILE, "ssd", 1024.0, 16, copy_overhead_ns=7.0)(160) == plain(160) + 7


@pytest.fixture(scope="module")
def step():
    return make_step(load_model("llama31_8b"), load_gpu("a100_sxm_80g"), load_calibration("a100_sxm_80g"))


def test_computing_more_takes_what_its_chunks_take_beyond_the_last_token(step):
    def iteration(new, context):
        work = np.zeros((2, WORK))
        add_step_chunk(step, work, float(new), float(context))
        return iteration_ns(step, float(new), 1.0, work, 0.0, 0.0, 0.0)

    computing_ns = computing_ns_of(step, 2048)
    assert computing_ns(999) == pytest.approx(iteration(1000, 0) - iteration(1, 999))
    chunks = iteration(2048, 0) + iteration(2048, 2048) + iteration(905, 4096)
    assert computing_ns(5000) == pytest.approx(chunks - iteration(1, 5000))
    assert computing_ns(2048) > computing_ns(1024) > computing_ns(256)


def test_a_slower_tier_breaks_even_later(step):
    computing_ns = computing_ns_of(step, 2048)
    per_token = 131072.0

    def found(profile, tier):
        return break_even_tokens(computing_ns, loading_ns_of(profile, tier, per_token, 16), 16384, 16)

    slow = load_profile("dgx_h100_cxl_ssd", {"tiers.ssd.read.bandwidth": "100 MB/s"})
    assert found(PROFILE, "dram") <= found(PROFILE, "ssd")
    assert found(slow, "ssd") is None
    lagging = load_profile("dgx_h100_cxl_ssd", {"tiers.ssd.read.latency": "20 ms"})
    assert found(PROFILE, "ssd") < found(lagging, "ssd")


# --- what other tiers would have done --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """As much of a `ServingScenario` as its variants change."""

    options: ServingOptions
    cluster: Cluster = field(default_factory=Cluster)
    system: str = "dgx_h100_cxl_ssd"
    profile_overrides: Mapping[str, Any] = field(default_factory=dict)


THREE = Scenario(
    ServingOptions(tiers=(KvTier("hbm"), KvTier("dram", 2**30), KvTier("ssd"))), Cluster(shared=("ssd",), replicas=2)
)
ALONE = Scenario(ServingOptions())


def test_variants_change_what_they_say_and_no_more():
    made = variants(THREE, PROFILE, 10_000, 2**21)
    assert list(made) == [NO_LOWER, LARGE_G1, LARGE_G2, FAST_LOWER]
    assert THREE.options.tiers[1].capacity_bytes == 2**30 and not THREE.profile_overrides
    none = made[NO_LOWER]
    assert none.options == dataclasses.replace(THREE.options, tiers=THREE.options.tiers[:1])
    assert none.cluster == Cluster(replicas=2)
    assert made[LARGE_G1] == dataclasses.replace(THREE, options=dataclasses.replace(THREE.options, kv_blocks=10_000))
    large = made[LARGE_G2]
    assert large.options.tiers[1] == KvTier("dram", 10_000 * 2**21)
    assert (large.options.tiers[0], large.options.tiers[2]) == (THREE.options.tiers[0], THREE.options.tiers[2])
    assert not large.profile_overrides  # the device has room for that


def test_a_device_grows_with_the_tier_that_is_larger_than_it():
    made = variants(THREE, PROFILE, 10**8, 2**21)[LARGE_G2]
    profile = load_profile(made.system, made.profile_overrides)
    assert profile.tier("dram").device.capacity_bytes >= 2 * 10**8 * 2**21 == 2 * made.options.tiers[1].capacity_bytes
    assert profile.tier("dram").device.read == PROFILE.tier("dram").device.read


def test_fast_tiers_take_no_time():
    made = variants(THREE, PROFILE, 1, 1)[FAST_LOWER]
    profile = load_profile(made.system, made.profile_overrides)
    for tier in ("dram", "ssd"):
        for write in (False, True):
            assert profile.unloaded_ns(tier, 2**30, write) < 2000
    assert profile.tier("hbm").device == PROFILE.tier("hbm").device
    assert profile.tier("dram").device.capacity_bytes == PROFILE.tier("dram").device.capacity_bytes
    assert made.options == THREE.options


def test_a_run_without_lower_tiers_is_given_the_next_one():
    made = variants(ALONE, PROFILE, 1000, 2**21)
    assert list(made) == [LARGE_G1, LARGE_G2]
    assert made[LARGE_G2].options.tiers == (KvTier("hbm"), KvTier("dram", 1000 * 2**21))
    last = dataclasses.replace(ALONE, options=ServingOptions(tiers=(KvTier("ssd"),)))
    assert list(variants(last, PROFILE, 1000, 2**21)) == [LARGE_G1]


def test_enough_blocks_hold_every_token(result, run):
    blocks = sum(
        math.ceil((a + b) / 16) for a, b in zip(run.calls["input_tokens"], run.calls["output_tokens"], strict=True)
    )
    assert what_if.enough_blocks_of(result) == blocks + 1


def test_each_variant_is_run_once(run):
    asked = []

    def simulate(scenario):
        asked.append(scenario)
        return made_up_run(50, seed=len(asked), rejected=0)

    found = outcomes(THREE, PROFILE, 1000, 2**21, simulate)
    assert asked == list(variants(THREE, PROFILE, 1000, 2**21).values())
    assert all(one.ttft_mean_ns > 0 and one.hit_tokens > 0 for one in found.values())
    nothing = outcomes(ALONE, PROFILE, 1, 1, lambda scenario: without_calls(run))
    assert nothing[LARGE_G1] == Outcome(None, None, 0)


@pytest.mark.parametrize(
    ("ttft", "latency", "judged"),
    [
        (
            50,
            400,
            "Offloading helped: mean TTFT 50 ns against 100 ns (-50 %), mean latency 400 ns against 500 ns (-20 %)",
        ),
        (99.9, 501, "Offloading made no difference: "),
        (150, 600, "Offloading hurt: "),
        (50, 700, "Offloading helped the first token and hurt the rest: "),
        (150, 400, "Offloading hurt the first token and helped the rest: "),
        (100, 400, "Offloading helped: "),
    ],
)
def test_the_verdict_compares_with_a_run_without_lower_tiers(ttft, latency, judged):
    sentence = explain.verdict(True, Outcome(ttft, latency, 5), {NO_LOWER: Outcome(100, 500, 3)})
    assert sentence.startswith(judged) and sentence.endswith(", with and without lower tiers.")


def test_the_verdict_of_a_run_without_lower_tiers():
    sentence = explain.verdict(False, Outcome(100, 500, 3), {LARGE_G2: Outcome(50, 450, 9)})
    assert sentence.startswith("There are no lower tiers") and "(-50 %)" in sentence and "+6 tokens found" in sentence
    assert "no tier that could be G2" in explain.verdict(False, Outcome(100, 500, 3), {})
    assert "cannot be told" in explain.verdict(True, Outcome(None, None, 0), {NO_LOWER: Outcome(1, 1, 1)})


def test_the_estimate_weighs_loading_against_computing(result, run):
    assert explain.estimate(result).startswith("By estimate offloading helped: ")
    parts = run.calls["parts_ns"].copy()
    parts[result.completed(), PARTS.index("load_ns")] += 1e9
    slow = changed(run, parts_ns=parts, finish_ns=run.calls["finish_ns"] + 1e9)
    assert explain.estimate(result_of(slow)).startswith("By estimate offloading did not help: ")
    assert "no lower tiers" in explain.estimate(result_of(made_up_run(tiers=("hbm",))))
    hits = run.calls["hit_tokens"] * np.array([1, 0, 0])
    assert "no prompt token was found in a lower tier" in explain.estimate(result_of(changed(run, hit_tokens=hits)))


SERVING = """
name: own
description: a test
system: dgx_h100_cxl_ssd
workload: {generator: chat}
serving:
  model: llama31_8b
  gpu: a100_sxm_80g
  options: {max_num_seqs: 64}
  tiers:
    hbm: {}
    dram: {capacity: 20 GiB, eviction: "s3fifo:small_ratio=0.2"}
    ssd: {}
  slo: {ttft: 2 s}
"""


# --- a scenario from its manifest ------------------------------------------------------------------------------------


def test_options_come_back_from_plain_data():
    plain = json.loads(json.dumps(made_up_scenario()))
    options = options_of(plain)
    assert [tier.name for tier in options.tiers] == ["hbm", "dram", "ssd"]
    assert options.tiers[1].eviction == Choice("lru") and options.scheduling == Choice("fcfs")
    assert dataclasses.replace(options, tiers=ServingOptions().tiers) == ServingOptions()
    assert loaded_of(plain).profile.name == "dgx_h100_cxl_ssd"


def test_a_scenario_comes_back_from_its_plain_data(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(SERVING)
    scenario = load_serving_scenario(file)
    again = scenario_of(json.loads(json.dumps(scenario.resolved())))
    assert again == dataclasses.replace(scenario, file=None)
    made = variants(again, PROFILE, 1000, 2**21)
    assert list(made) == [NO_LOWER, LARGE_G1, LARGE_G2, FAST_LOWER]


def test_files_are_found_where_the_scenario_has_them():
    plain = made_up_scenario()
    plain["workload"]["trace"], plain["serving"]["model"] = "calls.jsonl", "mine.yaml"
    workload = SimpleNamespace(trace="/far/calls.jsonl")
    file = SimpleNamespace(system="own/other.yaml", model="/far/mine.yaml", gpu="a", kernels="k", workload=workload)
    placed = with_places(plain, file)
    assert (placed["workload"]["trace"], placed["serving"]["model"]) == ("/far/calls.jsonl", "/far/mine.yaml")
    assert placed["system"] == plain["system"] and placed["serving"]["gpu"] == plain["serving"]["gpu"]
    generated = {**plain, "workload": {"generator": "chat"}}
    assert with_places(generated, file)["workload"] == {"generator": "chat"}


def test_what_is_wrong_with_a_manifest_is_told():
    plain = made_up_scenario()
    plain["serving"]["options"]["block_token"] = 16
    with pytest.raises(InputError, match="did you mean 'block_tokens'"):
        options_of(plain)
    del plain["serving"]["tiers"]
    with pytest.raises(InputError, match="lacks 'tiers'"):
        options_of(plain)


# --- the command -----------------------------------------------------------------------------------------------------


def command(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["explain", *arguments])
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_the_command_tells_all_of_it(folder, capsys):
    code, out, _ = command(capsys, folder)
    assert code == 0
    for words in ("no free KV blocks", "bottleneck, by share of the time: compute", "KV blocks (", "By estimate"):
        assert words in out
    assert "loading from ssd is sooner than computing again from" in out


def test_the_command_gives_one_document(folder, capsys):
    code, out, err = command(capsys, folder, "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert set(document) == {"slices", "bottlenecks", "break_even", "offloading"}
    assert set(document["break_even"]) == {"dram", "ssd"}
    assert document["slices"][1]["parts_ns"].keys() == set(PARTS)


def test_the_command_tells_of_one_request(folder, capsys, result):
    at = int(np.flatnonzero(result.completed())[0])
    code, out, _ = command(capsys, folder, "--request", str(at))
    assert code == 0 and "first token after" in out and "found in ssd" in out
    code, out, _ = command(capsys, folder, "--request", str(at), "--json")
    assert json.loads(out)["request"] == at
    rejected = int(np.flatnonzero(~result.completed())[0])
    assert "rejected: longer_than_model" in command(capsys, folder, "--request", str(rejected))[1]
    code, out, err = command(capsys, folder, "--request", "400")
    assert (code, out) == (2, "") and err == "error: no such request 400; expected a number from 0 to 399\n"


def test_the_command_simulates_other_tiers(folder, capsys, monkeypatch):
    fake = ModuleType("sim.serving.simulation")
    fake.simulate = lambda scenario, progress=None: made_up_run(60, seed=len(scenario.options.tiers), rejected=0)
    monkeypatch.setitem(sys.modules, "sim.serving.simulation", fake)
    monkeypatch.setattr("sim.serving.rebuilding.scenario_of", lambda plain: Scenario(options_of(plain)))
    monkeypatch.setenv("COLUMNS", "160")  # where no name is folded
    code, out, _ = command(capsys, folder, "--what-if")
    text = " ".join(out.split())
    assert code == 0 and "with and without lower tiers." in text
    for name in (NO_LOWER, LARGE_G1, LARGE_G2, FAST_LOWER, "this run"):
        assert name in text
    document = json.loads(command(capsys, folder, "--what-if", "--json")[1])
    assert next(iter(document["what_if"])) == "this run" and len(document["what_if"]) == 5
    assert document["what_if"][NO_LOWER]["hit_tokens"] > 0


def test_the_command_refuses_what_is_no_serving_run(tmp_path, capsys):
    code, _, err = command(capsys, str(tmp_path / "none"))
    assert code == 2 and err.startswith("error: no such folder of results")


def test_a_break_even_that_cannot_be_told_says_why(run, tmp_path, capsys):
    plain = made_up_scenario()
    plain["serving"]["model"] = "mine.yaml"
    own = ServingResult.from_run(run, plain, label="own", profile=PROFILE)
    code, out, _ = command(capsys, str(save(own, tmp_path / "own").folder))
    assert code == 0 and "loading from dram: break-even cannot be told: " in " ".join(out.split())
