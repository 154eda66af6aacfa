"""To which of several engines a call goes.

round_robin: to each in turn. least_loaded: where the fewest tokens are still to be computed or generated, by the calls'
predicted lengths. prefix_aware: as least_loaded, less the tokens of its prompt that the engine's tiers hold now: so it
goes to the longest prefix unless that engine is behind another by more than the prefix saves. prompt_tree: the same by
memory, as MemServe's global prompt tree (Hu et al., 2024): the router remembers which prompts it sent where, and takes
an engine to hold the blocks that were last sent there, as many as its tiers have room for; it never asks.
Of equals the engine of the lowest number is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.errors import InputError
from sim.kernels.compile import kernel, known_natural, specialised
from sim.serving import state as s
from sim.serving.blocks import block_of, tokens_in
from sim.serving.options import ROUTERS
from sim.serving.tiers import is_ready

if TYPE_CHECKING:
    from sim.serving.simulation import Setup

Known = Callable[[int, int, s.Engine], int]  # call, number, engine -> tokens of its prompt that the engine has


class _Index(NamedTuple):
    """Of an engine what a look at its blocks needs: to pass all of it takes longer than the look."""

    work: object
    held: tuple
    rules: np.ndarray


@kernel
def _prefix_tokens(index, call):
    """Tokens of the longest run of a prompt's blocks that any tiers of an engine hold."""
    work = index.work
    rows = work.first_row[call + 1] - work.first_row[call]
    for position in range(rows):
        block = block_of(work, call, position)
        found = False
        for tier in range(len(index.held)):
            found |= is_ready(index, tier, block)
        if not found:
            return tokens_in(index, call, position)
    return tokens_in(index, call, rows)


@kernel
def _tokens_to_do(state, input_tokens, predicted_tokens, decodes, sent, count):
    """Tokens still to be computed, and generated, of the calls that were sent to an engine; those that have ended are
    taken out of `sent`.

    state: the engine's calls. sent: int64, of which the first count[0] are such calls.
    """
    total, kept = 0.0, np.int64(0)
    for place in range(count[0]):
        call = known_natural(sent[place])
        if state[call, s.STATUS] >= s.HANDING:
            continue
        sent[kept] = call
        kept += 1
        generated = max(np.int64(0), state[call, s.TOKENS] - input_tokens[call])
        there = max(state[call, s.FILLED], state[call, s.HANDED_IN])
        total += max(np.int64(0), input_tokens[call] + max(np.int64(0), generated - 1) - there)
        if decodes:
            total += max(0.0, predicted_tokens[call] - generated)
    count[0] = kept
    return total


class _Loads:
    """The calls that were sent to one engine and have not ended."""

    def __init__(self, setup: Setup, decodes: bool):
        work = setup.workload
        self._lengths = work.input_tokens, work.predicted_tokens
        self._decodes = decodes
        self._sent, self._count = np.zeros(64, np.int64), np.zeros(1, np.int64)

    def tokens(self, engine: s.Engine) -> float:
        return _tokens_to_do(engine.calls, *self._lengths, self._decodes, self._sent, self._count)

    def send(self, call: int) -> None:
        if self._count[0] == self._sent.size:
            self._sent = np.resize(self._sent, 2 * self._sent.size)
        self._sent[self._count[0]] = call
        self._count[0] += 1


@dataclass(frozen=True)
class Router:
    """numbers: of the engines to choose from, in order. in_turn: whether it looks at nothing, and takes each in turn.

    known: see `Known`. remember: is told of each choice.
    """

    numbers: Sequence[int]
    in_turn: bool
    loads: dict[int, _Loads]
    known: Known | None = None
    remember: Callable[[int, int], None] | None = None

    def choose(self, call: int, engines: Sequence[s.Engine]) -> int:
        """The number of the engine to which a call goes; it counts as sent there."""
        if len(self.numbers) == 1:
            return self.numbers[0]
        left = {number: self._left(call, number, engines[number]) for number in self.numbers}
        number = min(self.numbers, key=left.__getitem__)
        self.loads[number].send(call)
        if self.remember is not None:
            self.remember(call, number)
        return number

    def _left(self, call: int, number: int, engine: s.Engine) -> float:
        tokens = self.loads[number].tokens(engine)
        return tokens if self.known is None else tokens - self.known(call, number, engine)


def make_router(name: str, setup: Setup, numbers: Sequence[int]) -> Router:
    """A router over the engines of these numbers. Raises InputError for an unknown name."""
    if name not in ROUTERS:
        raise InputError("unknown router", value=name, candidates=ROUTERS)
    in_turn = name == "round_robin" or len(numbers) == 1
    loads = {number: _Loads(setup, decodes=number >= setup.cluster.prefill) for number in numbers}
    if name == "prefix_aware":
        return Router(numbers, in_turn, loads, _held_tokens())
    if name == "prompt_tree":
        tree = _PromptTree(setup, numbers)
        return Router(numbers, in_turn, loads, tree.prefix_tokens, tree.remember)
    return Router(numbers, in_turn, loads)


def _held_tokens() -> Known:
    compiled: list[Callable] = []

    def held(call: int, number: int, engine: s.Engine) -> int:
        index = _Index(engine.work, engine.tiers.held, engine.rules)
        if not compiled:  # engines differ in what is in their arrays alone
            compiled.append(specialised(_prefix_tokens, index, call))
        return compiled[0](index, call)

    return held


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
