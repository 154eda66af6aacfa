"""The options of vLLM, SGLang, LMCache, Mooncake Store and Dynamo's KVBM: their defaults, and what each sets here.

Defaults are those of releases of 2026, as their public documentation and code say. Where that was not read again, the
source says "recalled, not re-read".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sim import units
from sim.choice import Choice
from sim.errors import InputError
from sim.scenario_schema import is_number, whole_number
from sim.serving.option_values import duration, flag, one_of, size, within
from sim.serving.presets import BELOW, DRIVE, Changes, Convert, Facts, Option, Preset

_VLLM_SCHEDULER = "vllm-project/vllm, vllm/config/scheduler.py"
_VLLM_OFFLOAD = "vllm-project/vllm, docs/features/kv_offloading_usage.md"
_VLLM_RECALLED = "recalled, not re-read: vllm-project/vllm, vllm/config/cache.py and scheduler.py"
_SGLANG = "sgl-project/sglang, python/sglang/srt/server_args.py"
_SGLANG_RECALLED = f"recalled, not re-read: {_SGLANG}"
_HICACHE = "sgl-project/sglang, HiCache (mem_cache/unified_radix_cache.py, hiradix_cache.py)"
_LMCACHE = "LMCache/LMCache, lmcache/v1/config.py"
_LMCACHE_MP = "LMCache/LMCache, lmcache/v1/distributed/config.py"
_MOONCAKE = "kvcache-ai/Mooncake, deployment guide of Mooncake Store"
_MOONCAKE_HELP = "mooncake_master --help of 0.3.12; the deployment guide says 0.95"
_KVBM = "ai-dynamo/dynamo, lib/bindings/kvbm/README.md, and the KVBM guide of docs.nvidia.com/dynamo"

_GIB, _GB = 1 << 30, 10**9
_MS, _SECOND = 1e6, 1e9
_KERNEL_NS = 5e3  # estimate: start of one kernel that copies all pages
_MEMCPY_NS = 2e3  # estimate: start of one asynchronous copy among many
_KI_TOKENS = "the time is one number here; give `prefetch_timeout_base` what your calls need in all"

# --- conversions -----------------------------------------------------------------------------------------------------


def _as(name: str) -> Convert:
    """The value as an option of ours."""
    return lambda value, facts: {("options", name): value}


def _not(name: str) -> Convert:
    return lambda value, facts: {("options", name): not flag(value)}


def _tier(level: int, key: str, check: Callable[[object], Any]) -> Convert:
    return lambda value, facts: {("tiers", level, key): check(value)}


def _only(wanted: object, why: str) -> Convert:
    """An option of which one value is what the engine does anyway; why there is no other."""

    def convert(value: object, facts: Facts) -> Changes:
        if value != wanted or isinstance(value, bool) != isinstance(wanted, bool):
            told = str(wanted).lower() if isinstance(wanted, bool) else repr(wanted)
            raise InputError(f"not modelled: {why}:", value=value, expected=f"{told}, or not given")
        return {}

    return convert


def _policy(
    levels: tuple[int, ...], by_name: Mapping[str, str], why: Mapping[str, str] = MappingProxyType({})
) -> Convert:
    """An eviction policy by the system's name for it, of the first of these tiers and, if there, of the others.

    why: of the policies that are not modelled.
    """

    def convert(value: object, facts: Facts) -> Changes:
        name = str(value).lower()
        if name in why:
            raise InputError(f"not modelled: {why[name]}:", value=value, expected=f"one of {', '.join(by_name)}")
        if name not in by_name:
            raise InputError("unknown eviction policy", value=value, candidates=by_name)
        there = (level for level in levels if level == levels[0] or level < len(facts.kinds))
        return {("tiers", level, "eviction"): Choice(by_name[name]) for level in there}

    return convert


def _amount(unit_bytes: int) -> Callable[[object], int]:
    """Bytes, of a number in the system's unit or of text with its own."""

    def check(value: object) -> int:
        found = size(value) if isinstance(value, str) else value * unit_bytes if is_number(value) else 0
        if found <= 0:
            expected = f"more than 0, in units of {units.format_bytes(unit_bytes)}, or text such as '64 GiB'"
            raise InputError("not a size:", value=value, expected=expected)
        return int(found)

    return check


