"""Records of serving runs made up for tests: the sums of calls, tokens, times and blocks are all right."""

from __future__ import annotations

import dataclasses

import numpy as np

from sim.serving import record
from sim.serving.options import Cluster, ServingOptions, Slo
from sim.serving.record import COMPLETED, ENGINE_PARTS, PARTS, REJECTED, SAMPLED, Histogram, ServingRun

BLOCK_TOKENS, BLOCK_BYTES = 16, 2 << 20
CAPACITY = (640, 4000, 100_000)


def made_up_run(calls: int = 400, seed: int = 1, tiers: tuple[str, ...] = ("hbm", "dram", "ssd"), rejected: int = 3):
    """A run of these tiers in which KV blocks are scarce in the middle third and the engine idles in the last."""
    rng = np.random.default_rng(seed)
    columns = _calls(rng, calls, len(tiers), rejected)
    duration_ns = float(np.nanmax(columns["finish_ns"]))
    return ServingRun(
        calls=columns,
        samples=_samples(columns, duration_ns, len(tiers)),
        gaps=_gaps(columns),
        iterations=4 * calls,
        tiers=tiers,
        tier_capacity_blocks=CAPACITY[: len(tiers)],
        block_bytes=BLOCK_BYTES,
        block_tokens=BLOCK_TOKENS,
        tier_counts={
            tier: {"evictions": 1000 * at, "insertions": 1500 * at, "refused": 0} for at, tier in enumerate(tiers)
        },
        traffic_bytes=_traffic(columns, tiers),
        busy_ns={f"tier.{tier}": 0.1 * at * duration_ns for at, tier in enumerate(tiers)}
        | ({"link.pcie.up": 0.2 * duration_ns, "link.pcie.down": 0.1 * duration_ns} if len(tiers) > 1 else {}),
        loads={"loads": 40, "loaded_tokens": 9000, "failed": 1, "stores": 50, "stored_bytes": 1 << 30},
        engine_parts_ns=dict(zip(ENGINE_PARTS, (_engine_shares(1.0) * duration_ns).tolist(), strict=True)),
        duration_ns=duration_ns,
        facts={"system": "dgx_h100_cxl_ssd", "model": "llama31_8b", "gpu": "h100_sxm_80g", "trace": "made up"},
    )


def made_up_scenario(tiers: tuple[str, ...] = ("hbm", "dram", "ssd")) -> dict:
    """A scenario in plain data, as `ServingScenario.resolved` gives it."""
    options = dataclasses.asdict(ServingOptions())
    settings = {key: options["tiers"][0][key] for key in ("capacity_bytes", "evict_trigger", "evict_ratio")}
    choices = {"eviction": {"policy": "lru"}, "admission": {"policy": "always"}, "offload": {"policy": "write_through"}}
    plain = {name: value for name, value in options.items() if name not in ("tiers", "allocator", "scheduling")}
    return {
        "name": "made up",
        "description": "a test",
        "system": "dgx_h100_cxl_ssd",
        "overrides": {},
        "workload": {"trace": "none"},
        "serving": {
            **{"model": "llama31_8b", "gpu": "a100_sxm_80g", "kernels": "a100_sxm_80g", "preset": None},
            "options": {**plain, "allocator": {"policy": "first_fit"}, "scheduling": {"policy": "fcfs"}},
            "tiers": {tier: {**settings, **choices} for tier in tiers},
            "cluster": {**dataclasses.asdict(Cluster()), "shared": []},
            "slo": dataclasses.asdict(Slo()),
        },
        "monitor_every_ns": None,
        "compare": ["lru"],
        "seed": 1,
    }


def without_calls(run: ServingRun) -> ServingRun:
    return changed(run, **{name: column[:0] for name, column in run.calls.items()})


def changed(run: ServingRun, **columns) -> ServingRun:
    """The run with other columns of calls."""
    return dataclasses.replace(run, calls={**run.calls, **columns})


