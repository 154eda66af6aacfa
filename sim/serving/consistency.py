"""What no single key of a serving scenario shows: options against each other, against model, system and cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sim import registry, units
from sim.errors import InputError
from sim.llm import operators
from sim.llm.models import Model
from sim.profile import Profile, Tier
from sim.scenario_files import moved
from sim.serving.options import Cluster, KvTier, ServingOptions
from sim.serving.parts import Parts
from sim.yaml_document import Document

_ON_CHIP = ("sram", "sram3d")


@dataclass(frozen=True)
class Checked:
    """A scenario whose keys are good one by one. place: where the file says a field of options or of a tier."""

    document: Document
    profile: Profile
    parts: Parts
    options: ServingOptions
    cluster: Cluster
    place: Callable[..., tuple[str, ...]]

    def error(self, problem: str, *at: str | int, **details: object) -> InputError:
        return self.document.error(problem, self.place(*at), **details)


def errors_of(checked: Checked) -> list[InputError]:
    """Every fault."""
    errors = [
        *_batch_errors(checked),
        *_transfer_errors(checked),
        *_cluster_errors(checked),
        *_each_tier_errors(checked),
    ]
    return errors or [*_model_errors(checked)]


# --- tiers -----------------------------------------------------------------------------------------------------------


def first_tier(profile: Profile) -> str:
    """The accelerator's own memory: the first tier beside it that is no cache on its chip, or else the first."""
    own = [tier for tier in profile.tiers if not tier.path]
    return next((tier.name for tier in own if tier.device.kind not in _ON_CHIP), profile.tiers[0].name)


def tier_errors(document: Document, profile: Profile) -> list[InputError]:
    """Names of tiers: of the system, in its order, the first beside the accelerator."""
    serving = document.data.get("serving")
    tiers = serving.get("tiers") if isinstance(serving, dict) else None
    if not isinstance(tiers, dict):
        return []
    order = [tier.name for tier in profile.tiers]
    unknown = [
        document.error(
            f"unknown tier of system {profile.name!r}:", ("serving", "tiers", name), value=name, candidates=order
        )
        for name in tiers
        if name not in order
    ]
    known = [name for name in tiers if name in order]
    if known != sorted(known, key=order.index):
        expected = " > ".join(sorted(known, key=order.index))
        unknown.append(
            document.error(
                "tiers in the wrong order:", ("serving", "tiers"), value=" > ".join(known), expected=expected
            )
        )
    elif known and profile.tier(known[0]).path:
        at = ("serving", "tiers", known[0])
        expected = f"{first_tier(profile)!r} before it"
        unknown.append(
            document.error(
                "the first tier must be the accelerator's own memory:", at, value=known[0], expected=expected
            )
        )
    return unknown


def check_policies(tier: KvTier) -> None:
    """Raises InputError for a policy that no compiled engine can use, or that cannot give up a single block where the
    tier does so with all that is read from it.
    """
    eviction = registry.load(registry.EVICTION, tier.eviction.name)
    if eviction.plain:
        problem = (
            f"tiers.{tier.name}: policy {tier.eviction.name!r} is a plain Python class, which only a replay can run"
        )
        raise InputError(problem)
    if tier.offload.name == "exclusive" and eviction.remove is None:
        problem = f"tiers.{tier.name}: eviction policy {tier.eviction.name!r} has no remove hook"
        raise InputError(problem, expected="one that has, or another offload than 'exclusive'")


