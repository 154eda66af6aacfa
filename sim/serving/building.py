"""A system, a model and the choices of an engine made into its state: what fits, where copies go, who decides."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sim import registry
from sim.cost.calibration import Calibration, Gpu
from sim.cost.kernels import WORK
from sim.cost.step import make_step
from sim.errors import InputError
from sim.hook_arguments import Objects
from sim.kernels.rank_heap import make_rank_heap
from sim.llm.models import Model
from sim.llm.operators import kv_bytes_per_token, weight_bytes
from sim.policy import Allocator, Context, Stacked
from sim.profile import Profile
from sim.serving import log
from sim.serving import options as o
from sim.serving import record as r
from sim.serving import state as s
from sim.serving import tiers as t
from sim.serving.network import make_network
from sim.serving.servers import Servers, paths
from sim.serving.workload import Blocks, Workload

_FLOAT32_BYTES = 4
_ALLOCATION_UNITS = {"alignment_bytes", "page_bytes", "smallest_bytes"}  # parameters of allocators


@dataclass(frozen=True)
class Memory:
    """Of one accelerator, in bytes: what weights and activations take of its share, and what is left for blocks."""

    share_bytes: int
    weight_bytes: int
    activation_bytes: int
    block_bytes: int
    capacity_blocks: tuple[int, ...]  # by tier


def memory_of(profile: Profile, options: o.ServingOptions, model: Model, block_tokens: int) -> Memory:
    """How many blocks each tier holds. Raises InputError where the model, or not one block, fits."""
    tp = options.tensor_parallel
    block_bytes = kv_bytes_per_token(model, tp) * block_tokens
    g1 = profile.tier(options.tiers[0].name).device
    share = int((options.tiers[0].capacity_bytes or g1.capacity_bytes) * options.memory_utilization)
    weights = round(weight_bytes(model, tp))
    activations = options.activation_bytes
    if activations is None:
        activations = activation_bytes(model, options)
    blocks = options.kv_blocks
    if blocks is None:
        blocks = max(0, share - weights - activations) // block_bytes
    if blocks < 1 or weights > share:
        raise InputError(
            f"model {model.name!r} does not fit: {weights} bytes of weights and {activations} of activations"
            f" on each of {tp} accelerators leave no room for one KV block of {block_bytes} bytes",
            value=share,
            expected="more memory (memory_utilization), or more accelerators (tensor_parallel)",
        )
    capacities = [blocks]
    for tier in options.tiers[1:]:
        capacity = tier.capacity_bytes or profile.tier(tier.name).device.capacity_bytes
        if capacity is None or capacity < block_bytes:
            problem = f"tier {tier.name!r} has no room for a KV block of {block_bytes} bytes:"
            raise InputError(problem, value=capacity, expected="a capacity")
        capacities.append(capacity // block_bytes)
    return Memory(share, weights, activations, block_bytes, tuple(capacities))


def activation_bytes(model: Model, options: o.ServingOptions) -> int:
    """At the largest batch: the residual stream twice, the widest layer's input and output, and the logits in float32.

    A feed-forward layer's two inner matrices are the widest; what kernels and the runtime keep for themselves is not
    counted, which is one reason why engines use only a share of the memory.
    """
    inner = 0 if model.ffn is None else 2 * model.ffn.size
    if model.experts is not None:
        inner = max(inner, 2 * model.experts.size * (model.experts.active + model.experts.shared))
    heads = (model.attention.heads + 2 * model.attention.kv_heads) * model.attention.head_dim
    widest = max(inner, heads) / options.tensor_parallel
    per_token = (2 * model.hidden + widest) * model.dtype_bytes
    logits = options.max_num_seqs * model.vocab / options.tensor_parallel * _FLOAT32_BYTES
    return round(options.max_num_batched_tokens * per_token + logits)


def tiers_of(
    options: o.ServingOptions,
    memory: Memory,
    blocks: Blocks,
    seed: int,
    max_moves: int,
    like: t.Tiers | None = None,
    shared: Collection[str] = (),
) -> t.Tiers:
    """Empty tiers; those in `shared`, by name, are the same as those of `like`.

    Raises InputError for policies that a serving engine cannot run.
    """
    kinds = {"eviction": registry.EVICTION, "admission": registry.ADMISSION, "offload": registry.OFFLOAD}
    stacks: dict[str, Any] = {}
    known = max(1, blocks.blocks)
    removable = []
    for field, kind in kinds.items():
        plugins, states = [], []
        for number, tier in enumerate(options.tiers):
            choice = getattr(tier, field)
            plugin = choice.plugin(kind)
            _check_policy(plugin, tier.name)
            context = Context(
                capacity=memory.capacity_blocks[number], blocks=known, seed=seed + number, unit_sizes=True
            )
            if like is not None and tier.name in shared:
                states.append(getattr(like, f"{field}_states")[number])
            else:
                states.append(plugin.make_state(context, choice.parameters))
            if field == "eviction":
                removable.append(plugin.remove is not None)
                plugin = plugin if plugin.remove is not None else t.without_remove(plugin)
            plugins.append(plugin)
        stacks[field], stacks[f"{field}_states"] = Stacked(plugins), tuple(states)
    own: dict[str, list[np.ndarray]] = {"held": [], "sizes": [], "counts": []}
    for number, tier in enumerate(options.tiers):
        if like is not None and tier.name in shared:
            for name, arrays in own.items():
                arrays.append(getattr(like, name)[number])
            continue
        sizes = _sizes(tier, memory.capacity_blocks[number])
        sizes[t.REMOVABLE] = removable[number]
        own["held"].append(np.zeros(known, np.uint8))
        own["sizes"].append(sizes)
        own["counts"].append(np.zeros(len(t.COUNTS), np.int64))
    return t.Tiers(
        **stacks,
        **{name: tuple(arrays) for name, arrays in own.items()},
        pins=np.zeros(known, np.int32),
        moves=np.zeros((max_moves, 4), np.int64),
        state=np.zeros(5, np.int64),
    )


def _sizes(tier: o.KvTier, capacity: int) -> np.ndarray:
    sizes = np.zeros(8, np.int64)
    trigger = max(1, int(tier.evict_trigger * capacity))
    sizes[t.CAPACITY], sizes[t.TRIGGER] = capacity, trigger
    sizes[t.TARGET] = max(0, min(trigger - 1, trigger - round(tier.evict_ratio * capacity)))
    return sizes


def _check_policy(plugin, tier: str) -> None:
    if plugin.plain:
        raise InputError(f"tiers.{tier}: policy {plugin.name!r} is a plain Python class, which only a replay can run")
    if "next_access" in plugin.needs:
        problem = f"tiers.{tier}: {plugin.KIND} policy {plugin.name!r} needs to know the next access to each block"
        raise InputError(f"{problem}, which depends on time in a serving run")


def build(
    profile: Profile,
    options: o.ServingOptions,
    model: Model,
    gpu: Gpu,
    calibration: Calibration,
    workload: Workload,
    blocks: Blocks,
    memory: Memory,
    servers: Servers,
    *,
    number: int = 0,
    seed: int = 0,
    jumps: bool = True,
    link: str | None = None,
    senders: int = 0,
    role: int = s.EITHER,
    routed: bool = False,
    like: s.Engine | None = None,
    shared: Collection[str] = (),
) -> s.Engine:
    """One engine at rest, the one of this number among those that `servers` has rows for.

    routed: calls are handed to it, in place of all arriving by themselves; those that the first `senders` engines have
    begun bring their KV cache over `link`. like, shared: an engine some of
    whose tiers are this one's, too. jumps: whether iterations that are alike are taken in one go (the results are the
    same). Raises InputError for what does not fit together.
    """
    n, tiers = workload.arrival_ns.size, len(options.tiers)
    step = make_step(model, gpu, calibration, options.tensor_parallel)
    step = step._replace(overhead_ns=0.0) if options.async_scheduling else step
    largest = int(np.max(_most_blocks(workload, blocks), initial=1))
    bursts = sum(
        round(tier.evict_ratio * size) for tier, size in zip(options.tiers, memory.capacity_blocks, strict=True)
    )
    max_moves = 2 * (tiers + 1) * (memory.capacity_blocks[0] + options.max_num_seqs) + bursts + 1024
    kv = tiers_of(options, memory, blocks, seed, max_moves, like.tiers if like else None, shared)
    first_stage, stages = paths(profile, servers, number, link, senders)
    copy = (options.copy_blocks, options.copy_overhead_ns, memory.block_bytes)
    network = make_network(
        servers.model,
        servers.states,
        first_stage,
        stages,
        len(servers.columns),
        copy,
        slots=2 * tiers * tiers + 8 * options.max_num_seqs,
        nodes=2 * max_moves,
    )
    scheduling = options.scheduling.plugin(registry.SCHEDULING)
    counts = {"calls": n, "tenants": _numbers(workload.tenant), "programs": _numbers(workload.program)}
    context = Context(capacity=memory.capacity_blocks[0], blocks=max(1, blocks.blocks), seed=seed, **counts)
    allocator = options.allocator.plugin(registry.ALLOCATOR) if options.reservation != "paged" else _no_allocator()
    count = np.zeros(s.COUNT_PLACES, np.int64)
    count[s.INBOX] = 0 if routed else n
    clock = np.zeros(s.CLOCK_PLACES)
    clock[s.STEP_END] = np.inf
    calls = np.zeros((n, s.CALL_COLUMNS), np.int64)
    calls[:, s.HELD_AT] = calls[:, s.ADMISSION] = -1
    return s.Engine(
        work=workload,
        calls=calls,
        times=np.full((n, s.TIME_COLUMNS), np.nan),
        parts_ns=np.zeros((n, len(r.PARTS))),
        hit_tokens=np.zeros((n, tiers), np.int64),
        kept=np.zeros(workload.block.size + blocks.blocks - blocks.hashed, np.uint8),
        tiers=kv,
        network=network,
        scheduling=scheduling,
        scheduling_state=scheduling.make_state(context, options.scheduling.parameters),
        allocator=allocator,
        allocator_state=_allocator_state(allocator, options, model, memory, workload, blocks, seed),
        waiting=make_rank_heap(n + 1),
        aside=np.zeros(n, np.int64),
        running=np.zeros(options.max_num_seqs, np.int64),
        inbox=np.arange(n),
        inbox_ns=workload.arrival_ns.copy(),
        holding=np.zeros(n, np.int64),
        outbox=np.zeros(n + 1, np.int64),
        sources=np.zeros(largest, np.int64),
        step=step,
        tokens_memo=np.full(options.max_num_batched_tokens + 1, np.nan),
        outputs_memo=np.full(options.max_num_seqs + 1, np.nan),
        work_sums=np.zeros((2, WORK)),
        sums=np.zeros(3),
        load_ns=_load_times(profile, options, memory),
        engine_ns=np.zeros(len(r.ENGINE_PARTS)),
        gaps=np.zeros(s.GAP_BINS, np.int64),
        gap_total_ns=np.zeros(1, np.int64),
        clock=clock,
        count=count,
        rules=_rules(options, model, blocks, memory, scheduling, jumps, role),
        numbers=np.array([options.prefetch_timeout_ns, options.load_failure_rate]),
        log=np.zeros((0, log.COLUMNS)),
    )


def _allocator_state(
    allocator: Allocator,
    options: o.ServingOptions,
    model: Model,
    memory: Memory,
    workload: Workload,
    blocks: Blocks,
    seed: int,
) -> Any:
    """State of the allocator of calls' memory, in bytes of G1's blocks. What it cuts memory into is a block, if nobody
    says otherwise: its own default is of other memory, and a call's memory begins with a block in any case. One that
    maps pages of each tensor is told how many tensors there are instead.
    """
    takes = allocator.parameters().keys()
    units = dict.fromkeys(_ALLOCATION_UNITS & takes, memory.block_bytes)
    if "tensors" in takes:
        units = {"tensors": model.attention_layers * (1 if model.mla else 2)}
    objects = _calls_as_objects(options, model, memory, workload, blocks)
    capacity = memory.capacity_blocks[0] * memory.block_bytes
    context = Context(capacity=capacity, blocks=max(1, objects.first_bytes.size), seed=seed, objects=objects)
    given = options.allocator.parameters if takes else {}
    return allocator.make_state(context, {**units, **given})


def _calls_as_objects(
    options: o.ServingOptions, model: Model, memory: Memory, workload: Workload, blocks: Blocks
) -> Objects:
    """Of calls' memory: its prompt's at first, that of a token more at a time, of max_model_len tokens at most."""
    token_bytes = memory.block_bytes // blocks.block_tokens
    calls = workload.input_tokens.size
    known = {
        "first_bytes": workload.input_tokens * token_bytes,
        "final_bytes": (workload.input_tokens + workload.output_tokens) * token_bytes,
        "most_bytes": np.full(calls, (options.max_model_len or model.context) * token_bytes),
        "unit_bytes": np.full(calls, token_bytes),
    }
    return Objects(**{**dict.fromkeys(Objects._fields, np.zeros(0, np.int64)), **known})


class _Nothing(NamedTuple):
    """The state of an allocator that is never asked."""


def _no_allocator() -> Allocator:
    """Stands for an allocator of contiguous memory where there is none: compiled code then has none either."""
    return Allocator(
        name="none",
        init=_nothing,
        allocate=_allocate_nothing,
        release=_release_nothing,
        free_bytes=_no_bytes,
        largest_free_bytes=_no_bytes,
        internal_bytes=_no_bytes,
    )


def _nothing(context):
    return _Nothing()


def _allocate_nothing(state, block, size_bytes):
    return False


def _release_nothing(state, block):
    pass


def _no_bytes(state):
    return np.int64(0)


def _numbers(column: np.ndarray) -> int:
    return int(column.max(initial=-1)) + 1


def _most_blocks(workload: Workload, blocks: Blocks) -> np.ndarray:
    return np.diff(workload.first_row) + np.diff(workload.fresh_first) + 1


def _load_times(profile: Profile, options: o.ServingOptions, memory: Memory) -> np.ndarray:
    """float64[T, 2] of an unloaded load from each tier: ns before the first byte, ns of each block."""
    times = np.zeros((len(options.tiers), 2))
    for number, tier in enumerate(options.tiers[1:], start=1):
        each_ns = memory.block_bytes / profile.path_bandwidth(tier.name)
        each_ns += options.copy_overhead_ns / options.copy_blocks if options.copy_blocks else 0.0
        first_ns = profile.unloaded_ns(tier.name, memory.block_bytes) - memory.block_bytes / profile.path_bandwidth(
            tier.name
        )
        times[number] = first_ns + options.copy_overhead_ns, each_ns
    return times


def _rules(options, model: Model, blocks: Blocks, memory: Memory, scheduling, jumps: bool, role: int) -> np.ndarray:
    rules = np.zeros(s.RULE_PLACES, np.int64)
    told = {
        s.BLOCK_TOKENS: blocks.block_tokens,
        s.MAX_SEQS: options.max_num_seqs,
        s.MAX_TOKENS: options.max_num_batched_tokens,
        s.CHUNKED: options.chunked_prefill,
        s.LONG_PREFILL: options.long_prefill_token_threshold,
        s.MAX_LEN: options.max_model_len or model.context,
        s.RESERVE_FULL: options.reserve_full_prompt,
        s.WATERMARK_BLOCKS: int(options.watermark * memory.capacity_blocks[0]),
        s.PARTIAL: options.partial_blocks,
        s.COMMIT_ALL: o.COMMITS.index(options.commit),
        s.BACKWARD: options.order == "backward",
        s.TOUCH_ON_RELEASE: options.touch_on_release,
        s.SWAP_BLOCKS: options.swap_bytes // memory.block_bytes if options.preemption == "swap" else 0,
        s.LOAD_RULE: o.LOADS.index(options.load),
        s.OVERLAP: o.OVERLAPS.index(options.overlap),
        s.MIN_LOAD: options.min_load_tokens,
        s.MAX_LOAD: options.max_load_tokens,
        s.FAIL_ON_LOAD: options.load_failure == "fail",
        s.PREFETCH_RULE: o.PREFETCHES.index(options.prefetch) if len(options.tiers) > 2 else 0,
        s.PREFETCH_MIN: options.prefetch_min_tokens,
        s.STORE_OUTPUTS: options.store_outputs,
        s.JUMPS: jumps,
        s.DYNAMIC: scheduling.dynamic,
        s.SEES_HITS: scheduling.sees_hits,
        s.COUNTS_TOKENS: scheduling.counts_tokens,
        s.HASHED: options.prefix_caching,
        s.ROLE: role,
        s.LAYERS: model.layers,
        s.RESERVATION: 0 if options.reservation == "grown" else o.RESERVATIONS.index(options.reservation),
        s.ALLOCATED: options.reservation != "paged",
    }
    for place, value in told.items():
        rules[place] = value
    return rules
