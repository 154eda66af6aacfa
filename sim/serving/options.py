"""What a serving engine is told: every choice that real ones offer, under one name each.

`sim.serving.presets` gives these by the names of the real systems. Tiers are numbered from the accelerator's own
memory, G1, down: `tiers[0]` is G1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sim.choice import Choice

COMMITS = ("chunk", "prompt")  # when a prompt's blocks enter the index: as each chunk is scheduled, or all at admission
ORDERS = ("backward", "forward")  # in which a call's blocks are touched: the last first, so that suffixes leave first
PREEMPTIONS = ("recompute", "swap")
RESERVATIONS = ("paged", "max", "pow2", "exact", "grown")
LOADS = ("always", "sooner", "never")  # of what a lower tier holds; sooner: unless computing it again takes less time
OVERLAPS = ("async", "blocking", "layerwise")
PREFETCHES = ("none", "best_effort", "wait_complete", "timeout")
LOAD_FAILURES = ("recompute", "fail")


@dataclass(frozen=True)
class KvTier:
    """One tier of the KV cache, by the name of a tier of the system.

    capacity_bytes: of one accelerator's share; None: all of the device. Of G1, with weights and activations.
    offload: how blocks of the tier above come down into this one (of G1 it says nothing). evict_trigger: share of the
    capacity at which eviction begins; evict_ratio: share of the capacity that it then frees at once; with 1 and 0 a
    block leaves for each that enters. drive_writes_per_day, endurance_years are the device's.
    """

    name: str
    capacity_bytes: int | None = None
    eviction: Choice = Choice("lru")
    admission: Choice = Choice("always")
    offload: Choice = Choice("write_through")
    evict_trigger: float = 1.0
    evict_ratio: float = 0.0


@dataclass(frozen=True)
class ServingOptions:
    """One engine. Defaults are vLLM v1's, without lower tiers.

    block_tokens: None: as long as the trace's hashed blocks, or 16 where it has none; it must divide the trace's.
    max_model_len: None: the model's context. reserve_full_prompt: a call is admitted only if its whole prompt fits.
    watermark: share of G1's blocks that an admission must leave free. partial_blocks: a prompt's last, partial block is
    cached, too, under its own hash. touch_on_release: a call's blocks are touched again when it ends (vLLM's free queue
    is in order of release). reservation: paged, or contiguous memory for as many tokens as a call may get to (max:
    max_model_len; pow2: the next power of two; exact: as many as it will have, which an oracle knows), or grown: memory
    that `allocator`, which must be able to resize, gives a call for the tokens that it has, and more as they come.
    kv_blocks: of G1, in place of what memory gives. memory_utilization: share of G1's device that the engine uses.
    activation_bytes: kept free for them; None: derived from the largest batch. prediction_error: standard deviation of
    the logarithm of predicted over true output lengths.
    load: whether what a lower tier holds is loaded. overlap: async: the call waits outside of the batch, others go on;
    blocking: the iteration waits for it; layerwise: layers are computed as they arrive. min_load_tokens: fewer are
    computed again rather than loaded; max_load_tokens: more than so many at once are not loaded; 0: no limit.
    load_failure_rate: share of loads that fail; load_failure: what follows. prefetch: of what lies below G2, from a
    call's arrival on, into G2. store_outputs: generated blocks go to lower tiers, too. copy_blocks: blocks that one
    copy moves; 0: all that move together; copy_overhead_ns: of each copy.
    async_scheduling: the host plans an iteration while the one before it runs, so that its own time does not add to an
    iteration's (`iteration_overhead` of the kernels' constants). That what ends or arrives in an iteration is then seen
    one later is not modelled.
    """

    block_tokens: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    max_model_len: int | None = None
    reserve_full_prompt: bool = True
    watermark: float = 0.0
    prefix_caching: bool = True
    partial_blocks: bool = False
    commit: str = "chunk"
    order: str = "backward"
    touch_on_release: bool = True
    preemption: str = "recompute"
    swap_bytes: int = 0
    reservation: str = "paged"
    allocator: Choice = Choice("first_fit")
    scheduling: Choice = Choice("fcfs")
    prediction_error: float = 0.0
    async_scheduling: bool = False
    tensor_parallel: int = 1
    memory_utilization: float = 0.9
    activation_bytes: int | None = None
    kv_blocks: int | None = None
    load: str = "always"
    overlap: str = "async"
    min_load_tokens: int = 0
    max_load_tokens: int = 0
    load_failure_rate: float = 0.0
    load_failure: str = "recompute"
    prefetch: str = "none"
    prefetch_timeout_ns: float = 0.0
    prefetch_min_tokens: int = 0
    store_outputs: bool = True
    copy_blocks: int = 0
    copy_overhead_ns: float = 0.0
    tiers: tuple[KvTier, ...] = field(default_factory=lambda: (KvTier("hbm"),))


ROUTERS = ("round_robin", "least_loaded", "prefix_aware", "prompt_tree")


@dataclass(frozen=True)
class Cluster:
    """Several engines. prefill: of `replicas`, so many only prefill and hand their KV cache over `link` to the others,
    which decode (0: all do both). shared: tiers, by name, that all engines share; the others each has for itself.
    """

    replicas: int = 1
    router: str = "round_robin"
    prefill: int = 0
    link: str | None = None
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slo:
    """A call is good where both hold; None: any time will do."""

    ttft_ns: float | None = None
    tpot_ns: float | None = None
