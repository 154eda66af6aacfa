"""What a serving run is scored on: each metric declared once, with its unit and which direction is better.

Names with `{tier}` or `{link}` stand for one metric a tier or link. `summarise` gives every metric that can be told, in
declared order; `left_out` says of each other one why it cannot.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.metrics import HIGHER, LOWER, NEITHER, Metric, declared, ratio, time_mean
from sim.serving.options import Slo
from sim.serving.record import COMPLETED, ENGINE_PARTS, PARTS, REJECTED, ServingRun

if TYPE_CHECKING:
    from sim.profile import Device, Profile

_SECOND_NS = 1e9
_HOUR_NS = 3600 * _SECOND_NS
_DAY_NS = 24 * _HOUR_NS
_DAYS_A_YEAR = 365.0
_PJ = 1e-12
_MILLION = 1e6
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
TIMES = {
    "ttft": "time to the first token: from a call's arrival",
    "tpot": "time per output token after the first, of calls with more than one: (end - first token) / (tokens - 1)",
    "itl": "gap between two tokens of a call, each gap counted once",
    "latency": "time from a call's arrival to its last token",
}
_STALLS = ("load_stall_ns", "store_stall_ns")  # of ENGINE_PARTS, in which no kernel runs
COUNTS = {
    "lookups": (NEITHER, "blocks looked up in the tier"),
    "hits": (HIGHER, "of these, blocks found there"),
    "insertions": (NEITHER, "blocks placed in the tier"),
    "evictions": (LOWER, "blocks that its eviction policy gave up"),
    "promotions": (NEITHER, "blocks of the tier copied up because a call needed them"),
    "demotions": (NEITHER, "victims of the tier above placed in the tier"),
    "dropped": (NEITHER, "victims of the tier that no tier below took"),
    "refused": (NEITHER, "blocks that the admission or the eviction policy refused"),
    "copies": (NEITHER, "blocks copied into the tier while they stayed above"),
    "prefetches": (NEITHER, "blocks fetched into the tier before they were needed"),
    "writebacks": (LOWER, "blocks of the tier written below before they could leave"),
}


def _distribution(name: str, meaning: str) -> tuple[Metric, ...]:
    return (
        Metric(f"{name}_mean_ns", "ns", LOWER, f"mean {meaning}"),
        *(
            Metric(f"{name}_{quantile}_ns", "ns", LOWER, f"what {100 * share:g} % do not exceed: {meaning}")
            for quantile, share in QUANTILES.items()
        ),
    )


_PART_MEANINGS = {
    "queue_ns": "waiting that the scheduler did not get to: earlier calls, the token budget, the sequence limit",
    "block_wait_ns": "waiting at the head of the queue for free KV blocks",
    "prefetch_wait_ns": "waiting for a prefetch that its policy insists on",
    "load_ns": "loading its prefix from lower tiers",
    "prefill_ns": "in iterations that compute its prompt",
    "decode_ns": "in iterations that generate its tokens",
    "stall_ns": "iterations waiting for copies of KV blocks",
    "preempted_ns": "from a preemption until it runs again",
    "transfer_ns": "its KV cache moving to the engine that decodes",
}

_CALLS = (
    Metric("calls", "1", NEITHER, "calls of the workload"),
    Metric("completed", "1", HIGHER, "calls answered in full"),
    Metric("rejected", "1", LOWER, "calls refused, each with a reason"),
    Metric("makespan_s", "s", LOWER, "from the first arrival to the last token"),
)
_LATENCIES = tuple(metric for name, meaning in TIMES.items() for metric in _distribution(name, meaning))
_PART_MEANS = tuple(
    Metric(name.replace("_ns", "_mean_ns"), "ns", LOWER, f"part of the mean latency: {_PART_MEANINGS[name]}")
    for name in PARTS
)
_THROUGHPUT = (
    Metric("good_calls_per_s", "1/s", HIGHER, "calls that met the SLO, a second of the makespan"),
    Metric("good_share", "1", HIGHER, "share of all calls that met the SLO; a rejected call did not"),
    Metric("calls_per_s", "1/s", HIGHER, "calls completed, a second of the makespan"),
    Metric("prompt_tokens_per_s", "1/s", HIGHER, "prompt tokens of completed calls, found or computed, a second"),
    Metric("generated_tokens_per_s", "1/s", HIGHER, "tokens generated for completed calls, a second"),
    Metric("tokens_per_s", "1/s", HIGHER, "the sum of these two"),
)
_PREFIX = (
    Metric("prompt_tokens", "1", NEITHER, "prompt tokens of completed calls"),
    Metric("hit_tokens", "1", HIGHER, "of these, tokens whose keys and values were found in any tier"),
    Metric("hit_token_share", "1", HIGHER, "the same as a share of the prompt tokens"),
    Metric("block_hit_ratio", "1", HIGHER, "share of the blocks of all prompts, last partial ones included, found"),
)
_WORK = (
    Metric("computed_tokens", "1", LOWER, "prompt tokens computed at first"),
    Metric("recomputed_tokens", "1", LOWER, "tokens computed again after a preemption or a failed load"),
    Metric("preemptions", "1", LOWER, "times that a running call lost its blocks"),
    Metric("preempted_calls", "1", LOWER, "calls to which that happened"),
    Metric("iterations", "1", NEITHER, "iterations of all engines"),
    Metric("tokens_per_iteration", "1", NEITHER, "tokens computed / iterations"),
    Metric("batch_sequences_mean", "1", NEITHER, "sequences of an iteration, time-weighted mean of the samples"),
    Metric("batch_sequences_max", "1", NEITHER, "the same, most of all samples"),
    Metric("running_mean", "1", NEITHER, "calls running in all engines, time-weighted mean"),
    Metric("waiting_mean", "1", LOWER, "calls waiting in all engines, time-weighted mean"),
    Metric("waiting_max", "1", LOWER, "the same, most of all samples"),
)
_ENGINE = (
    *(
        Metric(f"engine.{name.removesuffix('_ns')}_share", "1", NEITHER, f"share of the engines' time: {meaning}")
        for name, meaning in zip(
            ENGINE_PARTS,
            (
                "linear layers and what goes with them",
                "attention of prefill",
                "attention of decoding",
                "the head and sampling",
                "the host program's overhead",
                "iterations waiting for loads",
                "iterations waiting until evicted blocks had been copied away",
            ),
            strict=True,
        )
    ),
    Metric("engine.idle_share", "1", NEITHER, "share of the engines' time: no iteration"),
)
_KV = (
    Metric("kv_occupancy_mean", "1", NEITHER, "share of G1's blocks in calls' use, time-weighted mean"),
    Metric("kv_occupancy_max", "1", NEITHER, "the same, most of all samples"),
    Metric("kv_cached_mean", "1", NEITHER, "share of G1's blocks that are cached and in nobody's use, time mean"),
    Metric("kv_waste_internal", "1", LOWER, "share of G1 allocated for the rest of calls' last blocks, time mean"),
    Metric("kv_waste_reserved", "1", LOWER, "share of G1 reserved for tokens that are not there yet, time mean"),
    Metric("kv_waste_external", "1", LOWER, "share of G1 free, but in no piece that would fit, time mean"),
    Metric("kv_waste_duplicated", "1", LOWER, "share of G1 that holds blocks a second time, time mean"),
)
_LOADS = (
    Metric("loads", "1", NEITHER, "loads of prefixes from lower tiers"),
    Metric("loaded_tokens", "1", NEITHER, "tokens that they brought"),
    Metric("recomputed_instead_tokens", "1", NEITHER, "tokens computed again because a load would have taken longer"),
    Metric("failed_loads", "1", LOWER, "loads that failed"),
    Metric("stores", "1", NEITHER, "blocks copied to lower tiers"),
    Metric("stored_bytes", "B", LOWER, "bytes of these"),
)
_TIER = (
    Metric("tier.{tier}.hit_tokens", "1", NEITHER, "prompt tokens of completed calls found in this tier first"),
    Metric("tier.{tier}.hit_token_share", "1", NEITHER, "the same as a share of all prompt tokens"),
    Metric("tier.{tier}.occupancy_mean", "1", NEITHER, "share of its blocks that hold something, time-weighted mean"),
    Metric("tier.{tier}.occupancy_max", "1", NEITHER, "the same, most of all samples"),
    *(Metric(f"tier.{{tier}}.{name}", "1", better, meaning) for name, (better, meaning) in COUNTS.items()),
    Metric("tier.{tier}.read_bytes", "B", LOWER, "bytes of KV blocks read from the device"),
    Metric("tier.{tier}.write_bytes", "B", LOWER, "bytes of KV blocks written to the device"),
    Metric("tier.{tier}.utilisation", "1", NEITHER, "share of the time that copies held the device"),
    Metric("tier.{tier}.written_bytes_per_day", "B/d", LOWER, "bytes written to the drive, at this run's rate"),
    Metric(
        "tier.{tier}.endurance_years", "a", HIGHER, "until the drive has written what it is rated for, if only this"
    ),
)
_LINK = (
    Metric("link.{link}.up_bytes", "B", LOWER, "bytes of KV blocks towards the accelerator"),
    Metric("link.{link}.down_bytes", "B", LOWER, "bytes of KV blocks away from the accelerator"),
    Metric("link.{link}.up_utilisation", "1", NEITHER, "share of the time that the way up was held"),
    Metric("link.{link}.down_utilisation", "1", NEITHER, "share of the time that the way down was held"),
)
_TOTALS = (
    Metric("bytes_moved", "B", LOWER, "bytes of KV blocks over all links, both ways"),
    Metric(
        "accelerator_energy_j",
        "J",
        LOWER,
        "board power of all accelerators while iterations run, and a share of it when idle, where that is known",
    ),
    Metric("tier_energy_j", "J", LOWER, "of copies in all tiers below G1 and links, and of these at rest, by capacity"),
    Metric("energy_j_per_million_tokens", "J", LOWER, "both, for a million tokens, prompt and generated"),
    Metric("accelerator_usd_per_hour", "$/h", LOWER, "price of all accelerators"),
    Metric("tier_usd_per_hour", "$/h", LOWER, "price of the capacity of all tiers below G1, and of links"),
    Metric("cost_usd_per_million_tokens", "$", LOWER, "both, for a million tokens, prompt and generated"),
)

METRICS = (
    *(*_CALLS, *_LATENCIES, *_PART_MEANS, *_THROUGHPUT, *_PREFIX, *_WORK, *_ENGINE, *_KV, *_LOADS),
    *(*_TIER, *_LINK, *_TOTALS),
)

# What every run tells, unless its manifest says why not.
ALWAYS = tuple(metric.name for metric in METRICS if "{" not in metric.name)


def declaration(name: str) -> Metric:
    """What the metric of this name in a summary is. Raises InputError for an unknown name, with the nearest."""
    return declared(name, _by_name())


@functools.cache
def _by_name() -> dict[str, Metric]:
    return {metric.name: metric for metric in METRICS}


# --- what a run does not know ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accelerators:
    """What a run's accelerators take. per_engine: as many hold a model together; power_w: of one board under load;
    usd_per_hour: of one; idle_share: of its power that it takes when idle. None: not known.
    """

    per_engine: int = 1
    power_w: float | None = None
    usd_per_hour: float | None = None
    idle_share: float | None = None


# --- summary ---------------------------------------------------------------------------------------------------------


def summarise(
    run: ServingRun,
    slo: Slo | None = None,
    accelerators: Accelerators | None = None,
    profile: Profile | None = None,
    shared: tuple[str, ...] = (),
) -> dict[str, float | int]:
    """Every metric of the run that can be told, by name, in declared order. A ratio of nothing to nothing is 0.

    profile: of the tiers' devices; without one nothing is told that needs it. shared: tiers of which all engines have
    one together. Sizes of a run are one accelerator's share, so that what all take together is so many times as much.
    """
    values = _values(run, slo or Slo(), accelerators or Accelerators(), profile, shared)
    return {name: value for name in _names(run) if not math.isnan(value := values.get(name, math.nan))}


def left_out(
    run: ServingRun,
    summary: Mapping[str, float],
    accelerators: Accelerators | None = None,
    profile: Profile | None = None,
) -> dict[str, str]:
    """Why each metric that is not in the summary of this run cannot be told; given what the summary was made from."""
    accelerators = accelerators or Accelerators()
    return {name: _reason(name, run, accelerators, profile) for name in _names(run) if name not in summary}


def _names(run: ServingRun) -> list[str]:
    """Of all metrics that a run of these tiers and links could have."""
    names = [metric.name for metric in METRICS if "{" not in metric.name]
    at = names.index("bytes_moved")
    tiers = [metric.name.format(tier=tier) for tier in run.tiers for metric in _TIER]
    links = [metric.name.format(link=link) for link in links_of(run) for metric in _LINK]
    return [*names[:at], *tiers, *links, *names[at:]]


def links_of(run: ServingRun) -> list[str]:
    """Names of the links that the run knows of, in order of first mention."""
    names = [name.split(".")[1] for name in run.traffic_bytes if name.startswith("link.")]
    return list(dict.fromkeys(names))


def _values(run: ServingRun, slo: Slo, accelerators: Accelerators, profile, shared) -> dict[str, float | int]:
    done = run.calls["status"] == COMPLETED
    calls = {name: column[done] for name, column in run.calls.items()}
    makespan_ns = _makespan_ns(run)
    values: dict[str, float | int] = {
        "calls": int(done.size),
        "completed": int(done.sum()),
        "rejected": int(np.count_nonzero(run.calls["status"] == REJECTED)),
        "makespan_s": makespan_ns / _SECOND_NS,
        **_latencies(calls, run),
        **_throughput(calls, int(done.size), slo, makespan_ns),
        **_prefix(calls, run),
        **_work(run),
        **_engine(run),
        **_kv(run),
        **_loads(run),
        **_tiers(run, profile),
        **_links(run),
    }
    return values | _totals(run, values, accelerators, profile, shared)


def _makespan_ns(run: ServingRun) -> float:
    finish_ns = run.calls["finish_ns"][run.calls["status"] == COMPLETED]
    return float(finish_ns.max() - run.calls["arrival_ns"].min()) if finish_ns.size else 0.0


def ttft_ns(calls: Mapping[str, np.ndarray]) -> np.ndarray:
    """float64[n] from arrival to the first token; NaN where there is none."""
    return calls["first_token_ns"] - calls["arrival_ns"]


def tpot_ns(calls: Mapping[str, np.ndarray]) -> np.ndarray:
    """float64[n] mean gap between a call's tokens; NaN where it has fewer than two."""
    gaps = calls["generated_tokens"] - 1
    took_ns = calls["finish_ns"] - calls["first_token_ns"]
    return np.divide(took_ns, gaps, out=np.full(gaps.size, np.nan), where=gaps > 0)