def _of_all_devices(level: int, unit_bytes: int) -> Convert:
    """A capacity for all accelerators of an engine together."""
    check = _amount(unit_bytes)
    return lambda value, facts: {("tiers", level, "capacity_bytes"): check(value) // facts.tensor_parallel}


def _time(unit_ns: float) -> Callable[[object], float]:
    """Nanoseconds, of a number in the system's unit or of text with its own."""
    return lambda value: duration(value) if isinstance(value, str) else duration(value) * unit_ns


def _evicted_at_once(level: int, trigger: str, ratio: str, trigger_else: float, ratio_else: float) -> Convert:
    """Eviction from one share of the capacity on, of another share of what is there by then."""
    begins, part = within(0, 1, open_low=True), within(0, 1)

    def convert(value: object, facts: Facts) -> Changes:
        full = begins(facts.given.get(trigger, trigger_else))
        freed = part(facts.given.get(ratio, ratio_else)) * full
        return {("tiers", level, "evict_trigger"): full, ("tiers", level, "evict_ratio"): freed}

    return convert


# --- vLLM ------------------------------------------------------------------------------------------------------------


def _max_load_tokens(value: object, facts: Facts) -> Changes:
    most = whole_number(0, 1 << 30)(value)
    return {("options", "max_load_tokens"): most} if most else {("options", "load"): "never"}


def _store_threshold(value: object, facts: Facts) -> Changes:
    times = whole_number(0, 1 << 30)(value)
    if times >= 2 and len(facts.kinds) > 2:
        raise InputError("vLLM refuses 2 and more where there are tiers below the second:", value=value)
    selective = Choice("write_through_selective", {"threshold": times})
    return {("tiers", 1, "offload"): selective if times >= 2 else Choice("write_through")}


def _spec_name(value: object, facts: Facts) -> Changes:
    named, tiers = one_of(("CPUOffloadingSpec", "TieringOffloadingSpec"))(value), len(facts.kinds)
    if named == "CPUOffloadingSpec" and tiers != 2:
        raise InputError(f"has a second tier and none below, but 'tiers' has {tiers}:", value=value)
    if named == "TieringOffloadingSpec" and tiers < 3:
        raise InputError(f"has tiers below the second, but 'tiers' has {tiers}:", value=value)
    return {}


def _scheduling_policy(value: object, facts: Facts) -> Changes:
    return {("options", "scheduling"): one_of(("fcfs", "priority"))(value)}


_ONE_BY_ONE = "prompts are prefilled in the scheduling policy's order, each with the tokens that are left"
_VLLM_ENGINE = (
    Option("tensor_parallel_size", "tensor_parallel", _as("tensor_parallel"), 1, _VLLM_RECALLED),
    Option("gpu_memory_utilization", "memory_utilization", _as("memory_utilization"), 0.9, _VLLM_RECALLED),
    Option(
        "max_num_seqs",
        "max_num_seqs",
        _as("max_num_seqs"),
        256,
        "recalled, not re-read: vllm/engine/arg_utils.py, of a server; 1024 on H100; SchedulerConfig alone has 128",
    ),
    Option("max_num_batched_tokens", "max_num_batched_tokens", _as("max_num_batched_tokens"), 2048, _VLLM_SCHEDULER),
    Option("max_model_len", "max_model_len", _as("max_model_len")),
    Option("enable_chunked_prefill", "chunked_prefill", _as("chunked_prefill"), True, _VLLM_SCHEDULER),
    Option(
        "long_prefill_token_threshold",
        "long_prefill_token_threshold",
        _as("long_prefill_token_threshold"),
        0,
        _VLLM_SCHEDULER,
    ),
    Option("scheduling_policy", "scheduling: fcfs or priority", _scheduling_policy, "fcfs", _VLLM_SCHEDULER),
    Option("async_scheduling", "async_scheduling", _as("async_scheduling"), False, _VLLM_SCHEDULER),
    Option("enable_prefix_caching", "prefix_caching", _as("prefix_caching"), True, _VLLM_RECALLED),
    Option("scheduler_reserve_full_isl", "reserve_full_prompt", _as("reserve_full_prompt"), True, _VLLM_RECALLED),
    Option("watermark", "watermark", _as("watermark"), 0.0, _VLLM_RECALLED),
    Option("num_gpu_blocks_override", "kv_blocks", _as("kv_blocks")),
    Option(
        "kv_load_failure_policy",
        "load_failure: recompute or fail",
        _as("load_failure"),
        "fail",
        "vllm-project/vllm-ascend, KV cache pool guide: 'the default value in vLLM is fail'",
    ),
    Option("swap_space", "version 1 of vLLM has no swapping; ours is `preemption: swap` with `swap_bytes`"),
    Option(
        "kv_cache_dtype", "auto alone", _only("auto", "the width of the KV cache is the `dtype` of the model's file")
    ),
    Option("max_num_partial_prefills", _ONE_BY_ONE),
    Option("max_long_partial_prefills", _ONE_BY_ONE),
    Option("pipeline_parallel_size", "the cost model splits a model by tensor parallelism alone"),
)
_VLLM = Preset(
    name="vllm",
    description="vLLM v1 with its OffloadingConnector; tiers below the second as TieringOffloadingSpec has them",
    options=(
        *_VLLM_ENGINE,
        Option(
            "block_size",
            "block_tokens, on the accelerator and of what is offloaded: the engine has one size of block",
            _as("block_tokens"),
            16,
            _VLLM_RECALLED,
        ),
        Option("spec_name", "CPUOffloadingSpec with two tiers, TieringOffloadingSpec with more", _spec_name),
        Option("cpu_bytes_to_use", "capacity of the second tier, for all accelerators together", _of_all_devices(1, 1)),
        Option(
            "eviction_policy",
            "eviction of the second tier: lru or arc",
            _policy((1,), {"lru": "lru", "arc": "arc"}),
            "lru",
            _VLLM_OFFLOAD,
        ),
        Option(
            "store_threshold",
            "offload of the second tier: from 2 on write_through_selective, else write_through",
            _store_threshold,
            0,
            _VLLM_OFFLOAD,
        ),
        Option("offload_prompt_only", "store_outputs, turned round", _not("store_outputs"), True, _VLLM_OFFLOAD),
        Option("max_load_tokens", "max_load_tokens of every call; 0 is load: never", _max_load_tokens),
        Option("blocks_per_chunk", "copy_blocks", _as("copy_blocks"), 1, _VLLM_OFFLOAD),
        Option("secondary_tiers", "tiers are listed in `serving.tiers`, by the system's names"),
        Option("max_tracker_size", "lookups are counted of every block, however many there are"),
        Option("cache_policy_module_path", "`eviction` of a tier takes any policy, those of other packages, too"),
        Option("spec_module_path", "there is one way of offloading, which the options of a tier describe"),
    ),
    fixed=((("options", "overlap"), "async", _VLLM_OFFLOAD),),
)

# --- SGLang ----------------------------------------------------------------------------------------------------------

_ORDERS = "of SGLang's orders of waiting calls, fcfs, lpm, priority and dfs-weight are modelled"


def _schedule_policy(value: object, facts: Facts) -> Changes:
    ours = {"fcfs": "fcfs", "lpm": "longest_prefix", "dfs-weight": "prefix_groups", "priority": "priority"}
    if value not in ours:
        raise InputError(f"not modelled: {_ORDERS}:", value=value, expected=f"one of {', '.join(ours)}")
    return {("options", "scheduling"): ours[value]}


def _hicache_ratio(value: object, facts: Facts) -> Changes:
    ratio, pool = within(0, 1e6, open_low=True)(value), facts.kv_bytes(facts.settled)
    own = facts.given.get("hicache-size", 0)
    if is_number(own) and own > 0 and "hicache-ratio" not in facts.asked:
        return {}
    return {} if pool is None else {("tiers", 1, "capacity_bytes"): int(ratio * pool)}


def _hicache_size(value: object, facts: Facts) -> Changes:
    return {} if value == 0 and is_number(value) else {("tiers", 1, "capacity_bytes"): _amount(_GB)(value)}


def _write_policy(value: object, facts: Facts) -> Changes:
    one_of(("write_back", "write_through", "write_through_selective"))(value)
    return {("tiers", BELOW, "offload"): Choice(str(value))}


def _storage_prefetch(value: object, facts: Facts) -> Changes:
    one_of(("best_effort", "wait_complete", "timeout"))(value)
    said = "hicache-storage-prefetch-policy" in facts.asked
    return {("options", "prefetch"): value} if said or len(facts.kinds) > 2 else {}


def _copies(value: object, facts: Facts) -> Changes:
    """By kernel one launch copies all pages; direct, each page is a copy of its own, or one a layer of it."""
    layout = one_of(("layer_first", "page_first", "page_first_direct"))(facts.given["hicache-mem-layout"])
    backend = one_of(("kernel", "direct"))(facts.given["hicache-io-backend"])
    if backend == "kernel":
        return {("options", "copy_blocks"): 0, ("options", "copy_overhead_ns"): _KERNEL_NS}
    pieces = facts.layers if layout == "layer_first" else 1
    return {("options", "copy_blocks"): 1, ("options", "copy_overhead_ns"): pieces * _MEMCPY_NS}


_RADIX = {"lru": "lru", "lfu": "lfu", "slru": "slru", "priority": "priority", "tlru": "tlru"}
_SGLANG_PRESET = Preset(
    name="sglang",
    description="SGLang with its radix cache and HiCache; prefill and decode share batches, as with enable-mixed-chunk",
    options=(
        Option("tp-size", "tensor_parallel", _as("tensor_parallel"), 1, _SGLANG_RECALLED),
        Option("tensor-parallel-size", "tensor_parallel", _as("tensor_parallel")),
        Option(
            "mem-fraction-static",
            "memory_utilization; activations are in the rest",
            _as("memory_utilization"),
            0.88,
            f"{_SGLANG_RECALLED}, of an accelerator of 80 GB; it is derived there",
        ),
        Option(
            "page-size",
            "block_tokens",
            _as("block_tokens"),
            64,
            "docs.sglang.io, HiCache best practices; the server's own default is 1",
        ),
        Option(
            "max-running-requests",
            "max_num_seqs",
            _as("max_num_seqs"),
            2048,
            f"{_SGLANG_RECALLED}: derived there, 2048 to 4096",
        ),
        Option(
            "chunked-prefill-size",
            "max_num_batched_tokens",
            _as("max_num_batched_tokens"),
            8192,
            f"{_SGLANG_RECALLED}, of an accelerator of 80 GB; it is derived there",
        ),
        Option("context-length", "max_model_len", _as("max_model_len")),
        Option(
            "schedule-policy", "scheduling: fcfs, lpm, dfs-weight, priority", _schedule_policy, "fcfs", _SGLANG_RECALLED
        ),
        Option("disable-radix-cache", "prefix_caching, turned round", _not("prefix_caching"), False, _SGLANG_RECALLED),
        Option(
            "enable-mixed-chunk",
            "true alone",
            _only(True, "prefill and decode always share batches"),
        ),
        Option(
            "radix-eviction-policy",
            "eviction of the first and second tier: lru, lfu, slru, priority, tlru",
            _policy((0, 1), _RADIX),
            "lru",
            _SGLANG_RECALLED,
        ),
        Option(
            "hicache-ratio", "capacity of the second tier, in capacities of the first", _hicache_ratio, 2.0, _SGLANG
        ),
        Option(
            "hicache-size",
            "capacity of the second tier in GB, of each accelerator; 0: by ratio",
            _hicache_size,
            0,
            _SGLANG,
        ),
        Option(
            "hicache-write-policy",
            "offload of all tiers below the first; write_through_selective from the second access on",
            _write_policy,
            "write_through",
            _SGLANG,
        ),
        Option("hicache-io-backend", "copy_blocks and copy_overhead_ns, with the layout", _copies, "kernel", _SGLANG),
        Option(
            "hicache-mem-layout", "copy_blocks and copy_overhead_ns, with the backend", _copies, "layer_first", _SGLANG
        ),
        Option(
            "hicache-storage-prefetch-policy",
            "prefetch: best_effort, wait_complete, timeout",
            _storage_prefetch,
            "best_effort",
            _SGLANG,
        ),
        Option("prefetch_threshold", "prefetch_min_tokens", _as("prefetch_min_tokens"), 256, _HICACHE),
        Option(
            "prefetch_timeout_base",
            "prefetch_timeout_ns; a number is in seconds",
            lambda value, facts: {("options", "prefetch_timeout_ns"): _time(_SECOND)(value)},
            1.0,
            _HICACHE,
        ),
        Option("prefetch_timeout_per_ki_token", _KI_TOKENS),
        Option(
            "load_back_threshold", "min_load_tokens", _as("min_load_tokens"), 10, f"recalled, not re-read: {_HICACHE}"
        ),
        Option("hicache-storage-backend", "tiers are listed in `serving.tiers`, by the system's names"),
    ),
    fixed=(
        (("options", "overlap"), "layerwise", f"recalled, not re-read: {_HICACHE}: layers are loaded one by one"),
        (("options", "activation_bytes"), 0, f"{_SGLANG_RECALLED}: mem-fraction-static is of weights and KV cache"),
    ),
)

# --- LMCache ---------------------------------------------------------------------------------------------------------

_CACHE_POLICIES = {"lru": "lru", "lfu": "lfu", "fifo": "fifo", "mru": "mru"}
_NO_LMCACHE_POLICY = {
    "isolatedlru": "a cache shared out among users",
    "noop": "a tier that evicts nothing and is full for ever",
}
_AT_ONCE = _evicted_at_once(1, "trigger_watermark", "eviction_ratio", 0.8, 0.2)


def _lmcache_overlap(value: object, facts: Facts) -> Changes:
    layerwise, later = (flag(facts.given[name]) for name in ("use_layerwise", "enable_async_loading"))
    return {("options", "overlap"): "layerwise" if layerwise else "async" if later else "blocking"}


def _mp_policy(value: object, facts: Facts) -> Changes:
    """Multiprocess LMCache always evicts by watermark."""
    return {
        **_policy((1,), {"lru": "lru", "arc": "arc"}, _NO_LMCACHE_POLICY)(value, facts),
        **_AT_ONCE(None, facts),
    }


def _mp_store(value: object, facts: Facts) -> Changes:
    _only("default", "all that enters the second tier is stored in those below")(value, facts)
    return {("tiers", BELOW, "offload"): Choice("write_through")}


def _mp_prefetch(value: object, facts: Facts) -> Changes:
    _only("default", "a lookup fetches what lies below the second tier, and waits for it")(value, facts)
    return {("options", "prefetch"): "wait_complete"}


_LMCACHE_PRESET = Preset(
    name="lmcache",
    description="vLLM v1 with LMCache in its process; eviction-policy, store_policy ... are of its multiprocess mode",
    options=(
        *_VLLM_ENGINE,
        Option(
            "chunk_size",
            "block_tokens, on the accelerator and below: the engine has one size of block",
            _as("block_tokens"),
            256,
            _LMCACHE,
        ),
        Option(
            "local_cpu", "true alone", _only(True, "a second tier is used if `serving.tiers` lists it"), True, _LMCACHE
        ),
        Option(
            "max_local_cpu_size",
            "capacity of the second tier in GiB, of each accelerator",
            _tier(1, "capacity_bytes", _amount(_GIB)),
            5.0,
            _LMCACHE,
        ),
        Option(
            "max_local_disk_size",
            "capacity of the drive's tier in GiB, of each accelerator",
            _tier(DRIVE, "capacity_bytes", _amount(_GIB)),
        ),
        Option("local_disk", "tiers are listed in `serving.tiers`, by the system's names"),
        Option("remote_url", "tiers are listed in `serving.tiers`, by the system's names"),
        Option(
            "cache_policy",
            "eviction of all tiers below the first: LRU, LFU, FIFO, MRU",
            _policy((BELOW,), _CACHE_POLICIES),
            "LRU",
            _LMCACHE,
        ),
        Option("save_decode_cache", "store_outputs", _as("store_outputs"), False, _LMCACHE),
        Option("save_unfull_chunk", "partial_blocks", _as("partial_blocks"), False, _LMCACHE),
        Option("use_layerwise", "overlap: layerwise", _lmcache_overlap, False, _LMCACHE),
        Option("enable_async_loading", "overlap: async, and blocking without", _lmcache_overlap, False, _LMCACHE),
        Option("min_retrieve_tokens", "min_load_tokens", _as("min_load_tokens"), 0, _LMCACHE),
        Option("priority_limit", "what is stored does not depend on a call's priority"),
        Option("pin_timeout_sec", "a load that has begun ends, so that no pin is left over"),
        Option("eviction-policy", "eviction of the second tier, with watermark: LRU, ARC", _mp_policy),
        Option("trigger_watermark", f"evict_trigger of the second tier (0.8 by {_LMCACHE_MP})", _AT_ONCE),
        Option("eviction_ratio", f"evict_ratio of the second tier, of what is there (0.2 by {_LMCACHE_MP})", _AT_ONCE),
        Option("store_policy", "default alone: write_through into all tiers below the first", _mp_store),
        Option("prefetch_policy", "default alone: prefetch: wait_complete", _mp_prefetch),
    ),
    fixed=((("tiers", BELOW, "offload"), Choice("write_through"), _LMCACHE),),
    fewest_tiers=2,
)

# --- Mooncake Store --------------------------------------------------------------------------------------------------

_LEASE_MS, _PIN_MS = 5000, 1_800_000
_ONE_POOL = "a tier is one pool, in which all places are alike; the tiers are those of `serving.tiers`"


def _leases(value: object, facts: Facts) -> Changes:
    """Leases alone, or with soft pins where an option of theirs is given: these need priorities in the trace."""
    lease_ns = _time(_MS)(facts.given.get("default_kv_lease_ttl", _LEASE_MS))
    if not {"default_kv_soft_pin_ttl", "allow_evict_soft_pinned_objects"} & facts.asked:
        return {("tiers", 1, "eviction"): Choice("lease", {"lease_ns": lease_ns})}
    pins = {
        "lease_ns": lease_ns,
        "pin_ns": _time(_MS)(facts.given.get("default_kv_soft_pin_ttl", _PIN_MS)),
        "evict_pinned": flag(facts.given.get("allow_evict_soft_pinned_objects", True)),
    }
    return {("tiers", 1, "eviction"): Choice("soft_pin", pins)}


def _on_drive(value: object, facts: Facts) -> Changes:
    """Objects come down as they are stored, or when memory evicts them."""
    late = flag(facts.given.get("offload_on_evict", False))
    return {("tiers", DRIVE, "offload"): Choice("write_back" if late else "write_through")}


def _enable_offload(value: object, facts: Facts) -> Changes:
    if flag(value) != (len(facts.kinds) > 2):
        there = "one" if len(facts.kinds) > 2 else "none"
        raise InputError(f"is about a third tier, of which 'tiers' lists {there}:", value=value)
    return _on_drive(value, facts) if value else {}


_UP = "what is read from a lower tier passes the first one, whose blocks are written through to the second"
_WATERMARKS = _evicted_at_once(1, "eviction_high_watermark_ratio", "eviction_ratio", 0.9, 0.05)
_MOONCAKE_PRESET = Preset(
    name="mooncake",
    description="vLLM v1 with Mooncake Store: a pool of memory as the second tier, drives as the third",
    options=(
        *_VLLM_ENGINE,
        Option(
            "block_size",
            "block_tokens, on the accelerator and below: the engine has one size of block",
            _as("block_tokens"),
            16,
            _VLLM_RECALLED,
        ),
        Option(
            "global_segment_size",
            "capacity of the second tier, of each accelerator; a number is in bytes",
            _tier(1, "capacity_bytes", _amount(1)),
        ),
        Option("eviction_high_watermark_ratio", "evict_trigger of the second tier", _WATERMARKS, 0.9, _MOONCAKE_HELP),
        Option("eviction_ratio", "evict_ratio of the second tier, of what is there", _WATERMARKS, 0.05, _MOONCAKE),
        Option(
            "default_kv_lease_ttl",
            "eviction of the second tier: lease, or soft_pin with one of the next two; a number is in ms",
            _leases,
            _LEASE_MS,
            _MOONCAKE,
        ),
        Option("default_kv_soft_pin_ttl", f"soft_pin:pin_ns; a number is in ms ({_PIN_MS} there)", _leases),
        Option("allow_evict_soft_pinned_objects", "soft_pin:evict_pinned (true there)", _leases),
        Option("enable_offload", "whether there is a third tier", _enable_offload),
        Option(
            "offload_on_evict",
            "offload of the drive's tier: write_back, and write_through without",
            _on_drive,
            False,
            _MOONCAKE,
        ),
        Option("offload_force_evict", "a block that was chosen leaves when it has been copied, not before"),
        Option("promotion_on_hit", "true alone", _only(True, _UP)),
        Option("promotion_admission_threshold", "1 alone", _only(1, _UP)),
        Option("allocation_strategy", _ONE_POOL),
        Option(
            "MOONCAKE_OFFLOAD_BUCKET_EVICTION_POLICY",
            "eviction of the drive's tier: fifo, lru",
            _policy(
                (DRIVE,), {"fifo": "fifo", "lru": "lru"}, {"none": "a tier that evicts nothing and is full for ever"}
            ),
            "fifo",
            "docs.gpustack.ai, local disk tier: 'unset uses FIFO'",
        ),
    ),
    fixed=(
        (("tiers", 1, "offload"), Choice("write_through"), "recalled, not re-read: MooncakeStoreConnector of vLLM"),
    ),
    fewest_tiers=2,
)

# --- Dynamo's KV block manager ---------------------------------------------------------------------------------------


def _disk_filter(value: object, facts: Facts) -> Changes:
    return {("tiers", DRIVE, "admission"): Choice("always" if flag(value) else "decayed_frequency")}


_BLOCKS = "give the size in GB instead: blocks have the engine's size"
_KVBM_PRESET = Preset(
    name="kvbm",
    description="vLLM v1 with the KV block manager of NVIDIA Dynamo: host memory (G2), drives (G3), written through",
    options=(
        *_VLLM_ENGINE,
        Option(
            "block_size",
            "block_tokens, on the accelerator and below",
            _as("block_tokens"),
            16,
            _VLLM_RECALLED,
        ),
        Option(
            "DYN_KVBM_CPU_CACHE_GB",
            "capacity of the second tier, for all accelerators together",
            _of_all_devices(1, _GB),
        ),
        Option(
            "DYN_KVBM_DISK_CACHE_GB",
            "capacity of the drive's tier, for all accelerators together",
            _of_all_devices(DRIVE, _GB),
        ),
        Option(
            "DYN_KVBM_DISABLE_DISK_OFFLOAD_FILTER",
            "admission of the drive's tier: always, and decayed_frequency without",
            _disk_filter,
            False,
            _KVBM,
        ),
        Option("DYN_KVBM_CPU_CACHE_OVERRIDE_NUM_BLOCKS", _BLOCKS),
        Option("DYN_KVBM_DISK_CACHE_OVERRIDE_NUM_BLOCKS", _BLOCKS),
    ),
    fixed=((("tiers", BELOW, "offload"), Choice("write_through"), _KVBM),),
    fewest_tiers=2,
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {one.name: one for one in (_VLLM, _SGLANG_PRESET, _LMCACHE_PRESET, _MOONCAKE_PRESET, _KVBM_PRESET)}
)
