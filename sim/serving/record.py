"""What a serving run leaves behind: the columns that everything that scores, explains or draws it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

COMPLETED, REJECTED, UNFINISHED = 0, 1, 2  # UNFINISHED is an error at the end of a run, never a result
STATUSES = ("completed", "rejected", "unfinished")

REASONS = ("none", "longer_than_model", "larger_than_kv_cache", "load_failed", "no_tokens", "batch_too_small")
NO_REASON, LONGER_THAN_MODEL, LARGER_THAN_KV, LOAD_FAILED, NO_TOKENS, BATCH_TOO_SMALL = range(len(REASONS))

# Where the time of a call goes. They add up to finish - arrival.
PARTS = (
    "queue_ns",  # waiting, and the scheduler did not get to it: earlier calls, the token budget, the sequence limit
    "block_wait_ns",  # waiting at the head because no KV blocks were free
    "prefetch_wait_ns",  # waiting for a prefetch from a lower tier that its policy insists on
    "load_ns",  # loading its prefix from lower tiers
    "prefill_ns",  # in iterations that compute its prompt, until its first token
    "decode_ns",  # in iterations that generate
    "stall_ns",  # part of iterations in which it took part, but that waited for copies (loads, write-backs)
    "preempted_ns",  # from a preemption until it runs again, recomputing included
    "transfer_ns",  # its KV cache moves from the engine that prefilled to the one that decodes
)
QUEUE, BLOCK_WAIT, PREFETCH_WAIT, LOAD, PREFILL, DECODE, STALL, PREEMPTED, TRANSFER = range(len(PARTS))

# Where the time of the engine goes, summed over iterations; the rest of the duration it was idle.
ENGINE_PARTS = (
    "linear_ns",
    "prefill_attention_ns",
    "decode_attention_ns",
    "head_ns",
    "overhead_ns",
    "load_stall_ns",  # iterations that waited for loads
    "store_stall_ns",  # iterations that waited until evicted blocks had been copied away
)

SAMPLED = (
    "running",
    "waiting",
    "loading",
    "kv_blocks_in_use",  # of G1, by running and loading calls
    "kv_blocks_cached",  # of G1, in nobody's use
    "kv_waste_internal_tokens",  # places of calls' last blocks that hold nothing yet (none where all that a call may
    #   get to is reserved), and, beyond the blocks in use, what an allocator has allocated and its call will not use
    "kv_waste_reserved_tokens",  # for tokens that are not there yet: in blocks in use, and beyond them by an allocator
    "kv_waste_external_tokens",  # free, but not in an allocator's largest piece
    "kv_duplicated_blocks",  # held twice in G1, because two calls computed them at the same time
    "batched_tokens",  # of the last iteration
    "batched_sequences",
    "finished",
    "preemptions",
    "generated_tokens",
    "prompt_tokens_computed",
)


@dataclass(frozen=True)
class Histogram:
    """Gaps between tokens: counts int64[n] in bins of equal ratio, bin i from low_ns * ratio**i on."""

    low_ns: float
    ratio: float
    counts: np.ndarray
    total_ns: float

    def quantile(self, share: float) -> float:
        """ns, in the middle of its bin; NaN where nothing was counted."""
        total = int(self.counts.sum())
        if total == 0:
            return float("nan")
        at = int(np.searchsorted(np.cumsum(self.counts), max(1, int(np.ceil(share * total)))))
        return self.low_ns * self.ratio ** (at + 0.5)

    @property
    def mean_ns(self) -> float:
        total = int(self.counts.sum())
        return self.total_ns / total if total else float("nan")


@dataclass(frozen=True)
class ServingRun:
    """n calls, T tiers, R replicas, s samples.

    calls: columns of n: arrival_ns, first_scheduled_ns, first_token_ns, finish_ns (float64, NaN where it never was),
        input_tokens, output_tokens, generated_tokens, computed_tokens (of the prompt, at first), recomputed_tokens,
        preemptions (int64), status, reason, replica (int8, int8, int16), hit_tokens int64[n, T] by the tier where they
        were found, parts_ns float64[n, len(PARTS)].
    samples: time_ns float64[s]; each of SAMPLED float64[s, R]; tier_blocks float64[s, R, T];
        engine_parts_ns float64[s, R, len(ENGINE_PARTS)] so far; link_bytes float64[s, columns] so far.
    tiers: names; tier_blocks: capacity in blocks; block_bytes, block_tokens.
    tier_counts: by tier, by name: what its policies did (evictions, insertions, promotions, demotions, refused, ...).
    traffic_bytes: by part of the system and direction ("tier.dram.write", "link.pcie.up"), bytes moved;
    busy_ns: by part, how long it was held.
    loads: one number by name: loads (transfers), loaded_tokens, recomputed_instead_tokens (a load would have taken
        longer), failed, stores (blocks copied to lower tiers), stored_bytes; PURPOSE_bytes and PURPOSE_ns for each of
        `network.PURPOSES`; iterations_in_one_go.
    """

    calls: dict[str, np.ndarray]
    samples: dict[str, np.ndarray]
    gaps: Histogram
    iterations: int
    tiers: tuple[str, ...]
    tier_capacity_blocks: tuple[int, ...]
    block_bytes: int
    block_tokens: int
    tier_counts: dict[str, dict[str, int]]
    traffic_bytes: dict[str, int]
    busy_ns: dict[str, float]
    loads: dict[str, float]
    engine_parts_ns: dict[str, float]
    duration_ns: float
    replicas: int = 1
    facts: dict[str, Any] | None = None  # names: system, model, gpu, calibration, trace; digests; options as plain data