def _each_tier_errors(checked: Checked) -> Iterator[InputError]:
    tiers = checked.document.data["serving"].get("tiers") or {}
    first = checked.options.tiers[0].name
    for key in ("offload", "admission"):
        if (tiers.get(first) or {}).get(key) is not None:
            at = ("serving", "tiers", first, key)
            problem = f"{key} of the first tier, in which every block is computed, has no meaning"
            yield checked.document.error(problem, at, expected=f"{key} of a tier below")
    for level, tier in enumerate(checked.options.tiers):
        device = checked.profile.tier(tier.name).device
        if tier.capacity_bytes is not None and tier.capacity_bytes > device.capacity_bytes:
            told = units.format_bytes(tier.capacity_bytes, 4)
            expected = f"at most the device's {units.format_bytes(device.capacity_bytes)}"
            problem = f"too large a capacity for tier {tier.name!r}:"
            yield checked.error(problem, "tiers", level, "capacity_bytes", value=told, expected=expected)
        if tier.evict_ratio > tier.evict_trigger:
            expected = f"at most evict_trigger, {tier.evict_trigger:g}"
            yield checked.error(
                "more is freed than there is: evict_ratio",
                *("tiers", level, "evict_ratio"),
                value=tier.evict_ratio,
                expected=expected,
            )
        try:
            check_policies(tier)
        except InputError as error:
            yield moved(checked.document, error, checked.place("tiers", level, "eviction"))


# --- options ---------------------------------------------------------------------------------------------------------


def _batch_errors(checked: Checked) -> Iterator[InputError]:
    options, model = checked.options, checked.parts.model
    tokens, longest = options.max_num_batched_tokens, options.max_model_len or model.context
    if tokens < options.max_num_seqs:
        expected = f"at least max_num_seqs, {options.max_num_seqs}"
        yield checked.error(
            "too few tokens in a batch:", *_at("max_num_batched_tokens"), value=tokens, expected=expected
        )
    if not options.chunked_prefill and tokens < longest:
        expected = f"at least the longest prompt's, {longest}, where chunked_prefill is false; or a max_model_len"
        yield checked.error(
            "too few tokens in a batch:", *_at("max_num_batched_tokens"), value=tokens, expected=expected
        )
    if longest > model.context:
        expected = f"at most the context of {model.name}, {model.context}"
        yield checked.error("too long:", *_at("max_model_len"), value=longest, expected=expected)
    if options.reservation != "paged" and options.prefix_caching:
        problem = "contiguous memory cannot share a prefix: reservation"
        expected = "'paged', or prefix_caching: false"
        yield checked.error(problem, *_at("reservation"), value=options.reservation, expected=expected)
    if options.reservation == "grown" and not options.allocator.plugin(registry.ALLOCATOR).can_resize:
        problem = "memory that grows with its call needs an allocator that can resize:"
        expected = "another, or another reservation"
        yield checked.error(problem, *_at("allocator"), value=options.allocator.name, expected=expected)


def _transfer_errors(checked: Checked) -> Iterator[InputError]:
    options, tiers = checked.options, len(checked.options.tiers)
    if options.preemption == "swap":
        if options.swap_bytes == 0:
            yield checked.error(
                "no room to swap to:", *_at("swap_bytes"), value=0, expected="swap_bytes, such as 4 GiB"
            )
        if tiers < 2:
            problem = "swapping needs a second tier, to which a preempted call's blocks go"
            yield checked.error(problem, *_at("preemption"), expected="a second entry of 'tiers', or recompute")
    if options.prefetch != "none" and tiers < 3:
        problem = f"prefetching brings what lies below the second tier up into it, but there are tiers: {tiers};"
        yield checked.error(problem, *_at("prefetch"), value=options.prefetch, expected="three tiers, or none")
    if options.prefetch == "timeout" and options.prefetch_timeout_ns == 0:
        expected = "more than zero with prefetch: timeout"
        yield checked.error("no time:", *_at("prefetch_timeout_ns"), value=0, expected=expected)
    if 0 < options.max_load_tokens < options.min_load_tokens:
        expected = f"at most max_load_tokens, {options.max_load_tokens}"
        yield checked.error("never met:", *_at("min_load_tokens"), value=options.min_load_tokens, expected=expected)


def _at(name: str) -> tuple[str, str]:
    return "options", name


# --- cluster ---------------------------------------------------------------------------------------------------------


