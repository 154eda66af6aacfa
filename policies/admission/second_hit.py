"""A block is admitted on a miss only if it is remembered from an earlier one: cache on second hit, against one-hit
wonders (Maggs and Sitaraman 2015).

Remembered are the `history_blocks` distinct blocks missed most recently, exactly where the paper has a Bloom filter; 0
remembers every block for ever. A miss renews the memory of its block, whether it is admitted or not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.linked_list import make_lists, oldest, push_newest, unlink
from sim.policy import AdmissionPolicy


class State(NamedTuple):
    links: np.ndarray  # remembered blocks, the newest miss first
    remembered: np.ndarray  # bool[blocks]
    count: np.ndarray  # int64[1]: blocks remembered
    history_blocks: int
    queue: int  # the sentinel of the list


def init(context, *, history_blocks=0):
    if history_blocks < 0:
        raise ValueError(f"history_blocks is {history_blocks}; expected 0 or more")
    return State(
        links=make_lists(context.blocks),
        remembered=np.zeros(context.blocks, np.bool_),
        count=np.zeros(1, np.int64),
        history_blocks=history_blocks,
        queue=context.blocks,
    )


def admit(state, request):
    block = request.block
    known = state.remembered[block]
    state.remembered[block] = True
    if state.history_blocks == 0:
        return known
    if known:
        unlink(state.links, block)
    elif state.count[0] == state.history_blocks:
        forgotten = oldest(state.links, state.queue)
        unlink(state.links, forgotten)
        state.remembered[forgotten] = False
    else:
        state.count[0] += 1
    push_newest(state.links, state.queue, block)
    return known


POLICY = AdmissionPolicy(name="second_hit", init=init, admit=admit)
