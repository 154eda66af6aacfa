"""Prefix-cache hit ratios of LLM calls, without a clock: a call's blocks are looked up together, then touched.

A serving system finds the longest run of a prompt's blocks that it holds before it computes anything, so that a call
cannot hit what it inserts itself. Touching the blocks from the last to the first leaves the prompt's head as the most
recent, and evicts suffixes before the prefixes they need; from the first to the last does the reverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.engines.columns import columns_of, request_at
from sim.engines.flags import held_in, holds
from sim.engines.residency import DEMAND, FAULT, INSERTIONS, access, forget_moves
from sim.errors import InputError
from sim.kernels.compile import kernel

ORDERS = ("forward", "backward")


@dataclass(frozen=True)
class PrefixResult:
    """Shares of all blocks (of all input tokens for hit_tokens) found in the first k + 1 tiers, for each tier k."""

    hit_any: tuple[float, ...]  # blocks resident when their call looked them up
    hit_prefix: tuple[float, ...]  # those of them in the leading run without a gap
    hit_tokens: tuple[float, ...]  # the tokens of that run
    prefix_blocks: tuple[int, ...]  # hit_prefix as a count
    insertions: tuple[int, ...]  # blocks written into each tier
    resident: np.ndarray  # bool[blocks, tiers] at the end


@kernel
def _walk(plug, res, columns, first_row, input_tokens, block_tokens, backward, any_hits, runs, tokens):
    """Every call in turn; any_hits, runs and tokens are int64[tiers] and count those held in tiers up to each."""
    flags, blocks = res.flags, columns.block
    tiers = len(any_hits)
    for call in range(len(first_row) - 1):
        low, high = first_row[call], first_row[call + 1]
        for tier in range(tiers):
            run, unbroken = 0, True
            for row in range(low, high):
                held = False
                for level in range(tier + 1):
                    held |= holds(flags, blocks[row], level)
                any_hits[tier] += held
                unbroken &= held
                run += unbroken
            runs[tier] += run
            tokens[tier] += min(run * block_tokens, input_tokens[call])
        for step in range(high - low):
            row = high - 1 - step if backward else low + step
            request = request_at(columns, row, row, res.address_of, res.size_of[blocks[row]], 0.0)
            access(plug, res, request, DEMAND, 0, 0)
            forget_moves(res.state)
        if res.state[FAULT]:
            return


def replay_calls(trace, plans: Sequence, order: str = "backward", seed: int = 0) -> PrefixResult:
    """Hit ratios of an LLM trace in tiers `plans` (`hierarchy.TierPlan`, fastest first).

    order: "forward" touches a call's blocks from first to last, "backward" from last to first.
    Raises InputError where the trace has no calls, or a policy breaks a rule of the seam.
    """
    from sim.hierarchy import contents

    if trace.calls is None:
        raise InputError(f"trace {trace.name!r} has no LLM calls; prefix hit ratios need a trace that has")
    if order not in ORDERS:
        raise InputError("unknown order", value=order, candidates=ORDERS)
    plug, res = contents(plans, "recompute", trace, seed=seed)
    tiers = len(plans)
    any_hits, runs, tokens = (np.zeros(tiers, np.int64) for _ in range(3))
    calls = trace.calls
    _walk(
        plug,
        res,
        columns_of(trace, leave_out=("arrival_ns", "size_bytes", "op")),
        calls.first_row,
        calls.input_tokens,
        calls.block_tokens,
        order == "backward",
        any_hits,
        runs,
        tokens,
    )
    if res.state[FAULT]:
        raise InputError("an eviction policy chose a victim that is not resident")

    rows, all_tokens = trace.n_requests, int(calls.input_tokens.sum())
    return PrefixResult(
        hit_any=tuple((any_hits / rows).tolist()),
        hit_prefix=tuple((runs / rows).tolist()),
        hit_tokens=tuple((tokens / all_tokens).tolist()),
        prefix_blocks=tuple(runs.tolist()),
        insertions=tuple(res.counts[:tiers, INSERTIONS].tolist()),
        resident=np.stack([held_in(res.flags, tier) for tier in range(tiers)], axis=1),
    )
