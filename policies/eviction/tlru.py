"""Tail-optimised LRU: blocks leave first that their conversation's next turn can spare without missing its latency
target, then the least recently used (Zhang et al., "Tail-Optimized Caching for LLM Inference", 2025; SGLang's `tlru`).

A conversation of L blocks whose next prompt adds `next_prompt_blocks` meets its target as long as at most
`threshold_blocks` of it are missing. So its blocks from number L + next_prompt_blocks - threshold_blocks on (counted
from 0) can be spared. A block's L is the length of the longest call that has used it since it entered. Once a call is
over its spare blocks go behind those of earlier calls, the last one of the call first. With threshold_blocks up to
next_prompt_blocks none can be spared, and this is LRU.

A call is over when an access does not follow the one before it within its call. In a lower tier, which sees no calls,
a block is a call of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.linked_list import OLDER, make_lists, newest, oldest, push_newest, unlink
from sim.policy import EvictionPolicy

ACCESSES, FIRST, POSITION = range(3)  # of notes


class State(NamedTuple):
    links: np.ndarray  # two lists, newest access first: blocks to keep, and spare ones
    accessed: np.ndarray  # int64[blocks]: the last access to each resident block
    position: np.ndarray  # int32[blocks]: its place in the call of that access
    length: np.ndarray  # int32[blocks]: L
    notes: np.ndarray  # int64[3]: accesses so far; the first of this call; the place of the last one in it
    kept: int  # sentinel of the blocks to keep; that of the spare ones follows
    threshold_blocks: int
    next_prompt_blocks: int


def init(context, *, threshold_blocks=8, next_prompt_blocks=2):
    for name, value in (("threshold_blocks", threshold_blocks), ("next_prompt_blocks", next_prompt_blocks)):
        if value < 0:
            raise ValueError(f"{name} is {value}; expected at least 0")
    return State(
        links=make_lists(context.blocks, 2),
        accessed=np.zeros(context.blocks, np.int64),
        position=np.zeros(context.blocks, np.int32),
        length=np.zeros(context.blocks, np.int32),
        notes=np.zeros(3, np.int64),
        kept=context.blocks,
        threshold_blocks=threshold_blocks,
        next_prompt_blocks=next_prompt_blocks,
    )


@subroutine
def _end_call(links, accessed, position, length, first, blocks, kept, spare):
    """Tell the resident blocks of a call of `blocks` blocks how long it was, and sort out those beyond `spare`.

    They are the newest of the list: its accesses are those from `first` on.
    """
    block = np.int64(newest(links, kept))
    while block != kept and accessed[block] >= first:
        older = np.int64(links[block, OLDER])
        length[block] = max(length[block], blocks)
        if position[block] >= length[block] + spare:
            unlink(links, block)
            push_newest(links, kept + 1, block)
        block = older


@inlined
def _follow(state, position):
    """Notice where a call ends."""
    if position == 0 or position != state.notes[POSITION] + 1:
        spare = state.next_prompt_blocks - state.threshold_blocks
        first, blocks = state.notes[FIRST], state.notes[POSITION] + 1
        _end_call(state.links, state.accessed, state.position, state.length, first, blocks, state.kept, spare)
        state.notes[FIRST] = state.notes[ACCESSES] + 1
    state.notes[POSITION] = position


@inlined
def _touch(state, block, position):
    state.notes[ACCESSES] += 1
    state.accessed[block] = state.notes[ACCESSES]
    state.position[block] = position
    push_newest(state.links, state.kept, block)


@inlined
def on_hit(state, request):
    _follow(state, request.position)
    unlink(state.links, request.block)
    _touch(state, request.block, request.position)


@inlined
def on_miss(state, request):
    _follow(state, request.position)


@inlined
def on_insert(state, request):
    state.length[request.block] = 0
    _touch(state, request.block, request.position)


@inlined
def evict(state, request):
    victim = np.int64(oldest(state.links, state.kept + 1))
    if victim == state.kept + 1:
        victim = np.int64(oldest(state.links, state.kept))
    unlink(state.links, victim)
    return victim


@inlined
def remove(state, block):
    unlink(state.links, block)


POLICY = EvictionPolicy(
    name="tlru",
    init=init,
    on_hit=on_hit,
    on_miss=on_miss,
    on_insert=on_insert,
    evict=evict,
    remove=remove,
    needs=("position",),
)
