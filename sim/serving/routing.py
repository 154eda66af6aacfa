"""To which of several engines a call goes.

round_robin: to each in turn. least_loaded: where the fewest tokens are still to be computed or generated, by the calls'
predicted lengths. prefix_aware: where the tiers hold the longest prefix of its prompt now; of equals the least loaded.
prompt_tree: as MemServe's global prompt tree (Hu et al., 2024): the router remembers which prompts it sent where, and
takes an engine to hold the blocks that were last sent there, as many as its tiers have room for; it never asks.
Of those that look at prefixes both prefer the least loaded engine while it is far less loaded than the one with the
prefix (by more than the tokens that the prefix saves).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim.errors import InputError
from sim.kernels.compile import kernel
from sim.serving import state as s
from sim.serving.blocks import block_of, tokens_in
from sim.serving.options import ROUTERS
from sim.serving.tiers import is_ready

if TYPE_CHECKING:
    from sim.serving.simulation import Setup

Router = Callable[[int, Sequence[s.Engine]], int]  # call, engines -> number of one


@kernel
def _prefix_tokens(engine, call):
    """Tokens of the longest run of a prompt's blocks that any tiers of an engine hold."""
    work, tiers = engine.work, engine.tiers
    rows = work.first_row[call + 1] - work.first_row[call]
    for position in range(rows):
        block = block_of(work, call, position)
        found = False
        for tier in range(len(tiers.held)):
            found |= is_ready(tiers, tier, block)
        if not found:
            return tokens_in(engine, call, position)
    return tokens_in(engine, call, rows)


class _Loads:
    """Tokens that each engine still has to do, of the calls that were sent to it."""

    def __init__(self, setup: Setup, numbers: Sequence[int]):
        work = setup.workload
        self.numbers = list(numbers)
        self.work_tokens = work.input_tokens + work.predicted_tokens
        self.sent = {number: 0.0 for number in numbers}

    def of(self, number: int, engine: s.Engine) -> float:
        count = engine.count
        done = float(count[s.PROMPT_COMPUTED] + count[s.GENERATED]) + float(engine.hit_tokens.sum())
        return self.sent[number] - done

    def least(self, engines: Sequence[s.Engine]) -> int:
        return min(self.numbers, key=lambda number: (self.of(number, engines[number]), number))

    def send(self, call: int, number: int) -> int:
        self.sent[number] += float(self.work_tokens[call])
        return number


def make_router(name: str, setup: Setup, numbers: Sequence[int]) -> Router:
    """A router over the engines of these numbers. Raises InputError for an unknown name."""
    loads = _Loads(setup, numbers)
    if name == "round_robin":
        return _round_robin(loads)
    if name == "least_loaded":
        return lambda call, engines: loads.send(call, loads.least(engines))
    if name == "prefix_aware":
        return _by_prefix(loads, lambda call, number, engine: int(_prefix_tokens(engine, call)))
    if name == "prompt_tree":
        tree = _PromptTree(setup, numbers)
        return _by_prefix(loads, tree.prefix_tokens, tree.remember)
    raise InputError("unknown router", value=name, candidates=ROUTERS)


def _round_robin(loads: _Loads) -> Router:
    turn = 0

    def route(call: int, engines: Sequence[s.Engine]) -> int:
        nonlocal turn
        number = loads.numbers[turn % len(loads.numbers)]
        turn += 1
        return number

    return route


def _by_prefix(loads: _Loads, prefix_tokens: Callable, remember: Callable | None = None) -> Router:
    def route(call: int, engines: Sequence[s.Engine]) -> int:
        def todo(number: int) -> tuple[float, int]:
            return loads.of(number, engines[number]) - prefix_tokens(call, number, engines[number]), number

        number = min(loads.numbers, key=todo)
        if remember is not None:
            remember(call, number)
        return loads.send(call, number)

    return route


class _PromptTree:
    """Which blocks were sent to which engine, and how many others since."""

    def __init__(self, setup: Setup, numbers: Sequence[int]):
        self.work, self.block_tokens = setup.workload, setup.blocks.block_tokens
        self.capacity = sum(setup.memory.capacity_blocks)
        self.sent_at = {number: np.full(max(1, setup.blocks.hashed), -1, np.int64) for number in numbers}
        self.sent = dict.fromkeys(numbers, 0)

    def _blocks(self, call: int) -> np.ndarray:
        return self.work.block[self.work.first_row[call] : self.work.first_row[call + 1]]

    def prefix_tokens(self, call: int, number: int, engine: s.Engine) -> int:
        at = self.sent_at[number][self._blocks(call)]
        there = (at >= 0) & (self.sent[number] - at <= self.capacity)
        run = there.size if there.all() else int(np.argmin(there))
        return run * self.block_tokens

    def remember(self, call: int, number: int) -> None:
        blocks = self._blocks(call)
        self.sent_at[number][blocks] = self.sent[number] + np.arange(blocks.size)
        self.sent[number] += blocks.size