def _calls(rng, n: int, tiers: int, rejected: int) -> dict[str, np.ndarray]:
    arrival_ns = np.cumsum(rng.exponential(2e8, n))
    blocks = rng.integers(1, 40, n)
    inputs = blocks * BLOCK_TOKENS + rng.integers(1, BLOCK_TOKENS, n)
    hits = np.zeros((n, tiers), np.int64)
    for tier in range(tiers):
        hits[:, tier] = rng.integers(0, blocks // tiers + 1) * BLOCK_TOKENS
    outputs = rng.integers(1, 200, n)
    parts = rng.exponential(1.0, (n, len(PARTS))) * np.array([8e7, 4e7, 1e6, 2e7, 1e8, 0, 5e6, 1e7, 0])
    parts[: n // 3, record.BLOCK_WAIT] = 0
    parts[n // 3 : 2 * n // 3, record.BLOCK_WAIT] *= 20
    parts[outputs > 1, record.DECODE] = (outputs * rng.uniform(1e7, 2e7, n))[outputs > 1]
    refused = rng.choice(n, rejected, replace=False)
    first_token = arrival_ns + parts.sum(axis=1) - parts[:, record.DECODE]
    columns = {
        "arrival_ns": arrival_ns,
        "first_scheduled_ns": arrival_ns + parts[:, record.QUEUE] + parts[:, record.BLOCK_WAIT],
        "first_token_ns": first_token,
        "finish_ns": first_token + parts[:, record.DECODE],
        "input_tokens": inputs,
        "output_tokens": outputs,
        "generated_tokens": outputs.copy(),
        "computed_tokens": inputs - hits.sum(axis=1),
        "recomputed_tokens": np.where(parts[:, record.PREEMPTED] > 2e7, inputs, 0),
        "preemptions": (parts[:, record.PREEMPTED] > 2e7).astype(np.int64),
        "status": np.zeros(n, np.int8),
        "reason": np.zeros(n, np.int8),
        "replica": np.zeros(n, np.int16),
        "hit_tokens": hits,
        "parts_ns": parts,
    }
    columns["status"][refused], columns["reason"][refused] = REJECTED, record.LONGER_THAN_MODEL
    for name in ("first_scheduled_ns", "first_token_ns", "finish_ns"):
        columns[name][refused] = np.nan
    for name in ("generated_tokens", "computed_tokens", "recomputed_tokens", "preemptions", "hit_tokens", "parts_ns"):
        columns[name][refused] = 0
    return columns


def _engine_shares(done: float) -> np.ndarray:
    """Time in each part by a share of the run, as a share of all of it: busy two thirds of it, then a tenth."""
    busy = min(done, 2 / 3) + 0.1 * max(0.0, done - 2 / 3)
    return busy * np.array([0.5, 0.12, 0.15, 0.05, 0.06, 0.04, 0.02])


def _samples(calls, duration_ns: float, tiers: int) -> dict[str, np.ndarray]:
    time_ns = np.linspace(0, duration_ns, 121)
    samples = {name: np.zeros((time_ns.size, 1)) for name in SAMPLED}
    done = calls["status"] == COMPLETED

    def up_to(column: str, weights=None) -> np.ndarray:
        at = np.sort(calls[column][done])
        counts = np.ones(at.size) if weights is None else weights[done][np.argsort(calls[column][done])]
        return np.concatenate([[0], np.cumsum(counts)])[np.searchsorted(at, time_ns, side="right")][:, None]

    samples["running"] = up_to("first_scheduled_ns") - up_to("finish_ns")
    samples["waiting"] = up_to("arrival_ns") - up_to("first_scheduled_ns")
    samples["finished"] = up_to("finish_ns")
    samples["generated_tokens"] = up_to("finish_ns", calls["generated_tokens"])
    samples["prompt_tokens_computed"] = up_to("first_token_ns", calls["computed_tokens"])
    samples["preemptions"] = up_to("first_token_ns", calls["preemptions"])
    samples["batched_sequences"] = samples["running"].copy()
    samples["batched_tokens"] = samples["running"] * 30
    scarce = (time_ns > duration_ns / 3) & (time_ns < 2 * duration_ns / 3)
    used = np.where(scarce, CAPACITY[0] - 2, np.minimum(CAPACITY[0] // 2, 20 * samples["running"][:, 0]))
    used[-1] = 0
    samples["kv_blocks_in_use"][:, 0] = used
    samples["kv_blocks_cached"][:, 0] = (CAPACITY[0] - used) // 2
    samples["kv_waste_internal_tokens"] = samples["running"] * BLOCK_TOKENS / 2
    samples["kv_duplicated_blocks"] = samples["running"] // 4
    filling = np.minimum(1.0, time_ns / duration_ns * 1.5)
    samples["time_ns"] = time_ns
    held = (
        np.array([np.minimum(CAPACITY[at], 9000 * filling) for at in range(1, tiers)])
        .reshape(tiers - 1, time_ns.size)
        .T
    )
    g1 = used[:, None] + samples["kv_blocks_cached"]
    samples["tier_blocks"] = np.concatenate([g1, held], axis=1)[:, None, :]
    done_share = time_ns / duration_ns
    samples["engine_parts_ns"] = duration_ns * np.array([[_engine_shares(share)] for share in done_share])
    samples["link_bytes"] = np.zeros((time_ns.size, 0))
    return samples


def _gaps(calls) -> Histogram:
    tokens = np.maximum(calls["generated_tokens"] - 1, 0)
    low_ns, ratio = 1e5, 1.02
    gap_ns = np.divide(calls["parts_ns"][:, record.DECODE], tokens, out=np.full(tokens.size, low_ns), where=tokens > 0)
    bins = np.floor(np.log(gap_ns / low_ns) / np.log(ratio)).astype(int)
    counts = np.bincount(bins, weights=tokens, minlength=400).astype(np.int64)
    return Histogram(low_ns, ratio, counts, float((gap_ns * tokens).sum()))


def _traffic(calls, tiers) -> dict[str, int]:
    blocks = calls["hit_tokens"].sum(axis=0) // BLOCK_TOKENS
    traffic = {f"tier.{tier}.read": int(blocks[at]) * BLOCK_BYTES for at, tier in enumerate(tiers)}
    traffic |= {f"tier.{tier}.write": 700 * BLOCK_BYTES for tier in tiers}
    if len(tiers) > 1:
        traffic |= {"link.pcie.up": int(blocks[1:].sum()) * BLOCK_BYTES, "link.pcie.down": 700 * BLOCK_BYTES}
    return traffic
