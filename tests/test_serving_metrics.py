"""Metrics of a serving run: against one worked out by hand, the laws that a record obeys, and what breaks them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.metrics import best_of
from sim.profile import load_profile
from sim.serving import metrics, record
from sim.serving.laws import BrokenLaw, check_run
from sim.serving.metrics import Accelerators, declaration, left_out, summarise
from sim.serving.options import Slo
from sim.serving.record import ENGINE_PARTS, PARTS, SAMPLED, Histogram, ServingRun
from tests.serving_runs import BLOCK_BYTES, changed, made_up_run, without_calls

PROFILE = load_profile("dgx_h100_cxl_ssd")


def by_hand() -> ServingRun:
    """Three calls, one refused; two tiers; ten seconds of one engine, half of which it works."""
    nan = float("nan")
    parts = np.zeros((3, len(PARTS)))
    parts[0, [record.QUEUE, record.PREFILL, record.DECODE]] = 1e9, 1e9, 3e9
    parts[1, [record.LOAD, record.PREFILL]] = 1e9, 1e9
    samples = {name: np.zeros((3, 1)) for name in SAMPLED}
    samples |= {
        "time_ns": np.array([0.0, 5e9, 10e9]),
        "kv_blocks_in_use": np.array([[0.0], [8.0], [0.0]]),
        "kv_waste_internal_tokens": np.array([[0.0], [16.0], [0.0]]),
        "finished": np.array([[0.0], [1.0], [2.0]]),
        "generated_tokens": np.array([[0.0], [3.0], [5.0]]),
        "tier_blocks": np.array([[[0.0, 0.0]], [[8.0, 50.0]], [[0.0, 100.0]]]),
        "engine_parts_ns": np.zeros((3, 1, len(ENGINE_PARTS))),
        "link_bytes": np.zeros((3, 0)),
    }
    return ServingRun(
        calls={
            "arrival_ns": np.array([2e9, 8e9, 9e9]),
            "first_scheduled_ns": np.array([3e9, 8e9, nan]),
            "first_token_ns": np.array([4e9, 10e9, nan]),
            "finish_ns": np.array([7e9, 10e9, nan]),
            "input_tokens": np.array([100, 40, 9000]),
            "output_tokens": np.array([4, 1, 7]),
            "generated_tokens": np.array([4, 1, 0]),
            "computed_tokens": np.array([100, 8, 0]),
            "recomputed_tokens": np.array([0, 0, 0]),
            "preemptions": np.array([0, 0, 0]),
            "status": np.array([record.COMPLETED, record.COMPLETED, record.REJECTED], np.int8),
            "reason": np.array([0, 0, record.LONGER_THAN_MODEL], np.int8),
            "replica": np.zeros(3, np.int16),
            "hit_tokens": np.array([[0, 0], [16, 16], [0, 0]]),
            "parts_ns": parts,
        },
        samples=samples,
        gaps=Histogram(1e8, 2.0, np.array([0, 0, 3]), 3e9),
        iterations=7,
        tiers=("hbm", "ssd"),
        tier_capacity_blocks=(16, 1000),
        block_bytes=2**30,
        block_tokens=16,
        tier_counts={"hbm": {"evictions": 5}, "ssd": {"insertions": 6}},
        traffic_bytes={"tier.ssd.read": 10, "tier.ssd.write": 8640, "link.pcie.up": 10, "link.pcie.down": 90},
        busy_ns={"tier.ssd": 1e9, "link.pcie.up": 2e9},
        loads={"loads": 1, "loaded_tokens": 16, "failed": 0},
        engine_parts_ns=dict.fromkeys(ENGINE_PARTS, 0.0) | {"linear_ns": 4e9, "load_stall_ns": 1e9},
        duration_ns=10e9,
    )


def test_against_a_run_worked_out_by_hand():
    run = by_hand()
    check_run(run)
    summary = summarise(run, Slo(ttft_ns=2.5e9, tpot_ns=0.9e9), Accelerators(2, 500.0, 3.0, 0.1), PROFILE)
    expected = {
        "calls": 3,
        "completed": 2,
        "rejected": 1,
        "makespan_s": 8.0,
        "ttft_mean_ns": 2e9,
        "ttft_p99_ns": 2e9,
        "tpot_mean_ns": 1e9,  # of the one call that has one
        "itl_mean_ns": 1e9,
        "itl_p50_ns": 1e8 * 2**2.5,
        "latency_mean_ns": 3.5e9,
        "latency_p50_ns": 2e9,
        "latency_p90_ns": 5e9,
        "queue_mean_ns": 0.5e9,
        "load_mean_ns": 0.5e9,
        "prefill_mean_ns": 1e9,
        "decode_mean_ns": 1.5e9,
        "good_share": 1 / 3,  # the first is too slow per token; the other gave but one
        "good_calls_per_s": 1 / 8,
        "calls_per_s": 2 / 8,
        "prompt_tokens_per_s": 140 / 8,
        "generated_tokens_per_s": 5 / 8,
        "tokens_per_s": 145 / 8,
        "prompt_tokens": 140,
        "hit_tokens": 32,
        "hit_token_share": 32 / 140,
        "block_hit_ratio": 2 / (7 + 3),
        "computed_tokens": 108,
        "tokens_per_iteration": (108 + 3) / 7,
        "engine.linear_share": 0.4,
        "engine.load_stall_share": 0.1,
        "engine.idle_share": 0.5,
        "kv_occupancy_mean": 0.25,
        "kv_occupancy_max": 0.5,
        "kv_waste_internal": 0.5 * 16 / 256,
        "loads": 1,
        "failed_loads": 0,
        "tier.hbm.hit_tokens": 16,
        "tier.ssd.hit_tokens": 16,
        "tier.ssd.hit_token_share": 16 / 140,
        "tier.ssd.occupancy_mean": 0.05,
        "tier.hbm.evictions": 5,
        "tier.ssd.utilisation": 0.1,
        "tier.ssd.written_bytes_per_day": 8640 / 10 * 86400,
        "link.pcie.up_utilisation": 0.2,
        "link.pcie.down_utilisation": 0.0,
        "bytes_moved": 100,
        "accelerator_energy_j": 500 * 2 * (4 + 0.1 * 6),
        "accelerator_usd_per_hour": 6.0,
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)
    ssd, pcie, nvme = PROFILE.tier("ssd").device, PROFILE.links["pcie"], PROFILE.links["nvme"]
    assert summary["tier.ssd.endurance_years"] == pytest.approx(7008e12 / (864 * 86400) / 365)
    share = 2 * 1000 * 2**30 / ssd.capacity_bytes
    pj = 8 * (10 * ssd.read_pj_per_bit + 8640 * ssd.write_pj_per_bit + 100 * pcie.read_pj_per_bit)
    static_w = share * ssd.static_w + 2 * (pcie.static_w + nvme.static_w)
    assert summary["tier_energy_j"] == pytest.approx(2 * pj * 1e-12 + 10 * static_w)
    links = 2 * (pcie.usd_per_hour + nvme.usd_per_hour)
    assert summary["tier_usd_per_hour"] == pytest.approx(2000 * ssd.usd_per_gib_hour + links)
    dollars = (6 + summary["tier_usd_per_hour"]) * 10 / 3600
    assert summary["cost_usd_per_million_tokens"] == pytest.approx(dollars / 145 * 1e6)
    joules = summary["accelerator_energy_j"] + summary["tier_energy_j"]
    assert summary["energy_j_per_million_tokens"] == pytest.approx(joules / 145 * 1e6)


def reasons_of(run, slo=None, accelerators=None, profile=None) -> dict[str, str]:
    return left_out(run, summarise(run, slo, accelerators, profile), accelerators, profile)


def test_what_cannot_be_told_is_left_out_with_the_reason():
    run = by_hand()
    summary, reasons = summarise(run), reasons_of(run)
    assert not summary.keys() & reasons.keys()
    assert reasons["good_share"] == "no SLO was given"
    assert reasons["cost_usd_per_million_tokens"] == "the accelerator's price is not known"
    assert reasons["accelerator_energy_j"] == "the accelerator's power is not known"
    assert reasons["tier.ssd.endurance_years"] == "no profile was given"
    assert reasons["stores"] == "the run counted none"
    known = reasons_of(run, Slo(ttft_ns=1.0), Accelerators(1, 1.0, 1.0), PROFILE)
    assert known["tier.hbm.endurance_years"] == "'hbm3_h100_80g' is no drive"
    assert not {"good_share", "cost_usd_per_million_tokens", "tier_energy_j"} & known.keys()


def test_a_drive_without_a_rating_has_no_years():
    unrated = load_profile("dgx_h100_cxl_ssd", {"tiers.ssd.device": "nvme_gen4_tlc_1536g"})
    run = by_hand()
    assert "tier.ssd.endurance_years" not in summarise(run, profile=unrated)
    reason = reasons_of(run, profile=unrated)["tier.ssd.endurance_years"]
    assert reason == "the file of 'nvme_gen4_tlc_1536g' has no endurance"


def test_a_run_in_which_nothing_was_completed():
    run = by_hand()
    nothing = changed(run, status=np.full(3, record.REJECTED), generated_tokens=np.zeros(3, np.int64))
    summary, reasons = summarise(nothing, Slo(ttft_ns=1.0)), reasons_of(nothing, Slo(ttft_ns=1.0))
    assert (summary["completed"], summary["rejected"], summary["calls_per_s"], summary["good_share"]) == (0, 3, 0, 0)
    assert reasons["ttft_mean_ns"] == reasons["latency_p99_ns"] == "no call was completed"
    assert summarise(without_calls(run))["calls"] == 0


def test_every_metric_is_declared_once_and_given_in_that_order():
    names = [metric.name for metric in metrics.METRICS]
    assert len(set(names)) == len(names)
    run = made_up_run()
    every = summarise(run, Slo(1e9, 2e7), Accelerators(1, 700.0, 3.0), PROFILE)
    told = [*every, *reasons_of(run, Slo(1e9, 2e7), Accelerators(1, 700.0, 3.0), PROFILE)]
    assert {declaration(name).name for name in told} == set(names)
    order = [names.index(declaration(name).name) for name in every if not name.startswith(("tier.", "link."))]
    assert order == sorted(order)
    assert all(isinstance(value, int | float) and np.isfinite(value) for value in every.values())
    with pytest.raises(InputError, match="unknown metric"):
        declaration("tier.dram.hits_of_tokens")
    assert best_of(declaration("good_share"), {"a": 0.1, "b": 0.4}) == ["b"]


def test_units_stand_in_the_names():
    for metric in metrics.METRICS:
        assert metric.better in ("higher", "lower", "neither")
        for ending, unit in {"_ns": "ns", "_bytes": "B", "_s": "s", "_j": "J", "_years": "a"}.items():
            if metric.name.endswith(ending) and not metric.name.endswith("per_s"):
                assert metric.unit == unit


def test_a_count_that_nobody_declared():
    run = dataclasses.replace(by_hand(), tier_counts={"ssd": {"surprises": 1}})
    with pytest.raises(LookupError, match="surprises"):
        summarise(run)


def test_shared_tiers_are_paid_for_once():
    one = by_hand()
    many = dataclasses.replace(
        one,
        replicas=4,
        samples={
            name: column if name in ("time_ns", "link_bytes") else np.repeat(column, 4, axis=1)
            for name, column in one.samples.items()
        },
    )
    links = summarise(dataclasses.replace(one, tier_capacity_blocks=(16, 0)), profile=PROFILE)["tier_usd_per_hour"]
    ssd = summarise(one, profile=PROFILE)["tier_usd_per_hour"] - links
    assert summarise(many, profile=PROFILE)["tier_usd_per_hour"] == pytest.approx(4 * (ssd + links))
    assert summarise(many, profile=PROFILE, shared=("ssd",))["tier_usd_per_hour"] == pytest.approx(ssd + 4 * links)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 120), st.integers(0, 10_000), st.integers(1, 3))
def test_laws_of_summaries(calls, seed, tiers):
    run = made_up_run(calls, seed, ("hbm", "dram", "ssd")[:tiers], rejected=1)
    check_run(run)
    summary = summarise(run, Slo(ttft_ns=3e8), profile=PROFILE)
    assert summary["completed"] + summary["rejected"] == summary["calls"] == calls
    parts = sum(summary[name.replace("_ns", "_mean_ns")] for name in PARTS)
    assert parts == pytest.approx(summary["latency_mean_ns"])
    assert sum(summary[f"tier.{tier}.hit_tokens"] for tier in run.tiers) == summary["hit_tokens"]
    shares = sum(summary[f"engine.{name.removesuffix('_ns')}_share"] for name in ENGINE_PARTS)
    assert shares + summary["engine.idle_share"] == pytest.approx(1)
    for name in ("ttft", "latency", "itl"):
        ranked = [summary[f"{name}_{which}_ns"] for which in metrics.QUANTILES if f"{name}_{which}_ns" in summary]
        assert ranked == sorted(ranked)
    assert 0 <= summary["good_share"] <= summary["completed"] / calls
    assert summary["hit_token_share"] <= 1 and summary["block_hit_ratio"] <= 1


BROKEN = {
    "every call is completed or rejected": {"status": (0, record.UNFINISHED)},
    "a rejected call has a reason": {"reason": (2, record.NO_REASON)},
    "arrival_ns <= first_scheduled_ns": {"first_scheduled_ns": (1, np.nan)},
    "first_scheduled_ns <= first_token_ns": {"first_scheduled_ns": (1, 10.5e9)},
    "first_token_ns <= finish_ns": {"finish_ns": (0, 3.9e9)},
    "no call ends after the run": {"finish_ns": (1, 11e9)},
    "a call's parts add up": {"parts_ns": ((0, record.QUEUE), 1.1e9)},
    "no part of a call's time is negative": {"parts_ns": ((0, record.STALL), -1e8)},
    "generated == output tokens": {"output_tokens": (0, 5)},
    "tokens found <= tokens of the prompt": {"hit_tokens": ((1, 0), 48)},
    "each token of a prompt was found or computed": {"computed_tokens": (0, 99)},
    "tokens computed at first <= tokens of the prompt": {"computed_tokens": (0, 101)},
    "gaps between tokens": {"generated_tokens": (2, 2)},
    "preemptions: 0 in the last sample, 1 of all calls": {"preemptions": (0, 1)},
}


@pytest.mark.parametrize("law", BROKEN)
def test_a_call_that_breaks_a_law_is_told(law):
    ((name, (at, value)),) = BROKEN[law].items()
    run = by_hand()
    column = run.calls[name].copy()
    column[at] = value
    with pytest.raises(BrokenLaw, match=law.replace("(", r"\(")) as told:
        check_run(changed(run, **{name: column}))
    assert not isinstance(told.value, InputError)


@pytest.mark.parametrize(
    ("law", "changes"),
    [
        ("at the end kv_blocks_in_use is 0", {"kv_blocks_in_use": [0, 8, 1]}),
        ("at the end waiting is 0", {"waiting": [0, 0, 2]}),
        ("no more blocks in G1", {"kv_blocks_cached": [0, 9, 0]}),
        ("no more blocks in a tier", {"tier_blocks": [[[0, 0]], [[8, 50]], [[0, 1001]]]}),
        ("finished: 3 in the last sample, 2 of all calls", {"finished": [0, 1, 3]}),
        ("generated_tokens: 6", {"generated_tokens": [0, 3, 6]}),
        ("samples are in order of time", {"time_ns": [0, 5e9, 4e9]}),
    ],
)
def test_samples_that_break_a_law_are_told(law, changes):
    run = by_hand()
    (name, values) = next(iter(changes.items()))
    values = np.array(values, float).reshape(run.samples[name].shape)
    with pytest.raises(BrokenLaw, match=law):
        check_run(dataclasses.replace(run, samples={**run.samples, name: values}))


@pytest.mark.parametrize(
    ("law", "changes"),
    [
        ("engines work", {"engine_parts_ns": dict.fromkeys(ENGINE_PARTS, 2e9)}),
        ("these parts alone", {"engine_parts_ns": {"linear_ns": 1.0}}),
        ("traffic is of tier", {"traffic_bytes": {"dram": 1}}),
        ("busy times are of", {"busy_ns": {"tier.ssd.read": 1.0}}),
        ("no negative bytes", {"traffic_bytes": {"tier.ssd.read": -1}}),
    ],
)
def test_an_engine_that_breaks_a_law_is_told(law, changes):
    with pytest.raises(BrokenLaw, match=law):
        check_run(dataclasses.replace(by_hand(), **changes))


def test_made_up_runs_move_whole_blocks():
    run = made_up_run()
    assert all(size % BLOCK_BYTES == 0 for size in run.traffic_bytes.values())