def latency_ns(calls: Mapping[str, np.ndarray]) -> np.ndarray:
    """float64[n] from arrival to the last token; NaN where it never came."""
    return calls["finish_ns"] - calls["arrival_ns"]


def _latencies(calls: Mapping[str, np.ndarray], run: ServingRun) -> dict[str, float]:
    tpot = tpot_ns(calls)
    means = calls["parts_ns"].mean(axis=0) if len(calls["parts_ns"]) else np.full(len(PARTS), np.nan)
    return {
        **_ranked("ttft", ttft_ns(calls)),
        **_ranked("tpot", tpot[~np.isnan(tpot)]),
        "itl_mean_ns": run.gaps.mean_ns,
        **{f"itl_{name}_ns": float(run.gaps.quantile(share)) for name, share in QUANTILES.items()},
        **_ranked("latency", latency_ns(calls)),
        **{name.replace("_ns", "_mean_ns"): float(mean) for name, mean in zip(PARTS, means, strict=True)},
    }


def _ranked(name: str, times_ns: np.ndarray) -> dict[str, float]:
    """Mean and percentiles; a percentile is the time of a call, not a mean of two."""
    if times_ns.size == 0:
        return {}
    ranked = np.quantile(times_ns, list(QUANTILES.values()), method="inverted_cdf")
    quantiles = {f"{name}_{quantile}_ns": float(value) for quantile, value in zip(QUANTILES, ranked, strict=True)}
    return {f"{name}_mean_ns": float(times_ns.mean()), **quantiles}


