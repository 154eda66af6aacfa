"""What a monitor sees of an engine at one moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sim.kernels.by_reference import by_reference
from sim.kernels.compile import kernel, known_natural, specialised
from sim.serving import record as r
from sim.serving import state as s
from sim.serving import tiers as t
from sim.serving.blocks import tokens_in
from sim.serving.network import BLOCK_BYTES


@kernel
def _unfilled(engine):
    """Tokens for which running calls have blocks, beyond those that are computed."""
    total = np.int64(0)
    for place in range(engine.count[s.RUNNING_NOW]):
        call = known_natural(engine.running[place])
        total += tokens_in(engine, call, engine.calls[call, s.BLOCKS]) - engine.calls[call, s.FILLED]
    return total


@kernel
def _fragments(engine):
    """Bytes that an allocator has free, of these in one piece, and those that it has allocated beyond what calls have
    asked for: never to be used, and to be used later.
    """
    allocator, state = engine.allocator, engine.allocator_state
    free_bytes, largest_bytes = allocator.free_bytes(state), allocator.largest_free_bytes(state)
    return free_bytes, largest_bytes, allocator.internal_bytes(state), allocator.reserved_bytes(state)


def make_look(engine: s.Engine) -> Callable[[s.Engine], dict[str, Any]]:
    """What looks at engines such as this one: to find out at each look what they are made of takes milliseconds."""
    state = by_reference(engine)
    unfilled, fragments = specialised(_unfilled, state), specialised(_fragments, state)
    return lambda engine: _look_at(engine, unfilled, fragments)


def _look_at(engine: s.Engine, unfilled_of: Callable, fragments_of: Callable) -> dict[str, Any]:
    """By name, each of `record.SAMPLED`, and arrays: blocks by tier, engine's parts so far, bytes by column so far."""
    count, g1, each = engine.count, engine.tiers.sizes[0], int(engine.rules[s.BLOCK_TOKENS])
    in_use = int(g1[t.PINNED] + g1[t.PRIVATE])
    state = by_reference(engine)
    internal, reserved, external = int(unfilled_of(state)), 0, 0
    if engine.rules[s.RESERVATION]:  # blocks for all that a call may get to
        internal, reserved = 0, internal
    if engine.rules[s.ALLOCATED]:
        free_bytes, largest_bytes, internal_bytes, reserved_bytes = fragments_of(state)
        token_bytes = engine.network.copy[BLOCK_BYTES] / each
        external = (free_bytes - largest_bytes) / token_bytes
        internal, reserved = internal + internal_bytes / token_bytes, reserved + reserved_bytes / token_bytes
    told = {
        "running": count[s.RUNNING_NOW],
        "waiting": engine.waiting.size[0],
        "loading": count[s.LOADING_NOW],
        "kv_blocks_in_use": in_use,
        "kv_blocks_cached": g1[t.COUNT] - g1[t.PINNED],
        "kv_waste_internal_tokens": internal,
        "kv_waste_reserved_tokens": reserved,
        "kv_waste_external_tokens": external,
        "kv_duplicated_blocks": count[s.DUPLICATES],
        "batched_tokens": count[s.BATCH_TOKENS],
        "batched_sequences": count[s.BATCH_SEQUENCES],
        "finished": count[s.FINISHED],
        "preemptions": count[s.PREEMPTED],
        "generated_tokens": count[s.GENERATED],
        "prompt_tokens_computed": count[s.PROMPT_COMPUTED],
    }
    assert tuple(told) == r.SAMPLED
    return {
        **{name: float(value) for name, value in told.items()},
        "tier_blocks": [float(size[t.COUNT]) for size in engine.tiers.sizes],
        "engine_parts_ns": engine.engine_ns.tolist(),
        "link_bytes": engine.network.traffic_bytes.tolist(),
    }