def _cluster_errors(checked: Checked) -> Iterator[InputError]:
    cluster, links = checked.cluster, list(checked.profile.links)
    at = ("serving", "cluster")
    error = checked.document.error
    if cluster.prefill >= cluster.replicas and cluster.prefill:
        expected = f"fewer than replicas, {cluster.replicas}: somebody has to decode"
        yield error("too many that only prefill:", (*at, "prefill"), value=cluster.prefill, expected=expected)
    if cluster.prefill and cluster.link is None:
        expected = f"link: one of {', '.join(links)}" if links else "a system with links"
        yield error("engines that only prefill need a link to those that decode", (*at, "prefill"), expected=expected)
    if cluster.link is not None and cluster.link not in links:
        hint = {"candidates": links} if links else {"expected": "a system with links"}
        yield error(f"unknown link of system {checked.profile.name!r}:", (*at, "link"), value=cluster.link, **hint)
    names = [tier.name for tier in checked.options.tiers]
    for name in cluster.shared:
        if name == names[0]:
            yield error("each engine has the first tier for itself:", (*at, "shared"), value=name)
        elif name not in names:
            expected = f"one of {', '.join(names[1:])}" if names[1:] else "a tier below the first"
            yield error("unknown tier of the KV cache:", (*at, "shared"), value=name, expected=expected)
    twice = next((name for i, name in enumerate(cluster.shared) if name in cluster.shared[:i]), None)
    if twice is not None:
        yield error("a tier twice:", (*at, "shared"), value=twice, expected="each tier once")


# --- the model on its accelerators -----------------------------------------------------------------------------------


def kv_bytes(model: Model | None, first_bytes: int | None, settled: Mapping[str, Any]) -> int | None:
    """Bytes of one accelerator that weights and activations leave to the KV cache; None where that is not known, or
    nothing is left. first_bytes: of the first tier; settled: fields of ServingOptions.
    """
    from sim.serving.building import activation_bytes

    if model is None or first_bytes is None:
        return None
    options = ServingOptions(**settled)
    activations = options.activation_bytes
    try:
        weights = operators.weight_bytes(model, options.tensor_parallel)
    except InputError:  # told where options are checked
        return None
    if activations is None:
        activations = activation_bytes(model, options)
    left = int(first_bytes * options.memory_utilization) - round(weights) - activations
    return left if left > 0 else None


def _model_errors(checked: Checked) -> Iterator[InputError]:
    """Whether the cost model has what it needs, and whether weights and one block fit the first tier."""
    from sim.cost.step import make_step

    options, parts = checked.options, checked.parts
    try:
        make_step(parts.model, parts.gpu, parts.kernels, options.tensor_parallel)
    except InputError as error:
        at = checked.place("options", "tensor_parallel") if options.tensor_parallel > 1 else ("serving", "kernels")
        yield moved(checked.document, error, at)
        return
    yield from _memory_errors(checked, checked.profile.tier(options.tiers[0].name))


def _memory_errors(checked: Checked, tier: Tier) -> Iterator[InputError]:
    from sim.serving.building import memory_of

    options, model = checked.options, checked.parts.model
    there = options.tiers[0].capacity_bytes or tier.device.capacity_bytes
    weights = operators.weight_bytes(model, options.tensor_parallel)
    needed = weights + (options.activation_bytes or 0)
    if needed >= options.memory_utilization * there:
        each = f" on each of {options.tensor_parallel}" if options.tensor_parallel > 1 else ""
        used = f"of tier {tier.name!r}, {units.format_bytes(there, 4)}, the engine has {options.memory_utilization:.0%}"
        problem = f"model {model.name!r} does not fit: {units.format_bytes(int(needed), 4)}{each}, but {used}"
        expected = "more tensor_parallel, or a device with more memory"
        yield checked.document.error(problem, ("serving", "model"), expected=expected)
        return
    try:
        memory_of(checked.profile, options, model, options.block_tokens or 1)
    except InputError as error:
        yield moved(checked.document, error, ("serving", "model"))