def _throughput(calls, asked: int, slo: Slo, makespan_ns: float) -> dict[str, float]:
    seconds = makespan_ns / _SECOND_NS
    prompt, generated = int(calls["input_tokens"].sum()), int(calls["generated_tokens"].sum())
    values = {
        "calls_per_s": ratio(calls["status"].size, seconds),
        "prompt_tokens_per_s": ratio(prompt, seconds),
        "generated_tokens_per_s": ratio(generated, seconds),
        "tokens_per_s": ratio(prompt + generated, seconds),
    }
    if slo == Slo():
        return values
    good = int(is_good(calls, slo).sum())
    return {**values, "good_calls_per_s": ratio(good, seconds), "good_share": ratio(good, asked)}


def is_good(calls: Mapping[str, np.ndarray], slo: Slo) -> np.ndarray:
    """bool[n] whether each completed call met both bounds; one of a single token has no time per output token."""
    good = np.ones(calls["status"].size, bool)
    if slo.ttft_ns is not None:
        good &= ttft_ns(calls) <= slo.ttft_ns
    if slo.tpot_ns is not None:
        tpot = tpot_ns(calls)
        good &= np.isnan(tpot) | (tpot <= slo.tpot_ns)
    return good


def _prefix(calls, run: ServingRun) -> dict[str, float | int]:
    hits, prompt = calls["hit_tokens"].sum(axis=1), int(calls["input_tokens"].sum())
    blocks = -(-calls["input_tokens"] // run.block_tokens)
    found = -(-hits // run.block_tokens)
    values: dict[str, float | int] = {
        "prompt_tokens": prompt,
        "hit_tokens": int(hits.sum()),
        "hit_token_share": ratio(int(hits.sum()), prompt),
        "block_hit_ratio": ratio(int(found.sum()), int(blocks.sum())),
    }
    for at, tier in enumerate(run.tiers):
        own = int(calls["hit_tokens"][:, at].sum())
        values |= {f"tier.{tier}.hit_tokens": own, f"tier.{tier}.hit_token_share": ratio(own, prompt)}
    return values


def _work(run: ServingRun) -> dict[str, float | int]:
    """Of all calls, rejected ones included: a load may fail after something was computed."""
    calls, samples, time_ns = run.calls, run.samples, run.samples["time_ns"]
    computed, recomputed = int(calls["computed_tokens"].sum()), int(calls["recomputed_tokens"].sum())
    decoded = int(np.maximum(calls["generated_tokens"] - 1, 0).sum())  # the first token comes with the prompt's last
    sequences, waiting = samples["batched_sequences"], samples["waiting"].sum(axis=1)
    return {
        "computed_tokens": computed,
        "recomputed_tokens": recomputed,
        "preemptions": int(calls["preemptions"].sum()),
        "preempted_calls": int(np.count_nonzero(calls["preemptions"])),
        "iterations": int(run.iterations),
        "tokens_per_iteration": ratio(computed + recomputed + decoded, run.iterations),
        "batch_sequences_mean": time_mean(time_ns, sequences.mean(axis=1)),
        "batch_sequences_max": float(sequences.max(initial=0.0)),
        "running_mean": time_mean(time_ns, samples["running"].sum(axis=1)),
        "waiting_mean": time_mean(time_ns, waiting),
        "waiting_max": float(waiting.max(initial=0.0)),
    }


def _engine(run: ServingRun) -> dict[str, float]:
    whole_ns = run.duration_ns * run.replicas
    shares = {name: ratio(run.engine_parts_ns[name], whole_ns) for name in ENGINE_PARTS}
    values = {f"engine.{name.removesuffix('_ns')}_share": share for name, share in shares.items()}
    return {**values, "engine.idle_share": max(0.0, 1 - sum(shares.values()))}


def kv_shares(run: ServingRun) -> dict[str, np.ndarray]:
    """float64[s] shares of all engines' G1 at each sample: in use, cached, and wasted in four ways."""
    blocks = run.tier_capacity_blocks[0] * run.replicas
    tokens = blocks * run.block_tokens
    whole = {
        "in_use": ("kv_blocks_in_use", blocks),
        "cached": ("kv_blocks_cached", blocks),
        "internal": ("kv_waste_internal_tokens", tokens),
        "reserved": ("kv_waste_reserved_tokens", tokens),
        "external": ("kv_waste_external_tokens", tokens),
        "duplicated": ("kv_duplicated_blocks", blocks),
    }
    return {name: run.samples[column].sum(axis=1) / max(1, most) for name, (column, most) in whole.items()}


def _kv(run: ServingRun) -> dict[str, float]:
    shares, time_ns = kv_shares(run), run.samples["time_ns"]
    waste = ("internal", "reserved", "external", "duplicated")
    return {
        "kv_occupancy_mean": time_mean(time_ns, shares["in_use"]),
        "kv_occupancy_max": float(shares["in_use"].max(initial=0.0)),
        "kv_cached_mean": time_mean(time_ns, shares["cached"]),
        **{f"kv_waste_{name}": time_mean(time_ns, shares[name]) for name in waste},
    }


def _loads(run: ServingRun) -> dict[str, float]:
    names = {metric.name: metric.name for metric in _LOADS} | {"failed_loads": "failed"}
    return {name: run.loads[key] for name, key in names.items() if key in run.loads}


def _tiers(run: ServingRun, profile: Profile | None) -> dict[str, float | int]:
    values: dict[str, float | int] = {}
    for at, tier in enumerate(run.tiers):
        held = run.samples["tier_blocks"][:, :, at].mean(axis=1) / max(1, run.tier_capacity_blocks[at])
        own = {
            **_declared_counts(run.tier_counts.get(tier, {})),
            "occupancy_mean": time_mean(run.samples["time_ns"], held),
            "occupancy_max": float(held.max(initial=0.0)),
            "read_bytes": run.traffic_bytes.get(f"tier.{tier}.read", 0),
            "write_bytes": run.traffic_bytes.get(f"tier.{tier}.write", 0),
            "utilisation": ratio(run.busy_ns.get(f"tier.{tier}", 0.0), run.duration_ns),
            **_wear(run, tier, _device(profile, tier)),
        }
        values |= {f"tier.{tier}.{name}": value for name, value in own.items()}
    return values


def _declared_counts(counts: Mapping[str, int]) -> Mapping[str, int]:
    unknown = counts.keys() - COUNTS.keys()
    if unknown:
        raise LookupError(
            f"counts of a tier that are not declared in sim.serving.metrics: {', '.join(sorted(unknown))}"
        )
    return counts


def _device(profile: Profile | None, tier: str) -> Device | None:
    return None if profile is None else profile.tier(tier).device


def _wear(run: ServingRun, tier: str, device: Device | None) -> dict[str, float]:
    """Of a drive: JEDEC's terabytes written count what the host writes, so the drive's own copies are in the rating."""
    if device is None or device.kind not in ("ssd", "csd"):
        return {}
    per_day = ratio(run.traffic_bytes.get(f"tier.{tier}.write", 0), run.duration_ns) * _DAY_NS
    if device.endurance_bytes is None or not per_day:
        return {"written_bytes_per_day": per_day}
    return {"written_bytes_per_day": per_day, "endurance_years": device.endurance_bytes / per_day / _DAYS_A_YEAR}


def _links(run: ServingRun) -> dict[str, float | int]:
    values: dict[str, float | int] = {}
    for link in links_of(run):
        for way in ("up", "down"):
            values[f"link.{link}.{way}_bytes"] = run.traffic_bytes.get(f"link.{link}.{way}", 0)
            values[f"link.{link}.{way}_utilisation"] = ratio(
                run.busy_ns.get(f"link.{link}.{way}", 0.0), run.duration_ns
            )
    return values


# --- energy and price ------------------------------------------------------------------------------------------------


def _totals(run: ServingRun, values, accelerators: Accelerators, profile, shared) -> dict[str, float]:
    moved = sum(size for name, size in run.traffic_bytes.items() if name.startswith("link."))
    energy = {
        "accelerator_energy_j": _accelerator_energy_j(run, accelerators),
        "tier_energy_j": _tier_energy_j(run, accelerators.per_engine, profile, shared),
    }
    cost = {
        "accelerator_usd_per_hour": _accelerator_usd_per_hour(run, accelerators),
        "tier_usd_per_hour": _tier_usd_per_hour(run, accelerators.per_engine, profile, shared),
    }
    tokens = values["tokens_per_s"] * values["makespan_s"]
    hours = run.duration_ns / _HOUR_NS
    return {
        "bytes_moved": moved,
        **energy,
        "energy_j_per_million_tokens": sum(energy.values()) / tokens * _MILLION if tokens else math.nan,
        **cost,
        "cost_usd_per_million_tokens": sum(cost.values()) * hours / tokens * _MILLION if tokens else math.nan,
    }


def _accelerator_energy_j(run: ServingRun, accelerators: Accelerators) -> float:
    if accelerators.power_w is None:
        return math.nan
    busy_ns = sum(took_ns for name, took_ns in run.engine_parts_ns.items() if name not in _STALLS)
    idle_ns = run.duration_ns * run.replicas - busy_ns
    powered_ns = busy_ns + (accelerators.idle_share or 0.0) * idle_ns
    return accelerators.power_w * accelerators.per_engine * powered_ns / _SECOND_NS


def _accelerator_usd_per_hour(run: ServingRun, accelerators: Accelerators) -> float:
    if accelerators.usd_per_hour is None:
        return math.nan
    return accelerators.usd_per_hour * accelerators.per_engine * run.replicas


def _capacities(run: ServingRun, per_engine: int, profile: Profile, shared) -> list[tuple[Device, float]]:
    """(device, so many of it) of each tier below G1: a tier takes a share of its device, which others may use, too."""
    found = []
    for tier, blocks in list(zip(run.tiers, run.tier_capacity_blocks, strict=True))[1:]:
        device = profile.tier(tier).device
        share = blocks * run.block_bytes / device.capacity_bytes
        found.append((device, share * per_engine * (1 if tier in shared else run.replicas)))
    return found


def _links_below(run: ServingRun, profile: Profile) -> list[str]:
    return list(dict.fromkeys(link for tier in run.tiers[1:] for link in profile.tier(tier).path))


def _tier_energy_j(run: ServingRun, per_engine: int, profile: Profile | None, shared) -> float:
    if profile is None:
        return math.nan
    moved_pj = 0.0
    for tier in run.tiers[1:]:
        device, ways = profile.tier(tier).device, [f"tier.{tier}.{way}" for way in ("read", "write")]
        read, written = (run.traffic_bytes.get(way, 0) for way in ways)
        moved_pj += 8 * (read * device.read_pj_per_bit + written * device.write_pj_per_bit)
    links = _links_below(run, profile)
    for link in links:
        part, ways = profile.links[link], [f"link.{link}.{way}" for way in ("up", "down")]
        moved_pj += 8 * part.read_pj_per_bit * sum(run.traffic_bytes.get(way, 0) for way in ways)
    static_w = sum(device.static_w * share for device, share in _capacities(run, per_engine, profile, shared))
    static_w += sum(profile.links[link].static_w for link in links) * per_engine * run.replicas
    return moved_pj * per_engine * _PJ + static_w * run.duration_ns / _SECOND_NS


def _tier_usd_per_hour(run: ServingRun, per_engine: int, profile: Profile | None, shared) -> float:
    if profile is None or _unpriced(run, profile):
        return math.nan
    devices = sum(device.usd_per_hour * share for device, share in _capacities(run, per_engine, profile, shared))
    links = sum(profile.links[link].usd_per_hour for link in _links_below(run, profile))
    return devices + links * per_engine * run.replicas


def _unpriced(run: ServingRun, profile: Profile) -> list[str]:
    return [tier for tier in run.tiers[1:] if profile.tier(tier).device.usd_per_gib_hour is None]


# --- why not ---------------------------------------------------------------------------------------------------------


def _reason(name: str, run: ServingRun, accelerators: Accelerators, profile: Profile | None) -> str:
    """Why this metric of this run cannot be told."""
    part, _, rest = name.partition(".")
    tier = rest.split(".")[0] if part == "tier" else ""
    if part == "tier" and rest.endswith(("written_bytes_per_day", "endurance_years")):
        return _reason_of_wear(run, tier, profile)
    if part == "tier":
        return f"nothing counted this in tier {tier!r}"
    if name.startswith("good_"):
        return "no SLO was given"
    if name in ("accelerator_energy_j", "energy_j_per_million_tokens") and accelerators.power_w is None:
        return "the accelerator's power is not known"
    if name in ("accelerator_usd_per_hour", "cost_usd_per_million_tokens") and accelerators.usd_per_hour is None:
        return "the accelerator's price is not known"
    if name in ("tier_energy_j", "energy_j_per_million_tokens", "tier_usd_per_hour", "cost_usd_per_million_tokens"):
        return _reason_of_tiers(run, profile)
    if name.startswith(("tpot", "itl")):
        return "no call gave two tokens"
    return "the run counted none" if name in {metric.name for metric in _LOADS} else "no call was completed"


def _reason_of_wear(run: ServingRun, tier: str, profile: Profile | None) -> str:
    device = _device(profile, tier)
    if device is None:
        return "no profile was given"
    if device.kind not in ("ssd", "csd"):
        return f"{device.name!r} is no drive"
    if device.endurance_bytes is None:
        return f"the file of {device.name!r} has no endurance"
    return "nothing was written to it"


def _reason_of_tiers(run: ServingRun, profile: Profile | None) -> str:
    if profile is None:
        return "no profile was given"
    unpriced = _unpriced(run, profile)
    return f"tiers without a price: {', '.join(unpriced)}" if unpriced else "no call was completed"
