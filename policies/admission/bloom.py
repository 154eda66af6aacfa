"""Cache on second hit with a Bloom filter: a block is admitted on a miss only if the filter has it from an earlier one
(Maggs and Sitaraman, "Algorithmic nuggets in content delivery", CCR 2015).

The filter has `bits_per_item` bits for each of `items` blocks (0: as many as the trace has), rounded up to a power of
two of bits, and is emptied once it has taken in `items` blocks. It is wrong about a new block, and admits it, in about
0.62 ** bits_per_item of cases when full. How the paper ages its filter we do not know. `second_hit` is the exact form.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.bloom import Bloom, bloom_add, bloom_clear, bloom_has, make_bloom
from sim.policy import AdmissionPolicy


class State(NamedTuple):
    bloom: Bloom
    count: np.ndarray  # int64[1]: blocks that the filter has taken in since it was empty
    items: int


def init(context, *, items=0, bits_per_item=10.0):
    if items < 0:
        raise ValueError(f"items is {items}; expected 0 or more")
    if not 1 <= bits_per_item <= 64:
        raise ValueError(f"bits_per_item is {bits_per_item}; expected 1 to 64")
    items = items or context.blocks
    return State(make_bloom(items, bits_per_item), np.zeros(1, np.int64), items)


def admit(state, request):
    if bloom_has(state.bloom, request.block):
        return True
    if state.count[0] == state.items:
        bloom_clear(state.bloom)
        state.count[0] = 0
    bloom_add(state.bloom, request.block)
    state.count[0] += 1
    return False


POLICY = AdmissionPolicy(name="bloom", init=init, admit=admit)
