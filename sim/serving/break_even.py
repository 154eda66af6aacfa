"""From how many tokens on it is sooner to load a prefix from a tier than to compute it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sim.cost.step import Step
    from sim.profile import Profile

_GRID = 48  # numbers of blocks that are tried, at equal ratios; between two of them it is found by halving


def break_even_tokens(
    computing_ns: Callable[[int], float],
    loading_ns: Callable[[int], float],
    most_tokens: int,
    block_tokens: int = 1,
) -> int | None:
    """The least number of tokens, in whole blocks, from which on loading is sooner, up to most_tokens; None: never.

    Times of computing go up in steps, so that they may cross more than once: the last crossing counts. It is looked for
    among a few dozen numbers at equal ratios, then by halving.
    """
    most = max(1, most_tokens // block_tokens)

    def is_sooner(blocks: int) -> bool:
        return loading_ns(blocks * block_tokens) < computing_ns(blocks * block_tokens)

    tried = np.unique(np.geomspace(1, most, _GRID).round().astype(int)).tolist()
    later = [blocks for blocks in tried if not is_sooner(blocks)]
    if not later:
        return block_tokens
    if later[-1] == most:
        return None
    low, high = later[-1], next(blocks for blocks in tried if blocks > later[-1])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_sooner(middle) else (middle, high)
    return high * block_tokens


def loading_ns_of(
    profile: Profile,
    tier: str,
    bytes_per_token: float,
    block_tokens: int,
    copy_blocks: int = 0,
    copy_overhead_ns: float = 0.0,
) -> Callable[[int], float]:
    """Time to load so many tokens of a tier while nothing else moves (`Profile.unloaded_ns`), by their number.

    copy_blocks: that one copy moves, 0: all; each copy costs copy_overhead_ns before it can begin.
    """

    def loading_ns(tokens: int) -> float:
        blocks = -(-tokens // block_tokens)
        copies = -(-blocks // copy_blocks) if copy_blocks else 1
        return copies * copy_overhead_ns + profile.unloaded_ns(tier, round(tokens * bytes_per_token))

    return loading_ns


def computing_ns_of(step: Step, chunk_tokens: int) -> Callable[[int], float]:
    """Time that so many prompt tokens more take in an engine that does nothing else, by their number.

    A prompt's last token is computed whatever was found: what n tokens more take is the time of n + 1 less that of one
    after n in the cache. chunk_tokens: of one iteration.
    """
    whole_ns = [0.0]  # of so many full chunks, grown when asked for

    def prefill_ns(tokens: int, context: int) -> float:
        from sim.cost.kernels import WORK
        from sim.cost.step import add_step_chunk, iteration_ns

        work = np.zeros((2, WORK))
        add_step_chunk(step, work, float(tokens), float(context))
        return float(iteration_ns(step, float(tokens), 1.0, work, 0.0, 0.0, 0.0))

    def all_ns(tokens: int) -> float:
        chunks, rest = divmod(tokens, chunk_tokens)
        while len(whole_ns) <= chunks:
            whole_ns.append(whole_ns[-1] + prefill_ns(chunk_tokens, chunk_tokens * (len(whole_ns) - 1)))
        return whole_ns[chunks] + (prefill_ns(rest, chunk_tokens * chunks) if rest else 0.0)

    def computing_ns(tokens: int) -> float:
        return all_ns(tokens + 1) - prefill_ns(1, tokens)

    return computing_ns
